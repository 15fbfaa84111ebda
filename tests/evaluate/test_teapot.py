"""What is said of the teapot's experiments, on drawings that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from douga.baselines.naive import Linear
from douga.core.clip import Request
from douga.data.teapot import Teapot2
from douga.evaluate.latent import first_frames
from douga.evaluate.teapot import Poses, reconstruction

SIZE = (32, 32)


class Cut(Teapot2):
    """The first 40 videos."""

    def __len__(self) -> int:
        return 40


class Perfect:
    """Draws the truth of a split, and reconstructs with an even error."""

    def __init__(self, source: Cut) -> None:
        self.clips = torch.stack([source.clip(index, 0, 3) for index in range(len(source))])

    def synthesize(self, request: Request, samples: int, generator: torch.Generator) -> Tensor:
        return self.clips[None]

    def encode(self, pictures: Tensor) -> Perfect:
        self.mean = pictures
        return self

    def decode(self, latents: Tensor) -> Tensor:
        return latents + 0.2


def test_the_nearest_pose_of_a_known_picture_is_its_own() -> None:
    train = Cut(None, "train", SIZE)
    found = Poses(train).nearest(train.clip(7, 0, 3).transpose(0, 1))
    np.testing.assert_array_equal(found, train.factors(7))


def test_the_truth_stands_right_and_a_cross_fade_does_not() -> None:
    test, poses = Cut(None, "test-large", SIZE), Poses(Cut(None, "train", SIZE))
    place, turn = poses.errors(Perfect(test), test, 40)
    faded_place, _ = poses.errors(Linear(), test, 40)
    assert place < 0.3  # as near as 120 pictures of a two-dimensional space lie
    assert faded_place > 2 * place
    assert 0 < turn < 180


def test_reconstruction_is_the_error_of_pixels_in_0_1() -> None:
    test = Cut(None, "test", SIZE)
    pictures = first_frames(test, 5)
    assert pictures.shape == (5, 3, *SIZE)
    torch.testing.assert_close(pictures[-1], test.clip(39, 0, 1)[:, 0])
    assert reconstruction(Perfect(test), pictures) == pytest.approx(0.01, rel=1e-4)
