"""In-betweening in a learned latent space: encode both key frames, walk from one latent to the other, decode.

Cristovao, Nakada, Tanimura, Asoh, "Generating In-Between Images Through Learned Latent Space Representation Using Variational
Autoencoders", IEEE Access 2020. One VAE for all pictures, trained on triplets of a first, a true middle and a last one:

    l = l_VAE(x0) + l_VAE(x1) + l_VAE(x2) + alpha KL(q(x1) || (q(x0) + q(x2)) / 2)

l_VAE is the squared error of the decoded picture, pixels in 0-1, summed over pixels and channels, plus beta KL(q(x) || N(0, 1)),
in nats. All terms are means over the triplets of a batch.

Contract: key frames at any places, the first and the last frame among them; any number of frames; one size, `Config.size`.
A known frame comes back as it was given, not as it is decoded, so there is a jump beside it: metric `jump_keys` measures it.
Several samples are draws from q at the key frames, joined by straight lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from douga.core.clip import Batch, Request, standard_normal
from douga.core.contracts import Phase
from douga.nn.losses import VggFeatures, gaussian_kl

PIECE = 256  # pictures decoded at once: bounds the memory


@dataclass(frozen=True)
class Config:
    size: tuple[int, int] = (64, 64)  # (height, width), each a multiple of 2 ** len(widths)
    latent: int = 8
    widths: tuple[int, ...] = (
        32,
        64,
        128,
        256,
    )  # of the encoder's layers, each halves the picture; the decoder mirrors them
    blocks: int = 0  # residual blocks after each layer, with group norm: the deeper preset for real pictures
    alpha: float = 5.0  # weight of the in-between term; 0: a plain VAE
    beta: float = 1.0  # weight of KL(q || N(0, 1))
    # Not in the paper: training steps until both divergences count in full. In the first half of them they do not count, the
    # latent has next to no noise, and the weights begin as He et al. (2015) say; then the divergences open. Else, where pictures
    # have many factors, one latent for all of them is the nearest minimum, and the decoder draws their mean.
    opening: int = 0
    # How (q0 + q2) / 2 is read: the Gaussian of the averaged means and variances, or that of the point (z0 + z2) / 2,
    # whose variance is half as large.
    middle: Literal["parameters", "latents"] = "parameters"
    spread: float = (
        1.0  # of a sample's ends: how many deviations of q; 0: the means themselves, as in the paper's figures
    )
    variational: bool = (
        True  # False: a plain autoencoder, which has no noise; its in-between term is |z1 - middle|^2 / 2
    )

    # Options of later work of the same group.
    sparsity: float = 0.0  # weight of |mean of q|, summed over the latent
    perceptual: float = (
        0.0  # weight of the squared distance of VGG16 features (relu2_2), mean over places, summed over channels
    )

    @property
    def stride(self) -> int:
        return 2 ** len(self.widths)


@dataclass(frozen=True)
class Gaussian:
    """One for each picture, of independent dimensions: mean and log_variance (..., Z) float32."""

    mean: Tensor
    log_variance: Tensor

    def draw(self, noise: Float[Tensor, "*rows z"]) -> Float[Tensor, "*rows z"]:
        return self.mean + (self.log_variance / 2).exp() * noise

    def kl(self, other: Gaussian) -> Float[Tensor, " *rows"]:
        """KL(self || other) in nats, of each picture."""
        return gaussian_kl(self.mean, self.log_variance, other.mean, other.log_variance).sum(-1)

    def kl_standard(self) -> Float[Tensor, " *rows"]:
        """KL(self || N(0, 1)) in nats, of each picture."""
        return (self.log_variance.exp() + self.mean.square() - 1 - self.log_variance).sum(-1) / 2


def halfway(first: Gaussian, last: Gaussian, middle: Literal["parameters", "latents"]) -> Gaussian:
    """(q0 + q2) / 2; see `Config.middle`."""
    variance = (first.log_variance.exp() + last.log_variance.exp()) / (2 if middle == "parameters" else 4)
    return Gaussian((first.mean + last.mean) / 2, variance.log())


class Residual(nn.Sequential):
    """x + two 3x3 convolutions of x, each after group norm and ReLU."""

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.GroupNorm(8, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        super().__init__(*layers)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y: Tensor = super().forward(x)
        return x + y


class Network(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        if any(side % config.stride for side in config.size):
            raise ValueError(f"size must be a multiple of {config.stride} in height and width, not {config.size}")
        self.low = config.widths[-1], *(side // config.stride for side in config.size)
        flat = int(np.prod(self.low))
        down: list[nn.Module] = []
        for a, b in pairwise((3, *config.widths)):
            down += [nn.Conv2d(a, b, 4, 2, padding=1), *(Residual(b) for _ in range(config.blocks)), nn.ReLU()]
        up: list[nn.Module] = []
        for a, b in pairwise((*config.widths[::-1], 3)):
            up += [nn.ReLU(), *(Residual(a) for _ in range(config.blocks)), nn.ConvTranspose2d(a, b, 4, 2, padding=1)]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.head = nn.Linear(flat, config.latent * (2 if config.variational else 1))
        self.start = nn.Linear(config.latent, flat)
        if config.opening:
            for layer in self.down.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(self.start.weight, std=(2 / config.latent) ** 0.5)
            for layer in self.up:
                if isinstance(layer, nn.ConvTranspose2d):  # of the 16 places of its kernel 4 meet in a pixel
                    nn.init.normal_(layer.weight, std=(2 / (4 * layer.in_channels)) ** 0.5)
            nn.init.normal_(self.up[-1].weight, std=0.01)  # type: ignore[arg-type]
            nn.init.constant_(self.head.bias[config.latent :], -6)  # of the log-variance, where there is one

    def encode(self, pictures: Float[Tensor, "n 3 h w"]) -> Gaussian:
        """q(z | picture); without a variational head the variance is 1 and `draw` is not to be asked."""
        code = self.head(self.down(pictures).flatten(1)).float()
        if code.shape[1] == self.start.in_features:
            return Gaussian(code, torch.zeros_like(code))
        mean, log_variance = code.chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(-12, 8))  # both divergences divide by a variance: it may not vanish

    def decode(self, latents: Float[Tensor, "n z"]) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [-1, 1]."""
        pictures: Tensor = self.up(self.start(latents).unflatten(1, self.low))
        return pictures.float().tanh()


