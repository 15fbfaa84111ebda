"""SepConv-t: every pixel is the sum of two patches, one of either key frame, each weighed by a separable filter of its own.

Niklaus, Mai, Liu, "Video Frame Interpolation via Adaptive Separable Convolution", ICCV 2017.

Contract: between two neighbouring known frames it draws any number of frames at any size; outside them it holds. Its motion
reaches taps // 2 pixels.
The paper draws the middle alone. Here the time t stands in a seventh input plane, beside the two key frames, the two patches
are weighed by 1 - t and t (the paper's plain sum, but for a factor, in the middle), and every t is trained on: hence the -t.
Other departures: an untrained model cross-fades (see `_head`), the loss is the paper's L1 without its perceptual variant, and
the engine's Adam takes the place of AdaMax.
Conventions: filters are (B, K, H, W), tap first; t in (0, 1) is the way from the first key frame to the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from douga.core.clip import Batch, Request, standard_normal
from douga.core.contracts import Phase


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's model (21.7 M parameters)."""

    widths: tuple[int, ...] = (32, 64, 128, 256, 512)  # channels at the full size, 1/2, 1/4, ...; 2 or more
    taps: int = 51  # K, odd
    times: int = 1  # in-between frames of each clip that a training step draws


# Rows and columns filtered together: what they take stays in a processor's cache, and the band matrices hold few zeros.
TILE_PX = (64, 32)
# Frames are drawn together up to so many pixels in all: the filters alone take 800 bytes for each.
PIECE_PX = 2**18


class _Filtered(torch.autograd.Function):
    """`filtered` without its padding. Keeps its arguments alone: the backward pass makes the rest again, tile by tile."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
        ctx.save_for_backward(padded, vertical, horizontal)
        b, _, height, width = vertical.shape
        out = padded.new_empty(b, padded.shape[1], height, width)
        for tile, _, across, down in _tiles(padded, vertical, horizontal):
            out[tile] = (across * down).sum(2).transpose(1, 2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        padded, vertical, horizontal = ctx.saved_tensors
        d_vertical, d_horizontal = torch.empty_like(vertical), torch.empty_like(horizontal)
        for tile, rows, across, down in _tiles(padded, vertical, horizontal):
            g = grad[tile].transpose(1, 2)[:, :, None]  # (B, H, 1, C, W)
            d_vertical[tile] = (g * across).sum(3).transpose(1, 2)
            d_band = (g * down).flatten(2, 3).mT @ rows
            d_horizontal[tile] = _diagonals(d_band, vertical.shape[1]).permute(0, 3, 1, 2)
        return None, d_vertical, d_horizontal


def _tiles(padded: Tensor, vertical: Tensor, horizontal: Tensor) -> Iterator[tuple[Any, Tensor, Tensor, Tensor]]:
    """Of each tile of (B, H, W) pixels: its place and

    rows (B, H, K * C, W + K - 1), the K rows of the frame that each row of the drawing sees;
    across (B, H, K, C, W), the same after the horizontal filter: a product with a band matrix of its taps;
    down (B, H, K, 1, W), the vertical taps. What is left to do is the sum over K of across * down.
    """
    b, taps, height, width = vertical.shape
    # A GPU wants large pieces of work, a CPU's cache small ones.
    images = b if padded.is_cuda else 1
    for i, y, x in product(range(0, b, images), range(0, height, TILE_PX[0]), range(0, width, TILE_PX[1])):
        tile = (slice(i, i + images), slice(None), slice(y, y + TILE_PX[0]), slice(x, x + TILE_PX[1]))
        down = vertical[tile].transpose(1, 2).contiguous()[:, :, :, None]
        h, w = down.shape[1], down.shape[-1]
        seen = padded[i : i + images, :, y : y + h + taps - 1, x : x + w + taps - 1]
        rows = seen.unfold(2, taps, 1).permute(0, 2, 4, 1, 3).flatten(2, 3)
        band = rows.new_zeros(len(rows), h, w, w + taps - 1)
        _diagonals(band, taps).copy_(horizontal[tile].permute(0, 2, 3, 1))
        yield tile, rows, (rows @ band.mT).unflatten(2, (taps, -1)), down


def _diagonals(band: Float[Tensor, "b h w n"], taps: int) -> Float[Tensor, "b h w {taps}"]:
    """A view of columns x to x + taps - 1 of each row x."""
    *outer, step, one = band.stride()
    return band.as_strided((*band.shape[:3], taps), (*outer, step + one, one))


def filtered(
    frames: Float[Tensor, "b c h w"], vertical: Float[Tensor, "b k h w"], horizontal: Float[Tensor, "b k h w"]
) -> Float[Tensor, "b c h w"]:
    """The paper's local convolution: out(y, x) = sum_ij vertical_i(y, x) horizontal_j(y, x) frame(y + i - K//2, x + j - K//2).

    K is odd; beyond the border lies its nearest pixel. In the precision of its arguments, autocast or not. The filters get
    gradients, the frames none.
    """
    padded = F.pad(frames, [vertical.shape[1] // 2] * 4, mode="replicate")
    with torch.autocast(frames.device.type, enabled=False):
        return _Filtered.apply(padded, vertical, horizontal)


def _convolution(inward: int, outward: int) -> nn.Conv2d:
    """3x3. He's start: with torch's own, which is smaller, nothing of the key frames would reach the end of so many layers."""
    made = nn.Conv2d(inward, outward, 3, padding=1)
    nn.init.kaiming_normal_(made.weight, nonlinearity="relu")
    return made


def _convolutions(*widths: int) -> list[nn.Module]:
    """Each with its ReLU."""
    return [part for a, b in pairwise(widths) for part in (_convolution(a, b), nn.ReLU())]


def _doubled(channels: int) -> nn.Sequential:
    """To twice the size, bilinear, then a convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), _convolution(channels, channels))


