"""LPIPS v0.1 on AlexNet: how far apart two pictures look.

Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, eq. 1:

    d(a, b) = sum_l mean_hw sum_c w_l (f_l(a) - f_l(b))^2,   f_l: what the ReLU of layer l gives, scaled to unit length over c

The w_l are not negative, so with sqrt(w_l / (H_l W_l)) taken into the features d is a plain squared distance between vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from douga.nn.pretrained import load

LAYERS = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}  # torchvision's number -> (stride, padding)
SMALLEST_PX = 31  # leaves one place to the last layers


class Lpips:
    """The frozen network. Pictures are (N, 3, H, W) RGB in [-1, 1]. Raises as `douga.nn.pretrained.load`."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._tensors = {name: tensor.to(self.device) for name, tensor in load("lpips-alex").items()}
        # ImageNet's mean and deviation, in the range [-1, 1]
        self._shift = torch.tensor([-0.030, -0.088, -0.188], device=self.device)[:, None, None]
        self._scale = torch.tensor([0.458, 0.448, 0.450], device=self.device)[:, None, None]

    def __call__(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """The distance of each pair, 0 or more, on the network's device. Raises ValueError below 31x31 px."""
        return self.distance(self.features(a), self.features(b))

    @torch.no_grad()
    def features(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """What `distance` compares (31,872 numbers at 64x64 px), on the network's device; pictures may lie on any."""
        if min(pictures.shape[-2:]) < SMALLEST_PX:
            raise ValueError(
                f"LPIPS takes pictures of {SMALLEST_PX} px or more on each side, not {tuple(pictures.shape[-2:])}"
            )
        x = (pictures.to(self.device) - self._shift) / self._scale
        seen = []
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for number, (layer, (stride, padding)) in enumerate(LAYERS.items()):
                if number in (1, 2):
                    x = F.max_pool2d(x, 3, 2)
                weight, bias = (self._tensors[f"features.{layer}.{part}"] for part in ("weight", "bias"))
                x = F.conv2d(x, weight, bias, stride, padding).relu_()
                unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
                seen.append((unit * (self._tensors[f"lin{number}.weight"] / x.shape[-2:].numel()).sqrt()).flatten(1))
        return torch.cat(seen, dim=1)

    @staticmethod
    def distance(a: Float[Tensor, "*#s d"], b: Float[Tensor, "*#s d"]) -> Float[Tensor, "*s"]:
        """Of what `features` gave; one picture's features serve against any number of others by broadcasting."""
        return (a - b).square().sum(-1)
