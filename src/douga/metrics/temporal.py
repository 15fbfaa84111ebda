"""Does a drawn video flicker, and does it flash at its key frames?

Lai, Huang, Wang, Shechtman, Yumer, Yang, *Learning Blind Video Temporal Consistency*, ECCV 2018 (warping error, section 4.2);
Sundaram, Brox, Keutzer, *Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow*, ECCV 2010 (where a flow
is consistent both ways).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from douga.core.contracts import Figure
from douga.metrics.paired import hidden
from douga.nn.lpips import Lpips as Network
from douga.video.flow import FINE_PX, estimate, inside
from douga.video.ops import warp

SAMPLES = 5  # so many first ones are looked at
SLACK, SLACK_PX2 = 0.01, 0.5  # of Sundaram et al.: |there + back|^2 < 0.01 (|there|^2 + |back|^2) + 0.5


class WarpError:
    """Of the first 5 samples. Observes: warp, jump (), which are the columns:

    warp_error, in thousandths: mean squared error, pixels in 0-1, between each frame and the one before it, warped along
    the DIS flow of the drawn video; over pixels whose flow is consistent both ways (the whole picture, where none is) and over
    all neighbours of which at least one was drawn. A still or blurred video has the lowest, so nothing is judged by it: read
    it beside that of real video.
    jump_keys, in 0-255 steps: how far the mean absolute difference between a key frame and a drawn neighbour is from
    the one that the truth has there, above or below; mean over all such neighbours and samples.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    settings: Mapping[str, Any] = {
        "samples": SAMPLES,
        "flow": "DIS medium",
        "fine_px": FINE_PX,
        "slack": SLACK,
        "slack_px2": SLACK_PX2,
    }

    def __init__(self, device: torch.device) -> None:
        """DIS runs on the CPU, and so does all of this: `device` makes no difference."""

    def observe(
        self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"], mask: Bool[Tensor, " t"]
    ) -> dict[str, Tensor]:
        drawn, truth, missing = drawn[:SAMPLES].cpu(), truth.cpu(), hidden(mask)
        errors = []
        for time in torch.nonzero(missing[:-1] | missing[1:]).flatten().tolist():
            before, after = drawn[:, :, time], drawn[:, :, time + 1]
            there, back = estimate(before, after), estimate(after, before)
            gap = (back + warp(there, back)).square().sum(1)  # (S, H, W)
            most = SLACK * (back.square() + warp(there, back).square()).sum(1) + SLACK_PX2
            seen = (gap < most) * inside(back)[:, 0]
            seen = torch.where(seen.any((1, 2), keepdim=True), seen, 1.0)
            error = (warp(before, back) - after).square().mean(1) / 4  # [-1, 1] is twice as wide as 0-1
            errors.append((error * seen).sum((1, 2)) / seen.sum((1, 2)))
        keys = torch.nonzero(missing[:-1] != missing[1:]).flatten()
        jumps, true_jumps = (
            (video[..., keys + 1, :, :] - video[..., keys, :, :]).abs().mean((-4, -2, -1)) for video in (drawn, truth)
        )
        return {
            "warp": torch.stack(errors).double().mean() * 1000,
            "jump": (jumps - true_jumps).double().abs().mean() * 127.5,
        }

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        return {
            "warp_error": Figure(observed["warp"], "of 1000"),
            "jump_keys": Figure(observed["jump"], "of 255", higher_is_better=False),
        }

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {}


class TemporalLpips:
    """Of the first sample. tlp_alex, in thousandths: how far the LPIPS distance between neighbouring frames is from the one that
    the truth has there, above or below; mean over neighbours of which at least one was drawn. A frozen video is as wrong as
    a flickering one. Chu, Xie, Mayer, Leal-Taixe, Thuerey, *Learning Temporal Coherence via Self-Supervision for GAN-based
    Video Generation*, ACM TOG 2020 (tLP).
    """

    needs: ClassVar[tuple[str, ...]] = ("lpips-alex",)
    settings: Mapping[str, Any] = {"network": "lpips-alex", "version": "0.1", "samples": 1}

    def __init__(self, device: torch.device) -> None:
        self.network = Network(device)

    def observe(
        self, drawn: Float[Tensor, "s 3 t h w"], truth: Float[Tensor, "3 t h w"], mask: Bool[Tensor, " t"]
    ) -> dict[str, Tensor]:
        missing = hidden(mask).to(truth.device)
        ours, true = (self._changes(video)[(missing[:-1] | missing[1:]).cpu()] for video in (drawn[0], truth))
        return {"apart": (ours - true).abs() * 1000}

    def _changes(self, video: Float[Tensor, "3 t h w"]) -> Float[Tensor, " t1"]:
        seen = torch.cat([self.network.features(piece) for piece in video.movedim(1, 0).split(16)])
        return self.network.distance(seen[1:], seen[:-1]).double().cpu()

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        return {"tlp_alex": Figure(observed["apart"].mean(1), "of 1000", higher_is_better=False)}

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"tlp_alex_over_frames": observed["apart"].mean(0)}
