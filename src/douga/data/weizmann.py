"""Weizmann actions at 64x64 in colour: one JPEG strip for each clip, frames side by side.

Gorelick, Blank, Shechtman, Irani, Basri, "Actions as Space-Time Shapes", TPAMI 2007. Files are named
`personNN_action[_mirrored].jpg`; a mirrored copy stays in the split of its person.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from douga.video.io import read_image
from douga.video.ops import resize

ORIGIN = "https://www.wisdom.weizmann.ac.il/~vision/SpaceTimeActions.html"
PERSONS = {"train": range(1, 7), "test": range(7, 9)}


class Weizmann:
    """Source. Splits by person: train 1-6, test 7-8. See `douga.core.contracts.Source`."""

    splits: ClassVar[tuple[str, ...]] = tuple(PERSONS)
    licence: ClassVar[str] = "research use; credit Gorelick, Blank, Shechtman, Irani, Basri, 2007"
    endless: ClassVar[bool] = False
    fps = 25.0

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"weizmann has the splits {', '.join(self.splits)}, not {split!r}")
        names = sorted(root.glob("person*.jpg")) if root else []
        if not names:
            raise FileNotFoundError(
                f"no Weizmann strips (personNN_action.jpg) in {root or 'no folder'}; make them from the videos of {ORIGIN}"
            )
        persons = {path: int(found[1]) for path in names if (found := re.match(r"person(\d+)_", path.name))}
        self.paths = [path for path, person in persons.items() if person in PERSONS[split]]
        self.names = [path.stem for path in self.paths]
        self.size = size
        self._strips = [read_image(path) for path in self.paths]  # the whole set is a few MB
        self.lengths = [strip.shape[2] // strip.shape[1] for strip in self._strips]

    def __len__(self) -> int:
        return len(self.paths)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "c t h w"]:
        side = self._strips[index].shape[1]
        strip = self._strips[index][:, :, start * side : (start + length) * side]
        frames = torch.stack(strip.split(side, dim=2), dim=1)  # (C, T, side, side)
        return resize(frames, self.size)
