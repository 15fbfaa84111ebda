from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from douga.core.clip import check_video
from douga.data import kth
from douga.data.kth import ORIGIN, Kth
from douga.video.io import read_video

SIZE = (32, 32)
SEQUENCES = (
    "person01_boxing_d1\t\tframes\t1-4, 5-9\r\n"
    "person02_walking_d4\t\tframes\t2-5, 8-40, 50-60\r\n"
    "\r\n"
    "person13_handclapping_d3\t*missing*\r\n"
    "person16_running_d2 frames 1-6\r\n"
    "person17_jogging_d3\tframes\t1-3,4-6,\t7-9"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def put(path: Path, frames: int = 10, first: int = 20) -> None:
    """160x120 as the originals are; frame n is as bright as first + 20 n, its left edge is black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.bit_rate = 2_000_000
        for n in range(frames):
            pixels = np.full((120, 160, 3), first + 20 * n, np.uint8)
            pixels[:, :16] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "kth"
    put(root / "person01_boxing_d1_uncomp.avi")
    put(root / "walking" / "person02_walking_d4_uncomp.avi")
    put(root / "person16_running_d2_uncomp.mp4")
    put(root / "person17_jogging_d3_uncomp.avi", 9)
    (root / "00sequences.txt").write_bytes(SEQUENCES.encode())
    return root


def brightness(clip: Tensor) -> list[int]:
    """Which frame of the file each one is, counted from 1."""
    levels = (clip.mean((0, 2, 3)) + 1) * 127.5
    return [round((level - 20) / 20) + 1 for level in levels.tolist()]


def test_a_video_is_an_official_range(root: Path) -> None:
    source = Kth(root, "train", SIZE)
    assert source.names == ["person01_boxing_d1_1-4", "person01_boxing_d1_5-9"] + [
        f"person02_walking_d4_{frames}" for frames in ("2-5", "8-40")
    ]
    assert source.lengths == [4, 5, 4, 3]  # the last one ends with the file
    assert source.damaged == [("person02_walking_d4_50-60", "the video has the frames 1-10")]
    ranges = [brightness(source.clip(index, 0, source.lengths[index])) for index in range(len(source))]
    assert ranges == [[1, 2, 3, 4], [5, 6, 7, 8, 9], [2, 3, 4, 5], [8, 9, 10]]
    assert brightness(source.clip(1, 2, 2)) == [7, 8]
    check_video(source.clip(0, 0, 4)[None], "kth")


def test_the_middle_square_is_kept(root: Path) -> None:
    square = Kth(root, "train", (60, 60)).clip(0, 3, 1)
    wide = Kth(root, "train", (60, 80)).clip(0, 3, 1)
    assert square[..., 0].min() > -0.5  # the black edge is outside the square
    assert wide[..., 0].max() < -0.9


def test_splits_by_person(root: Path) -> None:
    persons = {split: {name[6:8] for name in Kth(root, split, SIZE).names} for split in Kth.splits}
    assert persons == {"train": {"01", "02"}, "validation": {"16"}, "test": {"17"}}
    assert [*kth.PERSONS["train"], *kth.PERSONS["validation"], *kth.PERSONS["test"]] == list(range(1, 26))


def test_the_original_goes_before_the_copy(root: Path) -> None:
    put(root / "a" / "person01_boxing_d1_uncomp.mp4", first=60)
    source = Kth(root, "train", SIZE)
    assert len(source) == 4
    assert brightness(source.clip(0, 0, 4)) == [1, 2, 3, 4]


def test_two_readers_agree_in_any_order(root: Path) -> None:
    one, other = Kth(root, "train", SIZE), Kth(root, "train", SIZE)
    other.clip(2, 0, 4)
    one.clip(0, 0, 4).zero_()  # what was handed out belongs to the caller
    assert torch.equal(one.clip(0, 0, 4), other.clip(0, 0, 4))
    assert one.stamp == other.stamp


def test_a_file_is_decoded_once_for_its_ranges(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, read = Kth(root, "train", SIZE), []
    monkeypatch.setattr(kth, "read_video", lambda path, size: read.append(path.name) or read_video(path, size))
    for index, length in enumerate(source.lengths):
        source.clip(index, 0, length)
    assert read == ["person01_boxing_d1_uncomp.avi", "person02_walking_d4_uncomp.avi"]


def test_a_part_is_never_called_kth(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Kth(root, "test", SIZE)
    assert (source.complete, source.title) == (False, "kth4")
    monkeypatch.setattr(kth, "VIDEOS", 4)
    whole = Kth(root, "test", SIZE)
    assert (whole.complete, whole.title) == (True, "kth")
    (root / "person17_jogging_d3_uncomp.avi").write_bytes(b"RIFF")
    assert Kth(root, "test", SIZE).title == "kth3"


def test_damaged_and_unlisted_videos_are_left_out_and_named(root: Path) -> None:
    whole = (root / "person01_boxing_d1_uncomp.avi").read_bytes()
    (root / "person01_boxing_d1_uncomp.avi").write_bytes(whole[: len(whole) // 2])
    put(root / "person03_boxing_d1_uncomp.avi", 2)
    source = Kth(root, "train", SIZE)
    assert {name[:18] for name in source.names} == {"person02_walking_d"}
    reasons = dict(source.damaged)
    assert "damaged" in reasons["person01_boxing_d1"]
    assert "no frame ranges" in reasons["person03_boxing_d1"]
    (root / "walking" / "person02_walking_d4_uncomp.avi").write_bytes(b"")
    with pytest.raises(ValueError, match="every KTH video for training"):
        Kth(root, "train", SIZE)


def test_what_is_missing_is_named_with_its_origin(root: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", None):
        with pytest.raises(FileNotFoundError, match=r"personNN_action_dK_uncomp\.avi") as error:
            Kth(place, "train", SIZE)
        assert ORIGIN in str(error.value)
    (root / "00sequences.txt").write_text("Lists of the sequences\n")
    with pytest.raises(ValueError, match="no frame ranges"):
        Kth(root, "train", SIZE)
    (root / "00sequences.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"00sequences\.txt") as error:
        Kth(root, "train", SIZE)
    assert ORIGIN in str(error.value)
    with pytest.raises(ValueError, match="train, validation, test, not 'all'"):
        Kth(root, "all", SIZE)


def test_real_videos(real_data: Path) -> None:
    sources = {split: Kth(real_data / "kth", split, SIZE) for split in Kth.splits}
    files = {path.stem for path in (real_data / "kth").glob("person*")}
    assert sum(len({name.rpartition("_")[0] for name in source.names}) for source in sources.values()) == len(files)
    for source in sources.values():
        assert source.damaged == []
        assert source.complete is (len(files) == kth.VIDEOS)
        assert source.title == ("kth" if source.complete else f"kth{len(files)}")
    source = sources["test"]
    clip = source.clip(0, 0, source.lengths[0])
    check_video(clip[None], "kth")
    assert (clip[:, 1:] - clip[:, :-1]).abs().max() > 0.1  # somebody moves
    assert clip.std(0).max() < 0.02  # grey
