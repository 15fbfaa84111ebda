"""Pairs of videos, what is painted from and what is painted, in folders of equal names; faces and dancers among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mode
from typing import ClassVar

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from douga.data.folder import find, measure, share
from douga.video.io import frames, is_video, picture_files, read_labels, read_video
from douga.video.ops import encode_labels, fit_labels

NONE = 255  # in a label map: this pixel has no class


class Pairs:
    """Source, Paired. `root` holds these:

    frames/: the videos: video files, folders of pictures, or pictures alone, which are one video.
    maps/: a map for each frame, under the same names; whether a video is a file or a folder makes no difference, so
        frames/a.mp4 goes with maps/a/0000.png, maps/a/0001.png, ... As large as the frames.
    classes.txt: if it is there the maps are label maps, otherwise pictures (edges, poses, drawings). One name in a line,
        that of class 0 first; a leading * marks a thing, which moves by itself. A label map is a PNG in 8-bit grey or
        with a palette; a pixel's value is its class, and 255 is none.
    instances/: only beside label maps, and not needed: grey PNGs, 8 or 16 bits; a pixel's value is the number of its
        instance, and 0 is none. A file that holds values from 1000 on, or the classes themselves, is read as Cityscapes
        writes them (class * 1000 + number): the values below 1000 are none.

    Splits: if root has folders named train, validation or test, they hold the above (classes.txt stays in root), and
    nothing else is read. Otherwise the names are shared out as `douga.data.folder.share` does.

    damaged: (name, reason) of each video of the split that is left out: it or its maps cannot be read whole, one lacks
    the other, or they differ in number. fps: the one that most videos have. stamp: changes with the place, size or date
    of any file of the split.
    Raises FileNotFoundError if frames/ or maps/ is missing or empty, ValueError for an unknown split, for instances
    without classes, if every video for training is damaged, or if the very first map is not what it should be; `maps`
    raises ValueError for a map that is not. See `douga.core.contracts.Paired`.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    licence: ClassVar[str] = "whatever holds for your videos"
    endless: ClassVar[bool] = False
    advice: ClassVar[str] = "put videos into frames/ and their maps into maps/ under equal names"

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        kind = type(self).__name__.lower()
        if split not in self.splits:
            raise ValueError(f"{kind} has the splits {', '.join(self.splits)}, not {split!r}")
        if root is None or not root.is_dir():
            raise FileNotFoundError(f"there is no folder {root}: {self.advice}")
        named = any((root / name).is_dir() for name in self.splits)
        top = root / split if named else root
        self.classes, self.things = read_classes(root / "classes.txt")
        if (top / "instances").is_dir() and not self.classes:
            raise ValueError(
                f"{top} has instances/ but {root} has no classes.txt: write one, a class in each line, if the maps are"
                " label maps; otherwise take instances/ away"
            )
        parts = ("frames", "maps", "instances") if (top / "instances").is_dir() else ("frames", "maps")
        found = {part: _by_name(top / part, split if named else "") for part in parts}
        if split == "train" or not named:
            for part in ("frames", "maps"):
                if not found[part]:
                    raise FileNotFoundError(f"there are no videos and no pictures in {top / part}: {self.advice}")
        names = sorted({name for part in parts for name in found[part]})
        names = names if named else self.share(names, split)

        known, unread, self.stamp = measure(
            {f"{part}/{name}": found[part][name] for part in parts for name in names if name in found[part]}
        )
        broken = dict(unread)
        self.damaged: list[tuple[str, str]] = []
        self.names: list[str] = []
        self.lengths: list[int] = []
        self._paths: list[dict[str, Path]] = []
        for name in names:
            paths = {part: found[part][name] for part in parts if name in found[part]}
            lacking = [part for part in parts if part not in paths]
            why = next((broken[f"{part}/{name}"] for part in paths if f"{part}/{name}" in broken), None)
            if lacking:
                why = f"it is in {'/ and '.join(paths)}/ but not in {'/, nor in '.join(lacking)}/"
            elif self.classes and any(is_video(paths[part]) for part in parts[1:]):
                why = "its label maps are a video file, whose codec changes the numbers: save them as PNGs in a folder"
            elif why is None:
                counts = {part: known[f"{part}/{name}"][0] for part in parts}
                if len(set(counts.values())) > 1:
                    told = ", ".join(f"{count} in {part}/" for part, count in counts.items())
                    why = f"the numbers of pictures differ ({told}): each frame needs its map"
            if why is not None:
                self.damaged.append((name, why))
                continue
            self.names.append(name)
            self.lengths.append(known[f"frames/{name}"][0])
            self._paths.append(paths)
        if split == "train" and not self.names:
            name, why = self.damaged[0]
            raise ValueError(f"none of the {len(names)} videos in {top} can be used; the first one, {name}: {why}")
        self.fps = mode(known[f"frames/{name}"][1] for name in self.names) if self.names else 25.0
        self.size = size
        self._sizes: dict[int, tuple[int, int]] = {}  # of a video's frames as they lie there
        if self.names:
            self.maps(0, 0, 1)  # a mistake that all maps share is told before anything else begins

    def share(self, names: Sequence[str], split: str) -> list[str]:
        """The names of a split, where no folders say it."""
        return share(names, split)

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        return read_video(self._paths[index]["frames"], self.size, start, length)[0]

    def maps(self, index: int, start: int, length: int) -> Int32[Tensor, "2 t h w"] | Float[Tensor, "3 t h w"]:
        """Labels where there are classes, otherwise pictures. Raises ValueError that names the file and what is wrong."""
        paths = self._paths[index]
        if index not in self._sizes:
            height, width = next(iter(frames(paths["frames"])))[1].shape[1:]
            self._sizes[index] = height, width
            if not self.classes:
                _check_size(paths["maps"], tuple(next(iter(frames(paths["maps"])))[1].shape[1:]), (height, width))
        if not self.classes:
            return read_video(paths["maps"], self.size, start, length)[0]
        files = {part: picture_files(path)[start : start + length] for part, path in paths.items() if part != "frames"}
        return read_maps(files["maps"], files.get("instances"), self.classes, self._sizes[index], self.size)


