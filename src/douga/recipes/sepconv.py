"""Recipes of the baseline SepConv-t (after Niklaus et al. 2017). `douga train sepconv/small --data weizmann`

paper   the paper's model, batch, learning rate and augmentation. Departures: 64x64 clips of 16 frames and a random time between
        their ends, where the paper has the middle of three frames in 128x128 crops; Adam for AdaMax; how long is our choice.
small   6,400 clips, as many as inbetween/brief sees; 25 taps; weights of 7.9 MB.
tiny    seconds on a CPU; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import replace

from douga.baselines.sepconv import Config
from douga.train.engine import Experiment


def paper() -> Experiment:
    return Experiment(
        "sepconv/paper",
        "sepconv-t",
        Config(),
        data="kth",
        batch=16,
        steps=160_000,
        lr=1e-3,
        betas=(0.9, 0.999),
        augment=("flip", "reverse"),
    )


def small() -> Experiment:
    return replace(
        paper(),
        name="sepconv/small",
        model=Config(widths=(24, 48, 96, 128), taps=25, times=2),
        data="weizmann",
        batch=8,
        steps=800,
        halve_steps=800,
        augment=("flip", "reverse", "shift", "colour"),
    )


def tiny() -> Experiment:
    model = Config(widths=(4, 8, 8), taps=5, times=2)
    return replace(
        small(), name="sepconv/tiny", model=model, data="shapes", size=(32, 32), batch=4, steps=20, log_steps=5
    )
