"""What a file says of how it was made."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from douga import __version__
from douga.api import models
from douga.core.registry import METHODS


def recipe_of(
    command: str, inputs: dict[str, Path], model: str | Path, seed: int, samples: int, device: str
) -> dict[str, Any]:
    """The beginning of every recipe: who draws from what. The device is the one that it is drawn on."""
    import torch

    from douga.train.engine import pick_device

    free = str(model) in METHODS and str(model) not in models.weights()
    file = None if free else models.weight_file(model)
    return {
        "command": command,
        "version": __version__,
        "torch": torch.__version__,
        "inputs": {name: {"file": str(path.resolve()), "sha256": digest(path)} for name, path in inputs.items()},
        "model": str(model) if free or str(model) in models.weights() else str(Path(model).expanduser().resolve()),
        "weights": file and {"name": file.stem, "sha256": models.file_sha256(file)},
        "device": "cpu" if free else str(pick_device(device)),
        "seed": seed,
        "samples": samples,
    }


def alone(made: dict[str, Any], number: int) -> dict[str, Any]:
    """The recipe of one sample: it is drawn with seed + number, so it can be drawn again without the others."""
    return {**made, "seed": made["seed"] + number, "samples": 1, "sample": 1}


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes; of a folder's pictures, of their names and digests. Raises as `read_image` does."""
    from douga.video.io import picture_files

    if path.is_dir():
        listed = "".join(f"{file.name} {models.file_sha256(file)}\n" for file in picture_files(path))
        return sha256(listed.encode()).hexdigest()
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    return models.file_sha256(path)
