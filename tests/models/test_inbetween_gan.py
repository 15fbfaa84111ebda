"""The paper's equations, written out with loops, against `models/inbetween_gan.py`."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from douga.core.clip import Batch, Request
from douga.core.registry import RECIPES
from douga.models.inbetween_gan import Config, Detail, FusionBlock, InbetweenGAN, VideoCritic, VideoGenerator, Window

TINY = Config(size=(32, 32), noise=8, channels=4, width=4, critic_width=4, blocks=3)


def along_time(u: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """u * k + b for u (C, T), kernel (out, C, 3), written with loops; zero outside."""
    channels, time = u.shape
    out = torch.zeros(len(kernel), time)
    for o in range(len(kernel)):
        for t in range(time):
            total = bias[o].item()
            for c in range(channels):
                for k in range(3):
                    if 0 <= t + k - 1 < time:
                        total += kernel[o, c, k].item() * u[c, t + k - 1].item()
            out[o, t] = total
    return out


@pytest.mark.parametrize("generator", ["full", "wo-fusion"])
def test_fusion_block_follows_the_equations(generator: str) -> None:
    torch.manual_seed(0)
    time, c = 4, 3
    block = FusionBlock(replace(TINY, generator=generator, channels=c), time)
    with torch.no_grad():
        block.gates.bias += 0.7  # so that g_s + g_e passes 1 somewhere and max(0, .) matters
    z, start, end = torch.randn(1, c, time, 2, 2), torch.randn(1, c, 2, 2), torch.randn(1, c, 2, 2)
    noise = torch.randn(1, 8)

    u = (block.project.weight @ noise[0] + block.project.bias).view(c, time)
    kernels, biases = block.gates.weight.split(c), block.gates.bias.split(c)
    parts = [along_time(u, kernel, bias) for kernel, bias in zip(kernels, biases, strict=True)]
    z_in = torch.zeros(c, time, 2, 2)
    closed = 0
    for ch in range(c):
        for t in range(time):
            n = parts[-1][ch, t].item()
            for y in range(2):
                for x in range(2):
                    old = z[0, ch, t, y, x].item()
                    if generator == "full":
                        g_s = 1 / (1 + math.exp(-parts[0][ch, t].item()))
                        g_e = 1 / (1 + math.exp(-parts[1][ch, t].item()))
                        closed += g_s + g_e > 1
                        fused = g_s * start[0, ch, y, x].item() + g_e * end[0, ch, y, x].item()
                        z_in[ch, t, y, x] = fused + max(0.0, 1 - g_s - g_e) * old + n
                    else:
                        z_in[ch, t, y, x] = old + n
    inner = torch.nn.functional.leaky_relu(block.conv1(z_in[None]), 0.2)
    expected = torch.nn.functional.leaky_relu(z + block.conv2(inner), 0.2)
    torch.testing.assert_close(block(z, start, end, noise), expected, atol=1e-5, rtol=1e-5)
    assert closed or generator == "wo-fusion"


def test_full_model_has_the_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        model = InbetweenGAN(RECIPES.load("inbetween/paper")().model)
    count = sum(parameter.numel() for parameter in model.generator.parameters())
    assert abs(count / 14.3e6 - 1) < 0.05


def test_small_costs_a_quarter_and_fits_in_15_MB() -> None:
    with torch.device("meta"):
        paper, small = (InbetweenGAN(RECIPES.load(f"inbetween/{name}")().model) for name in ("paper", "small"))
    sizes = [sum(p.numel() for p in model.generator.parameters()) for model in (paper, small)]
    assert sizes[1] < 0.27 * sizes[0]
    assert sum(t.numel() * t.element_size() for t in small.generator.state_dict().values()) < 15e6


def test_ablations_lack_what_their_names_say() -> None:
    with torch.device("meta"):
        wo_fusion = InbetweenGAN(replace(TINY, generator="wo-fusion"))
        naive = InbetweenGAN(replace(TINY, generator="naive"))
    assert wo_fusion.generator.latent.stages[0][0].gates.out_channels == TINY.channels  # the learned noise alone
    assert not hasattr(naive.generator, "latent")
    assert naive.generator.video.layers[-1].stride == (2, 2, 2)


@pytest.mark.parametrize("generator", ["full", "wo-fusion", "naive"])
def test_time_is_doubled_to_sixteen_frames_and_any_number_is_drawn(generator: str) -> None:
    torch.manual_seed(0)
    model = InbetweenGAN(replace(TINY, generator=generator)).eval()
    first, last = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    noise = torch.randn(4, TINY.noise)
    with torch.no_grad():
        native = model.generator(first, last, noise)
        assert native.shape == (4, 3, 16, 32, 32)
        for frames in (1, 7, 30):
            drawn = model.synthesize(Request.tween(first, last, frames), 2, torch.Generator().manual_seed(0))
            assert drawn.shape == (2, 2, 3, frames + 2, 32, 32)
            assert torch.equal(drawn[:, :, :, 0], first.expand(2, -1, -1, -1, -1))
            assert torch.equal(drawn[:, :, :, -1], last.expand(2, -1, -1, -1, -1))


def test_samples_do_not_depend_on_their_neighbours() -> None:
    torch.manual_seed(0)
    model = InbetweenGAN(replace(TINY, background=True, detail=True)).eval()
    first, last = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    noise = torch.randn(4, TINY.noise)
    with torch.no_grad():
        together = model.generator(first, last, noise)
        alone = model.generator(first[1:], last[1:], noise[3:])  # row s * b + i draws clip i
    torch.testing.assert_close(together[3:], alone, atol=1e-5, rtol=1e-4)


def test_paper_recipe_is_purely_adversarial() -> None:
    model = InbetweenGAN(replace(TINY, size=(32, 32)))
    (window,) = model.windows(Batch(torch.rand(2, 3, 16, 32, 32) * 2 - 1, torch.tensor([1, 2])))
    out, _ = model(window, None)
    assert set(model.losses("generator", window, out)) == {"adversarial/video", "adversarial/image"}
    config = RECIPES.load("inbetween/paper")().model
    assert (config.reconstruction, config.feature_matching, config.warm_up) == (0, 0, 0)
    assert (config.background, config.detail, config.best_of, config.norm) == (False, False, 1, "batch")
    assert config.critic_frames == 14


def test_losses_are_the_paper_s_cross_entropies() -> None:
    torch.manual_seed(0)
    model = InbetweenGAN(TINY)
    truth, fake = torch.rand(2, 3, 16, 32, 32) * 2 - 1, torch.rand(2, 3, 16, 32, 32) * 2 - 1
    fake[:, :, [0, 15]] = truth[:, :, [0, 15]]  # the critics see the given key frames, whatever was drawn there
    window = Window(truth, torch.zeros(2, 8), torch.arange(1, 15))
    drawn = fake.clone()
    drawn[:, :, [0, 15]] = 0.5
    terms = model.losses("critics", window, drawn) | model.losses("generator", window, drawn)
    with torch.no_grad():
        d_v = {name: model.critics["video"](x)[0].sigmoid() for name, x in (("true", truth), ("fake", fake))}
        expected_d = -(d_v["true"].log().mean() + (1 - d_v["fake"]).log().mean())
        per_frame = [model.critics["image"](fake[:, :, t])[0].sigmoid().log() for t in range(1, 15)]
    torch.testing.assert_close(terms["critic/video"], expected_d)
    torch.testing.assert_close(terms["adversarial/video"], -d_v["fake"].log().mean())
    torch.testing.assert_close(terms["adversarial/image"], -torch.stack(per_frame).mean())


def test_reconstruction_takes_the_nearest_sample() -> None:
    model = InbetweenGAN(replace(TINY, best_of=2, reconstruction=1.0, feature_matching=1.0))
    truth = torch.zeros(2, 3, 16, 32, 32)
    near, far = torch.full_like(truth, 0.25), torch.full_like(truth, 0.5)
    out = torch.stack([near, far])
    out[:, 1] = out[[1, 0], 1]  # clip 1: the second sample is the nearer one
    terms = model.losses("generator", Window(truth, torch.zeros(4, 8), torch.arange(1, 3)), out.flatten(0, 1))
    assert terms["reconstruction"].item() == pytest.approx(0.25)
    exact = model.losses("generator", Window(truth, torch.zeros(4, 8), torch.arange(1, 3)), truth.repeat(2, 1, 1, 1, 1))
    assert exact["reconstruction"].item() == 0 and exact["feature_matching"].item() == pytest.approx(0, abs=1e-6)
    assert terms["feature_matching"].item() > 0.001


def test_spectral_norm_is_a_switch() -> None:
    assert not hasattr(VideoCritic(TINY).head, "parametrizations")
    assert hasattr(VideoCritic(replace(TINY, spectral_norm=True)).head, "parametrizations")


def test_what_it_cannot_draw_is_refused() -> None:
    model = InbetweenGAN(TINY).eval()
    big = torch.zeros(1, 3, 64, 64)
    with pytest.raises(ValueError, match="3 channels at"):
        model.synthesize(Request.tween(big, big, 3), 1, torch.Generator())
    video, mask = torch.zeros(1, 3, 5, 32, 32), torch.tensor([True, False, True, False, True])
    with pytest.raises(ValueError, match="one first and one last"):
        model.synthesize(Request(video, mask), 1, torch.Generator())
    with pytest.raises(ValueError, match="multiples of 16"):
        InbetweenGAN(replace(TINY, size=(40, 40)))


def test_the_background_shows_only_where_the_key_frames_agree() -> None:
    torch.manual_seed(0)
    video = VideoGenerator(replace(TINY, background=True)).eval()
    with torch.no_grad():
        video.layers[-1].bias[:3] = -20.0  # drawn: black
        video.layers[-1].bias[3] = 20.0  # as much background as there may be
    start, z = torch.full((1, 3, 32, 32), 0.5), torch.randn(1, TINY.channels, 4, 4, 4) * 0.01
    end = start.clone()
    end[..., 8:16, 8:16] = -0.5  # something moved
    with torch.no_grad():
        shown = video(z, start, end, {})
    assert (shown[..., 7:17, 7:17] < -0.99).all()
    torch.testing.assert_close(shown[..., 20:, :], torch.full((1, 3, 4, 12, 32), 0.5), atol=1e-3, rtol=0)


def test_during_the_warm_up_there_is_only_the_reconstruction() -> None:
    model = InbetweenGAN(replace(TINY, reconstruction=1.0, warm_up=3))
    truth = torch.rand(2, 3, 16, 32, 32) * 2 - 1
    for step, critics in ((2, False), (3, True)):
        (window,) = model.windows(Batch(truth, torch.tensor([1, 2]), step))
        out, _ = model(window, None)
        assert bool(model.losses("critics", window, out)) == critics
        assert ("adversarial/video" in model.losses("generator", window, out)) == critics


def test_what_moves_counts_for_more() -> None:
    model = InbetweenGAN(replace(TINY, reconstruction=1.0, motion=4.0))
    truth = torch.zeros(1, 3, 16, 32, 32)
    truth[:, :, :8, :8, :8] = 0.5  # moves: 0.25 from its mean over time
    window = Window(truth, torch.zeros(1, 8), torch.arange(1, 3), judged=False)
    still, moving = truth.clone(), truth.clone()
    still[..., 20:28, 20:28] += 0.1
    moving[..., :8, :8] += 0.1
    terms = [model.losses("generator", window, out)["reconstruction"].item() for out in (still, moving)]
    assert terms[1] == pytest.approx(terms[0] * (1 + 4.0 * 0.25), rel=1e-3)


def test_detail_takes_features_of_either_key_frame_where_its_gates_say() -> None:
    torch.manual_seed(0)
    detail = Detail(4)
    h, start, end = torch.randn(1, 4, 3, 2, 2), torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    expected = h.clone()
    for t in range(3):
        for y in range(2):
            for x in range(2):
                g = (detail.gates.weight[:, :, 0, 0, 0] @ h[0, :, t, y, x] + detail.gates.bias).sigmoid()
                key = detail.key.weight[:, :, 0, 0]
                expected[0, :, t, y, x] += g[0] * (key @ start[0, :, y, x]) + g[1] * (key @ end[0, :, y, x])
    torch.testing.assert_close(detail(h, start, end), expected)


def test_detail_joins_after_so_many_steps() -> None:
    model = InbetweenGAN(replace(TINY, detail=True, detail_after=3)).eval()
    with torch.no_grad():
        for part in model.generator.details:
            part.key.weight.fill_(1.0)
        truth = torch.rand(2, 3, 16, 32, 32) * 2 - 1
        seeds = torch.tensor([1, 2])
        before, at = (model(next(iter(model.windows(Batch(truth, seeds, step)))), None)[0] for step in (2, 3))
        without, _ = model(next(iter(model.windows(Batch(truth, seeds, 0)))), None)
    assert torch.equal(before, without)
    assert not torch.equal(before, at)
