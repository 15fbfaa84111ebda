from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from douga.core.clip import check_video
from douga.core.contracts import Source
from douga.data.dsprites import FILE, VIDEOS, Dsprites
from douga.video.ops import resize

GRID = (1, 2, 1, 18, 12, 12)  # orientation: 17 steps to a turn, and the last value is the first again


def picture(classes: np.ndarray) -> np.ndarray:
    """(64, 64) uint8: a block at x, y with a dot for the orientation in the top row and one for the shape in the second."""
    drawn = np.zeros((64, 64), np.uint8)
    _, shape, _, turn, x, y = classes
    drawn[10 + 4 * y : 14 + 4 * y, 10 + 4 * x : 14 + 4 * x] = 1
    drawn[0, turn % 17] = drawn[1, shape] = 1
    return drawn


def write_set(folder: Path) -> None:
    """A small grid in the official layout."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = np.indices(GRID).reshape(6, -1).T
    most = np.maximum(np.array(GRID) - 1, 1)
    values = classes / most * (1, 2, 0.5, 2 * np.pi, 1, 1) + (1, 1, 0.5, 0, 0, 0)
    pictures = np.stack([picture(point) for point in classes])
    metadata = np.array({"title": "a small grid"}, dtype=object)
    np.savez_compressed(folder / FILE, metadata=metadata, imgs=pictures, latents_classes=classes, latents_values=values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dsprites")
    write_set(folder)
    return folder


@pytest.mark.parametrize("split", VIDEOS)
def test_frames_are_the_pictures_of_the_grid_points_of_a_straight_path(folder: Path, split: str) -> None:
    source = Dsprites(folder, split, (64, 64))
    assert isinstance(source, Source)
    assert (len(source), source.lengths[0]) == VIDEOS[split]
    for index in range(30):
        points, frames = source.latents[index], source.lengths[index]
        clip = source.clip(index, 0, frames)
        check_video(clip[None], "dsprites")
        for point, frame in zip(points, clip.transpose(0, 1), strict=True):
            expected = torch.from_numpy(picture(point)).float() * 2 - 1
            assert torch.equal(frame, expected.expand(3, 64, 64))
        assert torch.equal(source.clip(index, 1, 2), clip[:, 1:3])
        assert torch.equal(source.clip(index, 2, 99), clip[:, 2:])  # it ends with the video


@pytest.mark.parametrize("split", VIDEOS)
def test_steps_are_equal_x_moves_and_the_orientation_takes_the_shorter_arc(folder: Path, split: str) -> None:
    latents = Dsprites(folder, split, (64, 64)).latents
    frames = latents.shape[1]
    assert latents.min() == 0
    assert (latents < GRID).all()
    steps = np.diff(latents, axis=1)
    steps[..., 3] = (steps[..., 3] + 8) % 17 - 8
    assert (steps == steps[:, :1]).all()
    assert (steps[:, 0, :3] == 0).all()
    assert (steps[:, 0, 4] != 0).all()
    assert (abs(steps[:, 0, 3]) * (frames - 1) <= 17 / 2).all()
    assert (latents[..., 3] < 17).all()  # the last orientation is the first one
    for factor in (3, 4, 5):
        assert {-1, 0, 1} - ({0} if factor == 4 else set()) <= set(np.sign(steps[:, 0, factor]))
    assert latents[:, 0, 4:].max() == 11  # the edges of the grid are reached
    assert len(np.unique(latents[:, 0], axis=0)) > 0.2 * min(len(latents), np.prod(GRID))


def test_where_the_last_orientation_is_not_the_first_a_turn_has_one_step_more(folder: Path, tmp_path: Path) -> None:
    with np.load(folder / FILE) as file:
        values = file["latents_values"] * (1, 1, 1, 17 / 18, 1, 1)
        np.savez(tmp_path / FILE, imgs=file["imgs"], latents_classes=file["latents_classes"], latents_values=values)
    assert Dsprites(folder, "test", (64, 64)).turn == 17
    assert Dsprites(tmp_path, "test", (64, 64)).turn == 18


def test_two_readers_agree_and_another_size_is_resized(folder: Path) -> None:
    one, other = (Dsprites(folder, "train", (64, 64)) for _ in range(2))
    other.clip(5, 0, 1)
    assert torch.equal(one.clip(3, 0, 3), other.clip(3, 0, 3))
    small = Dsprites(folder, "train", (32, 48)).clip(3, 0, 3)
    assert torch.equal(small, resize(one.clip(3, 0, 3), (32, 48)))
    assert one.stamp == other.stamp


def test_only_the_pictures_of_the_split_are_kept(folder: Path) -> None:
    source = Dsprites(folder, "test", (64, 64))
    rows, pictures = source._pictures
    assert pictures.dtype == np.uint8
    assert len(rows) == len(pictures) == len(np.unique(source.latents.reshape(-1, 6), axis=0))
    assert len(rows) < np.prod(GRID)


def test_what_is_missing_or_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no dsprites_ndarray_.*npz in .*nowhere; .*github\.com"):
        Dsprites(tmp_path / "nowhere", "train", (64, 64))
    with pytest.raises(FileNotFoundError, match="no folder"):
        Dsprites(None, "train", (64, 64))
    with pytest.raises(ValueError, match="train, validation, test, not 'valid'"):
        Dsprites(folder, "valid", (64, 64))
    (tmp_path / FILE).write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="can't be read"):
        Dsprites(tmp_path, "train", (64, 64))
    with np.load(folder / FILE) as file:
        arrays = {name: file[name] for name in ("imgs", "latents_classes", "latents_values")}
    np.savez(tmp_path / FILE, **arrays | {"latents_classes": arrays["latents_classes"][::-1]})
    with pytest.raises(ValueError, match="every combination in order"):
        Dsprites(tmp_path, "train", (64, 64))
    np.savez(tmp_path / FILE, **arrays | {"imgs": arrays["imgs"][:, :32]})
    with pytest.raises(ValueError, match="the pictures of"):
        Dsprites(tmp_path, "train", (64, 64)).clip(0, 0, 1)
