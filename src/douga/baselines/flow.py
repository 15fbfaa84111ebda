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
from douga.video.flow import estimate, inside
from douga.video.ops import warp

FADE = 0.05  # weight of the plain cross-fade


class Flow:
    """Moves the pixels of the two known frames around; before the first and after the last known frame it holds."""

    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = False
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
    # A pixel whose flow leads to another colour, or does not lead back, is about to be covered or was not found again:
    # where it lands it lies under the others.
    trust_0, trust_1 = (
        torch.exp(-5 * (source - warp(target, there)).abs().mean(1, keepdim=True) - square(there + warp(back, there)))
        for source, target, there, back in ((first, last, flow_01, flow_10), (last, first, flow_10, flow_01))
    )
    # Each pixel carries its motion to where it is at time t; both pictures vote on what lands there.
    votes = splat(torch.cat([flow_01 * trust_0, trust_0], 1), t * flow_01)
    votes = votes + splat(torch.cat([-flow_10 * trust_1, trust_1], 1), (1 - t) * flow_10)
    # Nothing lands in a gap: there, motion is taken from the same place in both frames.
    gap = (1 - t) * flow_01 - t * flow_10
    motion = (votes[:, :2] + 1e-3 * gap) / (votes[:, 2:] + 1e-3)  # from frame 0 to frame 1, seen at time t
    flow_t0, flow_t1 = -t * motion, (1 - t) * motion
    # A frame shows what is seen at t only if its own flow, where we draw from it, tells the same motion.
    weight_0 = (1 - t) * inside(flow_t0) * torch.exp(-square(warp(flow_01, flow_t0) - motion) / 3)
    weight_1 = t * inside(flow_t1) * torch.exp(-square(warp(flow_10, flow_t1) + motion) / 3)
    # Where neither does, a cross-fade is the lesser evil: a wrong motion tears the picture.
    drawn = weight_0 * warp(first, flow_t0) + weight_1 * warp(last, flow_t1) + FADE * torch.lerp(first, last, t)
    return drawn / (weight_0 + weight_1 + FADE)


def square(flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 1 h w"]:
    return flow.square().sum(1, keepdim=True)


def splat(values: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b c h w"]:
    """Forward warping: each pixel adds its values to the four places around where the flow leads, by nearness."""
    batch, channels, height, width = values.shape
    x, y = torch.arange(width) + flow[:, 0], torch.arange(height)[:, None] + flow[:, 1]  # (B, H, W)
    landed = values.new_zeros(batch, channels, height * width)
    for column in (x.floor(), x.floor() + 1):
        for row in (y.floor(), y.floor() + 1):
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            weight = weight * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index = place.long().reshape(batch, 1, -1).expand(-1, channels, -1)
            landed.scatter_add_(2, index, (values * weight[:, None]).reshape(batch, channels, -1))
    return landed.reshape(values.shape)
