"""UCF101: 101 kinds of human action from YouTube, 320x240 in colour, mostly at 25 fps.

Soomro, Zamir, Shah, "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild", CRCV-TR-12-01, 2012. Files
keep their official names, `v_Action_gNN_cNN.avi`, beside the lists of the first official split.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from douga.data.folder import measure
from douga.video.io import read_video

ORIGIN = "https://www.crcv.ucf.edu/data/UCF101/UCF101.rar"
LISTS_ORIGIN = "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip"
VIDEOS = 13_320


class Ucf101:
    """Source. Splits as in Li, Roblek, Tagliasacchi 2019: test is testlist01, validation 5% of trainlist01, train the rest.

    Which 5% they drew is not known; here it is the first 5% in the order of a hash of the names, whichever videos are
    there. As theirs, it shares the groups gNN (one person or place) with train, but no video. `root` is searched at any
    depth; names that differ in capitals alone are the same (lists and archives disagree on HandstandPushups). Pictures
    are cut to the aspect of `size` around their centre and resized.

    damaged: (name, reason) of each video of the split that cannot be read whole, and of each one that is on no list.
    complete, title: whether all 13,320 videos are there and this split can be read; "ucf101", or "ucf101-" and the number
    of videos, so that a score on a part is never called one on UCF101.
    stamp: changes with the place, size or date of any file of the split.
    Raises FileNotFoundError if there are no videos or no lists, ValueError for an unknown split, a list without names, or
    if every video for training is damaged. See `douga.core.contracts.Source`.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    licence: ClassVar[str] = "for research; the videos are their makers'; credit Soomro, Zamir, Shah, 2012"
    endless: ClassVar[bool] = False
    fps = 25.0

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"ucf101 has the splits {', '.join(self.splits)}, not {split!r}")
        files: dict[str, Path] = {}
        for path in sorted(root.rglob("v_*.avi")) if root else ():
            if re.fullmatch(r"v_[A-Za-z]+_g\d\d_c\d\d", path.stem):
                files.setdefault(path.stem.casefold(), path)
        if root is None or not files:
            raise FileNotFoundError(
                f"no UCF101 videos (v_Action_gNN_cNN.avi) in {root or 'no folder'}; they come from {ORIGIN}"
            )
        listed: dict[str, list[str]] = {}
        for name in ("trainlist01.txt", "testlist01.txt"):
            listing = next(iter(sorted(root.rglob(name))), None)
            if listing is None:
                raise FileNotFoundError(f"no list of videos, {name}, in {root}; it comes from {LISTS_ORIGIN}")
            listed[name] = re.findall(r"\b(v_[A-Za-z]+_g\d\d_c\d\d)\.avi", listing.read_text(errors="replace"))
            if not listed[name]:
                raise ValueError(f"{listing} names no videos (v_Action_gNN_cNN.avi); take the file of {LISTS_ORIGIN}")
        learned, tested = listed.values()
        learned.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        twentieth = round(len(learned) / 20)
        names = {"train": learned[twentieth:], "validation": learned[:twentieth], "test": tested}[split]

        wanted = {name: files[name.casefold()] for name in sorted(names) if name.casefold() in files}
        known, self.damaged, self.stamp = measure(wanted)
        official = {name.casefold() for name in (*learned, *tested)} & files.keys()
        videos = len(official) - len(self.damaged)
        self.damaged += [(files[name].stem, "no list names it") for name in sorted(files.keys() - official)]
        if split == "train" and wanted and not known:
            raise ValueError(f"every UCF101 video for training in {root} is damaged; the first: {self.damaged[0][1]}")
        self.complete = videos == VIDEOS
        self.title = "ucf101" if self.complete else f"ucf101-{videos}"
        self.names = list(known)
        self.lengths = [frames for frames, _ in known.values()]
        self.paths = [wanted[name] for name in known]
        self.size = size

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        return read_video(self.paths[index], self.size, start, length)[0]
