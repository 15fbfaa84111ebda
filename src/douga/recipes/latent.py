"""Recipes of the latent VAE (Cristovao et al. 2020). `douga train latent/teapot-1dof --set model.alpha=5`

The paper tells alphas and epochs. An epoch here is 500 triplets of the 4,000 that the source has, each in another order.

teapot-1dof      position; alpha 5; 1,500 epochs; half the widths, enough for a line and within 20 minutes on two cores.
teapot-2dof      position and yaw; alpha 10; 2,000 epochs.
teapot-6dof      all six; a latent of 32; the divergences open late, twice the learning rate.
teapot-several   three teapots; alpha 100; a latent of 32.
dsprites         the authors' study of the latent's size: `--set model.latent=...`
pictures         deeper, with a perceptual term, for folders of real pictures and videos: `--data FOLDER`
tiny             seconds on a CPU; draws nothing worth a look.
"""

from __future__ import annotations

from dataclasses import replace

from douga.models.latent_vae import Config
from douga.train.engine import Experiment

EPOCH = 500  # triplets


def _teapot(name: str, model: Config, epochs: int) -> Experiment:
    batch = 64
    return Experiment(
        f"latent/{name}",
        "latent-vae",
        model,
        data=name,
        frames=3,
        batch=batch,
        steps=epochs * EPOCH // batch,
        lr=1e-3,
        betas=(0.9, 0.999),
        augment=("reverse",),
        log_steps=100,
        strip_steps=2_000,
    )


def teapot_1dof() -> Experiment:
    return _teapot("teapot-1dof", Config(alpha=5.0, widths=(16, 32, 64, 128)), 1_500)


def teapot_2dof() -> Experiment:
    return _teapot("teapot-2dof", Config(alpha=10.0), 2_000)


def teapot_6dof() -> Experiment:
    whole = _teapot("teapot-6dof", Config(alpha=10.0, latent=32, opening=1_400), 2_000)
    return replace(whole, lr=2e-3, clip_norm=20.0)  # unclipped, the opening of the divergences kills the encoder


def teapot_several() -> Experiment:
    return _teapot("teapot-several", Config(alpha=100.0, latent=32), 2_000)


def dsprites() -> Experiment:
    return _teapot("dsprites", Config(alpha=10.0, latent=10), 2_000)


def pictures() -> Experiment:
    """Triplets of up to 4 frames' distance from clips of 9 frames."""
    model = Config(alpha=10.0, latent=64, blocks=1, perceptual=1.0)
    return replace(
        _teapot("pictures", model, 2_000),
        data="weizmann",
        frames=9,
        batch=16,
        clip_norm=100.0,
        augment=("flip", "reverse"),
    )


def tiny() -> Experiment:
    model = Config(size=(32, 32), widths=(4, 8), latent=4)
    return replace(
        _teapot("tiny", model, 1),
        data="shapes",
        size=(32, 32),
        frames=5,
        batch=4,
        steps=20,
        log_steps=5,
        strip_steps=20,
    )
