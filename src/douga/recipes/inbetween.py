"""Recipes of the in-betweening GAN (Li et al. 2019). `douga train inbetween/small --data weizmann --minutes 100`

paper             500,000 steps of 32 clips: about 5 days on one V100 by its authors.
paper-wo-fusion   the same without the gates of the latent generator.
paper-naive       the same without the latent generator.
small             half the widths (about a quarter of the cost), weights of 14.5 MB, terms that help on little data.
brief             small with a quarter of its steps, for ablations on two cores; brief-wo-fusion, brief-naive likewise.
tiny              seconds on a CPU; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import replace

from douga.models.inbetween_gan import Config
from douga.train.engine import Experiment


def paper() -> Experiment:
    return Experiment("inbetween/paper", "inbetween-gan", Config(), data="kth", lr=5e-5, batch=32, steps=500_000)


def paper_wo_fusion() -> Experiment:
    return replace(paper(), name="inbetween/paper-wo-fusion", model=Config(generator="wo-fusion"))


def paper_naive() -> Experiment:
    return replace(paper(), name="inbetween/paper-naive", model=Config(generator="naive"))


def small() -> Experiment:
    """First motion, then detail from the key frames, then the critics: about 70 minutes on two cores with bf16 instructions.

    It stops before the video critic has learned its few clips by heart (`docs/log.md`).
    """
    model = Config(
        noise=64,
        channels=32,
        width=32,
        critic_width=32,
        norm="group",
        detail=True,
        detail_after=2_500,
        background=True,
        best_of=2,
        reconstruction=20.0,
        motion=10.0,
        feature_matching=10.0,
        critic_rate=0.4,
        warm_up=5_000,
        critic_frames=2,
    )
    return replace(
        paper(),
        name="inbetween/small",
        model=model,
        data="weizmann",
        batch=4,
        steps=6_500,
        lr=1e-3,
        halve_steps=3_000,
        augment=("flip", "reverse", "shift", "colour"),
    )


def brief() -> Experiment:
    """small's schedule in a quarter of its steps (6,400 clips, about 15 minutes on two cores): what the parts are worth."""
    e = small()
    model = replace(e.model, detail_after=620, warm_up=1_240)
    return replace(e, name="inbetween/brief", model=model, steps=1_600, halve_steps=750)


def brief_wo_fusion() -> Experiment:
    e = brief()
    return replace(e, name="inbetween/brief-wo-fusion", model=replace(e.model, generator="wo-fusion"))


def brief_naive() -> Experiment:
    e = brief()
    return replace(e, name="inbetween/brief-naive", model=replace(e.model, generator="naive"))


def tiny() -> Experiment:
    model = Config(
        size=(32, 32),
        noise=8,
        channels=8,
        width=4,
        critic_width=4,
        blocks=3,
        detail=True,
        background=True,
        best_of=2,
        reconstruction=1.0,
    )
    return replace(
        small(), name="inbetween/tiny", model=model, data="shapes", size=(32, 32), batch=4, steps=20, log_steps=5
    )
