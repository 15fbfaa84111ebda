"""Interpolation along DIS optical flow, without learning: both ways, projected to the time drawn, warped, blended.

Kroeger, Timofte, Dai, Van Gool, *Fast Optical Flow using Dense Inverse Search*, ECCV 2016 (the flow, OpenCV's version).
Each pixel moves on a straight line at constant speed from one known frame to the next.
Conventions: flow (B, 2, H, W) in pixels, x first; flow_01 leads from frame 0 to frame 1; t in (0, 1) lies between.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from douga.core.clip import Request
from douga.video.flow import estimate, projected
from douga.video.ops import warp

FADE = 0.05  # weight of the plain cross-fade


class Flow:
    """Moves the pixels of the two known frames around; before the first and after the last known frame it holds."""

    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = False
    any_planes: ClassVar[bool] = True
    size: tuple[int, int] | None = None

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        known = request.known.cpu()  # DIS runs on the CPU
        drawn = torch.empty_like(known)
        flows: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        for time, (left, right, way) in enumerate(zip(*(part.tolist() for part in request.ways()), strict=True)):
            first, last = known[:, :, left], known[:, :, right]
            if left == right:
                drawn[:, :, time] = first
                continue
            if (left, right) not in flows:
                flows = {(left, right): (estimate(first, last), estimate(last, first))}
            drawn[:, :, time] = between(first, last, *flows[left, right], way)
        return request.keep_known(drawn.to(request.known.device).expand(samples, *drawn.shape))


def between(
    first: Float[Tensor, "b c h w"],
    last: Float[Tensor, "b c h w"],
    flow_01: Float[Tensor, "b 2 h w"],
    flow_10: Float[Tensor, "b 2 h w"],
    t: float,
) -> Float[Tensor, "b c h w"]:
    """Draw time `t` in (0, 1) between two frames from the flows between them."""
    flow_t0, flow_t1, weight_0, weight_1 = projected(first, last, flow_01, flow_10, t)
    # Where neither frame is to be trusted, a cross-fade is the lesser evil: a wrong motion tears the picture.
    moved = warp(first, flow_t0, mode="bicubic"), warp(last, flow_t1, mode="bicubic")
    drawn = weight_0 * moved[0] + weight_1 * moved[1] + FADE * torch.lerp(first, last, t)
    return (drawn / (weight_0 + weight_1 + FADE)).clamp(-1, 1)
