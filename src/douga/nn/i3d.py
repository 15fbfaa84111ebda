"""I3D RGB, Inception-v1 inflated to 3-D and trained on Kinetics-400: the features of FVD.

Carreira, Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, as released (TF-Hub deepmind/i3d-kinetics-400/1) and as taken by
Unterthiner et al., "Towards Accurate Generative Models of Video", arXiv 1812.01717.

Conventions of its TensorFlow: "SAME" padding puts the odd pixel behind; batch norm has no scale, and eps 1e-3. Here it is folded
into the convolutions, branches that begin with a 1x1x1 convolution share one, and channels lie last in memory, which a CPU likes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from douga.nn.pretrained import load

SIZE = 224  # px
FEWEST_FRAMES = 9  # they leave two steps in time, over which the last pooling goes


class I3D:
    """The frozen network. Raises as `douga.nn.pretrained.load`."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        tensors = {name: tensor.to(self.device) for name, tensor in load("i3d").items()}
        self._head = tensors["logits.conv3d.weight"].flatten(1), tensors["logits.conv3d.bias"]
        self._units: dict[str, tuple[Tensor, Tensor]] = {}  # weight, bias
        for unit in sorted(name.removesuffix(".bn.bias") for name in tensors if name.endswith(".bn.bias")):
            scale = torch.rsqrt(tensors[f"{unit}.bn.running_var"] + 1e-3)
            weight = tensors[f"{unit}.conv3d.weight"] * scale.view(-1, 1, 1, 1, 1)
            bias = tensors[f"{unit}.bn.bias"] - tensors[f"{unit}.bn.running_mean"] * scale
            self._units[unit] = weight.contiguous(memory_format=torch.channels_last_3d), bias
        for block in {unit.partition(".")[0] for unit in self._units if "." in unit}:
            entries = (self._units.pop(f"{block}.{branch}") for branch in ("b0", "b1a", "b2a"))
            weights, biases = zip(*entries, strict=True)
            self._units[f"{block}.entry"] = torch.cat(weights), torch.cat(biases)

    @torch.no_grad()
    def logits(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 400"]:
        """The scores of the 400 actions, mean over time, on the network's device.

        video: in [-1, 1], any size (resized to 224x224, bilinear, pixel centres in line, no low-pass), on any device.
        Raises ValueError for fewer than 9 frames.
        """
        b, _, t = video.shape[:3]
        if t < FEWEST_FRAMES:
            raise ValueError(f"I3D takes {FEWEST_FRAMES} frames or more, not {t}")
        frames = video.to(self.device).transpose(1, 2).flatten(0, 1)
        frames = F.interpolate(frames, (SIZE, SIZE), mode="bilinear", align_corners=False)
        x = frames.unflatten(0, (b, t)).transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            x = _pool(self._conv(x, "Conv3d_1a_7x7", stride=2), (1, 3), (1, 2))
            x = _pool(self._conv(self._conv(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3"), (1, 3), (1, 2))
            x = _pool(self._mixed(self._mixed(x, "Mixed_3b"), "Mixed_3c"), (3, 3), (2, 2))
            for block in "bcdef":
                x = self._mixed(x, f"Mixed_4{block}")
            x = _pool(x, (2, 2), (2, 2))
            x = self._mixed(self._mixed(x, "Mixed_5b"), "Mixed_5c")  # (B, 1024, T/8, 7, 7)
        # 2x7x7, then over time; the head is linear, so it may come last.
        pooled = x.mean((3, 4)).unfold(2, 2, 1).mean((2, 3))
        return F.linear(pooled, *self._head)

    def _conv(self, x: Tensor, unit: str, stride: int = 1) -> Tensor:
        weight, bias = self._units[unit]
        if weight[0, 0].numel() == 1:  # torch's own 1x1x1 convolution is slower than the product that it is
            return F.linear(x.movedim(1, -1), weight.flatten(1), bias).relu_().movedim(-1, 1)
        pads = [_same(n, k, stride) for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)]
        if any(before != behind for before, behind in pads):
            x = F.pad(x, [pad for pair in reversed(pads) for pad in pair])
            pads = [(0, 0)] * 3
        x = F.conv3d(x, weight, bias, stride, [before for before, _ in pads]).relu_()
        return x.contiguous(memory_format=torch.channels_last_3d)  # lost where torch's own kernel takes a single clip

    def _mixed(self, x: Tensor, block: str) -> Tensor:
        wide, narrow = (self._units[f"{block}.{branch}"][0].shape[1] for branch in ("b1b", "b2b"))
        entry = self._conv(x, f"{block}.entry")
        b0, b1, b2 = entry.split((entry.shape[1] - wide - narrow, wide, narrow), dim=1)
        b3 = _pool(x, (3, 3), (1, 1))
        rest = zip(("b1b", "b2b", "b3b"), (b1, b2, b3), strict=True)
        return torch.cat([b0, *(self._conv(branch, f"{block}.{unit}") for unit, branch in rest)], dim=1)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and behind, as TensorFlow's "SAME"."""
    missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing - missing // 2


def _pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The maximum over (time, space) with "SAME" padding: what it adds behind is what `ceil_mode` adds."""
    kernels, strides = (kernel[0], kernel[1], kernel[1]), (stride[0], stride[1], stride[1])
    before = [_same(n, k, s)[0] for n, k, s in zip(x.shape[2:], kernels, strides, strict=True)]
    return F.max_pool3d(x, kernels, strides, before, ceil_mode=True)
