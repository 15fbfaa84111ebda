from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from douga.core.contracts import Paired
from douga.data.apolloscape import Apolloscape

SIZE = (16, 20)
RAW = (32, 40)
LABELS = np.array([0, 17, 33, 161, 36, 49, 113, 255, 7, 40], np.uint8)
PLACES = [0, 2, 3, 3, 6, 11, 26, -1, -1, 10]  # of these among the classes


def put(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def put_video(root: Path, record: int, camera: int, frames: int = 6, road: str = "road01_ins") -> None:
    for frame in range(frames):
        chance = np.random.default_rng((record, camera, frame))
        place, name = f"Record{record:03}/Camera {camera}", f"170908_06150{frame}200_Camera_{camera}"
        coarse = chance.integers(0, 256, (4, 5, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        put(root / road / "ColorImage" / place / f"{name}.jpg", coarse)
        labels = np.tile(LABELS, (RAW[0], RAW[1] // len(LABELS)))
        put(root / road / "Label" / place / f"{name}_bin.png", labels)
        numbers = np.where(labels == 33, 33002, labels.astype(np.uint16)).astype(np.uint16)
        put(root / road / "Label" / place / f"{name}_instanceIds.png", numbers)


def write_set(folder: Path) -> None:
    for record in range(6):
        for camera in (5, 6):
            put_video(folder, record, camera)


def test_records_are_shared_out_with_both_cameras(tmp_path: Path) -> None:
    write_set(tmp_path)
    sources = [Apolloscape(tmp_path, split, SIZE) for split in Apolloscape.splits]
    assert [len(source) for source in sources] == [8, 2, 2]
    records = [{name.split("/")[1] for name in source.names} for source in sources]
    assert sum(len(names) for names in records) == len(set.union(*records)) == 6
    assert isinstance(sources[0], Paired)
    assert sources[0].fps == 1
    assert sources[0].names[0].startswith("road01_ins/Record") and sources[0].names[0].endswith("/Camera 5")


def test_official_numbers_become_places_in_the_list_of_classes(tmp_path: Path) -> None:
    put_video(tmp_path, 1, 5)
    source = Apolloscape(tmp_path, "train", RAW)
    classes, instances = source.maps(0, 2, 3)
    assert classes[0, 0, : len(LABELS)].tolist() == PLACES
    assert instances[0, 0, : len(LABELS)].tolist() == [0, 0, 33002, *[0] * 7]
    assert [source.classes[place] for place in (2, 3, 26)] == ["sky", "car", "vegetation"]
    assert {source.classes[place] for place in source.things} == {
        *("car", "motorcycle", "bicycle", "person", "rider", "truck", "bus", "tricycle")
    }
    assert Apolloscape(tmp_path, "train", SIZE).maps(0, 0, 2).shape == (2, 2, *SIZE)
    assert torch.equal(source.clip(0, 2, 1), source.clip(0, 0, 6)[:, 2:3])


def test_instances_are_not_needed_and_maps_are(tmp_path: Path) -> None:
    for camera in (5, 6):
        put_video(tmp_path, 1, camera)
    maps = tmp_path / "road01_ins" / "Label" / "Record001"
    for path in maps.rglob("*_instanceIds.png"):
        path.unlink()
    next((maps / "Camera 6").glob("*_bin.png")).unlink()
    source = Apolloscape(tmp_path, "train", SIZE)
    assert source.names == ["road01_ins/Record001/Camera 5"]
    assert source.damaged[0][0] == "road01_ins/Record001/Camera 6"
    assert "1 of 6 frames lack a map" in source.damaged[0][1]
    assert not source.maps(0, 0, 2)[1].any()
    next((maps / "Camera 5").glob("*_bin.png")).unlink()
    with pytest.raises(ValueError, match="no ApolloScape video for training"):
        Apolloscape(tmp_path, "train", SIZE)


def test_nothing_there_and_unknown_splits(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"apolloscape\.auto"):
        Apolloscape(tmp_path, "train", SIZE)
    with pytest.raises(ValueError, match="not 'val'"):
        Apolloscape(tmp_path, "val", SIZE)
