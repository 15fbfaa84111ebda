"""Painted real videos that were never trained on: how near to the truth, and how that changes with time.

`python benchmarks/paint_real.py --of vid2vid-street,pix2pixhd-street@cityscapes --of vid2vid-pose@pose:FOLDER [--clips 6]`

Of the test split some clips, evenly spaced, at the size that the weights were trained at; the first frame is given, the rest is
painted from the maps. LPIPS (AlexNet, v0.1) and PSNR against the truth for each third of the painted frames, beside the given
frame held still; steadiness as `douga evaluate` measures it. Mean over clips, and 95% intervals where there are four or more.
Writes benchmarks/results/paint-real.md and prints it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tween_real import figures, interval

import douga
from douga import api
from douga.core.clip import Request
from douga.core.registry import METRICS
from douga.data.loader import conditions
from douga.train import engine

THIRDS = 3
NEAR = ("lpips_alex_hidden", "psnr_hidden")
STEADY = ("warp_error", "temporal_lpips")


def told(values: list[float]) -> str:
    return interval(values) if len(values) > 3 else f"{np.mean(values):.4g}"


@torch.no_grad()
def table(models: list[str], data: str, frames: int, clips: int) -> list[str]:
    drawers = {name: douga.load(name) for name in models}
    size: Any = next(iter(drawers.values()))[1]["provenance"]["experiment"]["size"]
    source = api.open_source(data, "test", tuple(size))
    metrics = {name: METRICS.load(name)("cpu") for name in (*NEAR, *STEADY)}
    windows = [(video, start) for video, length in enumerate(source.lengths) for start in range(length - frames + 1)]
    chosen = [windows[k] for k in np.linspace(0, len(windows) - 1, min(clips, len(windows))).round().astype(int)]
    rows: dict[str, dict[str, list[float]]] = {}
    for number, (video, start) in enumerate(chosen):
        truth, cond = source.clip(video, start, frames), conditions(source, video, start, frames)
        mask = torch.arange(frames) == 0
        drawn: dict[str, Tensor] = {"the first frame held": truth[None, :, :1].expand(1, -1, frames, -1, -1)}
        for name, (drawer, _) in drawers.items():
            request = Request.hide(truth[None], mask, cond=cond[None])
            drawn[name] = drawer.synthesize(request, 1, torch.Generator().manual_seed(number))[:, 0]
        drawn["the truth"] = truth[None]
        for name, made in drawn.items():
            row = rows.setdefault(name, {})
            for metric in NEAR if name != "the truth" else ():
                for third in np.array_split(np.arange(1, frames), THIRDS):
                    hidden = torch.zeros(len(third), dtype=torch.bool)
                    figure = figures(metrics[metric], made[:, :, third], truth[:, third], hidden)[metric]
                    row.setdefault(f"{metric.split('_')[0]} {third[0]}-{third[-1]}", []).append(figure)
            for metric in STEADY:
                for column, figure in figures(metrics[metric], made, truth, mask).items():
                    row.setdefault(column, []).append(figure)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    height, width = size
    lines = ["", f"### {data.partition(':')[0]}: {len(chosen)} clips of {frames} frames at {width}x{height}", ""]
    lines += [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return lines + [
        f"| {name} | {' | '.join(told(row[c]) if c in row else '-' for c in columns)} |" for name, row in rows.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", action="append", required=True, metavar="MODEL,...@SOURCE[:FOLDER]")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "paint-real.md")
    options = parser.parse_args()
    asked = " ".join(f"--of {one.split(':')[0]}{':FOLDER' if ':' in one else ''}" for one in options.of)
    lines = ["# Painted real videos", ""]
    lines += [f"`python benchmarks/paint_real.py {asked} --frames {options.frames} --clips {options.clips}`"]
    for one in options.of:
        models, _, data = one.partition("@")
        lines += table(models.split(","), data, options.frames, options.clips)
    lines += ["", f"At {engine.commit()}, torch {torch.__version__}, {engine.device_name(torch.device('cpu'))}."]
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
