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
from collections.abc import Generator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from douga.core.clip import Batch
from douga.core.contracts import Source
from douga.video.io import from_uint8, to_uint8

AUGMENTATIONS = ("flip", "reverse", "shift", "colour")


def cache_folder() -> Path:
    """Where decoded videos lie: `douga/decoded` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "douga" / "decoded"


class Decoded:
    """All frames of a source as bytes, (frames, H, W, C), on disk; made on first use.

    digest: sha256 of the bytes, which stands in a model's provenance.
    """

    def __init__(self, source: Source, size: tuple[int, int]) -> None:
        self.starts = np.concatenate([[0], np.cumsum(source.lengths)])
        listing = [
            type(source).__name__,
            size,
            *zip(source.names, source.lengths, strict=True),
            getattr(source, "stamp", ""),
        ]
        key = hashlib.sha256(json.dumps(listing, default=str).encode()).hexdigest()[:20]
        path = cache_folder() / f"{type(source).__name__.lower()}-{key}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(f".{os.getpid()}.partial")
            try:
                shape = (int(self.starts[-1]), *size, 3)
                with beside.open("wb") as file:  # not a memory map: on a full disk that is a crash, this an OSError
                    layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, layout)
                    for index, length in enumerate(source.lengths):
                        file.write(to_uint8(source.clip(index, 0, length)).tobytes())
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)
        self.frames = np.load(path, mmap_mode="r")

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.frames).hexdigest()


class Loader:
    """Draws windows of `frames` frames, each start of each long enough video as likely as any other.

    batch: clips of the whole step, over all processes; this process gets its share `rank` of `world`.
    augment: of `AUGMENTATIONS`; flip (left-right), reverse (time), shift (up to a 16th of the side), colour (mixes the
        channels a little, so that a model does not learn its few persons' clothes by heart).
    Raises ValueError if no video is long enough, or for an unknown augmentation.
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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if unknown := set(augment) - set(AUGMENTATIONS):
            raise ValueError(f"unknown augmentation {', '.join(unknown)} (there are: {', '.join(AUGMENTATIONS)})")
        if batch % world:
            raise ValueError(f"a batch of {batch} clips can't be shared evenly by {world} processes")
        self.source, self.frames, self.batch_size, self.seed, self.augment = source, frames, batch, seed, augment
        self.share = slice(rank * batch // world, (rank + 1) * batch // world)
        windows = np.array([max(0, length - frames + 1) for length in source.lengths])
        self.windows = np.cumsum(windows)
        if not self.windows.size or self.windows[-1] == 0:
            raise ValueError(
                f"no video has the {frames} frames of a clip (the longest has {max(source.lengths, default=0)})"
            )
        self.decoded = None if source.endless else Decoded(source, size)

    @property
    def digest(self) -> str:
        return self.decoded.digest if self.decoded else f"formula:{type(self.source).__name__}"

    def batch(self, step: int) -> Batch:
        """The clips of one step: a function of the seed and the step alone."""
        chance = np.random.default_rng((self.seed, step))
        picks = chance.integers(self.windows[-1], size=self.batch_size)
        seeds = chance.integers(2**62, size=self.batch_size)
        clips = torch.stack([self._window(int(pick)) for pick in picks[self.share]])
        for row, seed in enumerate(seeds[self.share]):
            clips[row] = self._augmented(clips[row], np.random.default_rng(seed))
        return Batch(clips, torch.from_numpy(seeds[self.share]), step)

    def _window(self, pick: int) -> Float[Tensor, "c t h w"]:
        video = int(np.searchsorted(self.windows, pick, side="right"))
        start = pick - (int(self.windows[video - 1]) if video else 0)
        if self.decoded is None:
            return self.source.clip(video, start, self.frames)
        at = int(self.decoded.starts[video]) + start
        return from_uint8(np.array(self.decoded.frames[at : at + self.frames]))

    def _augmented(self, clip: Float[Tensor, "c t h w"], chance: np.random.Generator) -> Float[Tensor, "c t h w"]:
        if "flip" in self.augment and chance.random() < 0.5:
            clip = clip.flip(3)
        if "reverse" in self.augment and chance.random() < 0.5:
            clip = clip.flip(1)
        if "shift" in self.augment:
            h, w = clip.shape[2:]
            up, left = (int(chance.integers(side // 8 + 1)) for side in (h, w))
            padded = torch.nn.functional.pad(clip, (w // 16, w // 16, h // 16, h // 16), mode="replicate")
            clip = padded[:, :, up : up + h, left : left + w]
        if "colour" in self.augment:
            mix = torch.from_numpy(np.eye(3) + chance.normal(0, 0.12, (3, 3))).float()
            shift = torch.from_numpy(chance.normal(0, 0.08, (3, 1, 1, 1))).float()
            clip = (torch.einsum("dc,cthw->dthw", mix, clip) + shift).clamp(-1, 1)
        return clip

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
