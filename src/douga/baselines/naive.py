"""The two least methods: repeat the nearest known frame, and cross-fade between the known frames."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from douga.core.clip import Request


def neighbours(mask: Bool[Tensor, " t"]) -> tuple[Int[Tensor, " t"], Int[Tensor, " t"], Float[Tensor, " t"]]:
    """For each time: the last known frame up to it, the first known one from it on, and the way between them, 0 to 1.

    Before the first known frame and after the last one both are that frame, and the way is 0.
    """
    times = torch.arange(len(mask), device=mask.device)
    left = torch.where(mask, times, -1).cummax(0).values
    right = torch.where(mask, times, len(mask)).flip(0).cummin(0).values.flip(0)
    left, right = torch.where(left < 0, right, left), torch.where(right == len(mask), left, right)
    return left, right, (times - left) / (right - left).clamp(min=1)


class Hold:
    """Repeats the known frame that is nearest in time; of two equally near, the earlier."""

    tasks: ClassVar[frozenset[str]] = frozenset({"tween", "predict"})
    stochastic: ClassVar[bool] = False
    size: tuple[int, int] | None = None

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        left, right, way = neighbours(request.mask.to(request.known.device))
        drawn = request.known[:, :, torch.where(way <= 0.5, left, right)]
        return request.keep_known(drawn.expand(samples, *drawn.shape))


class Linear:
    """Fades from each known frame to the next; before the first and after the last one it holds."""

    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = False
    size: tuple[int, int] | None = None

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        left, right, way = neighbours(request.mask.to(request.known.device))
        drawn = torch.lerp(request.known[:, :, left], request.known[:, :, right], way[:, None, None])
        return request.keep_known(drawn.expand(samples, *drawn.shape))
