"""Recipes of vid2vid (Wang et al. 2018) and its three ablations. `douga train vid2vid/blocks`

street    the paper's networks at 512x256, its critics, losses and rates; `--set model.fine=1` and so on for finer scales. For
          a GPU: the authors trained for days.
face      edges to a face, 256x256, like `street`; `--data faces:FOLDER`, prepared by `douga data prepare edges`. For a GPU.
pose      poses to a person, likewise; `--data pose:FOLDER`.
street-small    a sample of Cityscapes at 256x128 with narrow networks, coarse to fine: 500 steps at 128x64, then 60 of the
          finer scale alone, then both. About 40 minutes on one core.
face-small, pose-small    one person from edges or poses at 128x128, likewise. About 20 minutes on one core each.
blocks    the synthetic street at 128x64: two clips of 9 frames a step, about 10 minutes for 500 steps on two cores; the first 300
          without critics, and with the mean absolute error beside the paper's terms, as there are so few.
blocks-wo-foreground, -wo-video, -wo-flow    table 2 of the paper.
tiny      seconds on a CPU; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import replace

from douga.models.vid2vid import Config
from douga.train.engine import Experiment

CLASSES, THINGS = 7, (5, 6)  # of douga.data.blocks
STREET_THINGS = (24, 25, 26, 27, 28, 29, 30, 31, 32, 33)  # persons and vehicles among Cityscapes' ids


def street() -> Experiment:
    return Experiment(
        "vid2vid/street",
        "vid2vid",
        Config(classes=34, things=STREET_THINGS, double_steps=15_000),
        data="cityscapes",
        size=(256, 512),
        frames=30,
        batch=8,
        steps=40 * 2_975 // 8,
        lr=2e-4,
        augment=("flip",),
        log_steps=50,
    )


def face() -> Experiment:
    model = replace(street().model, classes=0, things=())
    return replace(street(), name="vid2vid/face", model=model, data="faces", size=(256, 256), steps=40_000)


def pose() -> Experiment:
    return replace(face(), name="vid2vid/pose", data="pose")


def blocks() -> Experiment:
    model = Config(
        classes=CLASSES,
        things=THINGS,
        width=16,
        blocks=4,
        critic_width=24,
        strides=(1, 3),
        perceptual_blocks=3,
        first_frames=8,
        reconstruction=10.0,
        warm_up=300,
    )
    return replace(
        street(),
        name="vid2vid/blocks",
        model=model,
        data="blocks",
        size=(64, 128),
        frames=9,
        batch=2,
        steps=500,
        lr=4e-4,
        ema=0.99,
        log_steps=10,
        strip_steps=100,
    )


def street_small() -> Experiment:
    whole = blocks()
    model = replace(
        whole.model,
        classes=34,
        things=STREET_THINGS,
        fine=1,
        coarse_steps=500,
        alone_steps=60,
        warm_up=200,
    )
    return replace(
        whole,
        name="vid2vid/street-small",
        model=model,
        data="cityscapes",
        size=(128, 256),
        batch=1,
        steps=860,
        augment=("flip", "shift"),
    )


def face_small() -> Experiment:
    whole = blocks()
    model = replace(whole.model, classes=0, things=(), warm_up=150)
    return replace(
        whole,
        name="vid2vid/face-small",
        model=model,
        data="faces",
        size=(128, 128),
        batch=1,
        steps=600,
        augment=("shift",),
    )


def pose_small() -> Experiment:
    return replace(face_small(), name="vid2vid/pose-small", data="pose")


def _ablation(name: str, **changes: object) -> Experiment:
    whole = blocks()
    return replace(whole, name=f"vid2vid/blocks-{name}", model=replace(whole.model, **changes))


def blocks_wo_foreground() -> Experiment:
    return _ablation("wo-foreground", foreground=False)


def blocks_wo_video() -> Experiment:
    return _ablation("wo-video", strides=())


def blocks_wo_flow() -> Experiment:
    return _ablation("wo-flow", flow=False)


def tiny() -> Experiment:
    model = Config(
        classes=CLASSES,
        things=THINGS,
        width=8,
        downs=1,
        blocks=2,
        fine=1,
        critic_width=4,
        critic_layers=1,
        strides=(1, 2),
        perceptual=0,
        window=6,
        from_nothing=0.0,
    )
    return replace(
        blocks(),
        name="vid2vid/tiny",
        model=model,
        size=(16, 32),
        frames=6,
        batch=2,
        steps=4,
        log_steps=2,
        strip_steps=4,
        precision="fp32",
    )
