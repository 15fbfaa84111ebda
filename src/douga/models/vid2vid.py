"""Video-to-video synthesis: a sequence of maps in, a video that follows them out, frame after frame.

Wang, Liu, Zhu, Liu, Tao, Kautz, Catanzaro, "Video-to-Video Synthesis", NeurIPS 2018, arXiv 1808.06601.

    x_t = (1 - m_t) . warp(x_{t-1}, w_t) + m_t . ((1 - b_t) . f_t + b_t . h_t)                              (the paper's eq. 4)

w: flow, m: what the flow can't show, h: the picture, all from the maps s_{t-2}..s_t and the frames drawn before; f: the picture
of the things (cars, people), from the maps alone; b: 0 on things, 1 elsewhere, from the map. Where nothing lies before, m is 1.

Contract: `request.cond` in (label maps as `encode_labels` gives them, or pictures), one version out for each draw of the styles.
The first frames may be given or not: a model is trained to begin both ways (`from_nothing`). Any size; sides are padded to a
multiple of 2^(downs + fine). Memory does not grow with the number of frames where `stream` is used.

Conventions: flow (B, 2, H, W) in px, from frame t to t - 1. Layer sizes follow the authors' code; norms are
instance norms (their batch norm saw one picture).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from douga.core.clip import Batch, Request
from douga.core.contracts import Phase
from douga.nn.blocks import ResidualBlock, conv_block, up_block
from douga.nn.critics import PatchCritics, against, critic_loss
from douga.nn.losses import Perceptual
from douga.nn.maps import INSTANCES, check_planes, identities, learnable, outlined, padded, planes
from douga.video.ops import chained, explained, warp


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's, for label maps of street scenes."""

    classes: int = 35  # of label maps; 0: the maps are pictures
    things: tuple[int, ...] = ()  # the classes that move by themselves: the foreground
    width: int = 128  # of the coarsest scale's first layers
    downs: int = 3  # how often the coarsest scale halves
    blocks: int = 9  # residual blocks of the coarsest scale; a finer one has 3
    fine: int = 0  # finer scales, each twice as large (the paper's 2K: 2)
    past: int = 2  # L: frames before that are looked at
    flow: bool = True  # False: the ablation without warping
    foreground: bool = True  # False: the ablation without the prior on things
    fuse: Literal["paper", "code"] = (
        "paper"  # code: things are drawn over what was warped too, as the authors' code does
    )
    style: int = 3  # features of an instance's style, so that samples differ; 0: one drawing of each map
    flow_px: float = 20.0  # the flow head's unit, at the coarsest scale
    from_nothing: float = 0.5  # share of training steps that begin without a given first frame
    # critics
    critic_width: int = 64
    critic_layers: int = 3
    critic_scales: int = 2
    strides: tuple[int, ...] = (1, 3, 9)  # of the video critics, one each; (): the ablation without
    # weights of terms
    flow_weight: float = 10.0
    feature_matching: float = 10.0
    perceptual: float = 10.0  # 0: off, then VGG16's weights are not needed
    perceptual_blocks: int = 5  # of VGG16
    reconstruction: float = 0.0  # mean absolute error; not in the paper, for short training
    # schedule
    first_frames: int = 4  # frames drawn of a clip at first ...
    double_steps: int = (
        0  # ... twice as many after each so many steps, up to the whole clip; 0: the whole from the start
    )
    window: int = 4  # frames that gradients cross, and of one step of the optimisers
    coarse_steps: int = 0  # so many first steps train the coarsest scale alone, on smaller pictures ...
    alone_steps: int = 0  # ... then so many the finest alone; then all
    warm_up: int = 0  # so many first steps without critics; not in the paper


STORED = 64  # styles kept of each class
FINE_BLOCKS = 3


class Drafts(NamedTuple):
    """What a scale draws, before tanh and the like, and the features that the next finer one starts from."""

    picture_features: Tensor
    flow_features: Tensor | None
    picture: Tensor  # (B, 3, H, W)
    motion: Tensor | None  # (B, 3, H, W): the flow and the mask


