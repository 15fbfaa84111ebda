"""Optical flow between two pictures, without learning.

Kroeger, Timofte, Dai, Van Gool, *Fast Optical Flow using Dense Inverse Search*, ECCV 2016 (DIS, OpenCV's version).
Conventions: flow (B, 2, H, W) in pixels, x first. Everything here runs on the CPU.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from douga.video.ops import warp

# DIS ends at half resolution with 8-px patches and gets lost in small pictures: it sees them with this shorter side.
FINE_PX = 128


def estimate(source: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 h w"]:
    """DIS flow, in pixels, x first, from each pixel of `source` to where it is seen in `target`."""
    height, width = source.shape[-2:]
    scale = max(1.0, FINE_PX / min(height, width))
    size = round(height * scale), round(width * scale)
    grey = (F.interpolate(frame.mean(1, keepdim=True), size, mode="bicubic") for frame in (source, target))
    pairs = zip(*((frame[:, 0] * 127.5 + 127.5).round().clamp(0, 255).byte().numpy() for frame in grey), strict=True)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fine = np.stack([dis.calc(a, b, None) for a, b in pairs])  # type: ignore[call-overload]
    flow = F.interpolate(torch.from_numpy(fine).permute(0, 3, 1, 2), (height, width), mode="bilinear", antialias=True)
    return flow * torch.tensor([width / size[1], height / size[0]])[:, None, None]


def inside(flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 1 h w"]:
    """1 where the flow leads to a place in the picture, 0 where it leads out of it."""
    height, width = flow.shape[-2:]
    x, y = (torch.arange(n, device=flow.device) for n in (width, height))
    x, y = x + flow[:, :1], y[:, None] + flow[:, 1:]
    return ((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)).float()


def projected(
    first: Float[Tensor, "b c h w"],
    last: Float[Tensor, "b c h w"],
    flow_01: Float[Tensor, "b 2 h w"],
    flow_10: Float[Tensor, "b 2 h w"],
    t: float,
) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 2 h w"], Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]:
    """The flows between two frames as seen at time `t` in (0, 1), if each pixel moves on a straight line at constant speed.

    Returns the flow, px, from what is drawn at t to the first and to the last frame, and how far each of them is to be trusted:
    weights of 0 or more, whose sum is 1 or less; 0 where a frame does not show what is there at t.
    """
    # A pixel whose flow leads to another colour, or does not lead back, is about to be covered or was not found again:
    # where it lands it lies under the others.
    trust_0, trust_1 = (
        torch.exp(-5 * (source - warp(target, there)).abs().mean(1, keepdim=True) - _square(there + warp(back, there)))
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
    weight_0 = (1 - t) * inside(flow_t0) * torch.exp(-_square(warp(flow_01, flow_t0) - motion) / 3)
    weight_1 = t * inside(flow_t1) * torch.exp(-_square(warp(flow_10, flow_t1) + motion) / 3)
    return flow_t0, flow_t1, weight_0, weight_1


def _square(flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 1 h w"]:
    return flow.square().sum(1, keepdim=True)


def splat(values: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b c h w"]:
    """Forward warping: each pixel adds its values to the four places around where the flow leads, by nearness."""
    batch, channels, height, width = values.shape
    x = torch.arange(width, device=flow.device) + flow[:, 0]  # (B, H, W)
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    landed = values.new_zeros(batch, channels, height * width)
    for column in (x.floor(), x.floor() + 1):
        for row in (y.floor(), y.floor() + 1):
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            weight = weight * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index = place.long().reshape(batch, 1, -1).expand(-1, channels, -1)
            landed.scatter_add_(2, index, (values * weight[:, None]).reshape(batch, channels, -1))
    return landed.reshape(values.shape)
