"""How near do the drawings come to what really happened?

`python benchmarks/tween_quality.py [--model NAME|FILE] [--pairs 100] [--samples 20]`

Key-frame pairs, 14 frames apart, spread evenly over all windows of the Weizmann test persons (7 and 8) at 64x64. For
each method SSIM (Gaussian 11x11, sigma 1.5, per frame and colour channel; scikit-image) and PSNR (of a sequence's mean
squared error, pixels in 0-1) over the 14 drawn frames: the mean over samples, and the best *sequence* of all samples.
`spread` is the mean absolute distance between two samples of one pair, in 0-255 steps; 0 means that the noise is
ignored. Intervals are 95%, from 2,000 bootstraps over pairs.

Writes benchmarks/results/tween_quality.md (committed) and prints it. The data: see `douga data check weizmann`.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from skimage.metrics import structural_similarity

import douga
from douga.api import open_source
from douga.core.clip import Request
from douga.train import engine

FRAMES = 16


def similarity(drawn: np.ndarray, truth: np.ndarray) -> float:
    """Mean SSIM of (T, H, W, 3) videos in 0-1."""
    options = {
        "data_range": 1.0,
        "channel_axis": 2,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    return float(np.mean([structural_similarity(a, b, **options) for a, b in zip(drawn, truth, strict=True)]))


def interval(values: list[float]) -> str:
    chance = np.random.default_rng(0)
    means = np.mean(chance.choice(values, (2_000, len(values))), axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{np.mean(values):.4g} [{low:.4g}, {high:.4g}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inbetween-weizmann")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tween_quality.md")
    options = parser.parse_args()
    source = open_source("weizmann", "test", (64, 64))
    windows = [(video, start) for video, n in enumerate(source.lengths) for start in range(n - FRAMES + 1)]
    chosen = [windows[i] for i in np.linspace(0, len(windows) - 1, options.pairs).round().astype(int)]
    rows = {}
    for name in ("hold", "linear", "flow", options.model):
        method, header = douga.load(name)
        samples = options.samples if method.stochastic else 1
        table: dict[str, list[float]] = {key: [] for key in ("ssim", "best ssim", "psnr", "best psnr", "spread")}
        began = time.perf_counter()
        for number, (video, start) in enumerate(track(chosen, description=name)):
            truth = source.clip(video, start, FRAMES)[None]
            request = Request.tween(truth[:, :, 0], truth[:, :, -1], FRAMES - 2)
            drawn = method.synthesize(request, samples, torch.Generator().manual_seed(number))[:, 0, :, 1:-1]
            pixels = ((drawn + 1) / 2).permute(0, 2, 3, 4, 1).numpy()  # (S, 14, H, W, 3)
            true = ((truth[0, :, 1:-1] + 1) / 2).permute(1, 2, 3, 0).numpy()
            ssim = [similarity(sample, true) for sample in pixels]
            psnr = [float(-10 * np.log10(np.mean((sample - true) ** 2))) for sample in pixels]
            table["ssim"].append(float(np.mean(ssim)))
            table["best ssim"].append(max(ssim))
            table["psnr"].append(float(np.mean(psnr)))
            table["best psnr"].append(max(psnr))
            pairs = [np.abs(a - b).mean() for i, a in enumerate(pixels) for b in pixels[:i]]
            table["spread"].append(255 * float(np.mean(pairs)) if pairs else 0.0)
        provenance = header.get("provenance", {})
        note = f", {provenance['clips_seen']:,} clips seen" if provenance else ""
        rows[f"{name} ({samples} sample{'s' * (samples > 1)}{note})"] = table
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    lines = [
        "# In-betweens of Weizmann test persons 7 and 8",
        "",
        f"{options.pairs} pairs, 14 drawn frames at 64x64; mean and 95% interval over pairs. Higher is nearer to the",
        "truth; `spread` is the mean distance between two samples of a pair in 0-255 steps.",
        "",
        "| method | SSIM, mean of samples | SSIM, best | PSNR dB, mean of samples | PSNR dB, best | spread |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | {' | '.join(interval(values) for values in table.values())} |" for name, table in rows.items()),
        "",
        f"Command: `python benchmarks/tween_quality.py --model {Path(options.model).name}",
        f"--pairs {options.pairs} --samples {options.samples}`",
        f"at {engine.commit()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}.",
    ]
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
