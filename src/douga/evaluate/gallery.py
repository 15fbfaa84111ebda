"""Several samples of one clip beside each other: how far they differ, which is the most typical, how a loop closes.

Differences are of 255, as in 8-bit files: one of 127.5 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from douga.evaluate.report import pyplot


def spread(frames: Float[Tensor, "s c t h w"]) -> Float[Tensor, "t h w"]:
    """How far the samples differ at each pixel, of 255: their standard deviation, mean over the planes."""
    return torch.stack([f.std(0, correction=0).mean(0) for f in frames.unbind(2)]) * 127.5


def distances(frames: Float[Tensor, "s c t h w"]) -> Float[Tensor, " s"]:
    """How far each sample is from the others, of 255: mean absolute difference, mean over the others. Alone: 0."""
    apart = torch.zeros(len(frames), len(frames))
    for i in range(len(frames)):
        for j in range(i):
            apart[i, j] = apart[j, i] = (frames[i] - frames[j]).abs().mean() * 127.5
    return apart.sum(1) / max(len(frames) - 1, 1)


def seam(frames: Float[Tensor, "s c t h w"]) -> float:
    """How a loop closes: the mean absolute difference between its last and its first frame, divided by that between neighbours.

    Mean over samples; 1: like any other step, as it is where nothing moves.
    """
    steps = (frames.diff(dim=2).abs().mean((1, 2, 3, 4))) if frames.shape[2] > 1 else torch.zeros(len(frames))
    closing = (frames[:, :, -1] - frames[:, :, 0]).abs().mean((1, 2, 3))
    return torch.where(steps > 0, closing / steps.clamp(min=1e-12), 1.0).mean().item()


def picture(
    where: Float[Tensor, "h w"], by_frame: Sequence[float], keys: Sequence[int], threshold: float | None, path: Path
) -> None:
    """Write a PNG: a map of where samples differ, mean over frames, and below it how far they do in each frame, both of 255.

    keys: the frames that were given. threshold: the spread above which frames are unsure, if that was asked.
    """
    plt = pyplot()
    height, width = where.shape
    across = 6.0
    tall = min(max(across * height / width, 1.5), 10.0)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(across + 1, tall + 2.4), height_ratios=[tall, 1.8], layout="constrained"
    )
    shown = top.imshow(where.numpy(), cmap="magma", vmin=0, vmax=max(float(where.max()), 1.0), interpolation="nearest")
    figure.colorbar(shown, ax=top, label="standard deviation, of 255")
    top.set_title(f"where the samples differ: {where.max():.1f} at most", fontsize=10)
    top.axis("off")
    bottom.plot(range(len(by_frame)), by_frame, marker=".", label="mean over pixels")
    bottom.plot(keys, [by_frame[key] for key in keys], "k|", markersize=14, label="key frames")
    if threshold is not None:
        bottom.axhline(threshold, color="0.6", linestyle="--", label="unsure above")
    bottom.set(xlabel="frame", ylabel="of 255", ylim=(0, None))
    bottom.legend(fontsize=7)
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
