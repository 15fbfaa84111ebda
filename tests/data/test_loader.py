from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from douga.data.loader import AUGMENTATIONS, REFERENCES, Decoded, Loader, conditions, reference_flow


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


class Sliding:
    """A `Paired` source: a texture slides 2 px right and 1 down in each frame, and its labels with it. The number of an
    instance tells which video and which time it is."""

    splits, licence, endless, fps = ("train",), "none", False, 25.0
    things: frozenset[int] = frozenset({1})

    def __init__(self, lengths: Sequence[int] = (7, 6), classes: Sequence[str] = ("wall", "tile")) -> None:
        self.lengths, self.names = list(lengths), [f"video{i}" for i in range(len(lengths))]
        self.classes = classes
        self.height, self.width = 32, 48

    def __len__(self) -> int:
        return len(self.lengths)

    def _cut(self, pattern: Tensor, start: int, length: int) -> Tensor:
        windows = [
            pattern[..., 20 - t : 20 - t + self.height, 40 - 2 * t : 40 - 2 * t + self.width]
            for t in range(start, start + length)
        ]
        return torch.stack(windows, 1)

    def clip(self, index: int, start: int, length: int) -> Tensor:
        coarse = torch.rand(1, 3, 14, 23, generator=torch.Generator().manual_seed(index)) * 2 - 1
        pattern = torch.nn.functional.interpolate(coarse, (56, 92), mode="bicubic")[0].clamp(-1, 1)
        return self._cut(pattern, start, length)

    def maps(self, index: int, start: int, length: int) -> Tensor:
        if not self.classes:
            return -self.clip(index, start, length)
        y, x = torch.meshgrid(torch.arange(56), torch.arange(92), indexing="ij")
        labels = self._cut((((x // 9 + y // 9) % 3) - 1)[None], start, length)  # -1: no class
        numbers = torch.arange(start, start + length)[:, None, None] + 100 * index
        return torch.cat([labels, numbers.expand_as(labels)]).int()


class Exact(Sliding):
    """Knows its motion."""

    def flow(self, index: int, start: int, length: int) -> Tensor:
        return torch.tensor([-2.0, -1.0])[:, None, None, None].expand(2, length - 1, self.height, self.width)


class Formula(Exact):
    endless = True


def paint(source: Sliding, **options: object) -> Loader:
    asked = {"size": (32, 48), "frames": 4, "batch": 6, "seed": 3, "painted": True} | options
    return Loader(source, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [("wall", "tile"), ()])
@pytest.mark.parametrize("kind", [Sliding, Exact, Formula])
def test_maps_and_flow_are_those_of_the_frames(kind: type[Sliding], classes: Sequence[str]) -> None:
    source = kind(classes=classes)
    windows = set()
    for step in range(3):
        batch = paint(source).batch(step)
        assert batch.cond is not None and batch.flow is not None
        assert batch.cond.shape == (6, 3, 4, 32, 48) and batch.flow.shape == (6, 2, 4, 32, 48)
        assert torch.equal(batch.video, paint(source, painted=False).batch(step).video)
        for clip, cond, flow in zip(batch.video, batch.cond, batch.flow, strict=True):
            wholes = {(i, t): source.clip(i, t, 4) for i, n in enumerate(source.lengths) for t in range(n - 3)}
            (found,) = [window for window, whole in wholes.items() if (whole - clip).abs().max() < 0.01]
            windows.add(found)
            wanted = conditions(source, *found, 4)
            assert (wanted - cond).abs().max() <= (0 if classes or source.endless else 1 / 127)
            if classes:  # written out: one plane for each class, then the numbers
                labels, numbers = source.maps(*found, 4)
                assert torch.equal(cond, torch.stack([labels == 0, labels == 1, numbers]).float())
            assert not flow[:, 0].any()
            inner = flow[:, 1:, 6:-6, 8:-8] - torch.tensor([-2.0, -1.0])[:, None, None, None]
            assert inner.abs().mean() < (0.3 if kind is Sliding else 1e-6)  # by DIS, or exact
    assert len(windows) >= 5  # also those that do not begin a video


def test_the_reference_flow_is_whose_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def three(source: Tensor, target: Tensor) -> Tensor:
        asked.append(len(source))
        return torch.full((len(source), 2, *source.shape[2:]), 3.0)

    monkeypatch.setitem(REFERENCES, "raft", lambda: three)
    by_dis, by_raft = paint(Sliding()).batch(0), paint(Sliding(), reference="raft").batch(0)
    assert by_dis.flow is not None and by_raft.flow is not None and torch.equal(by_dis.video, by_raft.video)
    assert (by_raft.flow[:, :, 1:] == 3).all() and not by_raft.flow[:, :, 0].any() and (by_dis.flow != 3).all()
    assert set(asked) == {1}  # one pair at once
    exact = paint(Exact(), reference="raft").batch(0)
    assert exact.flow is not None and (exact.flow != 3).all()  # where it is known nobody is asked
    kept = len(asked)
    assert torch.equal(paint(Sliding(), reference="raft").batch(0).flow, by_raft.flow) and len(asked) == kept


def test_a_flipped_clip_is_flipped_with_its_maps_and_moves_the_other_way() -> None:
    plain, flipped = (paint(Exact(), augment=augment).batch(0) for augment in ((), ("flip",)))
    assert plain.cond is not None and flipped.cond is not None and flipped.flow is not None
    turned = 0
    for k in range(6):
        turns = torch.equal(flipped.video[k], plain.video[k].flip(3))
        turned += turns
        assert turns or torch.equal(flipped.video[k], plain.video[k])
        assert torch.equal(flipped.cond[k], plain.cond[k].flip(3) if turns else plain.cond[k])
        motion = torch.tensor([2.0 if turns else -2.0, -1.0])[:, None, None, None]
        assert torch.equal(flipped.flow[k, :, 1:], motion.expand(2, 3, 32, 48))
    assert 0 < turned < 6


def test_other_augmentations_keep_maps_and_frames_together() -> None:
    """The maps of this source are its frames, inverted."""
    moved = paint(Formula(classes=()), augment=("flip", "shift")).batch(0)
    assert moved.cond is not None and torch.equal(moved.cond, -moved.video)
    assert not torch.equal(moved.video, paint(Formula(classes=())).batch(0).video)
    coloured = paint(Formula(), augment=("colour",)).batch(0)
    plain = paint(Formula()).batch(0)
    assert coloured.cond is not None and plain.cond is not None and coloured.flow is not None
    assert not torch.equal(coloured.video, plain.video)
    assert torch.equal(coloured.cond, plain.cond) and torch.equal(coloured.flow, plain.flow)  # type: ignore[arg-type]


def test_what_painters_cannot_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="counting has no maps"):
        load(Counting(), painted=True)
    with pytest.raises(ValueError, match="reverse is not for painting"):
        paint(Sliding(), augment=AUGMENTATIONS)
    assert not reference_flow(Exact(), 0, 2, 1).any()  # a single frame has none before it
    assert reference_flow(Exact(), 0, 2, 1).shape == (2, 1, 32, 48)
