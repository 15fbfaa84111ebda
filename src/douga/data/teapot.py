"""Newell's teapot, drawn: 1, 2 or 6 known factors move it, or three teapots move at once and hide each other.

The surface is that of Martin Newell (Utah, 1975) as it is passed on: 28 bicubic Bezier patches, flattened as Jim Blinn
liked it, and 4 more for a bottom by Frank Crow. The numbers are free of rights. The well-known listing has 306 control points:
12 of them stand twice, where bottom and body meet, and 4 beside the knob are in no patch, so 290 remain.

A teapot has 6 factors: x, y, z, yaw, pitch, roll. x (right) and y (up) say where its centre appears, in halves of the picture's
short side from the middle; z is towards the viewer in the same unit, at most 0, and makes it smaller; it is turned by yaw
(around its own axis; at 0 the spout points right), then pitch (positive: seen from above), then roll (anti-clockwise), in
radians. At z = 0 and yaw 0 it is `WIDTH` wide from handle to spout: 0.28 of the short side.

A video is a path between two ends: straight in x, y and z, along the shorter arc in the angles, at equal steps. What is free:

| source | free | x, y | z | yaw | pitch, roll |
|---|---|---|---|---|---|
| teapot-1dof | x | within 0.62 | 0 | 0 | 0.35, 0 |
| teapot-2dof | x, yaw | within 0.62 | 0 | the full circle | 0.35, 0 |
| teapot-6dof | all | within 0.62 | -1.2 to 0 | the full circle | within 0.6 |
| teapot-several | x, y of 3 teapots | within 0.62 | 0, -0.6, -1.2 | 0 | 0.35, 0 |

All that is free moves in every video, in each teapot, by a small or a large distance between the two ends:

| distance | centre, in widths of the teapot at its mean depth | z | yaw | pitch, roll |
|---|---|---|---|---|
| small | 0.05 to 0.5 | up to 0.15 | up to pi / 8 | up to pi / 8 |
| large | 1.02 to 2.2 | 0.4 to 1 | pi / 4 to 0.9 pi | pi / 4 to 1.1 |

In `train` and `validation` every second video, from the first on, has a small distance, the others a large one. `test-small` has
small ones only, `test-large` and `test-long` large ones only, and in `test` each factor changes by anything between the least
small and the most large. A video has 3 frames (first, true middle, last), in `test-long` 9. It is a function of (split, index)
alone and does not depend on the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

WIDTH = 0.56  # of a teapot at z = 0 and yaw 0, from handle to spout; the unit is half the picture's short side
EYE = 4.0  # from the viewer to the plane z = 0
SAMPLES = 3  # to a side of a pixel
PALETTE = (
    (0.95, 0.75, 0.25),
    (0.3, 0.6, 1.0),
    (0.95, 0.35, 0.3),
    (0.4, 0.85, 0.4),
)  # RGB in [0, 1] of the teapots, in order
GREYS = ((0.8,) * 3, (0.6,) * 3, (0.4,) * 3)
SKY = (-0.8, -0.5)  # the grey background at the top and at the bottom edge
AMBIENT, DIFFUSE, SPECULAR, SHININESS = 0.3, 0.7, 0.5, 30
LIGHT = np.array([-0.48, 0.64, 0.6], np.float32)  # the direction towards it, of length 1

# A row of control points of a turned part: radius, the coordinate that rounds its quarter circle, height.
BODY = (
    (1.4, 0.784, 2.4), (1.3375, 0.749, 2.53125), (1.4375, 0.805, 2.53125), (1.5, 0.84, 2.4),  # the rim
    (1.75, 0.98, 1.875), (2, 1.12, 1.35), (2, 1.12, 0.9), (2, 1.12, 0.45), (1.5, 0.84, 0.225), (1.5, 0.84, 0.15),
    (1.5, 0.84, 0.075), (1.425, 0.798, 0), (0, 0, 0),  # the bottom
)  # fmt: skip
LID = (
    (0, 0, 3.15), (0.8, 0.45, 3.15), (0, 0, 2.85), (0.2, 0.112, 2.7),  # the knob
    (0.4, 0.224, 2.55), (1.3, 0.728, 2.55), (1.3, 0.728, 2.4),
)  # fmt: skip
# A row of one half of a bent part: x and height on the inner side of the bend, x and height on the outer one, half the width.
HANDLE = (
    (-1.6, 2.025, -1.5, 2.25, 0.3), (-2.3, 2.025, -2.5, 2.25, 0.3), (-2.7, 2.025, -3, 2.25, 0.3), (-2.7, 1.8, -3, 1.8, 0.3),
    (-2.7, 1.575, -3, 1.35, 0.3), (-2.5, 1.125, -2.65, 0.9375, 0.3), (-2, 0.9, -1.9, 0.6, 0.3),
)  # fmt: skip
SPOUT = (
    (1.7, 1.425, 1.7, 0.6, 0.66), (2.6, 1.425, 3.1, 0.825, 0.66), (2.3, 2.1, 2.4, 2.025, 0.25), (2.7, 2.4, 3.3, 2.4, 0.25),
    (2.8, 2.475, 3.525, 2.49375, 0.25), (2.9, 2.475, 3.45, 2.5125, 0.15), (2.8, 2.4, 3.2, 2.4, 0.15),
)  # fmt: skip


def patches() -> np.ndarray:
    """(32, 4, 4, 3) float64 control points in Newell's coordinates: x towards the spout, y away from the viewer, z up.

    Body 16 (rim, upper, lower, bottom), lid 8, handle 4, spout 4; which side of a patch is outside differs.
    """
    parts = []
    for profile in (BODY, LID):
        quarter = np.array([[(r, 0, z), (r, -k, z), (k, -r, z), (0, -r, z)] for r, k, z in profile])
        quarters = [quarter]
        while len(quarters) < 4:
            quarters.append(quarters[-1] @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]))
        parts += [part[i : i + 4] for i in range(0, len(profile) - 3, 3) for part in quarters]
    for bend in (HANDLE, SPOUT):
        half = np.array([[(x, 0, z), (x, -y, z), (x2, -y, z2), (x2, 0, z2)] for x, z, x2, z2, y in bend])
        parts += [part[i : i + 4] for i in (0, 3) for part in (half, half * (1, -1, 1))]
    return np.stack(parts)


def _basis(count: int, *, ends: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(count, 4) cubic Bernstein polynomials and their slopes in the middles of equal parts of [0, 1], or from end to end."""
    t = (np.linspace(0, 1, count) if ends else (np.arange(count) + 0.5) / count)[:, None]
    s = 1 - t
    slopes = np.hstack([-3 * s * s, 3 * s * s - 6 * s * t, 6 * s * t - 3 * t * t, 3 * t * t])
    return np.hstack([s**3, 3 * s * s * t, 3 * s * t * t, t**3]), slopes


