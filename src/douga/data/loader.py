"""From a Source to training batches. All the chance of the data lies here, and it is a function of (seed, step) alone: nothing
needs to be saved for a run to go on where it stopped, and processes agree without speaking.

A source is decoded once into a file of bytes at training size; after that a clip is a slice of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable, Generator
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from douga.core.clip import Batch
from douga.core.contracts import Paired, Source
from douga.nn.raft import RaftSmall
from douga.video.flow import estimate
from douga.video.io import from_uint8, to_uint8
from douga.video.ops import encode_labels

AUGMENTATIONS = ("flip", "reverse", "shift", "colour")
# (B, 3, H, W) twice -> (B, 2, H, W), as `douga.video.flow.estimate`
Estimate: TypeAlias = Callable[[Tensor, Tensor], Tensor]
# How flow is estimated where a source does not know it. Functions, as RAFT reads its weights when it is made.
REFERENCES: dict[str, Callable[[], Estimate]] = {"dis": lambda: estimate, "raft": RaftSmall}
Reference: TypeAlias = Literal["dis", "raft"]


def cache_folder() -> Path:
    """Where decoded videos lie: `douga/decoded` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "douga" / "decoded"


class Decoded:
    """All frames of a source as bytes, (frames, H, W, C), on disk; made on first use.

    painted: what painters learn from too, of a `Paired` source: maps, (frames, 2, H, W) int32 of labels or (frames, H, W, 3)
        bytes of pictures, and flow, (frames, 2, H, W) float16 px, exact where the source knows it, by `reference` where not.
    moved: what those learn from who draw motion: flow, (frames, 4, H, W), to the frame before and to the frame after.
    digest: sha256 of the bytes of the frames, which stands in a model's provenance.
    """

    def __init__(
        self,
        source: Source,
        size: tuple[int, int],
        *,
        painted: bool = False,
        moved: bool = False,
        reference: Reference = "dis",
    ) -> None:
        self.reference = reference
        self.starts = np.concatenate([[0], np.cumsum(source.lengths)])
        self.source = source
        listing = [
            type(source).__name__,
            size,
            *zip(source.names, source.lengths, strict=True),
            getattr(source, "stamp", ""),
        ]
        self.key = hashlib.sha256(json.dumps(listing, default=str).encode()).hexdigest()[:20]
        by = "" if reference == "dis" else f"-{reference}"
        self.frames = self._stored("", (*size, 3), "|u1", lambda index, n: to_uint8(source.clip(index, 0, n)))
        if painted:
            labelled = bool(cast(Paired, source).classes)
            shape, kind = ((2, *size), "<i4") if labelled else ((*size, 3), "|u1")
            self.maps = self._stored("-maps", shape, kind, self._maps)
            self.flow = self._stored(f"-flow{by}", (2, *size), "<f2", self._flow)
        if moved:
            self.flow = self._stored(f"-flow-both{by}", (4, *size), "<f2", self._flow_both)

    def _maps(self, index: int, length: int) -> np.ndarray:
        paired = cast(Paired, self.source)
        maps = paired.maps(index, 0, length)
        return maps.transpose(0, 1).numpy() if paired.classes else to_uint8(maps)

    def _flow(self, index: int, length: int) -> np.ndarray:
        known = reference_flow(self.source, index, 0, length, self._estimate)
        return known.transpose(0, 1).numpy().astype("<f2")

    def _flow_both(self, index: int, length: int) -> np.ndarray:
        back = reference_flow(self.source, index, 0, length, self._estimate)
        frames = from_uint8(np.array(self.frames[self.starts[index] : self.starts[index + 1]])).transpose(0, 1)
        on = torch.zeros_like(back)
        if length > 1:
            on[:, :-1] = self._estimate(frames[:-1], frames[1:]).transpose(0, 1)
        return torch.cat([back, on]).transpose(0, 1).numpy().astype("<f2")

    @cached_property
    def _estimate(self) -> Estimate:
        """One pair after the other: RAFT compares all places with all, and a video's pairs at once would not fit."""
        estimated = REFERENCES[self.reference]()
        return lambda a, b: torch.cat([estimated(x, y) for x, y in zip(a.split(1), b.split(1), strict=True)])

    def _stored(
        self, part: str, shape: tuple[int, ...], kind: str, rows: Callable[[int, int], np.ndarray]
    ) -> np.ndarray:
        """What `rows` makes of each video, one after the other, in a file."""
        name = f"{type(self.source).__name__.lower()}-{self.key}{part}.npy"
        path = cache_folder() / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(f".{os.getpid()}.partial")
            try:
                with beside.open("wb") as file:  # not a memory map: on a full disk that is a crash, this an OSError
                    layout = {"descr": kind, "fortran_order": False, "shape": (int(self.starts[-1]), *shape)}
                    np.lib.format.write_array_header_1_0(file, layout)
                    for index, length in enumerate(self.source.lengths):
                        file.write(np.ascontiguousarray(rows(index, length), kind).tobytes())
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r")

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.frames.data).hexdigest()


