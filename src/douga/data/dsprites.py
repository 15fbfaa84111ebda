"""dSprites: one white shape on black, 64x64, for each point of a grid of 6 factors; the official file, read as paths on it.

Matthey, Higgins, Hassabis, Lerchner, "dSprites: Disentanglement testing Sprites dataset", 2017. The factors: colour (1),
shape (3: square, ellipse, heart), scale (6), orientation (40 values from 0 to 2 pi, both included, so that the last is the
first again), x and y (32 each).

A video goes at equal steps from one grid point to another, and each of its frames is a grid point: x always moves, y and the
orientation may; the orientation takes at most half a turn, so the shorter arc. Colour, shape and scale rest. A video is a
function of (split, index) alone. Two splits may share a picture, as there are few, but hardly a path.
"""

from __future__ import annotations

import hashlib
import zipfile
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from douga.video.ops import resize

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
ORIGIN = "https://github.com/google-deepmind/dsprites-dataset"
VIDEOS = {"train": (4000, 3), "validation": (500, 3), "test": (500, 9)}  # how many, and frames of each


class Dsprites:
    """Source. Pictures that are no longer 64x64 are resized, without keeping their aspect.

    latents: (videos, T, 6) int64, the grid point (`latents_classes`) of each frame.
    stamp: changes with the place, size or date of the file.
    Raises FileNotFoundError if the file is missing, ValueError for an unknown split or a file that is not a full grid.
    See `douga.core.contracts.Source`.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(VIDEOS)
    licence: ClassVar[str] = "Apache-2.0; credit Matthey, Higgins, Hassabis, Lerchner, 2017"
    endless: ClassVar[bool] = False
    fps = 25.0

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"dsprites has the splits {', '.join(self.splits)}, not {split!r}")
        if root is None or not (root / FILE).is_file():
            raise FileNotFoundError(f"no {FILE} in {root or 'no folder'}; put it there from {ORIGIN}")
        self.path, self.size = root / FILE, size
        try:
            with np.load(self.path) as file:
                classes, angles = file["latents_classes"], file["latents_values"][:, 3]
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path} can't be read ({error}); take the file of {ORIGIN}") from error
        self.grid = classes.max(0) + 1  # how many values each factor takes
        self.turn = int(self.grid[3]) - int(np.isclose(angles.max(), 2 * np.pi))  # steps of orientation to a full turn
        videos, frames = VIDEOS[split]
        full = np.indices(self.grid).reshape(6, -1).T  # the last factor changes fastest
        if self.grid[4] < frames or not np.array_equal(classes, full):
            raise ValueError(f"{self.path} does not hold every combination in order; take the file of {ORIGIN}")
        self.latents = np.stack([self._path(split, index, frames) for index in range(videos)])
        self.lengths = [frames] * videos
        self.names = [f"dsprites-{split}-{index:04}" for index in range(videos)]
        stat = self.path.stat()
        self.stamp = hashlib.sha256(f"{self.path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.lengths)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        """A clip ends with its video."""
        assert 0 <= index < len(self) and 0 <= start < self.lengths[index] and length > 0
        rows, pictures = self._pictures
        wanted = np.ravel_multi_index(tuple(self.latents[index, start : start + length].T), tuple(self.grid))
        frames = torch.from_numpy(pictures[np.searchsorted(rows, wanted)]).float() * 2 - 1  # (T, 64, 64)
        return resize(frames.expand(3, *frames.shape), self.size).contiguous()

    def _path(self, split: str, index: int, frames: int) -> np.ndarray:
        """(frames, 6): the grid points of a video."""
        chance = np.random.default_rng((self.splits.index(split), index))
        most = np.array([self.turn // 2 // (frames - 1), *(self.grid[4:] - 1) // (frames - 1)])  # grid steps to a frame
        step = np.array([0, 0, 0, *chance.integers(-most, most + 1)])
        step[4] = chance.choice([-1, 1]) * chance.integers(1, most[1] + 1)
        way = step * (frames - 1)
        room = np.where(np.arange(6) == 3, 0, abs(way))  # a circle has no end
        first = chance.integers(self.grid - room) + np.maximum(0, -way) * (room > 0)
        points = first + np.arange(frames)[:, None] * step
        points[:, 3] %= self.turn
        return points

    @cached_property
    def _pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the file that this split shows, rising, and their pictures (rows, 64, 64) uint8, 0 or 1.

        The file is unpacked as a stream: all of its pictures at once would take 3 GB.
        """
        rows = np.unique(np.ravel_multi_index(tuple(self.latents.reshape(-1, 6).T), tuple(self.grid)))
        with zipfile.ZipFile(self.path) as archive, archive.open("imgs.npy") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if shape != (self.grid.prod(), 64, 64) or dtype.itemsize != 1:
                raise ValueError(f"the pictures of {self.path} are {shape} {dtype}; take the file of {ORIGIN}")
            pictures = np.empty((len(rows), 64, 64), np.uint8)
            block = 4096  # pictures, 16 MB
            for at in range(0, shape[0], block):
                data = np.frombuffer(file.read(block * 64 * 64), np.uint8).reshape(-1, 64, 64)
                begin, end = np.searchsorted(rows, (at, at + block))
                pictures[begin:end] = data[rows[begin:end] - at]
        return rows, pictures
