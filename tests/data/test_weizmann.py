from __future__ import annotations

from pathlib import Path

import pytest
import torch

from douga.data.weizmann import Weizmann
from douga.video.io import write_image


def strip(path: Path, frames: int) -> None:
    """Frame t is grey with value t / 10 - 0.5."""
    values = torch.arange(frames).float() / 10 - 0.5
    write_image(path, values.repeat_interleave(64).expand(3, 64, -1).contiguous())


def test_strips_are_cut_into_frames_and_split_by_person(tmp_path: Path) -> None:
    for name, frames in (
        ("person01_bend", 5),
        ("person06_bend_mirrored", 3),
        ("person07_bend", 4),
        ("person08_bend", 2),
    ):
        strip(tmp_path / f"{name}.jpg", frames)
    train, test = (Weizmann(tmp_path, split, (64, 64)) for split in ("train", "test"))
    assert train.names == ["person01_bend", "person06_bend_mirrored"] and list(train.lengths) == [5, 3]
    assert test.names == ["person07_bend", "person08_bend"] and len(test) == 2
    clip = train.clip(0, 2, 3)
    assert clip.shape == (3, 3, 64, 64)
    assert clip.mean((0, 2, 3)).tolist() == pytest.approx([-0.3, -0.2, -0.1], abs=0.02)
    assert Weizmann(tmp_path, "train", (32, 48)).clip(0, 0, 1).shape == (3, 1, 32, 48)


def test_missing_strips_and_unknown_splits_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Weizmann strips"):
        Weizmann(tmp_path, "train", (64, 64))
    with pytest.raises(ValueError, match="train, test"):
        Weizmann(tmp_path, "validation", (64, 64))


def test_the_real_set(real_data: Path) -> None:
    train, test = (Weizmann(real_data / "weizmann", split, (64, 64)) for split in ("train", "test"))
    assert (len(train), len(test)) == (48, 16)
    assert min(*train.lengths, *test.lengths) > 16
    first, last = test.clip(0, 0, 1), test.clip(0, test.lengths[0] - 1, 1)
    assert first.abs().max() <= 1 and not torch.equal(first, last)
