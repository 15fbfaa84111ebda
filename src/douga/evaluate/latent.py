"""The latent lab: ways from one latent to another, how far they go, and how far they stray from what was learned.

It is handed latents and two functions, `encode` and `decode`, and knows no model. How likely a point is, is told by a
kernel density over the means of q of training pictures; a path that avoids unlikely places bends around them, as in
Arvanitidis, Hansen, Hauberg, *Latent Space Oddity: on the Curvature of Deep Generative Models*, ICLR 2018, here with the density
itself in the place of the decoder's curvature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from douga.core.contracts import Source
from douga.evaluate.report import pyplot
from douga.video.io import to_uint8
from douga.video.ops import contact_sheet

Decode: TypeAlias = Callable[[Tensor], Tensor]  # (N, Z) -> (N, 3, H, W) in [-1, 1]

NEAREST = 10  # neighbours whose distance sets the density's bandwidth
FINE = 33  # points of a path while it is bent
STEPS, PULL = 400, 0.3  # of the bending: how many, and how much a nat of unlikeliness weighs against length


def spread_over(source: Source, count: int) -> list[int]:
    """The indices of `count` videos, spread evenly, or of all if there are fewer."""
    return np.unique(np.linspace(0, len(source) - 1, count).round().astype(int)).tolist()


def first_frames(source: Source, count: int) -> Float[Tensor, "n 3 h w"]:
    """The first frame of `count` videos, spread evenly, or of all."""
    return torch.stack([source.clip(index, 0, 1)[:, 0] for index in spread_over(source, count)])


class Density:
    """A kernel density of latents (N, Z): one round Gaussian on each, as wide as the median distance to the 10th neighbour.

    Raises ValueError for fewer than 11 latents, or if they all lie on one point.
    """

    def __init__(self, latents: Float[Tensor, "n z"]) -> None:
        if len(latents) <= NEAREST:
            raise ValueError(f"a density needs more than {NEAREST} pictures, not {len(latents)}")
        self.latents = latents
        away = torch.cdist(latents, latents)
        self.width = away.kthvalue(NEAREST + 1, dim=1).values.median().item()  # each is its own nearest
        if not self.width > 0:
            raise ValueError("all pictures have the same latent: there is no space to look into")
        own = self._log_kernels(away.fill_diagonal_(float("inf"))).logsumexp(1)
        self.usual = own.median()  # of training pictures, each under the density of the others

    def _log_kernels(self, away: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
        return -(away / self.width).square() / 2

    def off(self, points: Float[Tensor, "m z"]) -> Float[Tensor, " m"]:
        """How far off what was learned, in nats: how much less likely than the median training picture. Negative: more likely."""
        return self.usual - self._log_kernels(torch.cdist(points, self.latents)).logsumexp(1)


def linear(first: Float[Tensor, " z"], last: Float[Tensor, " z"], points: int) -> Float[Tensor, "p z"]:
    """A straight line at an even pace, both ends among its points."""
    return torch.lerp(first, last, torch.linspace(0, 1, points).to(first)[:, None])


def spherical(first: Float[Tensor, " z"], last: Float[Tensor, " z"], points: int) -> Float[Tensor, "p z"]:
    """The angle at the origin, where the prior is, at an even pace, and the length likewise (Shoemake 1985).

    The straight line where the ends point the same way or exactly opposite ways, or one is the origin.
    """
    lengths = torch.stack([first.norm(), last.norm()])
    angle = torch.arccos((first @ last / lengths.prod()).clamp(-1, 1))
    if not (angle.sin() > 1e-4):  # NaN too
        return linear(first, last, points)
    share = torch.linspace(0, 1, points).to(first)[:, None]
    ways = (((1 - share) * angle).sin() * first / lengths[0] + (share * angle).sin() * last / lengths[1]) / angle.sin()
    return ways * torch.lerp(lengths[0], lengths[1], share)


def density_aware(
    first: Float[Tensor, " z"], last: Float[Tensor, " z"], points: int, density: Density
) -> Float[Tensor, "p z"]:
    """The straight line, bent until shortness and likeliness are in balance: least mean of

        (speed / distance of the ends)^2 / 2 + PULL max(0, off)

    along the way, the distance being at least one bandwidth (400 steps of Adam over 33 points), then read at an even pace. It
    finds a way near by, not always the best one.
    """
    straight = linear(first, last, FINE)
    bend = torch.zeros_like(straight[1:-1]).requires_grad_()
    optimiser = torch.optim.Adam([bend], lr=density.width / 20)
    with torch.enable_grad():
        for _ in range(STEPS):
            path = torch.cat([straight[:1], straight[1:-1] + bend, straight[-1:]])
            speed = path.diff(dim=0) * (FINE - 1) / (first - last).norm().clamp(min=density.width)
            loss = speed.square().sum(1).mean() / 2 + PULL * density.off(path).clamp(min=0).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return _even(torch.cat([straight[:1], straight[1:-1] + bend.detach(), straight[-1:]]), points)


def _even(path: Float[Tensor, "n z"], points: int) -> Float[Tensor, "p z"]:
    """The same polyline, read at equal lengths."""
    travelled = torch.cat([path.new_zeros(1), path.diff(dim=0).norm(dim=1).cumsum(0)])
    wanted = torch.linspace(0, 1, points).to(path) * travelled[-1]
    left = (torch.searchsorted(travelled, wanted, right=True) - 1).clamp(0, len(path) - 2)
    share = (wanted - travelled[left]) / (travelled[left + 1] - travelled[left]).clamp(min=1e-12)
    return torch.lerp(path[left], path[left + 1], share[:, None])


@dataclass(frozen=True)
class Way:
    """latents (P, Z), frames (P, 3, H, W) decoded from them, off (P,) in nats: see `Density.off`."""

    latents: Tensor
    frames: Tensor
    off: Tensor

    @property
    def travelled(self) -> tuple[float, float]:
        """How long it is in the latent space, and in pixels: the summed root mean square steps, pixels in 0-1."""
        steps = self.frames.diff(dim=0).square().mean((1, 2, 3)).sqrt().sum() / 2
        return self.latents.diff(dim=0).norm(dim=1).sum().item(), steps.item()


def ways(
    first: Float[Tensor, " z"], last: Float[Tensor, " z"], points: int, density: Density, decode: Decode
) -> dict[str, Way]:
    """The three ways, each of `points` points, both ends among them."""
    found = {
        "linear": linear(first, last, points),
        "spherical": spherical(first, last, points),
        "density-aware": density_aware(first, last, points, density),
    }
    return {name: Way(path, decode(path), density.off(path)) for name, path in found.items()}


def plane(latents: Float[Tensor, "n z"]) -> tuple[Float[Tensor, " z"], Float[Tensor, "z 2"], Float[Tensor, " 2"]]:
    """The two principal components: the mean, their directions, and the share of the variance that each has."""
    mean = latents.mean(0)
    _, scale, directions = torch.linalg.svd(latents - mean, full_matrices=False)
    share = scale.square() / scale.square().sum()
    return mean, directions[:2].mT, share[:2]


def jumps(way: Way, keys: Float[Tensor, "2 3 h w"]) -> tuple[float, float]:
    """How far the way's ends, which are reconstructions, are from the true key frames: mean absolute difference, of 255."""
    first, last = ((way.frames[[0, -1]] - keys).abs().mean((1, 2, 3)) * 127.5).tolist()
    return first, last


