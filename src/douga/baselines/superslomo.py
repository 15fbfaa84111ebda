"""Super SloMo: flow between two key frames, bent to the time drawn, refined, and blended by what each frame shows of it.

Jiang, Sun, Jampani, Yang, Learned-Miller, Kautz, "Super SloMo: High Quality Estimation of Multiple Intermediate Frames for Video
Interpolation", CVPR 2018.

Contract: draws between any two known frames, at any time and any size; one drawing, not many. Before the first and after the
last known frame it holds.

Conventions: flow (N, 2, H, W) in pixels, x first; flow_01 leads from frame 0 to frame 1, flow_t0 from the frame drawn to frame
0. t (N, 1, 1, 1) in (0, 1) is the time drawn, one for each row. g(I, F) of the paper is `warp`. Flows, warps and losses are
float32 under autocast too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from douga.core.clip import Batch, Request
from douga.core.contracts import Phase
from douga.nn.losses import VggFeatures
from douga.video.ops import warp

PIECE_PX = 2**18  # pixels that are drawn at once, which bounds the memory


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's (39.6 M parameters). Its weights of pixel distances stand here 255 times as large: it counts
    pixels from 0 to 255, we from 0 to 1.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 512)  # of the levels of both U-Nets
    times: int = 7  # in-between frames of each clip that are drawn in a training step
    reconstruction: float = 204.0
    perceptual: float = 0.005  # needs the weights of VGG16; 0 does not
    warp: float = 102.0
    smoothness: float = 1.0


class UNet(nn.Module):
    """Two convolutions and leaky ReLUs (0.1) at each level; average pooling down, bilinear up. Any size: padded, then cut."""

    def __init__(self, inward: int, outward: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        kernels = (7, 5, *(3 for _ in widths))  # large ones first, to see large motion
        self.encoder = nn.ModuleList(
            nn.Sequential(_convolution(a, b, kernel), _convolution(b, b, kernel))
            for (a, b), kernel in zip(pairwise((inward, *widths)), kernels, strict=False)
        )
        upward = list(pairwise(reversed(widths)))
        self.narrow = nn.ModuleList(_convolution(a, b, 3) for a, b in upward)
        self.merge = nn.ModuleList(_convolution(2 * b, b, 3) for _, b in upward)
        self.head = nn.Conv2d(widths[0], outward, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        height, width = x.shape[-2:]
        multiple = 2 ** len(self.narrow)
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        seen = []
        for depth, level in enumerate(self.encoder):
            x = level(F.avg_pool2d(x, 2) if depth else x)
            seen.append(x)
        for narrow, merge, skip in zip(self.narrow, self.merge, reversed(seen[:-1]), strict=True):
            x = merge(torch.cat([narrow(F.interpolate(x, scale_factor=2, mode="bilinear")), skip], dim=1))
        return self.head(x)[..., :height, :width].float()


def _convolution(inward: int, outward: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inward, outward, kernel, padding=kernel // 2), nn.LeakyReLU(0.1))


def approximate(
    flow_01: Float[Tensor, "n 2 h w"], flow_10: Float[Tensor, "n 2 h w"], t: Float[Tensor, "n 1 1 1"]
) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n 2 h w"]]:
    """Flow from time t to both frames, if motion is smooth: the two flows at the same place, mixed (the paper's section
    Arbitrary-time Flow Interpolation).
    """
    return -(1 - t) * t * flow_01 + t**2 * flow_10, (1 - t) ** 2 * flow_01 - t * (1 - t) * flow_10


def blend(
    warped_0: Float[Tensor, "n c h w"],
    warped_1: Float[Tensor, "n c h w"],
    visible_0: Float[Tensor, "n 1 h w"],
    t: Float[Tensor, "n 1 1 1"],
) -> Float[Tensor, "n c h w"]:
    """The nearer frame counts more, and less what it does not show: V1 = 1 - V0 (the paper's section Intermediate Frame
    Synthesis).
    """
    weight_0, weight_1 = (1 - t) * visible_0, t * (1 - visible_0)
    return (weight_0 * warped_0 + weight_1 * warped_1) / (weight_0 + weight_1)


class Drawing(NamedTuple):
    frames: Tensor  # (N, 3, H, W)
    warped_0: Tensor  # (N, 3, H, W), key frame 0 along the approximate flow
    warped_1: Tensor


class Out(NamedTuple):
    flow_01: Tensor  # (B, 2, H, W)
    flow_10: Tensor
    drawing: Drawing


class Networks(nn.Module):
    """Both U-Nets: all that is learned."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.motion = UNet(6, 4, config.widths)
        self.refinement = UNet(20, 5, config.widths)

    def forward(
        self, first: Float[Tensor, "b 3 h w"], last: Float[Tensor, "b 3 h w"], t: Float[Tensor, "n 1 1 1"]
    ) -> Out:
        """n = b * times drawings, clip-major."""
        flow_01, flow_10 = self.flows(first, last)
        return Out(flow_01, flow_10, self.between(first, last, flow_01, flow_10, t))

    def flows(
        self, first: Float[Tensor, "b 3 h w"], last: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 2 h w"], Float[Tensor, "b 2 h w"]]:
        """flow_01 and flow_10."""
        flow_01, flow_10 = self.motion(torch.cat([first, last], dim=1)).chunk(2, dim=1)
        return flow_01, flow_10

    def between(
        self,
        first: Float[Tensor, "b 3 h w"],
        last: Float[Tensor, "b 3 h w"],
        flow_01: Float[Tensor, "b 2 h w"],
        flow_10: Float[Tensor, "b 2 h w"],
        t: Float[Tensor, "n 1 1 1"],
    ) -> Drawing:
        parts = (first, last, flow_01, flow_10)
        first, last, flow_01, flow_10 = (part.repeat_interleave(len(t) // len(part), dim=0) for part in parts)
        flow_t0, flow_t1 = approximate(flow_01, flow_10, t)
        warped_0, warped_1 = warp(first, flow_t0), warp(last, flow_t1)
        seen = [first, last, flow_01, flow_10, flow_t0, flow_t1, warped_0, warped_1]  # 6 + 4 + 4 + 6 channels
        residual_0, residual_1, visible = self.refinement(torch.cat(seen, dim=1)).split([2, 2, 1], dim=1)
        refined = warp(first, flow_t0 + residual_0), warp(last, flow_t1 + residual_1)
        return Drawing(blend(*refined, visible.sigmoid(), t), warped_0, warped_1)


@dataclass(frozen=True)
class Window:
    first: Tensor  # (B, 3, H, W)
    last: Tensor
    truth: Tensor  # (B * times, 3, H, W), clip-major
    t: Tensor  # (B * times, 1, 1, 1)


class SuperSloMo(nn.Module):
    """A Synthesizer of "tween" and a Trainable with one phase."""

    Config: TypeAlias = Config
    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.times < 1 or not config.widths:
            raise ValueError(
                f"times and the number of widths must be 1 or more, not {config.times} and {config.widths}"
            )
        self.config = config
        self.size: tuple[int, int] | None = None
        self.networks = Networks(config)

    @torch.no_grad()
    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Synthesizer`. Raises ValueError for other than 3 channels."""
        known = request.known
        b, c, _, h, w = known.shape
        if c != 3:
            raise ValueError(f"this model draws RGB, 3 channels, not {c}")
        left, _, way = request.ways()
        drawn = known[:, :, left]
        piece = max(1, PIECE_PX // (b * h * w))
        for start, end in pairwise(request.mask.nonzero().flatten().tolist()):
            if end == start + 1:
                continue
            first, last = known[:, :, start], known[:, :, end]
            flows = self.networks.flows(first, last)
            for at in range(start + 1, end, piece):
                times = slice(at, min(at + piece, end))
                t = way[times].repeat(b)[:, None, None, None]
                frames = self.networks.between(first, last, *flows, t).frames
                drawn[:, :, times] = frames.unflatten(0, (b, -1)).transpose(1, 2)
        return request.keep_known(drawn.clamp(-1, 1).expand(samples, *drawn.shape))

    def windows(self, batch: Batch) -> Iterable[Window]:
        video = batch.video
        count, last = min(self.config.times, video.shape[2] - 2), video.shape[2] - 1
        chances = [torch.Generator().manual_seed(seed) for seed in batch.seeds.tolist()]  # each clip has its own times
        times = torch.stack([1 + torch.randperm(last - 1, generator=chance)[:count] for chance in chances])
        times = times.to(video.device)  # (B, times)
        truth = video.transpose(1, 2)[torch.arange(len(video), device=video.device)[:, None], times].flatten(0, 1)
        yield Window(video[:, :, 0], video[:, :, last], truth, times.flatten()[:, None, None, None] / last)

    def forward(self, window: Window, carry: None) -> tuple[Out, None]:
        return self.networks(window.first, window.last, window.t), None

    def phases(self) -> list[Phase]:
        return [Phase("networks", self.networks, ema=True)]

    def losses(self, phase: str, window: Window, out: Out) -> dict[str, Tensor]:
        """The paper's four terms."""
        config, drawing = self.config, out.drawing
        warped = (
            (window.first, warp(window.last, out.flow_01)),
            (window.last, warp(window.first, out.flow_10)),
            (window.truth, drawing.warped_0),
            (window.truth, drawing.warped_1),
        )
        terms = {
            "reconstruction": config.reconstruction * _distance(drawing.frames, window.truth),
            "warp": config.warp * torch.stack([_distance(*pair) for pair in warped]).sum(),
            "smoothness": config.smoothness * (_roughness(out.flow_01) + _roughness(out.flow_10)),
        }
        if config.perceptual:
            drawn, truth = self._features(drawing.frames), self._features(window.truth)
            terms["perceptual"] = config.perceptual * F.mse_loss(drawn, truth)
        return terms

    @cached_property
    def _features(self) -> VggFeatures:
        return VggFeatures("conv4_3")


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of pixels in [0, 1]."""
    return (a - b).abs().mean() / 2


def _roughness(flow: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, along x plus along y."""
    return flow.diff(dim=-1).abs().mean() + flow.diff(dim=-2).abs().mean()
