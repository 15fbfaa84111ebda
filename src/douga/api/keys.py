"""The key frames that `tween` is given: pictures, a folder, a storyboard; and at which frames they stand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from douga.api import models
from douga.core.timing import read_ease

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

FRAMES = 14  # between two key frames, if nobody says how many
Key: TypeAlias = "str | Path | Float[Tensor, 'c h w'] | tuple[str | Path | Float[Tensor, 'c h w'], int]"


def named_keys(keys: Sequence[Key]) -> tuple[list[tuple[Any, Any]], dict[str, Any]]:
    """The key frames of `tween`, each with its frame number if it has one, and what else a storyboard says."""
    board: dict[str, Any] = {}
    if len(keys) == 1 and isinstance(keys[0], (str, Path)):
        path = Path(keys[0]).expanduser()
        if path.is_dir():
            from douga.video.io import picture_files

            keys = picture_files(path)
        elif path.suffix.lower() == ".json":
            keys, board = _storyboard(path)
    named: list[tuple[Any, Any]] = []
    for key in keys:
        at = None
        if isinstance(key, tuple):
            key, at = key
        elif isinstance(key, (str, Path)) and not Path(key).expanduser().exists():
            name, mark, number = str(key).rpartition("@")
            if mark and number.isdecimal():
                key, at = name, int(number)
        named.append((key, at))
    if len(named) < 2:
        raise ValueError(f"tween draws between key frames: give two pictures or more, not {len(named) or 'none'}")
    return named, board


def _storyboard(path: Path) -> tuple[list[Key], dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no storyboard {path}")
    try:
        board = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"the storyboard {path} is not JSON: {error}") from None
    kinds: dict[str, Any] = {"keys": list, "fps": (int, float), "ease": (str, list), "loop": bool}
    if not isinstance(board, dict) or not isinstance(board.get("keys"), list):
        raise ValueError(f'the storyboard {path} must be like {{"keys": [{{"picture": "a.png", "at": 0}}, ...]}}')
    for name, value in board.items():
        if name not in kinds:
            raise ValueError(f"the storyboard {path} holds the unknown {name!r} (there are: {', '.join(kinds)})")
        if not isinstance(value, kinds[name]) or (name == "fps" and isinstance(value, bool)):
            raise ValueError(f"the storyboard {path} says {name} is {value!r}, which is none")
    keys: list[Key] = []
    for key in board.pop("keys"):
        if not isinstance(key, dict) or not isinstance(key.get("picture"), str) or not key.keys() <= {"picture", "at"}:
            raise ValueError(
                f'the storyboard {path} holds {json.dumps(key)} in the place of {{"picture": "a.png", "at": 0}}'
            )
        picture = path.parent / Path(key["picture"]).expanduser()
        keys.append((picture, key["at"]) if "at" in key else picture)
    if "ease" in board:
        board["ease"] = read_ease(board["ease"], path.parent)
    return keys, board


def indices(named: Sequence[tuple[Any, Any]], frames: int | None) -> list[int]:
    """At which frames the key frames stand; the first one at 0."""
    numbers = [at for _, at in named if at is not None]
    if not numbers:
        frames = FRAMES if frames is None else frames
        if frames < 1:
            raise ValueError(f"frames must be 1 or more, not {frames}")
        return [(frames + 1) * index for index in range(len(named))]
    if len(numbers) < len(named):
        without = next(_name(picture, index) for index, (picture, at) in enumerate(named) if at is None)
        raise ValueError(f"give all key frames a frame number (b.png@12) or none: {without} has none")
    if frames is not None:
        raise ValueError(
            f"the key frames have frame numbers, which say how many are drawn: leave out frames ({frames})"
        )
    for index, at in enumerate(numbers):
        if not isinstance(at, int) or isinstance(at, bool) or at < 0:
            raise ValueError(
                f"{_name(named[index][0], index)} stands at {at!r}: a frame number is a whole one, 0 or more"
            )
        if index and at <= numbers[index - 1]:
            before = _name(named[index - 1][0], index - 1)
            raise ValueError(
                f"{_name(named[index][0], index)} at frame {at} follows {before} at {numbers[index - 1]}:"
                " frame numbers must grow from key frame to key frame"
            )
    return [at - numbers[0] for at in numbers]


def _name(picture: Any, index: int) -> str:
    return str(picture) if isinstance(picture, (str, Path)) else f"key frame {index + 1}"


def key_pictures(given: Sequence[Any]) -> tuple[Float[Tensor, "c k h w"], int, list[dict[str, Any]]]:
    """Pictures of one size, on the CPU, with alpha if one of them has it; their bits, 8 or 16; and what is known of each file.

    Raises ValueError or OSError where one can't be used or their sizes differ.
    """
    import torch

    from douga.video.io import read_picture

    planes: list[Any] = []
    depths, facts = [8], []
    for index, key in enumerate(given):
        fact: dict[str, Any] = {"picture": None, "file": None, "sha256": None}
        if isinstance(key, (str, Path)):
            path = Path(key).expanduser()
            picture, bits = read_picture(path)
            depths.append(bits)
            fact = {"picture": str(key), "file": str(path.resolve()), "sha256": models.file_sha256(path)}
        else:
            picture = key.cpu()
        if picture.ndim != 3 or picture.shape[0] not in (3, 4):
            raise ValueError(
                f"a key frame must be a tensor of shape (3, H, W), or (4, H, W) with alpha, not {tuple(picture.shape)}"
            )
        if planes and picture.shape[1:] != planes[0].shape[1:]:
            (h0, w0), (h1, w1) = planes[0].shape[1:], picture.shape[1:]
            raise ValueError(
                f"{_name(given[0], 0)} is {w0}x{h0} and {_name(key, index)} is {w1}x{h1} (width x height):"
                " make all of them the same size"
            )
        planes.append(picture)
        facts.append(fact)
    if any(len(picture) == 4 for picture in planes):
        planes = [p if len(p) == 4 else torch.cat([p, torch.ones_like(p[:1])]) for p in planes]
    return torch.stack(planes, dim=1), max(depths), facts
