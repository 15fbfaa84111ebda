"""Recipes of Super SloMo (Jiang et al. 2018). `douga train superslomo/small --data weizmann`

paper   the paper's networks, losses and learning rate; it needs the weights of VGG16 (`douga weights get lpips-vgg16`).
small   narrower networks without the perceptual loss, so nothing is downloaded; 9.1 MB.
tiny    seconds on a CPU, no download either; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import replace

from douga.baselines.superslomo import Config
from douga.train.engine import Experiment


def paper() -> Experiment:
    """Departures: KTH at 64x64 and 25 fps for its own 240-fps videos, cut to 352x352; 7 of a clip's 14 in-between frames for
    all 7; steps for its 500 epochs. The learning rate falls as there, tenfold in two fifths of the run, but smoothly.
    """
    return Experiment(
        "superslomo/paper",
        "superslomo",
        Config(),
        data="kth",
        batch=6,
        steps=300_000,
        lr=1e-4,
        halve_steps=36_000,
        betas=(0.9, 0.999),
        augment=("flip", "reverse", "shift"),
    )


def small() -> Experiment:
    """6,400 clips, as many as `inbetween/brief` sees: about 8 minutes on one core."""
    return replace(
        paper(),
        name="superslomo/small",
        model=Config(widths=(32, 48, 64, 80, 80, 80), times=4, perceptual=0.0),
        data="weizmann",
        batch=4,
        steps=1_600,
        lr=4e-4,  # at 1e-3 one step in a few hundred throws the flows out of the picture, for good
        halve_steps=2_000,
        clip_norm=5.0,
        augment=("flip", "reverse", "shift", "colour"),
    )


def tiny() -> Experiment:
    model = Config(widths=(4, 8, 8, 8, 8, 8), times=2, perceptual=0.0)
    return replace(
        small(), name="superslomo/tiny", model=model, data="shapes", size=(32, 32), batch=4, steps=20, log_steps=5
    )
