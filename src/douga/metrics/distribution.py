"""How far the set of drawn videos is from the set of true ones, and how far samples of one clip are from each other: I3D logits.

FVD: Unterthiner et al., "Towards Accurate Generative Models of Video", arXiv 1812.01717 (2018): the Frechet distance of two
Gaussians. KVD, there too: the kernel distance of Binkowski et al., "Demystifying MMD GANs", ICLR 2018.

FVD falls as the number of clips grows, for the very same drawings, so it is compared at equal numbers alone; they stand in its
name, and `curves` shows the fall. KVD does not depend on the number, but scatters more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from douga.core.contracts import Figure
from douga.nn import i3d, resnext3d
from douga.nn.i3d import I3D
from douga.nn.pretrained import digest
from douga.nn.resnext3d import ResNext3d


def frechet(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Squared Frechet distance of the Gaussians with the means and (unbiased) covariances of two sets of 2 or more.

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2). With S = X^T X for the centred features X, the last trace is the sum
    of the singular values of X_a X_b^T, in which an X of more rows than columns may be its triangular factor R. So no root
    of a matrix is taken and nothing is added to its diagonal: exact in float64 for any number. 100 against 100 of 400
    features: 1 ms on one core.
    """
    a, b = a.double(), b.double()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    factors = []
    for features in (a, b):
        centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
        factors.append(centred if len(centred) <= centred.shape[1] else torch.linalg.qr(centred, mode="r").R)
    cross = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    return float(apart + sum(factor.square().sum() for factor in factors) - 2 * cross)