class Faces(Pairs):
    """Faces from edges: Pairs whose maps are drawn by `douga data prepare edges`. See `Pairs`.

    FaceForensics comes as folders of videos under names of its own (train, val and test, or numbers and a list): prepare
    each split into a folder of its name, `--out FOLDER/train` and so on. Any other videos of one face will do.
    """

    licence: ClassVar[str] = "whatever holds for your videos (FaceForensics: research, after signing its terms)"
    advice: ClassVar[str] = "make it from videos of faces with: douga data prepare edges VIDEO --out FOLDER"


class Pose(Pairs):
    """A person from poses: Pairs whose maps are drawn by `douga data prepare pose`. See `Pairs`.

    Of one long video, prepare the first part into FOLDER/train and the last into FOLDER/test (`--start`, `--frames`).
    """

    advice: ClassVar[str] = "make it from videos of one person with: douga data prepare pose VIDEO --out FOLDER"


def painted(
    maps: Path,
    classes: int,
    size: tuple[int, int],
    instances: str | Path | None = None,
    swap: Iterable[tuple[int, int]] = (),
) -> tuple[int, float, Callable[[], Iterator[Float[Tensor, "k h w"]]]]:
    """Maps that a user wants painted: how many (0: not known before), their fps, and a function that reads them one by one as
    networks see them.

    maps: a folder of label PNGs or, where classes is 0, of pictures, or a video. The others: see `douga.api.paint`.
    Raises ValueError or OSError that names what is wrong: now, where it can be told, otherwise when that map is read.
    """
    if not maps.exists():
        raise FileNotFoundError(f"there is no file or folder {maps}")
    swaps = list(swap)
    if not classes:
        if instances is not None or swaps:
            raise ValueError("this model paints pictures, not labels: it takes no instances and has no classes to swap")
        fps, _ = next(iter(frames(maps)))
        return len(picture_files(maps)) if maps.is_dir() else 0, fps, lambda: (frame for _, frame in frames(maps, size))
    if not maps.is_dir():
        raise ValueError(f"this model paints label maps: give a folder of label PNGs, not the file {maps}")
    if wrong := [label for pair in swaps for label in pair if not 0 <= label < classes]:
        raise ValueError(f"there is no class {wrong[0]} to swap: this model has the classes 0 to {classes - 1}")
    labels = picture_files(maps)
    if not labels:
        raise ValueError(f"the folder {maps} holds no pictures")
    numbers = None if instances is None else picture_files(Path(instances).expanduser())
    if numbers is not None and len(numbers) != len(labels):
        raise ValueError(f"there are {len(labels)} maps and {len(numbers)} instance maps: each frame needs both")
    names = [str(label) for label in range(classes)]
    height, width = read_labels(labels[0]).shape
    changed = torch.arange(-1, classes)  # at label + 1
    for one, other in swaps:  # the second one changes what the first has made
        was_one, was_other = changed == one, changed == other
        changed[was_one], changed[was_other] = other, one

    def planes() -> Iterator[Float[Tensor, "k h w"]]:
        for index, path in enumerate(labels):
            of_frame = None if numbers is None else numbers[index : index + 1]
            found = read_maps([path], of_frame, names, (height, width), size)
            found[0] = changed[found[0].long() + 1]
            yield encode_labels(found, classes)[:, 0]

    next(planes())  # a mistake that all maps share is told before anything is drawn
    return len(labels), 25.0, planes


