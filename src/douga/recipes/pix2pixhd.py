"""Recipes of pix2pixHD (Wang et al. 2018). `douga train pix2pixhd/blocks`

street    the paper's global generator at 512x256; for a GPU.
blocks    the synthetic street at 128x64, seeing the frames that `vid2vid/blocks` sees.
street-small    a sample of Cityscapes at 256x128, seeing the frames that `vid2vid/street-small` sees.
tiny      seconds on a CPU; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import replace

from douga.baselines.pix2pixhd import Config
from douga.recipes import vid2vid
from douga.train.engine import Experiment


def street() -> Experiment:
    return replace(vid2vid.street(), name="pix2pixhd/street", method="pix2pixhd", model=Config(classes=34))


def blocks() -> Experiment:
    model = Config(
        classes=vid2vid.CLASSES,
        width=20,
        downs=3,
        blocks=6,
        critic_width=24,
        perceptual_blocks=3,
        reconstruction=10.0,
        warm_up=300,
    )
    return replace(vid2vid.blocks(), name="pix2pixhd/blocks", method="pix2pixhd", model=model)


def street_small() -> Experiment:
    model = replace(blocks().model, classes=34, warm_up=200)
    return replace(vid2vid.street_small(), name="pix2pixhd/street-small", method="pix2pixhd", model=model)


def tiny() -> Experiment:
    model = Config(
        classes=vid2vid.CLASSES, width=4, downs=2, blocks=2, critic_width=4, critic_layers=1, perceptual=0, window=9
    )
    return replace(vid2vid.tiny(), name="pix2pixhd/tiny", method="pix2pixhd", model=model)
