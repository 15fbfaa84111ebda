from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from douga.core.clip import check_video
from douga.data import bair
from douga.data.bair import ORIGIN, Bair, crc32c
from douga.video.ops import fit

SIZE = (64, 64)
FILES = {
    "test/traj_0_to_1": 2,
    "train/traj_256_to_256": 1,
    "train/traj_2560_to_2561": 2,
    "train/traj_10174_to_10174": 1,
}


# An encoder of its own, after the descriptions of TFRecord, of protobuf and of CRC-32C (most significant bit first here).
def reflected(value: int, bits: int) -> int:
    return int(f"{value:0{bits}b}"[::-1], 2)


def divided(byte: int) -> int:
    rest = byte << 24
    for _ in range(8):
        rest = (rest << 1) ^ (0x11EDC6F41 if rest >> 31 else 0)
    return rest


QUOTIENTS = [divided(byte) for byte in range(256)]
REFLECTED = [reflected(byte, 8) for byte in range(256)]


def castagnoli(data: bytes) -> int:
    rest = 0xFFFFFFFF
    for byte in data:
        rest = (rest << 8 & 0xFFFFFFFF) ^ QUOTIENTS[rest >> 24 ^ REFLECTED[byte]]
    return reflected(rest, 32) ^ 0xFFFFFFFF


