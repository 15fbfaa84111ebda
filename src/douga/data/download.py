"""Fetch the official files of a set into a folder, compare their digests, unpack them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from douga.data import bair, kth, ucf101

Progress = Callable[[str, int, int], object]  # the file's name, bytes that are here, bytes in all

# Commands that unpack a .rar into the folder in which they run; the one that knows every kind of .rar first.
EXTRACTORS = (["unrar", "x", "-y"], ["bsdtar", "-x", "-f"], ["7z", "x", "-y"])


@dataclass(frozen=True)
class Official:
    """A file as its makers offer it.

    bytes: its size (of KTH's about).
    brings: a pattern of the files that come out of it, or of itself, and how many these are.
    digest: algorithm, hexadecimal value, and who published it; the makers themselves published none.
    """

    address: str
    bytes: int
    brings: tuple[str, int]
    digest: tuple[str, str, str] | None = None

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]


TFDS = "TensorFlow Datasets"


def _kth(action: str, megabytes: int, videos: int, sha1: str) -> Official:
    address = f"https://www.csc.kth.se/cvap/actions/{action}.zip"
    return Official(address, megabytes * 10**6, (f"person*_{action}_d?_uncomp.avi", videos), ("sha1", sha1, "vipy"))


# Licence and files of each set.
SETS: dict[str, tuple[str, tuple[Official, ...]]] = {
    "kth": (
        kth.Kth.licence,
        (
            Official("https://www.csc.kth.se/cvap/actions/00sequences.txt", 37_000, ("00sequences.txt", 1)),
            _kth("walking", 242, 100, "a3e81537271a0ab4576591774baa38c2d97b7e3a"),
            _kth("jogging", 168, 100, "21943bdbcef9dad106db0d74661e49eaeaa15a25"),
            _kth("running", 149, 100, "da83bb313edfd4455fffdda6263696fa10d43c6f"),
            _kth("boxing", 194, 100, "adb36ed9c29c846d44d2ba15f348bd115c951bbd"),
            _kth("handwaving", 218, 100, "0792f7cd69f7f895a205c08ac212ddaa7177e370"),
            _kth("handclapping", 176, 99, "d3b81261aa822ef63d0d1523f945bfaff27814d2"),
        ),
    ),
    "bair": (
        bair.Bair.licence,
        (
            Official(
                bair.ORIGIN,
                32_274_964_480,
                ("traj_*_to_*.tfrecords", 170),
                ("sha256", "c6f8d164ab2be07174ef597e3e070d7466f3142caddc467b6af119b9458cd9cd", TFDS),
            ),
        ),
    ),
    "ucf101": (
        ucf101.Ucf101.licence,
        (
            Official(
                ucf101.LISTS_ORIGIN,
                113_943,
                ("t*list01.txt", 2),
                ("sha256", "5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27", TFDS),
            ),
            Official(ucf101.ORIGIN, 6_932_971_618, ("v_*_g??_c??.avi", ucf101.VIDEOS)),
        ),
    ),
}


def get(name: str, root: Path, progress: Progress | None = None) -> dict[str, str]:
    """Bring the set `name` (of `SETS`) into the folder `root`, where its source finds it.

    What `root` holds at any depth is kept and not fetched again: videos that are there, an archive that somebody put
    there. A broken download leaves NAME.partial and goes on from it next time. Archives stay; they may be deleted once
    they are unpacked. A digest that nobody published is noted in `digests.json` and compared the next time.

    Returns, for each official file, what was done and what was compared. Raises ValueError for an unknown set, OSError
    that says what to do where a file cannot be fetched, is not the published one, does not fit, or cannot be unpacked.
    """
    if name not in SETS:
        raise ValueError(f"there is nothing to fetch for {name!r} (there is for: {', '.join(SETS)})")
    root.mkdir(parents=True, exist_ok=True)
    done = {}
    for file in SETS[name][1]:
        pattern, expected = file.brings
        work = root / f".{file.name}.unpacking"
        shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
        if len(list(root.rglob(pattern))) >= expected:
            done[file.name] = "already there"
            continue
        arrived = root / file.name
        if arrived.exists():
            done[file.name] = f"was there; {_compared(file, arrived)}"
        else:
            partial = _fetched(file, root, progress)
            done[file.name] = f"fetched; {_compared(file, partial)}"
            os.replace(partial, arrived)
        if arrived.suffix in (".zip", ".tar", ".rar"):
            _unpack(arrived, work)
            count = len(list(root.rglob(pattern)))
            done[file.name] += f"; {count:,} of {expected:,} files {pattern} are there now"
    return done


def _fetched(file: Official, root: Path, progress: Progress | None) -> Path:
    """The complete NAME.partial, not yet compared; as long as an attempt brings something, another one follows."""
    partial = root / f"{file.name}.partial"
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            total = _receive(file, partial, before, progress)
            if partial.stat().st_size == total:
                return partial
            reason: object = "the connection ended early"
        except (OSError, HTTPException) as error:
            reason = error
        if not partial.exists() or partial.stat().st_size <= before:
            raise OSError(
                f"cannot fetch {file.address} ({reason}): run this again to go on where it stopped, or fetch it by other "
                f"means into {root} and run this again"
            )


def _receive(file: Official, partial: Path, start: int, progress: Progress | None) -> int:
    """Append to `partial`, which has `start` bytes, what the server sends; returns how many it has to be."""
    headers = {"User-Agent": "douga"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urlopen(Request(file.address, headers=headers), timeout=60)
    except HTTPError as error:
        error.close()
        sizes = error.headers.get("Content-Range", "")  # "bytes */1234"
        if error.code != 416 or not sizes.startswith("bytes */"):
            raise
        if sizes != f"bytes */{start}":  # what is here is longer than what is there: another file
            partial.unlink()
            return _receive(file, partial, 0, progress)
        return start
    with answer:
        if answer.status != 206:  # the server begins anew
            start = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise OSError("the server sent another part than the one asked for")
        if "Content-Length" not in answer.headers:
            raise OSError("the server does not say how long it is")
        total = start + int(answer.headers["Content-Length"])
        unpacked = 0 if file.name.endswith(".txt") else total  # these archives hardly shrink what they hold
        _check_space(partial.parent, total - start + unpacked)
        with partial.open("ab" if start else "wb") as out:
            while piece := answer.read(1 << 20):
                out.write(piece)
                start += len(piece)
                if progress:
                    progress(file.name, start, total)
    return total


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"it takes {needed / 1e9:.2f} GB, unpacked too, and {folder} has {free / 1e9:.2f} GB free")


def _compared(file: Official, path: Path) -> str:
    """Which digest it has been compared with. OSError if it is another one."""
    memory = path.parent / "digests.json"
    noted: dict[str, str] = {}
    with suppress(OSError, ValueError):  # none yet, or damaged: noted anew
        noted = json.loads(memory.read_bytes())
    earlier = ("sha256", noted.get(file.name), "digests.json, from an earlier time")
    algorithm, expected, publisher = file.digest or earlier
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    if expected is None:
        beside = memory.with_suffix(".partial")
        beside.write_text(json.dumps(noted | {file.name: found}, indent=2) + "\n")
        os.replace(beside, memory)
        return "no digest is published: its sha256 is noted in digests.json, nothing was compared"
    if found != expected:
        raise OSError(
            f"{path} from {file.address} has the {algorithm} {found}, not {expected} ({publisher}): delete it and run this "
            "again, or unpack it yourself if you trust it"
        )
    return f"its {algorithm} is the one of {publisher}"


def _unpack(archive: Path, work: Path) -> None:
    """Into the new folder `work` first; then file by file beside `archive`, where nothing that is there is written over."""
    extractor = next((command for command in EXTRACTORS if shutil.which(command[0])), None)
    if archive.suffix == ".rar" and not extractor:
        raise OSError(
            f"{archive} is here, but a .rar takes unrar, bsdtar or 7z to unpack: install one of them and run this again, or "
            f"run `unrar x {archive.name}` in {archive.parent}"
        )
    try:
        work.mkdir()
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as opened:
                for entry in opened.infolist():
                    inside = PurePosixPath(entry.filename.replace("\\", "/"))
                    if inside.is_absolute() or ".." in inside.parts:
                        raise ValueError(f"its entry {entry.filename!r} leads out of the folder")
                _check_space(work, sum(entry.file_size for entry in opened.infolist()))
                opened.extractall(work)
        elif archive.suffix == ".tar":
            with tarfile.open(archive, "r:") as opened:
                opened.extractall(work, filter="data")
        elif extractor:
            command = [*extractor, str(archive.resolve())]
            answer = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace")
            if answer.returncode:
                said = (answer.stderr + answer.stdout).strip() or f"exit code {answer.returncode}"
                raise ValueError(f"{command[0]}: {said.splitlines()[0]}")
        for path in sorted(work.rglob("*")):
            target = archive.parent / path.relative_to(work)
            if path.is_file() and not path.is_symlink() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise OSError(
            f"cannot unpack {archive} ({error}): make room if the disk is full, delete the file if it is damaged, and run "
            "this again"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