def kernel(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Squared maximum mean discrepancy, unbiased (so below 0 at times), with the kernel (x . y / D + 1)^3; sets of 2 or more."""
    a, b = a.double(), b.double()

    def between(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:  # an item's likeness to itself is left out
        values = between(x, x)
        return (values.sum() - values.trace()) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * between(a, b).mean())


class VideoDistance:
    """Metric. FVD and KVD with I3D of all T frames, FVD of the hidden frames alone (put together where key frames part
    them; left out where they are too few for I3D), each the mean over passes: in a pass every clip gives one sample.

    `diversity_i3d`: mean Euclidean distance between the samples of a clip. Raises ValueError for clips of fewer than 9 frames.
    """

    needs: ClassVar[tuple[str, ...]] = ("i3d",)
    FRECHET: ClassVar[str] = "fvd_i3d"
    KERNEL: ClassVar[str] = "kvd_i3d"
    DIVERSITY: ClassVar[str] = "diversity_i3d"
    FEWEST: ClassVar[int] = i3d.FEWEST_FRAMES
    PASSES: ClassVar[int] = 5  # at most so many samples of a clip are used
    SUBSETS: ClassVar[int] = 5  # of each size, in the curve

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._network, of_network = self._open(device)
        self.settings: Mapping[str, Any] = {**of_network, "passes": self.PASSES}
        self._truths: dict[str, Tensor] = {}  # many methods are measured on the same clips

    def _open(self, device: torch.device | str) -> tuple[Any, dict[str, Any]]:
        """The network, and what a protocol must say of it."""
        return I3D(device), {
            "features": "I3D logits, mean over time",
            "weights": digest("i3d"),
            "size": i3d.SIZE,
            "resize": "bilinear",
            "kernel": "(x . y / 400 + 1)^3",
        }

    def observe(
        self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"], mask: Bool[Tensor, " t"]
    ) -> Mapping[str, Tensor]:
        """Logits of the first P samples, `drawn` (P, 400), and of the truth, `truth` (400,); of the hidden frames alone
        `drawn_hidden` and `truth_hidden`. `frames` and `hidden` () are their numbers.
        """
        mask = mask.cpu()
        seen = {"frames": torch.tensor(len(mask)), "hidden": (~mask).sum()}
        for part, at in {"": torch.arange(len(mask)), "_hidden": (~mask).nonzero().squeeze(1)}.items():
            if part == "" or len(at) >= self.FEWEST:
                used = drawn[: self.PASSES].index_select(2, at.to(drawn.device))
                seen[f"drawn{part}"] = self._network.logits(used).cpu()
                seen[f"truth{part}"] = self._of_truth(truth.index_select(1, at.to(truth.device)))
        return seen

    def _of_truth(self, truth: Tensor) -> Tensor:
        key = str(truth.shape) + hashlib.sha256(truth.cpu().contiguous().numpy().data).hexdigest()
        if key not in self._truths:
            self._truths[key] = self._network.logits(truth[None])[0].cpu()
        return self._truths[key]

    def compute(self, observed: Mapping[str, Tensor]) -> Mapping[str, Figure]:
        """Of fewer than 2 clips no distance is known, of 1 sample no diversity: they are left out."""
        clips, passes = observed["drawn"].shape[:2]
        figures = {}
        if clips > 1:
            (frames,), (hidden,) = (observed[count].unique().tolist() for count in ("frames", "hidden"))
            rows = {f"{self.FRECHET}_{frames}f": (frechet, ""), f"{self.KERNEL}_{frames}f": (kernel, "")}
            if "drawn_hidden" in observed:
                rows[f"{self.FRECHET}_hidden{hidden}f"] = (frechet, "_hidden")
            for name, (distance, part) in rows.items():
                value = _mean(distance, observed[f"drawn{part}"], observed[f"truth{part}"])
                figures[f"{name}_n{clips}"] = Figure(value, higher_is_better=False)
        if passes > 1:
            drawn = observed["drawn"].double()  # (N, P, 400)
            apart = torch.cdist(drawn, drawn, compute_mode="donot_use_mm_for_euclid_dist")  # (N, P, P)
            figures[self.DIVERSITY] = Figure(apart.sum((1, 2)) / (passes * (passes - 1)))
        return figures

    def curves(self, observed: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """FVD of all frames at a quarter, a half, three quarters of the clips and all: `fvd_i3d_over_n_n`, the numbers, and
        `fvd_i3d_over_n_fvd`, the mean over `SUBSETS` random choices of clips, the same in every call.
        """
        clips = len(observed["drawn"])
        numbers = sorted({number for quarters in range(1, 5) if (number := clips * quarters // 4) > 1})
        if not numbers:
            return {}
        generator = torch.Generator().manual_seed(0)
        choices = [torch.randperm(clips, generator=generator) for _ in range(self.SUBSETS)]
        values = [
            torch.stack([_mean(frechet, observed["drawn"][rows], observed["truth"][rows]) for rows in some]).mean()
            for some in ([order[:number] for order in choices] for number in numbers)
        ]
        curve = f"{self.FRECHET}_over_n"
        return {f"{curve}_n": torch.tensor(numbers).double(), f"{curve}_fvd": torch.stack(values)}


class ResNextDistance(VideoDistance):
    """Metric. The same distances, with the features of a 3-D ResNeXt that the user brings (`douga.nn.resnext3d`).

    Wang et al., "Video-to-Video Synthesis", NeurIPS 2018, section 4: one of the two networks of their FID. Raises as `ResNext3d`.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    FRECHET: ClassVar[str] = "frechet_resnext3d"
    KERNEL: ClassVar[str] = "kernel_resnext3d"
    DIVERSITY: ClassVar[str] = "diversity_resnext3d"
    FEWEST: ClassVar[int] = resnext3d.FRAMES

    def _open(self, device: torch.device | str) -> tuple[Any, dict[str, Any]]:
        network = ResNext3d(device)
        return network, {
            "features": "3-D ResNeXt, mean over pieces of 16 frames",
            "weights": network.digest,
            "size": resnext3d.SIZE,
            "resize": "bilinear, with a low-pass",
            "kernel": "(x . y / D + 1)^3",
        }


def _mean(distance: Callable[[Tensor, Tensor], float], drawn: Tensor, truth: Tensor) -> Tensor:
    """Over the passes: () float64 of drawn (N, P, D) and truth (N, D)."""
    return torch.tensor([distance(one, truth) for one in drawn.unbind(1)], dtype=torch.float64).mean()
