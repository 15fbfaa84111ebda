from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from douga.core.contracts import Paired
from douga.data.driving import Driving
from douga.video.io import read_video, write_video

SIZE = (24, 40)


def noise(seed: int) -> Tensor:
    coarse = torch.rand(3, 6, 3, 5, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    return coarse.repeat_interleave(10, 2).repeat_interleave(10, 3)


def write_set(folder: Path, drives: int = 4) -> None:
    for drive in range(drives):
        for piece in range(2):
            name = f"av_{drive:08x}-1fd5_{piece}.mp4"
            write_video(folder / "frames" / name, noise(10 * drive + piece), 30)
            write_video(folder / "maps" / name, noise(10 * drive + piece + 1000), 30)


def drives_of(source: Driving) -> set[str]:
    return {name.rpartition("_")[0] for name in source.names}


def test_pieces_of_one_drive_stay_together(tmp_path: Path) -> None:
    write_set(tmp_path)
    train, test = (Driving(tmp_path, split, SIZE) for split in Driving.splits)
    assert isinstance(train, Paired)
    assert (len(train), len(test), train.fps, train.classes) == (4, 4, 30, ())
    assert not drives_of(train) & drives_of(test)
    path = tmp_path / "maps" / f"{test.names[1]}.mp4"
    assert torch.equal(test.maps(1, 2, 3), read_video(path, SIZE, 2, 3)[0])
    assert not torch.equal(test.maps(1, 2, 3), test.clip(1, 2, 3))


@pytest.mark.parametrize(("drives", "held_out"), [(1, 0), (2, 1), (3, 1)])
def test_a_third_of_the_drives_is_for_test(tmp_path: Path, drives: int, held_out: int) -> None:
    write_set(tmp_path, drives)
    assert len(drives_of(Driving(tmp_path, "test", SIZE))) == held_out
    assert len(drives_of(Driving(tmp_path, "train", SIZE))) == drives - held_out


def test_nothing_there_and_unknown_splits(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="av_SCENE_N"):
        Driving(tmp_path, "train", SIZE)
    with pytest.raises(ValueError, match="driving has the splits train, test, not 'validation'"):
        Driving(tmp_path, "validation", SIZE)


def test_the_real_pairs(real_data: Path) -> None:
    train, test = (Driving(real_data / "driving", split, (90, 160)) for split in Driving.splits)
    assert (len(train), len(test), train.damaged, test.damaged) == (6, 3, [], [])
    assert set(train.lengths) == set(test.lengths) == {30}
    maps = test.maps(0, 0, 3)
    assert maps.shape == (3, 3, 90, 160)
    assert maps.median() < test.clip(0, 0, 3).median()  # drawn on black
