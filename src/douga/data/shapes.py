"""Endless synthetic clips: 1 to 3 textured shapes glide, turn and grow over a textured, slowly moving background.

Every layer moves by an affine map that is known, so the exact flow between frames is known too. A scene is a function of
(split, index) alone and does not depend on the size at which it is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from douga.video.ops import warp

VIDEOS = {"train": 100_000, "validation": 1_000, "test": 1_000}
FRAMES = 32
WAVES = 3  # of a layer's texture


class Shapes:
    """Source without files: `root` is ignored. See `douga.core.contracts.Source`."""

    splits: ClassVar[tuple[str, ...]] = tuple(VIDEOS)
    licence: ClassVar[str] = "no rights to clear: drawn from a formula"
    endless: ClassVar[bool] = True
    fps = 25.0

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"shapes has the splits {', '.join(self.splits)}, not {split!r}")
        self.split, self.size = split, size
        self.lengths = [FRAMES] * VIDEOS[split]
        self.names = [f"shapes-{split}-{index:06}" for index in range(VIDEOS[split])]

    def __len__(self) -> int:
        return len(self.lengths)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        return self._draw(index, start, length)[0]

    def flow(self, index: int, start: int, length: int) -> Float[Tensor, "2 t1 h w"]:
        """(2, length - 1, H, W), px, x first: the exact motion from each frame but the first back to the one before.

        `warp(frame t, flow)` gives frame t + 1 wherever `visible` says so.
        """
        _, cover, places = self._draw(index, start, length)
        x, y = self._pixels()
        steps = torch.from_numpy(np.linalg.inv(places[:, :-1]) @ places[:, 1:] - np.eye(3)).float()[..., None, None]
        motion = steps[:, :, :2, 0] * x + steps[:, :, :2, 1] * y + steps[:, :, :2, 2]  # (layers, T-1, 2, H, W)
        top = cover[:, 1:].argmax(0)  # (T-1, H, W)
        return motion.gather(0, top[None, :, None].expand(1, -1, 2, -1, -1))[0].transpose(0, 1).contiguous()

    def visible(self, index: int, start: int, length: int) -> Bool[Tensor, "1 t1 h w"]:
        """(1, length - 1, H, W): True where what is seen in a frame is also seen in the one before.

        False at the soft edges of shapes, where a pixel belongs to two layers that move apart.
        """
        _, cover, _ = self._draw(index, start, length)
        flow = self.flow(index, start, length)
        x, y = self._pixels()
        height, width = self.size
        share, top = cover[:, 1:].max(0)
        before = warp(cover[:, :-1].transpose(0, 1), flow.transpose(0, 1)).gather(1, top[:, None])[:, 0]
        inside = (x + flow[0] >= 0) & (x + flow[0] <= width - 1) & (y + flow[1] >= 0) & (y + flow[1] <= height - 1)
        return (inside & (share > 0.99) & (before > 0.99))[None]

    def _pixels(self) -> tuple[Tensor, Tensor]:
        return torch.arange(self.size[1]).float(), torch.arange(self.size[0]).float()[:, None]

    def _draw(
        self, index: int, start: int, length: int
    ) -> tuple[Float[Tensor, "3 t h w"], Float[Tensor, "n t h w"], np.ndarray]:
        """The frames; how much of each pixel each layer covers (sums to 1); and (layers, T, 3, 3) float64 affine maps
        from pixels (x, y, 1) to a layer's own coordinates, in which its shape rests and is about 1 in radius.
        """
        assert 0 <= index < len(self) and start >= 0 and length > 0 and start + length <= FRAMES
        # Not torch's generator, which takes the lowest 32 bits of a seed and forgets the rest.
        chance = np.random.default_rng((self.splits.index(self.split), index))
        layers = 1 + int(chance.integers(1, 4))  # the background, then shapes, the later ones in front
        height, width = self.size
        unit = min(height, width)  # positions and radii count in short sides

        def draw(low: float, high: float, *shape: int) -> np.ndarray:
            return chance.uniform(low, high, (layers, *shape))

        radius = draw(0.12, 0.24)
        radius[0] = 1  # the background's own coordinates are the picture's
        speed, heading = draw(0.012, 0.022), draw(0, 2 * np.pi)
        speed[0] *= 0.3
        # Each layer's x, y, angle and logarithm of its size over time: a place in the middle, a drift and a swing.
        middle = np.stack(
            [draw(-0.2, 0.2) * width / unit, draw(-0.2, 0.2) * height / unit, draw(0, 6.3), np.log(radius)], 1
        )
        drift = np.stack([speed * np.cos(heading), speed * np.sin(heading), draw(-0.05, 0.05), draw(-0.01, 0.01)], 1)
        swing = draw(0, 1, 4) * [0.04, 0.04, 0.2, 0.1]
        drift[0, 2:] *= 0.1
        swing[0] *= 0.1
        time = np.arange(FRAMES) - (FRAMES - 1) / 2
        # All frames, then the cut: a vectorised sine may round otherwise in an array of another length.
        state = middle[..., None] + drift[..., None] * time
        state += swing[..., None] * np.sin(draw(0.1, 0.25, 4, 1) * time + draw(0, 6.3, 4, 1))
        x, y, angle, log_size = state[:, :, start : start + length].transpose(1, 0, 2)  # each (layers, T)
        cos, sin, zero = np.cos(angle) / np.exp(log_size), np.sin(angle) / np.exp(log_size), np.zeros_like(angle)
        own = np.stack([cos, sin, -cos * x - sin * y, -sin, cos, sin * x - cos * y, zero, zero, zero + 1], axis=-1)
        to_units = np.array([[1 / unit, 0, (1 - width) / 2 / unit], [0, 1 / unit, (1 - height) / 2 / unit], [0, 0, 1]])
        places = own.reshape(layers, length, 3, 3) @ to_units

        kinds, narrow = chance.integers(3, size=layers), draw(0.5, 1)
        colours = draw(-0.48, 0.48, 3)
        contrast = torch.from_numpy(draw(0.08, 0.17, 3, WAVES) * np.sign(draw(-1, 1, 3, WAVES))).float()
        wavelength, tilt, phase = draw(0.8, 2.5, WAVES), draw(0, 2 * np.pi, WAVES), draw(0, 2 * np.pi, WAVES)
        wavelength[0] *= 0.2
        waves = 2 * np.pi / wavelength * np.stack([np.cos(tilt), np.sin(tilt)])  # (2, layers, WAVES)

        pixel_x, pixel_y = self._pixels()
        maps = torch.from_numpy(places).float()[..., None, None]
        size_px = torch.from_numpy(np.exp(log_size) * unit).float()[..., None, None]
        frames, cover = torch.zeros(3, length, height, width), torch.ones(1, length, height, width)
        for k in range(layers):
            u = maps[k, :, 0, 0] * pixel_x + maps[k, :, 0, 1] * pixel_y + maps[k, :, 0, 2]  # (T, H, W)
            v = maps[k, :, 1, 0] * pixel_x + maps[k, :, 1, 1] * pixel_y + maps[k, :, 1, 2]
            texture = torch.from_numpy(colours[k]).float()[:, None, None, None]
            for j in range(WAVES):
                wave = (float(waves[0, k, j]) * u + float(waves[1, k, j]) * v + float(phase[k, j])).sin_()
                texture = texture + contrast[k, :, j, None, None, None] * wave
            if k == 0:
                frames = texture
                continue
            if kinds[k] == 0:  # a disc
                outside = (u * u + v * v).sqrt_() - 1
            elif kinds[k] == 1:  # a box
                outside = torch.maximum(u.abs() - 1, v.abs() - float(narrow[k]))
            else:  # a triangle of three even sides
                outside = torch.maximum(v * -1, 0.5 * v + 3**0.5 / 2 * u.abs()) - 0.65
            alpha = (0.5 - outside * size_px[k]).clamp_(0, 1)  # an edge one pixel wide
            frames = frames + alpha * (texture - frames)
            cover = torch.cat([cover * (1 - alpha), alpha[None]])
        return frames, cover, places
