"""Models by name: released weights, weight files, methods without weights."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from douga.core.registry import METHODS

if TYPE_CHECKING:
    from douga.core.contracts import Synthesizer

DEFAULT_MODEL = "tween-any"


def weights() -> dict[str, Path]:
    """The released weights that came with the package: name -> file."""
    return {path.stem: path for path in sorted((Path(__file__).parents[1] / "weights").glob("*.safetensors"))}


def load(name: str | Path, device: str = "cpu") -> tuple[Synthesizer, dict[str, Any]]:
    """Load something that draws.

    name: released weights ("inbetween-weizmann"), a weight file, or a method without weights ("hold", "linear",
    "flow"). device: where the model is put ("auto": the fastest there is); methods without weights stay on the CPU.
    Returns the model in eval mode and what is known of it: its "method" and, for weights, all that the file's header
    says, its "file" and "sha256". Raises ValueError for a name that is not there, a file that is not ours, truncated
    or no release, or a device that is not here.
    """
    if str(name) in METHODS and str(name) not in weights():
        kind = METHODS.load(str(name))
        if hasattr(kind, "phases"):
            raise ValueError(f"the method {name} needs weights: name a released model or a weight file ({there_are()})")
        return kind(), {"method": str(name)}
    path = weight_file(name)

    from douga.train.checkpoint import load_release
    from douga.train.engine import pick_device

    where = pick_device(device)
    model, header = load_release(path)
    return cast("Synthesizer", model.to(where)), {**header, "file": str(path), "sha256": file_sha256(path)}


def info(path: str | Path) -> dict[str, Any]:
    """What a weight file is and how it was made.

    path: a weight file or the name of released weights. Returns "file", "bytes", "sha256", and its header: kind
    ("release" or "training"), method, config, provenance, parameters (how many). Raises ValueError for a file that is
    not ours or is truncated.
    """
    from douga.train.checkpoint import read_header

    path = weight_file(path)
    header = read_header(path)
    size = {"bytes": path.stat().st_size, "parameters": header["parameters"]}
    return {"file": str(path), "sha256": file_sha256(path), **size, **header}


def begun_with(provenance: dict[str, Any]) -> list[dict[str, Any]]:
    """What weights were trained on before, where a run began with others: recipe, data, steps, ...; the latest first."""
    begun = provenance.get("init")
    return [begun, *begun_with(begun)] if begun else []


def weights_get(name: str) -> Path:
    """Bring the weights of a network that metrics need ("i3d", "lpips-alex", ...) into DOUGA_CACHE/weights; returns the file."""
    from douga.nn.pretrained import fetch

    return fetch(name)


def weight_file(name: str | Path) -> Path:
    path = weights().get(str(name), Path(name).expanduser())
    if not path.is_file():
        raise ValueError(f"unknown model {str(name)!r}: no such file, and {there_are()}")
    return path


def there_are() -> str:
    free = [name for name in METHODS if name not in weights() and not hasattr(METHODS.load(name), "phases")]
    return f"there are the weights {', '.join(weights()) or '(none)'} and the methods {', '.join(free)}"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