@cache
def _diced(short_side: int) -> tuple[np.ndarray, np.ndarray]:
    """(3, P) points of the surface and (P, 3) normals of length 1, both float32, for pictures of this short side.

    x right, y up, z towards the viewer, from the centre, in the unit of `WIDTH`. Rows of points, and the points within a
    row, are so close that at z = 0 every whole sample (a square) which the surface covers holds a point: no pinholes.
    """
    control = patches()
    curve, slope = _basis(65, ends=True)
    surface = np.einsum("ui,vj,pijc->puvc", curve, curve, control).reshape(-1, 3)
    low, high = surface.min(0), surface.max(0)
    unit = WIDTH / (high[0] - low[0])
    control = ((control - (low + high) / 2) * unit)[..., [0, 2, 1]] * (1, 1, -1)
    # The covering radius of a grid of squares is 0.71 of their side, and half a sample is allowed; the near side looks larger.
    spacing = 0.68 * 2 / (short_side * SAMPLES) * (1 - WIDTH / 2 / EYE)
    points, normals = [], []
    for patch in control:
        down = np.linalg.norm(np.einsum("ui,vj,ijc->uvc", slope, curve, patch), axis=-1).max()
        for across, onward in zip(*_basis(int(np.ceil(down / spacing))), strict=True):
            row, turned = (np.tensordot(weights, patch, 1) for weights in (across, onward))  # (4, 3) each
            count = int(np.ceil(np.linalg.norm(slope @ row, axis=-1).max() / spacing))
            here, along = _basis(max(count, 1))
            points.append(here @ row)
            normals.append(np.cross(here @ turned, along @ row))
    normal = np.concatenate(normals)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.concatenate(points).T.astype(np.float32).copy(), normal.astype(np.float32)


