"""Sets of videos: opened, checked, prepared, fetched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from douga.core.registry import SOURCES

if TYPE_CHECKING:
    from douga.core.contracts import Source


def open_source(spec: str | Path, split: str, size: tuple[int, int]) -> Source:
    """Open one split of a set of videos at a size (height, width) in px.

    spec: a source's name ("shapes", "weizmann": its files are looked for in DOUGA_CACHE/weizmann, by default
    ~/.cache/douga/weizmann), "name:/path" for files elsewhere, or any folder of videos or of frame folders.
    Raises ValueError for an unknown source or split, FileNotFoundError that says where missing files come from.
    """
    kind, root = _source(spec)
    return kind(root, split, size)


def data_check(spec: str | Path) -> dict[str, Any]:
    """Open every split of a source and decode every video of it once, at 64x64 (8 of an endless one), and the maps beside it.

    Returns {"source", "licence", "splits": {split: {"videos", "frames", "shortest", "longest", "damaged"}}}: lengths in
    frames; damaged: {name: why it or its maps cannot be read whole}; "title" where a source can be incomplete; "maps" and
    "instances", in words, where there are maps. Raises as `open_source` does.
    """
    from douga.core.contracts import Paired

    kind, root = _source(spec)
    splits = {}
    for split in kind.splits:
        source = kind(root, split, (64, 64))
        damaged = dict(getattr(source, "damaged", ()))
        count = min(8, len(source)) if kind.endless else len(source)
        seen, numbered, brightest = set(), False, -1.0
        for index in range(count):
            try:
                source.clip(index, 0, source.lengths[index])
                if isinstance(source, Paired):
                    maps = source.maps(index, 0, source.lengths[index])
                    if source.classes:
                        seen |= set(maps[0].unique().tolist())
                        numbered |= bool(maps[1].any())
                    else:
                        brightest = max(brightest, float(maps.max()))
            except (ValueError, OSError) as error:
                damaged[source.names[index]] = str(error)
        words = {}
        if isinstance(source, Paired) and count:
            if source.classes:
                names = ", ".join(source.classes[number] for number in sorted(seen - {-1})) or "none"
                words["maps"] = f"label maps of {len(source.classes)} classes; seen: {names}"
                words["instances"] = "numbered" if numbered else "not numbered: things that touch look like one thing"
            else:
                dark = "" if brightest > -0.6 else ", nearly black: if they are label maps, they need a classes.txt"
                words["maps"] = f"pictures{dark}"
        lengths = [source.lengths[index] for index in range(count)]
        splits[split] = {
            **({"title": source.title} if hasattr(source, "title") else {}),
            "videos": count,
            "frames": sum(lengths),
            "shortest": min(lengths, default=0),
            "longest": max(lengths, default=0),
            **words,
            "damaged": damaged,
        }
    return {"source": str(spec), "licence": kind.licence, "splits": splits}


def data_prepare(
    kind: str,
    video: str | Path,
    out: str | Path | None = None,
    *,
    start: int = 0,
    frames: int | None = None,
    square: bool = False,
    told: Callable[[str, int, int], object] = lambda what, done, of: None,
) -> dict[str, Any]:
    """Make maps to paint from, beside the frames they belong to, as the sources pairs, faces and pose read them.

    kind: "edges" (of a face), "pose" (of a person), or "labels", which makes nothing and looks at a folder of label maps
        (see `douga.data.pairs.Pairs`) as `data_check` does. The first two need MediaPipe.
    video: a video, or a folder of videos. out: the folder that gets frames/NAME and maps/NAME; what is there already is
        kept. start, frames: of each video the first frame and how many; None: all to its end. square: cut the same square
        around the face or the person out of all frames of a video.
    told: called with a video's name, how many of its frames were looked at, and 0: their number is not known before.
    Returns {"out", "videos": {name: {"frames", "held"}}, "left_out": {name: why}}; held: the frames in which nothing was
    found, which got the map of the one before. Raises ValueError or OSError if no video could be prepared: nothing was
    found in it, it cannot be read, MediaPipe is missing, or the kind is unknown.
    """
    if kind == "labels":
        return data_check(f"pairs:{video}")
    if kind not in ("edges", "pose"):
        raise ValueError(f"unknown kind of maps {kind!r} (there are: edges, pose, labels)")
    if out is None:
        raise ValueError("say which folder gets the frames and their maps: --out FOLDER")
    if start < 0 or (frames is not None and frames < 1):
        raise ValueError(f"start must be 0 or more and frames 1 or more, not {start} and {frames}")

    from douga.data.folder import find
    from douga.video import landmarks
    from douga.video.io import is_video

    top, place = Path(video).expanduser(), Path(out).expanduser()
    if top.is_dir():
        found = {path.relative_to(top).as_posix(): path for path in sorted(find(top))}
        found = {top.resolve().name if name == "." else name: path for name, path in found.items()}
        if not found:
            raise FileNotFoundError(
                f"there are no videos and no pictures in the folder {top}, nor in folders inside it"
            )
    elif top.exists():
        found = {top.name: top}
    else:
        raise FileNotFoundError(f"there is no file or folder {top}")
    done: dict[str, Any] = {}
    left_out: dict[str, Exception] = {}
    for name, path in found.items():
        bare = str(Path(name).with_suffix("")) if is_video(path) and path.is_file() else name

        def looked(number: int, name: str = name) -> None:
            told(name, number, 0)

        try:
            count, held = landmarks.prepare(
                kind, path, place, bare, start=start, length=frames, square=square, told=looked
            )
            done[bare] = {"frames": count, "held": held}
        except (ValueError, OSError) as error:
            left_out[bare] = error
    if not done:
        raise next(iter(left_out.values()))
    return {"out": str(place), "videos": done, "left_out": {name: str(error) for name, error in left_out.items()}}


def data_get(spec: str, told: Callable[[str, int, int], object] | None = None) -> dict[str, str]:
    """Fetch the official files of a set that has an official address, and unpack them where its source looks for them.

    spec: "kth", "bair" or "ucf101", or "name:/path" for a folder elsewhere; what is there already is kept. told: called with a
    file's name, how many bytes are here, and of how many. Returns what was done and compared, by file. Raises ValueError
    for a set that has none, OSError that says what to do where a file cannot be had.
    """
    from douga.data.download import get

    _, root = _source(spec)
    return get(spec.partition(":")[0], root or Path(), told)


def _source(spec: str | Path) -> tuple[Any, Path | None]:
    name, colon, place = str(spec).partition(":")
    if name in SOURCES and (place or not colon):
        kind = SOURCES.load(name)
        if place or kind.endless:
            return kind, Path(place).expanduser() if place else None
        if name == "folder":
            raise ValueError("the source folder needs a place: write folder:/path, or the path alone")
        cache = Path(os.environ.get("DOUGA_CACHE", "~/.cache/douga")).expanduser()
        return kind, cache / getattr(kind, "folder", name)
    if Path(spec).expanduser().is_dir():
        return SOURCES.load("folder"), Path(spec).expanduser()
    raise ValueError(
        f"unknown source {str(spec)!r}: neither a folder nor one of {', '.join(SOURCES)} (name or name:/path)"
    )
