"""The words of the project: what is asked for, what comes back, what is learned from.

Notation, everywhere inside: video is ``(B, C, T, H, W)`` float32, RGB in [-1, 1]; samples come first, ``(S, B, C, T, H, W)``.
Flow is ``(B, 2, T, H, W)`` in pixels, x first, from the frame being drawn to the frame it is drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Resizing and 8-bit files may leave [-1, 1] by rounding; more than this is a unit mistake (0-255, say), not rounding.
RANGE_TOLERANCE = 1e-3


def check_video(video: Tensor, name: str) -> None:
    """Raise ValueError unless `video` is (B, C, T, H, W) float32, finite and in [-1, 1]."""
    if video.ndim != 5:
        raise ValueError(f"{name} must have the 5 axes (B, C, T, H, W), not the shape {tuple(video.shape)}")
    if 0 in video.shape:
        raise ValueError(f"{name} is empty: its shape is {tuple(video.shape)}")
    if video.dtype != torch.float32:
        raise ValueError(f"{name} must be float32, not {video.dtype}")
    low, high = (value.item() for value in video.aminmax())
    if not (low >= -1 - RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # `not` catches NaN too
        raise ValueError(f"{name} must be finite and lie in [-1, 1]; found [{low:.3g}, {high:.3g}]")


@dataclass(frozen=True)
class Request:
    """Some frames are known, some conditions are known: draw the rest.

    known: (B, C, T, H, W) float32 in [-1, 1]; zero wherever `mask` is False, so that no method can peek at the truth.
    mask: (T,) bool, True where the frame is given; at least one, unless there is `cond`.
    cond: (B, K, T, H, W) maps, for tasks that have them: of labels as `douga.video.ops.encode_labels` gives them, or pictures.
    fps: frames per second.
    flow: (B, 2, T, H, W), px, as in `Batch`: only for methods that need the true motion and say so (`needs_flow`).
    times: (T,) finite float32, when each frame is shown, in any unit; it never decreases, and grows from each known frame to
        the next. None: 0, 1, 2, ...
    diversity: how far samples may differ, 0 to 1: methods multiply their noise with it. 0: all are the most typical drawing.
    Raises ValueError where one of these does not hold.
    """

    known: Float[Tensor, "b c t h w"]
    mask: Bool[Tensor, " t"]
    cond: Float[Tensor, "b k t h w"] | None = None
    fps: float = 25.0
    flow: Float[Tensor, "b 2 t h w"] | None = None
    times: Float[Tensor, " t"] | None = None
    diversity: float = 1.0

    def __post_init__(self) -> None:
        check_video(self.known, "known")
        if self.mask.dtype != torch.bool or self.mask.shape != (self.known.shape[2],):
            raise ValueError(f"mask must be bool with one entry for each of the {self.known.shape[2]} frames")
        if not self.mask.any() and self.cond is None:
            raise ValueError("at least one frame must be known")
        if self.known[:, :, ~self.mask].any():
            raise ValueError("frames outside the mask must be zero: a request holds no truth")
        if self.cond is not None and self.cond.shape[2] != self.known.shape[2]:
            raise ValueError(f"cond has {self.cond.shape[2]} frames, known has {self.known.shape[2]}")
        if not self.fps > 0:
            raise ValueError(f"fps must be above 0, not {self.fps}")
        if self.times is not None:
            if self.times.shape != self.mask.shape or not self.times.isfinite().all():
                raise ValueError(f"times must hold one finite number for each of the {len(self.mask)} frames")
            if (self.times.diff() < 0).any() or (self.times[self.mask.to(self.times.device)].diff() <= 0).any():
                raise ValueError("times must never decrease, and must grow from each known frame to the next")
        if not 0 <= self.diversity <= 1:
            raise ValueError(f"diversity must lie between 0 and 1, not {self.diversity}")

    @classmethod
    def tween(
        cls, first: Float[Tensor, "b c h w"], last: Float[Tensor, "b c h w"], frames: int, fps: float = 25.0
    ) -> Request:
        """Ask for `frames` (1 or more) drawings between two key frames: T = frames + 2."""
        if frames < 1:
            raise ValueError(f"frames is the number of drawings between the key frames: 1 or more, not {frames}")
        if first.shape != last.shape:
            raise ValueError(
                f"the first and the last key frame must have the same shape, not {tuple(first.shape)} and {tuple(last.shape)}"
            )
        between = first.new_zeros(*first.shape[:2], frames, *first.shape[2:])
        mask = torch.zeros(frames + 2, dtype=torch.bool)
        mask[0] = mask[-1] = True
        return cls(torch.cat([first[:, :, None], between, last[:, :, None]], dim=2), mask, fps=fps)

    @classmethod
    def hide(
        cls,
        video: Float[Tensor, "b c t h w"],
        mask: Bool[Tensor, " t"],
        fps: float = 25.0,
        cond: Float[Tensor, "b k t h w"] | None = None,
    ) -> Request:
        """Keep the frames of `video` that `mask` marks and forget the others."""
        return cls(torch.where(mask.to(video.device)[:, None, None], video, 0.0), mask, cond, fps)

    def ways(self) -> tuple[Int[Tensor, " t"], Int[Tensor, " t"], Float[Tensor, " t"]]:
        """For each frame: the last known one up to it, the first known one from it on, and the way between them in time, 0 to 1.

        Before the first known frame and after the last one both are that frame, and the way is 0. On the device of `known`;
        there must be a known frame.
        """
        assert self.mask.any(), "there are no ways where no frame is known"
        mask, count = self.mask.cpu(), len(self.mask)
        index = torch.arange(count)
        left = torch.where(mask, index, -1).cummax(0).values
        right = torch.where(mask, index, count).flip(0).cummin(0).values.flip(0)
        left, right = torch.where(left < 0, right, left), torch.where(right == count, left, right)
        times = (index if self.times is None else self.times.cpu()).double()
        gap = times[right] - times[left]
        way = torch.where(gap > 0, (times - times[left]) / gap, 0).float()
        return left.to(self.known.device), right.to(self.known.device), way.to(self.known.device)

    def keep_known(self, drawn: Float[Tensor, "*s b c t h w"]) -> Float[Tensor, "*s b c t h w"]:
        """Put the known frames, exactly as given, in the place of what was drawn there.

        A frame between two known ones that is shown at the very time of one of them is that one too.
        """
        mask, known = self.mask.to(drawn.device), self.known.to(drawn)
        if self.times is not None and mask.any():
            left, right, way = (part.to(drawn.device) for part in self.ways())
            mask = mask | ((left != right) & ((way == 0) | (way == 1)))
            known = known[:, :, torch.where(way < 1, left, right)]
        return torch.where(mask[:, None, None], known, drawn)


@dataclass(frozen=True)
class Clip:
    """What a request was answered with.

    frames: (S, C, T, H, W) float32 in [-1, 1], one row for each sample; a 4th plane is alpha (see `douga.video.io`).
    mask: (T,) bool, True where the frame was given and not drawn.
    made: how it was made (method, weights, seed, ...), ready for JSON.
    spread: (H, W) float32, of 255: how far the samples differ at each pixel, mean over frames; None: there is one sample.
    """

    frames: Float[Tensor, "s c t h w"]
    mask: Bool[Tensor, " t"]
    fps: float = 25.0
    made: Mapping[str, object] = field(default_factory=dict)
    spread: Float[Tensor, "h w"] | None = None

    def __post_init__(self) -> None:
        check_video(self.frames, "frames")


@dataclass(frozen=True)
class Batch:
    """What a training step sees.

    video: (B, C, T, H, W) float32 in [-1, 1].
    seeds: (B,) int64, one for each clip. All noise of a step is drawn from them (`standard_normal`), so a step does not
        depend on how its clips are spread over processes.
    step: which training step this is; for choices that all clips of a step share.
    cond: (B, K, T, H, W), as in `Request`. flow: (B, 2, T, H, W), px: the reference motion from each frame to the one before;
        zero in frame 0. Both only for methods that paint. For those that learn motion (B, 4, ...): also to the one after.
    """

    video: Float[Tensor, "b c t h w"]
    seeds: Int[Tensor, " b"]
    step: int = 0
    cond: Float[Tensor, "b k t h w"] | None = None
    flow: Float[Tensor, "b k2 t h w"] | None = None

    def to(self, device: torch.device | str) -> Batch:
        moved = {
            name: value.to(device, non_blocking=True)
            for name, value in {"video": self.video, "cond": self.cond, "flow": self.flow}.items()
            if value is not None
        }
        return replace(self, **moved)  # type: ignore[arg-type]


def standard_normal(seeds: Int[Tensor, " b"], *shape: int, stream: int = 0) -> Float[Tensor, "b ..."]:
    """(B, *shape) draws of N(0, 1) on the CPU, row b from seed b alone; another `stream` is another draw."""
    rows = []
    for seed in seeds.tolist():
        generator = torch.Generator().manual_seed((seed * 1_000_003 + stream) % 2**63)
        rows.append(torch.randn(*shape, generator=generator))
    return torch.stack(rows)
