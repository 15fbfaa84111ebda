"""Any folder of videos, of folders of pictures (each one a clip), or of both, at any depth."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import mode
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from douga.data.loader import cache_folder
from douga.video.io import IMAGE_SUFFIXES, is_video, read_video


class Folder:
    """Source. Each video file, and each folder that holds pictures directly, is a video; hidden names are left out.

    Splits: if there are sub-folders named train, validation or test, they are the splits, and nothing else is read.
    Otherwise the videos are put in the order of a hash of their names: the first tenth (rounded) is for test, the next
    one for validation, the rest for training; so fewer than 5 videos are all for training. Both ways, validation and
    test may be empty, train never is.

    damaged: (name, reason) of each video of the split that is left out, because it cannot be read whole.
    fps: the one that most videos have. stamp: changes with the place, size or date of any file of the split.
    Raises FileNotFoundError if there are no videos, ValueError for an unknown split or if every video for training is
    damaged. See `douga.core.contracts.Source`.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    licence: ClassVar[str] = "whatever holds for your videos"
    endless: ClassVar[bool] = False

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"folder has the splits {', '.join(self.splits)}, not {split!r}")
        if root is None or not root.is_dir():
            raise FileNotFoundError(f"there is no folder {root}: name a folder of videos or of frame folders")
        named = any((root / name).is_dir() for name in self.splits)
        top = root / split if named else root
        paths = {path.relative_to(root).as_posix(): path for path in find(top)}
        if not paths and (split == "train" or not named):
            raise FileNotFoundError(
                f"there are no videos and no pictures in the folder {top}, nor in folders inside it"
            )
        names = sorted(paths)
        if not named:
            names = share(names, split)
        known, self.damaged, self.stamp = measure({name: paths[name] for name in names})
        if split == "train" and not known:
            raise ValueError(f"every video in {top} is damaged; the first one: {self.damaged[0][1]}")
        self.names = list(known)
        self.lengths = [frames for frames, _ in known.values()]
        self.fps = mode(fps for _, fps in known.values()) if known else 25.0
        self.paths = [paths[name] for name in known]
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        return read_video(self.paths[index], self.size, start, length)[0]


def find(top: Path) -> list[Path]:
    """Every video file, and every folder that holds pictures directly, in `top` at any depth; hidden names are left out."""
    found = []
    for place, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [name for name in files if not name.startswith(".")]
        found += [Path(place, name) for name in files if is_video(name)]
        if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in files):
            found.append(Path(place))
    return found


def share(names: Iterable[str], split: str) -> list[str]:
    """The names of one split, sorted: of all in the order of a hash, the first tenth (rounded) is for test, the next for
    validation, the rest for train.
    """
    shuffled = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    tenth = (len(shuffled) + 5) // 10
    first, last = {"test": (0, tenth), "validation": (tenth, 2 * tenth), "train": (2 * tenth, None)}[split]
    return sorted(shuffled[first:last])


def measure(videos: Mapping[str, Path]) -> tuple[dict[str, tuple[int, float]], list[tuple[str, str]], str]:
    """Count frames, by decoding: containers may say anything.

    Returns (frames, fps) by name, (name, reason) of those that cannot be read whole, and a stamp of all that was read.
    What was counted is kept beside the decoded videos, so an unchanged file is decoded once in its life.
    """
    memory = cache_folder() / "lengths.json"
    kept: dict[str, tuple[int, float]] = {}
    with suppress(OSError, ValueError):  # none yet, or damaged: counted anew
        kept = {mark: (int(frames), float(fps)) for mark, (frames, fps) in json.loads(memory.read_bytes()).items()}
    before = len(kept)
    known, damaged, marks = {}, [], []
    for name, path in videos.items():
        try:
            pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else []
            stats = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in pictures or [path.resolve()]]
            mark = hashlib.sha256(json.dumps([str(path.resolve()), stats]).encode()).hexdigest()
            if mark not in kept:
                frames, fps = read_video(path, (8, 8))  # small, for the sake of long videos
                kept[mark] = frames.shape[1], fps
            known[name] = kept[mark]
            marks.append(mark)
        except (ValueError, OSError) as error:
            damaged.append((name, str(error)))
    if len(kept) > before:
        beside = memory.with_suffix(f".{os.getpid()}.partial")
        with suppress(OSError):  # then it is counted again next time
            memory.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(kept))
            os.replace(beside, memory)
    return known, damaged, hashlib.sha256("".join(marks).encode()).hexdigest()
