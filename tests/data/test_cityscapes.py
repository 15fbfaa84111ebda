from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from douga.core.contracts import Paired
from douga.data.cityscapes import CLASSES, THINGS, Cityscapes
from douga.video.io import read_image
from douga.video.ops import fit

SIZE = (16, 32)
RAW = (32, 64)


def put(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def put_snippet(root: Path, split: str, city: str, sequence: int, first: int, frames: int = 30) -> None:
    for number in range(first, first + frames):
        chance = np.random.default_rng((sequence, number))
        name = f"{split}/{city}/{city}_{sequence:06}_{number:06}"
        put(
            root / "leftImg8bit_sequence" / f"{name}_leftImg8bit.png",
            chance.integers(0, 256, (*RAW, 3), dtype=np.uint8),
        )
        labels = chance.integers(20, 28, RAW, dtype=np.uint8)
        put(root / "labels_sequence" / f"{name}_labelIds.png", labels)
        instances = np.where(labels >= 24, 1000 * labels.astype(np.uint16) + 3, labels)
        put(root / "instances_sequence" / f"{name}_instanceIds.png", instances.astype(np.uint16))


def write_set(folder: Path) -> None:
    put_snippet(folder, "train", "aachen", 0, 0)
    put_snippet(folder, "train", "aachen", 1, 0)
    put_snippet(folder, "train", "hamburg", 0, 313)
    put_snippet(folder, "train", "hamburg", 0, 600)
    put_snippet(folder, "train", "hamburg", 0, 630)  # follows the last one without a gap
    put_snippet(folder, "val", "lindau", 0, 0)
    put_snippet(folder, "test", "berlin", 0, 0)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cityscapes")
    write_set(folder)
    return folder


def put_sample(root: Path, sequences: int = 6, frames: int = 3) -> Path:
    for sequence in range(sequences):
        chance = np.random.default_rng(sequence)
        for frame in range(frames):
            place = root / f"seq{sequence:04}"
            put(place / "frames" / f"{frame:04}.png", chance.integers(0, 256, (*RAW, 3), dtype=np.uint8))
            put(place / "labels" / f"{frame:04}.png", chance.integers(0, 34, RAW, dtype=np.uint8))
            put(place / "instances" / f"{frame:04}.png", chance.choice([1, 7, 255], RAW).astype(np.uint8))
    (root / "stuttgart_00" / "labels").mkdir(parents=True)
    return root


def test_the_official_classes() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 34
    numbers = {"road": 7, "building": 11, "pole": 17, "sky": 23, "person": 24, "car": 26, "bus": 28, "bicycle": 33}
    assert {name: CLASSES.index(name) for name in numbers} == numbers
    assert {CLASSES[number] for number in THINGS} == {
        *("person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle")
    }


def test_snippets_of_the_official_folders(official: Path) -> None:
    train, test = (Cityscapes(official, split, SIZE) for split in Cityscapes.splits)
    assert isinstance(train, Paired)
    assert train.names == [
        "aachen_000000_000000",
        "aachen_000001_000000",
        "hamburg_000000_000313",
        "hamburg_000000_000600",
        "hamburg_000000_000630",
    ]
    assert test.names == ["lindau_000000_000000"]
    assert set(train.lengths) == set(test.lengths) == {30}
    assert (train.title, test.title, train.complete, train.damaged) == ("cityscapes-6", "cityscapes-6", False, [])
    place = "train/hamburg/hamburg_000000_000602_"
    assert torch.equal(
        train.clip(3, 2, 1)[:, 0], fit(read_image(official / "leftImg8bit_sequence" / f"{place}leftImg8bit.png"), SIZE)
    )
    stored = torch.from_numpy(
        np.array(Image.open(official / "labels_sequence" / f"{place}labelIds.png")).astype(np.int32)
    )
    whole = Cityscapes(official, "train", RAW).maps(3, 2, 1)[:, 0]
    assert torch.equal(whole[0], stored)
    assert torch.equal(whole[1], torch.where(stored >= 24, 1000 * stored + 3, 0))
    assert train.maps(3, 0, 4).shape == (2, 4, *SIZE)


def test_maps_are_needed_and_instances_are_not(official: Path, tmp_path: Path) -> None:
    for name in ("leftImg8bit_sequence", "labels_sequence"):
        (tmp_path / name).symlink_to(official / name)
    assert not Cityscapes(tmp_path, "train", SIZE).maps(0, 0, 2)[1].any()
    (tmp_path / "labels_sequence").unlink()
    with pytest.raises(ValueError, match=r"none of the 5 .* has its maps.* 30 frames and 0 labels"):
        Cityscapes(tmp_path, "train", SIZE)


def test_a_snippet_without_a_map_is_left_out_and_a_frame_without_instances_too(tmp_path: Path) -> None:
    for sequence in range(3):
        put_snippet(tmp_path, "train", "aachen", sequence, 0)
    name = "train/aachen/aachen_{:06}_000007_{}.png"
    (tmp_path / "labels_sequence" / name.format(1, "labelIds")).unlink()
    path = tmp_path / "instances_sequence" / name.format(2, "instanceIds")
    source = Cityscapes(tmp_path, "train", SIZE)
    path.unlink()
    again = Cityscapes(tmp_path, "train", SIZE)
    assert source.names == ["aachen_000000_000000", "aachen_000002_000000"]
    assert again.names == ["aachen_000000_000000"]
    assert [why for _, why in again.damaged] == [
        "it has 30 frames and 29 labels: each frame needs its map",
        "it has 30 frames and 29 instances: each frame needs its map",
    ]
    assert source.stamp != again.stamp


def test_maps_under_the_names_of_the_single_ones(tmp_path: Path) -> None:
    put_snippet(tmp_path, "train", "aachen", 0, 0)
    for part in ("labels", "instances"):
        for path in (tmp_path / f"{part}_sequence" / "train" / "aachen").iterdir():
            path.rename(path.with_name(path.name.replace(f"_{part[:-1]}Ids", f"_gtFine_{part[:-1]}Ids")))
    assert Cityscapes(tmp_path, "train", SIZE).maps(0, 0, 3)[1].any()


def test_a_frame_without_things_has_no_instances(tmp_path: Path) -> None:
    """Below 1000 the official coding gives the class."""
    put_snippet(tmp_path, "train", "aachen", 0, 0)
    path = tmp_path / "instances_sequence" / "train" / "aachen" / "aachen_000000_000000_instanceIds.png"
    put(path, np.full(RAW, 11, np.uint16))
    assert not Cityscapes(tmp_path, "train", SIZE).maps(0, 0, 1)[1].any()


def test_the_sample(tmp_path: Path) -> None:
    train, test = (Cityscapes(put_sample(tmp_path / split), split, RAW) for split in Cityscapes.splits)
    assert (train.names, test.names) == (["seq0000", "seq0001", "seq0002", "seq0003", "seq0005"], ["seq0004"])
    assert train.title == test.title == "cityscapes-sample6"
    labels = np.array(Image.open(tmp_path / "train" / "seq0001" / "labels" / "0002.png"))
    maps = train.maps(1, 2, 1)
    assert torch.equal(maps[0, 0], torch.from_numpy(labels).int())
    assert maps[1].unique().tolist() == [0, 1, 7]


def test_a_map_that_is_not_one(tmp_path: Path) -> None:
    source = Cityscapes(put_sample(tmp_path), "train", SIZE)
    put(tmp_path / "seq0000" / "labels" / "0001.png", np.full(RAW, 34, np.uint8))
    with pytest.raises(ValueError, match=r"0001\.png holds the class 34; there are 34 classes"):
        source.maps(0, 0, 3)
    put(tmp_path / "seq0000" / "labels" / "0001.png", np.zeros((8, 16), np.uint8))
    with pytest.raises(ValueError, match="16x8 and its frames are 64x32"):
        source.maps(0, 0, 3)


def test_nothing_there_and_unknown_splits(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cityscapes-dataset"):
        Cityscapes(tmp_path, "train", SIZE)
    put_snippet(tmp_path, "train", "aachen", 0, 0)
    with pytest.raises(FileNotFoundError, match="for test"):
        Cityscapes(tmp_path, "test", SIZE)
    with pytest.raises(ValueError, match="train, test, not 'val'"):
        Cityscapes(tmp_path, "val", SIZE)


def test_the_real_sample(real_data: Path) -> None:
    train, test = (Cityscapes(real_data / "cityscapes", split, (128, 256)) for split in Cityscapes.splits)
    assert (len(train), len(test), train.title) == (4, 1, "cityscapes-sample5")
    assert set(train.lengths) == {30}
    clip, (classes, instances) = test.clip(0, 5, 2), test.maps(0, 5, 2)
    assert clip.shape == (3, 2, 128, 256)
    road = classes == CLASSES.index("road")
    assert road[:, 100:].float().mean() > 0.3  # below
    assert clip[:, road].mean() < clip[:, classes == CLASSES.index("sky")].mean()
    assert (classes[instances > 0] == CLASSES.index("car")).float().mean() > 0.8
