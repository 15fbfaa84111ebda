"""Every method on the same clips, measured by the same metrics, under a protocol that says all that decides the figures.

The harness is handed functions, `draw(request, samples, generator)`: it cannot tell one of our models from a baseline, and
what is hidden from the request is known to it alone. A clip's chance is a function of (seed, clip), so the observations do not
depend on the order, on how they are spread over processes, or on whether the evaluation was stopped and went on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from douga.core.clip import Request
from douga.core.config import from_dict, to_dict
from douga.core.contracts import Metric, Paired, Source
from douga.data.loader import conditions, reference_flow
from douga.video.io import to_uint8

Draw: TypeAlias = Callable[[Request, int, torch.Generator], Tensor]  # -> (S, B, C, T, H, W)

KNOWN = {"tween": (0, -1), "paint": (0,)}  # which frames of a clip a task is given
PIECE = 20  # samples drawn at once
REAL = "real, other clips"


@dataclass(frozen=True)
class Protocol:
    """All that decides the figures. Tables of two protocols are not comparable; `hash` stands on each."""

    task: str
    data: str  # the source's title: a part of a set is not called by the set's name
    split: str
    frames: int  # of a clip, given ones too
    known: tuple[int, ...]  # which of them are given
    size: tuple[int, int]  # (height, width)
    fps: float
    clips: tuple[str, ...]  # "video@first frame"
    digest: str  # sha256 of the clips' bytes
    samples: int  # of each clip, by methods that are stochastic
    seed: int
    metrics: Mapping[str, Any]  # name -> settings
    networks: Mapping[str, str]  # of fixed features: name -> sha256

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()[:10]

    @property
    def mask(self) -> Bool[Tensor, " t"]:
        return torch.isin(torch.arange(self.frames), torch.tensor(self.known))


@dataclass(frozen=True)
class Clips:
    """What the methods are measured on: N clips, and as many other ones of the same videos to measure real against real."""

    title: str
    split: str
    fps: float
    names: tuple[str, ...]  # "video@first frame"
    videos: Float[Tensor, "n 3 t h w"]
    others: Float[Tensor, "n 3 t h w"] | None  # None: the split has too few windows
    left_out: Mapping[str, str]  # what is missing that one would expect, by name -> why
    cond: Float[Tensor, "n k t h w"] | None = None  # of tasks that have maps: these, and the true motion
    flow: Float[Tensor, "n 2 t h w"] | None = None


@dataclass(frozen=True)
class Entry:
    """One run of one method. `facts`: what is known of it, for the report; "weights" there names the sha256 of its file.

    needs_flow: it is given the true motion, which no other method knows.
    """

    method: str
    run: str
    draw: Draw | None  # None: only what was observed is there
    stochastic: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    needs_flow: bool = False

    @property
    def folder(self) -> str:
        slug = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{self.method}--{self.run}")
        return f"{slug}-{hashlib.sha256(json.dumps([self.method, self.run]).encode()).hexdigest()[:6]}"


def choose(source: Source, split: str, frames: int, count: int, *, painted: bool = False) -> Clips:
    """`count` windows of `frames` frames, spread evenly over all windows of the split's videos, or all if there are fewer.

    A video that turns out to be damaged is left out by name, and so is nothing else. painted: with their maps and motion.
    Raises ValueError if none is left, or for painted clips of a source without maps.
    """
    damaged = dict(getattr(source, "damaged", ()))
    windows_of = {source.names[index]: length - frames + 1 for index, length in enumerate(source.lengths)}
    short = sum(windows < 1 for windows in windows_of.values())
    read: dict[tuple[int, int], Tensor] = {}
    while True:
        windows = [
            (video, start)
            for video, (name, count_of) in enumerate(windows_of.items())
            if name not in damaged
            for start in range(count_of)
        ]
        if not windows:
            raise ValueError(
                f"the split {split} has no video with the {frames} frames of a clip ({len(windows_of)} videos, {short} of them"
                f" too short, {len(damaged)} damaged; the longest has {max(source.lengths, default=0)} frames): ask for fewer"
                " frames or give other data"
            )
        n = min(count, len(windows))
        step = 2 if len(windows) >= 2 * n else 1  # every other one is for `others`
        chosen = [windows[pick] for pick in np.linspace(0, len(windows) - 1, step * n).round().astype(int)]
        try:
            for video, start in chosen:
                if (video, start) not in read:
                    read[video, start] = source.clip(video, start, frames)
            break
        except (ValueError, OSError) as error:
            damaged[source.names[video]] = str(error)
    videos = torch.stack([read[place] for place in chosen])
    left_out = {f"video {name}": why for name, why in damaged.items()}
    if short:
        left_out["short videos"] = f"{short} have fewer than {frames} frames"
    if n < count:
        left_out["clips"] = f"{n} instead of {count}: there are no more"
    if step == 1:
        left_out[REAL] = f"there are fewer than {2 * n} clips, so real ones are not compared with other real ones"
    names = tuple(f"{source.names[video]}@{start}" for video, start in chosen[::step])
    title = getattr(source, "title", type(source).__name__.lower())
    others = videos[1::2] if step == 2 else None
    if not painted:
        return Clips(title, split, source.fps, names, videos[::step], others, left_out)
    if not isinstance(source, Paired):
        raise ValueError(f"{title} has no maps to paint from: give a source that has (`douga list`)")
    cond = torch.stack([conditions(source, video, start, frames) for video, start in chosen[::step]])
    flow = torch.stack([reference_flow(source, video, start, frames) for video, start in chosen[::step]])
    return Clips(title, split, source.fps, names, videos[::step], others, left_out, cond, flow)


def protocol(clips: Clips, task: str, samples: int, seed: int, metrics: Mapping[str, Metric]) -> Protocol:
    """Write down what is about to be done. Raises ValueError for a task that is not evaluated."""
    if task not in KNOWN:
        raise ValueError(f"the task {task!r} is not evaluated (there are: {', '.join(KNOWN)})")
    from douga.nn.pretrained import digest

    _, _, frames, height, width = clips.videos.shape
    content = hashlib.sha256()
    for video in clips.videos:
        content.update(to_uint8(video).tobytes())
    if clips.cond is not None:
        content.update(clips.cond.half().numpy().tobytes())
    return Protocol(
        task=task,
        data=clips.title,
        split=clips.split,
        frames=frames,
        known=tuple(index % frames for index in KNOWN[task]),
        size=(height, width),
        fps=clips.fps,
        clips=clips.names,
        digest=content.hexdigest(),
        samples=samples,
        seed=seed,
        metrics={name: dict(metric.settings) for name, metric in metrics.items()},
        networks={name: digest(name) for metric in metrics.values() for name in metric.needs},
    )


def drawing(
    asked: Protocol, clips: Clips, entry: Entry, index: int, device: torch.device
) -> Float[Tensor, "s 3 t h w"]:
    """What `entry` draws for clip `index`. Raises ValueError if it breaks the contract: shape, range, known frames."""
    mask = asked.mask
    row = slice(index, index + 1)
    cond = None if clips.cond is None else clips.cond[row].to(device)
    request = Request.hide(clips.videos[row].to(device), mask, asked.fps, cond)
    if entry.needs_flow and clips.flow is not None:
        request = replace(request, flow=clips.flow[row].to(device))
    seed = int.from_bytes(hashlib.sha256(f"{asked.seed} {clips.names[index]}".encode()).digest()[:4])
    generator = torch.Generator().manual_seed(seed)
    samples = asked.samples if entry.stochastic else 1
    pieces = []
    with torch.no_grad():
        for first in range(0, samples, PIECE):
            assert entry.draw is not None
            pieces.append(entry.draw(request, min(PIECE, samples - first), generator)[:, 0])
    drawn = torch.cat(pieces)
    wanted = (samples, *clips.videos.shape[1:])
    if drawn.shape != wanted or not drawn.isfinite().all() or drawn.abs().max() > 1.001:
        raise ValueError(f"{entry.method} drew {tuple(drawn.shape)}, or left [-1, 1]; wanted is {wanted}")
    if not torch.equal(drawn[:, :, mask], request.known[:, :, mask].expand(samples, -1, -1, -1, -1)):
        raise ValueError(f"{entry.method} changed the frames that it was given")
    return drawn


def reference(clips: Clips) -> list[Entry]:
    """Other real clips of the same videos in the place of drawings: what a distance between sets of this size is worth.

    No method: it knows the videos that the truth is from and keeps no frame. None where the split has too few clips.
    """
    return [] if clips.others is None else [Entry(REAL, "", None, stochastic=False)]


def side_by_side(
    asked: Protocol, clips: Clips, entries: Sequence[Entry], index: int, device: torch.device
) -> dict[str, Float[Tensor, "3 t h w"]]:
    """To look at: the truth, and of the first run of each method its first sample."""
    shown = {"truth": clips.videos[index]}
    asked = replace(asked, samples=min(asked.samples, PIECE))  # the first one lies in the first piece
    for entry in entries:
        if entry.draw and entry.method not in shown:
            shown[entry.method] = drawing(asked, clips, entry, index, device)[0].cpu()
    return shown


def observe(
    asked: Protocol,
    clips: Clips,
    entries: Sequence[Entry],
    metrics: Mapping[str, Metric],
    out: Path,
    *,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    told: Callable[[Entry], None] = lambda entry: None,
) -> None:
    """Draw and measure every clip by every entry; each observation is a file in `out`, and one that is there is kept.

    This process does the clips `rank`, `rank + world`, ... told(entry) is called after each clip.
    Raises ValueError for observations there that were made with other weights.
    """
    for entry in entries:
        folder = out / "observations" / entry.folder
        folder.mkdir(parents=True, exist_ok=True)
        mark = {"protocol": asked.hash, "weights": str(entry.facts.get("weights", ""))}
        for index in range(rank, len(clips.names), world):
            path = folder / f"{index:05}.safetensors"
            if path.exists():
                with safe_open(path, "pt") as file:
                    found = file.metadata()
                if found != mark:
                    raise ValueError(
                        f"{folder} was observed with other weights of {entry.method}: give another --out or another name"
                    )
                told(entry)
                continue
            truth = clips.videos[index].to(device)
            if entry.draw is None:
                assert clips.others is not None
                drawn = clips.others[index : index + 1].to(device)
            else:
                drawn = drawing(asked, clips, entry, index, device).to(device)
            seen = {}
            for name, metric in metrics.items():
                maps = {"maps": clips.cond[index]} if painted(metric) and clips.cond is not None else {}
                for part, value in metric.observe(drawn, truth, asked.mask, **maps).items():
                    seen[f"{name}/{part}"] = value.cpu().contiguous()
            content = save(seen, metadata=mark)
            beside = path.with_suffix(f".{os.getpid()}.partial")
            try:
                beside.write_bytes(content)
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)
            told(entry)


def observations(out: Path, entry: Entry, count: int) -> dict[str, dict[str, Tensor]]:
    """What was observed of `count` clips: metric -> part -> (N, ...)."""
    files = [out / "observations" / entry.folder / f"{index:05}.safetensors" for index in range(count)]
    stacked: dict[str, dict[str, list[Tensor]]] = {}
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118  (it is no dict)
                name, part = key.split("/")
                stacked.setdefault(name, {}).setdefault(part, []).append(file.get_tensor(key))
    return {
        name: {part: torch.stack(values) for part, values in parts.items() if len(values) == count}
        for name, parts in stacked.items()
    }


def painted(metric: Any) -> bool:
    """Whether a metric looks at the maps, and so is built with the source that has them."""
    return bool(getattr(metric, "painted", False))


def begin(out: Path, asked: Protocol, *, resume: bool) -> None:
    """Make the folder of an evaluation, or go on with it. Raises ValueError for a folder that holds something else."""
    path = out / "protocol.json"
    if path.exists():
        there = read_protocol(out)
        if there != asked:
            raise ValueError(f"{out} holds an evaluation under another protocol: {differences(there, asked)}")
        if not resume:
            raise ValueError(
                f"{out} holds an evaluation already: go on with --resume, or give another folder with --out"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} holds something already: give another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.partial")
    beside.write_text(json.dumps(to_dict(asked), indent=1) + "\n")
    os.replace(beside, path)


def read_protocol(out: Path) -> Protocol:
    """The protocol of an evaluation. Raises ValueError for a folder that holds none, or a damaged one."""
    try:
        return from_dict(Protocol, json.loads((out / "protocol.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise ValueError(f"{out} holds no evaluation (no protocol.json, or a damaged one)") from None


def differences(one: Protocol, other: Protocol) -> str:
    """In which fields two protocols differ, and how, in one sentence."""
    fields = [(name, value, to_dict(other)[name]) for name, value in to_dict(one).items()]

    def short(value: Any) -> str:
        text = json.dumps(value)
        return text if len(text) < 60 else f"{text[:50]}..."

    return "; ".join(f"{name} is {short(a)} in one and {short(b)} in the other" for name, a, b in fields if a != b)
