from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from douga.data import folder
from douga.data.folder import Folder
from douga.video.io import read_video, write_video

SIZE = (16, 24)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "videos"


def put(path: Path, frames: int = 4, seed: int = 0, fps: float = 25.0) -> Path:
    """A tiny video, or a folder of pictures where the name has no suffix."""
    coarse = torch.rand(3, frames, 4, 6, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    write_video(path, coarse.repeat_interleave(8, 2).repeat_interleave(8, 3), fps)
    return path


def splits(root: Path) -> dict[str, Folder]:
    return {split: Folder(root, split, SIZE) for split in Folder.splits}


def test_videos_gifs_and_frame_folders_at_any_depth(root: Path) -> None:
    put(root / "a.mp4", 4)
    put(root / "deep" / "er" / "b.gif", 5, seed=1)
    put(root / "deep" / "frames", 6)
    put(root / ".hidden" / "c.mp4")
    (root / "notes.txt").write_text("not a video")
    source = Folder(root, "train", SIZE)
    assert dict(zip(source.names, source.lengths, strict=True)) == {"a.mp4": 4, "deep/er/b.gif": 5, "deep/frames": 6}
    assert len(source) == 3
    assert source.damaged == []
    for index, name in enumerate(source.names):
        whole = source.clip(index, 0, source.lengths[index])
        assert torch.equal(whole, read_video(root / name, SIZE)[0])
        assert torch.equal(source.clip(index, 1, 2), whole[:, 1:3])


def test_a_folder_may_be_the_frames_themselves(root: Path) -> None:
    put(root, 7)
    source = Folder(root, "train", SIZE)
    assert source.lengths == [7]
    assert source.names == ["."]
    assert source.clip(0, 2, 3).shape == (3, 3, *SIZE)


def test_a_stable_split_that_shares_nothing(root: Path) -> None:
    for number in range(30):
        put(root / f"{number}.gif", 2, seed=number)
    first = {split: source.names for split, source in splits(root).items()}
    assert {split: len(names) for split, names in first.items()} == {"train": 24, "validation": 3, "test": 3}
    assert sorted(name for names in first.values() for name in names) == sorted(f"{n}.gif" for n in range(30))
    moved = root.rename(root.with_name("moved"))
    assert {split: source.names for split, source in splits(moved).items()} == first


@pytest.mark.parametrize(("videos", "test"), [(1, 0), (4, 0), (5, 1), (12, 1), (15, 2)])
def test_few_videos_are_for_training(root: Path, videos: int, test: int) -> None:
    for number in range(videos):
        put(root / f"{number}.gif", 2, seed=number)
    lengths = {split: len(source) for split, source in splits(root).items()}
    assert lengths == {"train": videos - 2 * test, "validation": test, "test": test}


def test_named_sub_folders_are_the_splits(root: Path) -> None:
    put(root / "train" / "a.mp4")
    put(root / "test" / "b")
    put(root / "elsewhere" / "c.mp4")
    assert {split: source.names for split, source in splits(root).items()} == {
        "train": ["train/a.mp4"],
        "validation": [],
        "test": ["test/b"],
    }
    (root / "train" / "a.mp4").unlink()
    with pytest.raises(FileNotFoundError, match="train"):
        Folder(root, "train", SIZE)


def test_damaged_videos_are_left_out_and_named(root: Path) -> None:
    train = root / "train"  # so that all are in one split
    put(train / "good.mp4")
    whole = put(train / "cut.mp4", 20).read_bytes()
    (train / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (train / "empty.mp4").touch()
    (train / "broken.avi").symlink_to(root / "gone.avi")
    put(train / "frames", 3)
    (train / "frames" / "0001.png").write_bytes(b"no picture")
    source = Folder(root, "train", SIZE)
    assert source.names == ["train/good.mp4"]
    assert [name for name, _ in source.damaged] == [
        f"train/{name}" for name in ("broken.avi", "cut.mp4", "empty.mp4", "frames")
    ]
    assert all(reason and "\n" not in reason for _, reason in source.damaged)


def test_only_damaged_videos_are_an_error(root: Path) -> None:
    root.mkdir()
    (root / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"every video .* damaged.*empty\.mp4") as error:
        Folder(root, "train", SIZE)
    assert "\n" not in str(error.value)


def test_the_most_common_fps_is_the_sources(root: Path) -> None:
    for number, fps in enumerate((30, 12, 30)):
        put(root / f"{number}.mp4", seed=number, fps=fps)
    assert Folder(root, "train", SIZE).fps == 30


def test_a_file_is_counted_once_until_it_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counted(path: Path, size: tuple[int, int]) -> tuple[Tensor, float]:
        read.append(path.name)
        return read_video(path, size)

    monkeypatch.setattr(folder, "read_video", counted)
    put(root / "a.gif", 4)
    put(root / "b", 3)
    first = Folder(root, "train", SIZE)
    assert sorted(read) == ["a.gif", "b"]
    again = Folder(root, "train", SIZE)
    assert len(read) == 2
    assert (again.lengths, again.stamp) == (first.lengths, first.stamp)

    put(root / "a.gif", 6, seed=1)
    os.utime(root / "b" / "0000.png", ns=(1, 1))
    changed = Folder(root, "train", SIZE)
    assert sorted(read[2:]) == ["a.gif", "b"]
    assert changed.lengths == [6, 3]
    assert changed.stamp != first.stamp

    (folder.cache_folder() / "lengths.json").write_text('{"half": [1')
    assert Folder(root, "train", SIZE).lengths == [6, 3]


def test_no_folder_nothing_in_it_unknown_split(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="videos"):
        Folder(root, "train", SIZE)
    with pytest.raises(FileNotFoundError, match="folder"):
        Folder(None, "train", SIZE)
    root.mkdir()
    for split in Folder.splits:
        with pytest.raises(FileNotFoundError, match="no videos and no pictures"):
            Folder(root, split, SIZE)
    with pytest.raises(ValueError, match="train, validation, test, not 'val'"):
        Folder(root, "val", SIZE)
