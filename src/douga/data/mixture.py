"""Everything at hand: the clips of all sets in one folder, and synthetic motion made from their stills.

What a model for any pictures learns from: people, robots, streets, faces, real and made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from douga.data.cityscapes import Cityscapes
from douga.data.folder import Folder
from douga.data.kth import Kth
from douga.data.layers import Layers
from douga.data.weizmann import Weizmann

# Sets with splits of their own, and folders of videos without: name -> where they lie.
SETS: dict[str, tuple[Callable[..., Any], str]] = {
    "weizmann": (Weizmann, "weizmann"),
    "kth": (Kth, "kth"),
    "cityscapes": (Cityscapes, "cityscapes"),
}
FOLDERS = {"ucf101": "ucf101", "robot": "robot", "dance": "dance", "faces": "faces", "driving": "driving/frames"}


class Clips:
    """Source: the real ones. `root` is a folder as `DOUGA_CACHE` names it; what is not in it is left out.

    Splits: train and test. Weizmann, KTH and Cityscapes keep their own; of any other folder a third of the videos (in the
    order of a hash of their names) is for test, of a single video the last fifth of its frames.
    Raises FileNotFoundError if nothing is there. See `douga.core.contracts.Source`.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    licence: ClassVar[str] = "of each set its own: for research"
    endless: ClassVar[bool] = False
    folder: ClassVar[str] = "."  # of the cache, unless a place is named: all of it
    fps = 25.0

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"{type(self).__name__.lower()} has the splits train and test, not {split!r}")
        self.size = size
        self.videos: list[tuple[Any, int, int]] = []  # source, index, first frame
        self.names: list[str] = []
        self.lengths: list[int] = []
        stamps = []
        for name, (kind, place) in SETS.items():
            if root and (root / place).is_dir():
                source = kind(root / place, split, size)
                stamps.append(getattr(source, "stamp", ""))
                for index, length in enumerate(source.lengths):
                    self._add(f"{name}/{source.names[index]}", source, index, 0, length)
        for name, place in FOLDERS.items():
            if root and (root / place).is_dir():
                parts = [Folder(root / place, part, size) for part in Folder.splits]
                stamps += [part.stamp for part in parts]
                listed = {part.names[index]: (part, index) for part in parts for index in range(len(part))}
                order = sorted(listed, key=lambda video: hashlib.sha256(video.encode()).digest())
                held_out = set(order[: len(order) // 3])
                for video, (part, index) in sorted(listed.items()):
                    length = part.lengths[index]
                    if len(order) == 1:
                        cut = length * 4 // 5
                        first, length = (0, cut) if split == "train" else (cut, length - cut)
                    elif (video in held_out) == (split == "test"):
                        first = 0
                    else:
                        continue
                    self._add(f"{name}/{video}", part, index, first, length)
        if not self.names:
            sets = ", ".join([*SETS, *FOLDERS.values()])
            raise FileNotFoundError(f"there is none of {sets} in {root or 'no folder'}: name a folder that holds some")
        self.stamp = hashlib.sha256("".join(stamps).encode()).hexdigest()

    def _add(self, name: str, source: Any, index: int, first: int, length: int) -> None:
        self.names.append(name)
        self.videos.append((source, index, first))
        self.lengths.append(length)

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        source, number, first = self.videos[index]
        clip: Tensor = source.clip(number, first + start, length)
        return clip


class Mixture(Clips):
    """Source: `Clips`, and for training `Layers` made from their stills."""

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        super().__init__(root, split, size)
        if split == "train":
            made = Layers(root, split, size, pictures=Clips)
            self.stamp += made.stamp
            for index, length in enumerate(made.lengths):
                self._add(made.names[index], made, index, 0, length)
