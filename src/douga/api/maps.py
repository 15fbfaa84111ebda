"""Painting a video that follows maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from douga.api import models
from douga.api.files import outputs, sheet_path, staged_beside
from douga.api.made import alone, recipe_of

if TYPE_CHECKING:
    from torch import Tensor


def paint(
    maps: str | Path,
    out: str | Path,
    model: str | Path,
    *,
    samples: int = 1,
    seed: int = 0,
    first_frame: str | Path = "none",
    instances: str | Path | None = None,
    swap: Iterable[tuple[int, int]] = (),
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    device: str = "auto",
    told: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Draw a video that follows maps, frame by frame into the file: memory does not grow with its length.

    maps: of a model that paints labels a folder of label PNGs (a pixel's value is its class, 255 is none); of one that paints
        pictures (edges, poses) a folder of pictures or a video. out, samples: see `outputs`; each sample has other colours, as
        sample k is drawn with seed + k. model: what `load` takes.
    first_frame: what the video begins with: "none" (the model begins from nothing), "single" (pix2pixHD, trained on the same
        data, paints it), or a picture file.
    instances: a folder of PNGs, as many as maps: which pixels are one thing (see `douga.data.pairs.Pairs`).
    swap: pairs of classes that change places in every map. size: (height, width) to draw at, to which maps are cut and resized by
        nearest neighbour; None: the size that the model was trained at. fps: None: that of the maps, 25 for a folder.
    told: called with the number of frames drawn and, where it is known, of how many (else 0).
    Returns "written" (paths; a contact sheet, a row for each sample, is the last), "frames" (of a sample), "drawn_at", "note" and
    "made", which each file holds for `replay`.
    All or nothing, as in `save`. Raises ValueError or OSError with one sentence that names the map and what is wrong with it.
    """
    out = Path(out).expanduser().resolve()
    paths = outputs(out, samples)
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, not {samples}")
    if not 0 <= seed <= 2**32 - samples:
        raise ValueError(f"seed must be a whole number from 0 to 2^32 - {samples}, not {seed}")
    if fps is not None and not 0 < fps <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, not {fps}")
    if size is not None and min(size) < 16:
        raise ValueError(f"size must be 16 or more on both sides, not {size[1]}x{size[0]}")
    if Path(maps).expanduser().resolve() in paths:
        raise ValueError(f"the video would be written over its own maps, {maps}: choose another output")

    import torch

    from douga.data.pairs import painted
    from douga.video.io import MAX_PIXELS, read_image, write_image, write_video
    from douga.video.ops import contact_sheet, fit

    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"a size of {size[1]}x{size[0]} has more than the {MAX_PIXELS:,} pixels that are the limit")
    loaded, known = models.load(model, device)
    drawer: Any = loaded
    if not hasattr(drawer, "stream"):
        raise ValueError(f"{model} does {', '.join(sorted(drawer.tasks))}, not paint: give weights that paint maps")
    trained = known["provenance"]["experiment"]
    size = size or (trained["size"][0], trained["size"][1])
    classes = known["config"]["classes"]
    swap = [(a, b) for a, b in swap]
    count, rate, frames_of = painted(Path(maps).expanduser(), classes, size, instances, swap)
    note = ""
    if not drawer.stochastic and samples > 1:
        note, samples, paths = f"{known['method']} draws the same every time, so there is 1 sample", 1, outputs(out, 1)
    place = next(drawer.parameters()).device
    first: Any = None
    if str(first_frame) == "single":
        first = _single(trained["data"], classes, device)
    elif str(first_frame) != "none":
        first = fit(read_image(Path(first_frame).expanduser()), size)[None, :, None].to(place)
    elif known["config"].get("from_nothing") == 0:
        raise ValueError(
            f"{model} was trained to go on from a given first frame: give --first-frame single or a picture"
        )

    given_files = {"maps": maps, "instances": instances, "first_frame": first_frame}
    if str(first_frame) in ("none", "single"):
        del given_files["first_frame"]
    inputs = {what: Path(file).expanduser() for what, file in given_files.items() if file is not None}
    made = {
        **recipe_of("paint", inputs, model, seed, len(paths), device),
        "method": known["method"],
        **{what: str(inputs[what].resolve()) if what in inputs else None for what in ("instances", "first_frame")},
        "swap": swap,
        "size": list(size),
        "fps": fps or rate,
        "drawn_at": list(size),
    }
    made["first_frame"] = made["first_frame"] or str(first_frame)
    done = 0
    rows: list[list[Any]] = []
    with torch.no_grad(), staged_beside(out) as stage:
        for number, path in enumerate(paths):
            rows.append([])

            def drawn(number: int = number) -> Iterator[Tensor]:
                nonlocal done
                kept, stride = rows[number], 1
                generator = torch.Generator().manual_seed(seed + number)
                given = first
                todo: Iterator[Tensor] = (cond[None].to(place) for cond in frames_of())
                if hasattr(first, "stream"):
                    begin = next(todo)
                    given = next(first.stream([begin], None, 1, generator))[0][:, :, None]
                    todo = chain([begin], todo)
                for index, frame in enumerate(drawer.stream(todo, given, 1, generator)):
                    picture = frame[0, 0].cpu()
                    if index % stride == 0:
                        kept.append(picture)
                        if len(kept) == 32:  # every other one: at the end 16 or more are left, evenly spaced
                            del kept[1::2]
                            stride *= 2
                    done += 1
                    told(done, count * len(paths))
                    yield picture

            recipe = json.dumps(alone(made, number))
            write_video(stage / path.relative_to(out.parent), drawn(), fps or rate, recipe=recipe)
        write_image(
            stage / sheet_path(out).name, contact_sheet(torch.stack([torch.stack(row, 1) for row in rows]), columns=16)
        )
    return {
        "written": [*paths, sheet_path(out)],
        "frames": done // len(paths),
        "drawn_at": list(size),
        "note": note,
        "made": made,
    }


def _single(data: str, classes: int, device: str) -> Any:
    """What paints a first frame: released pix2pixHD weights that were trained on the same data."""
    from douga.train.checkpoint import read_header

    for path in models.weights().values():
        header = read_header(path)
        of = header["provenance"]["experiment"]
        if header["method"] == "pix2pixhd" and of["data"] == data and header["config"]["classes"] == classes:
            return models.load(path, device)[0]
    raise ValueError(f"there are no pix2pixHD weights for {data} to paint a first frame: give a picture, or none")
