"""How near the drawn frames come to what really happened, frame by frame: mean squared error, PSNR, SSIM, LPIPS.

Wang, Bovik, Sheikh, Simoncelli, *Image Quality Assessment: From Error Visibility to Structural Similarity*, 2004 (SSIM);
Zhang, Isola, Efros, Shechtman, Wang, *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, 2018 (LPIPS).
`mse` and `ssim` take pixels in 0-1; the metrics take video in [-1, 1], as everywhere, and look at the hidden frames alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from douga.core.contracts import Figure
from douga.nn.lpips import Lpips as Network

WINDOW_PX, SIGMA_PX, K1, K2 = 11, 1.5, 0.01, 0.03
CHUNK = 2**18  # values in a piece of work: small enough to stay in the processor's cache
CAP_DB = 100.0  # PSNR of equal sequences, which would be infinite
BEST_OF = 5, 10, 100


def mse(drawn: Float[Tensor, "s c t h w"], truth: Float[Tensor, "c t h w"]) -> Float[Tensor, "s t"]:
    """Mean squared error of each frame."""
    return torch.stack([(sample - truth).square().mean((0, 2, 3)) for sample in drawn])


def ssim(drawn: Float[Tensor, "s c t h w"], truth: Float[Tensor, "c t h w"]) -> Float[Tensor, "s t"]:
    """Structural similarity of each frame: Gaussian 11x11, sigma 1.5, mean over channels, pixels in 0-1.

    The window stays inside the picture and variances are of the population: scikit-image's `structural_similarity` with
    gaussian_weights and without use_sample_covariance. Raises ValueError for pictures smaller than the window.
    """
    _, channels, frames, height, width = drawn.shape
    if min(height, width) < WINDOW_PX:
        raise ValueError(
            f"SSIM looks through {WINDOW_PX}x{WINDOW_PX} px; the pictures have {height}x{width}, so resize them"
        )
    c1, c2 = K1**2, K2**2
    down, along = _band(height).to(drawn.device), _band(width).mT.to(drawn.device)
    down_quick, along_quick = down.to(drawn), along.to(drawn)
    scores = drawn.new_empty(drawn.shape[0], frames)
    near = max(1, CHUNK // (channels * height * width))
    for start in range(0, frames, near):
        # With d = drawn - truth, and as var(drawn) = var(truth) + 2 cov(truth, d) + var(d), SSIM is
        #     (1 - mean(d)^2 / (mean(truth)^2 + mean(drawn)^2 + c1)) (1 - var(d) / (var(truth) + var(drawn) + c2)).
        # Unlike var = E[x^2] - E[x]^2 of each picture this keeps its digits in float32 where pictures are flat or alike, the more
        # with d centred (1e-4 are lost where large areas of exactly one colour change by much). Truth's part, in float64, serves
        # all samples.
        true = truth[:, start : start + near]
        centred = true.double() - true.double().mean((2, 3), keepdim=True)
        mean, mean_centred, power = down @ (torch.stack([true.double(), centred, centred.square()]) @ along)
        luminance = (mean.square() + c1).to(drawn)
        contrast = (2 * (power - mean_centred.square()) + c2).to(drawn)
        mean, twice_mean_centred, twice_centred = (part.to(drawn) for part in (mean, 2 * mean_centred, 2 * centred))
        maps = true.new_empty(3, *true.shape)
        for sample, row in zip(drawn[:, :, start : start + near], scores[:, start : start + near], strict=True):
            torch.sub(sample, true, out=maps[0])
            shift = maps[0].mean((2, 3), keepdim=True)
            maps[0].sub_(shift)
            torch.mul(maps[0], maps[0], out=maps[1])
            torch.mul(maps[0], twice_centred, out=maps[2])
            d, variance, twice_covariance = down_quick @ (maps @ along_quick)  # (C, T, H - 10, W - 10) each
            variance.addcmul_(d, d, value=-1)
            both_variances = twice_covariance.addcmul_(d, twice_mean_centred, value=-1).add_(variance).add_(contrast)
            d += shift
            drawn_mean = mean + d
            both_means = torch.addcmul(luminance, drawn_mean, drawn_mean)
            alike = (1 - d.square_().div_(both_means)) * (1 - variance.div_(both_variances))
            row.copy_(alike.mean((0, 2, 3)))
    return scores


def _band(side: int) -> Float[Tensor, "inside side"]:
    """The window as a matrix, in float64: row i weighs the pixels around pixel i + 5 of a line of `side`."""
    away = torch.arange(side, dtype=torch.float64) - torch.arange(side - WINDOW_PX + 1)[:, None] - WINDOW_PX // 2
    weights = torch.exp(-0.5 * (away / SIGMA_PX).square()) * (away.abs() <= WINDOW_PX // 2)
    return weights / weights.sum(1, keepdim=True)


def best_of(scores: Float[Tensor, "n s"], *, higher_is_better: bool) -> Float[Tensor, "n s"]:
    """Column k - 1: the best of k samples, drawn without replacement, on average over all ways to draw them; exact.

    Of all C(S, k) ways the i-th best sample is the best one in C(S - i, k - 1).
    """
    s = scores.shape[1]
    ranked = scores.double().sort(dim=1, descending=higher_is_better).values
    share = [[comb(s - i, k - 1) / comb(s, k) for k in range(1, s + 1)] for i in range(1, s + 1)]
    return ranked @ torch.tensor(share, dtype=torch.float64, device=scores.device)


def hidden(mask: Bool[Tensor, " t"]) -> Bool[Tensor, " t"]:
    """The frames that were not given, on the CPU. Raises ValueError if there are none."""
    if mask.all():
        raise ValueError("every frame was given, so there is no drawn one to look at: hide at least one")
    return ~mask.cpu()


class _Paired:
    """What the metrics of this file share: each frame's score, the mean over samples and the best sequences.

    Observes: per_sample (S,), of each drawn sequence; per_frame (T hidden,), of each time, mean over samples.
    Columns: NAME, mean over samples; NAME_best5, 10, 100, the best *sequence* of so many samples, where as many were drawn.
    Curves: NAME_over_frames (T hidden,); NAME_best_of (S,), of 1 to S samples.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool]
    needs: ClassVar[tuple[str, ...]] = ()
    settings: Mapping[str, Any]

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def frames(self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"]) -> Float[Tensor, "s t"]:
        """The score of each frame, before `scale`; video in [-1, 1]."""
        raise NotImplementedError

    def scale(self, scores: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """What is told of such a score, or of a mean of some."""
        return scores

    def observe(
        self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"], mask: Bool[Tensor, " t"]
    ) -> dict[str, Tensor]:
        missing = hidden(mask)
        scores = self.frames(drawn[:, :, missing].to(self.device), truth[:, missing].to(self.device))  # (S, T hidden)
        scores = scores.double().cpu()
        return {"per_sample": self.scale(scores.mean(1)), "per_frame": self.scale(scores).mean(0)}

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        scores = observed["per_sample"]
        best = best_of(scores, higher_is_better=self.higher_is_better)
        columns = {self.name: scores.mean(1)}
        columns |= {f"{self.name}_best{k}": best[:, k - 1] for k in BEST_OF if k <= scores.shape[1]}
        return {name: Figure(values, self.unit, self.higher_is_better) for name, values in columns.items()}

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        best = best_of(observed["per_sample"], higher_is_better=self.higher_is_better)
        return {f"{self.name}_over_frames": observed["per_frame"].mean(0), f"{self.name}_best_of": best.mean(0)}


class Mse(_Paired):
    """Mean squared error, pixels in 0-1."""

    name, higher_is_better = "mse_hidden", False
    settings: Mapping[str, Any] = {"pixels": "0-1"}

    def frames(self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"]) -> Float[Tensor, "s t"]:
        return mse(drawn, truth) / 4  # [-1, 1] is twice as wide as 0-1


class Psnr(Mse):
    """Of a sequence's mean squared error over its hidden frames; over frames, of each frame's own. At most 100 dB."""

    name, unit, higher_is_better = "psnr_hidden", "dB", True
    settings: Mapping[str, Any] = {"pixels": "0-1", "of": "sequence", "cap_db": CAP_DB}

    def scale(self, scores: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return (-10 * scores.log10()).clamp(max=CAP_DB)


class Ssim(_Paired):
    """See `ssim`. A sequence's score is the mean of its frames'."""

    name, higher_is_better = "ssim_hidden", True
    settings: Mapping[str, Any] = {"window_px": WINDOW_PX, "sigma_px": SIGMA_PX, "k1": K1, "k2": K2, "pixels": "0-1"}

    def frames(self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"]) -> Float[Tensor, "s t"]:
        return ssim((drawn + 1) / 2, (truth + 1) / 2)


class Lpips(_Paired):
    """Distance of AlexNet features, LPIPS v0.1, at the size of the pictures. A sequence's score is the mean of its frames'."""

    name, higher_is_better = "lpips_alex_hidden", False
    needs: ClassVar[tuple[str, ...]] = ("lpips-alex",)
    settings: Mapping[str, Any] = {"network": "lpips-alex", "version": "0.1"}

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.network = Network(device)

    def frames(self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"]) -> Float[Tensor, "s t"]:
        true = self.network.features(truth.movedim(1, 0))  # (T, D)
        scores = []
        for samples in drawn.movedim(1, 2).split(max(1, 2 * CHUNK // truth.numel())):
            features = self.network.features(samples.flatten(0, 1)).unflatten(0, samples.shape[:2])  # (s, T, D)
            scores.append(self.network.distance(features, true))
        return torch.cat(scores)
