"""Does the spread of the samples tell which frames are wrong? What `douga tween --fallback` may rest on.

`python benchmarks/fallback.py --data clips:FOLDER [--model tween-any] [--windows 1] [--samples 6]`

Of every held-out video of the source `clips` some windows of 17 frames, as in tween_real.py: all 15 between the ends are
drawn. For each frame its spread (as `tween` says it: mean over pixels of the standard deviation over samples, of 255) and LPIPS
against the truth of a sample, of a cross-fade and of the nearest key frame held. Frames are put into fifths by their spread; 95%
intervals over frames.
Writes benchmarks/results/fallback.md and prints it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.progress import track
from scipy.stats import spearmanr
from tween_real import GAPS, interval, ours, windows

from douga.core.registry import METRICS
from douga.evaluate.gallery import spread
from douga.train import engine

FIFTHS = 5


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="tween-any")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fallback.md")
    options = parser.parse_args()
    lpips = METRICS.load("lpips_alex_hidden")("cpu")
    drawers = {name: ours(name, options.samples) for name in (options.model, "linear", "hold")}
    spreads: list[float] = []
    errors: dict[str, list[float]] = {name: [] for name in drawers}
    for number, (_, video) in enumerate(track(windows(options.data, options.windows), description="windows")):
        for name, draw in drawers.items():
            drawn = draw(video[None, :, 0], video[None, :, -1], GAPS[-1] - 1, number)
            errors[name] += lpips.frames(drawn[:1], video[:, 1:-1])[0].tolist()
            if name == options.model:
                spreads += (spread(drawn).mean((1, 2))).tolist()
    order = sorted(range(len(spreads)), key=lambda k: spreads[k])
    lines = ["# Spread of samples and error", ""]
    lines += [
        f"`python benchmarks/fallback.py --data clips:FOLDER --model {options.model} --windows {options.windows}"
        f" --samples {options.samples}`"
    ]
    lines += ["", f"{len(spreads)} frames. LPIPS against the truth; spread of 255.", ""]
    lines += ["| spread | frames | " + " | ".join(drawers) + " |", "|---" * (2 + len(drawers)) + "|"]
    for k in range(FIFTHS):
        some = order[k * len(order) // FIFTHS : (k + 1) * len(order) // FIFTHS]
        cells = " | ".join(interval([errors[name][i] for i in some]) for name in drawers)
        lines.append(f"| {spreads[some[0]]:.2f} to {spreads[some[-1]]:.2f} | {len(some)} | {cells} |")
    lines += ["", f"Rank correlation of spread and error: {spearmanr(spreads, errors[options.model]).statistic:.2f}."]
    lines += ["", f"At {engine.commit()}, torch {torch.__version__}, {engine.device_name(torch.device('cpu'))}."]
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