def read_classes(path: Path) -> tuple[tuple[str, ...], frozenset[int]]:
    """The names of the classes and the numbers of those that are things; none if there is no such file.

    Raises ValueError for an empty file, an empty line between others, a name that is there twice, or more than 255.
    """
    if not path.exists():
        return (), frozenset()
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").rstrip().splitlines()]
    names = tuple(line.removeprefix("*").strip() for line in lines)
    if not all(names) or not names:
        raise ValueError(f"{path} has an empty line: each line is the name of a class, that of class 0 first")
    if len(set(names)) < len(names):
        raise ValueError(f"{path} names {next(n for n in names if names.count(n) > 1)!r} twice: a class has one line")
    if len(names) > NONE:
        raise ValueError(f"{path} names {len(names)} classes; a label map of 8 bits has room for {NONE}")
    return names, frozenset(number for number, line in enumerate(lines) if line.startswith("*"))


def read_maps(
    labels: Sequence[Path],
    instances: Sequence[Path] | None,
    classes: Sequence[str],
    frame_size: tuple[int, int],
    size: tuple[int, int],
    *,
    coded: bool | None = None,
) -> Int32[Tensor, "2 t h w"]:
    """Label maps of consecutive frames, (2, T, *size): the class, -1 where there is none, and the instance, 0 for none.

    frame_size: (height, width) of the frames as they lie in their files; maps must have it too.
    coded: whether instances are class * 1000 + number, so that what is below 1000 is none; None: told by the values.
    Raises ValueError that names the file: no label map, another size, a class that there is not.
    """
    stack = []
    for frame, path in enumerate(labels):
        found = read_labels(path)
        _check_size(path, tuple(found.shape), frame_size)
        found = found.where(found != NONE, -1)
        if found.max() >= len(classes):
            raise ValueError(
                f"{path} holds the class {int(found.max())}; there are {len(classes)} classes, 0 to {len(classes) - 1}, and"
                " 255 for none: add the missing names or mend the map"
            )
        numbers = torch.zeros_like(found)
        if instances is not None:
            numbers = read_labels(instances[frame])
            _check_size(instances[frame], tuple(numbers.shape), frame_size)
            as_classes = bool((numbers == found)[found >= 0].all())  # so Cityscapes writes a frame without things
            if coded or (coded is None and (numbers.max() >= 1000 or as_classes)):
                numbers = numbers.where(numbers >= 1000, 0)
        stack.append(fit_labels(torch.stack([found, numbers]), size))
    return torch.stack(stack, dim=1)


def _check_size(path: Path, size: tuple[int, ...], frame_size: tuple[int, int]) -> None:
    if size != frame_size:
        raise ValueError(
            f"the map {path} is {size[1]}x{size[0]} and its frames are {frame_size[1]}x{frame_size[0]}: bring both to one"
            " size (label maps by nearest neighbour)"
        )


def _by_name(top: Path, prefix: str) -> dict[str, Path]:
    """The videos in a folder, by their places in it without the suffix of a video file. ValueError for two of one name."""
    named: dict[str, Path] = {}
    for path in sorted(find(top)):
        inside = path.relative_to(top)
        inside = inside.with_suffix("") if is_video(path) and path.is_file() else inside
        name = (Path(prefix) / inside).as_posix()
        if name in named:
            raise ValueError(
                f"{named[name]} and {path} have the same name, so their partners are not known: rename one"
            )
        named[name] = path
    return named
