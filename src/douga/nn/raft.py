"""RAFT-small, a learned optical flow: all pairs of places are compared, then a recurrent unit corrects step by step.

Teed, Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020, the smaller network of its
appendix with the authors' weights. Everything is computed at an eighth of the picture's height and width:

    C(p, q) = <f(p), f(q)> / sqrt(128), pooled over q to 1/2, 1/4 and 1/8
    x = the context of p, what the four C hold in 7x7 places around p + flow(p), the flow so far
    h' = (1 - z) h + z tanh(W [r h, x]),   z, r = sigmoid(W [h, x]),   flow' = flow + head(h')

Conventions: flow (B, 2, H, W) in pixels, x first, as in `douga.video.flow`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from douga.nn.pretrained import load

# Pictures with a shorter side below this are enlarged. From 128 on the network runs at all (the coarsest correlations
# are then 2 places wide), but sees too little: on shapes of 64 and 128 px it errs by 0.19 and 0.36 px then, and DIS by
# 0.18 and 0.33. At 256 it errs by 0.14 and 0.24, at 384 by 0.13 and 0.19, for twice the time.
SMALLEST_PX = 256
LEVELS, RADIUS = 4, 3
HIDDEN = 96  # channels of the recurrent state; the context encoder gives the first state and 64 more


class RaftSmall:
    """The frozen network. It follows its input to any device. Raises as `douga.nn.pretrained.load`."""

    def __init__(self) -> None:
        self._tensors = load("raft-small")

    @torch.no_grad()
    def __call__(
        self, source: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"], iterations: int = 12
    ) -> Float[Tensor, "b 2 h w"]:
        """Flow, in pixels, x first, from each pixel of `source` to where it is seen in `target`.

        source, target: RGB in [-1, 1], of any size, on one device.
        iterations: how often the flow is corrected; the authors train with 12.
        Pictures of less than 256 px on the shorter side are enlarged, and the flow is brought back to their size. To
        whole multiples of 8 px they are padded with their edges, half on each side, as the authors do for Sintel.
        A pair takes (H W / 64)^2 * 5.3 bytes beside its features: 1.1 GB at 1280x720.
        Raises ValueError for less than one iteration.
        """
        if iterations < 1:
            raise ValueError(f"RAFT takes 1 iteration or more, not {iterations}")
        b, _, height, width = source.shape
        scale = max(1.0, SMALLEST_PX / min(height, width))
        size = round(height * scale), round(width * scale)
        down, across = (-side % 8 for side in size)
        top, left = down // 2, across // 2
        pictures = torch.cat([source, target]).float()
        if size != (height, width):
            pictures = F.interpolate(pictures, size, mode="bicubic", antialias=True).clamp(-1, 1)  # it overshoots
        pictures = F.pad(pictures, (left, across - left, top, down - top), mode="replicate")
        self._tensors = {name: tensor.to(pictures.device) for name, tensor in self._tensors.items()}
        precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.autocast(pictures.device.type, enabled=False), precise:
            flow = self._flow(pictures[:b], pictures[b:], iterations)
        flow = flow[..., top : top + size[0], left : left + size[1]]
        if size != (height, width):
            flow = F.interpolate(flow, (height, width), mode="bilinear", antialias=True)
            flow = flow * flow.new_tensor([width / size[1], height / size[0]])[:, None, None]
        return flow

    def _flow(self, source: Tensor, target: Tensor, iterations: int) -> Tensor:
        """(B, 2, H, W) for sides that are multiples of 8."""
        pyramid = self._correlations(*(self._encoder(x, "fnet", F.instance_norm) for x in (source, target)))
        state, context = self._encoder(source, "cnet", lambda x: x).tensor_split([HIDDEN], dim=1)
        state, context = state.tanh(), context.relu()
        b, _, h, w = state.shape
        rows, columns = torch.arange(h, device=state.device), torch.arange(w, device=state.device)
        here = torch.stack(torch.meshgrid(columns, rows, indexing="xy")).float()  # (2, h, w), x first
        flow = torch.zeros(b, 2, h, w, device=state.device)
        for _ in range(iterations):
            seen = self._conv(_look_up(pyramid, here + flow), "update_block.encoder.convc1").relu_()
            moved = self._conv(flow, "update_block.encoder.convf1").relu_()
            moved = self._conv(moved, "update_block.encoder.convf2").relu_()
            motion = self._conv(torch.cat([seen, moved], dim=1), "update_block.encoder.conv").relu_()
            x = torch.cat([context, motion, flow], dim=1)
            update, reset = (
                self._conv(torch.cat([state, x], dim=1), f"update_block.gru.conv{gate}").sigmoid_() for gate in "zr"
            )
            new = self._conv(torch.cat([reset * state, x], dim=1), "update_block.gru.convq").tanh_()
            state = torch.lerp(state, new, update)
            correction = self._conv(state, "update_block.flow_head.conv1").relu_()
            flow = flow + self._conv(correction, "update_block.flow_head.conv2")
        # As in training: the corners of the coarse grid are laid on those of the fine one.
        return 8 * F.interpolate(flow, scale_factor=8, mode="bilinear", align_corners=True)

    def _encoder(self, x: Tensor, name: str, norm: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, 3, H, W) to (B, channels, H/8, W/8): six bottlenecks, two of which halve height and width."""
        x = norm(self._conv(x, f"{name}.conv1", stride=2)).relu_()
        for layer, block, stride in ((1, 0, 1), (1, 1, 1), (2, 0, 2), (2, 1, 1), (3, 0, 2), (3, 1, 1)):
            unit = f"{name}.layer{layer}.{block}"
            inner = norm(self._conv(x, f"{unit}.conv1")).relu_()
            inner = norm(self._conv(inner, f"{unit}.conv2", stride)).relu_()
            inner = norm(self._conv(inner, f"{unit}.conv3")).relu_()
            if stride > 1:
                x = norm(self._conv(x, f"{unit}.downsample.0", stride))
            x = (x + inner).relu_()
        return self._conv(x, f"{name}.conv2")

    def _conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self._tensors[f"{name}.weight"]
        return F.conv2d(x, weight, self._tensors[f"{name}.bias"], stride, weight.shape[-1] // 2)

    @staticmethod
    def _correlations(source: Tensor, target: Tensor) -> list[Tensor]:
        """Of each place of `source` with all of `target`, (B * h * w, 1, h / 2^level, w / 2^level) for each level."""
        h, w = target.shape[-2:]
        products = (source / source.shape[1] ** 0.5).flatten(2).mT @ target.flatten(2)
        levels = [products.reshape(-1, 1, h, w)]
        for _ in range(LEVELS - 1):
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels


def _look_up(pyramid: list[Tensor], places: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b c h w"]:
    """The correlations around `places` (x, y), bilinear, 0 outside: 7x7 of each level, column by column."""
    b, _, h, w = places.shape
    near = torch.arange(-RADIUS, RADIUS + 1, device=places.device).float()
    window = torch.stack(torch.meshgrid(near, near, indexing="ij"), dim=-1)  # x changes slowest
    centres = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    seen = []
    for level, values in enumerate(pyramid):
        last = values.new_tensor([values.shape[-1] - 1, values.shape[-2] - 1])
        grid = 2 * (centres / 2**level + window) / last - 1
        with torch.backends.cudnn.flags(
            enabled=False
        ):  # cuDNN's takes no more than 65,535 places (pytorch issue 88380)
            seen.append(F.grid_sample(values, grid, align_corners=True).reshape(b, h, w, -1))
    return torch.cat(seen, dim=-1).permute(0, 3, 1, 2).contiguous()
