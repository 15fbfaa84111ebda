"""douga (動画): video from sparse conditions. `import douga; clip = douga.tween("a.png", "b.png", frames=14, samples=4)`."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
# Not `train`: the room of that name would hide it once it is imported; `from douga.api import train`.
__all__ = ["data_check", "fill", "info", "load", "replay", "save", "slow", "tween"]


def __getattr__(name: str) -> Any:
    # Lazy: `import douga` costs nothing, torch is imported by the first call.
    if name in __all__:
        return getattr(import_module("douga.api"), name)
    raise AttributeError(f"module 'douga' has no attribute {name!r}")
