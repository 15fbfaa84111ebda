"""Video in-betweening with direct 3-D convolutions and stochastic fusion.

Li, Roblek, Tagliasacchi, "From Here to There: Video Inbetweening Using Direct 3D Convolutions", arXiv 1905.10240 (2019).

Contract: two key frames (the first and the last) in, T = 16 frames out, in as many versions as noise vectors are drawn; at
`config.size` only. The key frames are then replaced by the given ones. Another number of frames is drawn by reading the latent
video at other times before it is decoded (the video generator is convolutional in time, so it decodes any length).

Conventions: E(x) is (B, C, H/8, W/8); a latent video is (B, C, T, H/8, W/8); noise u is (B, D), one vector for each clip.
Layer sizes that the paper leaves open follow public re-implementations; each is a `Config` field or stands in a docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from douga.core.clip import Batch, Request, standard_normal
from douga.core.contracts import Phase
from douga.nn.blocks import BatchNorm


@dataclass(frozen=True)
class Config:
    """Defaults are the paper's full model (about 14.3 M parameters in E + G_Z + G_V)."""

    size: tuple[int, int] = (64, 64)  # (height, width), multiples of 16
    noise: int = 128  # D
    channels: int = 64  # C, of the latent video
    blocks: int = 24  # L, a third of them at each of T/4, T/2 and T time steps
    width: int = 64  # of E's first and G_V's last layers; the others are 2x and 4x
    critic_width: int = 64  # of both critics' first layers; the others are 2x, 4x and 8x
    generator: Literal["full", "wo-fusion", "naive"] = "full"  # the two ablations of the paper
    slope: float = 0.2  # of the leaky ReLU; 0 is the ReLU of the paper's slides
    spectral_norm: bool = False
    norm: Literal["batch", "group"] = "batch"  # in E and G_V; group (8 channels) does not mind small batches
    # Not in the paper; all off by default. They help where the data is little (see the card of the weights that use them).
    detail: bool = False  # the video generator also sees what E saw of the key frames at 1/4 and 1/2 (see Detail)
    detail_after: int = 0  # training steps before it does: motion first, or it learns to switch between two stills
    background: bool = False  # where both key frames agree, their mean may show through (see VideoGenerator)
    best_of: int = 1  # draw so many samples of each clip; the reconstruction takes the nearest, so that they may differ
    reconstruction: float = 0.0  # weight of the mean absolute error
    motion: float = 0.0  # in that error a pixel weighs 1 + motion * |truth - its mean over time|
    critic_rate: float = 1.0  # the critics' learning rate, times the generator's
    feature_matching: float = 0.0  # weight of the distance between the critics' features of true and drawn clips
    warm_up: int = 0  # so many first steps with the reconstruction alone; the critics join after them
    critic_frames: int = 14  # frames of each clip that the image critic sees in a step (the paper: all 14)


TIME = 16  # frames of a clip; 2 key frames, doubled three times


