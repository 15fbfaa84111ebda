"""Synthetic motion made from still pictures: pieces of them glide, turn, grow and twist over a moving ground.

Every layer's motion is a formula that can be inverted, so the exact flow is known, and what is hidden. What in-betweening learns
from where real clips are few: large motion, occlusion, and no edge that is only there because it moves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from douga.data.folder import Folder
from douga.video.ops import warp

VIDEOS = {"train": 600, "validation": 60, "test": 60}
FRAMES = 24
OF_ONE_VIDEO = 6  # stills, from its first SPAN frames: no container can be entered in its middle exactly
SPAN = 120
PETALS = 5  # waves of a piece's outline
SHARP = 2  # stills are so many times finer than the clips, because pieces may grow


class Layers:
    """Source. `root` is what `pictures` takes, a source whose videos give the stills.

    A scene is a function of (split, index, stills) alone. See `douga.core.contracts.Source`.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(VIDEOS)
    licence: ClassVar[str] = "whatever holds for your pictures"
    endless: ClassVar[bool] = False  # decoding stills is slow, so clips are cached
    fps = 25.0

    def __init__(
        self, root: Path | None, split: str, size: tuple[int, int], pictures: Callable[..., Any] = Folder
    ) -> None:
        if split not in self.splits:
            raise ValueError(f"layers has the splits {', '.join(self.splits)}, not {split!r}")
        self.pictures = pictures(root, split, (SHARP * size[0], SHARP * size[1]))
        self.split, self.size = split, size
        count = VIDEOS[split] if len(self.pictures) else 0
        self.lengths = [FRAMES] * count
        self.names = [f"layers-{split}-{index:04}" for index in range(count)]
        self.stamp = hashlib.sha256(
            f"1 {self.pictures.stamp}".encode()
        ).hexdigest()  # the number changes with the formula

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def stills(self) -> list[Tensor]:
        """(3, SHARP * H, SHARP * W) each."""
        found = []
        for video, length in enumerate(self.pictures.lengths):
            head = self.pictures.clip(video, 0, min(length, SPAN))
            at = np.linspace(0, head.shape[1] - 1, min(OF_ONE_VIDEO, head.shape[1])).round()
            found += [head[:, int(k)].clone() for k in dict.fromkeys(at)]
        return found

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        return self._draw(index, start, length)[0]

    def flow(self, index: int, start: int, length: int) -> Float[Tensor, "2 t1 h w"]:
        """(2, length - 1, H, W), px, x first: the exact motion from each frame but the first back to the one before."""
        _, cover, state = self._draw(index, start, length)
        places = torch.stack([self._moved(state, t, t - 1) for t in range(1, length)], 1)  # (layers, T-1, 2, H, W)
        top = cover[:, 1:].argmax(0)[None, :, None].expand(1, -1, 2, -1, -1)
        return places.gather(0, top)[0].transpose(0, 1).contiguous()

    def visible(self, index: int, start: int, length: int) -> Bool[Tensor, "1 t1 h w"]:
        """(1, length - 1, H, W): True where what is seen in a frame is also seen in the one before."""
        _, cover, _ = self._draw(index, start, length)
        flow = self.flow(index, start, length)
        x, y = self._pixels()
        share, top = cover[:, 1:].max(0)
        before = warp(cover[:, :-1].transpose(0, 1), flow.transpose(0, 1)).gather(1, top[:, None])[:, 0]
        height, width = self.size
        inside = (x + flow[0] >= 0) & (x + flow[0] <= width - 1) & (y + flow[1] >= 0) & (y + flow[1] <= height - 1)
        return (inside & (share > 0.99) & (before > 0.99))[None]

    def _pixels(self) -> tuple[Tensor, Tensor]:
        return torch.arange(self.size[1]).float(), torch.arange(self.size[0]).float()[:, None]

    def _draw(
        self, index: int, start: int, length: int
    ) -> tuple[Float[Tensor, "3 t h w"], Float[Tensor, "n t h w"], Float[Tensor, "n t 5"]]:
        """The frames; how much of each pixel each layer covers; and each layer's x, y (px), angle, size (px) and twist."""
        assert 0 <= index < len(self) and start >= 0 and length > 0 and start + length <= FRAMES
        chance = np.random.default_rng((self.splits.index(self.split), index))
        layers = 1 + int(chance.integers(1, 5))  # the ground, then pieces, the later ones in front
        height, width = self.size
        unit = min(height, width)

        def draw(low: float, high: float, *shape: int) -> np.ndarray:
            return chance.uniform(low, high, (layers, *shape))

        # Over time: a place in the middle, a drift and a swing, of x, y, angle, log of the size, and twist.
        quick = draw(0, 1) ** 2  # most are slow, some cross half of the picture in 16 frames
        heading, speed = draw(0, 2 * np.pi), unit * (0.002 + 0.035 * quick)
        speed[0] *= 0.4
        middle = np.stack(
            [
                width * draw(0.1, 0.9),
                height * draw(0.1, 0.9),
                draw(0, 6.3),
                np.log(unit * draw(0.1, 0.35)),
                0 * heading,
            ],
            1,
        )
        middle[0] = [width / 2, height / 2, 0, np.log(unit / 2), 0]
        drift = np.stack(
            [speed * np.cos(heading), speed * np.sin(heading), draw(-0.08, 0.08), draw(-0.012, 0.012), 0 * heading], 1
        )
        swing = draw(0, 1, 5) * [0.12 * unit, 0.12 * unit, 0.5, 0.15, 0.9]
        drift[0, 2:] *= 0.2
        swing[0] *= [0.3, 0.3, 0.1, 0.2, 0]
        time = np.arange(FRAMES) - (FRAMES - 1) / 2
        states = middle[..., None] + drift[..., None] * time
        states += swing[..., None] * np.sin(draw(0.1, 0.45, 5, 1) * time + draw(0, 6.3, 5, 1))
        states[:, 3] = np.exp(states[:, 3])
        state = torch.from_numpy(states.transpose(0, 2, 1)[:, start : start + length].copy()).float()

        which = chance.integers(len(self.stills), size=layers)
        centres = draw(-0.5, 0.5, 2)
        centres[0] = 0
        petals, turned = draw(-1, 1, PETALS) * 0.35 / np.arange(1, PETALS + 1), draw(0, 6.3, PETALS)
        tint = 1 + draw(-0.25, 0.25, 3)

        frames, cover = torch.zeros(3, length, height, width), torch.ones(1, length, height, width)
        for k in range(layers):
            u = self._own(state[k])  # (T, 2, H, W)
            still = self.stills[which[k]]
            # In the middle of its time a layer shows its still pixel for pixel, so nothing glitters; beyond the borders mirrored.
            grid = torch.from_numpy(centres[k]) + 2 * np.exp(middle[k, 3]) / (SHARP * unit) * u.permute(0, 2, 3, 1)
            texture = F.grid_sample(
                still.expand(length, -1, -1, -1), grid.float(), padding_mode="reflection", align_corners=False
            ).transpose(0, 1)
            texture = (texture * torch.from_numpy(tint[k]).float()[:, None, None, None]).clamp(-1, 1)
            if k == 0:
                frames = texture
                continue
            angle, outline = torch.atan2(u[:, 1], u[:, 0]), torch.ones(())
            for j in range(PETALS):
                outline = outline + float(petals[k, j]) * torch.cos((j + 1) * angle + float(turned[k, j]))
            inside = (outline - u.square().sum(1).sqrt()) * state[k, :, 3, None, None]  # px, roughly
            alpha = (inside + 0.5).clamp(0, 1)
            frames = frames + alpha * (texture - frames)
            cover = torch.cat([cover * (1 - alpha), alpha[None]])
        return frames.contiguous(), cover, state

    def _own(self, state: Float[Tensor, "t 5"]) -> Float[Tensor, "t 2 h w"]:
        """Each pixel in a layer's own coordinates, in which it rests and is about 1 in radius."""
        x, y = self._pixels()
        left, top, angle, size, twist = (value[:, None, None] for value in state.unbind(1))
        q = torch.stack([(x - left) / size + 0 * y, (y - top) / size + 0 * x], 1)
        return _turn(q, -angle - twist * q.square().sum(1))

    def _moved(self, state: Float[Tensor, "n t 5"], t: int, other: int) -> Float[Tensor, "n 2 h w"]:
        """From each pixel of frame t to where the same point of each layer is in another frame."""
        u = self._own(state[:, t])
        left, top, angle, size, twist = (value[:, None, None] for value in state[:, other].unbind(1))
        q = _turn(u, angle + twist * u.square().sum(1))
        x, y = self._pixels()
        return torch.stack([q[:, 0] * size + left - x, q[:, 1] * size + top - y], 1)


def _turn(q: Float[Tensor, "n 2 h w"], angle: Float[Tensor, "n h w"]) -> Float[Tensor, "n 2 h w"]:
    """By an angle of each point's own; that keeps its distance from the centre, so a twist is undone by its negative."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * q[:, 0] - sin * q[:, 1], sin * q[:, 0] + cos * q[:, 1]], 1)