@dataclass(frozen=True)
class Triplets:
    pictures: Tensor  # (3, B, 3, H, W): the first, the true middle, the last
    noise: Tensor  # (3, B, Z)
    opened: float  # how much alpha and beta count in this step, 0 to 1


class LatentVAE(nn.Module):
    """A Synthesizer of "tween" and a Trainable with one phase."""

    Config: TypeAlias = Config
    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: bool = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.size = config.size
        self.stochastic = config.variational and config.spread > 0
        self.network = Network(config)

    @torch.no_grad()
    def encode(self, pictures: Float[Tensor, "n 3 h w"]) -> Gaussian:
        """q(z | picture) of each picture, RGB in [-1, 1]."""
        parts = [self.network.encode(piece) for piece in pictures.split(PIECE)]
        return Gaussian(torch.cat([q.mean for q in parts]), torch.cat([q.log_variance for q in parts]))

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "n z"]) -> Float[Tensor, "n 3 h w"]:
        return torch.cat([self.network.decode(piece) for piece in latents.split(PIECE)])

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Synthesizer`. Each sample walks in straight lines between draws from q at the key frames.

        Raises ValueError for another size or number of channels, or if the first or the last frame is not given.
        """
        b, c, t, *size = request.known.shape
        if c != 3 or tuple(size) != self.size:
            height, width = self.size
            raise ValueError(f"this model draws 3 channels of {width}x{height} px, not {c} of {size[1]}x{size[0]}")
        if not (request.mask[0] and request.mask[-1]):
            raise ValueError("this model draws between key frames: the first and the last frame must be given")
        known = request.mask.nonzero()[:, 0].tolist()
        keys = request.known[:, :, known].transpose(1, 2)  # (B, K, 3, H, W)
        q = self.encode(keys.flatten(0, 1))
        q = Gaussian(q.mean.unflatten(0, (b, -1)), q.log_variance.unflatten(0, (b, -1)))
        ends = q.mean.expand(samples, -1, -1, -1)
        if self.stochastic:
            noise = torch.randn(ends.shape, generator=generator, device=generator.device)
            ends = q.draw(request.diversity * self.config.spread * noise.to(ends.device))
        left, right, way = request.ways()
        rank = request.mask.to(way.device).cumsum(0) - 1  # which key frame a known frame is
        latents = torch.lerp(ends[:, :, rank[left]], ends[:, :, rank[right]], way[:, None])
        drawn = self.decode(latents.flatten(0, 2)).unflatten(0, (samples, b, t))
        return request.keep_known(drawn.transpose(2, 3))

    def windows(self, batch: Batch) -> Iterable[Triplets]:
        """Of clips longer than 3 frames one triplet of each, even steps apart, each size of step as likely as any other."""
        frames = batch.video.shape[2]
        if frames < 3:
            raise ValueError(f"a triplet needs clips of 3 frames or more, not {frames}")
        picks = []
        for seed in batch.seeds.tolist():
            chance = np.random.default_rng(seed)
            step = int(chance.integers(1, (frames - 1) // 2 + 1))
            first = int(chance.integers(frames - 2 * step))
            picks.append([first, first + step, first + 2 * step])
        rows = torch.arange(len(picks))[:, None]
        pictures = batch.video[rows, :, torch.tensor(picks)].transpose(0, 1)  # (3, B, 3, H, W)
        noise = standard_normal(batch.seeds, 3, self.config.latent).transpose(0, 1).to(batch.video.device)
        opening = self.config.opening
        yield Triplets(pictures, noise, min(1.0, max(0.0, 2 * batch.step / opening - 1)) if opening else 1.0)

    def forward(self, window: Triplets, carry: None) -> tuple[tuple[Tensor, Gaussian], None]:
        """The decoded pictures, (3, B, 3, H, W), and q of each, (3, B, Z)."""
        q = self.network.encode(window.pictures.flatten(0, 1))
        latents = q.draw(window.noise.flatten(0, 1)) if self.config.variational else q.mean
        shape = window.pictures.shape[:2]
        drawn: Tensor = self.network.decode(latents).unflatten(0, shape)
        return (drawn, Gaussian(q.mean.unflatten(0, shape), q.log_variance.unflatten(0, shape))), None

    def phases(self) -> list[Phase]:
        return [Phase("network", self.network, ema=True)]

    def losses(self, phase: str, window: Triplets, out: tuple[Tensor, Gaussian]) -> dict[str, Tensor]:
        """The terms of l, in the module's docstring; an option that is off, alpha too, has no term."""
        c, (drawn, q) = self.config, out
        squared = (drawn - window.pictures).square().sum((0, 2, 3, 4)) / 4  # [-1, 1] is twice as wide as 0-1
        terms = {"reconstruction": squared.mean()}
        if c.variational and c.beta:
            terms["kl"] = window.opened * c.beta * q.kl_standard().sum(0).mean()
        if c.alpha:
            first, true, last = (Gaussian(q.mean[k], q.log_variance[k]) for k in range(3))
            terms["in_between"] = window.opened * c.alpha * true.kl(halfway(first, last, c.middle)).mean()
        if c.sparsity:
            terms["sparsity"] = c.sparsity * q.mean.abs().sum((0, 2)).mean()
        if c.perceptual:
            seen, wanted = (self._features(x.flatten(0, 1)) for x in (drawn, window.pictures))
            distance = F.mse_loss(seen, wanted, reduction="none").mean((2, 3)).sum(1)  # (3B,)
            terms["perceptual"] = c.perceptual * 3 * distance.mean()
        return terms

    @cached_property
    def _features(self) -> VggFeatures:
        return VggFeatures("relu2_2")
