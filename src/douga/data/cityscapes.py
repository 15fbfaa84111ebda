"""Cityscapes: streets of German cities from a car, 2048x1024 at 17 fps, with label maps of 34 classes.

Cordts, Omran, Ramos, Rehfeld, Enzweiler, Benenson, Franke, Roth, Schiele, "The Cityscapes Dataset for Semantic Urban Scene
Understanding", CVPR 2016. Its makers labelled one frame of each snippet of 30; the maps of a video come from a network.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from douga.data.pairs import read_maps
from douga.video.io import picture_files, read_image
from douga.video.ops import fit

ORIGIN = "https://www.cityscapes-dataset.com (leftImg8bit_sequence_trainvaltest.zip)"
FOLDERS = {"train": "train", "test": "val"}
VIDEOS = {"train": 2975, "test": 500}
SNIPPET = 30  # frames

# By id, in the order of the official list; "license plate", -1, is stored as 255: no class.
CLASSES = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
    *("road", "sidewalk", "parking", "rail track"),
    *("building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    *("pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky"),
    *("person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
THINGS = frozenset(range(CLASSES.index("person"), len(CLASSES)))


@dataclass(frozen=True)
class Video:
    name: str
    frames: list[Path]
    labels: list[Path]
    instances: list[Path] | None


class Cityscapes:
    """Source, Paired. Splits as in Wang et al. 2018: train is the official train, test the official val (500 snippets,
    on which the paper's figures are measured). The official test is not read. `root` is one of two:

    Official: a video is a snippet of 30 frames, leftImg8bit_sequence/{train,val}/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png.
        Its maps, as a network of your choice gives them, lie in labels_sequence/{train,val}/CITY/ under
        CITY_SSSSSS_FFFFFF_labelIds.png (ids 0-33, 255 for none) and, if there are any, in
        instances_sequence/{train,val}/CITY/ under CITY_SSSSSS_FFFFFF_instanceIds.png (16 bits, id * 1000 + number, below
        1000 none; the official coding). An instance should keep its number through a snippet, so it must be tracked.
        "_gtFine" before the ending is accepted, as the official single maps have it.
    Sample: a video is a folder seqNNNN/ with frames/, labels/ (ids) and perhaps instances/ (numbers, 255 none), whose
        pictures go together in order. Each fifth one (4, 9, ...) is for test.

    damaged: (name, reason) of each video of the split that is left out, because a map is missing.
    complete, title: whether all 3,475 official snippets are there and this split can be used; "cityscapes", or
    "cityscapes-" and their number, or "cityscapes-sample" and the number of its videos.
    stamp: changes with the place, size or date of any file of the split.
    Raises FileNotFoundError if there are no videos, ValueError for an unknown split or if no video has its maps; `clip` and
    `maps` raise ValueError for what cannot be read. See `douga.core.contracts.Paired`.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(FOLDERS)
    licence: ClassVar[str] = "research, after signing up; not to be passed on; credit Cordts et al., CVPR 2016"
    endless: ClassVar[bool] = False
    fps = 17.0
    classes = CLASSES
    things = THINGS

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"cityscapes has the splits {', '.join(self.splits)}, not {split!r}")
        sequences = [p for p in sorted(root.glob("seq*")) if re.fullmatch(r"seq\d+", p.name)] if root else []
        if root is not None and (root / "leftImg8bit_sequence").is_dir():
            self.sample = False
            found = list(_snippets(root, FOLDERS[split]))
            others = sum(
                len(_cut(_keyed(path))) for other in FOLDERS if other != split for path in _cities(root, other)
            )
        elif root is not None and sequences:
            self.sample = True
            found = [_sequence(path) for path in sequences if (int(path.name[3:]) % 5 == 4) == (split == "test")]
            others = len(sequences) - len(found)
        else:
            raise FileNotFoundError(
                f"no Cityscapes videos (leftImg8bit_sequence/{FOLDERS[split]}/, or seqNNNN/) in {root or 'no folder'}; they"
                f" come from {ORIGIN}"
            )
        if not found:
            raise FileNotFoundError(f"no Cityscapes videos for {split} in {root}; they come from {ORIGIN}")
        self.damaged: list[tuple[str, str]] = []
        self._videos: list[Video] = []
        for video in found:
            counts = {"labels": len(video.labels)}
            if video.instances is not None:
                counts["instances"] = len(video.instances)
            few = [f"{count} {part}" for part, count in counts.items() if count != len(video.frames)]
            if few or not video.frames:
                told = f"it has {len(video.frames)} frames and {' and '.join(few)}: each frame needs its map"
                self.damaged.append((video.name, told))
            else:
                self._videos.append(video)
        if not self._videos:
            name, why = self.damaged[0]
            raise ValueError(
                f"none of the {len(found)} Cityscapes videos for {split} in {root} has its maps, which a network must"
                f" draw; the first one, {name}: {why}"
            )
        self.names = [video.name for video in self._videos]
        self.lengths = [len(video.frames) for video in self._videos]
        videos = len(self._videos) + others
        self.complete = not self.sample and videos == sum(VIDEOS.values())
        self.title = f"cityscapes-{'sample' if self.sample else ''}{videos}"
        if self.complete:
            self.title = "cityscapes"
        files = [p for v in self._videos for part in (v.frames, v.labels, v.instances or []) for p in part]
        marks = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        self.stamp = hashlib.sha256(json.dumps(marks).encode()).hexdigest()
        self.size = size
        self._sizes: dict[int, tuple[int, int]] = {}  # of a video's frames as they lie there

    def __len__(self) -> int:
        return len(self._videos)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        files = self._videos[index].frames[start : start + length]
        assert start >= 0 and len(files) == length > 0
        return torch.stack([fit(read_image(path), self.size) for path in files], dim=1)

    def maps(self, index: int, start: int, length: int) -> Int32[Tensor, "2 t h w"]:
        """Instances keep the whole id * 1000 + number of the official coding: it tells a car from a person of one number."""
        video, part = self._videos[index], slice(start, start + length)
        if index not in self._sizes:
            height, width = read_image(video.frames[0]).shape[1:]
            self._sizes[index] = height, width
        instances = None if video.instances is None else video.instances[part]
        maps = read_maps(
            video.labels[part], instances, self.classes, self._sizes[index], self.size, coded=not self.sample
        )
        if self.sample:
            maps[1][maps[1] == 255] = 0
        return maps


