"""Coherent video from a picture painter: features of the frame before, warped along the true motion, are blended in.

Chen, Liao, Yuan, Yu, Hua, "Coherent Online Video Style Transfer", ICCV 2017, as vid2vid (Wang et al. 2018) compares with it: its
style network is pix2pixHD's, split into encoder and decoder.

    F'_t = warp(F^c_{t-1}, w_t),    M = mask(|F_t - F'_t|),    F^c_t = (1 - M) . F_t + M . F'_t,    x_t = decode(F^c_t)

The mask learns beside the painter, without a critic of its own: mean absolute error and VGG of x_t against the true frame, and
the difference from the frame before along the motion, where that explains the true frame.

Contract: that of pix2pixHD, and `request.flow`: it is given the true motion, an advantage over everybody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from douga.baselines import pix2pixhd
from douga.baselines.pix2pixhd import Pix2PixHD, Window
from douga.core.clip import Request
from douga.core.contracts import Phase
from douga.nn.maps import check_planes, padded
from douga.video.ops import explained, warp


@dataclass(frozen=True)
class Config(pix2pixhd.Config):
    """The painter's, and the mask's."""

    mask_width: int = 32
    coherence: float = 10.0


class Covst(Pix2PixHD):
    """A Synthesizer of "paint" and a Trainable with three phases: mask, critic, painter."""

    Config: TypeAlias = Config
    needs_flow: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        channels = config.width * 2**config.downs
        self.mask = nn.Sequential(
            nn.Conv2d(channels, config.mask_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.mask_width, config.mask_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.mask_width, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    @torch.no_grad()
    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Pix2PixHD`. Raises ValueError without the true motion."""
        if request.cond is None or request.flow is None:
            raise ValueError("this method needs maps and the true motion (request.flow): it can be evaluated, not used")
        frames, before = [], None
        for cond, flow in zip(request.cond.unbind(2), request.flow.unbind(2), strict=True):
            check_planes(cond, self.config.classes)
            h, w = cond.shape[2:]
            maps = self._padded(cond)
            before = self._blend(self.painter.encoder(maps), before, padded(flow, 2**self.config.downs))
            frames.append(self.painter.decode(before)[..., :h, :w])
        drawn = torch.stack(frames, dim=2).expand(samples, -1, -1, -1, -1, -1)
        return request.keep_known(drawn)

    @torch.no_grad()
    def stream(
        self,
        maps: Iterable[Float[Tensor, "b k h w"]],
        given: Float[Tensor, "b 3 n h w"] | None,
        samples: int,
        generator: torch.Generator,
    ) -> Iterator[Float[Tensor, "s b 3 h w"]]:
        raise ValueError(
            "this method needs the true motion of the video that it is to draw: it can be evaluated, not used"
        )

    def _blend(self, features: Tensor, before: Tensor | None, flow: Float[Tensor, "b 2 h w"]) -> Tensor:
        """F^c_t; features: F_t. before: F^c_{t-1}. flow: at the size of the frames."""
        if before is None:
            return features
        shrink = 2**self.config.downs
        warped = warp(before, F.avg_pool2d(flow, shrink) / shrink)
        return torch.lerp(features, warped, self.mask((features - warped).abs()).to(features.dtype))

    def phases(self) -> list[Phase]:
        return [Phase("mask", self.mask, ema=True), *super().phases()]

    def losses(self, phase: str, window: Window, out: Any) -> Mapping[str, Tensor]:
        if phase != "mask":
            return super().losses(phase, window, out)
        c: Config = self.config  # type: ignore[assignment]
        with torch.no_grad():
            features = self.painter.encoder(window.maps).unflatten(0, (window.clips, -1))
        frames, flow = (x.unflatten(0, (window.clips, -1)) for x in (window.frames, window.flow))
        composed, drawn = features[:, 0], []
        for t in range(1, frames.shape[1]):
            composed = self._blend(features[:, t], composed, flow[:, t])
            drawn.append(self.painter.decode(composed))
        if not drawn:
            return {}
        video, wanted = torch.stack(drawn, 1), frames[:, 1:]
        terms = {"mask_error": c.feature_matching * F.l1_loss(video, wanted)}
        if c.perceptual:
            terms["mask_perceptual"] = c.perceptual * self._perceptual(video.flatten(0, 1), wanted.flatten(0, 1))
        if frames.shape[1] > 2:
            before, after, motion = (x.flatten(0, 1) for x in (wanted[:, :-1], wanted[:, 1:], flow[:, 2:]))
            apart = (warp(video[:, :-1].flatten(0, 1), motion) - video[:, 1:].flatten(0, 1)).abs()
            terms["mask_coherence"] = c.coherence * (apart * explained(before, after, motion)).mean()
        return terms
