"""What painting costs and how it holds: `python benchmarks/paint.py [--model vid2vid-blocks] [--beside pix2pixhd-blocks]`

Prints, as Markdown: figures of the frames 2-30 and 570-600 of 600-frame videos (drift); what a swap of two classes changes inside
and outside of them; frames per second at 256x128 and 512x256; peak memory of `douga paint` for 60 and for 600 frames; seconds
of a training step by part.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

import douga
from douga.api import open_source
from douga.core.clip import Request
from douga.core.registry import RECIPES
from douga.data.blocks import Blocks
from douga.data.loader import Loader, conditions
from douga.metrics.labels import Labels
from douga.metrics.temporal import TemporalLpips, WarpError
from douga.train.engine import Run, commit, device_name, pick_device

CPU = torch.device("cpu")
SIZE = (64, 128)
LONG, SWAP = 600, (3, 4)  # buildings and trees


def drift(models: list[str], clips: int) -> None:
    source = open_source("blocks", "long", SIZE)
    metrics = [Labels(CPU, open_source("blocks", "train", SIZE), SIZE), WarpError(CPU), TemporalLpips(CPU)]
    pieces = {"2-30": slice(0, 30), "570-600": slice(LONG - 31, LONG)}
    print(f"\n## A long video: {clips} videos of {LONG} frames, the first one given\n")
    print(
        "| method | frames | label accuracy (true frames) | warping error (true) | temporal LPIPS |\n|---|---|---|---|---|"
    )
    for name in models:
        model, _ = douga.load(name)
        found: dict[str, list[list[float]]] = {piece: [] for piece in pieces}
        for index in range(clips):
            truth, cond = source.clip(index, 0, LONG), conditions(source, index, 0, LONG)
            mask = torch.arange(LONG) == 0
            drawn = model.synthesize(
                Request.hide(truth[None], mask, cond=cond[None]), 1, torch.Generator().manual_seed(index)
            )[:, 0]
            for piece, times in pieces.items():
                hidden = mask[times].clone()
                hidden[0] = True  # of the late piece the frame before it, to measure from
                parts = drawn[:, :, times], truth[:, times], hidden
                labels, warped, steady = metrics
                one = labels.compute({k: v[None] for k, v in labels.observe(*parts, cond[:, times]).items()})
                ours, true = (warped.observe(x, parts[1], hidden)["warp"] for x in (parts[0], parts[1][None]))
                row = [one["label_accuracy"].values.mean(), one["label_accuracy_true"].values.mean(), ours, true]
                found[piece].append([float(x) for x in (*row, steady.observe(*parts)["apart"].mean())])
        for piece, rows in found.items():
            a, a_true, w, w_true, t = torch.tensor(rows).mean(0).tolist()
            print(f"| {name} | {piece} | {a:.3f} ({a_true:.3f}) | {w:.2f} ({w_true:.2f}) | {t:.1f} |", flush=True)


def swap(name: str, clips: int) -> None:
    model, _ = douga.load(name)
    source = open_source("blocks", "test", SIZE)
    changes = []
    for index in range(clips):
        cond = conditions(source, index, 0, 12)
        other = cond.clone()
        other[list(SWAP)] = cond[list(SWAP)[::-1]]
        nothing = torch.zeros(1, 3, 12, *SIZE)
        drawn = [
            model.synthesize(
                Request(nothing, torch.zeros(12, dtype=torch.bool), c[None]), 1, torch.Generator().manual_seed(0)
            )[0, 0]
            for c in (cond, other)
        ]
        inside = (cond != other).any(0)[None].float()  # (1, T, H, W)
        near = F.max_pool2d(inside, 17, 1, padding=8)
        change = (drawn[0] - drawn[1]).abs().mean(0, keepdim=True) * 127.5
        changes.append(
            [float((change * part).sum() / part.sum().clamp(min=1)) for part in (inside, near - inside, 1 - near)]
        )
    a, b, c = torch.tensor(changes).mean(0).tolist()
    print(
        f"\n## Swapped classes: {source.classes[SWAP[0]]}s and {source.classes[SWAP[1]]}s, {clips} videos of 12 frames\n"
    )
    print(f"Mean change, of 255: {a:.1f} where the map changed, {b:.1f} up to 8 px beside it, {c:.1f} elsewhere.")


def speed(models: list[str]) -> None:
    print("\n## Frames per second\n\n| method | 256x128 | 512x256 |\n|---|---|---|")
    for name in models:
        model, _ = douga.load(name)
        rates = []
        for size in ((128, 256), (256, 512)):
            source = Blocks(None, "test", size)
            maps = conditions(source, 0, 0, 20)[None].unbind(2)
            frames = model.stream(maps, None, 1, torch.Generator().manual_seed(0))  # type: ignore[attr-defined]
            next(frames), next(frames)
            began = time.perf_counter()
            count = sum(1 for _ in frames)
            rates.append(count / (time.perf_counter() - began))
        print(f"| {name} | {rates[0]:.1f} | {rates[1]:.1f} |", flush=True)


def memory(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        maps = Blocks(None, "long", SIZE).maps(0, 0, LONG)[0]
        used = []
        for count in (60, LONG):
            place = Path(folder, f"maps-{count}")
            place.mkdir()
            for t in range(count):
                Image.fromarray(maps[t].byte().numpy()).save(place / f"{t:04}.png")
            program = (
                "import resource; from douga import api;"
                f"api.paint({str(place)!r}, {str(place.with_suffix('.mp4'))!r}, {name!r});"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
            )
            answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            used.append(float(answer.stdout.split()[-1]))
    print(
        f"\n## Peak memory\n\n60 frames: {used[0]:.0f} MiB; {LONG} frames: {used[1]:.0f} MiB ({used[1] / used[0] - 1:+.1%})."
    )


def step(recipe: str, steps: int = 3) -> None:
    experiment = RECIPES.load(recipe)()
    run = Run(experiment, pick_device("auto"))
    source = open_source(experiment.data, "train", experiment.size)
    loader = Loader(source, size=experiment.size, frames=experiment.frames, batch=experiment.batch, painted=True)
    spent: dict[str, float] = {}

    def clock(part: str, began: float) -> float:
        now = time.perf_counter()
        spent[part] = spent.get(part, 0) + now - began
        return now

    for number in range(experiment.model.warm_up, experiment.model.warm_up + steps + 1):  # with critics
        if number == experiment.model.warm_up + 1:
            spent.clear()  # the first one warms up
        now = time.perf_counter()
        batch = loader.batch(number)
        now, carry = clock("data (made ahead by a thread in training)", now), None
        for window in run.model.windows(batch):
            with run.autocast:
                out, carry = run.model(window, carry)
            now = clock("generator, forward", now)
            for phase in run.phases:
                for other in run.phases:
                    other.module.requires_grad_(other.name == phase.name)
                with run.autocast:
                    terms = run.model.losses(phase.name, window, out)
                if terms:
                    run.optimisers[phase.name].zero_grad()
                    torch.stack([term.float() for term in terms.values()]).sum().backward()
                    run.optimisers[phase.name].step()
                now = clock(f"{phase.name}: losses, backward, step", now)
            for phase in run.phases:
                phase.module.requires_grad_(True)
    frames = experiment.batch * experiment.frames
    total = sum(spent.values()) / steps
    print(
        f"\n## A training step of {recipe}: {frames} frames, {run.precision}, {total:.2f} s\n\n| part | s |\n|---|---|"
    )
    for part, seconds in spent.items():
        print(f"| {part} | {seconds / steps:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="vid2vid-blocks")
    parser.add_argument("--beside", default="pix2pixhd-blocks")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--parts", default="speed,memory,drift,swap,step")
    given = parser.parse_args()
    parts = given.parts.split(",")
    both = [given.model, *([given.beside] if given.beside else [])]
    print("# Painting, measured by `python benchmarks/paint.py`\n")
    print(f"{device_name(CPU)}, {torch.get_num_threads()} threads; {commit()}.")
    with torch.no_grad():
        if "speed" in parts:
            speed(both)
        if "memory" in parts:
            memory(given.model)
        if "drift" in parts:
            drift(both, given.clips)
        if "swap" in parts:
            swap(given.model, 8)
    if "step" in parts:
        step("vid2vid/blocks")
