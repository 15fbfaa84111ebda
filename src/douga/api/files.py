"""Where a video goes, and how it gets there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from douga.core.clip import Clip

OUT_SUFFIXES = (".mp4", ".gif", "")  # no suffix: a folder of PNGs


def outputs(out: str | Path, samples: int = 1) -> list[Path]:
    """Where `save` would put each sample: OUT; of several, OUT-1, OUT-2, ... before the suffix (folder: OUT/sample-1).

    Raises ValueError or OSError where it could not: a suffix other than .mp4, .gif or none, a place that is not
    writable, a folder in the place of a file or the other way round, a folder of PNGs that is not empty.
    """
    out = Path(out).expanduser().resolve()
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise ValueError(
            f"cannot write {out.name}: the name must end in .mp4 or .gif, or have no ending (a folder of PNGs)"
        )
    place = next(folder for folder in out.parents if folder.exists())
    if not place.is_dir():
        raise NotADirectoryError(f"cannot write {out}: {place} is not a folder; choose another output")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write into the folder {place}: choose another output or change its permissions")
    if not out.suffix and out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file: a folder of PNGs cannot have its name; choose another output")
    if not out.suffix and out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"the folder {out} is not empty: choose another output or empty it")
    if samples == 1:
        paths = [out]
    elif out.suffix:
        paths = [out.with_name(f"{out.stem}-{number}{out.suffix}") for number in range(1, samples + 1)]
    else:
        paths = [out / f"sample-{number}" for number in range(1, samples + 1)]
    for path in (*paths, sheet_path(out), sheet_path(out, "spread")):
        if path.suffix and path.is_dir():
            raise IsADirectoryError(f"{path} is a folder: a file cannot have its name; choose another output")
    return paths


def save(clip: Clip, out: str | Path, *, sheet: bool = True) -> list[Path]:
    """Write a clip as .mp4, .gif or, without an ending, a folder of PNGs: one for each sample (see `outputs`).

    sheet: also a contact sheet OUT-sheet.png beside it, samples as rows, at most 16 frames of each as columns, and of a clip
        that knows where its samples differ a picture of that, OUT-spread.png.
    Each holds `clip.made` (`douga.video.io.read_recipe`) and, in it, which "sample" it is, counted from 1.
    Returns what was written. All or nothing: until everything is complete, nothing of this call is to be seen and
    files of the same names are untouched. Raises as `outputs` does, and OSError for a full disk.
    """
    from douga.video.io import write_image, write_video
    from douga.video.ops import contact_sheet, on_white

    out = Path(out).expanduser().resolve()
    made: Mapping[str, Any] = clip.made
    paths = outputs(out, len(clip.frames))
    with staged_beside(out) as stage:
        for number, (path, frames) in enumerate(zip(paths, clip.frames, strict=True), 1):
            recipe = json.dumps({**made, "sample": made.get("pick") or number}) if made else None
            place = stage / path.relative_to(out.parent)
            write_video(place, frames, clip.fps, bits=made.get("bits", 8), recipe=recipe)
        if sheet:
            paths = [*paths, sheet_path(out)]
            rows = on_white(clip.frames) if clip.frames.shape[1] == 4 else clip.frames
            write_image(stage / sheet_path(out).name, contact_sheet(rows, columns=16))
        if sheet and clip.spread is not None:
            from douga.evaluate import gallery

            paths = [*paths, sheet_path(out, "spread")]
            keys = clip.mask.nonzero()[:, 0].tolist()
            gallery.picture(clip.spread, made["spread_by_frame"], keys, made.get("unsure"), stage / paths[-1].name)
    return paths


@contextmanager
def staged_beside(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`; all that is put there is moved beside `out` at the end, or nothing is."""
    new_folders = [folder for folder in out.parents if not folder.exists()]  # the innermost first
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".douga-") as name:
            yield Path(name)
            for staged in sorted(Path(name).iterdir()):
                os.replace(staged, out.parent / staged.name)
    except BaseException:
        for folder in new_folders:
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        raise


def sheet_path(out: Path, kind: str = "sheet") -> Path:
    return out.with_name(f"{out.stem}-{kind}.png")