def reference_flow(
    source: Source, index: int, start: int, length: int, estimated: Estimate = estimate
) -> Float[Tensor, "2 t h w"]:
    """The motion from each frame to the one before, px, zero in the first one: the source's own, or estimated."""
    if length < 2:
        return torch.zeros(2, length, *source.clip(index, start, 1).shape[2:])
    if hasattr(source, "flow"):
        known = source.flow(index, start, length)
    else:
        frames = source.clip(index, start, length).transpose(0, 1)
        known = estimated(frames[1:], frames[:-1]).transpose(0, 1)
    return torch.cat([torch.zeros_like(known[:, :1]), known], dim=1)


def conditions(source: Source, index: int, start: int, length: int) -> Float[Tensor, "k t h w"]:
    """The maps of a `Paired` source as networks see them."""
    paired = cast(Paired, source)
    maps = paired.maps(index, start, length)
    return encode_labels(maps, len(paired.classes)) if paired.classes else maps


class Loader:
    """Draws windows of `frames` frames, each start of each long enough video as likely as any other.

    batch: clips of the whole step, over all processes; this process gets its share `rank` of `world`.
    painted: with maps and reference flow, of a source that is `Paired`. moved: with reference flow both ways, of any source that
        is not endless.
    augment: of `AUGMENTATIONS`; flip (left-right), reverse (time), shift (up to a 16th of the side), colour (mixes the
        channels a little, so that a model does not learn its few persons' clothes by heart).
    reference: who estimates the flow that the source does not know, of `REFERENCES`; an endless source knows its own.
    Raises ValueError if no video is long enough, for an unknown augmentation, or for `painted` where there are no maps or
    time is reversed, against which the flow would have to be estimated again.
    """

    def __init__(
        self,
        source: Source,
        *,
        size: tuple[int, int],
        frames: int,
        batch: int,
        seed: int = 0,
        augment: tuple[str, ...] = (),
        painted: bool = False,
        moved: bool = False,
        reference: Reference = "dis",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if moved and source.endless:
            raise ValueError(
                f"{type(source).__name__.lower()} is endless, and its motion both ways is not known in time"
            )
        if painted and not isinstance(source, Paired):
            raise ValueError(
                f"{type(source).__name__.lower()} has no maps to paint from: give a source that has (`douga list`)"
            )
        if painted and "reverse" in augment:
            raise ValueError("the augmentation reverse is not for painting: the flow is known in one direction")
        if unknown := set(augment) - set(AUGMENTATIONS):
            raise ValueError(f"unknown augmentation {', '.join(unknown)} (there are: {', '.join(AUGMENTATIONS)})")
        if batch % world:
            raise ValueError(f"a batch of {batch} clips can't be shared evenly by {world} processes")
        self.source, self.frames, self.batch_size, self.seed, self.augment = source, frames, batch, seed, augment
        self.painted, self.moved = painted, moved
        self.share = slice(rank * batch // world, (rank + 1) * batch // world)
        windows = np.array([max(0, length - frames + 1) for length in source.lengths])
        self.windows = np.cumsum(windows)
        if not self.windows.size or self.windows[-1] == 0:
            raise ValueError(
                f"no video has the {frames} frames of a clip (the longest has {max(source.lengths, default=0)})"
            )
        self.decoded = (
            None if source.endless else Decoded(source, size, painted=painted, moved=moved, reference=reference)
        )

    @property
    def digest(self) -> str:
        return self.decoded.digest if self.decoded else f"formula:{type(self.source).__name__}"

    def batch(self, step: int) -> Batch:
        """The clips of one step: a function of the seed and the step alone."""
        chance = np.random.default_rng((self.seed, step))
        picks = chance.integers(self.windows[-1], size=self.batch_size)
        seeds = chance.integers(2**62, size=self.batch_size)
        rows = []
        for pick, seed in zip(picks[self.share], seeds[self.share], strict=True):
            rows.append(self._augmented(self._window(int(pick)), np.random.default_rng(seed)))
        video, *others = (torch.stack(parts) for parts in zip(*rows, strict=True))
        named = dict(zip(("flow",) if self.moved else ("cond", "flow"), others, strict=False))
        return Batch(video, torch.from_numpy(seeds[self.share]), step, **named)

    def _window(self, pick: int) -> list[Float[Tensor, "_ t h w"]]:
        """The frames and, for painters, the maps and the flow."""
        video = int(np.searchsorted(self.windows, pick, side="right"))
        start = pick - (int(self.windows[video - 1]) if video else 0)
        if self.decoded is None:
            clip = self.source.clip(video, start, self.frames)
            if not self.painted:
                return [clip]
            maps = conditions(self.source, video, start, self.frames)
            return [clip, maps, reference_flow(self.source, video, start, self.frames)]
        at = int(self.decoded.starts[video]) + start
        times = slice(at, at + self.frames)
        clip = from_uint8(np.array(self.decoded.frames[times]))
        if self.moved:
            both = torch.from_numpy(np.array(self.decoded.flow[times])).float().transpose(0, 1).clone()
            both[:2, 0] = 0
            both[2:, -1] = 0
            return [clip, both]
        if not self.painted:
            return [clip]
        classes = len(cast(Paired, self.source).classes)
        stored = np.array(self.decoded.maps[times])
        maps = encode_labels(torch.from_numpy(stored).transpose(0, 1), classes) if classes else from_uint8(stored)
        flow = torch.from_numpy(np.array(self.decoded.flow[times])).float().transpose(0, 1).clone()
        flow[:, 0] = 0
        return [clip, maps, flow]

    def _augmented(
        self, parts: list[Float[Tensor, "_ t h w"]], chance: np.random.Generator
    ) -> list[Float[Tensor, "_ t h w"]]:
        if "flip" in self.augment and chance.random() < 0.5:
            parts = [part.flip(3) for part in parts]
            if self.painted or self.moved:
                mirrored = torch.tensor([-1.0, 1.0]).repeat(len(parts[-1]) // 2)
                parts[-1] = parts[-1] * mirrored[:, None, None, None]
        if "reverse" in self.augment and chance.random() < 0.5:
            parts = [part.flip(1) for part in parts]
            if self.moved:
                parts[1] = parts[1].roll(2, 0)  # what was before is after
        if "shift" in self.augment:
            h, w = parts[0].shape[2:]
            up, left = (int(chance.integers(2 * (side // 16) + 1)) for side in (h, w))
            around = (w // 16, w // 16, h // 16, h // 16)
            padded = [torch.nn.functional.pad(part, around, mode="replicate") for part in parts]
            parts = [part[:, :, up : up + h, left : left + w] for part in padded]
        if "colour" in self.augment:
            mix = torch.from_numpy(np.eye(3) + chance.normal(0, 0.12, (3, 3))).float()
            shift = torch.from_numpy(chance.normal(0, 0.08, (3, 1, 1, 1))).float()
            parts = [(torch.einsum("dc,cthw->dthw", mix, parts[0]) + shift).clamp(-1, 1), *parts[1:]]
        return parts

    def stream(self, first_step: int) -> Generator[Batch, None, None]:
        """Batches from `first_step` on, without end, made ahead of time by a thread. Close it to stop the thread."""
        ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=4)
        stopped = threading.Event()

        def put(item: Batch | BaseException) -> None:
            while not stopped.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def work() -> None:
            # Only of this thread: two teams of threads on the same cores would wait for each other in turn.
            torch.set_num_threads(1)
            step = first_step
            try:
                while not stopped.is_set():
                    put(self.batch(step))
                    step += 1
            except BaseException as error:  # handed to the consumer, who must see why there is no batch
                put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            while True:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
