"""Endless synthetic street, for painting from label maps: a camera drives along houses, trees, cars and people.

The world is made of planes in one-point perspective: the ground, upright planes that face the camera (fronts of houses
and cars, trees, people) and upright planes along the street (sides of houses and cars). Each sample of a picture shows one
plane, so what it shows can be followed exactly into the frame before. A world is a function of (split, index) alone and
does not depend on the size at which it is drawn. Metres, x to the right, y up, z along the street; pictures count in short
sides from their middle, y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VIDEOS = {"train": (100_000, 32), "validation": (1_000, 32), "test": (1_000, 32), "long": (50, 640)}  # videos, frames
CLASSES = ("sky", "road", "pavement", "building", "tree", "car", "person")
SKY, ROAD, PAVEMENT, BUILDING, TREE, CAR, PERSON = range(len(CLASSES))

FOCAL = 1.5  # in short sides
KERB, HOUSES, LANE, PARKED = 5.6, 8.7, 1.75, 4.55  # distances from the middle of the road
NEAR, FAR, FAR_HOUSES = 0.6, 150.0, 280.0  # what is drawn, from the camera
SUB = 2  # samples along each side of a pixel
SMALL = 5  # samples: what is lower is a rectangle

# A thing has the surfaces 3 + 4 * thing + part, after those of sky, road and pavement.
FRONT, SIDE, SHADOW, CABIN = range(4)
PARTS = 4
TRAITS = 5

# length, half a width, height of the body, height of the roof
CARS = np.array([[4.1, 0.88, 0.92, 1.50], [4.6, 0.90, 0.86, 1.42], [5.2, 1.00, 2.20, 2.20], [9.5, 1.22, 3.00, 3.00]])
WHEELS = (0.19, 0.8)  # in lengths

Array = np.ndarray


@dataclass(frozen=True)
class World:
    """T frames, N things: houses, then trees, cars, people."""

    kind: Array  # (N,) class
    x: Array  # (N, T) middle
    z: Array  # (N, T) near end
    half: Array  # (N,) half the width
    length: Array  # (N,) along the street; 0 for what is flat
    height: Array  # (N,)
    first: Array  # (3, N) colours in 0-1: wall, leaves, paint, coat
    second: Array  # (3, N) window, trunk, unused, trousers
    traits: Array  # (TRAITS, N) what else differs, see where it is read
    eye: Array  # (T, 5): x, height, z, and the shifts of the picture by panning and nodding
    sun: Array  # (3,) colour and strength
    ambient: Array  # (3,)
    slant: tuple[float, float]  # where the sun stands: from the left -1 to the right 1, and from behind 0 to 1
    zenith: Array  # (3,) colours of the sky
    horizon: Array  # (3,)
    clouds: float
    lamps: float  # 0 by day to 1: windows and lamps that shine
    haze: float  # metres
    phase: Array  # (4,) of clouds, markings, texture


class Blocks:
    """Source without files, and `Paired`: `root` is ignored. See `douga.core.contracts.Paired`.

    Houses, trees, cars and people have instance numbers from 1, which they keep through their video.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(VIDEOS)
    licence: ClassVar[str] = "no rights to clear: drawn from a formula"
    endless: ClassVar[bool] = True
    classes: Sequence[str] = CLASSES
    things: frozenset[int] = frozenset({CAR, PERSON})
    fps = 25.0

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"blocks has the splits {', '.join(self.splits)}, not {split!r}")
        self.split, self.size = split, size
        videos, self._frames = VIDEOS[split]
        self.lengths = [self._frames] * videos
        self.names = [f"blocks-{split}-{index:06}" for index in range(videos)]
        height, width = size
        self._unit = min(height, width)
        x, y = ((np.arange(SUB * side) + 0.5) / SUB - side / 2 for side in (width, height))
        self._x, self._y = (x / self._unit).astype(np.float32), (y / self._unit).astype(np.float32)
        self._last: tuple[tuple[int, int, int], World, Array] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        world, samples = self._draw(index, start, length)
        frames = [self._shade(world, start + t, samples[t]) for t in range(length)]
        return torch.from_numpy(np.stack(frames, 1)).mul_(2).sub_(1)

    def maps(self, index: int, start: int, length: int) -> Int[Tensor, "2 t h w"]:
        """int32: the class (see `classes`) and the number of the instance, of what covers most of a pixel."""
        world, samples = self._draw(index, start, length)
        things = np.arange(len(world.kind))
        classes = np.concatenate([[SKY, ROAD, PAVEMENT], np.repeat(world.kind, PARTS)])
        numbers = np.concatenate([[0, 0, 0], np.repeat(things + 1, PARTS)])
        shadows = 3 + PARTS * things + SHADOW  # lie on the road and belong to it
        classes[shadows], numbers[shadows] = ROAD, 0
        top, _ = majority(samples)
        return torch.from_numpy(np.stack([classes[top], numbers[top]]).astype(np.int32))

    def flow(self, index: int, start: int, length: int) -> Float[Tensor, "2 t1 h w"]:
        """(2, length - 1, H, W), px, x first: the exact motion from each frame but the first back to the one before.

        `warp(frame t, flow)` gives frame t + 1 wherever `visible` says so.
        """
        world, samples = self._draw(index, start, length)
        top, _ = majority(samples[1:])
        return torch.from_numpy(self._motion(world, start, top).astype(np.float32))

    def visible(self, index: int, start: int, length: int) -> Bool[Tensor, "1 t1 h w"]:
        """(1, length - 1, H, W): True where what is seen in a frame is also seen in the one before.

        False where a pixel shows two surfaces, in either frame.
        """
        world, samples = self._draw(index, start, length)
        top, pure = majority(samples)
        flow = self._motion(world, start, top[1:])
        height, width = self.size
        x, y = flow[0] + np.arange(width), flow[1] + np.arange(height)[:, None]
        seen = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1) & pure[1:]
        marked = np.where(pure, top, -1)
        frame = np.arange(length - 1)[:, None, None]
        left, upper = np.clip(np.floor(x), 0, width - 1).astype(int), np.clip(np.floor(y), 0, height - 1).astype(int)
        for down in (0, 1):  # all four that bilinear sampling mixes
            for right in (0, 1):
                row, column = np.minimum(upper + down, height - 1), np.minimum(left + right, width - 1)
                seen &= marked[frame, row, column] == top[1:]
        return torch.from_numpy(seen[None])

    def _motion(self, world: World, start: int, top: Array) -> Array:
        """(2, T, H, W) px for the surfaces `top`, (T, H, W), of the frames after `start`."""
        height, width = self.size
        x = (np.arange(width) + 0.5 - width / 2) / self._unit
        y = ((np.arange(height) + 0.5 - height / 2) / self._unit)[:, None]
        flow = np.empty((2, *top.shape))
        for k, surfaces in enumerate(top):
            t = start + k + 1
            (eye_x, eye_y, eye_z, pan, nod), before = world.eye[t], world.eye[t - 1]
            plane, across, along = planes(world, t)
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = np.where(plane == 0, along, 0)[surfaces]
                depth = np.where((plane == 1)[surfaces], FOCAL * across[surfaces] / (x - pan), depth)
                depth = np.where((plane == 2)[surfaces], FOCAL * eye_y / (y - nod), depth)
            depth = np.where((depth > 0.1) & (depth < 4000), depth, 4000)  # at the horizon, where nothing moves
            moved = np.zeros((2, len(plane)))
            moved[0, 3:] = np.repeat(world.x[:, t] - world.x[:, t - 1], PARTS)
            moved[1, 3:] = np.repeat(world.z[:, t] - world.z[:, t - 1], PARTS)
            step_x, step_z = moved[:, surfaces]
            earlier = depth + eye_z - before[2] - step_z
            old_x = FOCAL * ((x - pan) * depth / FOCAL + eye_x - before[0] - step_x) / earlier + before[3]
            old_y = FOCAL * ((y - nod) * depth / FOCAL + before[1] - eye_y) / earlier + before[4]
            sky = surfaces == SKY
            flow[0, k] = np.where(sky, before[3] - pan, old_x - x)
            flow[1, k] = np.where(sky, before[4] - nod, old_y - y)
        return flow * self._unit

    def _draw(self, index: int, start: int, length: int) -> tuple[World, Array]:
        """The world, and (T, SUB * H, SUB * W) int16: the surface that each sample shows. The last drawing is kept."""
        assert 0 <= index < len(self) and start >= 0 and length > 0 and start + length <= self._frames
        last = self._last  # read once and replaced as a whole: safe where threads share the source
        if last is not None and last[0] == (index, start, length):
            return last[1], last[2]
        world = last[1] if last is not None and last[0][0] == index else build(self.split, index)
        samples = np.stack([self._cover(world, t) for t in range(start, start + length)])
        self._last = ((index, start, length), world, samples)
        return world, samples

    def _cover(self, world: World, t: int) -> Array:
        """(SUB * H, SUB * W) int16: the painter's algorithm. Whatever stands between the houses hides them, never the
        other way round, so the houses come first; each from far to near.
        """
        canvas = Canvas(self._x, self._y, world.eye[t])
        near, aside = world.z[:, t] - world.eye[t, 2], np.abs(world.x[:, t] - world.eye[t, 0]) - world.half - 0.8
        house, far = world.kind == BUILDING, near + world.length
        inside = aside * FOCAL < (self._x[-1] + 0.1) * far  # leaves, legs and panning reach a little further
        drawn = np.flatnonzero((far > NEAR) & inside & (near < np.where(house, FAR_HOUSES, FAR)))
        for n in drawn[np.lexsort((-near[drawn], ~house[drawn]))].tolist():
            PAINTERS[world.kind[n]](canvas, world, n, t)
        return canvas.surfaces

    def _shade(self, world: World, t: int, samples: Array) -> Array:
        """(3, H, W) float32 in 0-1, from the surfaces of the samples of frame t."""
        rows, columns = samples.shape
        flat = samples.ravel()
        x, y = np.broadcast_to(self._x, samples.shape).ravel(), np.repeat(self._y, columns)
        eye_x, eye_y, eye_z, pan, nod = world.eye[t].astype(np.float32)
        plane, across, along = planes(world, t)
        here_x, here_z = world.x[:, t].astype(np.float32), world.z[:, t].astype(np.float32)
        looks = np.concatenate([[SKY, ROAD, PAVEMENT], np.repeat(world.kind, PARTS)])
        looks[3 + SHADOW :: PARTS] = SHADE
        look = looks.astype(np.uint8)[flat]
        picture = np.empty((3, flat.size), np.float32)
        for kind, paint in PAINTS.items():
            place = np.flatnonzero(look == kind)
            if not len(place):
                continue
            x_, y_, surface = x[place] - pan, y[place] - nod, flat[place]
            if kind == SKY:
                picture[:, place] = paint(world, x_, y_)
                continue
            thing, part = np.divmod(surface - 3, PARTS)
            if kind in (ROAD, PAVEMENT, SHADE):
                depth = np.minimum(FOCAL * eye_y / np.maximum(y_, 1e-4), 4000)
                u, v = eye_x + x_ * depth / FOCAL, eye_z + depth
                grain = depth / (FOCAL * self._unit)
                spot = Spot(thing, part, u, v, grain, grain * depth / eye_y)
            else:
                side = plane[surface] == 1
                depth = np.where(side, across[surface], 1) * FOCAL / np.where(side, x_, 1)
                depth = np.where(side, np.clip(depth, NEAR, 4000), along[surface]).astype(np.float32)
                u = np.where(side, depth + eye_z - here_z[thing], eye_x + x_ * depth / FOCAL - here_x[thing])
                v = eye_y - y_ * depth / FOCAL
                grain = depth / (FOCAL * self._unit)
                stretch = np.where(side, depth / np.maximum(np.abs(across[surface]), 0.1), 1)
                spot = Spot(thing, part, u.astype(np.float32), v, (grain * stretch).astype(np.float32), grain)
            clear = np.exp(-depth / np.float32(world.haze))
            picture[:, place] = world.horizon[:, None] * (1 - clear) + paint(world, spot) * clear
        picture = picture.reshape(3, rows // SUB, SUB, columns // SUB, SUB).mean((2, 4))
        return np.clip(picture, 0, 1, out=picture)


class Canvas:
    """What the samples of one frame show, as surfaces; the later painted covers the earlier."""

    def __init__(self, x: Array, y: Array, eye: Array) -> None:
        """x, y: where the columns and the rows of samples lie."""
        self.columns, self.rows = x, y
        self.eye_x, self.eye_y, self.eye_z, self.pan, self.nod = eye.tolist()
        self.surfaces = np.zeros((len(y), len(x)), np.int16)
        ground = y > self.nod + 1e-4
        depth = FOCAL * self.eye_y / (y[ground] - self.nod)
        across = self.eye_x + (x - self.pan) * depth[:, None] / FOCAL
        self.surfaces[ground] = np.where(np.abs(across) < KERB, ROAD, PAVEMENT)

    def box(self, surface: int, depth: float, x: tuple[float, float], y: tuple[float, float]) -> None:
        """An upright rectangle that faces the camera."""
        self.surfaces[self._rows(depth, y), self._columns(depth, x)] = surface

    def slab(
        self, surface: int, depth: float, y: tuple[float, float], foot: tuple[float, float], top: tuple[float, float]
    ) -> None:
        """The same with slanted sides: it reaches from foot[0] to foot[1] below and from top[0] to top[1] above."""
        rows = self._rows(depth, y)
        if rows.stop - rows.start < SMALL:
            middle = (foot[0] + top[0]) / 2, (foot[1] + top[1]) / 2
            self.surfaces[rows, self._columns(depth, middle)] = surface
            return
        up = (self.eye_y - (self.rows[rows] - self.nod) * depth / FOCAL - y[0]) / (y[1] - y[0])
        left, right = (self._across(a + up * (b - a), depth)[:, None] for a, b in zip(foot, top, strict=True))
        columns = self._columns(depth, (min(foot[0], top[0]), max(foot[1], top[1])))
        at = self.columns[columns]
        np.copyto(self.surfaces[rows, columns], surface, where=(at >= left) & (at < right))

    def disc(
        self, surface: int, depth: float, middle: tuple[float, float], radii: tuple[float, float], ragged: float
    ) -> None:
        """An upright ellipse. ragged: 0 for a smooth edge, else where in the texture its leaves lie."""
        x, y = middle
        rows = self._rows(depth, (y - radii[1], y + radii[1]))
        columns = self._columns(depth, (x - radii[0], x + radii[0]))
        if rows.stop - rows.start < SMALL:
            self.surfaces[rows, columns] = surface
            return
        u = self.eye_x + (self.columns[columns] - self.pan) * depth / FOCAL - x
        v = self.eye_y - (self.rows[rows] - self.nod) * depth / FOCAL - y
        far = (u / radii[0]) ** 2 + ((v / radii[1]) ** 2)[:, None]
        if ragged:
            far += 0.5 + 0.2 * lookup(grey(), u + ragged, (v + ragged)[:, None], 24)
        np.copyto(self.surfaces[rows, columns], surface, where=far < 1)

    def wall(
        self, surface: int, x: float, depth: tuple[float, float], foot: float, top: float | tuple[Array, Array]
    ) -> None:
        """An upright plane along the street. top: its height, or (depths, heights) of an outline."""
        near, far = max(depth[0], NEAR), depth[1]
        if far <= near:
            return
        reach = FOCAL * (x - self.eye_x)
        ends = sorted((self.pan + reach / near, self.pan + reach / far))
        columns = slice(*np.searchsorted(self.columns, ends).tolist())
        if columns.start == columns.stop:
            return
        scale = (self.columns[columns] - self.pan) / (x - self.eye_x)
        height = np.interp(FOCAL / scale, *top) if isinstance(top, tuple) else top
        upper, lower = self.nod + scale * (self.eye_y - height), self.nod + scale * (self.eye_y - foot)
        rows = slice(*np.searchsorted(self.rows, (upper.min(), lower.max())).tolist())
        at = self.rows[rows, None]
        np.copyto(self.surfaces[rows, columns], surface, where=(at >= upper) & (at < lower))

    def floor(self, surface: int, x: tuple[float, float], depth: tuple[float, float]) -> None:
        """A rectangle on the ground."""
        low = [self.nod + FOCAL * self.eye_y / max(d, NEAR) for d in reversed(depth)]
        rows = slice(*np.searchsorted(self.rows, low).tolist())
        scale = (self.rows[rows, None] - self.nod) / self.eye_y
        left, right = (self.pan + scale * (end - self.eye_x) for end in x)
        np.copyto(self.surfaces[rows], surface, where=(self.columns >= left) & (self.columns < right))

    def _across(self, x: Array, depth: float) -> Array:
        return self.pan + FOCAL * (x - self.eye_x) / depth

    def _columns(self, depth: float, x: tuple[float, float]) -> slice:
        scale = FOCAL / depth
        return slice(*self.columns.searchsorted([self.pan + scale * (end - self.eye_x) for end in x]).tolist())

    def _rows(self, depth: float, y: tuple[float, float]) -> slice:
        scale = FOCAL / depth
        return slice(*self.rows.searchsorted([self.nod + scale * (self.eye_y - end) for end in reversed(y)]).tolist())


def find(canvas: Canvas, world: World, n: int, t: int) -> tuple[int, float, float, float, float, float, list[float]]:
    """First surface, depth of the near end, x, half the width, length, height and traits of thing n in frame t."""
    sizes = world.half[n].item(), world.length[n].item(), world.height[n].item()
    return 3 + PARTS * n, world.z[n, t].item() - canvas.eye_z, world.x[n, t].item(), *sizes, world.traits[:, n].tolist()


def cover_house(canvas: Canvas, world: World, n: int, t: int) -> None:
    surface, depth, x, half, length, height, _ = find(canvas, world, n, t)
    height *= min(1.0, (FAR_HOUSES - depth) / 60)  # they rise out of the haze
    canvas.wall(surface + SIDE, edge(canvas, x, half), (depth, depth + length), 0, height)
    if depth > NEAR:
        canvas.box(surface + FRONT, depth, (x - half, x + half), (0, height))


def cover_tree(canvas: Canvas, world: World, n: int, t: int) -> None:
    """Traits: half the height of its crown, three numbers that place its leaves."""
    surface, depth, x, half, _, height, (crown, *leaves) = find(canvas, world, n, t)
    if depth < NEAR:
        return
    canvas.box(surface, depth, (x - 0.15, x + 0.15), (0, height - crown))
    lumps = (0, 0, 1.25), (-0.45, -0.35, 0.94), (0.45, -0.25, 0.94)  # to the right, up, size: in crowns
    for (right, up, size), place in zip(lumps, leaves, strict=False):
        middle = x + right * half, height - crown + up * crown
        canvas.disc(surface, depth, middle, (size * half, size * crown), place)


def cover_car(canvas: Canvas, world: World, n: int, t: int) -> None:
    """Traits: height of its body, 1 where it shows us its face and 0 where its back."""
    surface, depth, x, half, length, roof, (body, face, *_) = find(canvas, world, n, t)
    ends = (x - half, x + half)
    canvas.floor(surface + SHADOW, (x - half - 0.1, x + half + 0.1), (depth - 0.15, depth + length))
    cabin = depth + (0.3 if face else 0.1) * length
    if body < roof and cabin > NEAR:
        canvas.slab(surface + CABIN, cabin, (0.6 * body, body), ends, ends)
        canvas.slab(surface + CABIN, cabin, (body, roof), ends, (x - 0.82 * half, x + 0.82 * half))
    if abs(canvas.eye_x - x) > half:
        at = np.array([0, 0.22, 0.4, 0.9, 1]) if face else np.array([0, 0.1, 0.6, 0.78, 1])
        tops = np.array([0.9 * body, body, roof, roof, body] if face else [body, roof, roof, body, 0.9 * body])
        tops = np.where(body < roof, tops, roof)
        side = edge(canvas, x, half)
        canvas.wall(surface + SIDE, side, (depth, depth + length), 0.25, (depth + at * length, tops))
        for wheel in WHEELS:
            canvas.wall(surface + SIDE, side, (depth + wheel * length - 0.32, depth + wheel * length + 0.32), 0, 0.3)
    if depth > NEAR:
        canvas.box(surface + FRONT, depth, ends, (0.25, body))
        canvas.box(surface + FRONT, depth, (x - half, x - half + 0.24), (0, 0.26))
        canvas.box(surface + FRONT, depth, (x + half - 0.24, x + half), (0, 0.26))


def cover_person(canvas: Canvas, world: World, n: int, t: int) -> None:
    """Traits: how far its legs swing, when, its skin, its hair."""
    surface, depth, x, half, _, height, (swing, phase, *_) = find(canvas, world, n, t)
    if depth < NEAR:
        return
    step = swing * math.sin(4.5 * (x + depth + canvas.eye_z) + phase)  # by the way gone: who stands stands still
    for foot in (x - step, x + step):
        canvas.slab(surface, depth, (0, 0.5 * height), (foot - 0.09, foot + 0.09), (x - 0.12, x + 0.12))
    canvas.slab(surface, depth, (0.46 * height, 0.84 * height), (x - 0.8 * half, x + 0.8 * half), (x - half, x + half))
    canvas.disc(surface, depth, (x, 0.915 * height), (0.068 * height, 0.085 * height), 0)


def edge(canvas: Canvas, x: float, half: float) -> float:
    """Where the side lies that the camera sees."""
    return x + half if canvas.eye_x > x else x - half


PAINTERS = {BUILDING: cover_house, TREE: cover_tree, CAR: cover_car, PERSON: cover_person}


def planes(world: World, t: int) -> tuple[Array, Array, Array]:
    """Of each surface: 0 where it faces the camera, 1 along the street, 2 on the ground; for 1 its x and for 0 its z, both
    from the camera.
    """
    things = len(world.kind)
    plane, across, along = np.zeros(3 + PARTS * things, np.uint8), *np.zeros((2, 3 + PARTS * things))
    plane[:3] = 2
    plane[3 + SIDE :: PARTS], plane[3 + SHADOW :: PARTS] = 1, 2
    aside, ahead = world.x[:, t] - world.eye[t, 0], world.z[:, t] - world.eye[t, 2]
    across[3 + SIDE :: PARTS] = aside - np.sign(aside) * world.half
    along[3 + FRONT :: PARTS] = ahead
    along[3 + CABIN :: PARTS] = ahead + np.where(world.traits[1] > 0, 0.3, 0.1) * world.length  # see cover_car
    return plane, across, along


def majority(samples: Array) -> tuple[Array, Array]:
    """(T, SUB * H, SUB * W) to (T, H, W): the surface that most samples of a pixel show, and whether all of them do."""
    a, b, c, d = (samples[:, row::SUB, column::SUB] for row in range(SUB) for column in range(SUB))
    top = np.where((a == b) | (a == c) | (a == d), a, np.where((b == c) | (b == d), b, np.where(c == d, c, a)))
    return top, (a == b) & (a == c) & (a == d)


@dataclass(frozen=True)
class Spot:
    """What n samples show of their surfaces. Painters turn it into (3, n) RGB in 0-1, before haze."""

    thing: Int[Array, " n"]
    part: Int[Array, " n"]
    u: Float[Array, " n"]  # across or along, m: from the thing's middle or near end; on the ground in the world
    v: Float[Array, " n"]  # up from the ground, m; on the ground along the street
    wide: Float[Array, " n"]  # of a pixel, m
    high: Float[Array, " n"]


def paint_sky(world: World, x: Array, y: Array) -> Array:
    up = np.clip(-y, 0.004, None)
    # A layer of clouds overhead, seen in perspective.
    cloud = lookup(soft(), x / (up + 0.12) * 0.9 + world.phase[0], 0.9 / (up + 0.12) + world.phase[1], 160)
    cover = np.clip(cloud * 0.7 + world.clouds, 0, 1) * np.clip(up * 9, 0, 1)
    blue = world.horizon[:, None] + (world.zenith - world.horizon)[:, None] * np.clip(up * 2.2, 0, 1) ** 0.7
    white = (0.75 * world.ambient + 0.4 * world.sun + 0.12)[:, None]
    return blue + cover * (white - blue)


def paint_ground(world: World, spot: Spot) -> Array:
    u, v, wide, high = spot.u, spot.v, spot.wide, spot.high
    aside = np.abs(u)
    fine = np.clip(1 - high / 0.25, 0, 1) * lookup(grey(), u + world.phase[3], v, 40)
    broad = np.clip(1 - high, 0, 1) * lookup(soft(), u + world.phase[3], v * 0.5, 32)
    road = aside < KERB
    asphalt = 0.30 + 0.02 * fine + 0.02 * broad
    dashes = band(u, 0.09, wide) * pulse((v + world.phase[2]) / 8, 0.45, high / 8)
    lines = band(aside - 3.5, 0.06, wide)
    stripes = pulse(u + 0.25, 0.5, wide) * band(u, 3.3, wide)  # a crossing every 64 m
    stripes *= pulse((v + 5 * world.phase[2]) / 64, 3.4 / 64, high / 64)
    asphalt = asphalt + (0.8 - asphalt) * np.clip(dashes + lines + stripes, 0, 1)
    joints = np.maximum(pulse(aside - KERB, 0.06, wide), pulse(v / 1.5, 0.05, high / 1.5))
    slabs = 0.55 - 0.12 * joints + 0.03 * fine + 0.03 * broad
    slabs = slabs + (0.68 - slabs) * band(aside - KERB - 0.15, 0.15, wide)
    albedo = np.where(road, asphalt, slabs)
    # One side of the street lies in the shade of its houses.
    low = world.slant[0]
    shade = np.clip((u * np.sign(low) + 6 - 9 * abs(low)) * 1.5, 0, 1) * min(1.0, 4 * abs(low))
    tint = np.where(road, np.array([[0.97], [0.98], [1.03]], np.float32), np.array([[1.04], [1.0], [0.94]], np.float32))
    return tint * albedo * (world.ambient[:, None] + world.sun[:, None] * 0.75 * (1 - shade))


def paint_shadow(world: World, spot: Spot) -> Array:
    return np.broadcast_to((0.16 * world.ambient)[:, None], (3, len(spot.u))).astype(np.float32)


def paint_house(world: World, spot: Spot) -> Array:
    """Traits: width of a window with its wall, height of a floor, the window's share of both; above 0.4 it has a shop."""
    n, u, v = spot.thing, spot.u, spot.v
    wide, floor, across, up, shop = world.traits[:, n]
    wall, glass = world.first[:, n], world.second[:, n]
    light = lighting(world, spot)
    a, b = u / wide + 0.02 * n, v / floor - 0.3
    panes = pulse(a, across, spot.wide / wide) * pulse(b, up, spot.high / floor)
    panes = panes * (v > floor) * (v < world.height[n] - 0.5)
    ground = np.clip((floor - v) / spot.high, 0, 1) * (shop > 0.4)  # shop windows in a frame
    front = pulse(u / (2 * wide), 0.8, spot.wide / (2 * wide)) * band(v - 0.5 * floor, 0.32 * floor, spot.high)
    panes = panes * (1 - ground) + front * ground
    # Each window has its own curtain and lamp, as long as it can be told from its neighbours.
    column = np.where(ground > 0.5, np.floor(u / (2 * wide) + 0.1), np.floor(a + (1 - across) / 2))
    row = np.where(ground > 0.5, 99, np.floor(b + (1 - up) / 2))  # borders lie between windows
    cell = (column * 7 + row * 61 + n * 131).astype(np.int64)
    single = np.clip(2 - 2 * np.maximum(spot.wide / wide, spot.high / floor), 0, 1)
    own = 0.5 + (grey().ravel()[(cell * 97) % grey().size].clip(-1, 1) * 0.5) * single
    rough = 0.035 * np.clip(1.2 - spot.wide / 0.25, 0, 1) * lookup(grey(), u, v, 40)
    rough = rough + 0.05 * lookup(soft(), u + 9 * n, v, 24)
    trim = np.maximum(band(v - world.height[n] + 0.3, 0.3, spot.high), 0.7 * band(v - floor, 0.12, spot.high))
    wall = wall * (1 + 0.25 * shop * ground - 0.3 * ground) + rough
    wall = wall + (0.72 * wall + 0.2 - wall) * trim
    lit = world.lamps * np.clip(3 * own - 1.2, 0, 1) * np.array([[1.0], [0.78], [0.42]], np.float32)
    sky = 0.25 * own * (world.zenith + world.horizon)[:, None]
    pane = np.maximum((glass + sky) * (0.4 + 0.3 * own) * light, lit)
    return wall * light * (1 - panes) + pane * panes


def paint_tree(world: World, spot: Spot) -> Array:
    n, u, v = spot.thing, spot.u, spot.v
    crown = world.traits[0, n]
    up = (v - world.height[n] + crown) / crown  # -1 at the foot of the crown to 1
    leaves = np.clip(1.3 - spot.wide / 0.4, 0, 1) * lookup(grey(), u + 3 * n, v, 26)
    leaves = leaves + 0.7 * lookup(soft(), u + 5 * n, v, 80)
    bright = 0.78 + 0.22 * up + 0.22 * world.slant[0] * np.clip(u / world.half[n], -1, 1) + 0.2 * leaves
    green = world.first[:, n] * np.maximum(bright, 0.2)
    bark = world.second[:, n] * (1 + 0.2 * leaves)
    trunk = (up < -0.75) & (np.abs(u) < 0.17)
    return np.where(trunk, bark, green) * (world.ambient + 0.75 * world.sun)[:, None]


def paint_car(world: World, spot: Spot) -> Array:
    n, u, v, wide, high = spot.thing, spot.u, spot.v, spot.wide, spot.high
    half, length, roof = world.half[n], world.length[n], world.height[n]
    body, face = world.traits[:2, n]
    light = lighting(world, spot)
    side = spot.part == SIDE
    paint = world.first[:, n] * (0.92 + 0.16 * np.clip(v / 1.2, 0, 1.2)) + 0.02 * lookup(soft(), u + 3 * n, v, 40)
    box = body == roof  # a van or a bus: its windows lie in its body
    sill = np.where(box, 0.52 * roof, body + 0.04)
    middle, reach = (sill + roof - 0.1) / 2, (roof - 0.1 - sill) / 2
    pane = band(v - middle, reach, high)
    along = np.where(face > 0, u / length, 1 - u / length)  # from its face
    apart = np.where(box, 1.6, 1.05)
    posts = 1 - 0.9 * pulse(along * length / apart + 0.3, 0.1, wide / apart)
    beside = band(along - 0.6, np.where(box, 0.37, 0.26), wide / length) * posts
    ahead = band(u, np.where(box, 0.88, 0.76) * half, wide)
    pane = pane * np.where(side, beside, ahead)
    dark = np.clip((0.38 - v) / high + 0.5, 0, 1) * 0.75  # bumpers and sills
    wheel = np.zeros_like(u)
    for at in WHEELS:
        wheel = np.maximum(wheel, np.clip((0.34 - np.hypot(u - at * length, v - 0.32)) / wide + 0.5, 0, 1))
    tyre = np.clip((0.25 - v) / high + 0.5, 0, 1)
    black = np.where(side, np.maximum(wheel, tyre), tyre)
    lamp = band(np.abs(u) - 0.76 * half, 0.17 * half, wide) * band(v - 0.66, 0.11, high) * (spot.part == FRONT)
    plate = band(u, 0.26, wide) * band(v - 0.45, 0.07, high) * (spot.part == FRONT)
    grille = band(u, 0.45 * half, wide) * band(v - 0.62, 0.08, high) * (spot.part == FRONT) * (face > 0)
    glass = (0.10 + 0.22 * (world.zenith + world.horizon)[:, None] * np.clip(0.3 + v / 3, 0, 1)) * light
    red, white = np.array([[0.8], [0.06], [0.05]], np.float32), np.array([[1.0], [0.96], [0.8]], np.float32)
    shine = np.where(face > 0, white, red)
    colour = paint * light
    colour = colour + (glass - colour) * pane
    colour = colour * (1 - dark * ~side - 0.6 * dark * side - 0.7 * grille)
    colour = colour + (0.8 * light - colour) * plate
    colour = colour + (0.05 - colour) * black
    return colour + (shine * np.maximum(light, 0.45 + 0.55 * world.lamps) - colour) * lamp


def paint_person(world: World, spot: Spot) -> Array:
    n, u, v, high = spot.thing, spot.u, spot.v, spot.high
    up = v / world.height[n]
    skin, hair = world.traits[2, n], world.traits[3, n]
    blur = high / world.height[n]
    cloth = 0.12 * lookup(soft(), u + 3 * n, v, 120) + 0.25 * world.slant[0] * u / world.half[n]
    coat = world.first[:, n] * (1 + cloth)
    face, curls = (
        tone * np.array(tint, np.float32)[:, None] for tone, tint in ((skin, (1, 0.78, 0.62)), (hair, (1, 0.75, 0.5)))
    )
    colour = world.second[:, n] * (0.85 + 0.3 * np.clip(up * 2, 0, 1))
    for above, then in ((0.48, coat), (0.84, face), (0.945, curls)):
        colour = colour + (then - colour) * np.clip((up - above) / blur + 0.5, 0, 1)
    colour = colour + (0.1 - colour) * np.clip((0.04 - up) / blur + 0.5, 0, 1)  # shoes
    return colour * (world.ambient + 0.75 * world.sun)[:, None]


def lighting(world: World, spot: Spot) -> Array:
    """(3, n): of upright surfaces, by where they face."""
    left = world.x[spot.thing, 0] < 0  # what stands on the left shows its right side
    towards = np.where(spot.part == SIDE, np.where(left, 1, -1) * world.slant[0], world.slant[1])
    return world.ambient[:, None] + world.sun[:, None] * np.clip(towards, 0, 1).astype(np.float32)


def pulse(u: Array, share: Array | float, width: Array) -> Array:
    """1 in the first `share` of each unit of u and 0 in the rest, averaged over a pixel's width."""
    width = np.maximum(width, 1e-3)
    low, high = u - width / 2, u + width / 2
    first, last = np.floor(low), np.floor(high)
    return ((last - first) * share + np.minimum(high - last, share) - np.minimum(low - first, share)) / width


def band(u: Array, half: Array | float, width: Array) -> Array:
    """1 where |u| < half and 0 elsewhere, averaged over a pixel's width."""
    return np.clip((half - np.abs(u)) / width + 0.5, 0, np.minimum(1, 2 * half / width))


def lookup(tile: Array, u: Array, v: Array, cells: float) -> Array:
    """The texture at (u, v), of so many cells a metre. The nearest cell: its grains are many cells wide."""
    side = len(tile) - 1
    column, row = np.floor(u * cells).astype(np.int32) & side, np.floor(v * cells).astype(np.int32) & side
    return tile[row, column]


@cache
def grey() -> Array:
    """(512, 512): a texture without seam, of grains about 16 cells wide, mean 0, deviation 1."""
    return noise(1, lambda waves: np.exp(-((waves * 16) ** 2)))


@cache
def soft() -> Array:
    """The same of all sizes, like clouds."""
    return noise(2, lambda waves: np.exp(-((waves * 20) ** 2)) / (waves + 1 / 256) ** 1.7)


def noise(seed: int, spectrum: Callable[[Array], Array]) -> Array:
    """spectrum: strength of waves, given how many there are in a cell."""
    white = np.fft.fft2(np.random.default_rng(seed).standard_normal((512, 512)))
    waves = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512))
    white[0, 0] = 0
    tile = np.fft.ifft2(white * spectrum(waves)).real
    return (tile / tile.std()).astype(np.float32)


