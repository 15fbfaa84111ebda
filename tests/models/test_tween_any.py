"""The composition written out for one pixel, what it begins as, and any size, time and number of planes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from douga.baselines.flow import Flow
from douga.core.clip import Batch, Request
from douga.models import tween_any
from douga.models.inbetween_gan import read_at
from douga.models.tween_any import Base, Config, TweenAny, _sides
from douga.recipes.tween_any import tiny
from douga.video.ops import chained_to, warp

CONFIG = tiny().model


def model(**changes: object) -> TweenAny:
    torch.manual_seed(0)
    return TweenAny(replace(CONFIG, **changes)).eval()  # type: ignore[arg-type]


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(*shape: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(*shape[:-2], shape[-2] // 8, shape[-1] // 8, generator=chance(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, shape[-2:], mode="bicubic").clamp(-1, 1)


def sliding(frames: int = 16, size: tuple[int, int] = (32, 32), batch: int = 2) -> Batch:
    """A texture that moves right by one px a frame; its flow both ways."""
    h, w = size
    wide = smooth(batch, 3, h, w + 24)
    video = torch.stack([wide[..., frames - k : frames - k + w] for k in range(frames)], 2)
    flow = torch.zeros(batch, 4, frames, h, w)
    flow[:, 0, 1:], flow[:, 2, :-1] = -1, 1
    return Batch(video.contiguous(), torch.arange(batch), flow=flow)


def draw(drawer: TweenAny, request: Request, samples: int = 1) -> Tensor:
    return drawer.synthesize(request, samples, chance())


def test_a_pixel_is_composed_as_the_equation_says() -> None:
    generator = model().generator
    h, w, t = 16, 24, 0.25
    first, last = smooth(1, 4, h, w), smooth(1, 4, h, w, seed=1)
    base = Base(
        torch.randn(1, 2, h, w, generator=chance(2)),
        torch.randn(1, 2, h, w, generator=chance(3)),
        torch.rand(1, 1, h, w, generator=chance(4)),
        torch.rand(1, 1, h, w, generator=chance(5)),
    )
    maps = torch.randn(1, 10, 1, 1, generator=chance(6)).expand(1, 10, h // 2, w // 2)
    out = generator.compose(first, last, base, maps, torch.tensor([t]), (h, w))
    ds, de, g, a, m, p = maps[0, :, 0, 0].split([2, 2, 1, 1, 1, 3])
    trust = (1.4 * torch.sigmoid(g + 2) - 0.2).clamp(0, 1)

    def changed(known: Tensor, added: Tensor) -> Tensor:  # what is less than half a pixel is left out
        change = (trust - 1) * known + 8 * added[:, None, None]
        return known + change * (1 - 0.5 / change.norm(dim=1, keepdim=True)).clamp(min=0)

    flow_s, flow_e = changed(base.flow_s, t * ds), changed(base.flow_e, (1 - t) * de)
    torch.testing.assert_close(out.flow_s, flow_s)
    torch.testing.assert_close(out.flow_e, flow_e)
    odds = (base.weight_s + 0.03 * (1 - t)) / (base.weight_e + 0.03 * t)
    odds = odds**trust * ((1 - t) / t) ** (1 - trust) * (8 * a).exp()
    around = torch.nn.functional.interpolate(odds.log(), (8, 12), mode="bilinear", antialias=True)
    odds = odds * (6 * torch.nn.functional.interpolate(around, (h, w), mode="bilinear")).exp()
    share = odds / (1 + odds)
    fused = share * warp(first, flow_s, mode="bicubic") + (1 - share) * warp(last, flow_e, mode="bicubic")
    invented = torch.sigmoid(m - 3) * min(1, 8 * t * (1 - t))
    expected = (1 - invented) * fused[:, :3] + invented * p.tanh()[:, None, None]
    torch.testing.assert_close(out.frame[:, :3], expected.clamp(-1, 1))
    torch.testing.assert_close(out.frame[:, 3:], fused[:, 3:].clamp(-1, 1))  # alpha moves along and is not invented


def test_it_begins_as_flow_does() -> None:
    # Not on the way of the noise, which is drawn anew: only the last layers are near zero.
    batch = sliding(5, (64, 64), 1)
    request = Request.tween(batch.video[:, :, 0], batch.video[:, :, -1], 3)
    drawn, flow = draw(model(), request)[0], Flow().synthesize(request, 1, chance())[0]
    assert (drawn - flow).abs().mean() < 0.03
    assert (drawn - batch.video).abs().mean() < 0.5 * (batch.video[:, :, :1] - batch.video).abs().mean()


@pytest.mark.parametrize("size", [(8, 8), (17, 40), (90, 50), (360, 200)])
@pytest.mark.parametrize("planes", [3, 4])
def test_any_size_and_alpha(size: tuple[int, int], planes: int) -> None:
    h, w = size
    first, last = (torch.rand(1, planes, h, w, generator=chance(k)) * 2 - 1 for k in range(2))
    drawn = draw(model(), Request.tween(first, last, 2), samples=2)
    assert drawn.shape == (2, 1, planes, 4, h, w)
    assert torch.equal(drawn[0, :, :, 0], first)
    assert torch.equal(drawn[1, :, :, 3], last)
    with pytest.raises(ValueError, match="3 planes"):
        draw(model(), Request.tween(first[:, :1], last[:, :1], 2))


def test_a_large_frame_is_composed_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    drawer = model()
    first, last = (smooth(1, 4, 88, 40, seed=k) for k in range(2))
    whole = draw(drawer, Request.tween(first, last, 2), samples=2)
    monkeypatch.setattr(tween_any, "PIXELS_AT_ONCE", 40 * 19)
    torch.testing.assert_close(draw(drawer, Request.tween(first, last, 2), samples=2), whole)


def test_a_frame_is_the_same_however_many_are_drawn_beside_it() -> None:
    batch = sliding(16, (32, 32), 1)
    first, last = batch.video[:, :, 0], batch.video[:, :, -1]
    few, many = (draw(model(), Request.tween(first, last, n)) for n in (3, 7))
    torch.testing.assert_close(few[..., 2, :, :], many[..., 4, :, :])  # both in the middle
    torch.testing.assert_close(few[..., 1, :, :], many[..., 2, :, :])


def test_maps_are_read_between_their_times() -> None:
    maps = torch.arange(16.0)[None, None, :, None, None]
    read = read_at(maps, torch.tensor([0.0, 0.5, 1 / 15, 0.99, 1.0]))
    torch.testing.assert_close(read.flatten(), torch.tensor([0.0, 7.5, 1.0, 14.85, 15.0]))


def test_sides_keep_their_aspect_and_are_never_enlarged() -> None:
    assert _sides((720, 1280), 128, 16) == (64, 128)
    assert _sides((64, 64), 128, 16) == (64, 64)
    assert _sides((1000, 10), 128, 16) == (128, 16)
    assert _sides((720, 1280), 320) == (180, 320)


def test_flow_is_chained_to_both_key_frames() -> None:
    flow = sliding().flow
    assert flow is not None
    to_first, to_last = chained_to(flow[:, :2], 2, 9), chained_to(flow[:, 2:], 9, 2)
    for k in range(3, 9):
        torch.testing.assert_close(to_first[k][:, 0, :, :], torch.full((2, 32, 32), 2.0 - k))
        torch.testing.assert_close(to_last[k][:, 0, :, :], torch.full((2, 32, 32), 9.0 - k))


def test_the_truth_costs_nothing() -> None:
    drawer = model(invented=0.0, warm_up=1)
    batch = sliding()
    (window,) = drawer.windows(replace(batch, step=1))
    out, _ = drawer(window, None)
    first, last = window.keys
    truth = batch.video[:, :, first + 1 : last].transpose(1, 2).flatten(0, 1)
    perfect = out._replace(frame=truth, flow_s=window.known[0], flow_e=window.known[1])
    terms = drawer.losses("generator", window, perfect)
    assert terms["reconstruction"] == 0 and terms["flow"] == 0
    assert set(drawer.losses("critics", window, perfect)) == {"critic/video", "critic/image"}


def test_pixels_do_not_teach_motion() -> None:
    drawer = model(flow=0.0)
    (window,) = drawer.windows(sliding())
    drawer.losses("generator", window, drawer(window, None)[0])["reconstruction"].backward()
    parts = drawer.generator.named_parameters()
    taught = {name.split(".")[0] for name, part in parts if part.grad is not None and part.grad.any()}
    assert taught == {"fuse"}


def test_the_noise_that_moves_nearest_to_the_truth_is_drawn() -> None:
    drawer = model(best_of=3)
    torch.nn.init.normal_(drawer.generator.maps.weight, generator=chance())
    (window,) = drawer.windows(sliding())
    noises = window.noise.unflatten(0, (3, 2))
    assert not torch.equal(noises[0], noises[1])
    alone = [replace(window, noise=noise) for noise in noises]
    away = torch.stack(
        [drawer._distance(one, out.flow_s, out.flow_e) for one in alone for out in [drawer(one, None)[0]]]
    )
    out, _ = drawer(window, None)
    assert (away.max(0).values > away.min(0).values).all()
    torch.testing.assert_close(drawer._distance(window, out.flow_s, out.flow_e), away.min(0).values)


def test_noise_moves_things_aside_the_same_way_in_both_flows() -> None:
    drawer = model()
    for last in (drawer.generator.maps, drawer.generator.drawn):  # else nothing but the modes knows the noise
        torch.nn.init.zeros_(last.weight)
    (window,) = drawer.windows(sliding(batch=1))
    noise = torch.zeros(2, CONFIG.noise)
    noise[1, 2] = 100.0  # far enough to count
    plain, aside = drawer.generator.motion(window.seen, noise)  # (5, T, H, W)
    flows = []
    for k, t in enumerate(torch.linspace(0, 1, 16).tolist()):
        base = Base(*torch.zeros(2, 1, 2, 16, 16), *torch.ones(2, 1, 1, 16, 16))
        both = [
            drawer.generator.moves(base, maps[None, :, k], torch.tensor([t]), (16, 16))[0] for maps in (plain, aside)
        ]
        flows.append([there - here for here, there in zip(*both, strict=True)])
        torch.testing.assert_close(*flows[-1])
    assert flows[0][0].abs().max() == 0 and flows[15][0].abs().max() < 1e-6  # key frames stay
    assert flows[7][0].abs().max() > 1e-3


def test_noise_decides_which_key_frame_leads() -> None:
    drawer = model()
    (window,) = drawer.windows(sliding(batch=1))
    noise = torch.zeros(2, CONFIG.noise)
    noise[:, 4] = torch.tensor([2.0, -2.0])
    maps = drawer.generator(window.seen, noise)[:, :, 8]
    grey = torch.zeros(2, 3, 16, 16)
    base = Base(*torch.zeros(2, 2, 2, 16, 16), *torch.full((2, 2, 1, 16, 16), 0.5))
    out = drawer.generator.compose(grey + 0.5, grey - 0.5, base, maps, torch.full((2,), 0.5), (16, 16))
    first, last = out.frame.mean((1, 2, 3))
    assert first > 0.4 and last < -0.4  # one of them, not a mixture


def test_the_warm_up_has_no_critics() -> None:
    drawer = model(warm_up=1_000)
    (window,) = drawer.windows(replace(sliding(), step=999))
    out, _ = drawer(window, None)
    assert set(drawer.losses("generator", window, out)) == {"reconstruction", "invented", "flow"}
    assert drawer.losses("critics", window, out) == {}


def test_motion_is_learned_first_and_alone() -> None:
    drawer = model(motion_steps=10, warm_up=20)
    (window,) = drawer.windows(replace(sliding(), step=9))
    out, _ = drawer(window, None)
    terms = drawer.losses("generator", window, out)
    assert set(terms) == {"flow"} and drawer.losses("critics", window, out) == {}
    (later,) = drawer.windows(replace(sliding(), step=10))
    assert "reconstruction" in drawer.losses("generator", later, drawer(later, None)[0])
    # The same motion as when it is composed.
    composed, _ = drawer(replace(window, motion_alone=False), None)
    torch.testing.assert_close(out.flow_s, composed.flow_s)
    torch.testing.assert_close(
        terms["flow"], drawer.losses("generator", replace(window, motion_alone=False), composed)["flow"]
    )


def test_motion_counts_where_something_moves() -> None:
    """Half of the picture slides by 4 px and half stands still: an error of the half that moves costs most."""
    drawer = model(warm_up=1_000, flow=1.0)
    batch = sliding(batch=1)
    assert batch.flow is not None
    batch.video[..., :16] = batch.video[:, :, :1, :, :16]
    batch.flow[..., :16] = 0
    (window,) = drawer.windows(replace(batch, step=1))
    out, _ = drawer(window, None)
    costs = []
    for half in (slice(0, 16), slice(16, 32)):
        flow_s, flow_e = window.known[0].clone(), window.known[1].clone()
        flow_s[..., half] += 1
        costs.append(drawer.losses("generator", window, out._replace(flow_s=flow_s, flow_e=flow_e))["flow"].item())
    assert 0 < costs[0] < 0.1 * costs[1]


def test_key_frames_are_the_ends_or_any_two() -> None:
    drawer, seen = model(), set()
    for step in range(40):
        (window,) = drawer.windows(replace(sliding(batch=1), step=step))
        first, last = window.keys
        assert 0 <= first < last - 1 < last <= 15
        assert len(window.base.flow_s) == len(window.known[0]) == last - first - 1
        assert int(window.looked_at.max()) < last - first - 1
        seen.add(last - first)
    assert 15 in seen
    assert len(seen) > 5
    with pytest.raises(ValueError, match="16 frames"):
        list(drawer.windows(sliding(8)))
    with pytest.raises(ValueError, match="motion"):
        list(drawer.windows(replace(sliding(), flow=None)))


def test_the_released_size_stays_below_15_mb() -> None:
    with torch.device("meta"):
        generator = TweenAny(Config()).generator
    assert 4 * sum(parameter.numel() for parameter in generator.parameters()) < 15e6
