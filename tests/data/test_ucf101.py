from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from douga.core.clip import check_video
from douga.data import ucf101
from douga.data.ucf101 import LISTS_ORIGIN, ORIGIN, Ucf101
from douga.video.io import read_video

SIZE = (24, 24)
LEARNED = [f"ApplyEyeMakeup/v_ApplyEyeMakeup_g{g:02}_c{c:02}" for g in range(8, 13) for c in range(1, 5)]
TESTED = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "HandstandPushups/v_HandStandPushups_g02_c01"]


def put(path: Path, frames: int = 6, seed: int = 0) -> None:
    """A tiny video: a grey that grows by the frame, its left edge black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 1_000_000
        for n in range(frames):
            pixels = np.full((48, 64, 3), 20 + 20 * n + 2 * seed, np.uint8)
            pixels[:, :6] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def write_set(root: Path) -> None:
    """22 videos and the lists of the first split, in the official layout."""
    for seed, name in enumerate(LEARNED + TESTED):
        put(root / "UCF-101" / f"{name}.avi", seed=seed)
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_bytes("".join(f"{name}.avi 1\r\n" for name in LEARNED).encode())
    (lists / "testlist01.txt").write_bytes("".join(f"{name}.avi\r\n" for name in TESTED).encode())


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_set(tmp_path / "ucf101")
    return tmp_path / "ucf101"


def stems(names: list[str]) -> set[str]:
    return {name.rpartition("/")[2] for name in names}


def test_splits_are_the_official_lists_and_a_twentieth_for_validation(root: Path) -> None:
    names = {split: set(Ucf101(root, split, SIZE).names) for split in Ucf101.splits}
    assert names["test"] == stems(TESTED)
    assert len(names["validation"]) == 1
    assert names["train"] | names["validation"] == stems(LEARNED)
    assert not names["train"] & names["validation"]
    assert all(Ucf101(root, split, SIZE).damaged == [] for split in Ucf101.splits)


def test_a_part_of_the_set_has_the_splits_of_the_whole(root: Path) -> None:
    [held] = Ucf101(root, "validation", SIZE).names
    for name in LEARNED[::2]:
        if not name.endswith(held):
            (root / "UCF-101" / f"{name}.avi").unlink()
    (root / "ucfTrainTestlist" / "trainlist01.txt").write_text("".join(f"{name}.avi 7\n" for name in LEARNED[::-1]))
    assert Ucf101(root, "validation", SIZE).names == [held]


def test_clips_are_those_of_the_file_cut_to_a_square(root: Path) -> None:
    source = Ucf101(root, "test", SIZE)
    assert list(source.lengths) == [6, 6] and source.fps == 25
    whole = source.clip(0, 0, 6)
    assert torch.equal(whole, read_video(root / "UCF-101" / f"{TESTED[0]}.avi", SIZE)[0])
    assert torch.equal(source.clip(0, 2, 3), whole[:, 2:5])
    check_video(whole[None], "ucf101")
    assert whole[..., 0].min() > -0.95  # the black edge is outside the square
    assert Ucf101(root, "test", (24, 32)).clip(0, 0, 6)[..., 0].max() < -0.95


def test_names_that_differ_in_capitals_and_flat_folders(root: Path) -> None:
    (root / "UCF-101" / f"{TESTED[1]}.avi").rename(root / "v_HandstandPushups_g02_c01.avi")
    source = Ucf101(root, "test", SIZE)
    assert source.names == sorted(stems(TESTED))
    assert source.clip(1, 0, 2).shape == (3, 2, *SIZE)


def test_a_part_is_never_called_ucf101(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "v_Unlisted_g01_c01.avi")
    source = Ucf101(root, "test", SIZE)
    assert (source.complete, source.title) == (False, "ucf101-22")
    monkeypatch.setattr(ucf101, "VIDEOS", 22)
    whole = Ucf101(root, "test", SIZE)
    assert (whole.complete, whole.title) == (True, "ucf101")
    (root / "UCF-101" / f"{TESTED[0]}.avi").write_bytes(b"RIFF")
    assert Ucf101(root, "test", SIZE).title == "ucf101-21"
    (root / "UCF-101" / f"{TESTED[0]}.avi").unlink()
    assert Ucf101(root, "test", SIZE).title == "ucf101-21"


def test_damaged_and_unlisted_videos_are_left_out_and_named(root: Path) -> None:
    path = root / "UCF-101" / f"{TESTED[0]}.avi"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    put(root / "v_Unlisted_g01_c01.avi")
    put(root / "v_unlike_the_others.avi")
    put(root / "RATRACE_wave_f_nm_np1_fr_goo_37.avi")
    source = Ucf101(root, "test", SIZE)
    assert source.names == ["v_HandStandPushups_g02_c01"]
    reasons = dict(source.damaged)
    assert set(reasons) == {"v_ApplyEyeMakeup_g01_c01", "v_Unlisted_g01_c01"}
    assert "no list" in reasons["v_Unlisted_g01_c01"]
    for name in LEARNED:
        (root / "UCF-101" / f"{name}.avi").write_bytes(b"")
    with pytest.raises(ValueError, match="every UCF101 video for training") as error:
        Ucf101(root, "train", SIZE)
    assert "\n" not in str(error.value)


def test_what_is_missing_is_named_with_its_origin(root: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", None):
        with pytest.raises(FileNotFoundError, match=r"v_Action_gNN_cNN\.avi") as error:
            Ucf101(place, "train", SIZE)
        assert ORIGIN in str(error.value)
    with pytest.raises(ValueError, match="train, validation, test, not 'all'"):
        Ucf101(root, "all", SIZE)
    lists = root / "ucfTrainTestlist"
    (lists / "testlist01.txt").write_text("ApplyEyeMakeup\n")
    with pytest.raises(ValueError, match="names no videos") as error:
        Ucf101(root, "train", SIZE)
    (lists / "trainlist01.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"trainlist01\.txt") as error:
        Ucf101(root, "train", SIZE)
    assert LISTS_ORIGIN in str(error.value)


def test_real_videos(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ucf101"
    for path in [*folder.rglob("v_SoccerJuggling_g2[34]_c01.avi"), *folder.glob("[!v]*.avi"), *folder.glob("*.mp4")]:
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(FileNotFoundError, match=r"trainlist01\.txt"):
        Ucf101(tmp_path, "test", SIZE)
    (tmp_path / "trainlist01.txt").write_text("SoccerJuggling/v_SoccerJuggling_g23_c01.avi 84\n")
    (tmp_path / "testlist01.txt").write_text("SoccerJuggling/v_SoccerJuggling_g24_c01.avi\n")
    train, test = (Ucf101(tmp_path, split, (64, 64)) for split in ("train", "test"))
    assert (train.names, test.names) == (["v_SoccerJuggling_g23_c01"], ["v_SoccerJuggling_g24_c01"])
    assert train.damaged == test.damaged == []  # files of other sets are not taken for UCF101's
    assert train.title == "ucf101-2"
    clip = test.clip(0, 0, 20)
    assert test.lengths[0] > 100
    check_video(clip[None], "ucf101")
    assert (clip[:, 1:] - clip[:, :-1]).abs().max() > 0.1
