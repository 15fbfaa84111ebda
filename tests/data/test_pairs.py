from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from douga import api
from douga.core.contracts import Paired
from douga.data.pairs import Faces, Pairs, Pose
from douga.video.io import read_labels, read_video, to_uint8, write_video
from douga.video.ops import fit, fit_labels

SIZE = (16, 24)
CLASSES = "road\n*car\n*person\nsky\n"


def noise(frames: int, seed: int, height: int = 30, width: int = 50) -> Tensor:
    """(3, T, H, W): coarse enough for a video codec."""
    coarse = torch.rand(3, frames, height // 10, width // 10, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    return coarse.repeat_interleave(10, 2).repeat_interleave(10, 3)


def put_maps(folder: Path, values: np.ndarray) -> None:
    """(T, H, W) numbers as 0.png, 1.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, numbers in enumerate(values):
        Image.fromarray(numbers).save(folder / f"{frame}.png")


def labels(frames: int, seed: int, height: int = 30, width: int = 50, top: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (frames, height, width), dtype=np.uint8)


def put_pair(root: Path, name: str, seed: int, frames: int = 6) -> None:
    """A video with label maps and instances."""
    write_video(root / "frames" / name, noise(frames, seed), 25)
    put_maps(root / "maps" / name, labels(frames, seed))
    put_maps(root / "instances" / name, labels(frames, seed + 100).astype(np.uint16))


def write_set(folder: Path) -> None:
    for number in range(6):
        put_pair(folder, f"video{number}", number)
    (folder / "classes.txt").write_text(CLASSES)


def one(root: Path, name: str = "a") -> Path:
    put_pair(root, name, 0)
    (root / "classes.txt").write_text(CLASSES)
    return root


def refused(root: Path) -> str:
    """What a user is told."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        Pairs(root, "train", SIZE)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_labels_and_instances_come_with_their_frames(tmp_path: Path) -> None:
    write_set(tmp_path)
    seen = []
    for split in Pairs.splits:
        source = Pairs(tmp_path, split, SIZE)
        assert isinstance(source, Paired)
        assert (source.classes, source.things) == (("road", "car", "person", "sky"), {1, 2})
        seen += source.names
        for index, name in enumerate(source.names):
            seed = int(name.removeprefix("video"))
            maps = source.maps(index, 1, 3)
            assert maps.dtype == torch.int32
            stored = torch.from_numpy(np.stack([labels(6, seed), labels(6, seed + 100)])).int()
            assert torch.equal(maps, fit_labels(stored[:, 1:4], SIZE))
            assert torch.equal(source.clip(index, 1, 3), read_video(tmp_path / "frames" / name, SIZE, 1, 3)[0])
    assert sorted(seen) == [f"video{number}" for number in range(6)]


def test_maps_and_frames_are_cut_alike(tmp_path: Path) -> None:
    """A white square in the picture is the class 1 in the map, at any size."""
    frames = torch.full((3, 2, 40, 100), -1.0)
    frames[:, :, 10:30, 60:80] = 1
    write_video(tmp_path / "frames", frames, 25)
    put_maps(tmp_path / "maps", (frames[0] > 0).numpy().astype(np.uint8))
    (tmp_path / "classes.txt").write_text("ground\nsquare")
    for size in ((40, 100), (20, 50), (20, 20), (80, 120)):
        source = Pairs(tmp_path, "train", size)
        assert source.names == ["."]
        clip, maps = source.clip(0, 0, 2), source.maps(0, 0, 2)
        assert ((clip[0] > 0) != (maps[0] == 1)).float().mean() <= 0.03
        assert (maps[0] == 1).any()


@pytest.mark.parametrize("old", [(7, 9), (30, 50), (64, 48)])
@pytest.mark.parametrize("new", [(7, 9), (16, 24), (90, 31)])
def test_the_nearest_label_is_the_one_at_the_same_place(old: tuple[int, int], new: tuple[int, int]) -> None:
    rows = torch.arange(old[0] * old[1]).reshape(old)
    got = fit_labels(rows, new)
    # The coordinates of the pixels' middles, taken through the same cut and a bilinear resize, differ by half a pixel.
    y = (rows // old[1]).float() / old[0]
    x = (rows % old[1]).float() / old[1]
    for place, of in ((y, got // old[1] / old[0]), (x, got % old[1] / old[1])):
        step = 1 / min(old)
        assert (fit(place[None], new)[0] - of)[1:-1, 1:-1].abs().max() <= 0.75 * step
    assert got.dtype == rows.dtype


def test_pictures_as_maps_in_video_files(tmp_path: Path) -> None:
    for number in range(2):
        write_video(tmp_path / "train" / "frames" / "deep" / f"{number}.mp4", noise(5, number), 30)
        write_video(tmp_path / "train" / "maps" / "deep" / f"{number}", noise(5, number + 50), 25)
    write_video(tmp_path / "test" / "frames" / "0.mp4", noise(4, 9), 30)
    write_video(tmp_path / "test" / "maps" / "0.gif", noise(4, 10), 25)
    train, validation, test = (Pairs(tmp_path, split, SIZE) for split in Pairs.splits)
    assert (train.names, validation.names, test.names) == (["train/deep/0", "train/deep/1"], [], ["test/0"])
    assert (list(train.lengths), train.fps, train.classes) == ([5, 5], 30, ())
    maps = train.maps(1, 2, 2)
    assert torch.equal(maps, read_video(tmp_path / "train" / "maps" / "deep" / "1", SIZE, 2, 2)[0])
    assert isinstance(train, Paired)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_255_is_no_class_and_a_palette_is_its_numbers(tmp_path: Path, mode: str) -> None:
    one(tmp_path)
    values = labels(6, 3)
    values[:, :5] = 255
    for frame, numbers in enumerate(values):
        picture = Image.fromarray(numbers)
        if mode == "P":
            picture.putpalette([(7 * i) % 256 for i in range(768)])
        picture.save(tmp_path / "maps" / "a" / f"{frame}.png")
    maps = Pairs(tmp_path, "train", (30, 50)).maps(0, 0, 6)[0]
    assert torch.equal(maps, torch.from_numpy(values).int().where(torch.from_numpy(values) != 255, -1))


def test_instances_as_cityscapes_writes_them(tmp_path: Path) -> None:
    one(tmp_path)
    put_maps(tmp_path / "instances" / "a", np.tile(np.array([0, 3, 1000, 1001, 2001], np.uint16), (6, 30, 10)))
    maps = Pairs(tmp_path, "train", (30, 50)).maps(0, 0, 1)
    assert maps[1, 0, 0, :5].tolist() == [0, 0, 1000, 1001, 2001]  # of class 1 number 0 is a thing too, 3 is a class


def test_a_frame_without_things_as_cityscapes_writes_it(tmp_path: Path) -> None:
    one(tmp_path)
    there = Pairs(tmp_path, "train", (30, 50)).maps(0, 0, 6)[0].numpy()
    put_maps(tmp_path / "instances" / "a", there.astype(np.uint16))
    assert there.any()
    assert not Pairs(tmp_path, "train", (30, 50)).maps(0, 0, 6)[1].any()


def test_pictures_in_a_folder_count_by_number(tmp_path: Path) -> None:
    put_pair(tmp_path, "a", 5, frames=12)  # 0.png ... 11.png
    (tmp_path / "classes.txt").write_text(CLASSES)
    source = Pairs(tmp_path, "train", (30, 50))
    assert torch.equal(source.maps(0, 0, 12)[0], torch.from_numpy(labels(12, 5)).int())


def test_what_lacks_its_partner_or_differs_in_number_is_left_out_and_told(tmp_path: Path) -> None:
    for name in "abcd":
        put_pair(tmp_path / "train", name, ord(name))
    (tmp_path / "classes.txt").write_text(CLASSES)
    for path in (tmp_path / "train" / "maps" / "b").iterdir():
        path.unlink()
    (tmp_path / "train" / "maps" / "c" / "5.png").unlink()
    (tmp_path / "train" / "frames" / "d" / "0003.png").write_bytes(b"no picture")
    source = Pairs(tmp_path, "train", SIZE)
    assert source.names == ["train/a"]
    told = dict(source.damaged)
    assert told["train/b"] == "it is in frames/ and instances/ but not in maps/"
    assert "6 in frames/, 5 in maps/, 6 in instances/" in told["train/c"]
    assert "0003.png" in told["train/d"]


def test_nothing_usable_is_an_error_that_says_why(tmp_path: Path) -> None:
    one(tmp_path)
    (tmp_path / "maps" / "a" / "5.png").unlink()
    assert "none of the 1 videos" in refused(tmp_path) and "5 in maps/" in refused(tmp_path)


def test_a_class_that_there_is_not(tmp_path: Path) -> None:
    values = labels(6, 0)
    values[2, 3, 4] = 9
    put_maps(one(tmp_path) / "maps" / "a", values)
    source = Pairs(tmp_path, "train", SIZE)
    assert source.maps(0, 0, 2).shape == (2, 2, *SIZE)
    with pytest.raises(ValueError, match=r"2\.png holds the class 9; there are 4 classes, 0 to 3, and 255 for none"):
        source.maps(0, 0, 6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_coloured_label_maps(tmp_path: Path, mode: str) -> None:
    one(tmp_path)
    Image.new(mode, (50, 30)).save(tmp_path / "maps" / "a" / "0.png")
    assert f"0.png (PNG, {mode}) is not a label map: save it as a PNG in 8-bit grey" in refused(tmp_path)


def test_label_maps_in_a_video_file(tmp_path: Path) -> None:
    one(tmp_path)
    for path in (tmp_path / "maps" / "a").iterdir():
        path.unlink()
    write_video(tmp_path / "maps" / "a.mp4", noise(6, 0), 25)
    assert "save them as PNGs in a folder" in refused(tmp_path)


@pytest.mark.parametrize("part", ["maps", "instances"])
def test_maps_of_another_size(tmp_path: Path, part: str) -> None:
    put_maps(one(tmp_path) / part / "a", labels(6, 0, 32, 50))
    assert "is 50x32 and its frames are 50x30: bring both to one size" in refused(tmp_path)


def test_pictures_of_another_size(tmp_path: Path) -> None:
    write_video(tmp_path / "frames" / "a", noise(3, 0), 25)
    write_video(tmp_path / "maps" / "a", noise(3, 0, 60, 100), 25)
    assert "is 100x60 and its frames are 50x30" in refused(tmp_path)


def test_two_of_one_name(tmp_path: Path) -> None:
    write_video(one(tmp_path) / "frames" / "a.mp4", noise(6, 0), 25)
    assert "same name" in refused(tmp_path)


def test_instances_without_classes(tmp_path: Path) -> None:
    (one(tmp_path) / "classes.txt").unlink()
    assert "classes.txt" in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"), [("", "empty line"), ("a\n\nb\n", "empty line"), ("a\n*a", "'a' twice"), ("*", "empty line")]
)
def test_a_list_of_classes_that_cannot_be_read(tmp_path: Path, text: str, told: str) -> None:
    (one(tmp_path) / "classes.txt").write_text(text)
    assert told in refused(tmp_path)


def test_missing_folders_and_unknown_splits(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="put videos into frames/"):
        Pairs(None, "train", SIZE)
    for kind, command in ((Faces, "douga data prepare edges VIDEO"), (Pose, "douga data prepare pose VIDEO")):
        for place in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(FileNotFoundError, match=command):
                kind(place, "train", SIZE)
    with pytest.raises(ValueError, match="faces has the splits train, validation, test, not 'val'"):
        Faces(tmp_path, "val", SIZE)


def test_another_file_is_another_stamp(tmp_path: Path) -> None:
    before = Pairs(one(tmp_path), "train", SIZE).stamp
    put_maps(tmp_path / "maps" / "a", labels(6, 7, top=3))
    assert Pairs(tmp_path, "train", SIZE).stamp != before


def test_label_maps_are_read_without_loss_beside_pictures_read_as_such(tmp_path: Path) -> None:
    one(tmp_path)
    assert read_labels(tmp_path / "maps" / "a" / "0.png").max() == 3
    assert to_uint8(read_video(tmp_path / "maps" / "a")[0]).max() == 3


def test_a_check_says_in_words_what_the_maps_are(tmp_path: Path) -> None:
    for name in "ab":
        put_pair(tmp_path / "train", name, ord(name))
    (tmp_path / "classes.txt").write_text(CLASSES + "tram\n")
    values = labels(6, 0)
    values[3, 0, 0] = 77
    put_maps(tmp_path / "train" / "maps" / "b", values)
    found = api.data_prepare("labels", tmp_path)["splits"]["train"]
    assert found["maps"] == "label maps of 5 classes; seen: road, car, person, sky"
    assert found["instances"] == "numbered"
    assert list(found["damaged"]) == ["train/b"]
    assert "3.png holds the class 77" in found["damaged"]["train/b"]
    shutil.rmtree(tmp_path / "train" / "instances")
    assert "touch" in api.data_check(f"pairs:{tmp_path}")["splits"]["train"]["instances"]
    (tmp_path / "classes.txt").unlink()
    put_maps(tmp_path / "train" / "maps" / "b", labels(6, 0))
    assert "they need a classes.txt" in api.data_check(f"pairs:{tmp_path}")["splits"]["train"]["maps"]
    for name in "ab":
        shutil.rmtree(tmp_path / "train" / "maps" / name)
        write_video(tmp_path / "train" / "maps" / name, noise(6, 3), 25)
    assert api.data_check(f"pairs:{tmp_path}")["splits"]["train"]["maps"] == "pictures"
