"""Recipes of COVST (Chen et al. 2017) on pix2pixHD, as vid2vid compares with it. `douga train covst/blocks`

street    on the paper's pix2pixHD at 512x256; for a GPU.
blocks    the synthetic street at 128x64, beside `pix2pixhd/blocks`.
tiny      seconds on a CPU; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from douga.baselines.covst import Config
from douga.recipes import pix2pixhd
from douga.train.engine import Experiment


def street() -> Experiment:
    painter = pix2pixhd.street()
    return replace(painter, name="covst/street", method="covst", model=Config(**asdict(painter.model)))


def blocks() -> Experiment:
    painter = pix2pixhd.blocks()
    return replace(painter, name="covst/blocks", method="covst", model=Config(**asdict(painter.model)))


def tiny() -> Experiment:
    painter = pix2pixhd.tiny()
    model = Config(**asdict(painter.model), mask_width=4)
    return replace(painter, name="covst/tiny", method="covst", model=model)