SHADE = len(CLASSES)  # painted like a class of its own
PAINTS: dict[int, Callable[..., Array]] = {
    SKY: paint_sky,
    ROAD: paint_ground,
    PAVEMENT: paint_ground,
    BUILDING: paint_house,
    TREE: paint_tree,
    CAR: paint_car,
    PERSON: paint_person,
    SHADE: paint_shadow,
}


def build(split: str, index: int) -> World:
    """Everything that chance decides, for all frames of the video at once."""
    frames = VIDEOS[split][1]
    # Not torch's generator, which takes the lowest 32 bits of a seed and forgets the rest.
    chance = np.random.default_rng((Blocks.splits.index(split), index, 77))
    draw = chance.uniform
    time = np.arange(frames)

    def wave(slow: float, quick: float) -> Array:
        """Between -1 and 1, of a period between these, in frames."""
        return np.asarray(np.sin(2 * np.pi * (time / draw(quick, slow) + draw())))

    speed = draw(4, 8) / 25 * np.clip(0.62 + 0.4 * wave(300, 120) + 0.35 * wave(140, 60), 0, None)  # it may stop
    way = np.cumsum(speed) - speed[0]
    sway = [LANE + 0.25 * wave(200, 90), 1.6 + 0.02 * wave(60, 25), way, 0.03 * wave(200, 80), 0.008 * wave(50, 20)]
    eye = np.stack(sway, 1)
    eye[:, 4] -= draw(0.0, 0.06)
    end = way[-1]

    sets: list[tuple[Array, ...]] = []  # in the order of World's fields

    def add(
        kind: int, x: Array, z: Array, box: tuple[Array, ...], looks: tuple[Array, Array], traits: tuple[Array, ...]
    ) -> None:
        """x, z: (N or 1, T or 1). box: half a width, length, height."""
        many = len(box[2])
        more = np.zeros((TRAITS, many))
        for row, trait in zip(more, traits, strict=False):
            row[:] = trait
        sizes = (np.broadcast_to(side, many) for side in box)
        tracks = (np.broadcast_to(track, (many, frames)) for track in (x, z))
        sets.append((np.full(many, kind), *tracks, *sizes, *looks, more))

    def places(step: tuple[float, float], first: float, last: float) -> Array:
        at = first + np.cumsum(draw(*step, int((last - first) / step[0]) + 1))
        return at[at < last]

    hue = draw(-0.02, 0.14)  # of most houses: red to yellow
    for side in (-1, 1):
        ends = places((9, 20), -30, end + FAR_HOUSES)
        many = len(ends) - 1
        gap = np.where(draw(size=many) < 0.3, draw(2, 7, many), 0)
        floor = draw(2.8, 3.5, many)
        height = floor * chance.integers(2, 6, many) + draw(0.5, 1.2, many)
        x = side * (HOUSES + draw(0, 0.7, many) + 6)
        odd = draw(size=many) < 0.2
        hues, strengths = np.where(odd, draw(size=many), hue + draw(-0.06, 0.06, many)), draw(0.08, 0.5, many)
        walls = paints(hues, strengths * np.where(odd, 0.6, 1), draw(0.42, 0.88, many))
        glass = paints(draw(0.52, 0.62, many), draw(0.1, 0.4, many), draw(0.15, 0.4, many))
        windows = draw(1.7, 3, many), floor, draw(0.4, 0.65, many), draw(0.4, 0.6, many)
        box = np.array(6.0), ends[1:] - ends[:-1] - gap, height
        add(BUILDING, x[:, None], ends[:-1, None], box, (walls, glass), (*windows, draw(size=many)))
        apart = draw(7, 12)
        at = places((apart, apart + 4), -8, end + FAR)
        at = at[draw(size=len(at)) < draw(0.4, 1)]
        many = len(at)
        crown, height = draw(1.2, 1.9, many), draw(4.6, 6.8, many)
        leaves = paints(draw(0.2, 0.36) + draw(-0.03, 0.03, many), draw(0.45, 0.75, many), draw(0.4, 0.62, many))
        bark = paints(draw(0.05, 0.1, many), draw(0.2, 0.4, many), draw(0.25, 0.4, many))
        box = crown * draw(0.75, 1.0, many), np.array(0.0), height
        add(TREE, np.array([[side * 6.4]]), at[:, None], box, (leaves, bark), (crown, *draw(1, 9, (3, many))))

    cars: list[tuple[Array, Array]] = []  # tracks, each (N, T)

    def traffic(x: float, z: Array, face: float, bodies: Sequence[int]) -> None:
        """z: (N, T) near ends."""
        many = len(z)
        length, half, body, roof = CARS[chance.choice(bodies, many)].T
        grey_ones = draw(size=many) < 0.45
        colours = paints(draw(size=many), np.where(grey_ones, 0.05, draw(0.5, 0.9, many)), draw(0.2, 0.95, many))
        add(CAR, x + draw(-0.12, 0.12, (many, 1)), z, (half, length, roof), (colours, colours), (body, np.array(face)))
        cars.append((sets[-1][1], z))

    for side in (-1, 1):
        spots = np.arange(-12 + draw(0, 6.5), end + FAR, 6.5)
        spots = spots[draw(size=len(spots)) < draw(0.15, 0.7)]
        traffic(side * PARKED, np.broadcast_to(spots[:, None], (len(spots), frames)), float(side < 0), (0, 0, 1, 1, 2))
    oncoming = np.cumsum(np.full(frames, draw(6, 11) / 25))
    queue = places((13, draw(25, 60)), -10, end + FAR + oncoming[-1])
    traffic(-LANE, queue[:, None] - oncoming, 1.0, (0, 0, 1, 1, 2, 3))
    ahead = places((11, 40), draw(0, 20), 90)
    drift = draw(0, 1.5) / 25 * time + 1.5 * wave(300, 100)
    traffic(LANE, ahead[:, None] + np.maximum.accumulate(way + drift - drift[0]), 0.0, (0, 1, 2, 3))  # none backs up

    def people(x: Array, z: Array) -> None:
        many = len(x)
        height = np.where(draw(size=many) < 0.15, draw(1.1, 1.4, many), draw(1.55, 1.9, many))
        coats = paints(draw(size=many), draw(0.2, 0.95, many), draw(0.25, 0.95, many))
        trousers = paints(draw(0.5, 0.75, many), draw(0.1, 0.6, many), draw(0.12, 0.5, many))
        walks = np.ptp(x, 1) + np.ptp(np.broadcast_to(z, (many, frames)), 1) > 0.3
        manner = 0.26 * walks + 0.04, draw(0, 6, many), draw(0.4, 0.95, many), draw(0.05, 0.5, many)
        add(PERSON, x, z, (height * draw(0.14, 0.18, many), np.array(0.0), height), (coats, trousers), manner)

    # On the pavements, and some who cross where no car comes.
    for side in (-1, 1):
        at = places((2.5, draw(6, 16)), -40, end + FAR + 30)
        many = len(at)
        pace = np.where(draw(size=many) < 0.12, 0, draw(0.9, 1.7, many)) * np.sign(draw(-1, 1, many)) / 25
        x = side * draw(6.7, 8.3, (many, 1)) + 0.1 * np.sin(time * draw(0.02, 0.05, (many, 1)) + draw(0, 6, (many, 1)))
        people(x, at[:, None] + pace[:, None] * time)
    crossing = []
    for at in draw(9, end + 50, 4 + frames // 10).tolist():
        pace = draw(1.1, 1.7) * np.sign(draw(-1, 1)) / 25
        x = np.clip(draw(-5, 5) + pace * (time - draw(0, frames)), -7.4, 7.4)
        hit = bool(np.any((np.abs(x) < KERB) & (way > at - 6) & (way < at + 1)))  # by us
        for car_x, car_z in cars:
            hit |= bool(np.any((np.abs(x - car_x) < 1.5) & (car_z < at + 1) & (car_z > at - 10.5)))
        if not hit:
            crossing.append((x, at))
    if crossing:
        people(np.stack([x for x, _ in crossing]), np.array([[at] for _, at in crossing]))

    sun, ambient, zenith, horizon, (clouds, lamps) = MOODS[int(chance.integers(len(MOODS)))]
    strength = draw(0.88, 1.12)

    def colour(values: Sequence[float], spread: float) -> Array:
        return (np.array(values) * strength * draw(1 - spread, 1 + spread, 3)).astype(np.float32)

    kinds, xs, zs, *rest = zip(*sets, strict=True)
    half, length, size, first, second, traits = (np.concatenate(part, -1).astype(np.float32) for part in rest)
    return World(
        np.concatenate(kinds),
        np.concatenate(xs),
        np.concatenate(zs),
        half,
        length,
        size,
        first,
        second,
        traits,
        eye,
        sun=colour(sun, 0.06),
        ambient=colour(ambient, 0.05),
        zenith=colour(zenith, 0.08),
        horizon=colour(horizon, 0.04),
        slant=(float(draw(-1, 1)), float(draw(0.1, 0.9))),
        clouds=clouds + float(draw(-0.25, 0.25)),
        lamps=lamps,
        haze=float(draw(110, 260)),
        phase=draw(0, 9, 4).astype(np.float32),
    )


def paints(hue: Array | float, strength: Array, value: Array) -> Array:
    """Hue, saturation and value, each around 0-1 and (N,), to RGB in 0-1, (3, N)."""
    wheel = np.abs((np.asarray(hue) + np.array([[1], [2 / 3], [1 / 3]])) % 1 * 6 - 3) - 1
    return value * (1 + strength * (np.clip(wheel, 0, 1) - 1))


# Light of a time of day: sun, everything around, sky overhead, sky at the horizon; clouds, lamps.
MOODS: list[tuple[Sequence[float], ...]] = [
    ((0.62, 0.58, 0.50), (0.50, 0.53, 0.58), (0.22, 0.45, 0.85), (0.72, 0.83, 0.93), (0.0, 0.0)),  # noon
    ((0.72, 0.52, 0.30), (0.42, 0.42, 0.48), (0.35, 0.50, 0.78), (0.96, 0.84, 0.68), (0.0, 0.1)),  # morning
    ((0.10, 0.10, 0.10), (0.66, 0.68, 0.72), (0.62, 0.66, 0.72), (0.80, 0.82, 0.84), (0.6, 0.2)),  # overcast
    ((0.60, 0.34, 0.18), (0.38, 0.34, 0.40), (0.24, 0.28, 0.54), (0.94, 0.60, 0.42), (-0.1, 0.6)),  # sunset
    ((0.06, 0.06, 0.10), (0.26, 0.28, 0.40), (0.07, 0.09, 0.24), (0.30, 0.32, 0.46), (-0.2, 1.0)),  # dusk
]
