"""When the frames of a video are shown, which of them are known, and where frames that are wanted lie between them.

Times are exact fractions of a second, from the first frame on: nothing drifts, whatever the length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from statistics import median

from jaxtyping import Float
from torch import Tensor, cat

from douga.video import cuts
from douga.video.io import picture_files, shown

TICK = Fraction(1, 1000)  # the coarsest clock of a usual container; its rounding is no change of speed


@dataclass(frozen=True)
class Survey:
    """What a look at every frame of a video found.

    keys: the frames that are known, by number from 0, and times: when they are shown. cut: for each key but the last, whether
    the next one belongs to another shot. frames: how many there are. end: when the last of them is shown, known or not.
    start: what the file's own clock shows at time 0. fps: how often frames are shown, where there is one every time.
    size: (height, width), px. planes: 3, or 4 with alpha. bits: 8 or 16.
    """

    keys: list[int]
    times: list[Fraction]
    cut: list[bool]
    frames: int
    end: Fraction
    start: Fraction
    fps: Fraction
    size: tuple[int, int]
    planes: int
    bits: int

    def known(self, path: Path) -> Iterator[Float[Tensor, "c h w"]]:
        """The known frames one after another, all with the same number of planes."""
        wanted = set(self.keys)
        for number, now in enumerate(shown(path)):
            if number in wanted:
                opaque = now.frame.new_ones(self.planes - len(now.frame), *now.frame.shape[1:])
                yield now.frame if not len(opaque) else cat((now.frame, opaque))

    def wanted(self, step: Fraction, near: Fraction = TICK) -> Iterator[list[Fraction]]:
        """Of the times 0, step, 2 step, ..., seconds, those from each key up to the next: how far they are on the way, from 0
        (the key itself, no farther than `near`) up to 1. The last list holds those from the last key up to the end: all 0.
        """
        near = min(near, step * 49 / 100)
        for now, then in pairwise(self.times):
            here = range(ceil((now - near) / step), ceil((then - near) / step))
            yield [Fraction(0) if k * step - now <= near else (k * step - now) / (then - now) for k in here]
        last = range(ceil((self.times[-1] - near) / step), floor((self.end + near) / step) + 1)
        yield [Fraction(0) for _ in last]


def survey(
    path: Path,
    *,
    cut: float | None = cuts.CUT,
    still: float | None = None,
    longest: int = 4,
    numbered: bool = False,
    told: Callable[[int], object] = lambda frames: None,
) -> Survey:
    """Look at every frame of a video once; memory grows by a few numbers for each.

    cut: the score above which a new shot begins (see `douga.video.cuts`); None: all is one shot.
    still: of 2 to `longest` frames that differ by no more than this, of 255, only the first is known; more than that are
    meant to stand still. None: all frames are known.
    numbered: the pictures of a folder are shown when the last number in their names says.
    told: called with the number of frames that were looked at.
    Raises ValueError or OSError as `shown` does, ValueError for a single frame and for names without such numbers.
    """
    if cut is not None and not cut > 1:
        raise ValueError(f"the threshold of cuts must be above 1, not {cut}")
    if still is not None and not 0 <= still <= 255:
        raise ValueError(f"frames that count as equal differ by 0 to 255, not by {still}")
    if longest < 2:
        raise ValueError(f"the longest run of equal frames that is filled has 2 frames or more, not {longest}")
    seconds: list[Fraction] = []
    runs: list[list[int]] = []
    changes: list[float] = []  # of each frame against the one before
    before = first = None
    planes, bits, average, size = 3, 8, Fraction(25), (0, 0)
    for number, now in enumerate(shown(path)):
        seen = cuts.look(now.frame)
        if before is not None:
            changes.append(cuts.change(before, seen))
        if first is not None and still is not None and cuts.still(first, seen, still):
            runs[-1].append(number)
        else:
            runs.append([number])
            first = seen
        before, average, size = seen, now.fps, (now.frame.shape[1], now.frame.shape[2])
        planes, bits = max(planes, len(now.frame)), max(bits, now.bits)
        seconds.append(now.seconds)
        told(number + 1)
    if len(seconds) < 2:
        raise ValueError(f"{path} has only one frame: there is nothing between it and the next")
    keys = [number for run in runs for number in (run[:1] if len(run) <= longest else run)]
    if numbered and path.is_dir():
        fps = Fraction(25)
        times = [Fraction(number, fps) for number in numbers(path)]
    else:
        times, fps = clock(seconds, average)
    scores = cuts.scores([changes[key - 1] for key in keys[1:]])
    return Survey(
        keys,
        [times[key] - times[0] for key in keys],
        [cut is not None and score > cut for score in scores],
        len(seconds),
        times[-1] - times[0],
        seconds[0],
        fps,
        size,
        planes,
        bits,
    )


def clock(seconds: Sequence[Fraction], average: Fraction) -> tuple[list[Fraction], Fraction]:
    """The times of frames from the first one on, s, and the rate at which they are shown.

    Where they lie on a regular clock, some missing perhaps, they are put exactly onto it: files round them, to ms often.
    Else the times are those of the file and the rate is `average`.
    """
    spaces = [later - earlier for earlier, later in pairwise(seconds)]
    if not spaces:
        return [Fraction(0)], average
    usual = median(spaces)
    single = [space for space in spaces if round(space / usual) == 1]
    usual = sum(single, Fraction(0)) / len(single)
    ticks = [0]
    for space in spaces:
        ticks.append(ticks[-1] + max(1, round(space / usual)))
    whole = seconds[-1] - seconds[0]
    # The file's own rate, unless it is half a frame wrong by the end.
    fps = average if abs(average * whole - ticks[-1]) < Fraction(1, 2) else (ticks[-1] / whole).limit_denominator(1001)
    times = [second - seconds[0] for second in seconds]
    if all(abs(time - tick / fps) <= max(TICK, 1 / fps / 20) for time, tick in zip(times, ticks, strict=True)):
        return [tick / fps for tick in ticks], fps
    return times, average


def numbers(folder: Path) -> list[int]:
    """The last number in the name of each picture of a folder. ValueError where one has none or two have the same."""
    found: dict[int, str] = {}
    for path in picture_files(folder):
        digits = re.findall("[0-9]+", path.stem)
        if not digits:
            raise ValueError(f"the name of {path} holds no number: which frame it is cannot be known")
        if int(digits[-1]) in found:
            raise ValueError(f"{found[int(digits[-1])]} and {path.name} in {folder} have the same number")
        found[int(digits[-1])] = path.name
    if list(found) != sorted(found):
        raise ValueError(f"the pictures in {folder} are of several sequences: give a folder of one")
    return list(found)
