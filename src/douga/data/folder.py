"""Any folder of videos, of folders of pictures (each one a clip), or of both, at any depth."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
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

    Splits: if there are sub-folders named train, validation or test, they are the splits (one that is not there is
    empty). Otherwise the videos are put in the order of a hash of their names; a tenth of them (rounded) is for test, a
    tenth for validation, the rest for training. So fewer than 5 videos are all for training, and the split is the same
    on every machine.

    damaged: (name, reason) of each video that is left out because it cannot be read whole.
    fps: the one that most videos have. stamp: changes with the place, size or date of any file of the split.
    Raises FileNotFoundError if there is no folder or nothing in it, ValueError for an unknown split or if every video of
    the split is damaged. See `douga.core.contracts.Source`.
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
        paths = {}
        for place, folders, files in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            files = [name for name in files if not name.startswith(".")]
            found = [Path(place) / name for name in files if is_video(name)]
            if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in files):
                found.append(Path(place))
            for path in found:
                paths[root.name if path == root else path.relative_to(root).as_posix()] = path
        if not paths and not named:
            raise FileNotFoundError(f"the folder {root} holds no videos and no pictures")
        names = sorted(paths)
        if not named:
            names.sort(key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())
            tenth = (len(names) + 5) // 10
            cuts = {"test": (0, tenth), "validation": (tenth, 2 * tenth), "train": (2 * tenth, len(names))}
            names = sorted(names[slice(*cuts[split])])
        lengths, self.damaged, self.stamp = measure(paths[name] for name in names)
        self.damaged = [(name, self.damaged[paths[name]]) for name in names if paths[name] in self.damaged]
