"""Recipes of tween-any, which is ours. Motion first and alone, as what may fade or switch never learns to move:

    douga train tween/motion --data weizmann --steps 1600 --out A    # few kinds of motion on a still ground: it takes off
    douga train tween/motion --data clips:FOLDER --init A/weights.safetensors --out B
    douga train tween/any --data clips:FOLDER --init B/weights.safetensors

motion   the flow term alone.
any      how frames are composed, motion stays as it is; on all clips at hand; 20 minutes on two CPU cores. `mixture` has
         synthetic motion too, and fewer people.
tiny     seconds on a CPU; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import replace

from douga.models.tween_any import Config
from douga.train.engine import Experiment


def motion() -> Experiment:
    return replace(
        any_pictures(),
        name="tween/motion",
        model=Config(motion_steps=10**9),
        steps=1_600,
        halve_steps=3_000,
    )


def any_pictures() -> Experiment:
    return Experiment(
        "tween/any",
        "tween-any",
        Config(flow=0.0, best_of=1, reconstruction=10.0, perceptual=20.0, warm_up=1_800),
        data="clips",
        batch=8,
        steps=2_000,
        lr=1e-3,
        betas=(0.9, 0.999),  # at 0.5 the steps are so noisy at this rate that no motion is learned
        halve_steps=600,
        clip_norm=20.0,
        augment=("flip", "reverse", "colour"),
    )


def tiny() -> Experiment:
    model = Config(
        size=(32, 32),
        noise=8,
        channels=8,
        blocks=3,
        width=4,
        critic_width=4,
        perceptual=0.0,
        warm_up=0,
    )
    return replace(
        any_pictures(),
        name="tween/tiny",
        model=model,
        data="weizmann",
        size=(32, 32),
        batch=2,
        steps=4,
        augment=("flip", "reverse"),
        log_steps=2,
        strip_steps=4,
    )