def _head(width: int, taps: int) -> nn.Sequential:
    """From features to one filter for each pixel of twice their size; near the identity at first.

    That is ours: no step is spent on finding the picture.
    """
    up, last = _doubled(taps)
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.normal_(last.weight, std=0.01 / taps**0.5)
    nn.init.zeros_(last.bias)
    nn.init.ones_(last.bias[taps // 2])
    return nn.Sequential(*_convolutions(width, width, width, taps), up, last)


class Filters(nn.Module):
    """From the key frames and t to the four filters of each pixel: a U-Net with added skips, and four heads on its half size."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, taps = config.widths, config.taps
        self.down = nn.ModuleList(nn.Sequential(*_convolutions(a, b, b, b)) for a, b in pairwise((7, *widths)))
        self.up = nn.ModuleList(
            nn.Sequential(*_convolutions(a, b, b, b), _doubled(b), nn.ReLU())
            for a, b in pairwise((widths[-1], *widths[:0:-1]))
        )
        self.heads = nn.ModuleList(_head(widths[1], taps) for _ in range(4))

    def forward(self, keys: Float[Tensor, "b 6 h w"], t: Float[Tensor, " b"]) -> list[Float[Tensor, "b k h w"]]:
        """Vertical and horizontal for the first key frame, then for the last. H and W are multiples of 2 ** len(widths)."""
        plane = t[:, None, None, None].expand(-1, 1, *keys.shape[2:])
        x = torch.cat([keys, plane], dim=1).contiguous(memory_format=torch.channels_last)
        skips = []
        for down in self.down:
            skips.append(down(x))
            x = F.avg_pool2d(skips[-1], 2)
        for up, skip in zip(self.up, reversed(skips), strict=False):  # the one at full size is not used
            x = up(x) + skip
        return [head(x) for head in self.heads]


@dataclass(frozen=True)
class Window:
    """N = B * times drawings, clip-major."""

    first: Tensor  # (N, 3, H, W)
    last: Tensor  # (N, 3, H, W)
    t: Tensor  # (N,)
    truth: Tensor  # (N, 3, H, W)


class SepConv(nn.Module):
    """A Synthesizer of "tween" and a Trainable with one phase."""

    Config: TypeAlias = Config
    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = False
    size: tuple[int, int] | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        if len(config.widths) < 2 or config.taps % 2 == 0 or config.times < 1:
            raise ValueError(f"widths must be 2 or more, taps odd and times 1 or more, not {config}")
        self.config = config
        self.filters = Filters(config)

    @torch.no_grad()
    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Synthesizer`. Raises ValueError for frames that are not RGB."""
        known = request.known
        if known.shape[1] != 3:
            raise ValueError(f"this model draws 3 channels (RGB), not {known.shape[1]}")
        left, right, way = request.ways()
        drawn = known[:, :, left]
        between = (left != right).nonzero()[:, 0]
        piece = max(1, PIECE_PX // known[0, 0, 0].numel())
        # Clip by clip: convolutions round by the size of their batch, and clips must not touch each other.
        for clip, frames in enumerate(known.transpose(1, 2)):  # (T, 3, H, W)
            for start in range(0, len(between), piece):
                times = between[start : start + piece]
                pictures = self.draw(frames[left[times]], frames[right[times]], way[times])
                drawn[clip, :, times] = pictures.clamp(-1, 1).transpose(0, 1)
        return request.keep_known(drawn.expand(samples, *drawn.shape))

    def draw(
        self, first: Float[Tensor, "b 3 h w"], last: Float[Tensor, "b 3 h w"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 3 h w"]:
        """The frame at t between each two, of any size; it may leave [-1, 1]."""
        height, width = first.shape[-2:]
        stride = 2 ** len(self.config.widths)
        keys = F.pad(torch.cat([first, last], 1), (0, -width % stride, 0, -height % stride), mode="replicate")
        # float32: bf16 would round the picture itself, not only what is known about it.
        maps = [filters[..., :height, :width].float() for filters in self.filters(keys, t)]
        return torch.lerp(filtered(first, *maps[:2]), filtered(last, *maps[2:]), t[:, None, None, None])

    def windows(self, batch: Batch) -> Iterable[Window]:
        """Other times in each clip, drawn from its seed."""
        video, frames = batch.video, batch.video.shape[2]
        if frames < 3:
            raise ValueError(f"clips must have 3 frames or more, so that one lies between the key frames, not {frames}")
        chosen = 1 + standard_normal(batch.seeds, frames - 2).argsort(dim=1)[:, : self.config.times]  # (B, times)
        clips = torch.arange(len(video))[:, None]
        first, last = (video[:, :, key].repeat_interleave(chosen.shape[1], dim=0) for key in (0, -1))
        t = (chosen.flatten() / (frames - 1)).to(video.device)
        yield Window(first, last, t, video[clips, :, chosen].flatten(0, 1))

    def forward(self, window: Window, carry: None) -> tuple[Tensor, None]:
        """(N, 3, H, W), as drawn: not yet clamped."""
        return self.draw(window.first, window.last, window.t), None

    def phases(self) -> list[Phase]:
        return [Phase("filters", self.filters, ema=True)]

    def losses(self, phase: str, window: Window, out: Tensor) -> dict[str, Tensor]:
        return {"l1": F.l1_loss(out, window.truth)}
