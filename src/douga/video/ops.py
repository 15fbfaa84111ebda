"""Pure tensor functions on pictures and videos: float32, RGB in [-1, 1], height and width last."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def resize(video: Float[Tensor, "*axes h w"], size: tuple[int, int]) -> Float[Tensor, "*axes h2 w2"]:
    """(..., H, W) to (..., *size), in [-1, 1]: antialiased; bilinear down, bicubic as soon as one side grows."""
    assert min(size) > 0, size
    if tuple(video.shape[-2:]) == tuple(size):
        return video
    grows = size[0] > video.shape[-2] or size[1] > video.shape[-1]
    planes = video.reshape(1, -1, *video.shape[-2:])
    resized = F.interpolate(planes, size, mode="bicubic" if grows else "bilinear", align_corners=False, antialias=True)
    return resized.reshape(*video.shape[:-2], *size).clamp(-1, 1)  # bicubic overshoots


def fit(video: Float[Tensor, "*axes h w"], size: tuple[int, int]) -> Float[Tensor, "*axes h2 w2"]:
    """Cut the largest centred piece that has the aspect of `size` (height, width), then resize it."""
    return resize(_cut(video, size), size)


def fit_labels(labels: Int[Tensor, "*axes h w"], size: tuple[int, int]) -> Int[Tensor, "*axes h2 w2"]:
    """The same piece as `fit` cuts; each pixel gets the number that lies nearest, because numbers have no mean."""
    piece = _cut(labels, size)
    rows, columns = (((torch.arange(n) + 0.5) * old / n).long() for n, old in zip(size, piece.shape[-2:], strict=True))
    return piece[..., rows[:, None], columns]


def _cut(video: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = video.shape[-2:]
    cut_height = max(1, min(height, round(width * size[0] / size[1])))
    cut_width = max(1, min(width, round(height * size[1] / size[0])))
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    return video[..., top : top + cut_height, left : left + cut_width]


def warp(
    frame: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h2 w"], top: int = 0, mode: str = "bilinear"
) -> Float[Tensor, "b c h2 w"]:
    """Draw pixel (y, x) from `frame` at (y + flow[:, 1], x + flow[:, 0]), beyond the border its nearest one.

    flow: in pixels, x first, from the frame being drawn to `frame`. top: which row of it the flow's first row is, where only
    some rows are drawn. mode: bilinear; bicubic, which overshoots, is for pictures to be looked at: bilinear blurs what
    moves by half a pixel.
    """
    height, width = frame.shape[-2:]
    # float32 always: in half precision a coordinate beyond 256 px is off by a quarter of a pixel and more.
    x = torch.arange(width, device=flow.device, dtype=torch.float32) + flow[:, 0].float()  # (B, H, W)
    y = torch.arange(top, top + flow.shape[2], device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1].float()
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    warped = F.grid_sample(frame.float(), grid, mode=mode, padding_mode="border", align_corners=True)
    return warped.to(frame.dtype)


def resize_flow(flow: Float[Tensor, "b 2 h w"], size: tuple[int, int]) -> Float[Tensor, "b 2 h2 w2"]:
    """A flow, px, and the picture that it is of, at another size."""
    scale = flow.new_tensor([size[1] / flow.shape[3], size[0] / flow.shape[2]])[:, None, None]
    return F.interpolate(flow, size, mode="bilinear", antialias=True) * scale if tuple(flow.shape[2:]) != size else flow


def chained(flow: Float[Tensor, "b 2 t h w"], t: int, steps: int) -> Float[Tensor, "b 2 h w"]:
    """The motion from frame t to frame t - steps, from that between neighbours."""
    total = flow[:, :, t]
    for k in range(1, steps):
        total = total + warp(flow[:, :, t - k], total)
    return total


def chained_to(flow: Float[Tensor, "b 2 t h w"], key: int, other: int) -> dict[int, Tensor]:
    """The motion from each frame between two key frames to the first named, from that between neighbours."""
    step = 1 if other > key else -1
    chained = {key: torch.zeros_like(flow[:, :, key])}
    for k in range(key + step, other, step):
        chained[k] = flow[:, :, k] + warp(chained[k - step], flow[:, :, k])
    return chained


EXPLAINED = 0.02  # squared difference of colours in [-1, 1]


def explained(
    before: Float[Tensor, "b 3 h w"], frame: Float[Tensor, "b 3 h w"], flow: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, "b 1 h w"]:
    """1 where the frame is what the flow, px, makes of the one before, 0 where it is not (Wang et al. 2018, the code)."""
    return ((warp(before, flow) - frame).square().sum(1, keepdim=True) < EXPLAINED).float()


def encode_labels(maps: Int[Tensor, "2 t h w"], classes: int) -> Float[Tensor, "k t h w"]:
    """Label maps as networks see them, (classes + 1, T, H, W): 0 or 1 for each class, then the number of the instance.

    maps: the class, -1 where there is none, and the instance's number. Raises ValueError for a class that there is not.
    """
    labels, instances = maps
    if labels.max() >= classes or labels.min() < -1:
        raise ValueError(f"a label map holds the class {int(labels.max())}; there are the classes 0 to {classes - 1}")
    one_hot = labels == torch.arange(classes, device=labels.device)[:, None, None, None]
    return torch.cat([one_hot, instances[None]]).float()


def colour_labels(labels: Int[Tensor, "t h w"]) -> Float[Tensor, "3 t h w"]:
    """Label maps to look at: a colour for each class, neighbours far apart; white where there is none (-1)."""
    number = torch.arange(int(labels.max()) + 1)
    hue = number[:, None] * 0.618 * 2 * torch.pi + torch.tensor([0, 2, 4]) * torch.pi / 3
    palette = torch.cat([(0.7 - 0.25 * (number[:, None] % 3)) * hue.cos(), torch.ones(1, 3)])  # -1 takes the last one
    return palette[labels.long()].permute(3, 0, 1, 2).contiguous()


def premultiply(video: Float[Tensor, "*axes 4 t h w"]) -> Float[Tensor, "*axes 4 t h w"]:
    """Colours times alpha, as they can be mixed and moved: what is not seen becomes black."""
    colour, alpha = (video + 1).div(2).split([3, 1], dim=-4)
    return torch.cat([colour * alpha, alpha], dim=-4) * 2 - 1


def unpremultiply(video: Float[Tensor, "*axes 4 t h w"]) -> Float[Tensor, "*axes 4 t h w"]:
    """The way back, so that no dark fringe stays; what is not seen at all is black."""
    colour, alpha = (video + 1).div(2).split([3, 1], dim=-4)
    least = 1 / 131_070  # half a step of 16 bits: what is less is rounding
    colour = torch.where(alpha > least, colour / alpha.clamp(min=least), 0.0).clamp(0, 1)
    return torch.cat([colour, alpha], dim=-4) * 2 - 1


def on_white(video: Float[Tensor, "*axes 4 t h w"]) -> Float[Tensor, "*axes 3 t h w"]:
    """As it looks on a white ground, without alpha. The colours are not multiplied with it."""
    colour, alpha = (video + 1).div(2).split([3, 1], dim=-4)
    return 1 - (1 - colour) * alpha * 2


def contact_sheet(
    rows: Float[Tensor, "r 3 t h w"], pad: int = 2, columns: int | None = None
) -> Float[Tensor, "3 h2 w2"]:
    """One picture of several clips: a clip in each row, its frames side by side, white gaps of `pad` pixels between.

    columns: at most so many frames of a row, evenly spaced, the first and the last among them. ValueError below 1.
    """
    if columns is not None:
        if columns < 1:
            raise ValueError(f"a contact sheet has 1 or more columns, not {columns}")
        if columns < rows.shape[2]:
            rows = rows[:, :, torch.linspace(0, rows.shape[2] - 1, columns).round().long()]
    tiles = F.pad(rows, (0, pad, 0, pad), value=1.0)
    _, _, frames, height, width = tiles.shape
    sheet = tiles.permute(1, 0, 3, 2, 4).reshape(3, len(rows) * height, frames * width)
    return sheet[:, : len(rows) * height - pad, : frames * width - pad]
