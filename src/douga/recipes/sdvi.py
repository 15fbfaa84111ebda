"""Recipes of SDVI (Xu et al. 2020). `douga train sdvi/small --data weizmann --steps 100`

paper   120,000 steps of 32 clips, the authors' settings for KTH.
small   for two CPU cores.
tiny    seconds on a CPU; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import replace

from douga.baselines.sdvi import Config
from douga.train.engine import Experiment


def paper() -> Experiment:
    return Experiment(
        "sdvi/paper",
        "sdvi",
        Config(),
        data="kth",
        lr=2e-3,
        halve_steps=263_000,
        batch=32,
        steps=120_000,
    )


def small() -> Experiment:
    """6,400 clips, as many as `inbetween/brief` sees."""
    steps = 1_600
    return replace(
        paper(),
        name="sdvi/small",
        model=Config(widths=(16, 32, 64), channels=48, noise=16, anneal_steps=steps, picture=True),
        data="weizmann",
        batch=4,
        steps=steps,
        lr=2e-3,
        halve_steps=800,
        clip_norm=1.0,
        augment=("flip", "reverse", "shift", "colour"),
    )


def tiny() -> Experiment:
    model = Config(widths=(4, 8), channels=8, noise=4, anneal_steps=20)
    return replace(small(), name="sdvi/tiny", model=model, data="shapes", size=(32, 32), batch=4, steps=20, log_steps=5)
