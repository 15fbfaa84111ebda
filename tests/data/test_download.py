"""Against a server on this machine: nothing here needs the network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from douga.core.registry import SOURCES
from douga.data import download
from douga.data.download import SETS, Official, get

VIDEOS = {f"person0{n}_walking_d1_uncomp.avi": bytes([n]) * 300_000 for n in range(1, 4)}


class Server(ThreadingHTTPServer):
    """Serves `files`; keeps what was asked for in `asked`, as (name, first byte)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, int]] = []
        self.ranges = True  # whether it goes on in the middle of a file
        self.patience: int | None = None  # after so many bytes of an answer it hangs up
        self.answers = 10**6  # how many it gives before it only says 503

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name, server = self.path[1:], self.server
        content = server.files.get(name)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if server.ranges else 0
        server.asked.append((name, start))
        if content is None or len(server.asked) > server.answers:
            return self.send_error(404 if content is None else 503)
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: server.patience])
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def zipped(entries: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def offer(server: Server, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, **facts: object) -> None:
    """Let the set kth consist of this one file."""
    server.files[name] = content
    known = {"bytes": len(content), "brings": ("person*.avi", len(VIDEOS))} | facts
    monkeypatch.setitem(SETS, "kth", ("none", (Official(f"{server.address}/{name}", **known),)))  # type: ignore[arg-type]


def published(content: bytes) -> tuple[str, str, str]:
    return "sha1", hashlib.sha1(content).hexdigest(), "somebody"


def lying(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_set_is_fetched_compared_and_unpacked_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, root, seen = zipped(VIDEOS), tmp_path / "new" / "kth", []
    offer(server, monkeypatch, "walking.zip", content, digest=published(content))
    done = get("kth", root, lambda *now: seen.append(now))
    assert done == {
        "walking.zip": "fetched; its sha1 is the one of somebody; 3 of 3 files person*.avi are there now",
    }
    assert {name: (root / name).read_bytes() for name in VIDEOS} == VIDEOS
    assert lying(root) == {*VIDEOS, "walking.zip"}
    assert seen[-1] == ("walking.zip", len(content), len(content))
    assert [here for _, here, _ in seen] == sorted(here for _, here, _ in seen)

    (root / "walking.zip").unlink()  # unpacked: it may go
    (root / "deeper").mkdir()
    for name in VIDEOS:
        (root / name).rename(root / "deeper" / name)
    assert get("kth", root) == {"walking.zip": "already there"}
    assert server.asked == [("walking.zip", 0)]


def test_what_is_there_is_kept(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(server, monkeypatch, "walking.zip", b"never asked for")
    (tmp_path / "walking.zip").write_bytes(zipped(VIDEOS))
    killed = tmp_path / ".walking.zip.unpacking"
    killed.mkdir()
    for name in VIDEOS:
        (killed / name).write_bytes(b"half")
    mine = tmp_path / "person02_walking_d1_uncomp.avi"
    mine.write_bytes(b"mine")
    assert get("kth", tmp_path)["walking.zip"].startswith("was there; no digest is published")
    assert mine.read_bytes() == b"mine"
    assert lying(tmp_path) == {*VIDEOS, "walking.zip", "digests.json"}
    assert server.asked == []


def test_a_broken_connection_is_taken_up_again(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = zipped(VIDEOS)
    offer(server, monkeypatch, "walking.zip", content, digest=published(content))
    server.patience = len(content) // 2 - 10_000
    get("kth", tmp_path)
    assert server.asked == [("walking.zip", start) for start in (0, server.patience, 2 * server.patience)]
    assert (tmp_path / "walking.zip").read_bytes() == content


def test_a_download_goes_on_another_day(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = zipped(VIDEOS)
    offer(server, monkeypatch, "walking.zip", content, digest=published(content))
    server.patience, server.answers = 500_000, 1
    with pytest.raises(OSError, match=f"cannot fetch {server.address}/walking.zip .*503.* run this again") as error:
        get("kth", tmp_path)
    assert "\n" not in str(error.value)
    assert lying(tmp_path) == {"walking.zip.partial"}
    server.answers = 10
    get("kth", tmp_path)
    assert server.asked[-1] == ("walking.zip", 500_000)
    assert lying(tmp_path) == {*VIDEOS, "walking.zip"}


@pytest.mark.parametrize("there", [b"", b"x" * 1000, b"x" * 2_000_000, None])
def test_whatever_partial_file_lies_there(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bytes | None
) -> None:
    """Nothing, a part, more than all, or all of it; a server that always begins anew must not spoil it either."""
    content = zipped(VIDEOS)
    offer(server, monkeypatch, "walking.zip", content)
    server.ranges = there is None or len(there) > len(content)
    (tmp_path / "walking.zip.partial").write_bytes(content if there is None else there)
    get("kth", tmp_path)
    assert (tmp_path / "walking.zip").read_bytes() == content


def test_interrupted_by_the_keyboard(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = zipped({**VIDEOS, "more": os.urandom(2_000_000)})
    offer(server, monkeypatch, "walking.zip", content, digest=published(content))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get("kth", tmp_path, interrupt)
    assert lying(tmp_path) == {"walking.zip.partial"}
    monkeypatch.setattr(zipfile.ZipFile, "extractall", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get("kth", tmp_path)
    assert lying(tmp_path) == {"walking.zip"}
    assert list(tmp_path.iterdir()) == [tmp_path / "walking.zip"]


def test_another_file_than_the_published_one_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(server, monkeypatch, "walking.zip", zipped(VIDEOS), digest=published(b"another"))
    for _ in range(2):
        with pytest.raises(OSError, match=r"walking\.zip\.partial .*sha1.* delete it and run this again") as error:
            get("kth", tmp_path)
        assert "\n" not in str(error.value)
        assert lying(tmp_path) == {"walking.zip.partial"}


def test_without_a_published_digest_it_is_noted_and_compared_next_time(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(server, monkeypatch, "00sequences.txt", b"one", brings=("00sequences.txt", 1))
    (tmp_path / "digests.json").write_text('{"other": "1234"}')
    first = get("kth", tmp_path)["00sequences.txt"]
    assert "nothing was compared" in first
    noted = json.loads((tmp_path / "digests.json").read_text())
    assert noted == {"other": "1234", "00sequences.txt": hashlib.sha256(b"one").hexdigest()}
    (tmp_path / "00sequences.txt").unlink()
    assert "digests.json, from an earlier time" in get("kth", tmp_path)["00sequences.txt"]
    (tmp_path / "00sequences.txt").unlink()
    server.files["00sequences.txt"] = b"two"
    with pytest.raises(OSError, match=r"digests\.json, from an earlier time"):
        get("kth", tmp_path)


def test_a_full_disk_is_said_before_anything_comes(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = zipped(VIDEOS)
    offer(server, monkeypatch, "walking.zip", content)
    free = SimpleNamespace(free=2 * len(content) - 1)  # both the archive and what it holds must fit
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(OSError, match=r"GB free") as error:
        get("kth", tmp_path)
    assert "\n" not in str(error.value)
    assert lying(tmp_path) == set()
    free.free += 1
    get("kth", tmp_path)


def test_no_such_address_and_no_server(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(server, monkeypatch, "walking.zip", b"")
    del server.files["walking.zip"]
    with pytest.raises(OSError, match=f"{server.address}/walking.zip .*404"):
        get("kth", tmp_path)
    nobody = Official("http://127.0.0.1:9/walking.zip", 1, ("person*.avi", 3))
    monkeypatch.setitem(SETS, "kth", ("none", (nobody,)))
    with pytest.raises(OSError, match="by other means") as error:
        get("kth", tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="kth, bair, ucf101"):
        get("weizmann", tmp_path)


def test_damaged_archives_leave_nothing(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = zipped(VIDEOS)
    flipped = bytearray(whole)
    flipped[100_000] ^= 1
    in_tar = tarred((tarfile.TarInfo("person01_walking_d1_uncomp.avi"), b"?" * 5000))
    for name, content in {
        "a.zip": whole[:-100],
        "b.zip": bytes(flipped),
        "c.tar": in_tar[:3000],
        "d.tar": b"?",
    }.items():
        offer(server, monkeypatch, name, content)
        with pytest.raises(OSError, match="cannot unpack") as error:
            get("kth", tmp_path / name)
        assert "\n" not in str(error.value)
        assert lying(tmp_path / name) == {name, "digests.json"}


def test_no_archive_writes_outside_its_folder(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tarfile.TarInfo("way")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    for name, content in {
        "a.zip": zipped({"person01.avi": b"1", "../evil": b"!"}),
        "b.zip": zipped({f"{tmp_path}/evil": b"!"}),
        "c.zip": zipped({"deep\\..\\..\\evil": b"!"}),
        "d.tar": tarred((tarfile.TarInfo("../evil"), b"!")),
        "e.tar": tarred((link, b""), (tarfile.TarInfo("way/evil"), b"!")),
    }.items():
        offer(server, monkeypatch, name, content)
        with pytest.raises(OSError, match="cannot unpack"):
            get("kth", tmp_path / name)
        assert lying(tmp_path / name) == {name, "digests.json"}
    assert not list(tmp_path.rglob("*evil*"))


def test_a_tar_in_the_official_layout(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ["softmotion30_44k/train/traj_256_to_511.tfrecords", "softmotion30_44k/test/traj_0_to_255.tfrecords"]
    offer(
        server,
        monkeypatch,
        "bair.tar",
        tarred(*((tarfile.TarInfo(name), name.encode()) for name in names)),
        brings=("traj_*_to_*.tfrecords", 2),
    )
    get("kth", tmp_path)
    assert lying(tmp_path) == {*names, "bair.tar", "digests.json"}
    assert (tmp_path / names[0]).read_text() == names[0]


@pytest.mark.parametrize("tool", ["unrar", "bsdtar", "7z", "none", "broken"])
def test_a_rar_takes_a_program(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: str) -> None:
    """The programs are stand-ins that look at how they are called."""
    programs, root = tmp_path / "programs", tmp_path / "root"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}")
    if tool != "none":
        program = programs / ("unrar" if tool == "broken" else tool)
        then = 'echo "no RAR archive" >&2; exit 3' if tool == "broken" else "echo $@ > person01.avi; : > person02.avi"
        program.write_text(f"#!/bin/sh\n{then}\n")
        program.chmod(0o755)
    offer(server, monkeypatch, "UCF101.rar", b"Rar!", brings=("person*.avi", 2))
    if tool in ("none", "broken"):
        with pytest.raises(
            OSError, match=r"unrar x UCF101\.rar" if tool == "none" else r"unrar: no RAR archive"
        ) as error:
            get("kth", root)
        assert "\n" not in str(error.value)
        assert lying(root) == {"UCF101.rar", "digests.json"}
    else:
        assert get("kth", root)["UCF101.rar"].endswith("2 of 2 files person*.avi are there now")
        options = {"unrar": "x -y", "bsdtar": "-x -f", "7z": "x -y"}[tool]
        assert (root / "person01.avi").read_text() == f"{options} {root / 'UCF101.rar'}\n"


def test_the_table_fits_the_sources() -> None:
    assert set(SETS) <= set(SOURCES)
    for name, (licence, files) in SETS.items():
        assert licence == SOURCES.load(name).licence
        for file in files:
            assert file.address.startswith("http") and file.bytes > 0
            assert file.digest is None or len(file.digest[1]) == 2 * hashlib.new(file.digest[0]).digest_size
    assert sum(file.brings[1] for file in SETS["kth"][1]) == 599 + 1
    assert [command[0] for command in download.EXTRACTORS] == ["unrar", "bsdtar", "7z"]