class Encoder(nn.Sequential):
    """E: a key frame to C channels at an eighth of its size."""

    def __init__(self, config: Config) -> None:
        w = config.width
        widths = (3, w, w, 2 * w, 2 * w, 4 * w, 4 * w, config.channels)
        shapes = ((4, 2), (3, 1)) * 3 + ((3, 1),)  # (kernel, stride)
        convs = (nn.Conv2d(a, b, *shape, padding=1) for (a, b), shape in zip(pairwise(widths), shapes, strict=True))
        super().__init__(*(_normed(conv, config) for conv in convs))

    def forward(self, frame: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H/8, W/8), and what was seen on the way: (B, 2w, H/4, W/4) and (B, w, H/2, W/2)."""
        half = self[1](self[0](frame))
        quarter = self[3](self[2](half))
        return self[6](self[5](self[4](quarter))), quarter, half


def _normed(conv: nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d, config: Config) -> nn.Sequential:
    """The convolution without its bias, then norm and leaky ReLU."""
    conv.register_parameter("bias", None)
    c = conv.out_channels
    norm = BatchNorm(c) if config.norm == "batch" else nn.GroupNorm(max(1, c // 8), c)
    return nn.Sequential(conv, norm, nn.LeakyReLU(config.slope))


class FusionBlock(nn.Module):
    """One residual block of G_Z, with the gated stochastic fusion of the paper's section on the latent generator.

        u^l  = A^l u + b^l
        g_s  = sigmoid(u^l * k_s + b_s),  g_e likewise,  n = u^l * k_n + b_n
        z_in = g_s . E(x_s) + g_e . E(x_e) + max(0, 1 - g_s - g_e) . z + n          (w/o fusion: z + n)
        z'   = h( z + h(z_in * k_1 + b_1) * k_2 + b_2 )

    The gates depend on the noise alone: one value for each time step and channel, the same for every pixel.
    """

    def __init__(self, config: Config, time: int) -> None:
        super().__init__()
        c = config.channels
        self.fusion, self.slope = config.generator == "full", config.slope
        self.project = nn.Linear(config.noise, c * time)  # A^l, b^l
        # k_s, k_e and k_n side by side: one convolution along time
        self.gates = nn.Conv1d(c, 3 * c if self.fusion else c, 3, padding=1)
        self.conv1 = nn.Conv3d(c, c, 3, padding=1)
        self.conv2 = nn.Conv3d(c, c, 3, padding=1)
        # Ours: near the identity at first. With the usual start, 24 blocks bury the key frames under noise of their own.
        nn.init.normal_(self.conv2.weight, std=0.1 / (c * 27) ** 0.5)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(
        self,
        z: Float[Tensor, "b c t h w"],
        start: Float[Tensor, "b c h w"],
        end: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b d"],
    ) -> Float[Tensor, "b c t h w"]:
        u = self.project(noise).unflatten(1, (z.shape[1], -1))  # (B, C, T)
        maps = self.gates(u)[..., None, None]  # (B, 3C or C, T, 1, 1)
        if self.fusion:
            g_s, g_e, n = maps.chunk(3, dim=1)
            g_s, g_e = g_s.sigmoid(), g_e.sigmoid()
            z_in = g_s * start[:, :, None] + g_e * end[:, :, None] + F.relu(1 - g_s - g_e) * z + n
        else:
            z_in = z + maps
        inner = F.leaky_relu(self.conv1(z_in), self.slope)
        return F.leaky_relu(z + self.conv2(inner), self.slope)


class LatentGenerator(nn.Module):
    """G_Z: from the two encoded key frames to a latent video of T steps, coarse to fine in time."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        third = config.blocks // 3
        self.stages = nn.ModuleList(
            nn.ModuleList(FusionBlock(config, time) for _ in range(third)) for time in (TIME // 4, TIME // 2, TIME)
        )

    def forward(
        self, start: Float[Tensor, "b c h w"], end: Float[Tensor, "b c h w"], noise: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b c t h w"]:
        z = torch.stack([start, end], dim=2)  # (B, C, 2, H/8, W/8)
        for stage in self.stages:
            z = z.repeat_interleave(2, dim=2)
            for block in stage:  # type: ignore[attr-defined]
                z = block(z, start, end, noise)
        return z  # (B, C, T, H/8, W/8)


class Detail(nn.Module):
    """Key-frame features for a scale of G_V: h + g_s . K e_s + g_e . K e_e, the gates read off h at each place and time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv3d(channels, 2, 1)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.normal_(self.key.weight, std=0.01 / channels**0.5)  # next to nothing, where it joins a trained model

    def forward(
        self, h: Float[Tensor, "b c t h w"], start: Float[Tensor, "b c h w"], end: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c t h w"]:
        g_s, g_e = self.gates(h).sigmoid().chunk(2, dim=1)  # (B, 1, T, H, W)
        return h + g_s * self.key(start)[:, :, None] + g_e * self.key(end)[:, :, None]


class VideoGenerator(nn.Module):
    """G_V: a latent video to pixels; x8 in space. The naive ablation doubles time in the same three layers.

    With `Config.background` it also draws a map a in [0, 1], and what shows is (1 - a . s) . drawn + a . s . mean(x_s, x_e):
    s is 1 where the key frames are the same and 0 where they differ by `SAME` or more anywhere near. So a still wall need not
    be drawn, while nothing that moves between the key frames can be had by fading from one to the other.
    """

    SAME: ClassVar[float] = 0.15  # of the range of 2 that pixels have

    def __init__(self, config: Config) -> None:
        super().__init__()
        w = config.width
        kernel, stride = ((4, 4, 4), (2, 2, 2)) if config.generator == "naive" else ((3, 4, 4), (1, 2, 2))
        convs = (
            nn.Conv3d(config.channels, 4 * w, 3, padding=1),
            nn.Conv3d(4 * w, 4 * w, 3, padding=1),
            nn.ConvTranspose3d(4 * w, 2 * w, kernel, stride, padding=1),
            nn.Conv3d(2 * w, 2 * w, 3, padding=1),
            nn.ConvTranspose3d(2 * w, w, kernel, stride, padding=1),
            nn.Conv3d(w, w, 3, padding=1),
        )
        last = nn.ConvTranspose3d(w, 4 if config.background else 3, kernel, stride, padding=1)
        self.layers = nn.Sequential(*(_normed(conv, config) for conv in convs), last)
        self.background = config.background

    def forward(
        self,
        z: Float[Tensor, "b c t h w"],
        start: Float[Tensor, "b 3 h2 w2"],
        end: Float[Tensor, "b 3 h2 w2"],
        details: Mapping[int, Callable[[Tensor], Tensor]],
    ) -> Float[Tensor, "b 3 t2 h2 w2"]:
        """`details`: what happens to the features after the layer of that number."""
        for number, layer in enumerate(self.layers):
            z = layer(z)
            z = details[number](z) if number in details else z
        out = z.float()  # (B, 3 or 4, T, H, W)
        drawn = out[:, :3].tanh()
        if not self.background:
            return drawn
        apart = F.max_pool2d((start - end).abs().mean(1, keepdim=True), 3, stride=1, padding=1)
        share = out[:, 3:].sigmoid() * (1 - apart / self.SAME).clamp(min=0)[:, :, None]  # (B, 1, T, H, W)
        return drawn + share * ((start + end)[:, :, None] / 2 - drawn)


class Generator(nn.Module):
    """E, G_Z and G_V, trained end to end: everything that is released."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        if config.generator == "naive":
            # The source does not say how its naive model takes the noise; ours adds it, projected, to the two encodings.
            self.noise = nn.Linear(config.noise, 2 * config.channels)
        else:
            self.latent = LatentGenerator(config)
        self.video = VideoGenerator(config)
        self.naive = config.generator == "naive"
        if config.detail:
            self.details = nn.ModuleList([Detail(2 * config.width), Detail(config.width)])

    def forward(
        self,
        first: Float[Tensor, "b 3 h w"],
        last: Float[Tensor, "b 3 h w"],
        noise: Float[Tensor, "n d"],
        *,
        way: Float[Tensor, " t"] | None = None,
        detail: bool = True,
    ) -> Float[Tensor, "n 3 t h w"]:
        """n = samples * b drawings, sample-major: noise row s * b + i draws clip i.

        way: where each frame lies, 0 (the first key frame) to 1; None: `TIME` frames, evenly. detail: False leaves `Detail` out.
        """
        samples = len(noise) // len(first)
        # Both key frames in one pass: batch norm sees the same statistics for both.
        (start, end), quarter, half = (
            [key.repeat(samples, 1, 1, 1) for key in seen.chunk(2)] for seen in self.encoder(torch.cat([first, last]))
        )
        keys = first.repeat(samples, 1, 1, 1), last.repeat(samples, 1, 1, 1)
        details: dict[int, Callable[[Tensor], Tensor]] = {}
        if hasattr(self, "details") and detail:
            at_quarter, at_half = self.details
            details = {2: lambda h: at_quarter(h, *quarter), 4: lambda h: at_half(h, *half)}
        if self.naive:
            z = torch.stack([start, end], dim=2) + self.noise(noise).view(len(noise), -1, 2, 1, 1)
            return read_at(self.video(z, *keys, details), way)
        z = self.latent(start, end, noise)
        return self.video(read_at(z, way), *keys, details)


def read_at(video: Float[Tensor, "b c t0 h w"], way: Float[Tensor, " t"] | None) -> Float[Tensor, "b c t h w"]:
    """Read a video at other times, 0 (its first frame) to 1 (its last), between its own frames linearly. None: as it is."""
    if way is None:
        return video
    at = way * (video.shape[2] - 1)
    before = at.floor().long().clamp(max=video.shape[2] - 2)
    after_share = (at - before).to(video.dtype)[:, None, None]
    return video[:, :, before] * (1 - after_share) + video[:, :, before + 1] * after_share


class LayerNorm(nn.GroupNorm):
    """Over all axes but the batch, with a scale and a shift for each channel: any size of picture."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


class VideoCritic(nn.Module):
    """D_V: four 4x4x4 convolutions, stride (1, 2, 2), then one number for each clip; also the features on the way."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [3, *(config.critic_width * 2**i for i in range(4))]
        norm = spectral_norm if config.spectral_norm else (lambda module: module)
        self.layers = nn.ModuleList(
            nn.Sequential(
                norm(nn.Conv3d(inward, outward, 4, (1, 2, 2), padding=1)), LayerNorm(outward), nn.LeakyReLU(0.2)
            )
            for inward, outward in pairwise(widths)
        )
        places = (TIME - 4) * (config.size[0] // 16) * (config.size[1] // 16)
        self.head = norm(nn.Linear(widths[-1] * places, 1))

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> tuple[Float[Tensor, " b"], list[Tensor]]:
        features = []
        for layer in self.layers:
            video = layer(video)
            features.append(video)
        return self.head(video.flatten(1)).squeeze(1).float(), features


class ImageBlock(nn.Module):
    """3x3 stride 1, 4x4 stride 2; the shortcut is an average pool and a 1x1."""

    def __init__(self, inward: int, outward: int, norm: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm(nn.Conv2d(inward, outward, 3, padding=1)),
            LayerNorm(outward),
            nn.LeakyReLU(0.2),
            norm(nn.Conv2d(outward, outward, 4, 2, padding=1)),
            LayerNorm(outward),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), norm(nn.Conv2d(inward, outward, 1)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return F.leaky_relu(self.body(x) + self.shortcut(x), 0.2)


class ImageCritic(nn.Module):
    """D_I: four residual blocks, then one number for each frame; also the features on the way."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [3, *(config.critic_width * 2**i for i in range(4))]
        norm = spectral_norm if config.spectral_norm else (lambda module: module)
        self.blocks = nn.ModuleList(ImageBlock(a, b, norm) for a, b in pairwise(widths))
        self.head = norm(nn.Linear(widths[-1] * (config.size[0] // 16) * (config.size[1] // 16), 1))

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, " n"], list[Tensor]]:
        features = []
        for block in self.blocks:
            frames = block(frames)
            features.append(frames)
        return self.head(frames.flatten(1)).squeeze(1).float(), features


@dataclass(frozen=True)
class Window:
    video: Tensor  # (B, 3, T, H, W), the truth
    noise: Tensor  # (best_of * B, D)
    looked_at: Tensor  # (critic_frames,) which in-between frames the image critic sees
    judged: bool = True  # False during the warm-up: no critics yet
    detail: bool = True  # False before `Config.detail_after`


class InbetweenGAN(nn.Module):
    """E + G_Z + G_V and both critics. A Synthesizer of "tween" and a Trainable with two phases."""

    Config: TypeAlias = Config
    tasks: ClassVar[frozenset[str]] = frozenset({"tween"})
    stochastic: ClassVar[bool] = True
    one_pair: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        if any(side % 16 for side in config.size) or config.blocks % 3:
            raise ValueError(f"size must be multiples of 16 and blocks of 3, not {config.size} and {config.blocks}")
        self.config = config
        self.size: tuple[int, int] | None = config.size
        self.generator = Generator(config)
        self.critics = nn.ModuleDict({"video": VideoCritic(config), "image": ImageCritic(config)})

    @torch.no_grad()
    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Float[Tensor, "s b c t h w"]:
        """See `Synthesizer`. Raises ValueError for another size than the model's, or other key frames than first and last."""
        b, c, t, *size = request.known.shape
        if tuple(size) != self.size or c != 3:
            raise ValueError(f"this model draws 3 channels at {self.size}, not {c} at {tuple(size)} (height, width)")
        if not (request.mask[0] and request.mask[-1] and request.mask.sum() == 2 and t > 2):
            raise ValueError("this model draws between one first and one last key frame; other frames can't be given")
        noise = torch.randn(samples * b, self.config.noise, generator=generator, device=generator.device)
        noise = (request.diversity * noise).to(request.known.device)
        way = None if t == TIME and request.times is None else request.ways()[2]
        if way is not None:
            way[-1] = 1  # `ways` counts a known frame as one that lies 0 after itself
        drawn = self.generator(request.known[:, :, 0], request.known[:, :, -1], noise, way=way)
        return request.keep_known(drawn.unflatten(0, (samples, b)))

    def windows(self, batch: Batch) -> Iterable[Window]:
        config, device = self.config, batch.video.device
        noise = [standard_normal(batch.seeds, config.noise, stream=k) for k in range(config.best_of)]
        chance = torch.Generator().manual_seed(batch.step)  # the same frames for all clips, on every process
        looked_at = 1 + torch.randperm(TIME - 2, generator=chance)[: config.critic_frames].sort().values
        judged, detail = batch.step >= config.warm_up, batch.step >= config.detail_after
        yield Window(batch.video, torch.cat(noise).to(device), looked_at.to(device), judged, detail)

    def forward(self, window: Window, carry: None) -> tuple[Tensor, None]:
        """The 16 frames as drawn, key frames too: (best_of * B, 3, T, H, W), sample-major."""
        video = window.video
        return self.generator(video[:, :, 0], video[:, :, -1], window.noise, detail=window.detail), None

    def phases(self) -> list[Phase]:
        return [
            Phase("critics", self.critics, lr_scale=self.config.critic_rate),
            Phase("generator", self.generator, ema=True),
        ]

    def losses(self, phase: str, window: Window, out: Tensor) -> dict[str, Tensor]:
        """The paper's purely adversarial terms, and those of `Config` that are switched on."""
        config = self.config
        if phase == "critics":
            if not window.judged:
                return {}
            judged_fake, _ = self._judge(self._shown(out.detach(), window), window)
            judged_true, _ = self._judge(window.video, window)
            return {
                f"critic/{name}": F.softplus(-judged_true[name]).mean() + F.softplus(judged_fake[name]).mean()
                for name in judged_fake
            }
        terms = {}
        if config.reconstruction or config.feature_matching:
            truth = window.video
            weight = 1 + config.motion * (truth - truth.mean(2, keepdim=True)).abs().mean(1, keepdim=True)
            error = (out.unflatten(0, (config.best_of, -1)) - truth).abs() * weight  # (best_of, B, 3, T, H, W)
            nearest, which = error.mean((2, 3, 4, 5)).min(dim=0)  # (B,)
            terms["reconstruction"] = config.reconstruction * nearest.mean()
        if not window.judged:
            return terms
        judged_fake, seen_fake = self._judge(self._shown(out, window), window)
        terms |= {f"adversarial/{name}": F.softplus(-logit).mean() for name, logit in judged_fake.items()}
        if config.feature_matching:
            with torch.no_grad():
                _, seen_true = self._judge(window.video, window)
            rows = which * len(nearest) + torch.arange(len(nearest), device=which.device)
            distances = []
            for name, features in seen_fake.items():
                for mine, theirs in zip(features, seen_true[name], strict=True):
                    near = mine.unflatten(0, (len(out), -1))[rows]
                    distances.append(F.l1_loss(near, theirs.unflatten(0, (len(nearest), -1)).to(near.dtype)))
            terms["feature_matching"] = config.feature_matching * torch.stack(distances).float().mean()
        return terms

    def _shown(self, drawn: Tensor, window: Window) -> Tensor:
        """With the given key frames in place, as the user will see it and the critics do."""
        truth = window.video.repeat(self.config.best_of, 1, 1, 1, 1)
        return torch.cat([truth[:, :, :1], drawn[:, :, 1:-1], truth[:, :, -1:]], dim=2)

    def _judge(self, video: Tensor, window: Window) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        frames = video[:, :, window.looked_at].transpose(1, 2).flatten(0, 1)  # (N * frames, 3, H, W), clip-major
        frames = frames.contiguous(memory_format=torch.channels_last)
        (video_logit, video_seen), (image_logit, image_seen) = (
            self.critics["video"](video),
            self.critics["image"](frames),
        )
        return {"video": video_logit, "image": image_logit}, {"video": video_seen, "image": image_seen}
