"""Driving from a rendered map: lanes, kerbs and boxes of other cars as the front camera would see them, and what it saw.

Pieces of 30 frames, 640x360 at 30 fps, in which a coloured rendering of the road's map and the things on it goes with each
frame. Files are video files of equal names in maps/ and frames/, av_SCENE_N.mp4, where N counts the pieces of one drive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

from douga.data.pairs import Pairs


class Driving(Pairs):
    """Pairs of pictures, split by drive, as pieces of one drive show one street: of all drives in the order of a hash of
    their names the first third (rounded up) is for test, the rest for train. One drive alone is for train. See `Pairs`.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    licence: ClassVar[str] = "Apache-2.0"
    advice: ClassVar[str] = "put camera videos (av_SCENE_N.mp4) into frames/ and the rendered maps into maps/"

    def share(self, names: Sequence[str], split: str) -> list[str]:
        drives = sorted({name.rpartition("_")[0] for name in names}, key=lambda n: hashlib.sha256(n.encode()).digest())
        held_out = set(drives[: (len(drives) + 2) // 3]) if len(drives) > 1 else set()
        return [name for name in names if (name.rpartition("_")[0] in held_out) == (split == "test")]
