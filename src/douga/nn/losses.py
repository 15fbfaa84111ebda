"""Losses with more than one possible user."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from douga.nn.pretrained import load

CONVS = (2, 2, 3, 3, 3)  # of each block; a pooling ends it
WIDTHS = (3, 64, 128, 256, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1]


def gaussian_kl(
    mean: Float[Tensor, "*axes"],
    log_variance: Float[Tensor, "*axes"],
    other_mean: Float[Tensor, "*axes"],
    other_log_variance: Float[Tensor, "*axes"],
) -> Float[Tensor, "*axes"]:
    """KL of one Gaussian from another in each dimension, in nats: sum it over the dimensions of a latent."""
    apart = (log_variance.exp() + (mean - other_mean).square()) / other_log_variance.exp()
    return (other_log_variance - log_variance + apart - 1) / 2


class VggFeatures:
    """What VGG16 (Simonyan, Zisserman 2015), trained on ImageNet, sees in a picture: the output of one layer, fixed.

    layer: "conv1_1" to "conv5_3", or "relu1_1" to "relu5_3" after its ReLU. also: earlier layers, for `all`.
    Not an `nn.Module`, so that no model that holds it counts its weights as its own. It follows its input to any device.
    Raises ValueError for another layer, FileNotFoundError where the weights are missing.
    """

    def __init__(self, layer: str, also: Sequence[str] = ()) -> None:
        layers: dict[str, nn.Module] = {}
        with torch.device("meta"):  # the weights come from the file: no memory and no chance is spent on others
            for block, (convs, widths) in enumerate(zip(CONVS, pairwise(WIDTHS), strict=True), start=1):
                for number in range(1, convs + 1):
                    layers[f"conv{block}_{number}"] = nn.Conv2d(widths[number > 1], widths[1], 3, padding=1)
                    layers[f"relu{block}_{number}"] = nn.ReLU()
                layers[f"pool{block}"] = nn.MaxPool2d(2)
        for asked in (layer, *also):
            if asked not in layers:
                raise ValueError(f"VGG16 has no layer {asked!r} (there are: {', '.join(layers)})")
        self.taken = {list(layers).index(asked) for asked in (layer, *also)}
        self.network = nn.Sequential(*list(layers.values())[: list(layers).index(layer) + 1]).eval()
        weights = load("lpips-vgg16")
        names = self.network.state_dict()  # numbered as torchvision does
        self.network.load_state_dict({name: weights[f"features.{name}"].float() for name in names}, assign=True)
        self.network.requires_grad_(False)

    def __call__(self, frames: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """RGB in [-1, 1] to float32 features; gradients flow to the frames alone."""
        return self.all(frames)[-1]

    def all(self, frames: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Of every layer asked for, in the network's order."""
        mean, std = (frames.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        x, seen = ((frames + 1) / 2 - mean) / std, []
        for index, layer in enumerate(self.network.to(frames.device)):
            x = layer(x)
            if index in self.taken:
                seen.append(x.float())
        return seen


class Perceptual:
    """Distance of two pictures in VGG16's eyes, as pix2pixHD weighs it (Wang et al. 2018): the sum over blocks of the mean
    absolute difference after each block's first ReLU, weights 1/32, 1/16, 1/8, 1/4, 1.

    blocks: how many, 1 to 5; less than 5 are cheaper and see less far. Raises FileNotFoundError where the weights are missing.
    """

    WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)

    def __init__(self, blocks: int = 5) -> None:
        if not 1 <= blocks <= 5:
            raise ValueError(f"VGG16 has the blocks 1 to 5; a perceptual loss takes 1 to 5 of them, not {blocks}")
        names = [f"relu{block}_1" for block in range(1, blocks + 1)]
        self.features = VggFeatures(names[-1], names[:-1])

    def __call__(self, drawn: Float[Tensor, "b 3 h w"], real: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        with torch.no_grad():
            wanted = self.features.all(real)
        pairs = zip(self.WEIGHTS, self.features.all(drawn), wanted, strict=False)
        return torch.stack([weight * (a - b).abs().mean() for weight, a, b in pairs]).sum()
