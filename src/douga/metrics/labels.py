"""Does a painted frame still show its map? A small network that was trained to read the maps off true frames tells."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save
from torch import Tensor, nn

from douga.core.contracts import Figure, Paired, Source
from douga.metrics.paired import hidden
from douga.nn.blocks import conv_block, up_block
from douga.nn.maps import padded

STEPS, FRAMES, WIDTH = 400, 8, 24
PIECE = 64  # frames looked at at once


class Segmenter(nn.Module):
    """Frame to class of each pixel: three scales, each with what was seen on the way down."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, w = classes, WIDTH
        self.at_full, self.at_half, self.at_quarter = (
            conv_block(3, w),
            conv_block(w, 2 * w, 3, 2),
            conv_block(2 * w, 4 * w, 3, 2),
        )
        self.at_eighth = nn.Sequential(conv_block(4 * w, 4 * w, 3, 2), conv_block(4 * w, 4 * w), up_block(4 * w, 4 * w))
        self.up_quarter, self.up_half = up_block(8 * w, 2 * w), up_block(4 * w, w)
        self.head = nn.Sequential(conv_block(2 * w, w), nn.Conv2d(w, classes, 1))

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k h w"]:
        """Logits. Sides are padded to a multiple of 8."""
        h, w = frames.shape[2:]
        full = self.at_full(padded(frames, 8))
        half = self.at_half(full)
        quarter = self.at_quarter(half)
        up = self.up_quarter(torch.cat([self.at_eighth(quarter), quarter], 1))
        up = self.up_half(torch.cat([up, half], 1))
        logits: Tensor = self.head(torch.cat([up, full], 1))
        return logits[..., :h, :w]


def learn(source: Paired, size: tuple[int, int]) -> Segmenter:
    """Train on frames of `source`, drawn by a fixed seed: about a minute at 128x64 on two cores. Kept in the cache."""
    key = [type(source).__name__, getattr(source, "stamp", ""), len(source), size, STEPS, FRAMES, WIDTH]
    name = f"{type(source).__name__.lower()}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.safetensors"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "douga" / "segmenters"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Segmenter(len(source.classes))
    if (folder / name).exists():
        network.load_state_dict(load_file(folder / name))
        return network.eval().requires_grad_(False)
    chance = np.random.default_rng(0)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for step in range(STEPS):
        frames, labels = [], []
        for video in chance.integers(len(source), size=FRAMES):
            start = int(chance.integers(source.lengths[int(video)]))
            frames.append(source.clip(int(video), start, 1)[:, 0])
            labels.append(source.maps(int(video), start, 1)[0, 0])
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / STEPS)
        with torch.enable_grad():
            loss = F.cross_entropy(network(torch.stack(frames)), torch.stack(labels).long(), ignore_index=-1)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
        optimiser.step()
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{name}.{os.getpid()}.partial"
    try:
        beside.write_bytes(save(network.state_dict()))
        os.replace(beside, folder / name)
    finally:
        beside.unlink(missing_ok=True)
    return network.eval().requires_grad_(False)


class Labels:
    """Of the first sample. Observes, for each drawn frame, how many pixels of each class the network calls what:

    label_accuracy: share of pixels that are called what the map says. label_iou: over the whole set, intersection over union,
    mean over the classes that occur. label_accuracy_true: the accuracy on the true frames, the most that can be hoped for.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    painted: ClassVar[bool] = True  # built with the source's training split too, and shown the maps

    def __init__(self, device: torch.device, source: Source | None = None, size: tuple[int, int] = (64, 64)) -> None:
        """Raises ValueError for a source without label maps. Without a source it can compute, but not observe."""
        self.device = device
        self.settings: Mapping[str, Any] = {}
        if source is not None:
            if not isinstance(source, Paired) or not source.classes:
                raise ValueError("the metric labels needs a source with label maps")
            self.network = learn(source, size).to(device)
            self.settings = self.settings_of(self.network)

    @staticmethod
    def settings_of(network: Segmenter) -> Mapping[str, Any]:
        digest = hashlib.sha256(b"".join(x.cpu().numpy().tobytes() for x in network.state_dict().values()))
        return {"steps": STEPS, "frames": FRAMES, "network": digest.hexdigest()[:16]}

    @torch.no_grad()
    def observe(
        self,
        drawn: Float[Tensor, "s 3 t h w"],
        truth: Float[Tensor, "3 t h w"],
        mask: Bool[Tensor, " t"],
        maps: Float[Tensor, "k t h w"],
    ) -> dict[str, Tensor]:
        missing = hidden(mask)
        one_hot = maps[:-1, missing]
        labels = torch.where(one_hot.any(0), one_hot.argmax(0), -1)  # (T, H, W)
        seen = {"drawn": drawn[0], "true": truth}
        return {name: self._confusion(video[:, missing], labels) for name, video in seen.items()}

    def _confusion(self, video: Float[Tensor, "3 t h w"], labels: Int[Tensor, "t h w"]) -> Int[Tensor, "t k k"]:
        """Of each frame: row the map's class, column the network's; counts."""
        frames = video.movedim(1, 0).to(self.device).split(PIECE)
        called = torch.cat([self.network(piece).argmax(1) for piece in frames]).cpu()
        labels, k = labels.cpu(), self.network.classes
        counts = []
        for want, got in zip(labels, called, strict=True):
            some = want >= 0
            counts.append(torch.bincount(want[some] * k + got[some], minlength=k * k).view(k, k))
        return torch.stack(counts)

    def compute(self, observed: Mapping[str, Tensor]) -> dict[str, Figure]:
        drawn, true = (_accuracy(observed[name].sum(1)) for name in ("drawn", "true"))
        counts = observed["drawn"].sum((0, 1)).double()
        union = counts.sum(0) + counts.sum(1) - counts.diagonal()
        iou = (counts.diagonal() / union)[counts.sum(1) > 0].mean()
        return {
            "label_accuracy": Figure(drawn, higher_is_better=True),
            "label_iou": Figure(iou, higher_is_better=True),
            "label_accuracy_true": Figure(true),
        }

    def curves(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"label_accuracy_over_frames": _accuracy(observed["drawn"]).mean(0)}


def _accuracy(counts: Int[Tensor, "*axes k k"]) -> Float[Tensor, "*axes"]:
    return counts.diagonal(dim1=-2, dim2=-1).sum(-1).double() / counts.sum((-2, -1)).clamp(min=1)
