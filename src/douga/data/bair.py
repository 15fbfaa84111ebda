"""BAIR robot pushing: an arm moves things about in a box; 64x64 in colour, 30 frames, read without TensorFlow.

Ebert, Finn, Lee, Levine, "Self-Supervised Visual Planning with Temporal Skip Connections", CoRL 2017. The official file
`traj_A_to_B.tfrecords` holds the sequences A to B, each one a `tf.train.Example` with the raw bytes of every frame under
`T/image_aux1/encoded`. A second camera (`image_main`), actions and arm positions are there too, and not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from douga.data.loader import cache_folder
from douga.video.io import from_uint8
from douga.video.ops import fit

ORIGIN = "http://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar"
# By the number of the first sequence of a file.
SPLITS = {"train": range(2560, 10**9), "validation": range(256, 2560), "test": range(256)}
SEQUENCES = 43_520  # 256 in test/, 43,264 in train/
FRAMES = 30
SHAPE = (64, 64, 3)


class Bair:
    """Source. A video is one sequence of 30 frames, called `traj_A_to_B/K` after its file and its place in it, from 0.

    Splits by the numbers in the names of the files, as Li, Roblek, Tagliasacchi 2019 give them: test 0-255, which is the
    official folder test/; validation 256-2559 and train the rest, both from train/. `root` is searched at any depth, and
    the names of folders do not matter.

    damaged: (name, reason) of each sequence of the split that is left out, and of each file that does not hold the
        sequences that its name says. All checksums are compared once; the result is kept beside the decoded videos.
    complete, title: whether the names of all files add up to 43,520 sequences and this split can be read; "bair", or
        "bair" and the number of sequences, so that a score on a part is never called one on BAIR.
    fps: no rate is published; this one is for showing them.
    stamp: changes with the place, size or date of any file of the split.
    Raises FileNotFoundError if there are no files, ValueError for an unknown split or if every sequence for training is
    damaged. See `douga.core.contracts.Source`.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(SPLITS)
    licence: ClassVar[str] = "no terms are published; credit Ebert, Finn, Lee, Levine, 2017"
    endless: ClassVar[bool] = False
    fps = 10.0

    def __init__(self, root: Path | None, split: str, size: tuple[int, int]) -> None:
        if split not in self.splits:
            raise ValueError(f"bair has the splits {', '.join(self.splits)}, not {split!r}")
        files: dict[tuple[int, int], Path] = {}
        for path in sorted(root.rglob("traj_*.tfrecords")) if root else ():
            if found := re.fullmatch(r"traj_(\d+)_to_(\d+)", path.stem):
                files.setdefault((int(found[1]), int(found[2])), path)
        if root is None or not files:
            raise FileNotFoundError(
                f"no BAIR files (traj_A_to_B.tfrecords) in {root or 'no folder'}; they come from {ORIGIN}"
            )
        self.names: list[str] = []
        self.damaged: list[tuple[str, str]] = []
        self._places: list[tuple[Path, int, int]] = []  # file, first byte, how many
        there, marks = 0, []
        for (first, last), path in sorted(files.items()):
            there += (promised := last - first + 1)
            if first not in SPLITS[split]:
                continue
            mark, records, lost = _examined(path)
            marks.append(mark)
            for number, (start, length, wrong) in enumerate(records):
                if wrong:
                    self.damaged.append((f"{path.stem}/{number}", wrong))
                else:
                    self.names.append(f"{path.stem}/{number}")
                    self._places.append((path, start, length))
            if lost or len(records) != promised:
                why = lost or "it ends there"
                self.damaged.append((path.stem, f"{len(records)} of its {promised} sequences were found: {why}"))
            there -= promised - sum(not wrong for _, _, wrong in records)
        if split == "train" and self.damaged and not self.names:
            raise ValueError(f"every BAIR sequence for training in {root} is damaged; the first: {self.damaged[0][1]}")
        self.complete = there == SEQUENCES
        self.title = "bair" if self.complete else f"bair{there}"
        self.stamp = hashlib.sha256("".join(marks).encode()).hexdigest()
        self.lengths = [FRAMES] * len(self.names)
        self.size = size

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, index: int, start: int, length: int) -> Float[Tensor, "3 t h w"]:
        assert start >= 0 and length > 0 and start + length <= FRAMES
        path, at, size = self._places[index]
        with path.open("rb") as file:
            file.seek(at)
            pictures = _pictures(file.read(size))
        pixels = bytearray().join(pictures[start : start + length])  # unlike bytes, torch may share its memory
        return fit(from_uint8(np.frombuffer(pixels, np.uint8).reshape(length, *SHAPE)), self.size)


def _examined(path: Path) -> tuple[str, list[tuple[int, int, str]], str]:
    """A mark of the file, what `_walk` finds, and why it ended early or "".

    What was found is kept beside the decoded videos, so an unchanged file is examined once in its life.
    """
    records: list[tuple[int, int, str]] = []
    lost = ""
    try:
        stat = path.stat()
        mark = hashlib.sha256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()
        memory = cache_folder() / f"bair-{mark[:20]}.json"
        with suppress(OSError, ValueError):  # none yet, or damaged: examined anew
            found, lost = json.loads(memory.read_bytes())
            return mark, [(start, length, wrong) for start, length, wrong in found], lost
        records.extend(_walk(path))  # what comes before an error stays
    except ValueError as error:
        lost = str(error)
    except OSError as error:  # may pass, so it is not kept
        return "", records, str(error)
    with suppress(OSError):  # then it is examined again next time
        memory.parent.mkdir(parents=True, exist_ok=True)
        beside = memory.with_suffix(f".{os.getpid()}.partial")
        beside.write_text(json.dumps([records, lost]))
        os.replace(beside, memory)
    return mark, records, lost


