"""Where does the drawn thing stand? For something before a plain backdrop, such as the teapot of Cristovao et al. 2020."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from douga.core.contracts import Figure
from douga.metrics.paired import hidden

FAINT = 0.1  # of the range of 2 that pixels have: a smaller difference from the backdrop is none


def backdrop(truth: Float[Tensor, "3 t h w"]) -> Float[Tensor, "3 1 h 1"]:
    """The median of each row over all frames: right where things cover less than half of a row and rows are of one colour."""
    return truth.transpose(1, 2).flatten(2).median(2).values[:, None, :, None]


def weight(video: Float[Tensor, "*s 3 t h w"], behind: Float[Tensor, "3 1 h 1"]) -> Float[Tensor, "*s t h w"]:
    """How much of a thing each pixel shows: its difference from the backdrop, in 0-2, mean over colours; float64."""
    apart = (video - behind).abs().mean(-4).double()
    return torch.where(apart > FAINT, apart, 0.0)


class Position:
    """Observes, mean over samples: centroid, transport, amount, (T hidden,) each, which are the columns:

    centroid_error, in px: from the centre of what is drawn to that of the truth. A cross-fade of a straight way has none,
    since its two ghosts stand evenly beside the right place; so read it with the next.
    transport_error, in px: how far what is drawn must be carried to lie where the truth does: the Wasserstein-1 distances of
    the two along x and along y (each of mass 1), as one length. A cross-fade's is nearly half the way from ghost to ghost.
    drawn_amount, |log2|: how much is drawn, against the truth; 1 is twice or half as much.
    Where nothing is drawn, it counts as spread over the whole picture.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    settings: Mapping[str, Any] = {"faint": FAINT, "backdrop": "median of rows of the truth"}

    def __init__(self, device: torch.device) -> None:
        """It is little work, done on the CPU."""

    def observe(
        self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"], mask: Bool[Tensor, " t"]
    ) -> dict[str, Tensor]:
        missing, behind = hidden(mask), backdrop(truth.cpu())
        here, there = (weight(video.cpu()[..., missing, :, :], behind) for video in (drawn, truth))
        ratio = (here.sum((-2, -1)) + 1e-3) / (there.sum((-2, -1)) + 1e-3)
        here, there = (torch.where(w.any(-1).any(-1)[..., None, None], w, 1.0) for w in (here, there))
        centres, carried = [], []
        for along, across in ((-1, -2), (-2, -1)):  # x, then y
            here_1, there_1 = (w.sum(across) / w.sum((-2, -1))[..., None] for w in (here, there))
            place = torch.arange(here.shape[along]).double()
            centres.append((here_1 - there_1) @ place)
            carried.append((here_1 - there_1).cumsum(-1).abs().sum(-1))
        return {
            "centroid": torch.stack(centres).norm(dim=0).mean(0),
            "transport": torch.stack(carried).norm(dim=0).mean(0),
            "amount": ratio.log2().abs().mean(0),
        }

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        return {
            "centroid_error": Figure(observed["centroid"].mean(1), "px", higher_is_better=False),
            "transport_error": Figure(observed["transport"].mean(1), "px", higher_is_better=False),
            "drawn_amount": Figure(observed["amount"].mean(1), "log2", higher_is_better=False),
        }

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"{name}_error_over_frames": observed[name].mean(0) for name in ("centroid", "transport")}