def checksum(data: bytes) -> bytes:
    crc = castagnoli(data)
    return struct.pack("<I", ((crc >> 15) + (crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + varint(value // 128)


def part(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features: Mapping[str, bytes]) -> bytes:
    """The values are serialized `Feature`s."""
    entries = (part(1, part(1, name.encode()) + part(2, feature)) for name, feature in features.items())
    return part(1, b"".join(entries))


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


def sequence(pixels: np.ndarray, camera: str = "image_aux1") -> bytes:
    features = {}
    for t, frame in enumerate(pixels):
        features[f"{t}/action"] = part(2, part(1, struct.pack("<4f", *range(4))))  # floats, packed
        features[f"{t}/endeffector_pos"] = part(2, (varint(1 << 3 | 5) + struct.pack("<f", t)) * 3)  # not packed
        features[f"{t}/{camera}/encoded"] = part(1, part(1, frame.tobytes()))
        features[f"{t}/image_main/encoded"] = part(1, part(1, b"another camera"))
        features[f"{t}/step"] = part(3, varint(1 << 3) + varint(t + 300))
    return record(example(features))


def write_set(root: Path, files: Mapping[str, int] = FILES) -> dict[str, np.ndarray]:
    """Files of so many sequences each, in the official layout; returns the frames, uint8 (30, 64, 64, 3), by name."""
    written = {}
    for name, count in files.items():
        path = root / "softmotion30_44k" / f"{name}.tfrecords"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for k in range(count):
                chance = np.random.default_rng((*name.encode(), k))
                pixels = chance.integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
                written[f"{path.stem}/{k}"] = pixels
                file.write(sequence(pixels))
    return written


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    root = tmp_path_factory.mktemp("bair")
    return root, write_set(root)


@pytest.fixture
def root(written: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(written[0], tmp_path / "bair"))


def file_of(root: Path, name: str) -> Path:
    return root / "softmotion30_44k" / f"{name}.tfrecords"


def as_video(pixels: np.ndarray) -> Tensor:
    return torch.tensor(pixels.transpose(3, 0, 1, 2) / 127.5 - 1, dtype=torch.float32)


def test_sequences_come_back_as_they_were_written(written: tuple[Path, dict[str, np.ndarray]], root: Path) -> None:
    found = {}
    for split in Bair.splits:
        source = Bair(root, split, SIZE)
        assert source.damaged == []
        for index, name in enumerate(source.names):
            found[name] = split
            assert (source.clip(index, 0, 30) - as_video(written[1][name])).abs().max() < 1e-6
            assert torch.equal(source.clip(index, 7, 5), source.clip(index, 0, 30)[:, 7:12])
        assert list(source.lengths) == [30] * len(source)
    assert found == {
        "traj_0_to_1/0": "test",
        "traj_0_to_1/1": "test",
        "traj_256_to_256/0": "validation",
        "traj_2560_to_2561/0": "train",
        "traj_2560_to_2561/1": "train",
        "traj_10174_to_10174/0": "train",
    }


def test_another_size_is_cut_and_resized(written: tuple[Path, dict[str, np.ndarray]], root: Path) -> None:
    clip = Bair(root, "validation", (24, 40)).clip(0, 3, 2)
    assert clip.shape == (3, 2, 24, 40)
    check_video(clip[None], "bair")
    assert (clip - fit(as_video(written[1]["traj_256_to_256/0"][3:5]), (24, 40))).abs().max() < 1e-5


def test_splits_go_by_the_numbers_in_the_names_of_files(root: Path) -> None:
    elsewhere = root / "val" / "traj_256_to_256.tfrecords"  # where other people's scripts put it
    elsewhere.parent.mkdir()
    file_of(root, "train/traj_256_to_256").rename(elsewhere)
    (root / "softmotion30_44k" / "traj_of_mine.tfrecords").write_bytes(b"?")
    assert Bair(root, "validation", SIZE).names == ["traj_256_to_256/0"]
    assert Bair(root, "train", SIZE).names[-1] == "traj_10174_to_10174/0"  # by number, not by letters
    borders = {0: "test", 255: "test", 256: "validation", 2559: "validation", 2560: "train", 50_000: "train"}
    assert {n: [split for split, numbers in bair.SPLITS.items() if n in numbers] for n in borders} == {
        n: [split] for n, split in borders.items()
    }


def test_a_part_is_never_called_bair(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Bair(root, "test", SIZE)
    assert (source.complete, source.title) == (False, "bair6")
    monkeypatch.setattr(bair, "SEQUENCES", 6)
    whole = Bair(root, "test", SIZE)
    assert (whole.complete, whole.title) == (True, "bair")
    path = file_of(root, "test/traj_0_to_1")
    path.write_bytes(path.read_bytes()[:-1])
    assert Bair(root, "test", SIZE).title == "bair5"


@pytest.mark.parametrize(("kept", "good"), [(0, 0), (5, 0), (12, 0), (9_000, 0), (-5_000, 1), (-1, 1)])
def test_a_file_that_is_cut_off_is_named(root: Path, kept: int, good: int) -> None:
    path = file_of(root, "test/traj_0_to_1")
    path.write_bytes(path.read_bytes()[:kept])
    source = Bair(root, "test", SIZE)
    assert source.names == [f"traj_0_to_1/{k}" for k in range(good)]
    [(name, reason)] = source.damaged
    assert name == "traj_0_to_1"
    assert f"{good} of its 2 sequences" in reason
    assert ("cut off" in reason) == (kept != 0)


def test_flipped_bits_are_noticed_wherever_they_are(root: Path) -> None:
    path = file_of(root, "test/traj_0_to_1")
    whole, second = path.read_bytes(), path.stat().st_size // 2
    for at, names in (
        (3, []),  # the first length
        (9, []),  # its checksum
        (12, ["traj_0_to_1/1"]),  # the first byte of the first sequence
        (150_001, ["traj_0_to_1/1"]),  # a pixel
        (second - 1, ["traj_0_to_1/1"]),  # its checksum
        (second + 2, ["traj_0_to_1/0"]),  # the second length
        (-5, ["traj_0_to_1/0"]),  # the last byte of the last sequence
    ):
        spoilt = bytearray(whole)
        spoilt[at] ^= 16
        path.write_bytes(spoilt)
        source = Bair(root, "test", SIZE)
        assert source.names == names, at
        [(name, reason)] = source.damaged
        assert name == ("traj_0_to_1" if at in (3, 9, second + 2) else f"traj_0_to_1/{1 - int(names[0][-1])}"), at
        assert "checksum" in reason and "\n" not in reason
        assert not source.complete


def test_other_contents_are_named(root: Path) -> None:
    path = file_of(root, "train/traj_256_to_256")
    dark = np.zeros((30, 64, 64, 3), np.uint8)
    for data in (
        sequence(dark, camera="image_aux2"),
        sequence(dark[:29]),
        sequence(dark[:, :32]),
        record(b""),
        record(b"\xff" * 40),
        record(example({"0/image_aux1/encoded": part(1, part(1, b"12"))})[:-1]),
    ):
        path.write_bytes(data)
        source = Bair(root, "validation", SIZE)
        assert len(source) == 0
        [(name, reason)] = source.damaged
        assert name == "traj_256_to_256/0"
        assert "image_aux1" in reason or "tf.train.Example" in reason


def test_a_broken_link_and_nothing_but_damage(root: Path) -> None:
    path = file_of(root, "train/traj_10174_to_10174")
    path.unlink()
    path.symlink_to(root / "gone")
    source = Bair(root, "train", SIZE)
    assert len(source) == 2
    assert [name for name, _ in source.damaged] == ["traj_10174_to_10174"]
    path = file_of(root, "train/traj_2560_to_2561")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="every BAIR sequence for training") as error:
        Bair(root, "train", SIZE)
    assert "\n" not in str(error.value)


def test_a_file_is_examined_once_until_it_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr(bair, "crc32c", lambda data: checked.append(len(data)) or crc32c(data))
    first = Bair(root, "train", SIZE)
    assert len(checked) == 6
    again = Bair(root, "train", SIZE)
    assert len(checked) == 6
    assert (again.names, again.stamp) == (first.names, first.stamp)
    assert torch.equal(again.clip(1, 2, 3), first.clip(1, 2, 3))
    path = file_of(root, "train/traj_10174_to_10174")
    path.write_bytes(path.read_bytes()[:-1])
    changed = Bair(root, "train", SIZE)
    assert len(changed) == 2
    assert changed.stamp != first.stamp
    for memory in (root.parent / "cache").rglob("bair-*.json"):
        memory.write_text('{"half": [1')
    assert Bair(root, "train", SIZE).names == changed.names


def test_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the catalogue's check value
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(bytes(range(31, -1, -1))) == 0x113FDB5C
    for length in (0, 1, 4095, 4096, 4097, 8191, 8192, 20_001):
        data = np.random.default_rng(length).bytes(length)
        assert crc32c(data) == castagnoli(data), length


def test_what_is_missing_is_named_with_its_origin(root: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", None):
        with pytest.raises(FileNotFoundError, match=r"traj_A_to_B\.tfrecords") as error:
            Bair(place, "train", SIZE)
        assert ORIGIN in str(error.value)
    with pytest.raises(ValueError, match="train, validation, test, not 'val'"):
        Bair(root, "val", SIZE)
