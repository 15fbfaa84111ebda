"""Stochastic Dynamics for Video Infilling: recurrent, one frame after the other, from a constraint and from chance.

Xu, Zhang, Wang, Belhumeur, Neumann, "Stochastic Dynamics for Video Infilling", WACV 2020, arXiv 1809.00263. Sizes, motion
weight and schedules are those of the authors' published code; where it and the paper's figures differ, the code is followed.

    c_t = B(h_1, h_T)                          what both key frames say about step t: a ConvLSTM from either end
    z_t ~ p(z | h_1 .. h_{t-1}, c_t)           the prior, by which it draws
    z_t ~ q(z | h_1 .. h_t)                    the posterior, which sees the true frame: in training alone
    x_t = D(g_t, E((x_1 + x_T) / 2)),  g_t = G(h_{t-1}, z_t, g_{t-1}),  h_t = E(x_t)

Contract: one first and one last key frame, any number of frames, any size (padded to a multiple of the encoder's stride). In
training h_{t-1} is the true frame's; when it draws, that of the frame drawn before. The time left is nowhere an input: the
ConvLSTM that starts at the last frame has counted it.

Conventions: time first inside, (T, B, C, H, W); h and all states are at 1 / `Config.stride` of the size. Noise is one value for
each step and channel of z; its mean and variance differ from place to place (the authors' "space-aware" variant).
Not theirs: group norm for batch norm (drawn frames have other statistics than true ones), gates without peepholes (those fix
the size), 3x3 kernels where theirs are 4x4 at stride 1, pixels not stretched to each clip's own range. Left out: their 4
reference frames, two of which lie outside the clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from douga.core.clip import Batch, Request, standard_normal
from douga.core.contracts import Phase
from douga.nn.blocks import BatchNorm
from douga.nn.losses import gaussian_kl

TRAINED = 16  # frames of the clips that the authors train on


@dataclass(frozen=True)
class Config:
    """Defaults are the authors' settings for KTH at 64x64."""

    widths: tuple[int, ...] = (
        64,
        128,
        256,
        256,
    )  # of the encoder's layers, each halves the picture; the decoder mirrors them
    channels: int = 128  # of h, c and the states; G has `noise` more
    noise: int = 32  # channels of z
    posterior_kl: float = 7e-5  # weight of KL(q || p)
    prior_kl: float = 3e-5  # weight of KL(p || q)
    motion: float = 5.0  # what moves weighs 1 + motion in the pixel loss (see `motion_weight`)
    anneal_steps: int = 120_000  # of training: what `posterior_share` runs over

    # Not theirs, off by default: it helps where training is short (`recipes/sdvi.py`).
    picture: bool = False  # the decoder also adds a convolution of the key frames' mean, at full size

    @property
    def stride(self) -> int:
        return 2 ** len(self.widths)


State: TypeAlias = tuple[Tensor, Tensor]  # of an LSTM: cell and hidden, (B, C, H, W) each


