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
    x, y = torch.arange(width) + flow[:, :1], torch.arange(height)[:, None] + flow[:, 1:]
    return ((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)).float()
