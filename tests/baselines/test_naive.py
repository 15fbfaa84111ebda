from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from douga.baselines.naive import Hold, Linear
from douga.core.clip import Request
from douga.core.contracts import Synthesizer


def ramp(known: dict[int, float], frames: int) -> Request:
    video = torch.zeros(2, 3, frames, 4, 5)
    for time, value in known.items():
        video[:, :, time] = value
    return Request.hide(video, torch.tensor([time in known for time in range(frames)]))


def levels(drawn: Tensor) -> Sequence[float]:
    assert torch.equal(drawn, drawn[..., :1, :1].expand_as(drawn))
    assert torch.equal(drawn, drawn[:1, :1, :1].expand_as(drawn))
    return drawn[0, 0, 0, :, 0, 0].tolist()


@pytest.mark.parametrize("method", [Hold, Linear])
def test_is_a_synthesizer_that_gives_known_frames_and_repeats_samples(method: type) -> None:
    assert isinstance(method(), Synthesizer)
    generator = torch.Generator().manual_seed(0)
    request = Request.hide(torch.rand(2, 3, 7, 4, 5, generator=generator), torch.arange(7) % 3 == 1)
    drawn = method().synthesize(request, 3, generator)
    assert drawn.shape == (3, 2, 3, 7, 4, 5)
    assert torch.equal(drawn[:, :, :, request.mask], request.known[:, :, request.mask].expand(3, -1, -1, -1, -1, -1))
    drawn[0] = 0  # a sample of its own, not a view of the others
    assert drawn[1].any()


def test_hold_takes_the_nearest_and_of_two_the_earlier() -> None:
    drawn = Hold().synthesize(ramp({1: -0.5, 5: 0.25, 8: 0.75}, 10), 1, torch.Generator())
    assert levels(drawn) == [-0.5] * 4 + [0.25] * 3 + [0.75] * 3


def test_linear_fades_between_neighbours_and_holds_outside() -> None:
    drawn = Linear().synthesize(ramp({1: -0.5, 5: 0.5, 7: 0.25}, 9), 1, torch.Generator())
    assert levels(drawn) == [-0.5, -0.5, -0.25, 0.0, 0.25, 0.5, 0.375, 0.25, 0.25]


@pytest.mark.parametrize("method", [Hold, Linear])
@pytest.mark.parametrize("time", [0, 2, 4])
def test_a_single_known_frame_is_everywhere(method: type, time: int) -> None:
    assert levels(method().synthesize(ramp({time: 0.5}, 5), 1, torch.Generator())) == [0.5] * 5