def width_px(size: tuple[int, int]) -> float:
    """From handle to spout at z = 0 and yaw 0, in a picture of `size` (height, width)."""
    return WIDTH / 2 * min(size)


def background(size: tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """What is seen where no teapot is: (3, H, W) float32 in [-1, 1], grey, a little lighter towards the bottom."""
    down = (torch.arange(size[0]) + 0.5) / size[0]
    return (SKY[0] + (SKY[1] - SKY[0]) * down)[:, None].expand(3, *size).contiguous()


def render(
    factors: np.ndarray, size: tuple[int, int], *, colours: Sequence[Sequence[float]] = PALETTE
) -> Float[Tensor, "n 3 h w"]:
    """(N, 3, H, W) float32 in [-1, 1], `SAMPLES` x `SAMPLES` samples to a pixel; a picture does not depend on its neighbours.

    factors: (N, objects, 6), see the top of this file. colours: RGB in [0, 1], one for each object or more; `GREYS` makes
    the three channels equal. Raises ValueError for factors of another shape, z above 0, or too few colours.
    """
    factors = np.asarray(factors, np.float64)
    if factors.ndim != 3 or factors.shape[2] != 6:
        raise ValueError(f"factors must be (pictures, objects, 6), not {factors.shape}")
    if not (factors[..., 2] <= 0).all():
        raise ValueError(f"z must be at most 0, the nearest plane; found {factors[..., 2].max():g}")
    if len(colours) < factors.shape[1]:
        raise ValueError(f"{factors.shape[1]} objects need as many colours, not {len(colours)}")
    pictures = torch.empty(len(factors), 3, *size)
    behind = background(size).numpy()
    for picture, poses in zip(pictures, factors, strict=True):
        _draw(picture.numpy(), poses, behind, np.array(colours, np.float32))
    return pictures


def _draw(picture: np.ndarray, poses: np.ndarray, behind: np.ndarray, colours: np.ndarray) -> None:
    """Fill `picture` (3, H, W). One at a time, as its points then stay in the processor's cache."""
    _, height, width = picture.shape
    points, normals = _diced(min(height, width))
    turns = _turns(poses[:, 3:])
    centres = poses[:, :3] * np.stack([1 - poses[:, 2] / EYE] * 2 + [np.ones(len(poses))], axis=1)
    placed = turns @ points + centres[..., None].astype(np.float32)  # (objects, 3, P)
    depth = EYE - placed[:, 2]
    scale = min(height, width) * SAMPLES / 2 * EYE / depth
    # A border of one sample takes up what lies outside.
    rows, columns = height * SAMPLES + 2, width * SAMPLES + 2
    column = np.clip(columns / 2 + placed[:, 0] * scale, 0, columns - 1).astype(np.int32)
    row = np.clip(rows / 2 - placed[:, 1] * scale, 0, rows - 1).astype(np.int32)
    # The bits of a positive float, as an integer, keep its order. The point's number below them also settles a draw.
    keys = depth.view(np.int32).astype(np.int64).ravel() << 32 | np.arange(depth.size)
    empty = np.iinfo(np.int64).max
    nearest = np.full(rows * columns, empty)
    np.minimum.at(nearest, (row * columns + column).ravel(), keys)
    nearest = nearest.reshape(rows, columns)[1:-1, 1:-1]
    row, column = np.nonzero(nearest != empty)
    which, point = np.divmod(nearest[row, column] & 0xFFFFFFFF, points.shape[1])

    normal = np.einsum("mij,mj->mi", turns[which], normals[point])
    view = np.array([0, 0, EYE], np.float32) - placed[which, :, point]
    view /= np.sqrt((view * view).sum(1, keepdims=True))
    normal *= np.sign((normal * view).sum(1, keepdims=True))  # both sides of the surface can be seen
    middle = view + LIGHT
    middle /= np.sqrt((middle * middle).sum(1, keepdims=True))
    matt = AMBIENT + DIFFUSE * np.clip(normal @ LIGHT, 0, 1)
    gloss = SPECULAR * np.clip((normal * middle).sum(1), 0, 1) ** SHININESS
    colour = 2 * np.clip(colours[which].T * matt + gloss, 0, 1) - 1  # (3, M)
    pixel = row // SAMPLES * width + column // SAMPLES
    bare = SAMPLES**2 - np.bincount(pixel, minlength=height * width)
    for channel in range(3):
        drawn = np.bincount(pixel, colour[channel], minlength=height * width)
        picture[channel] = (behind[channel] * bare.reshape(height, width) + drawn.reshape(height, width)) / SAMPLES**2


def _turns(angles: np.ndarray) -> np.ndarray:
    """(..., 3) yaw, pitch, roll to (..., 3, 3) float32 rotations, which are applied in this order."""
    (cy, cp, cr), (sy, sp, sr) = np.moveaxis(np.cos(angles), -1, 0), np.moveaxis(np.sin(angles), -1, 0)
    return np.stack(
        [
            np.stack([cr * cy - sr * sp * sy, -sr * cp, cr * sy + sr * sp * cy], axis=-1),
            np.stack([sr * cy + cr * sp * sy, cr * cp, sr * sy - cr * sp * cy], axis=-1),
            np.stack([-cp * sy, sp, cp * cy], axis=-1),
        ],
        axis=-2,
    ).astype(np.float32)


def path(first: np.ndarray, last: np.ndarray, frames: int) -> np.ndarray:
    """From (objects, 6) to (objects, 6): (frames, objects, 6) float64 at equal steps, both ends among them.

    Angles go along the shorter arc and are not wrapped, so the last frame's may differ from `last` by full turns.
    """
    step = np.asarray(last, np.float64) - first
    step[..., 3:] = (step[..., 3:] + np.pi) % (2 * np.pi) - np.pi
    return first + np.linspace(0, 1, frames)[:, None, None] * step


# For each of the 6 factors: between what, and by how much it changes at small and at large distance (x, y: see `factors`).
LOW = np.array([-0.62, -0.62, -1.2, -np.pi, -0.6, -0.6])
HIGH = -LOW * (1, 1, 0, 1, 1, 1)
SMALL = np.array([(0.05, 0.5), (0, 0), (0, 0.15), (0, np.pi / 8), (0, np.pi / 8), (0, np.pi / 8)]).T
LARGE = np.array([(1.02, 2.2), (0, 0), (0.4, 1), (np.pi / 4, 0.9 * np.pi), (np.pi / 4, 1.1), (np.pi / 4, 1.1)]).T
VIDEOS = {  # how many, and the frames of each
    "train": (4000, 3),
    "validation": (500, 3),
    "test": (500, 3),
    "test-small": (500, 3),
    "test-large": (500, 3),
    "test-long": (500, 9),
}
DISTANCES = {"test": np.stack([SMALL[0], LARGE[1]]), "test-small": SMALL, "test-large": LARGE, "test-long": LARGE}


def _middle(step: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(objects, 6) middles of paths with these steps from end to end, so that both ends lie between LOW and HIGH."""
    room = abs(step) * (1, 1, 1, 0, 1, 1)  # a circle has no end
    return LOW + room / 2 + share * (HIGH - LOW - room)


class Teapot:
    """Source without files: `root` is ignored. See the top of this file and `douga.core.contracts.Source`.

    A subclass says how many factors of each teapot are free, and which. A clip ends with its video.
    stamp: changes with the pictures, so that none are taken that were drawn in another way.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(VIDEOS)
    licence: ClassVar[str] = "no rights to clear: drawn from Newell's teapot, whose numbers are free"
    endless: ClassVar[bool] = False  # a millisecond a picture is too much to draw it anew in every epoch
    freedom: ClassVar[int] = 6
    objects: ClassVar[int] = 1
    free: ClassVar[tuple[bool, ...]] = (True,) * 6
    colours: ClassVar[Sequence[Sequence[float]]] = PALETTE
    fps = 25.0
    stamp = "1"

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        name = f"teapot-{self.freedom}dof" if self.objects == 1 else "teapot-several"
        if split not in self.splits:
            raise ValueError(f"{name} has the splits {', '.join(self.splits)}, not {split!r}")
        self.split, self.size, self.title = split, size, name
        videos, self.frames = VIDEOS[split]
        self.lengths = [self.frames] * videos
        self.names = [f"{name}-{split}-{index:04}" for index in range(videos)]

    def __len__(self) -> int:
        return len(self.lengths)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        assert 0 <= start < self.frames and length > 0
        poses = self.factors(index)[start : start + length]
        return render(poses, self.size, colours=self.colours).transpose(0, 1).contiguous()

    def factors(self, index: int) -> np.ndarray:
        """(T, objects, 6) float64: x, y, z, yaw, pitch, roll of each teapot in each frame; angles are not wrapped."""
        assert 0 <= index < len(self)
        chance = np.random.default_rng((self.splits.index(self.split), index, self.freedom, self.objects))
        least, most = DISTANCES.get(self.split, LARGE if index % 2 else SMALL)
        still = np.array([[0, 0, -0.6 * k, 0, 0.35, 0] for k in range(self.objects)])
        share, size, heading = (chance.random((self.objects, count)) for count in (6, 6, 1))
        step = least + size * (most - least)
        step[:, 2:] *= chance.choice([-1, 1], (self.objects, 4))
        depth = _middle(step, share)[:, 2] if self.free[2] else still[:, 2]
        turn = 2 * np.pi * heading[:, 0] if self.free[1] else np.pi * (heading[:, 0] < 0.5)
        widths = WIDTH * EYE / (EYE - depth)
        step[:, :2] = (step[:, 0] * widths)[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        middle, half = np.where(self.free, [_middle(step, share), step / 2], [still, 0 * still])
        return path(middle - half, middle + half, self.frames)

    def distance(self, index: int) -> float:
        """How far the centre moves in the picture from end to end, in widths at the mean depth; of several the most."""
        ends = self.factors(index)[[0, -1]]
        widths = WIDTH * EYE / (EYE - ends[..., 2].mean(0))
        return float((np.linalg.norm(ends[1, :, :2] - ends[0, :, :2], axis=-1) / widths).max())


class Teapot1(Teapot):
    """One teapot moves left or right."""

    freedom = 1
    free = (True, False, False, False, False, False)


class Teapot2(Teapot):
    """One teapot moves left or right and turns around its own axis."""

    freedom = 2
    free = (True, False, False, True, False, False)


class Teapot6(Teapot):
    """One teapot moves and turns freely."""


class TeapotSeveral(Teapot):
    """Three teapots, each of its own colour and depth, move left or right and up or down."""

    freedom = 2
    objects = 3
    free = (True, True, False, False, False, False)
