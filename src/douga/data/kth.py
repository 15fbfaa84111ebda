"""KTH actions: 25 persons, 6 actions, 4 scenes, 160x120 at 25 fps; grey pictures, kept as RGB.

Schuldt, Laptev, Caputo, "Recognizing Human Actions: A Local SVM Approach", ICPR 2004. Files keep their official names,
`personNN_action_dK_uncomp.avi`, beside `00sequences.txt`, which lists the frame ranges in which somebody acts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from douga.data.folder import measure
from douga.video.io import read_video

ORIGIN = "the official page of the KTH action database, https://www.csc.kth.se/cvap/actions/"
PERSONS = {"train": range(1, 16), "validation": range(16, 17), "test": range(17, 26)}
VIDEOS = 599  # of 600: person13_handclapping_d3 was never published


class Kth:
    """Source. A video is one of the official frame ranges. Splits by person: train 1-15, validation 16, test 17-25.

    `root` is searched at any depth; where a video is there as .avi and as .mp4, the .avi is taken. Pictures are cut to
    the aspect of `size` around their centre and resized. A range that ends behind the last frame ends there.

    damaged: (name, reason) of each video or range of the split that is left out.
    complete, title: whether all 599 videos are there and this split can be read; "kth", or "kth" and the number of
    videos, so that a score on a part is never called one on KTH.
    stamp: changes with the place, size or date of any file of the split.
    Raises FileNotFoundError if there are no videos or no list of ranges, ValueError for an unknown split, a list
    without ranges, or if every video for training is damaged. See `douga.core.contracts.Source`.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(PERSONS)
    licence: ClassVar[str] = "free for non-commercial research; credit Schuldt, Laptev, Caputo, 2004"
    endless: ClassVar[bool] = False
    fps = 25.0

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"kth has the splits {', '.join(self.splits)}, not {split!r}")
        files: dict[str, Path] = {}
        found = root.rglob("person*_uncomp.*") if root else ()
        for path in sorted(found, key=lambda path: (path.suffix, path)):  # .avi before .mp4
            if re.fullmatch(r"person\d\d_[a-z]+_d\d_uncomp\.(avi|mp4)", path.name):
                files.setdefault(path.stem.removesuffix("_uncomp"), path)
        if root is None or not files:
            raise FileNotFoundError(
                f"no KTH videos (personNN_action_dK_uncomp.avi) in {root or 'no folder'}; they come from {ORIGIN}"
            )
        listing = next(iter(sorted(root.rglob("00sequences.txt"))), None)
        if listing is None:
            raise FileNotFoundError(f"no list of frame ranges, 00sequences.txt, in {root}; it comes from {ORIGIN}")
        rows = re.findall(r"^\s*(person\d+_[a-z]+_d\d)(.*)", listing.read_text(errors="replace"), re.MULTILINE)
        ranges = {name: re.findall(r"(\d+)\s*-\s*(\d+)", rest) for name, rest in rows}
        if not any(ranges.values()):
            raise ValueError(f"{listing} holds no frame ranges (such as 1-95, 96-185); take the file of {ORIGIN}")

        wanted = {name: path for name, path in sorted(files.items()) if int(name[6:8]) in PERSONS[split]}
        known, self.damaged, self.stamp = measure(wanted)
        videos = len({name for name in files if ranges.get(name)} - {name for name, _ in self.damaged})
        self.complete = videos == VIDEOS
        self.title = "kth" if self.complete else f"kth{videos}"
        self.names: list[str] = []
        self.lengths: list[int] = []
        self._places: list[tuple[Path, int]] = []  # file, first frame
        for name, (frames, _) in known.items():
            if not ranges.get(name):
                self.damaged.append((name, f"{listing.name} gives no frame ranges for it"))
            for first, last in dict.fromkeys((int(first), int(last)) for first, last in ranges.get(name, [])):
                if 1 <= first <= min(last, frames):
                    self.names.append(f"{name}_{first}-{last}")
                    self.lengths.append(min(last, frames) - first + 1)
                    self._places.append((wanted[name], first - 1))
                else:
                    self.damaged.append((f"{name}_{first}-{last}", f"the video has the frames 1-{frames}"))
        if split == "train" and wanted and not self.names:
            raise ValueError(f"every KTH video for training in {root} is damaged; the first one: {self.damaged[0][1]}")
        self.size = size
        self._decoded: tuple[Path, Tensor] | None = None  # the last file, as its ranges are read one after another

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        path, first = self._places[index]
        assert start >= 0 and length > 0 and start + length <= self.lengths[index]
        if self._decoded is None or self._decoded[0] != path:
            self._decoded = path, read_video(path, self.size)[0]
        return self._decoded[1][:, first + start : first + start + length].clone()
