"""What a method, a source, a metric and a training phase must be. Protocols: no behaviour, nothing to inherit from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from douga.core.clip import Batch, Request


@runtime_checkable
class Synthesizer(Protocol):
    """Draws the frames that a request leaves open.

    One that paints has `stream(maps, given, samples, generator)` too, frame after frame from any number of maps (see `Vid2Vid`).
    One that needs the true motion has `needs_flow`: then, in an evaluation, `request.flow` is there.
    One that draws between a single first and a single last key frame has `one_pair`: of several it is asked pair by pair.
    One that draws any number of planes, alpha among them, has `any_planes`; the others draw RGB.
    """

    tasks: ClassVar[frozenset[str]]  # of "tween", "paint", "predict"
    stochastic: ClassVar[bool]  # False: every sample is the same drawing
    size: tuple[int, int] | None  # the (height, width) it draws; None: any

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """(S, B, C, T, H, W) float32 in [-1, 1]. Known frames come back exactly as given; the same generator state
        gives the same result. Frames are drawn for `request.times`; where there are noise and key frames, the noise is
        multiplied with `request.diversity`. Raises ValueError for a request that the method cannot draw (its size, its mask).
        """
        ...


@dataclass(frozen=True)
class Phase:
    """One optimiser's turn in a training step: gradients flow into `module` alone.

    interval: taken every so many steps. lr_scale: times the experiment's learning rate.
    ema: the module is what is released; the engine keeps a running average of it.
    """

    name: str
    module: nn.Module
    interval: int = 1
    lr_scale: float = 1.0
    ema: bool = False


@runtime_checkable
class Trainable(Protocol):
    """A Synthesizer that learns. It is an `nn.Module` built from one frozen config, `Model(config)`."""

    config: Any

    def windows(self, batch: Batch) -> Iterable[Any]:
        """Cut a batch into what one forward sees: one window for most models, pieces for a recurrent one."""
        ...

    def __call__(self, window: Any, carry: Any) -> tuple[Any, Any]:
        """Draw a window. `carry` is None at first, then what the last window gave back (detached)."""
        ...

    def phases(self) -> Sequence[Phase]:
        """In the order taken. The one whose module draws comes last, so that one forward serves every phase."""
        ...

    def losses(self, phase: str, window: Any, out: Any) -> Mapping[str, Tensor]:
        """Terms to be summed and minimised in this phase, already weighted, so that the log shows what is optimised.

        No terms: the phase is not taken in this step.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """One split of a set of videos, at one size. Knows paths, splits and licence; nothing about batches or chance.

    Built as `Source(root, split, size)`: `root` is a folder (None: no files needed), `size` is (height, width).
    Raises FileNotFoundError naming what is missing and where it comes from, ValueError for a split that is not there.
    """

    splits: ClassVar[tuple[str, ...]]
    licence: ClassVar[str]
    endless: ClassVar[bool]  # True: drawn from a formula, so it is not cached; `clip` must then be quick
    fps: float
    lengths: Sequence[int]  # frames of each video
    names: Sequence[str]  # a stable public name of each video

    def __len__(self) -> int:
        """How many videos."""
        ...

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "c t h w"]:
        """`length` frames of video `index` from frame `start`: (C, T, H, W) float32 in [-1, 1]."""
        ...


@runtime_checkable
class Paired(Source, Protocol):
    """A source whose videos come with what they can be painted from.

    It may have `flow(index, start, length)` too, (2, length - 1, H, W) px, x first: the exact motion from each frame but the
    first to the one before; without it the reference flow is estimated.
    """

    classes: Sequence[str]  # of label maps, by id; empty: the maps are pictures
    things: frozenset[int]  # the classes that move by themselves: cars, people

    def maps(self, index: int, start: int, length: int) -> Tensor:
        """Of the same frames as `clip`.

        Labels: (2, T, H, W) int32: the class, -1 where there is none, and the number of the instance, 0 where it has none;
        a thing keeps its number through the video. Pictures (edges, poses, drawings): (3, T, H, W) float32 in [-1, 1].
        """
        ...


@dataclass(frozen=True)
class Figure:
    """One column of a table.

    values: (N,) float64, a score for each clip, whose mean stands in the table; or (), one figure of the whole set.
    higher_is_better: None where it describes and wins nothing.
    """

    values: Tensor
    unit: str = ""
    higher_is_better: bool | None = None


@runtime_checkable
class Metric(Protocol):
    """What drawn videos are worth. Built as `Metric(device)`.

    It looks at one clip at a time and keeps nothing: an evaluation can stop, go on, be spread over processes and be
    resampled from its observations, without the videos. Its name states its protocol (`ssim_hidden`). Raises
    FileNotFoundError, saying where they come from, if the weights of a network that it `needs` are missing.

    One with `painted` looks at maps: it is built as `Metric(device, source, size)`, with the training split, and `observe` gets
    `maps` too, (K, T, H, W) as in `Request.cond`.
    """

    needs: ClassVar[tuple[str, ...]]  # networks of douga.nn.pretrained
    settings: Mapping[str, Any]  # all that decides its values, ready for JSON: part of the evaluation's protocol

    def observe(
        self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"], mask: Bool[Tensor, " t"]
    ) -> Mapping[str, Tensor]:
        """What one clip contributes: small tensors on the CPU, of the same shapes for every clip with as many samples."""
        ...

    def compute(self, observed: Mapping[str, Tensor]) -> Mapping[str, Figure]:
        """The columns, from the observations of N clips, stacked: (N, ...) each."""
        ...

    def curves(self, observed: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """For plots: name -> (K,) float64, over frames or what the name says; often none."""
        ...
