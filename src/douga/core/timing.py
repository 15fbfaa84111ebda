"""Easing: which share of the way between two key frames has been gone at which share of the time between them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

Ease = str | list[list[float]]  # a name, or the points [time, way] of a curve

EASES = "linear, in, out, in-out, hold:F with F from 0 to below 1, or a .json file of [time, way] points"


def read_ease(given: str | Path | Sequence[Sequence[float]], folder: Path | None = None) -> Ease:
    """What `eased` takes: a name as it is, of a file FILE.json its points. Points themselves are checked too.

    At the share s of the time, linear: s. in: s^3. out: 1 - (1 - s)^3. in-out: 4 s^3 up to the half, 1 - 4 (1 - s)^3 after it.
    hold:F: 0 for the share F of the time, then linear. A file: a list of [time, way] points, from [0, 0] to [1, 1], the time
    growing and the way never decreasing, joined by straight lines.
    folder: where a file is looked for. Raises ValueError for anything else, OSError for a file that cannot be read.
    """
    if not isinstance(given, (str, Path)):
        return _points(given, "the ease")
    name = str(given)
    if name in ("linear", "in", "out", "in-out"):
        return name
    if name.startswith("hold:"):
        try:
            held = float(name.removeprefix("hold:"))
        except ValueError:
            held = -1.0
        if not 0 <= held < 1:
            raise ValueError(f"hold:F takes a share of the time from 0 to below 1, like hold:0.3, not {name!r}")
        return name
    if not name.lower().endswith(".json"):
        raise ValueError(f"unknown ease {name!r} (there are: {EASES})")
    path = (folder or Path()) / Path(name).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} to read an ease from")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    return _points(found, str(path))


def _points(found: Any, name: str) -> list[list[float]]:
    """The points of a curve, checked. `name`: what holds them."""
    wanted = f"{name} must be a list of two or more [time, way] points, from [0, 0] to [1, 1]"
    if not isinstance(found, (list, tuple)) or len(found) < 2:
        raise ValueError(wanted)
    for point in found:
        if not isinstance(point, (list, tuple)) or len(point) != 2:
            raise ValueError(f"{wanted}, not {point!r}")
        if not all(isinstance(x, (int, float)) and not isinstance(x, bool) and isfinite(x) for x in point):
            raise ValueError(f"{wanted}, not {point!r}")
    points = [[float(time), float(way)] for time, way in found]
    if points[0] != [0, 0] or points[-1] != [1, 1]:
        raise ValueError(f"{wanted}; it goes from {points[0]} to {points[-1]}")
    for (time_0, way_0), (time_1, way_1) in pairwise(points):
        if time_1 <= time_0 or way_1 < way_0:
            raise ValueError(
                f"{name} goes back: after [{time_0:g}, {way_0:g}] comes [{time_1:g}, {way_1:g}], but time must grow"
                " and the way must never decrease"
            )
    return points


def eased(share: float, ease: Ease) -> float:
    """The share of the way at a share of the time, both 0 to 1. ease: what `read_ease` gives."""
    if not isinstance(ease, str):
        index = min(bisect_right(ease, share, key=lambda point: point[0]), len(ease) - 1)
        (time_0, way_0), (time_1, way_1) = ease[index - 1], ease[index]
        return way_0 + (way_1 - way_0) * (share - time_0) / (time_1 - time_0)
    if ease.startswith("hold:"):
        held = float(ease.removeprefix("hold:"))
        return max(0.0, (share - held) / (1 - held))
    if ease == "in":
        return share**3
    if ease == "out":
        return 1 - (1 - share) ** 3
    if ease == "in-out":
        return 4 * share**3 if share < 0.5 else 1 - 4 * (1 - share) ** 3
    return share