def picture(found: Mapping[str, Way], density: Density, keys: Float[Tensor, "2 3 h w"], path: Path, title: str) -> None:
    """Write a PNG: for each way its decoded frames between the true key frames; below, the ways among the training pictures
    in the plane of their two principal components, and how far off each point is.
    """
    plt = pyplot()
    figure = plt.figure(figsize=(12, 2 + 1.3 * len(found) + 3.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.3 * len(found) + 0.6, 3.8])
    first, last = jumps(next(iter(found.values())), keys)
    jump = f"the reconstructions miss the key frames, outermost, by {first:.1f} and {last:.1f} of 255"
    top.suptitle(f"{title}; {jump}", fontsize=10)
    for axes, (name, way) in zip(top.subplots(len(found), 1, squeeze=False)[:, 0], found.items(), strict=True):
        row = torch.cat([keys[:1], way.frames, keys[1:]])[None].transpose(1, 2)
        axes.imshow(to_uint8(contact_sheet(row)[:, None])[0], interpolation="nearest")
        latent, pixels = way.travelled
        axes.set_title(
            f"{name}: {latent:.2f} in the latent space, {pixels:.3f} in pixels; off by {way.off.mean():.1f} nats on average,"
            f" {way.off.max():.1f} at most",
            fontsize=9,
        )
        axes.axis("off")
    map_axes, off_axes = bottom.subplots(1, 2)
    mean, directions, share = plane(density.latents)
    map_axes.scatter(*((density.latents - mean) @ directions).T.numpy(), s=3, color="0.8", label="training pictures")
    for name, way in found.items():
        map_axes.plot(*((way.latents - mean) @ directions).T.numpy(), marker=".", label=name)
        off_axes.plot(way.off.numpy(), marker=".", label=name)
    map_axes.set(xlabel=f"first component ({share[0]:.0%})", ylabel=f"second ({share[1]:.0%})")
    off_axes.set(xlabel="point of the way", ylabel="nats less likely than the median training picture")
    off_axes.axhline(0, color="0.8", zorder=0)
    for axes in (map_axes, off_axes):
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
