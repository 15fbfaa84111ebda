"""ApolloScape scene parsing: streets of Chinese cities from a car, 3384x2710, each frame labelled.

Huang, Wang, Cheng, Zhou, Geng, Yang, "The ApolloScape Open Dataset for Autonomous Driving and its Application", TPAMI 2019.
Written from descriptions of its layout and tested on files made in it: no file of the set itself was at hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import ClassVar

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from douga.data.folder import share
from douga.video.io import picture_files, read_image, read_labels
from douga.video.ops import fit, fit_labels

ORIGIN = "http://apolloscape.auto/scene.html"

# The official numbers leave gaps; here a class is its place in this table.
OFFICIAL = (
    *((0, "others"), (1, "rover"), (17, "sky")),
    *((33, "car"), (34, "motorcycle"), (35, "bicycle"), (36, "person")),
    *((37, "rider"), (38, "truck"), (39, "bus"), (40, "tricycle")),
    *((49, "road"), (50, "sidewalk"), (65, "traffic cone"), (66, "road pile"), (67, "fence")),
    *((81, "traffic light"), (82, "pole"), (83, "traffic sign"), (84, "wall"), (85, "dustbin"), (86, "billboard")),
    *((97, "building"), (98, "bridge"), (99, "tunnel"), (100, "overpass"), (113, "vegetation")),
)
GROUP = 128  # 161 is a group of cars (33), and so on to 168


class Apolloscape:
    """Source, Paired. A video is what one camera saw on one record: roadNN_ins/ColorImage/RecordNNN/Camera N/*.jpg (or
    roadNN_seg), its maps roadNN_ins/Label/RecordNNN/Camera N/*_bin.png, its instances *_instanceIds.png beside them.

    The official lists part single pictures; here whole records are shared out, as `douga.data.folder.share` does, with both
    cameras of a record in one split. Groups of things count as the things they are made of. What is 255 or in no list has
    no class; instances are class * 1000 + number, and below 1000 none.

    damaged: (name, reason) of each video of the split in which a frame lacks its map. fps: from the times in the names of the
    files. stamp: changes with the place, size or date of any file of the split.
    Raises FileNotFoundError if there are no videos, ValueError for an unknown split or if no video for training has its
    maps; `clip` and `maps` raise ValueError for what cannot be read. See `douga.core.contracts.Paired`.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    licence: ClassVar[str] = "research, after signing up; not to be passed on; credit Huang et al., TPAMI 2019"
    endless: ClassVar[bool] = False
    classes: ClassVar[tuple[str, ...]] = tuple(name for _, name in OFFICIAL)
    things: ClassVar[frozenset[int]] = frozenset(i for i, (number, _) in enumerate(OFFICIAL) if 33 <= number <= 40)

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"apolloscape has the splits {', '.join(self.splits)}, not {split!r}")
        folders = sorted(root.glob("road*_*/ColorImage/Record*/Camera*")) if root else []
        if root is None or not folders:
            raise FileNotFoundError(
                f"no ApolloScape videos (roadNN_ins/ColorImage/RecordNNN/Camera N/) in {root or 'no folder'}; they come from"
                f" {ORIGIN}"
            )
        records = share({folder.parent.relative_to(root).as_posix() for folder in folders}, split)
        self.names: list[str] = []
        self.damaged: list[tuple[str, str]] = []
        self._frames: list[list[Path]] = []
        for folder in folders:
            if folder.parent.relative_to(root).as_posix() not in records:
                continue
            name = "/".join((folder.parts[-4], *folder.parts[-2:]))
            frames = picture_files(folder)
            lacking = [path for path in frames if not _partner(path, "_bin").exists()]
            if lacking:
                self.damaged.append(
                    (name, f"{len(lacking)} of {len(frames)} frames lack a map: {lacking[0]} is the first")
                )
            else:
                self.names.append(name)
                self._frames.append(frames)
        if split == "train" and not self.names:
            raise ValueError(
                f"no ApolloScape video for training in {root} has its maps; the first: {self.damaged[0][1]}"
            )
        self.lengths = [len(frames) for frames in self._frames]
        gaps = [late - early for frames in self._frames[:1] for early, late in pairwise(map(_milliseconds, frames))]
        self.fps = 1000 / median(gaps) if gaps and median(gaps) > 0 else 25.0
        files = [path for frames in self._frames for frame in frames for path in (frame, _partner(frame, "_bin"))]
        marks = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        self.stamp = hashlib.sha256(json.dumps(marks).encode()).hexdigest()
        self.size = size

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        files = self._frames[index][start : start + length]
        assert start >= 0 and len(files) == length > 0
        return torch.stack([fit(read_image(path), self.size) for path in files], dim=1)

    def maps(self, index: int, start: int, length: int) -> Int32[Tensor, "2 t h w"]:
        place = torch.full((256,), -1, dtype=torch.int32)
        for i, (number, _) in enumerate(OFFICIAL):
            place[number] = i
            if i in self.things:
                place[number + GROUP] = i
        stack = []
        for frame in self._frames[index][start : start + length]:
            labels = read_labels(_partner(frame, "_bin"))
            if labels.max() > 255:
                raise ValueError(f"{_partner(frame, '_bin')} holds {int(labels.max())}: the official maps have 8 bits")
            numbers = torch.zeros_like(labels)
            if (path := _partner(frame, "_instanceIds")).exists():
                numbers = read_labels(path)
                if numbers.shape != labels.shape:
                    raise ValueError(f"{path} has another size than the label map beside it: take the official files")
            stack.append(fit_labels(torch.stack([place[labels], numbers.where(numbers >= 1000, 0)]), self.size))
        return torch.stack(stack, dim=1)


def _partner(frame: Path, ending: str) -> Path:
    camera, record, road = frame.parents[0], frame.parents[1], frame.parents[3]
    return road / "Label" / record.name / camera.name / f"{frame.stem}{ending}.png"


def _milliseconds(frame: Path) -> int:
    """The time of the day in a name such as 170908_061502408_Camera_5; 0 where there is none."""
    found = re.match(r"\d{6}_(\d\d)(\d\d)(\d\d)(\d{3})_", frame.name)
    hours, minutes, seconds, rest = map(int, found.groups()) if found else (0, 0, 0, 0)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest
