"""Critics of patches at several scales, and what is asked of them.

Isola, Zhu, Zhou, Efros, *Image-to-Image Translation with Conditional Adversarial Networks*, CVPR 2017 (PatchGAN);
Wang, Liu, Zhu, Tao, Kautz, Catanzaro, *High-Resolution Image Synthesis ... with Conditional GANs*, CVPR 2018 (several scales,
feature matching); Mao et al., *Least Squares Generative Adversarial Networks*, ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from douga.nn.blocks import InstanceNorm

Seen: TypeAlias = list[list[Tensor]]  # of each scale the features of each layer; the last one is the verdict


class PatchCritics(nn.Module):
    """PatchGANs of one shape, each looking at pictures half as large as the one before.

    4x4 convolutions: `layers` of stride 2, one of stride 1, then one to a single channel; widths double up to 8 times `width`.
    """

    def __init__(self, inputs: int, width: int, layers: int = 3, scales: int = 2) -> None:
        super().__init__()
        widths = [inputs, *(width * min(2**k, 8) for k in range(layers + 1))]
        self.scales = nn.ModuleList()
        for _ in range(scales):
            stages = [
                nn.Sequential(
                    nn.Conv2d(widths[k], widths[k + 1], 4, 2 if k < layers else 1, padding=2),
                    *([InstanceNorm(widths[k + 1])] if k else []),
                    nn.LeakyReLU(0.2),
                )
                for k in range(layers + 1)
            ]
            self.scales.append(nn.ModuleList([*stages, nn.Conv2d(widths[-1], 1, 4, padding=2)]))

    def forward(self, pictures: Float[Tensor, "b c h w"]) -> Seen:
        seen: Seen = []
        for stages in self.scales:
            features, x = [], pictures
            for stage in cast(nn.ModuleList, stages):
                x = stage(x)
                features.append(x)
            seen.append(features)
            pictures = F.avg_pool2d(pictures, 3, 2, padding=1, count_include_pad=False)
        return seen


def verdict_loss(seen: Seen, wanted: float) -> Tensor:
    """Least squares: mean over patches of (verdict - wanted)^2, mean over scales. Real is 1, drawn is 0."""
    return torch.stack([(features[-1].float() - wanted).square().mean() for features in seen]).mean()


def feature_distance(drawn: Seen, real: Seen) -> Tensor:
    """Feature matching: mean absolute difference in each layer but the verdict, mean over layers and scales."""
    return torch.stack(
        [
            F.l1_loss(a.float(), b.detach().float())
            for one, other in zip(drawn, real, strict=True)
            for a, b in zip(one[:-1], other[:-1], strict=True)
        ]
    ).mean()


def chunked(seen: Seen, parts: int) -> Sequence[Seen]:
    """Of a batch of equal parts, each: real and drawn pictures are looked at in one go, as instance norm keeps them apart."""
    split = [[x.chunk(parts) for x in features] for features in seen]
    return [[[x[k] for x in features] for features in split] for k in range(parts)]


def critic_loss(critic: nn.Module, real: Tensor, drawn: Tensor) -> Tensor:
    """What a critic minimises; no gradient flows into what it looks at."""
    of_real, of_drawn = chunked(critic(torch.cat([real, drawn]).detach()), 2)
    return (verdict_loss(of_real, 1) + verdict_loss(of_drawn, 0)) / 2


def against(critic: nn.Module, real: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """What is minimised against a critic: its verdict, and the distance of its features from those of the real."""
    with torch.no_grad():
        of_real = critic(real)
    of_drawn = critic(drawn)
    return verdict_loss(of_drawn, 1), feature_distance(of_drawn, of_real)