class ConvLSTM(nn.Module):
    """Shi et al. 2015, 3x3, with layer norm in each gate. `see` is done for all steps at once, `step` for one after the other."""

    def __init__(self, inward: int, channels: int) -> None:
        super().__init__()
        self.see = nn.Conv2d(inward, 4 * channels, 3, padding=1, bias=False)
        self.recall = nn.Conv2d(channels, 4 * channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(4, 4 * channels)
        nn.init.ones_(self.norm.bias[channels : 2 * channels])  # the cell keeps what it has, at first

    def step(self, seen: Float[Tensor, "b c4 h w"], state: State) -> State:
        cell, hidden = state
        gates = self.norm(seen + self.recall(hidden))
        new = gates[:, : hidden.shape[1]].tanh()
        keep, take, show = gates[:, hidden.shape[1] :].sigmoid().chunk(3, dim=1)
        cell = keep * cell + take * new
        return cell, show * cell.tanh()

    def start(self, like: Float[Tensor, "b c h w"]) -> State:
        zero = like.new_zeros(len(like), self.recall.in_channels, *like.shape[2:])
        return zero, zero

    def forward(self, x: Float[Tensor, "t b c h w"], cell: Float[Tensor, "b f h w"] | None = None) -> list[State]:
        """The state after each step, from an empty one or from `cell`."""
        cell_0, hidden = self.start(x[0])
        state = (cell_0 if cell is None else cell), hidden
        states = []
        for seen in self.see(x.flatten(0, 1)).unflatten(0, x.shape[:2]):
            state = self.step(seen, state)
            states.append(state)
        return states


@dataclass(frozen=True)
class Gaussians:
    """One for each step, clip, channel and place: (T, B, Z, H, W) float32."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def read(cls, head: nn.Conv2d, hidden: Float[Tensor, "t b c h w"]) -> Gaussians:
        mean, log_variance = head(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2]).float().chunk(2, dim=2)
        # Both divergences divide by a variance: neither may vanish.
        return cls(mean, log_variance.clamp(-8, 4))

    def draw(self, noise: Float[Tensor, "t b z"]) -> Float[Tensor, "t b z h w"]:
        return self.mean + (self.log_variance / 2).exp() * noise[..., None, None]

    def kl(self, other: Gaussians) -> Float[Tensor, ""]:
        """KL(self || other) in nats: summed over channels and places, mean over steps and clips."""
        nats = gaussian_kl(self.mean, self.log_variance, other.mean, other.log_variance)
        return nats.sum((2, 3, 4)).mean()


class Encoder(nn.Module):
    """4x4 convolutions of stride 2, then one of 3x3. Also gives what was seen on the way, fine to coarse."""

    def __init__(self, inward: int, widths: Sequence[int], outward: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 4, 2, padding=1), BatchNorm(b) if a != inward else nn.Identity(), nn.LeakyReLU(0.2)
            )
            for a, b in pairwise((inward, *widths))
        )
        self.last = nn.Sequential(nn.Conv2d(widths[-1], outward, 3, padding=1), BatchNorm(outward))

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return self.last(x), features


class Joined(nn.Module):
    """A convolution of [x, content], side by side, whose share of `content` is reckoned once for all frames of a clip."""

    def __init__(self, inward: int, content: int, outward: int, *, up: bool) -> None:
        super().__init__()
        kind, kernel, stride = (nn.ConvTranspose2d, 4, 2) if up else (nn.Conv2d, 3, 1)
        self.x = kind(inward, outward, kernel, stride, padding=1)
        self.content = kind(content, outward, kernel, stride, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"], content: Float[Tensor, "b c2 h w"]) -> Float[Tensor, "n c3 h2 w2"]:
        """Row n of `x` belongs to row n % B of `content`."""
        return (self.x(x).unflatten(0, (-1, len(content))) + self.content(content)).flatten(0, 1)


class Decoder(nn.Module):
    """Mirrors the encoder; at each scale it sees what E saw of the key frames' mean."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c, widths = config.channels, config.widths[::-1]
        self.merge = Joined(c + config.noise, c, c, up=False)
        self.first = nn.Sequential(BatchNorm(c), nn.LeakyReLU(0.2), nn.Conv2d(c, widths[0], 3, padding=1))
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths)
        self.ups = nn.ModuleList(Joined(a, a, b, up=True) for a, b in pairwise((*widths, 3)))
        if config.picture:
            self.picture = nn.Conv2d(3, 3, 3, padding=1, bias=False)
            nn.init.dirac_(self.picture.weight)

    def forward(self, hidden: Float[Tensor, "n c h w"], content: Sequence[Tensor]) -> Float[Tensor, "n 3 h2 w2"]:
        """`content`: what `Network.encode` gives of B pictures. Row n shows clip n % B."""
        h, *features, picture = content
        x = self.first(self.merge(hidden, h))
        for norm, up, seen in zip(self.norms, self.ups, features, strict=True):
            x = up(F.leaky_relu(norm(x), 0.2), seen)
        if hasattr(self, "picture"):
            x = (x.unflatten(0, (-1, len(picture))) + self.picture(picture)).flatten(0, 1)
        return x.float().tanh()


