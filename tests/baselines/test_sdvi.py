"""The paper's equations, written out with loops or by torch itself, against `baselines/sdvi.py`."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from douga.baselines.sdvi import Config, ConvLSTM, Gaussians, Joined, Sdvi, Window, motion_weight, posterior_share
from douga.core.clip import Batch, Request
from douga.core.registry import RECIPES

TINY = Config(widths=(4, 8), channels=8, noise=4, anneal_steps=10, picture=True)


@pytest.fixture
def model() -> Sdvi:
    torch.manual_seed(0)
    return Sdvi(TINY).eval()


def clips(batch: int, frames: int, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def gaussians(seed: int) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = (torch.randn(5, 2, 3, 4, 4, generator=generator) for _ in range(2))
    return Gaussians(mean, log_variance)


def test_the_divergence_is_that_of_torch_summed_over_a_step() -> None:
    p, q = gaussians(0), gaussians(1)
    here, there = (Normal(g.mean, g.log_variance.exp().sqrt()) for g in (p, q))
    torch.testing.assert_close(p.kl(q), kl_divergence(here, there).sum((2, 3, 4)).mean())
    assert not torch.isclose(p.kl(q), q.kl(p))
    assert p.kl(p).item() == pytest.approx(0, abs=1e-5)


def test_noise_is_one_value_for_each_channel() -> None:
    g, noise = gaussians(0), torch.randn(5, 2, 3)
    apart = (g.draw(noise) - g.mean) / g.log_variance.exp().sqrt()
    torch.testing.assert_close(apart, noise[..., None, None].expand_as(apart), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1.0), (20, 1.0), (35, 0.85), (50, 0.7), (80, 0.4), (100, 0.4), (200, 0.4)]
)
def test_the_posterior_s_share_goes_from_1_to_0_4(step: int, share: float) -> None:
    assert posterior_share(step, 100) == pytest.approx(share)


def test_motion_weight() -> None:
    frames = torch.zeros(4, 1, 3, 6, 6)
    frames[1, 0, 2, 0, :2] = 0.3  # two neighbours move into frame 1, in one colour, and away from it in frame 2
    frames[2, 0, :, 4, 4] = 0.3  # one alone, in frame 2
    frames[1:, 0, 0, 5, 0] = 0.09  # too little
    expected = torch.ones(2, 1, 1, 6, 6)
    for t in range(2):
        moved = {
            (y, x)
            for y in range(6)
            for x in range(6)
            if max(abs(frames[t + 1, 0, c, y, x] - frames[t, 0, c, y, x]).item() for c in range(3)) > 0.1
        }
        for y, x in moved:
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
            expected[t, 0, 0, y, x] = 6 if len(moved & near) >= 2 else 0
    assert set(expected.flatten().tolist()) == {0, 1, 6}
    assert torch.equal(motion_weight(frames, 5.0), expected)


def test_conv_lstm_follows_the_equations() -> None:
    torch.manual_seed(0)
    lstm = ConvLSTM(2, 3)
    torch.nn.init.normal_(lstm.norm.weight)
    torch.nn.init.normal_(lstm.norm.bias)
    x, cell = torch.randn(3, 1, 2, 1, 1), torch.randn(1, 3, 1, 1)
    states = lstm(x, cell)
    see, recall = (kernel[:, :, 1, 1] for kernel in (lstm.see.weight, lstm.recall.weight))  # at 1x1 the rest sees zeros
    c, h = cell.flatten(), torch.zeros(3)
    for t in range(3):
        y = (see @ x[t].flatten() + recall @ h).view(4, 3)
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        y = y * lstm.norm.weight.view(4, 3) + lstm.norm.bias.view(4, 3)
        new = torch.empty(3)
        for k in range(3):
            j, f, i, o = (y[gate, k].item() for gate in range(4))
            c[k] = c[k] / (1 + math.exp(-f)) + math.tanh(j) / (1 + math.exp(-i))
            new[k] = math.tanh(c[k]) / (1 + math.exp(-o))
        h = new
        torch.testing.assert_close(states[t][1].flatten(), h, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("up", [False, True])
def test_joined_is_one_convolution_of_both(*, up: bool) -> None:
    layer = Joined(3, 2, 4, up=up)
    x, content = torch.randn(6, 3, 5, 5), torch.randn(2, 2, 5, 5)
    both = torch.cat([x, content.repeat(3, 1, 1, 1)], dim=1)
    weight = torch.cat([layer.x.weight, layer.content.weight], dim=0 if up else 1)
    if up:
        expected = F.conv_transpose2d(both, weight, layer.x.bias, stride=2, padding=1)
    else:
        expected = F.conv2d(both, weight, layer.x.bias, padding=1)
    torch.testing.assert_close(layer(x, content), expected, atol=1e-5, rtol=1e-4)


def test_training_draws_what_drawing_draws(model: Sdvi) -> None:
    """Given as truth what the prior drew, training draws the same again: the prior sees the frames before and no more."""
    keys, noise = torch.rand(2, 2, 3, 16, 24) * 2 - 1, torch.randn(2, 6, 4)
    with torch.no_grad():
        drawn = model.network.draw(keys, noise, 2).permute(2, 0, 1, 3, 4)
        frames = torch.cat([keys[:1], drawn, keys[1:]])
        (again, _, _) = model.network(frames, noise.transpose(0, 1).expand(2, -1, -1, -1))
    torch.testing.assert_close(again[:, 1], drawn, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(again[:, 0], drawn, atol=1e-2)  # the posterior saw the frame itself


def test_the_first_drawn_frame_knows_of_the_last_key_frame(model: Sdvi) -> None:
    frames = clips(1, 8).permute(2, 0, 1, 3, 4)
    other = torch.cat([frames[:-1], -frames[-1:]])
    noise = torch.randn(2, 6, 1, 4)
    with torch.no_grad():
        (_, posterior, prior), (_, posterior_2, prior_2) = model.network(frames, noise), model.network(other, noise)
    assert (prior.mean - prior_2.mean).abs().amax((1, 2, 3, 4)).min() > 1e-4
    assert torch.equal(posterior.mean, posterior_2.mean)  # which is blind to what comes


def test_pieces_make_no_difference(model: Sdvi, monkeypatch: pytest.MonkeyPatch) -> None:
    video = clips(2, 6)
    request = Request.tween(video[:, :, 0], video[:, :, -1], 4)
    at_once = model.synthesize(request, 3, torch.Generator().manual_seed(0))
    for rows in (1, 4):
        monkeypatch.setattr(Sdvi, "piece_pixels", rows * 16 * 24)
        in_pieces = model.synthesize(request, 3, torch.Generator().manual_seed(0))
        torch.testing.assert_close(in_pieces, at_once, atol=1e-5, rtol=1e-4)


def test_a_sample_belongs_to_its_clip_and_any_size_is_drawn(model: Sdvi) -> None:
    video = clips(2, 5, 18, 21)  # no multiples of the stride of 4
    drawn = model.synthesize(Request.tween(video[:, :, 0], video[:, :, -1], 3), 2, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 2, 3, 5, 18, 21)
    swapped = video.flip(0)
    noise = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(0))[[1, 0, 3, 2]]
    with torch.no_grad():
        between = model.network.draw(model._frames(swapped[:, :, [0, -1]]), noise, 4)[..., :18, :21]
    torch.testing.assert_close(between.unflatten(0, (2, 2)).flip(1), drawn[:, :, :, 1:-1], atol=1e-5, rtol=1e-4)


def test_losses_are_the_paper_s() -> None:
    model = Sdvi(TINY)
    frames = clips(2, 5).permute(2, 0, 1, 3, 4)
    drawn, p, q = torch.zeros(3, 2, 2, 3, 16, 24), gaussians(0), gaussians(1)
    drawn[:, 1] = frames[1:-1] + 0.5
    terms = model.losses("network", Window(frames, torch.zeros(2, 3, 2, 4), 0.7), (drawn, p, q))
    weight = motion_weight(frames, 5.0)
    assert terms["posterior/pixels"].item() == pytest.approx(
        0.7 * (frames[1:-1].abs() * weight).mean().item(), rel=1e-5
    )
    assert terms["prior/pixels"].item() == pytest.approx(0.3 * 0.5 * weight.mean().item(), rel=1e-5)
    assert terms["posterior/kl"].item() == pytest.approx(7e-5 * p.kl(q).item())
    assert terms["prior/kl"].item() == pytest.approx(3e-5 * q.kl(p).item())


def test_windows_draw_by_seed_and_share_by_step() -> None:
    model, video = Sdvi(TINY), clips(2, 5)
    (window,) = model.windows(Batch(video, torch.tensor([7, 8]), step=5))
    (other,) = model.windows(Batch(video, torch.tensor([7, 9]), step=0))
    assert (window.share, other.share) == (pytest.approx(0.7), 1.0)
    assert torch.equal(window.noise[:, :, 0], other.noise[:, :, 0])
    assert not torch.equal(window.noise[:, :, 1], other.noise[:, :, 1])
    assert torch.equal(window.frames.permute(1, 2, 0, 3, 4), video)


def test_small_is_small_and_sees_as_many_clips_as_brief() -> None:
    paper, small = (RECIPES.load(f"sdvi/{name}")() for name in ("paper", "small"))
    brief = RECIPES.load("inbetween/brief")()
    assert small.steps * small.batch == brief.steps * brief.batch
    assert small.model.anneal_steps == small.steps
    with torch.device("meta"):
        assert sum(4 * p.numel() for p in Sdvi(small.model).parameters()) < 10e6
        assert Sdvi(replace(paper.model, picture=True)).network.decoder.picture.weight.shape == (3, 3, 3, 3)
    assert (paper.model.stride, paper.model.picture) == (16, False)


def test_other_key_frames_are_refused(model: Sdvi) -> None:
    video, mask = torch.zeros(1, 3, 5, 16, 16), torch.tensor([True, False, True, False, True])
    with pytest.raises(ValueError, match="one first and one last"):
        model.synthesize(Request(video, mask), 1, torch.Generator())
    with pytest.raises(ValueError, match="3 channels"):
        model.synthesize(Request.tween(video[:, :1, 0], video[:, :1, 0], 3), 1, torch.Generator())
