"""The only reader and writer of our weights: safetensors whose header says what the file is and how it was made. Never code.

Two kinds. A *release* holds what draws (the running averages of the phases marked `ema`); a *training* checkpoint holds all
that a run needs to go on. A file appears under its name whole or not at all.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from douga.core.config import from_dict, to_dict
from douga.core.registry import METHODS

if TYPE_CHECKING:  # reading a header needs no torch
    from torch import Tensor, nn

SCHEMA = 1
LONGEST_HEADER = 100_000_000  # bytes, as in the safetensors format itself


def read_header(path: str | Path) -> dict[str, Any]:
    """What a weight file is: schema, kind ("release" or "training"), method, config, provenance; `parameters` counts them.

    Raises FileNotFoundError, or ValueError with one sentence for a file that is not ours, is truncated, or is of a newer schema.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a weight file")
    if not path.exists():
        raise FileNotFoundError(f"there is no weight file {path}")
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else LONGEST_HEADER + 1
        try:
            layout: dict[str, Any] = json.loads(file.read(length) if length <= LONGEST_HEADER else b"")
            header = json.loads(layout.pop("__metadata__")["douga"])
            end = 8 + length + max(entry["data_offsets"][1] for entry in layout.values())
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{path} is not a weight file of douga (safetensors with our header), or is damaged"
            ) from None
    if path.stat().st_size != end:
        raise ValueError(f"{path} is truncated: {path.stat().st_size} of {end} bytes")
    if header["schema"] > SCHEMA:
        raise ValueError(f"{path} was written by a newer douga (schema {header['schema']}, this one reads {SCHEMA})")
    sizes = [entry["shape"] for name, entry in layout.items() if not name.endswith("num_batches_tracked")]
    return {**header, "parameters": sum(math.prod(shape) for shape in sizes)}


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write beside, then move into place. Raises OSError (a full disk, no permission) and leaves what was there."""
    from safetensors.torch import save

    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"douga": json.dumps({"schema": SCHEMA, **header})},
    )
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file of this kind. Raises as `read_header`."""
    from safetensors.torch import load_file

    header = read_header(path)
    if header["kind"] != kind:
        wanted = {"release": "released weights (weights.safetensors of a run)", "training": "a training checkpoint"}[
            kind
        ]
        raise ValueError(f"{path} is a {header['kind']} file; wanted is {wanted}")
    return load_file(path), header


def save_release(path: Path, model: nn.Module, provenance: Mapping[str, Any], method: str) -> None:
    """Write what draws: the modules of the phases marked `ema`, and the model's own buffers, as they are in `model` now."""
    drawing = _drawing(model)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(drawing)}
    header = {"kind": "release", "method": method, "config": to_dict(model.config), "provenance": dict(provenance)}
    write(path, tensors, header)


def load_release(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model, in eval mode on the CPU, and the header. Raises as `read_header`, and ValueError if the weights don't fit."""
    from douga.nn.blocks import channels_last

    tensors, header = read(Path(path), "release")
    kind = METHODS.load(header["method"])
    model: nn.Module = kind(from_dict(kind.Config, header["config"]))
    wanted = {name for name in model.state_dict() if name.startswith(_drawing(model))}
    if wanted != set(tensors):
        raise ValueError(f"{path} does not hold the weights of its config: {sorted(wanted ^ set(tensors))[:3]} ...")
    model.load_state_dict(tensors, strict=False)
    channels_last(model)  # as in training: another layout takes other kernels, which round otherwise
    return model.eval().requires_grad_(False), header


def _drawing(model: nn.Module) -> tuple[str, ...]:
    """How the names begin of what is released."""
    released = [phase.module for phase in model.phases() if phase.ema]  # type: ignore[operator]
    modules = [name + "." for name, module in model.named_modules() if any(module is one for one in released)]
    return (*modules, *(name for name, _ in model.named_buffers(recurse=False)))
