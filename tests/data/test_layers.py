from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from douga.data.layers import FRAMES, Layers
from douga.data.loader import Loader
from douga.data.mixture import Clips, Mixture
from douga.video.ops import warp

SIZE = (64, 96)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos of smooth noise, each of one still."""
    root = tmp_path_factory.mktemp("pictures")
    for video in range(12):
        pixels = np.random.default_rng(video).integers(0, 256, (160, 220, 3), dtype=np.uint8)
        (root / "robot" / f"{video:02}").mkdir(parents=True)
        still = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(4))
        for frame in range(20):
            still.save(root / "robot" / f"{video:02}" / f"{frame}.png")
    return root


@pytest.fixture(scope="module")
def layers(pictures: Path) -> Layers:
    return Layers(pictures / "robot", "train", SIZE)


def errors(layers: Layers, index: int) -> tuple[Tensor, Tensor, Tensor]:
    video, flow, visible = layers.clip(index, 2, 12), layers.flow(index, 2, 12), layers.visible(index, 2, 12)[0]
    before, after = video[:, :-1].transpose(0, 1), video[:, 1:].transpose(0, 1)
    warped = (warp(before, flow.transpose(0, 1)) - after).abs().amax(1)
    return warped[visible], (before - after).abs().amax(1)[visible], warped[~visible]


def test_the_flow_explains_the_next_frame_where_it_is_visible(layers: Layers) -> None:
    warped, still, hidden = (torch.cat(part) for part in zip(*(errors(layers, k) for k in range(20)), strict=True))
    assert warped.mean() < 0.03
    assert warped.mean() < still.mean() / 3
    assert hidden.mean() > 3 * warped.mean()  # without it the mask would be for show


def test_motion_is_small_and_large_and_every_clip_moves(layers: Layers) -> None:
    reach = torch.tensor([float(layers.flow(k, 0, FRAMES).norm(dim=0).max()) for k in range(30)])
    assert reach.min() > 0.3
    assert reach.max() > 8


def test_a_picture_that_is_changed_changes_the_stamp(pictures: Path, tmp_path: Path) -> None:
    one = Layers(pictures / "robot", "train", SIZE).stamp
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    assert Layers(tmp_path, "train", SIZE).stamp != one


def test_a_single_video_is_cut_in_time_and_others_are_shared_out(pictures: Path, tmp_path: Path) -> None:
    parts = {split: Clips(pictures, split, (16, 16)) for split in Clips.splits}
    assert {split: len(part) for split, part in parts.items()} == {"train": 8, "test": 4}
    for frame in range(20):
        (tmp_path / "dance" / "one").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (frame * 10, 0, 0)).save(tmp_path / "dance" / "one" / f"{frame}.png")
    train, test = (Clips(tmp_path, split, (16, 16)) for split in ("train", "test"))
    assert (train.lengths, test.lengths) == ([16], [4])
    assert test.clip(0, 0, 1).mean() > train.clip(0, 15, 1).mean()  # the later frames are brighter


def test_the_mixture_trains_on_made_clips_too_but_is_not_tested_on_them(pictures: Path) -> None:
    train, test = (Mixture(pictures, split, (16, 16)) for split in ("train", "test"))
    assert sum(name.startswith("layers-") for name in train.names) == 600
    assert not any(name.startswith("layers-") for name in test.names)
    with pytest.raises(FileNotFoundError, match="none of weizmann"):
        Mixture(pictures / "robot", "train", (16, 16))


@pytest.mark.parametrize("augment", [(), ("flip",), ("reverse",), ("flip", "reverse")])
def test_motion_both_ways_stays_true_when_clips_are_turned_around(pictures: Path, augment: tuple[str, ...]) -> None:
    source = Mixture(pictures, "train", (64, 64))
    source.names, source.videos, source.lengths = source.names[8:16], source.videos[8:16], source.lengths[8:16]
    loader = Loader(source, size=(64, 64), frames=6, batch=6, augment=augment, moved=True)
    for step in range(2):
        batch = loader.batch(step)
        assert batch.flow is not None
        assert not batch.flow[:, :2, 0].any()
        assert not batch.flow[:, 2:, -1].any()
        for k in range(1, 5):
            frame = batch.video[:, :, k]
            for planes, other in ((slice(0, 2), k - 1), (slice(2, 4), k + 1)):
                moved = warp(batch.video[:, :, other], batch.flow[:, planes, k])
                assert (moved - frame).abs().mean() < 0.6 * (batch.video[:, :, other] - frame).abs().mean()
