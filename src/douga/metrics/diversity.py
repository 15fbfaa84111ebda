"""Do the samples differ, and as much as they should? Distances in 0-255 steps.

Gneiting, Raftery, *Strictly Proper Scoring Rules, Prediction, and Estimation*, 2007 (CRPS, energy score), in the fair form of
Ferro, *Fair Scores for Ensemble Forecasts*, 2014; Hamill, *Interpretation of Rank Histograms*, 2001.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from douga.core.contracts import Figure
from douga.metrics.paired import hidden

STEPS = 127.5  # of 255 in one unit of [-1, 1]
UNIT = "of 255"
GRID_PX = 8  # neighbouring pixels say nearly the same: ranks are counted at every eighth
BINS = 21  # of the rank histogram, at most
FEWEST = 5  # samples that a rank histogram needs


class Spread:
    """Mean absolute distance between two samples of a clip, over all pairs of them; 0 for a single one.

    Observes: per_frame (T,), known ones too; hidden (), the mean of the others. Column: spread_px, over the hidden frames.
    Curve: spread_over_frames (T,).
    """

    needs: ClassVar[tuple[str, ...]] = ()
    settings: Mapping[str, Any] = {"distance": "absolute", "pixels": "0-255"}

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def observe(
        self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"], mask: Bool[Tensor, " t"]
    ) -> dict[str, Tensor]:
        apart = torch.zeros(len(mask), dtype=torch.float64)
        if len(drawn) > 1:
            for time in range(len(mask)):
                frame = drawn[:, :, time].to(self.device).flatten(1)
                apart[time] = torch.pdist(frame, p=1).double().mean() * STEPS / frame.shape[1]
        return {"per_frame": apart, "hidden": apart[hidden(mask)].mean()}

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        return {"spread_px": Figure(observed["hidden"], UNIT)}

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"spread_over_frames": observed["per_frame"].mean(0)}


class Calibration:
    """Is the truth like one more sample? Judged on the hidden frames.

    Observes: ranks (S + 1,), how often so many samples lay below the truth, at every eighth pixel, mean of its channels;
    crps and energy (), the scores below. A tie is broken by chance, which is the same for the same truth.
    Columns: crps_hidden, mean|x - y| - mean|x - x'| / 2 over pixels, for samples x, x' and the truth y; energy_hidden, the same
    with the root mean square over the whole sequence in the place of |.|; both are the plain distance to the truth for one
    sample. With 5 samples or more, rank_deviation, of the set: the share of ranks that is not where a flat histogram has
    it, 0 to 1. Curve: rank_histogram (at most 21 bins), shares over those of a flat one: all 1 if calibrated, high at both
    ends if the samples are too much alike, in the middle if too different.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    settings: Mapping[str, Any] = {
        "form": "fair",
        "pixels": "0-255",
        "grid_px": GRID_PX,
        "bins": BINS,
        "fewest": FEWEST,
    }

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def observe(
        self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"], mask: Bool[Tensor, " t"]
    ) -> dict[str, Tensor]:
        drawn, truth = drawn[:, :, hidden(mask)].to(self.device), truth[:, hidden(mask)].to(self.device)
        s, c, t, h, w = drawn.shape
        absolute = squared = torch.zeros(())
        for time in range(t):
            rows = torch.cat([truth[None, :, time], drawn[:, :, time]]).flatten(1)
            absolute = absolute + torch.pdist(rows, p=1).double().cpu()  # truth to each sample, then sample to sample
            squared = squared + torch.pdist(rows, p=2).double().cpu().square()
        values = c * t * h * w
        crps, energy = (
            STEPS * (apart[:s].mean() - (apart[s:].mean() / 2 if s > 1 else 0))
            for apart in (absolute / values, (squared / values).sqrt())
        )
        grid = torch.cat([truth[None], drawn])[..., ::GRID_PX, ::GRID_PX].cpu().mean(1)  # (1 + S, T, H / 8, W / 8)
        below, equal = ((part(grid[1:], grid[0])).sum(0) for part in (torch.lt, torch.eq))
        chance = torch.Generator().manual_seed(zlib.crc32(truth.cpu().numpy().tobytes()))
        ranks = below + (torch.rand(below.shape, generator=chance) * (equal + 1)).long()
        return {"ranks": torch.bincount(ranks.flatten(), minlength=s + 1), "crps": crps, "energy": energy}

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        figures = {
            f"{name}_hidden": Figure(observed[name], UNIT, higher_is_better=False) for name in ("crps", "energy")
        }
        if observed["ranks"].shape[1] > FEWEST:
            share, flat = _histogram(observed["ranks"])
            figures["rank_deviation"] = Figure((share - flat).abs().sum() / 2, higher_is_better=False)
        return figures

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if observed["ranks"].shape[1] <= FEWEST:
            return {}
        share, flat = _histogram(observed["ranks"])
        return {"rank_histogram": share / flat}


def _histogram(ranks: Int[Tensor, "n ranks"]) -> tuple[Float[Tensor, " bins"], Float[Tensor, " bins"]]:
    """Shares of at most 21 bins of neighbouring ranks, and what they are if every rank is as frequent."""
    count = ranks.shape[1]
    which = torch.arange(count) * min(count, BINS) // count
    shares = torch.bincount(which, ranks.sum(0).double()) / ranks.sum()
    return shares, torch.bincount(which).double() / count
