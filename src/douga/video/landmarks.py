"""Maps to paint from, drawn from videos: the edges of a face, the pose of a person.

As in Wang et al. 2018, but found by MediaPipe, which is not installed by default (`pip install 'douga[maps]'`) and carries its
networks with it: the 68 points of a face that are usual, joined by curves, with Canny edges outside the face; a skeleton
with a colour for each limb. Points are (..., 2) float32, x first, in px.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from douga.video.io import frames as read_frames
from douga.video.io import from_uint8, to_uint8, write_video

Points = np.ndarray  # (points, 3): x and y in px, how surely it is seen, 0 to 1
Pixels = UInt8[np.ndarray, "h w 3"]

# Of the 468 points of MediaPipe's face mesh, those that come next to the usual 68. Left is the picture's left.
CURVES = (
    (127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356),  # jaw, ear to ear
    (70, 63, 105, 66, 107),  # left brow
    (336, 296, 334, 293, 300),  # right brow
    (168, 197, 195, 4),  # bridge of the nose
    (98, 97, 2, 326, 327),  # below the nose
)
RINGS = (
    (33, 160, 158, 133, 153, 144),  # left eye
    (362, 385, 387, 263, 373, 380),  # right eye
    (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),  # lips outside
    (78, 81, 13, 311, 308, 402, 14, 178),  # lips inside
)
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)

# Pairs of MediaPipe's 33 points of a body; 33 is the neck, between the shoulders. Here left is the person's left.
LIMBS = (
    *((33, 0), (0, 2), (2, 7), (0, 5), (5, 8)),  # neck, left and right half of the head
    *((33, 11), (11, 13), (13, 15), (15, 19), (33, 12), (12, 14), (14, 16), (16, 20)),  # arms and hands
    *((11, 23), (12, 24), (23, 24)),  # trunk
    *((23, 25), (25, 27), (27, 31), (24, 26), (26, 28), (28, 32)),  # legs and feet
)
SEEN = 0.5  # a limb is drawn where both its ends are seen as surely as this


@dataclass(frozen=True)
class Kind:
    what: str  # is looked for
    find: Callable[[Iterable[Pixels]], list[Points | None]]
    draw: Callable[[Pixels, Points], Pixels]


def draw(kind: str, video: Float[Tensor, "3 t h w"]) -> tuple[Float[Tensor, "3 t h w"], list[int]]:
    """The maps of a video, of its size, and the frames in which nothing was found.

    kind: "edges" (white on black) or "pose" (coloured on black). A frame in which nothing is found gets the points of the
    last one before it in which something is, at the beginning of the first one after it.
    Raises ValueError for an unknown kind, if nothing is found in any frame, or without MediaPipe.
    """
    pixels = list(to_uint8(video))
    points, held = _hold(_kind(kind).find(pixels), _kind(kind).what, "the video")
    drawn = np.stack([_kind(kind).draw(frame, seen) for frame, seen in zip(pixels, points, strict=True)])
    return from_uint8(drawn), held


def prepare(
    kind: str,
    video: Path,
    out: Path,
    name: str,
    *,
    start: int = 0,
    length: int | None = None,
    square: bool = False,
    told: Callable[[int], object] = lambda frames: None,
) -> tuple[int, list[int]]:
    """Write a video's frames to out/frames/NAME/0000.png, ... and its maps to out/maps/NAME/0000.png, ...

    kind: as `draw` takes it. start, length: the first frame and how many; by default all. square: cut the same square
    around what is found out of every frame. told: called with the number of frames that were looked at.
    Returns the number of frames and those in which nothing was found (see `draw`). All or nothing; memory does not grow
    with the length. Raises ValueError as `draw` does, FileExistsError if NAME is there, or as `douga.video.io.frames`.
    """
    chosen = _kind(kind)
    places = {part: out / part / name for part in ("frames", "maps")}
    for place in places.values():
        if place.exists():
            raise FileExistsError(f"{place} is already there: choose another output or take it away")

    def pixels() -> Iterator[Pixels]:
        for _, frame in read_frames(video, start=start, length=length):
            yield to_uint8(frame[:, None])[0]

    def counted() -> Iterator[Pixels]:
        for number, frame in enumerate(pixels()):
            yield frame
            told(number + 1)

    found = chosen.find(counted())
    points, held = _hold(found, chosen.what, str(video))
    top = left = 0
    height, width = next(pixels()).shape[:2]
    if square:
        top, left, height = _square([seen for seen in found if seen is not None], height, width)
        width = height

    def cut(picture: Pixels) -> Tensor:
        return from_uint8(picture[None, top : top + height, left : left + width].copy())[:, 0]

    made = [folder for folder in (out, *out.parents) if not folder.exists()]  # the innermost first
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".douga-", dir=out) as draft:
            write_video(Path(draft) / "frames", map(cut, pixels()), 25)
            drawn = (chosen.draw(frame, seen) for frame, seen in zip(pixels(), points, strict=True))
            write_video(Path(draft) / "maps", map(cut, drawn), 25)
            for part, place in places.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(draft) / part, place)
    except BaseException:
        for folder in made:
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        raise
    return len(points), held


def find_faces(frames: Iterable[Pixels]) -> list[Points | None]:
    """(468, 3): the mesh of one face in each frame; None where there is none, or one of a size of its own.

    Of a small face the network sometimes takes much more for the face: a mesh counts if it is at most 1.4 times as large
    as half of those in the 51 frames around it.
    """
    with _mediapipe().face_mesh.FaceMesh(max_num_faces=1) as network:
        found: list[Points | None] = []
        for frame in frames:
            faces = network.process(np.ascontiguousarray(frame)).multi_face_landmarks
            found.append(_points(faces[0].landmark, frame) if faces else None)
    sizes = [np.nan if face is None else float(np.ptp(face[:, 1])) for face in found]
    return [
        face if face is not None and sizes[t] <= 1.4 * np.nanmedian(sizes[max(0, t - 25) : t + 26]) else None
        for t, face in enumerate(found)
    ]


def find_bodies(frames: Iterable[Pixels]) -> list[Points | None]:
    """(34, 3): the points of one person in each frame, the last one the neck; None where there is nobody."""
    found: list[Points | None] = []
    with _mediapipe().pose.Pose() as network:
        for frame in frames:
            body = network.process(np.ascontiguousarray(frame)).pose_landmarks
            if body is None:
                found.append(None)
                continue
            points = _points(body.landmark, frame)
            neck = np.append(points[11:13, :2].mean(0), points[11:13, 2].min()).astype(np.float32)
            found.append(np.concatenate([points, neck[None]]))
    return found


def draw_edges(frame: Pixels, points: Points) -> Pixels:
    """The lines of the face, and what else Canny finds outside of it; 0 or 255."""
    height, width = frame.shape[:2]
    grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (0, 0), max(1.0, min(height, width) / 256))
    drawn = cv2.Canny(grey, 40, 100)
    face = points[:, :2]
    # A little more than the face, whose own border would stand beside the line of the jaw.
    middle = face[list(OVAL)].mean(0)
    hull = cv2.convexHull((middle + 1.06 * (face[list(OVAL)] - middle)).round().astype(np.int32))
    cv2.fillPoly(drawn, [hull], (0,))
    for numbers, closed in (*((curve, False) for curve in CURVES), *((ring, True) for ring in RINGS)):
        line = _curve(face[list(numbers)], closed=closed).round().astype(np.int32)
        cv2.polylines(drawn, [line], closed, (255,), max(1, round(min(height, width) / 256)))
    return np.repeat(drawn[..., None], 3, axis=2).astype(np.uint8)


def draw_pose(frame: Pixels, points: Points) -> Pixels:
    """The limbs of which both ends are seen, each in a colour of its own."""
    drawn = np.zeros_like(frame)
    thick = max(2, round(min(frame.shape[:2]) / 80))
    for number, (one, other) in enumerate(LIMBS):
        if min(points[one, 2], points[other, 2]) < SEEN:
            continue
        ends = [(round(float(x)), round(float(y))) for x, y in points[[one, other], :2]]
        cv2.line(drawn, ends[0], ends[1], _colour(number), thick, cv2.LINE_AA)
    return drawn


KINDS = {"edges": Kind("face", find_faces, draw_edges), "pose": Kind("person", find_bodies, draw_pose)}


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise ValueError(f"unknown kind of maps {name!r} (there are: {', '.join(KINDS)})")
    return KINDS[name]


def _mediapipe() -> Any:
    try:
        return import_module("mediapipe").solutions
    except (ImportError, AttributeError) as error:  # later versions have no `solutions`
        raise ValueError("edges and poses need MediaPipe 0.10.14: pip install 'douga[maps]'") from error


def _points(landmarks: Any, frame: Pixels) -> Points:
    height, width = frame.shape[:2]
    return np.array([(p.x * width, p.y * height, p.visibility) for p in landmarks], dtype=np.float32)


def _hold(found: Sequence[Points | None], what: str, where: str) -> tuple[list[Points], list[int]]:
    last = next((points for points in found if points is not None), None)
    if last is None:
        raise ValueError(
            f"no {what} was found in any of the {len(found)} frames of {where}: it must be seen clearly and be large enough"
        )
    return [last := last if seen is None else seen for seen in found], [
        number for number, seen in enumerate(found) if seen is None
    ]


def _square(found: Sequence[Points], height: int, width: int) -> tuple[int, int, int]:
    """Top, left and side of a square around all points, 1.8 times as large as they need, as far as there is room."""
    points = np.concatenate([seen[seen[:, 2] >= SEEN] if seen[:, 2].any() else seen for seen in found])[:, :2]
    low, high = points.min(0), points.max(0)
    side = min(height, width, round(1.8 * float((high - low).max())))
    x, y = (low + high) / 2 - side / 2
    return min(max(0, round(float(y))), height - side), min(max(0, round(float(x))), width - side), side


def _curve(points: np.ndarray, *, closed: bool) -> np.ndarray:
    """(N, 2) to (M, 2): a Catmull-Rom spline, which goes through all points."""
    around = np.concatenate([points[-1:], points, points[:2]] if closed else [points[:1], points, points[-1:]])
    t = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    a, b, c, d = around[:-3], around[1:-2], around[2:-1], around[3:]
    pieces = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))  # (8, segments, 2)
    return np.concatenate([pieces.transpose(1, 0, 2).reshape(-1, 2), points[:1] if closed else points[-1:]])


def _colour(number: int) -> tuple[int, int, int]:
    """Colours of full strength, far apart for limbs that follow one another."""
    hue = 9 * number % len(LIMBS) / len(LIMBS)
    red, green, blue = (abs((6 * hue + shift) % 6 - 3) - 1 for shift in (0, 4, 2))
    return round(255 * min(max(red, 0), 1)), round(255 * min(max(green, 0), 1)), round(255 * min(max(blue, 0), 1))
