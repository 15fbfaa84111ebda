"""Drawing again what a file says it was made from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from douga import __version__
from douga.api import models
from douga.api.draw import tween, tween_options
from douga.api.files import save
from douga.api.made import digest
from douga.api.maps import paint
from douga.api.videos import fill, slow

# What of a recipe says how it is drawn, besides inputs, model, seed and samples.
REPLAYED: dict[str, tuple[str, ...]] = {
    "tween": (),
    "paint": ("first_frame", "instances", "swap", "size", "fps"),
    "slow": ("factor", "keep_duration", "fps", "cuts", "diversity"),
    "fill": ("fps", "still", "longest", "cuts", "diversity"),
}


def replay(
    path: str | Path,
    *,
    device: str | None = None,
    told: Callable[[str, int, int], object] = lambda what, done, of: None,
) -> dict[str, Any]:
    """Draw again, from the recipe that it holds, a video that `tween`, `paint`, `slow` or `fill` made, and compare.

    path: the .mp4, .gif or folder of PNGs. device: None: that of the recipe, or "auto" where there is none such here.
    Returns "equal": "bytes", "frames" (the files differ, what they show does not) or "" (it differs); "frames" (how many),
    "different" (how many of them), "mean" and "most" (by how much they differ, of 255), "notes" and "made", the recipe.
    Raises ValueError or OSError with one sentence where it cannot be drawn again: there is no recipe, or an input or the
    weights are no longer there or no longer the same.
    """
    from itertools import zip_longest

    from douga.video.io import picture_files, read_recipe, shown

    path = Path(path).expanduser().resolve()
    recipe = read_recipe(path)
    made = json.loads(recipe) if recipe else {}
    draws = {"tween": _tween_again, "paint": paint, "slow": slow, "fill": fill}
    if made.get("command") not in draws:
        raise ValueError(f"{path} does not say how it was made: only what tween, paint, slow and fill wrote does")
    try:
        for given in (*made.get("keys", ()), *made.get("inputs", {}).values()):
            if given["file"] is None:
                raise ValueError(f"{path} was made from pictures that were no files: it cannot be drawn again")
            if not Path(given["file"]).exists():
                raise FileNotFoundError(f"{path} was made from {given['file']}, which is no longer there")
            if digest(Path(given["file"])) != given["sha256"]:
                raise ValueError(f"{path} was made from {given['file']}, which has changed since")
        name = str(made["model"])
        if made["weights"]:
            name = made["weights"]["name"] if made["weights"]["name"] in models.weights() else name
            if models.file_sha256(models.weight_file(name)) != made["weights"]["sha256"]:
                raise ValueError(f"the weights {name} are not those that {path} was made with: their SHA-256 differs")
        notes = [
            f"it was made with {what} {made[key]}, this is {here}"
            for what, key, here in (("douga", "version", __version__), ("torch", "torch", _torch_version()))
            if made[key] != here
        ]
        where = device or made["device"]
        try:
            models.load(name, where)
        except ValueError:
            if device is not None:
                raise
            notes.append(f"it was made on {where}, which is not here")
            where = "auto"
        number, samples = made["sample"], made["samples"]
        options = {key: made[key] for key in REPLAYED[made["command"]]}
        if made["command"] == "paint":  # JSON knows no tuples
            options["swap"], options["size"] = [tuple(pair) for pair in options["swap"]], tuple(options["size"])
            options["told"] = lambda done, of: told("drawing", done, of)
        elif made["command"] != "tween":
            options["told"] = told
    except (KeyError, TypeError) as error:
        raise ValueError(f"the recipe in {path} is incomplete: {error} is missing") from None
    first = next(iter(made["inputs"].values()))["file"] if "inputs" in made else None
    with tempfile.TemporaryDirectory(prefix="douga-") as folder:
        out = Path(folder) / f"again{path.suffix}"
        draw: Any = draws[made["command"]]
        if first is None:
            written = draw(made, out, where)
        else:
            drawn = draw(first, out, model=name, samples=samples, seed=made["seed"], device=where, **options)
            written = drawn["written"]
        again = written[number - 1 if len(written) > 1 else 0]
        pairs = [(path, again)]
        if path.is_dir():
            pairs = list(zip_longest(picture_files(path), picture_files(again)))
        equal = "bytes" if all(a and b and a.read_bytes() == b.read_bytes() for a, b in pairs) else "frames"
        frames = different = 0
        mean = most = 0.0
        for one, two in zip_longest(shown(path), shown(again)):
            frames += 1
            if one is None or two is None or one.frame.shape != two.frame.shape:
                different, mean, most = different + 1, mean + 255, 255.0
                continue
            apart = (one.frame - two.frame).abs() * 127.5
            different += bool(apart.any())
            mean, most = mean + apart.mean().item(), max(most, apart.max().item())
    return {
        "equal": "" if different else equal,
        "frames": frames,
        "different": different,
        "mean": mean / frames,
        "most": most,
        "notes": notes,
        "made": made,
    }


def _tween_again(made: dict[str, Any], out: Path, device: str) -> list[Path]:
    keys, options = tween_options(made)
    clip = tween(*keys, **{**options, "device": device})
    # The recipe as it was: the same pictures may have been named otherwise.
    return save(replace(clip, made={what: value for what, value in made.items() if what != "sample"}), out, sheet=False)


def _torch_version() -> str:
    import torch

    return torch.__version__