class Scale(nn.Module):
    """Maps and past frames, encoded apart and summed; then one trunk for the picture and one for flow and mask.

    A finer scale adds the coarser one's features to its own, and corrects what it drew (ours: the authors leave that unused).
    """

    def __init__(self, maps: int, past: int, width: int, downs: int, blocks: int, *, flow: bool) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(downs + 1)]
        early = blocks - blocks // 2

        def encoder(inputs: int) -> nn.Sequential:
            halving = [conv_block(widths[k], widths[k + 1], 3, 2) for k in range(downs)]
            return nn.Sequential(
                conv_block(inputs, width, 7), *halving, *(ResidualBlock(widths[-1]) for _ in range(early))
            )

        def trunk() -> nn.Sequential:
            rising = [up_block(widths[k + 1], widths[k]) for k in reversed(range(downs))]
            return nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(blocks // 2)), *rising)

        self.maps = encoder(maps)
        self.past = encoder(past) if past else None
        self.picture_trunk, self.picture_head = trunk(), nn.Conv2d(width, 3, 7, padding=3)
        self.flow_trunk = trunk() if flow else None
        if flow:
            self.flow_head = nn.Conv2d(width, 3, 7, padding=3)
            # Ours: still at first. With the usual start each pixel comes from elsewhere, and that is slow to mend.
            nn.init.normal_(self.flow_head.weight, std=1e-3)

    def forward(self, maps: Tensor, past: Tensor | None, below: Drafts | None) -> Drafts:
        x = self.maps(maps)  # (B, C, H/2^downs, W/2^downs)
        if self.past is not None:
            x = x + self.past(past)
        picture_features = self.picture_trunk(x if below is None else x + below.picture_features)
        picture = self.picture_head(picture_features).float()
        flow_features: Tensor | None = None
        motion: Tensor | None = None
        if self.flow_trunk is not None:
            seen = None if below is None else below.flow_features
            flow_features = self.flow_trunk(x if seen is None else x + seen)
            motion = self.flow_head(flow_features).float()
        if below is not None:
            picture = picture + F.interpolate(below.picture, scale_factor=2, mode="bilinear")
            if motion is not None and below.motion is not None:
                motion = motion + F.interpolate(below.motion, scale_factor=2, mode="bilinear")
        return Drafts(picture_features, flow_features, picture, motion)


class StyleEncoder(nn.Sequential):
    """A frame to some features of each pixel, in [-1, 1], which are then pooled over each instance (pix2pixHD, section 3.3)."""

    def __init__(self, features: int, width: int = 16) -> None:
        super().__init__(
            conv_block(3, width, 7),
            conv_block(width, 2 * width, 3, 2),
            ResidualBlock(2 * width),
            up_block(2 * width, width),
            nn.Conv2d(width, features, 3, padding=1),
            nn.Tanh(),
        )


class Generator(nn.Module):
    """All that draws: the scales, the same for things, and the style encoder."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        maps = (c.past + 1) * planes(c.classes) + c.style
        halves = [
            (c.width // 2**k, c.downs if k == 0 else 1, c.blocks if k == 0 else FINE_BLOCKS) for k in range(c.fine + 1)
        ]
        self.scales = nn.ModuleList(Scale(maps, 3 * c.past, *half, flow=c.flow) for half in halves)
        things = c.foreground and c.things
        self.things = nn.ModuleList(Scale(maps, 0, w // 2, *rest, flow=False) for w, *rest in halves if things)
        if c.style:
            self.style = StyleEncoder(c.style)

    def forward(self, maps: Tensor, past: Tensor, ground: Tensor, level: int, *, alone: bool, begins: bool) -> Drawn:
        """One frame at `level` (0: the coarsest scale).

        maps: (B, M, H, W). past: (B, 3 L, H, W), the frames before, the last one last. ground: (B, 1, H, W), b of the equation.
        alone: only the finest of these scales learns. begins: there is nothing before.
        """
        draft = self._draft(self.scales, maps, past, level, alone=alone)
        drawn = draft.picture.tanh()
        thing = self._draft(self.things, maps, None, level, alone=alone).picture.tanh() if self.things else None
        if thing is not None and self.config.fuse == "paper":
            drawn = torch.lerp(thing, drawn, ground)
        flow = None
        if draft.motion is not None and not begins:
            flow = draft.motion[:, :2] * self.config.flow_px * 2**level
            drawn = torch.lerp(warp(past[:, -3:].float(), flow), drawn, draft.motion[:, 2:].sigmoid())
        if thing is not None and self.config.fuse == "code":
            drawn = torch.lerp(thing, drawn, ground)
        return Drawn(drawn, flow)

    def _draft(self, scales: nn.ModuleList, maps: Tensor, past: Tensor | None, level: int, *, alone: bool) -> Drafts:
        below = None
        for k in range(level + 1):
            shrink = 2 ** (level - k)
            small = [x if x is None or shrink == 1 else F.avg_pool2d(x, shrink) for x in (maps, past)]
            below = scales[k](*small, below)
            if alone and k < level:
                below = Drafts(*(x if x is None else x.detach() for x in below))  # type: ignore[arg-type]
        assert below is not None
        return below


class Drawn(NamedTuple):
    frame: Tensor  # (B, 3, H, W)
    flow: Tensor | None  # (B, 2, H, W), px; None where there was nothing before


@dataclass(frozen=True)
class Window:
    """Frames `start` to `stop` of a clip are drawn; those before are drawn already, or given."""

    video: Float[Tensor, "b 3 t h w"]
    cond: Float[Tensor, "b k t h w"]
    flow: Float[Tensor, "b 2 t h w"]  # the reference
    start: int
    stop: int
    given: bool  # frame 0 is
    level: int
    alone: bool
    judged: bool  # by critics


@dataclass(frozen=True)
class Out:
    drawn: Float[Tensor, "b 3 stop h w"]  # from frame 0 on; what lies before the window is detached
    flows: list[Tensor | None]  # of the frames of the window


class Vid2Vid(nn.Module):
    """A Synthesizer of "paint" and a Trainable with three phases: image critic, video critics, generator."""

    Config: TypeAlias = Config
    tasks: ClassVar[frozenset[str]] = frozenset({"paint"})
    size: tuple[int, int] | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.classes and not all(0 <= thing < config.classes for thing in config.things):
            raise ValueError(f"things must be classes from 0 to {config.classes - 1}, not {list(config.things)}")
        if config.past < 1:
            raise ValueError(f"past must be 1 or more frames, not {config.past}")
        self.config = c = config
        self.stochastic = c.style > 0
        self.generator = Generator(c)
        maps, shape = planes(c.classes), (c.critic_width, c.critic_layers, c.critic_scales)
        self.image_critic = PatchCritics(maps + 3, *shape)
        self.video_critics = nn.ModuleList(PatchCritics(3 * 3 + 2 * 2, *shape) for _ in c.strides)
        # Outside of the generator: a running average of different styles is the style of nothing.
        self.styles: Tensor
        self.stored: Tensor
        self.register_buffer("styles", torch.zeros(max(c.classes, 1), STORED, c.style))
        self.register_buffer("stored", torch.zeros(max(c.classes, 1), dtype=torch.int64))

    @torch.no_grad()
    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Synthesizer`. Raises ValueError without maps, for maps of another number of planes, or given frames that are
        not the first ones."""
        if request.cond is None:
            raise ValueError("this model paints maps: the request has none")
        given = int(request.mask.sum())
        if not request.mask[:given].all():
            raise ValueError("only the first frames of a painted video can be given, without gaps")
        frames = self.stream(request.cond.unbind(2), request.known[:, :, :given], samples, generator)
        return request.keep_known(torch.stack(list(frames), dim=3))

    @torch.no_grad()
    def stream(
        self,
        maps: Iterable[Float[Tensor, "b k h w"]],
        given: Float[Tensor, "b 3 n h w"] | None,
        samples: int,
        generator: torch.Generator,
    ) -> Iterator[Float[Tensor, "s b 3 h w"]]:
        """Frame after frame, as the maps come; only the last few are kept.

        given: the first frames, 0 or more. Raises ValueError for maps of another number of planes or of changing size.
        """
        c, stride, size = self.config, 2 ** (self.config.downs + self.config.fine), None
        past: list[Tensor] = []
        seen: list[Tensor] = []
        styles: dict[tuple[int, int], Tensor] = {}
        for t, cond in enumerate(maps):
            b, _, h, w = cond.shape
            check_planes(cond, c.classes)
            if size not in (None, (h, w)):
                raise ValueError(f"map {t} is {w}x{h}, the ones before it are {size[1]}x{size[0]} (width x height)")
            if given is not None and given.shape[3:] != (h, w):
                raise ValueError(
                    f"the given frames are {given.shape[4]}x{given.shape[3]}, the maps {w}x{h} (width x height)"
                )
            size = h, w
            cond = padded(cond, stride)
            style = self._drawn_style(cond, samples, styles, generator)
            rows = outlined(cond, c.classes).repeat(samples, 1, 1, 1)
            seen = [*seen, rows][-c.past - 1 :]
            if given is not None and t < given.shape[2]:
                frame = padded(given[:, :, t], stride).repeat(samples, 1, 1, 1)
            else:
                frame = self._frame(seen, past, style, c.fine, alone=False).frame.clamp(-1, 1)
            past = [*past, frame][-c.past :]
            yield frame[..., :h, :w].unflatten(0, (samples, b))

    def _frame(self, seen: list[Tensor], past: list[Tensor], style: Tensor | None, level: int, *, alone: bool) -> Drawn:
        """seen: the outlined maps up to this frame's, past: the frames before it; the first stands for those that are missing."""
        c = self.config
        maps = [seen[0]] * (c.past + 1 - len(seen)) + seen[-c.past - 1 :]
        inputs = [*maps, style] if style is not None else maps
        frames = [past[0]] * (c.past - len(past)) + past[-c.past :] if past else []
        before = torch.cat(frames, 1) if frames else seen[-1].new_zeros(len(seen[-1]), 3 * c.past, *seen[-1].shape[2:])
        ground = 1 - seen[-1][:, list(c.things)].sum(1, keepdim=True) if c.classes else torch.ones_like(before[:, :1])
        return self.generator(torch.cat(inputs, 1), before, ground, level, alone=alone, begins=not past)

    def _drawn_style(
        self, cond: Tensor, samples: int, styles: dict[tuple[int, int], Tensor], generator: torch.Generator
    ) -> Tensor | None:
        """(S B, F, H, W): the style of each pixel's instance, which is drawn when it first appears and then kept in `styles`."""
        if not self.config.style:
            return None
        fields = []
        who = self._who(cond)
        for b in range(len(cond)):
            ids, places = torch.unique(who[b], return_inverse=True)
            for identity in ids.tolist():
                if (b, identity) not in styles:
                    styles[b, identity] = self._draw_style(identity // INSTANCES, samples, generator).to(cond)
            table = torch.stack([styles[b, identity] for identity in ids.tolist()], dim=1)  # (S, U, F)
            fields.append(table[:, places].permute(0, 3, 1, 2))
        return torch.stack(fields, dim=1).flatten(0, 1)

    def _draw_style(self, label: int, samples: int, generator: torch.Generator) -> Float[Tensor, "s f"]:
        """From a mixture of equal Gaussians around the styles last met of this class, as wide as Silverman's rule says."""
        features = self.config.style
        chance = torch.rand(samples, generator=generator), torch.randn(samples, features, generator=generator)
        count = min(int(self.stored[label]), STORED) if label >= 0 else 0
        if count == 0:  # a class that was never met
            return chance[1].div(2).clamp(-1, 1)
        known = self.styles[label, :count].cpu()
        width = known.std(0, correction=0) * (count * (features + 2) / 4) ** (-1 / (features + 4))
        return (known[(chance[0] * count).long()] + width * chance[1]).clamp(-1, 1)

    def _pooled_style(self, window: Window) -> Float[Tensor, "b f n h w"] | None:
        """Of true frames: features averaged over each instance, through the whole window; they are remembered by class."""
        if not self.config.style:
            return None
        times = slice(window.start, window.stop)
        video, cond = window.video[:, :, times], window.cond[:, :, times]
        b, _, n, h, w = video.shape
        features = self.generator.style(video.transpose(1, 2).flatten(0, 1)).float()  # (B n, F, H, W)
        features = features.unflatten(0, (b, n)).permute(0, 1, 3, 4, 2).reshape(b, n * h * w, -1)
        who = self._who(cond.transpose(1, 2).flatten(0, 1)).view(b, -1)
        fields = []
        for row in range(b):
            ids, places, counts = torch.unique(who[row], return_inverse=True, return_counts=True)
            sums = features.new_zeros(len(ids), features.shape[2]).index_add(0, places, features[row])
            means = sums / counts[:, None]
            self._remember(ids // INSTANCES, means.detach())
            fields.append(means[places].view(n, h, w, -1).permute(3, 0, 1, 2))
        return torch.stack(fields)

    def _remember(self, labels: Int[Tensor, " u"], means: Float[Tensor, "u f"]) -> None:
        if not self.training:
            return
        for label, mean in zip(labels.tolist(), means, strict=True):
            if label >= 0:
                self.styles[label, self.stored[label] % STORED] = mean
                self.stored[label] += 1

    def _who(self, cond: Float[Tensor, "b k h w"]) -> Int[Tensor, "b h w"]:
        return (
            identities(cond) if self.config.classes else cond.new_zeros(len(cond), *cond.shape[2:], dtype=torch.int64)
        )

    def windows(self, batch: Batch) -> Iterator[Window]:
        """Pieces of a clip; its length and its size grow with the steps (see `Config`)."""
        c = self.config
        whole_cond, whole_flow = learnable(batch, 2 ** (c.downs + c.fine))
        frames = batch.video.shape[2]
        if c.double_steps:
            frames = min(frames, c.first_frames * 2 ** min(batch.step // c.double_steps, 16))
        coarse = c.fine > 0 and batch.step < c.coarse_steps
        alone = c.fine > 0 and c.coarse_steps <= batch.step < c.coarse_steps + c.alone_steps
        shrink = 2**c.fine if coarse else 1
        video = shrunk(batch.video[:, :, :frames], shrink)
        flow = shrunk(whole_flow[:, :, :frames], shrink) / shrink
        cond = whole_cond[:, :, :frames]
        cond = cond[..., shrink // 2 :: shrink, shrink // 2 :: shrink] if c.classes else shrunk(cond, shrink)
        given = bool(np.random.default_rng(batch.step).random() >= c.from_nothing)
        for start in range(int(given), frames, c.window):
            stop = min(start + c.window, frames)
            yield Window(video, cond, flow, start, stop, given, 0 if coarse else c.fine, alone, batch.step >= c.warm_up)

    def forward(self, window: Window, carry: Tensor | None) -> tuple[Out, Tensor]:
        """carry: all that was drawn of the clip before, (B, 3, start, H, W)."""
        c = self.config
        before = window.video[:, :, : window.start] if carry is None else carry  # the given frame, or none
        frames = list(before.unbind(2))
        style = self._pooled_style(window)
        first, flows = max(0, window.start - c.past), []
        maps = [outlined(cond, c.classes) for cond in window.cond[:, :, first : window.stop].unbind(2)]
        for t in range(window.start, window.stop):
            seen = maps[max(0, t - c.past) - first : t + 1 - first]
            styled = None if style is None else style[:, :, t - window.start]
            drawn = self._frame(seen, frames[-c.past :], styled, window.level, alone=window.alone)
            frames.append(drawn.frame)
            flows.append(drawn.flow)
        video = torch.stack(frames, dim=2)
        return Out(video, flows), video.detach()

    def phases(self) -> list[Phase]:
        critics = [Phase("image_critic", self.image_critic)]
        critics += [Phase("video_critic", self.video_critics)] if self.config.strides else []
        return [*critics, Phase("generator", self.generator, ema=True)]

    def losses(self, phase: str, window: Window, out: Out) -> Mapping[str, Tensor]:
        """Least squares for critics and against them; feature matching; VGG; and L_W, the flow's."""
        if phase != "generator" and not window.judged:
            return {}
        if phase == "image_critic":
            return {"image_critic": critic_loss(self.image_critic, *self._pictures(window, out.drawn))}
        pairs = zip(self.video_critics, self._triples(window, out.drawn), strict=True)
        if phase == "video_critic":
            judged = [critic_loss(critic, *pair) for critic, pair in pairs if pair is not None]
            return {"video_critic": torch.stack(judged).mean()} if judged else {}
        c, terms = self.config, {}
        if window.judged:
            terms["image"], matched = against(self.image_critic, *self._pictures(window, out.drawn))
            terms["image_features"] = c.feature_matching * matched
            if videos := [against(critic, *pair) for critic, pair in pairs if pair is not None]:
                fooled, matched = (torch.stack(parts).mean() for parts in zip(*videos, strict=True))
                terms |= {"video": fooled, "video_features": c.feature_matching * matched}
        times = slice(window.start, window.stop)
        ours, real = (x[:, :, times].transpose(1, 2).flatten(0, 1) for x in (out.drawn, window.video))
        if c.perceptual:
            terms["perceptual"] = c.perceptual * self._perceptual(ours, real)
        if c.reconstruction:
            terms["reconstruction"] = c.reconstruction * F.l1_loss(ours, real)
        if c.flow and c.flow_weight:
            errors = [
                flow_loss(flow, window.flow[:, :, t], window.video[:, :, t - 1], window.video[:, :, t])
                for t, flow in zip(range(window.start, window.stop), out.flows, strict=True)
                if flow is not None
            ]
            if errors:
                terms["flow"] = c.flow_weight * torch.stack(errors).mean()
        return terms

    @cached_property
    def _perceptual(self) -> Perceptual:
        return Perceptual(self.config.perceptual_blocks)

    def _pictures(self, window: Window, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Map and frame side by side, real and drawn, (B n, K + 3, H, W) each."""
        times = slice(window.start, window.stop)
        maps = outlined(window.cond[:, :, times].transpose(1, 2).flatten(0, 1), self.config.classes)
        real, ours = (x[:, :, times].transpose(1, 2).flatten(0, 1) for x in (window.video, drawn))
        return torch.cat([maps, real], 1), torch.cat([maps, ours], 1)

    def _triples(self, window: Window, drawn: Tensor) -> Iterator[tuple[Tensor, Tensor] | None]:
        """For each stride: three frames so far apart and the two true flows between them, real and drawn; None if too short."""
        for stride in self.config.strides:
            ends = [t for t in range(window.start, window.stop) if t >= 2 * stride]
            if not ends:
                yield None
                continue
            motions = [[chained(window.flow, t, stride), chained(window.flow, t - stride, stride)] for t in ends]
            flows = torch.cat([torch.cat(pair, 1) for pair in motions])
            real, ours = (
                torch.cat([torch.cat([x[:, :, t - k * stride] for k in (2, 1, 0)], 1) for t in ends])
                for x in (window.video, drawn)
            )
            yield torch.cat([real, flows / 20], 1), torch.cat([ours, flows / 20], 1)


def shrunk(video: Float[Tensor, "b c t h w"], by: int) -> Float[Tensor, "b c t h2 w2"]:
    return video if by == 1 else F.avg_pool3d(video, (1, by, by))


def flow_loss(
    flow: Float[Tensor, "b 2 h w"],
    reference: Float[Tensor, "b 2 h w"],
    before: Float[Tensor, "b 3 h w"],
    frame: Float[Tensor, "b 3 h w"],
) -> Float[Tensor, ""]:
    """L_W: |w - reference|, px, where the reference explains the frame, plus |warp(before, w) - frame|; means."""
    apart = ((flow - reference).abs() * explained(before, frame, reference)).mean()
    return apart + (warp(before, flow) - frame).abs().mean()
