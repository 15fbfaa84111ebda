"""The two least methods: repeat the nearest known frame, and cross-fade between the known frames."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from douga.core.clip import Request


class Hold:
    """Repeats the known frame that is nearest in time; of two equally near, the earlier."""

    tasks: ClassVar[frozenset[str]] = frozenset({"tween", "predict"})
    stochastic: ClassVar[bool] = False
    any_planes: ClassVar[bool] = True
    size: tuple[int, int] | None = None

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        left, right, way = request.ways()
        drawn = request.known[:, :, torch.where(way <= 0.5, left, right)]
        return request.keep_known(drawn.expand(samples, *drawn.shape))


class Linear:
    """Fades from each known frame to the next; before the first and after the last one it holds."""

    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = False
    any_planes: ClassVar[bool] = True
    size: tuple[int, int] | None = None

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        left, right, way = request.ways()
        drawn = torch.lerp(request.known[:, :, left], request.known[:, :, right], way[:, None, None])
        return request.keep_known(drawn.expand(samples, *drawn.shape))