class Network(nn.Module):
    """All that is learned. `forward` trains, with the true frames at hand; `draw` has the key frames alone."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c, z = config.channels, config.noise
        self.encoder = Encoder(3, config.widths, c)
        self.ends = Encoder(6, config.widths, 2 * c)  # both key frames at once, for the first cells of B
        self.from_first, self.from_last = ConvLSTM(c, c), ConvLSTM(c, c)
        self.constrain = nn.Conv2d(2 * c, c, 3, padding=1)
        self.prior, self.posterior = ConvLSTM(c, c), ConvLSTM(c, c)
        self.prior_head, self.posterior_head = nn.Conv2d(c, 2 * z, 1), nn.Conv2d(c, 2 * z, 1)
        for head in (self.prior_head, self.posterior_head):
            nn.init.constant_(head.bias[z:], -4)  # type: ignore[index]
        self.generator = ConvLSTM(c + z, c + z)
        self.decoder = Decoder(config)

    def encode(self, frames: Float[Tensor, "n 3 h2 w2"]) -> list[Tensor]:
        """h, of length 1 at each place, then the features, coarse to fine, then the frames themselves."""
        h, features = self.encoder(frames)
        return [F.normalize(h.tanh(), dim=1), *features[::-1], frames]

    def constraints(
        self,
        keys: Float[Tensor, "2 b 3 h2 w2"],
        first: Float[Tensor, "b c h w"],
        last: Float[Tensor, "b c h w"],
        steps: int,
    ) -> Float[Tensor, "{steps} b c h w"]:
        """c_t of the steps between: B runs from h_1 onwards and from h_T backwards, with nothing to see on the way."""
        nothing = first.new_zeros(steps, *first.shape)
        cells = self.ends(torch.cat([*keys], dim=1))[0].chunk(2, dim=1)
        onwards, backwards = (
            [hidden for _, hidden in lstm(torch.cat([h[None], nothing]), cell)[1:]]
            for lstm, h, cell in zip((self.from_first, self.from_last), (first, last), cells, strict=True)
        )
        both = torch.cat([torch.cat(onwards), torch.cat(backwards[::-1])], dim=1)
        return F.normalize(self.constrain(both), dim=1).unflatten(0, (steps, -1))

    def guess(self, states: Sequence[State], constraints: Float[Tensor, "t b c h w"]) -> Gaussians:
        """The prior of each step: what its LSTM, having seen the frames before, would say to c_t."""
        cell, hidden = (torch.cat(parts) for parts in zip(*states, strict=True))
        _, hidden = self.prior.step(self.prior.see(constraints.flatten(0, 1)), (cell, hidden))
        return Gaussians.read(self.prior_head, hidden.unflatten(0, constraints.shape[:2]))

    def forward(
        self, frames: Float[Tensor, "t b 3 h2 w2"], noise: Float[Tensor, "2 steps b z"]
    ) -> tuple[Float[Tensor, "steps 2 b 3 h2 w2"], Gaussians, Gaussians]:
        """The steps = T - 2 frames between, by the posterior and by the prior, drawn from the true frames before; and both."""
        t, b = frames.shape[:2]
        keys = frames[[0, -1]]
        content = self.encode(keys.mean(0))
        h = self.encode(frames.flatten(0, 1))[0].unflatten(0, (t, b))
        constraints = self.constraints(keys, h[0], h[-1], t - 2)
        prior = self.guess(self.prior(h[:-2]), constraints)
        seen = torch.stack([hidden for _, hidden in self.posterior(h[:-1])[1:]])
        posterior = Gaussians.read(self.posterior_head, seen)
        z = torch.cat([posterior.draw(noise[0]), prior.draw(noise[1])], dim=1)  # (T - 2, 2B, Z, h, w)
        states = self.generator(torch.cat([h[:-2].repeat(1, 2, 1, 1, 1), z], dim=2))
        drawn = self.decoder(torch.cat([hidden for _, hidden in states]), content)
        return drawn.unflatten(0, (t - 2, 2, b)), posterior, prior

    def draw(
        self, keys: Float[Tensor, "2 b 3 h2 w2"], noise: Float[Tensor, "n steps z"], rows: int
    ) -> Float[Tensor, "n 3 steps h2 w2"]:
        """The frames between, by the prior, `rows` drawings at a time; noise row s * b + i draws clip i."""
        b, steps = keys.shape[1], noise.shape[1]
        content = self.encode(keys.mean(0))
        first, last = (self.encode(key)[0] for key in keys)
        constraints = self.constraints(keys, first, last, steps)
        drawn = noise.new_empty(len(noise), 3, steps, *keys.shape[3:])
        for piece in torch.arange(len(noise), device=noise.device).split(rows):
            clip = piece % b
            h, seen = first[clip], [part[clip] for part in content]
            before = self.prior.start(h)
            state = self.generator.start(h)
            for t in range(steps):
                before = self.prior.step(self.prior.see(h), before)
                z = self.guess([before], constraints[t : t + 1, clip]).draw(noise[None, piece, t])[0]
                state = self.generator.step(self.generator.see(torch.cat([h, z], dim=1)), state)
                frame = self.decoder(state[1], seen)
                drawn[piece, :, t] = frame
                h = self.encode(frame)[0]
        return drawn


def posterior_share(step: int, anneal_steps: int) -> float:
    """p, of the pixel loss: 1 in the first fifth of the training steps, 0.4 in the last, a straight line between."""
    return 1 - 0.6 * min(max((step / anneal_steps - 0.2) / 0.6, 0.0), 1.0)


MOVED = 0.1  # of the range of 2 that pixels have


def motion_weight(frames: Float[Tensor, "t b c h w"], motion: float) -> Float[Tensor, "t-2 b 1 h w"]:
    """Of the frames between: a pixel that differs from the frame before by more than `MOVED`, in any colour, weighs
    1 + motion if another one in its 3x3 neighbourhood does so too, and 0, as noise, if none does; a still one weighs 1.
    """
    moved = (frames[1:-1] - frames[:-2]).abs().amax(2) > MOVED
    around = F.avg_pool2d(moved.float(), 3, stride=1, padding=1, divisor_override=1)  # how many, itself counts too
    return torch.where(moved, torch.where(around > 1, 1 + motion, 0.0), 1.0)[:, :, None]


@dataclass(frozen=True)
class Window:
    frames: Tensor  # (T, B, 3, H, W), the truth, padded to a multiple of the stride
    noise: Tensor  # (2, T - 2, B, Z), for the posterior and for the prior
    share: float  # p


class Sdvi(nn.Module):
    """A Synthesizer of "tween" and a Trainable with one phase."""

    Config: TypeAlias = Config
    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = True
    one_pair: ClassVar[bool] = True
    size: tuple[int, int] | None = None
    piece_pixels: ClassVar[int] = 2**18  # drawn at a time, over all samples: bounds the memory

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.network = Network(config)

    @torch.no_grad()
    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Synthesizer`. Raises ValueError for other key frames than one first and one last.

        It draws frame after frame, evenly spaced. Where other times are asked for, it draws at least `TRAINED` and gives the
        nearest in time.
        """
        b, c, t, h, w = request.known.shape
        if c != 3:
            raise ValueError(f"this model draws 3 channels, not {c}")
        if not (request.mask[0] and request.mask[-1] and request.mask.sum() == 2 and t > 2):
            raise ValueError("this model draws between one first and one last key frame; other frames can't be given")
        steps = t - 2 if request.times is None else max(t, TRAINED) - 2
        noise = torch.randn(samples * b, steps, self.config.noise, generator=generator, device=generator.device)
        keys = self._frames(request.known[:, :, [0, -1]])
        rows = max(1, self.piece_pixels // (keys.shape[3] * keys.shape[4]))
        between = self.network.draw(keys, request.diversity * noise.to(keys.device), rows)[..., :h, :w]
        if request.times is not None:
            way = request.ways()[2]
            between = between[:, :, ((steps + 1) * way).round().long().clamp(1, steps)[1:-1] - 1]
        return request.keep_known(F.pad(between.unflatten(0, (samples, b)), (0, 0, 0, 0, 1, 1)))

    def _frames(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "t b c h2 w2"]:
        """Time first, and padded to a multiple of the stride."""
        right, bottom = (-side % self.config.stride for side in (video.shape[4], video.shape[3]))
        return F.pad(video, (0, right, 0, bottom, 0, 0), mode="replicate").permute(2, 0, 1, 3, 4).contiguous()

    def windows(self, batch: Batch) -> Iterable[Window]:
        noise = standard_normal(batch.seeds, 2, batch.video.shape[2] - 2, self.config.noise).permute(1, 2, 0, 3)
        share = posterior_share(batch.step, self.config.anneal_steps)
        yield Window(self._frames(batch.video), noise.to(batch.video.device), share)

    def forward(self, window: Window, carry: None) -> tuple[tuple[Tensor, Gaussians, Gaussians], None]:
        """What the posterior and the prior draw, (T - 2, 2, B, 3, H, W), and both."""
        return self.network(window.frames, window.noise), None

    def phases(self) -> list[Phase]:
        return [Phase("network", self.network, ema=True)]

    def losses(self, phase: str, window: Window, out: tuple[Tensor, Gaussians, Gaussians]) -> dict[str, Tensor]:
        """p |G_post - x| + (1 - p) |G_prior - x|, what moves weighted, and the divergence both ways."""
        drawn, posterior, prior = out
        weight = motion_weight(window.frames, self.config.motion)  # (T - 2, B, 1, H, W)
        error = (drawn - window.frames[1:-1, None]).abs().mean(3, keepdim=True) * weight[:, None]
        by_posterior, by_prior = error.mean((0, 2, 3, 4, 5))
        return {
            "posterior/pixels": window.share * by_posterior,
            "prior/pixels": (1 - window.share) * by_prior,
            "posterior/kl": self.config.posterior_kl * posterior.kl(prior),
            "prior/kl": self.config.prior_kl * prior.kl(posterior),
        }
