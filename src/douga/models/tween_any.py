"""Several plausible in-betweens of any two pictures, at their own size: motion is drawn, not pixels.

Ours. The stochastic latent generator of Li, Roblek, Tagliasacchi (arXiv 1905.10240, 2019) draws how pixels move, and a frame is
composed as in Wang et al. (vid2vid, 2018), from both key frames moved to time t and from what must be invented:

    frame = (1 - m) . [ a . warp(x_s, f_s) + (1 - a) . warp(x_e, f_e) ] + m . h

f_s and f_e are backward flows to the key frames. They begin as DIS flow in straight lines (`douga.video.flow.projected`), and the
network draws how far that is trusted and what is to be added; a, m and h are its too. It draws all that once, at a small size and
at 16 times; a frame at any time is read between these, enlarged, and takes its detail from the key frames themselves.

Contract: key frames at any places, any number of frames, any times, any size from 8x8 px on; 3 planes, or more that move along
(alpha, premultiplied). Before the first and after the last key frame it holds. Several samples differ by their noise.
Conventions: flow (N, 2, H, W) in px, x first; t in (0, 1) is the way from x_s to x_e.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from douga.core.clip import Batch, Request, standard_normal
from douga.core.contracts import Phase
from douga.models import inbetween_gan as li
from douga.nn.losses import Perceptual
from douga.video.flow import estimate, projected
from douga.video.ops import chained_to, explained, resize, resize_flow, warp

SAMPLES_AT_ONCE = 8  # bounds the memory, as do
# Of the layers at full size: larger frames are composed in bands of rows. Of finished frames, four times as many.
PIXELS_AT_ONCE = 2**21
REACH = 8.0  # px at working size: what one unit of the network's output moves
SEEN = 19  # both key frames, both moved to time t (3 each), the flows in REACH (2 each), their weights (1 each), t
LATENT = 0.3  # so much Li's latent video counts at the bottom of the U-Net: at 1 it drowns what the U-Net has to learn
CHOICE = 8.0  # what one unit of it adds to the logit of a
# It learns to mix, and draws a choice: of two key frames that do not quite meet a mixture shows both. So when it draws, the
# logit of a has SHARP times its mean over a neighbourhood added (cells of which PLACES fit into the longer side): a thing is
# taken from one key frame as a whole. LEAD times a noise is added too: in some drawings the one leads, in others the other.
SHARP, PLACES, LEAD = 6.0, 12, 0.5
MOTION = 5  # maps: what is added to f_s (2) and f_e (2), the logit of the trust in DIS
MODES = 4  # of the noise that move things out of their way at once: deep in the network noise is soon got rid of
LEAST = 0.5  # px at working size: when it draws, what it changes of DIS by less is left out; enlarged it would be seen
FUSION = 5  # maps: what is added to the logit of a, the logit of m, h (3)


@dataclass(frozen=True)
class Config:
    size: tuple[int, int] = (64, 64)  # (height, width) of the clips that it learns from, multiples of 16
    working: int = 96  # px, the longer side at which motion is drawn; smaller pictures at their own size
    fine: int = 320  # px, the longer side at which flow is estimated and blended; then it is enlarged
    noise: int = 32
    channels: int = 64  # of the latent video
    blocks: int = 6  # of fusion, a third of them at each of 4, 8 and 16 time steps
    width: int = 24  # of the U-Net's layers at half the size, then twice, three and four times that
    critic_width: int = 24
    best_of: int = 4  # noises tried for each clip; it is the one that moves nearest to the truth that learns from it
    reconstruction: float = 20.0
    motion: float = 10.0  # in that error a pixel weighs 1 + motion * |truth - its mean over time|
    perceptual: float = 10.0  # of one frame of each clip
    flow: float = 1.0  # weight of the mean distance to the reference flow, px, where that explains the truth; 0: motion
    # stays as it is. A pixel counts in it by how far it moves, as most of them stand still, and every clip alike
    invented: float = 0.2  # weight of the mean of m: what can be moved is not to be invented
    adversarial: float = 0.2
    feature_matching: float = 5.0
    motion_steps: int = 0  # first steps that learn the motion alone: what may fade or switch never learns to move
    warm_up: int = 600  # first steps without critics
    all_frames: float = 0.5  # share of the steps with the first and the last frame as key frames; else any two


class Base(NamedTuple):
    """What is known before anything is drawn, for one time t each: `projected`'s answer, at the fine size."""

    flow_s: Tensor  # (N, 2, H, W)
    flow_e: Tensor
    weight_s: Tensor  # (N, 1, H, W)
    weight_e: Tensor


