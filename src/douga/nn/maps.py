"""Label maps as networks look at them: things have outlines, not numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from douga.core.clip import Batch

INSTANCES = 100_000  # more than a video has of one class


def planes(classes: int) -> int:
    """How many planes `request.cond` has: of labels one for each class and one of instances, of pictures 3 (classes is 0)."""
    return classes + 1 if classes else 3


def check_planes(cond: Tensor, classes: int) -> None:
    """Raise ValueError unless the maps, (B, K, ...), are of the kind that a model paints."""
    if cond.shape[1] != planes(classes):
        kind = f"label maps of {classes} classes" if classes else "maps that are pictures"
        raise ValueError(f"this model paints {kind} ({planes(classes)} planes), not maps of {cond.shape[1]} planes")


def learnable(batch: Batch, stride: int) -> tuple[Float[Tensor, "b k t h w"], Float[Tensor, "b 2 t h w"]]:
    """The maps and the reference flow of a batch.

    Raises ValueError where there are none, or unless both sides are multiples of the stride: what is learned from is not padded.
    """
    if batch.cond is None or batch.flow is None:
        raise ValueError("this model learns from videos with maps: give a source that has them (`douga list`)")
    height, width = batch.video.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(
            f"this model learns at sizes that are multiples of {stride}, not at {width}x{height} (width x height)"
        )
    return batch.cond, batch.flow


def padded(x: Float[Tensor, "*axes h w"], stride: int) -> Float[Tensor, "*axes h2 w2"]:
    """To a multiple of the stride, and to two of them at least, by repeating the last row and column."""
    bottom, right = (max(-side % stride, 2 * stride - side) for side in x.shape[-2:])
    return F.pad(x, (0, right, 0, bottom), mode="replicate")


def identities(cond: Float[Tensor, "b k h w"]) -> Int[Tensor, "b h w"]:
    """One number for each thing on a label map: its class times INSTANCES plus its own; negative where there is no class."""
    some, label = cond[:, :-1].max(1)
    return torch.where(some > 0, label, -1) * INSTANCES + cond[:, -1].long()


def outlines(who: Int[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
    """Where another thing is a neighbour, on both sides of the border."""
    found = torch.zeros_like(who, dtype=torch.bool)
    across, down = who[:, :, 1:] != who[:, :, :-1], who[:, 1:] != who[:, :-1]
    found[:, :, 1:] |= across
    found[:, :, :-1] |= across
    found[:, 1:] |= down
    found[:, :-1] |= down
    return found


def outlined(cond: Float[Tensor, "b k h w"], classes: int) -> Float[Tensor, "b k h w"]:
    """Label maps with outlines in the place of the instances' numbers; pictures (classes is 0) as they are."""
    if not classes:
        return cond
    return torch.cat([cond[:, :-1], outlines(identities(cond))[:, None].to(cond)], 1)
