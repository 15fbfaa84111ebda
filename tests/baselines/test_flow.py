from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from douga.baselines.flow import Flow
from douga.baselines.naive import Linear
from douga.core.clip import Request
from douga.core.contracts import Synthesizer
from douga.video.flow import splat

ENDS = torch.tensor([True, False, True])


def texture(generator: torch.Generator, side: int) -> Tensor:
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 2 - 1
    return F.interpolate(coarse, (side, side), mode="bicubic").clamp(-1, 1)


@pytest.fixture
def square() -> Tensor:
    """(1, 3, 3, 64, 64): a textured square goes 4 px to the right in each step, over a fainter texture that stays."""
    generator = torch.Generator().manual_seed(0)
    piece, ground = texture(generator, 24), texture(generator, 64) * 0.3
    video = ground[:, :, None].repeat(1, 1, 3, 1, 1)
    for time in range(3):
        video[:, :, time, 20:44, 16 + 4 * time : 40 + 4 * time] = piece
    return video


def psnr(drawn: Tensor, truth: Tensor) -> float:
    return -10 * torch.log10(((drawn - truth) / 2).square().mean()).item()


@pytest.mark.parametrize("axes", [(3, 4), (4, 3)])  # the motion goes right, or down: x and y must not be exchanged
def test_draws_a_known_motion_far_better_than_a_fade(square: Tensor, axes: tuple[int, int]) -> None:
    video = square.permute(0, 1, 2, *axes).contiguous()
    request = Request.hide(video, ENDS)
    drawn, faded = (m.synthesize(request, 1, torch.Generator())[0] for m in (Flow(), Linear()))
    assert psnr(drawn[:, :, 1], video[:, :, 1]) > psnr(faded[:, :, 1], video[:, :, 1]) + 10


def test_is_a_synthesizer_for_any_mask(square: Tensor) -> None:
    assert isinstance(Flow(), Synthesizer)
    video = torch.cat([square, square.flip(2)], dim=2).repeat(2, 1, 1, 1, 1)
    for mask in ([0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0], [1, 0, 1, 0, 0, 1]):
        request = Request.hide(video, torch.tensor(mask, dtype=torch.bool))
        drawn = Flow().synthesize(request, 2, torch.Generator())
        assert drawn.shape == (2, *video.shape)
        assert drawn.isfinite().all()
        assert drawn.abs().max() <= 1 + 1e-5
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0][:, :, request.mask], video[:, :, request.mask])
    alone = Flow().synthesize(Request.hide(video[:1], request.mask), 1, torch.Generator())
    assert torch.allclose(alone[0, 0], drawn[0, 0], atol=1e-5)  # the clips of a batch do not touch


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 90), (90, 5), (11, 13)])
def test_takes_pictures_that_are_too_small_for_dis(size: tuple[int, int]) -> None:
    video = torch.rand(1, 1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn = Flow().synthesize(Request.hide(video, ENDS), 1, torch.Generator())
    assert drawn.shape == (1, *video.shape)
    assert drawn.isfinite().all()
    assert drawn.abs().max() <= 1 + 1e-5


def test_splat_equals_its_definition_written_as_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    values, flow = (torch.rand(1, 2, 4, 5, generator=generator) * 6 - 3 for _ in range(2))
    expected = torch.zeros_like(values)
    for row in range(4):
        for column in range(5):
            x, y = column + flow[0, 0, row, column], row + flow[0, 1, row, column]
            for i in range(4):
                for j in range(5):
                    nearness = (1 - (x - j).abs()).clamp(min=0) * (1 - (y - i).abs()).clamp(min=0)
                    expected[0, :, i, j] += nearness * values[0, :, row, column]
    assert torch.allclose(splat(values, flow), expected, atol=1e-5)


def test_draws_real_people(real_data: Path) -> None:
    strip = np.asarray(Image.open(real_data / "weizmann" / "person07_two_hands_wave.jpg").convert("RGB"))
    frames = torch.from_numpy(strip.reshape(64, -1, 64, 3).transpose(3, 1, 0, 2)[:, 20:25].copy())
    request = Request.hide(frames[None].float() / 127.5 - 1, torch.tensor([True, False, False, False, True]))
    drawn = Flow().synthesize(request, 1, torch.Generator())
    assert drawn.isfinite().all()
    assert drawn.abs().max() <= 1 + 1e-5
