from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from douga.data.loader import Decoded, Loader


class Counting:
    """A source whose frame says which video and which time it is; counts how often it is decoded."""

    splits, licence, endless, fps = ("train",), "none", False, 25.0

    def __init__(self, lengths: Sequence[int] = (20, 16, 9)) -> None:
        self.lengths, self.names = list(lengths), [f"video{i}" for i in range(len(lengths))]
        self.decoded = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def clip(self, index: int, start: int, length: int) -> Tensor:
        self.decoded += 1
        frames = torch.arange(start, start + length).float() / 127.5 - 1
        clip = frames[None, :, None, None].repeat(3, 1, 16, 16)
        clip[2] = index / 127.5 - 1
        clip[1, :, :, :8] = -1  # left half differs from the right one
        return clip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def load(source: Counting, **options: object) -> Loader:
    return Loader(source, **{"size": (16, 16), "frames": 16, "batch": 4, "seed": 3} | options)  # type: ignore[arg-type]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first, second = load(Counting()), load(Counting())
    assert torch.equal(first.batch(5).video, second.batch(5).video)
    assert torch.equal(first.batch(5).seeds, second.batch(5).seeds)
    assert not torch.equal(first.batch(5).seeds, first.batch(6).seeds)
    assert not torch.equal(first.batch(5).seeds, load(Counting(), seed=4).batch(5).seeds)


def test_processes_share_the_batch_of_one() -> None:
    whole = load(Counting()).batch(2)
    halves = [load(Counting(), rank=rank, world=2).batch(2) for rank in range(2)]
    assert torch.equal(torch.cat([half.video for half in halves]), whole.video)
    assert torch.equal(torch.cat([half.seeds for half in halves]), whole.seeds)
    with pytest.raises(ValueError, match="shared evenly"):
        load(Counting(), world=3)


def test_every_window_is_as_likely_and_consecutive() -> None:
    loader = load(Counting(), batch=600)
    video = ((loader.batch(0).video + 1) * 127.5).round().int()
    starts, which = video[:, 0, 0, 0, 0], video[:, 2, 0, 0, 0]
    assert torch.equal(video[:, 0, :, 0, 0], starts[:, None] + torch.arange(16))
    seen, counts = np.unique(np.stack([which, starts], 1), axis=0, return_counts=True)
    assert seen.tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [1, 0]]  # the third video is too short
    assert counts.min() > 60


def test_decoded_once_into_bytes(tmp_path: Path) -> None:
    source = Counting()
    loader = load(source)
    loader.batch(0), loader.batch(1)
    assert source.decoded == 3
    again = Counting()
    assert load(again).digest == loader.digest and again.decoded == 0
    assert Decoded(Counting([20, 16]), (16, 16)).digest != loader.digest
    assert not list(tmp_path.rglob("*.partial"))


def test_an_interrupted_decoding_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Counting()
    monkeypatch.setattr(source, "clip", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        load(source)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_while_decoding_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", full)
    with pytest.raises(OSError, match="No space"):
        load(Counting())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_augmentations_do_what_they_say() -> None:
    plain, source = load(Counting()).batch(0).video, Counting()
    flipped = load(source, augment=("flip",)).batch(0).video
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(3)) for a, b in zip(plain, flipped, strict=True))
    backward = load(source, augment=("reverse",), batch=16).batch(0).video
    steps = (backward[:, 0, 1, 0, 0] - backward[:, 0, 0, 0, 0]).sign().tolist()
    assert set(steps) == {-1.0, 1.0}
    coloured = load(source, augment=("colour", "shift")).batch(0).video
    assert coloured.shape == plain.shape and coloured.abs().max() <= 1 and not torch.equal(coloured, plain)
    with pytest.raises(ValueError, match="unknown augmentation"):
        load(source, augment=("fog",))


def test_too_short_videos_are_an_error() -> None:
    with pytest.raises(ValueError, match="no video has the 16 frames"):
        load(Counting([5, 9]))


def test_the_stream_goes_on_where_asked_and_hands_over_errors() -> None:
    loader = load(Counting())
    stream = loader.stream(7)
    assert torch.equal(next(stream).seeds, loader.batch(7).seeds)
    assert torch.equal(next(stream).seeds, loader.batch(8).seeds)
    stream.close()
    broken = load(Counting())
    broken._window = lambda pick: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        next(broken.stream(0))
