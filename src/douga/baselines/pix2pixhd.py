"""Picture after picture from maps: what vid2vid is compared with, and what draws a first frame where there is none.

Wang, Liu, Zhu, Tao, Kautz, Catanzaro, "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs",
CVPR 2018 (pix2pixHD). Without the local enhancer: one global generator.

Contract: `request.cond` in (see `Vid2Vid`), each frame drawn from its own map alone; given frames are kept and not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from douga.core.clip import Batch, Request
from douga.core.contracts import Phase
from douga.nn.blocks import ResidualBlock, conv_block, up_block
from douga.nn.critics import PatchCritics, against, critic_loss
from douga.nn.losses import Perceptual
from douga.nn.maps import check_planes, learnable, outlined, padded, planes


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's global generator and its critics."""

    classes: int = 35  # of label maps; 0: the maps are pictures
    width: int = 64  # of the first layers
    downs: int = 4
    blocks: int = 9
    critic_width: int = 64
    critic_layers: int = 3
    critic_scales: int = 2
    feature_matching: float = 10.0
    perceptual: float = 10.0  # 0: off, then VGG16's weights are not needed
    perceptual_blocks: int = 5
    window: int = 4  # frames of a clip in one step of the optimisers
    reconstruction: float = 0.0  # mean absolute error; not in the paper, for short training
    warm_up: int = 0  # so many first steps without the critic; not in the paper


class Painter(nn.Module):
    """The global generator, as an encoder to features, (B, 2^downs width, H / 2^downs, W / 2^downs), and a decoder."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [config.width * 2**k for k in range(config.downs + 1)]
        halving = [conv_block(a, b, 3, 2) for a, b in pairwise(widths)]
        rising = [up_block(b, a) for a, b in pairwise(widths)][::-1]
        early = config.blocks - config.blocks // 2
        self.encoder = nn.Sequential(
            conv_block(planes(config.classes), config.width, 7),
            *halving,
            *(ResidualBlock(widths[-1]) for _ in range(early)),
        )
        self.decoder = nn.Sequential(
            *(ResidualBlock(widths[-1]) for _ in range(config.blocks // 2)),
            *rising,
            nn.Conv2d(config.width, 3, 7, padding=3),
        )

    def decode(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        return self.decoder(features).float().tanh()

    def forward(self, maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b 3 h w"]:
        return self.decode(self.encoder(maps))


@dataclass(frozen=True)
class Window:
    maps: Float[Tensor, "n k h w"]  # outlined; frames of clip after clip
    frames: Float[Tensor, "n 3 h w"]
    flow: Float[Tensor, "n 2 h w"]  # for COVST
    clips: int
    judged: bool  # by the critic


class Pix2PixHD(nn.Module):
    """A Synthesizer of "paint" and a Trainable with two phases: critic, painter."""

    Config: TypeAlias = Config
    tasks: ClassVar[frozenset[str]] = frozenset({"paint"})
    stochastic: ClassVar[bool] = False
    size: tuple[int, int] | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        self.painter = Painter(c)
        self.critic = PatchCritics(planes(c.classes) + 3, c.critic_width, c.critic_layers, c.critic_scales)

    @torch.no_grad()
    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Synthesizer`. Raises ValueError without maps or for maps of another number of planes."""
        if request.cond is None:
            raise ValueError("this model paints maps: the request has none")
        frames = self.stream(request.cond.unbind(2), None, samples, generator)
        return request.keep_known(torch.stack(list(frames), dim=3))

    @torch.no_grad()
    def stream(
        self,
        maps: Iterable[Float[Tensor, "b k h w"]],
        given: Float[Tensor, "b 3 n h w"] | None,
        samples: int,
        generator: torch.Generator,
    ) -> Iterator[Float[Tensor, "s b 3 h w"]]:
        """Frame after frame, as the maps come. given: the first frames, 0 or more."""
        for t, cond in enumerate(maps):
            check_planes(cond, self.config.classes)
            frame = given[:, :, t] if given is not None and t < given.shape[2] else self._paint(cond)
            yield frame.expand(samples, -1, -1, -1, -1)

    def _paint(self, cond: Float[Tensor, "b k h w"]) -> Float[Tensor, "b 3 h w"]:
        h, w = cond.shape[2:]
        drawn: Tensor = self.painter(self._padded(cond))
        return drawn[..., :h, :w]

    def _padded(self, cond: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h2 w2"]:
        """Outlined, and padded to a multiple of the stride."""
        return outlined(padded(cond, 2**self.config.downs), self.config.classes)

    def windows(self, batch: Batch) -> Iterator[Window]:
        whole_cond, whole_flow = learnable(batch, 2**self.config.downs)
        for start in range(0, batch.video.shape[2], self.config.window):
            parts = (x[:, :, start : start + self.config.window] for x in (whole_cond, batch.video, whole_flow))
            cond, frames, flow = (x.transpose(1, 2).flatten(0, 1) for x in parts)
            judged = batch.step >= self.config.warm_up
            yield Window(outlined(cond, self.config.classes), frames, flow, len(batch.video), judged)

    def forward(self, window: Window, carry: None) -> tuple[Float[Tensor, "n 3 h w"], None]:
        return self.painter(window.maps), None

    def phases(self) -> list[Phase]:
        return [Phase("critic", self.critic), Phase("painter", self.painter, ema=True)]

    def losses(self, phase: str, window: Window, out: Any) -> Mapping[str, Tensor]:
        """Least squares, feature matching, VGG."""
        c = self.config
        pairs = [torch.cat([window.maps, frames], 1) for frames in (window.frames, out)]
        if phase == "critic":
            return {"critic": critic_loss(self.critic, *pairs)} if window.judged else {}
        terms = {}
        if window.judged:
            terms["image"], matched = against(self.critic, *pairs)
            terms["image_features"] = c.feature_matching * matched
        if c.perceptual:
            terms["perceptual"] = c.perceptual * self._perceptual(out, window.frames)
        if c.reconstruction:
            terms["reconstruction"] = c.reconstruction * F.l1_loss(out, window.frames)
        return terms

    @cached_property
    def _perceptual(self) -> Perceptual:
        return Perceptual(self.config.perceptual_blocks)