def _walk(path: Path) -> Iterator[tuple[int, int, str]]:
    """(first byte, how many, what is wrong with it or "") of each record of a TFRecord file.

    A record is a uint64 length, its checksum, the data, its checksum, all little-endian. A checksum is a CRC-32C, turned
    right by 15 bits, plus 0xa282ead8. ValueError where the file breaks: without a length no later record can be found.
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        while header := file.read(12):
            if len(header) == 12 and not _agrees(header[:8], header[8:]):
                raise ValueError(f"the length at byte {file.tell() - 12} does not match its checksum")
            start = file.tell()
            if len(header) < 12 or start + (length := struct.unpack("<Q", header[:8])[0]) + 4 > end:
                raise ValueError(f"it is cut off at byte {end}")
            data, wrong = file.read(length), ""
            if not _agrees(data, file.read(4)):
                wrong = "its bytes do not match their checksum"
            else:
                try:
                    _pictures(data)
                except ValueError as error:
                    wrong = str(error)
            yield start, length, wrong


def _agrees(data: bytes, checksum: bytes) -> bool:
    crc = crc32c(data)
    return checksum == struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _pictures(example: bytes) -> list[memoryview]:
    """The raw bytes of the 30 frames of a serialized `tf.train.Example`. ValueError if it does not hold them."""
    found: dict[str, memoryview] = {}
    for features in _parts(memoryview(example), 1):
        for entry in _parts(features, 1):  # a protobuf map: a message with the key as 1 and the value as 2
            for name in _parts(entry, 1):
                for feature in _parts(entry, 2):
                    for values in _parts(feature, 1):  # 1: list of bytes; 2: of floats, 3: of integers
                        found.update((str(name, "utf-8"), value) for value in _parts(values, 1))
    pictures = [found.get(f"{frame}/image_aux1/encoded", memoryview(b"")) for frame in range(FRAMES)]
    if {picture.nbytes for picture in pictures} != {int(np.prod(SHAPE))}:
        raise ValueError(f"it does not hold {FRAMES} frames of {SHAPE[1]}x{SHAPE[0]} (T/image_aux1/encoded)")
    return pictures


def _parts(message: memoryview, wanted: int) -> list[memoryview]:
    """The strings and messages that stand under the number `wanted` in a protobuf message; ValueError if it is none."""
    at, parts = 0, []
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 2:  # a length and so many bytes
            length, at = _varint(message, at)
            at += length
            if key >> 3 == wanted:
                parts.append(message[at - length : at])
        elif key & 7 == 0:
            _, at = _varint(message, at)
        else:
            at += {1: 8, 5: 4}.get(key & 7, len(message) + 1)  # 64 bits, 32 bits; other kinds do not occur
        if at > len(message):
            raise ValueError("it is not a tf.train.Example")
    return parts


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer that begins at byte `at`, 7 bits to a byte, the lowest first; and where it ends."""
    for size, byte in enumerate(message[at : at + 10], 1):
        if byte < 128:
            return sum((byte & 127) << 7 * i for i, byte in enumerate(message[at : at + size])), at + size
    raise ValueError("it is not a tf.train.Example")


ROW = 1024  # words that are folded at once


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as in RFC 3720. Byte by byte a sequence would take a tenth of a second.

    The code is linear: over a row of zeros each 32-bit word turns into another one, which may then be added to the word
    that stands there. So long data is folded, row upon row, into a single row with the same checksum.
    """
    table, low, high = _crc_tables()
    register = 0xFFFFFFFF
    if len(data) > 4 * ROW:
        rows = np.zeros(-(-len(data) // (4 * ROW)) * 4 * ROW, np.uint8)  # zeros in front change nothing
        rows[-len(data) :] = np.frombuffer(data, np.uint8)
        rows[-len(data) :][:4] ^= 255  # what a register that begins with ones does
        folded = np.zeros(ROW, np.uint32)
        for row in rows.view(np.uint32).reshape(-1, ROW):
            halves = folded.view(np.uint16)  # of a little-endian machine: the lower half of each word first
            folded = low.take(halves[::2]) ^ high.take(halves[1::2]) ^ row
        data, register = folded.tobytes(), 0
    for byte in data:
        register = table[(register ^ byte) & 255] ^ register >> 8
    return register ^ 0xFFFFFFFF


@cache
def _crc_tables() -> tuple[list[int], np.ndarray, np.ndarray]:
    """What one byte does to the register; what a row of zeros does to the lower and to the upper half of a word."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ 0x82F63B78, table >> 1).astype(np.uint32)
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(4 * ROW):
        bits = table[bits & 255] ^ bits >> 8
    halves = []
    for half in (bits[:16], bits[16:]):
        sums = np.zeros(1, np.uint32)
        for bit in half:
            sums = np.concatenate([sums, sums ^ bit])
        halves.append(sums)
    return table.tolist(), halves[0], halves[1]