class Composed(NamedTuple):
    frame: Tensor  # (N, C, H, W)
    flow_s: Tensor  # (N, 2, H, W), px, at the pictures' size
    flow_e: Tensor
    invented: Tensor  # (N, 1, H, W), m


def _layers(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
    )


class Generator(nn.Module):
    """From what is seen of 16 times to maps of motion at these times, and from those to frames.

    The U-Net of Super SloMo's kind looks at each time alone; Li's latent video, which runs through all times and knows the noise,
    is added at its bottom.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, c = config.width, config.channels
        widths = (w, 2 * w, 3 * w, 4 * w)
        self.down = nn.ModuleList(_layers(a, b, 2) for a, b in pairwise((SEEN, *widths)))
        self.code = nn.Conv2d(4 * w, c, 1)
        self.latent = li.LatentGenerator(li.Config(noise=config.noise, channels=c, blocks=config.blocks))
        self.drawn = nn.Conv3d(c, 4 * w, 3, padding=1)
        self.up = nn.ModuleList(_layers(a + b, b) for a, b in pairwise(widths[::-1]))
        self.maps = nn.Conv2d(w, MOTION, 3, padding=1)
        self.modes = nn.Conv2d(w, 2 * MODES, 3, padding=1)
        nn.init.normal_(self.modes.weight, std=1e-2)
        self.fuse = nn.Sequential(_layers(10, w, 2), _layers(w, w), nn.Conv2d(w, FUSION, 3, padding=1))
        for last in (self.maps, self.fuse[2]):  # it begins as DIS flow does
            nn.init.normal_(last.weight, std=1e-3)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, seen: Float[Tensor, "b k t h w"], noise: Float[Tensor, "n d"]) -> Float[Tensor, "n m t h2 w2"]:
        """Maps at half the size (sides are multiples of 16) and TIME times, from 0 to 1; row s * b + i is of pair i.

        seen: SEEN planes at these times, see `_Pair.seen`.
        """
        motion = self.motion(seen, noise)
        return torch.cat([motion, self.fusion(seen, motion, noise)], 1)

    def motion(self, seen: Float[Tensor, "b k t h w"], noise: Float[Tensor, "n d"]) -> Float[Tensor, "n 5 t h2 w2"]:
        b, samples = len(seen), len(noise) // len(seen)
        x = seen.transpose(1, 2).flatten(0, 1)  # (B * T, SEEN, H, W)
        levels = [x := down(x) for down in self.down]
        start, end = (self.code(levels[-1].unflatten(0, (b, -1))[:, k]).repeat(samples, 1, 1, 1) for k in (0, -1))
        z = self.drawn(self.latent(start, end, noise))  # (N, 4W, T, H/16, W/16)
        *levels, x = (level.unflatten(0, (b, -1)).repeat(samples, 1, 1, 1, 1).flatten(0, 1) for level in levels)
        x = x + LATENT * z.transpose(1, 2).flatten(0, 1)
        for up, level in zip(self.up, levels[::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0), level], 1))
        maps, modes = self.maps(x).float(), self.modes(x).float().unflatten(1, (MODES, 2))
        t = torch.linspace(0, 1, li.TIME, device=x.device).repeat(len(noise))[:, None, None, None]
        aside = (modes * noise[:, :MODES].repeat_interleave(li.TIME, 0)[:, :, None, None, None]).sum(1)
        # The further a thing moves, the less is known of where it is on its way; what stands still stays.
        base = F.avg_pool2d(seen[:, 12:16].transpose(1, 2).flatten(0, 1), 2).repeat(samples, 1, 1, 1)
        way = _trust(maps) * (base[:, 2:] - base[:, :2]) + (1 - t) * maps[:, 2:4] - t * maps[:, :2]
        aside = aside * way.norm(dim=1, keepdim=True).detach()
        # Where a thing is elsewhere at time t, both flows lead there from elsewhere: by t (1 - t) aside, see `moves`.
        maps = torch.cat([maps[:, :2] + (1 - t) * aside, maps[:, 2:4] + t * aside, maps[:, 4:]], 1)
        return maps.unflatten(0, (len(noise), li.TIME)).transpose(1, 2)

    def fusion(
        self, seen: Float[Tensor, "b k t h w"], motion: Float[Tensor, "n 5 t h2 w2"], noise: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n 5 t h2 w2"]:
        """From the key frames as this motion moves them, which is not taught by it: see `_laid`."""
        size = seen.shape[-2:]
        planes = seen.repeat(len(motion) // len(seen), 1, 1, 1, 1).transpose(1, 2).flatten(0, 1)  # (N * T, SEEN, H, W)
        keys, _, flows, weights, time = planes.split([6, 6, 4, 2, 1], 1)
        base = Base(*(REACH * flows).chunk(2, 1), *weights.chunk(2, 1))
        drawn = F.interpolate(motion.detach().transpose(1, 2).flatten(0, 1), size, mode="bilinear")
        flows, trust = self.moves(base, drawn, time[:, 0, 0, 0], (size[0], size[1]))
        moved = [warp(key, flow) for key, flow in zip(keys.chunk(2, 1), flows, strict=True)]
        maps = self.fuse(torch.cat([*moved, weights, trust, time], 1)).float().unflatten(0, (len(motion), li.TIME))
        if not self.training:
            lead = LEAD / CHOICE * noise[:, MODES, None, None, None, None]
            maps = torch.cat([maps[:, :, :1] + lead, maps[:, :, 1:]], 2)
        return maps.transpose(1, 2)

    def compose(
        self,
        first: Float[Tensor, "n c h w"],
        last: Float[Tensor, "n c h w"],
        base: Base,
        maps: Float[Tensor, "n m h2 w2"],
        t: Float[Tensor, " n"],
        working: tuple[int, int],
    ) -> Composed:
        """The frames at times t. maps are those of these times, in units of the working size (height, width)."""
        fine = base.flow_s.shape[-2:]
        drawn = F.interpolate(maps, fine, mode="bilinear")
        flows, trust = self.moves(base, drawn, t, working)
        t = t[:, None, None, None]
        # Where DIS trusts neither, or is not trusted, the nearer key frame counts more.
        weight_s, weight_e = base.weight_s + 0.03 * (1 - t), base.weight_e + 0.03 * t
        nearer = ((1 - t) / t).log()
        odds = torch.lerp(nearer, weight_s.log() - weight_e.log(), trust.detach()) + CHOICE * drawn[:, 5:6]
        if not self.training:
            around = F.interpolate(odds, _sides((fine[0], fine[1]), PLACES), mode="bilinear", antialias=True)
            odds = odds + SHARP * F.interpolate(around, fine, mode="bilinear")
        share = odds.sigmoid()
        # Nothing is invented at the key frames, so that a video leaves them and comes to them without a jump.
        invented = (drawn[:, 6:7] - 3).sigmoid() * (8 * t * (1 - t)).clamp(max=1)
        picture = drawn[:, 7:].tanh()
        height, width = first.shape[-2:]
        scale = maps.new_tensor([width / fine[1], height / fine[0]])[:, None, None]
        parts = F.interpolate(torch.cat([*flows, share, invented, picture], 1), (height, width), mode="bilinear")
        *flows, share, invented, picture = parts.split([2, 2, 1, 1, 3], 1)
        laid = [scale * flows[0], scale * flows[1], share, invented, picture]
        rows = max(1, PIXELS_AT_ONCE // (len(first) * width))
        # Band by band: the moved key frames would take most of the memory.
        frame = torch.cat(
            [
                self._laid(first, last, [part[:, :, top : top + rows] for part in laid], top)
                for top in range(0, height, rows)
            ],
            2,
        )
        return Composed(frame, laid[0], laid[1], invented)

    def moves(
        self, base: Base, drawn: Float[Tensor, "n m h w"], t: Float[Tensor, " n"], working: tuple[int, int]
    ) -> tuple[list[Tensor], Tensor]:
        """The backward flows to both key frames, and how far DIS is trusted in them; drawn: maps at the fine size."""
        t = t[:, None, None, None]
        pixel = drawn.new_tensor([drawn.shape[3] / working[1], drawn.shape[2] / working[0]])[:, None, None]
        trust, flows = _trust(drawn), []
        for known, added in ((base.flow_s, t * drawn[:, :2]), (base.flow_e, (1 - t) * drawn[:, 2:4])):
            change = (trust - 1) * known + REACH * pixel * added
            if not self.training:  # what is small would have no gradient
                length = (change / pixel).square().sum(1, keepdim=True).sqrt()  # norm() is ten times slower here
                change = change * (1 - LEAST / length.clamp(min=LEAST))
            flows.append(known + change)
        return flows, trust

    @staticmethod
    def _laid(first: Tensor, last: Tensor, parts: list[Tensor], top: int) -> Float[Tensor, "n c h2 w"]:
        """The equation, for the rows from `top` on that the parts are of."""
        *flows, share, invented, picture = parts
        # Motion is learned from motion alone: to a loss of pixels fading is nearer than an arm that is almost where it should be.
        moved = [warp(key, flow.detach(), top, "bicubic") for key, flow in zip((first, last), flows, strict=True)]
        fused = moved[1] + share * (moved[0] - moved[1])
        return torch.cat([torch.lerp(fused[:, :3], picture, invented), fused[:, 3:]], 1).clamp(-1, 1)


def _trust(maps: Float[Tensor, "n m h w"]) -> Float[Tensor, "n 1 h w"]:
    """How far DIS is trusted, 0 to 1. It is noise where things move far: there the network draws all of the motion.

    Where DIS is right its detail is finer than the maps, so that trust has to reach 1: at 0.95 of a flow of 20 px edges are
    seen twice.
    """
    return (1.4 * (maps[:, 4:5] + 2).sigmoid() - 0.2).clamp(0, 1)


def _sides(size: tuple[int, int], longest: int, multiple: int = 1) -> tuple[int, int]:
    """The size (height, width) within a longer side, of the same aspect, in multiples."""
    scale = min(1.0, longest / max(size))
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return height, width


@dataclass(frozen=True)
class Window:
    video: Tensor  # (B, 3, T, H, W), the truth
    keys: tuple[int, int]  # which of its frames are given; those between are drawn
    working: tuple[int, int]
    seen: Tensor  # (B, SEEN, TIME, H, W), see `_Pair`
    base: Base  # (B * K, ...), clip-major, of the K frames between
    known: tuple[Tensor, Tensor]  # the true flow from each of these to the key frames, (B * K, 2, H, W)
    noise: Tensor  # (S * B, D), sample-major; one of each clip is drawn, see `TweenAny._nearest`
    looked_at: Tensor  # (2,) which of the K frames the image critic sees; VGG sees the first of them
    judged: bool  # False during the warm-up: no critics yet
    motion_alone: bool  # nothing is composed yet


class TweenAny(nn.Module):
    """A Synthesizer of "tween" and a Trainable with two phases."""

    Config: TypeAlias = Config
    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = True
    size: tuple[int, int] | None = None
    any_planes: ClassVar[bool] = True
    learns_motion: ClassVar[bool] = True  # `Batch.flow` is wanted, both ways

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        judges = li.Config(size=config.size, critic_width=config.critic_width)
        self.critics = nn.ModuleDict({"video": li.VideoCritic(judges), "image": li.ImageCritic(judges)})

    @torch.no_grad()
    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Synthesizer`. Raises ValueError for less than 3 planes, or no key frame."""
        known = request.known
        b, c = known.shape[:2]
        if c < 3 or not request.mask.any():
            raise ValueError(f"this model draws between key frames of 3 planes or more, not {c}")
        left, right, ways = request.ways()
        drawn = known.new_empty(samples, *known.shape)
        for frame, (i, j, way) in enumerate(zip(left.tolist(), right.tolist(), ways.tolist(), strict=True)):
            if way in (0, 1):  # a key frame, or held
                drawn[:, :, :, frame] = known[:, :, j if way else i]
        pairs = sorted({(i, j) for i, j in zip(left.tolist(), right.tolist(), strict=True) if i != j})
        for i, j in pairs:
            frames = ((left == i) & (right == j) & (ways > 0) & (ways < 1)).nonzero()[:, 0].tolist()
            noise = torch.randn(samples, b, self.config.noise, generator=generator, device=generator.device)
            noise = request.diversity * noise.to(known.device)
            if not frames:
                continue
            first, last = known[:, :, i], known[:, :, j]
            pair = self._measured(first[:, :3], last[:, :3])
            # The maps of all samples are small; frames are not, and are composed one after another.
            at_once = min(SAMPLES_AT_ONCE, max(1, 4 * PIXELS_AT_ONCE // first[0, 0].numel()))
            parts, seen = noise.split(at_once), pair.seen()
            maps = [self.generator(seen, part.flatten(0, 1)) for part in parts]
            for frame in frames:
                t = ways[frame]
                base = pair.base(t.item())
                for k, (part, drawing) in enumerate(zip(parts, maps, strict=True)):
                    n = len(part)
                    out = self.generator.compose(
                        first.repeat(n, 1, 1, 1),
                        last.repeat(n, 1, 1, 1),
                        Base(*(value.repeat(n, 1, 1, 1) for value in base)),
                        li.read_at(drawing, t[None])[:, :, 0],
                        t.expand(n * b),
                        pair.working,
                    )
                    drawn[k * at_once :][:n, :, :, frame] = out.frame.unflatten(0, (n, b))
        return drawn

    def _measured(self, first: Float[Tensor, "b 3 h w"], last: Float[Tensor, "b 3 h w"]) -> _Pair:
        size = first.shape[2], first.shape[3]
        fine, working = _sides(size, self.config.fine), _sides(size, self.config.working, 16)
        small = resize(first, fine), resize(last, fine)
        flows = [estimate(a.cpu(), b.cpu()).to(first.device) for a, b in (small, small[::-1])]
        return _Pair(small, (flows[0], flows[1]), working)

    def windows(self, batch: Batch) -> Iterable[Window]:
        """One; which frames are key frames is the same for all clips of a step.

        Raises ValueError for clips of another length than 16 frames, or without flow.
        """
        config, video = self.config, batch.video
        frames = video.shape[2]
        if frames != li.TIME or batch.flow is None:
            raise ValueError(f"this model learns from clips of {li.TIME} frames with their motion, not of {frames}")
        chance = np.random.default_rng(batch.step)
        first, last = 0, frames - 1
        if chance.random() >= config.all_frames:
            length = int(chance.integers(2, frames - 1))
            first = int(chance.integers(frames - length))
            last = first + length
        inner = range(first + 1, last)
        with torch.no_grad():
            keys = video[:, :, first], video[:, :, last]
            pair = self._measured(*keys)
            seen = pair.seen()
            bases = zip(*(pair.base((k - first) / (last - first)) for k in inner), strict=True)
            base = Base(*(torch.stack(parts, 1).flatten(0, 1) for parts in bases))
            to_s, to_e = chained_to(batch.flow[:, :2], first, last), chained_to(batch.flow[:, 2:], last, first)
            known = tuple(torch.stack([to[k] for k in inner], 1).flatten(0, 1) for to in (to_s, to_e))
        noise = torch.cat([standard_normal(batch.seeds, config.noise, stream=k) for k in range(config.best_of)])
        looked_at = torch.from_numpy(chance.choice(len(inner), 2)).to(video.device)
        yield Window(
            video,
            (first, last),
            pair.working,
            seen,
            base,
            (known[0], known[1]),
            noise.to(video.device),
            looked_at,
            batch.step >= config.warm_up,
            batch.step < config.motion_steps,
        )

    def forward(self, window: Window, carry: None) -> tuple[Composed, None]:
        """The K frames between the key frames, (B * K, ...), clip-major, of the noise that moves nearest to the truth."""
        (first, last), b = window.keys, len(window.video)
        noise = window.noise if len(window.noise) == b else self._nearest(window)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.flow > 0):
            maps = self.generator.motion(window.seen, noise)
        if not window.motion_alone:
            maps = torch.cat([maps, self.generator.fusion(window.seen, maps, noise)], 1)
        drawn, times = self._read(window, maps)
        if window.motion_alone:
            flow_s, flow_e = self._moves(window, drawn, times)
            return Composed(drawn[:, :0], flow_s, flow_e, drawn[:, :0]), None
        key_s, key_e = (window.video[:, :, key].repeat_interleave(last - first - 1, 0) for key in (first, last))
        return self.generator.compose(key_s, key_e, window.base, drawn, times, window.working), None

    @torch.no_grad()
    def _nearest(self, window: Window) -> Float[Tensor, "b d"]:
        """So that other noises remain free to move otherwise (Li, Malik, Implicit Maximum Likelihood Estimation, 2018)."""
        noises = window.noise.unflatten(0, (-1, len(window.video)))  # (S, B, D)
        maps = self.generator.motion(window.seen, window.noise).unflatten(0, noises.shape[:2])
        away = [self._distance(window, *self._moves(window, *self._read(window, drawn))) for drawn in maps]
        return noises[torch.stack(away).argmin(0), torch.arange(noises.shape[1], device=noises.device)]

    def _read(
        self, window: Window, maps: Float[Tensor, "b m t h w"]
    ) -> tuple[Float[Tensor, "n m h w"], Float[Tensor, " n"]]:
        """Maps of the frames between the key frames, (B * K, ...), and their times."""
        first, last = window.keys
        t = torch.arange(1, last - first, device=maps.device) / (last - first)
        return li.read_at(maps, t).transpose(1, 2).flatten(0, 1), t.repeat(len(maps))

    def _moves(self, window: Window, drawn: Float[Tensor, "n m h w"], times: Float[Tensor, " n"]) -> list[Tensor]:
        fine = F.interpolate(drawn, window.base.flow_s.shape[-2:], mode="bilinear")
        return self.generator.moves(window.base, fine, times, window.working)[0]

    def phases(self) -> list[Phase]:
        return [Phase("critics", self.critics), Phase("generator", self.generator, ema=True)]

    def losses(self, phase: str, window: Window, out: Composed) -> dict[str, Tensor]:
        config, (first, last), video = self.config, window.keys, window.video
        if phase == "critics" and (window.motion_alone or not window.judged):
            return {}
        terms = {}
        if phase != "critics" and config.flow:
            terms["flow"] = config.flow * self._distance(window, out.flow_s, out.flow_e).mean()
        if window.motion_alone:
            return terms
        truth = video[:, :, first + 1 : last]
        drawn = out.frame.unflatten(0, (len(video), -1)).transpose(1, 2)  # (B, 3, K, H, W)
        shown = torch.cat([video[:, :, : first + 1], drawn, video[:, :, last:]], 2)
        if phase == "critics":
            judged_fake, _ = self._judge(shown.detach(), window)
            judged_true, _ = self._judge(video, window)
            return {
                f"critic/{name}": F.softplus(-judged_true[name]).mean() + F.softplus(judged_fake[name]).mean()
                for name in judged_fake
            }
        weight = 1 + config.motion * (truth - video.mean(2, keepdim=True)).abs().mean(1, keepdim=True)
        terms["reconstruction"] = config.reconstruction * ((drawn - truth).abs() * weight).mean()
        terms["invented"] = config.invented * out.invented.mean()
        if config.perceptual:
            one = window.looked_at[0]
            terms["perceptual"] = config.perceptual * self._perceptual(drawn[:, :, one], truth[:, :, one])
        if window.judged:
            judged, features = self._judge(shown, window)
            for name, logit in judged.items():
                terms[f"adversarial/{name}"] = config.adversarial * F.softplus(-logit).mean()
            with torch.no_grad():
                _, wanted = self._judge(video, window)
            pairs = (pair for name in features for pair in zip(features[name], wanted[name], strict=True))
            terms["feature_matching"] = (
                config.feature_matching * torch.stack([F.l1_loss(*pair) for pair in pairs]).float().mean()
            )
        return terms

    @staticmethod
    def _distance(window: Window, flow_s: Tensor, flow_e: Tensor) -> Float[Tensor, " b"]:
        """Of each clip the mean distance to the reference flow, px, where that explains the truth."""
        (first, last), video = window.keys, window.video
        b, each = len(video), last - first - 1
        frames = video[:, :, first + 1 : last].transpose(1, 2).flatten(0, 1)
        distances = []
        for k, flow, known in zip(window.keys, (flow_s, flow_e), window.known, strict=True):
            key = video[:, :, k].repeat_interleave(each, 0)
            counts = explained(key, frames, known) * (0.05 + known.norm(dim=1, keepdim=True).clamp(max=8))
            apart = counts * (flow - known).abs().sum(1, keepdim=True)
            apart, counts = (x.flatten(1).mean(1).unflatten(0, (b, each)).sum(1) for x in (apart, counts))
            distances.append(apart / (counts + 0.05 * each))
        return torch.stack(distances).mean(0)

    def _judge(self, video: Tensor, window: Window) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        frames = video[:, :, window.keys[0] + 1 + window.looked_at].transpose(1, 2).flatten(0, 1)
        video_logit, video_seen = self.critics["video"](video.contiguous(memory_format=torch.channels_last_3d))
        image_logit, image_seen = self.critics["image"](frames.contiguous(memory_format=torch.channels_last))
        return {"video": video_logit, "image": image_logit}, {"video": video_seen, "image": image_seen}

    @cached_property
    def _perceptual(self) -> Perceptual:
        return Perceptual(blocks=3)


@dataclass(frozen=True)
class _Pair:
    """Two key frames, measured: all that does not depend on noise or time."""

    small: tuple[Tensor, Tensor]  # (B, 3, H, W) at the fine size
    flows: tuple[Tensor, Tensor]  # there and back, at the fine size
    working: tuple[int, int]

    def seen(self) -> Float[Tensor, "b k t h w"]:
        """What the network sees, at the working size and TIME times from 0 to 1."""
        size = self.working
        keys, flows = [resize(key, size) for key in self.small], [resize_flow(flow, size) for flow in self.flows]
        small = _Pair((keys[0], keys[1]), (flows[0], flows[1]), size)
        planes = []
        for t in torch.linspace(0, 1, li.TIME).tolist():
            base = small.base(t)
            moved = [warp(key, flow) for key, flow in zip(small.small, base[:2], strict=True)]
            time = torch.full_like(base.weight_s, t)
            planes.append(
                torch.cat([*small.small, *moved, base.flow_s / REACH, base.flow_e / REACH, *base[2:], time], 1)
            )
        return torch.stack(planes, 2)

    def base(self, t: float) -> Base:
        return Base(*projected(*self.small, *self.flows, t))
