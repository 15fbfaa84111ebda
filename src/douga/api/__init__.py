"""The door: every face (the command line, notebooks, the studio) calls these functions and nothing else.

Importing this package imports no torch; the first call that draws or trains does.
"""

from douga.api.again import replay
from douga.api.draw import FALLBACKS, MEMORY_LIMIT_GIB, UNSURE, tween, tween_options
from douga.api.files import OUT_SUFFIXES, outputs, save
from douga.api.keys import FRAMES, Key
from douga.api.latent import explore
from douga.api.maps import paint
from douga.api.measure import compare, evaluate, reproduce, reproduce_teapot, run_folder, train
from douga.api.models import DEFAULT_MODEL, info, load, weights, weights_get
from douga.api.sources import data_check, data_get, data_prepare, open_source
from douga.api.videos import fill, slow

__all__ = [
    "DEFAULT_MODEL",
    "FALLBACKS",
    "FRAMES",
    "MEMORY_LIMIT_GIB",
    "OUT_SUFFIXES",
    "UNSURE",
    "Key",
    "compare",
    "data_check",
    "data_get",
    "data_prepare",
    "evaluate",
    "explore",
    "fill",
    "info",
    "load",
    "open_source",
    "outputs",
    "paint",
    "replay",
    "reproduce",
    "reproduce_teapot",
    "run_folder",
    "save",
    "slow",
    "train",
    "tween",
    "tween_options",
    "weights",
    "weights_get",
]