def _cities(root: Path, split: str) -> list[Path]:
    return [path for path in sorted((root / "leftImg8bit_sequence" / FOLDERS[split]).glob("*")) if path.is_dir()]


def _keyed(city: Path, ending: str = "leftImg8bit") -> dict[tuple[str, int], Path]:
    """(CITY_SSSSSS, frame) -> file, in order."""
    named = re.compile(rf"(.+_\d{{6}})_(\d{{6}})(_gtFine)?_{ending}\.png")
    paths = city.iterdir() if city.is_dir() else ()
    return dict(sorted(((m[1], int(m[2])), path) for path in paths if (m := named.fullmatch(path.name))))


def _cut(frames: dict[tuple[str, int], Path]) -> list[list[tuple[str, int]]]:
    """Frames that follow one another, 30 at most: some cities are one long recording, of which the snippets are pieces."""
    runs: list[list[tuple[str, int]]] = []
    for place, number in frames:
        if not runs or runs[-1][-1] != (place, number - 1) or len(runs[-1]) == SNIPPET:
            runs.append([])
        runs[-1].append((place, number))
    return runs


def _snippets(root: Path, folder: str) -> Iterator[Video]:
    for city in sorted((root / "leftImg8bit_sequence" / folder).glob("*")):
        frames = _keyed(city)
        labels = _keyed(root / "labels_sequence" / folder / city.name, "labelIds")
        numbered = (root / "instances_sequence").is_dir()
        instances = _keyed(root / "instances_sequence" / folder / city.name, "instanceIds")
        for run in _cut(frames):
            yield Video(
                f"{run[0][0]}_{run[0][1]:06}",
                [frames[key] for key in run],
                [labels[key] for key in run if key in labels],
                [instances[key] for key in run if key in instances] if numbered else None,
            )


def _sequence(folder: Path) -> Video:
    parts = {part: folder / part for part in ("frames", "labels", "instances")}
    frames, labels, instances = (picture_files(path) if path.is_dir() else [] for path in parts.values())
    return Video(folder.name, frames, labels, instances if parts["instances"].is_dir() else None)
