"""The paper's equations, written out, against `baselines/superslomo.py`."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from douga.baselines import superslomo
from douga.baselines.superslomo import Config, Drawing, Out, SuperSloMo, UNet, Window, approximate, blend
from douga.core.clip import Batch, Request
from douga.core.registry import RECIPES
from douga.nn.losses import VggFeatures

TINY = Config(widths=(4, 6, 8), times=3, perceptual=0.0)


def build(config: Config = TINY, **heads: list[float]) -> SuperSloMo:
    """heads: what a U-Net says everywhere, in place of what it would learn to say."""
    torch.manual_seed(0)
    model = SuperSloMo(config).eval()
    for name, values in heads.items():
        head = getattr(model.networks, name).head
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(torch.tensor(values))
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def times(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None]


def test_a_constant_motion_leads_back_and_on_in_proportion() -> None:
    t = times(0.25, 0.5, 0.9)
    v = torch.tensor([3.0, -2.0])[:, None, None].expand(3, 2, 4, 5)
    flow_t0, flow_t1 = approximate(v, -v, t)
    torch.testing.assert_close(flow_t0, -t * v)
    torch.testing.assert_close(flow_t1, (1 - t) * v)


def test_approximate_flow_and_blend_follow_the_equations() -> None:
    flow_01, flow_10, warped_0, warped_1 = (noise(1, 2, 2, 3, seed=k) for k in range(4))
    visible, t = noise(1, 1, 2, 3, seed=5) / 2 + 0.5, 0.3
    flow_t0, flow_t1 = approximate(flow_01, flow_10, times(t))
    drawn = blend(warped_0, warped_1, visible, times(t))
    for place in np.ndindex(1, 2, 2, 3):
        a, b = flow_01[place].item(), flow_10[place].item()
        assert flow_t0[place].item() == pytest.approx(-(1 - t) * t * a + t * t * b, abs=1e-6)
        assert flow_t1[place].item() == pytest.approx((1 - t) * (1 - t) * a - t * (1 - t) * b, abs=1e-6)
        v = visible[0, 0, place[2], place[3]].item()
        upper = (1 - t) * v * warped_0[place].item() + t * (1 - v) * warped_1[place].item()
        assert drawn[place].item() == pytest.approx(upper / ((1 - t) * v + t * (1 - v)), abs=1e-6)


def square(frames: int, step: int, axis: int) -> Tensor:
    """(1, 3, T, 40, 48): over plain grey a textured square goes `step` px right (axis 4) or down (axis 3) in each frame."""
    video, piece = torch.zeros(1, 3, frames, 40, 48), noise(1, 3, 12, 14)
    for time in range(frames):
        down, right = (8 + step * time, 9) if axis == 3 else (8, 9 + step * time)
        video[:, :, time, down : down + 12, right : right + 14] = piece
    return video


@pytest.mark.parametrize("axis", [3, 4])
def test_given_the_flows_a_moved_square_is_where_it_belongs(axis: int) -> None:
    video = square(7, 2, axis)
    flow = [12.0, 0.0] if axis == 4 else [0.0, 12.0]
    model = build(motion=[*flow, *(-v for v in flow)], refinement=[0.0] * 5)
    request = Request.tween(video[:, :, 0], video[:, :, -1], 5)
    drawn = model.synthesize(request, 2, torch.Generator())
    torch.testing.assert_close(drawn, video.expand(2, *video.shape), rtol=0, atol=1e-5)


def test_the_second_network_corrects_each_flow_and_hides_either_frame() -> None:
    first, last = noise(1, 3, 8, 10, seed=1), noise(1, 3, 8, 10, seed=2)
    for visible, key, residual in ((30.0, first, (2, -1)), (-30.0, last, (-3, 4))):
        unused = (5, 5)
        both = [*residual, *unused] if key is first else [*unused, *residual]
        model = build(motion=[0.0] * 4, refinement=[*map(float, both), visible])
        drawn = model.synthesize(Request.tween(first, last, 1), 1, torch.Generator())[0, 0, :, 1]
        for y in range(8):
            for x in range(10):
                from_x, from_y = min(max(x + residual[0], 0), 9), min(max(y + residual[1], 0), 7)
                torch.testing.assert_close(drawn[:, y, x], key[0, :, from_y, from_x], rtol=0, atol=1e-5)


def test_the_second_network_sees_the_twenty_channels_of_the_paper() -> None:
    model = build(motion=[1.0, 2.0, 3.0, -4.0])
    seen: list[Tensor] = []
    model.networks.refinement.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    first, last = noise(1, 3, 9, 12, seed=1), noise(1, 3, 9, 12, seed=2)
    model.synthesize(Request.tween(first, last, 1), 1, torch.Generator())
    assert seen[0].shape == (1, 20, 9, 12)
    torch.testing.assert_close(seen[0][:, :6], torch.cat([first, last], 1))
    flows = [1.0, 2.0, 3.0, -4.0, 0.5, -1.5, -0.5, 1.5]  # at t = 1/2: (-F01 + F10) / 4 and (F01 - F10) / 4
    torch.testing.assert_close(seen[0][0, 6:14, 4, 4], torch.tensor(flows))
    between = (first[0, :, 2, 4] + first[0, :, 2, 5] + first[0, :, 3, 4] + first[0, :, 3, 5]) / 4
    torch.testing.assert_close(seen[0][0, 14:17, 4, 4], between, rtol=0, atol=1e-5)
    between = (last[0, :, 5, 3] + last[0, :, 5, 4] + last[0, :, 6, 3] + last[0, :, 6, 4]) / 4
    torch.testing.assert_close(seen[0][0, 17:, 4, 4], between, rtol=0, atol=1e-5)


def test_full_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = SuperSloMo(RECIPES.load("superslomo/paper")().model)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(39.61e6, rel=1e-3)


def test_small_fits_in_10_MB() -> None:
    with torch.device("meta"):
        model = SuperSloMo(RECIPES.load("superslomo/small")().model)
    assert 4 * sum(parameter.numel() for parameter in model.parameters()) < 10e6


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (31, 33)])
def test_a_u_net_takes_any_size(size: tuple[int, int]) -> None:
    network = UNet(6, 4, TINY.widths)
    frames = noise(2, 6, *size)
    drawn = network(frames)
    assert drawn.shape == (2, 4, *size)
    padded = torch.from_numpy(np.pad(frames, ((0, 0), (0, 0), (0, -size[0] % 4), (0, -size[1] % 4)), mode="edge"))
    torch.testing.assert_close(drawn, network(padded)[..., : size[0], : size[1]])


def test_every_pair_of_known_frames_is_drawn_between_and_the_ends_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    video = noise(2, 3, 12, 10, 11)
    mask = torch.tensor([0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0], dtype=torch.bool)
    model, looked = build(), []
    model.networks.motion.register_forward_hook(lambda module, args, out: looked.append(args[0]))
    drawn = model.synthesize(Request.hide(video, mask), 1, torch.Generator())[0]
    assert len(looked) == 2  # one for each pair with frames between
    assert torch.equal(drawn[:, :, 0], video[:, :, 1])
    assert torch.equal(drawn[:, :, 9:], video[:, :, 8:9].expand(-1, -1, 3, -1, -1))
    for start, end in ((1, 5), (6, 8)):
        request = Request.tween(video[:, :, start], video[:, :, end], end - start - 1)
        alone = model.synthesize(request, 1, torch.Generator())[0]
        torch.testing.assert_close(drawn[:, :, start : end + 1], alone, rtol=0, atol=1e-5)
    monkeypatch.setattr(superslomo, "PIECE_PX", 2 * 2 * 10 * 11)  # two frames of both clips at once
    pieces = model.synthesize(Request.hide(video, mask), 1, torch.Generator())[0]
    torch.testing.assert_close(pieces, drawn, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("as_shipped")
def test_grey_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        build().synthesize(Request.tween(noise(1, 1, 8, 8), noise(1, 1, 8, 8), 2), 1, torch.Generator())


def test_the_frames_of_a_step_depend_on_the_clip_alone() -> None:
    model = build()
    batch = Batch(noise(4, 3, 16, 8, 8), torch.tensor([5, 6, 7, 2**61]))
    (window,) = model.windows(batch)
    halves = [next(iter(model.windows(Batch(batch.video[k : k + 2], batch.seeds[k : k + 2])))) for k in (0, 2)]
    for name in ("first", "last", "truth", "t"):
        assert torch.equal(getattr(window, name), torch.cat([getattr(half, name) for half in halves]))
    chosen = (window.t.view(4, 3) * 15).round().long()
    assert len({tuple(row) for row in chosen.tolist()}) == 4
    for clip, row in enumerate(chosen.tolist()):
        assert len(set(row)) == 3 and min(row) >= 1 and max(row) <= 14
        for k, time in enumerate(row):
            assert torch.equal(window.truth[3 * clip + k], batch.video[clip, :, time])
    (window,) = build(replace(TINY, times=99)).windows(batch)
    assert window.t.view(4, 14).sort().values.mul(15).round().tolist() == [list(range(1, 15))] * 4


def shifted(frame: Tensor, x: int, y: int) -> np.ndarray:
    """Pixel (i, j) from (i + y, j + x), beyond the border the nearest one; pixels in [0, 1]."""
    rows = np.clip(np.arange(frame.shape[-2]) + y, 0, frame.shape[-2] - 1)
    columns = np.clip(np.arange(frame.shape[-1]) + x, 0, frame.shape[-1] - 1)
    return frame.numpy()[..., rows[:, None], columns] / 2 + 0.5


def test_losses_are_the_four_of_the_paper() -> None:
    model = build(replace(TINY, perceptual=0.005))
    model.__dict__["_features"] = lambda frames: 3 * frames[:, :1]
    first, last, truth, drawn, warped_0, warped_1 = (noise(1, 3, 6, 7, seed=k) for k in range(6))
    flow_01 = torch.tensor([2.0, -1.0])[:, None, None].repeat(1, 1, 6, 7)
    flow_10 = torch.tensor([-3.0, 4.0])[:, None, None].repeat(1, 1, 6, 7)
    window, out = Window(first, last, truth, times(0.5)), Out(flow_01, flow_10, Drawing(drawn, warped_0, warped_1))
    terms = model.losses("networks", window, out)

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a - b).mean())

    still = {name: shifted(value, 0, 0) for name, value in locals().items() if isinstance(value, Tensor)}
    assert terms["reconstruction"].item() == pytest.approx(204 * apart(still["drawn"], still["truth"]), rel=1e-5)
    warp = apart(still["first"], shifted(last, 2, -1)) + apart(still["last"], shifted(first, -3, 4))
    warp += apart(still["truth"], still["warped_0"]) + apart(still["truth"], still["warped_1"])
    assert terms["warp"].item() == pytest.approx(102 * warp, rel=1e-5)
    assert terms["smoothness"].item() == 0
    error = 9 * (drawn - truth)[:, 0].square().mean().item()
    assert terms["perceptual"].item() == pytest.approx(0.005 * error, rel=1e-5)

    rough = noise(1, 2, 6, 7, seed=9)
    steps_x = [abs(rough[0, c, y, x + 1] - rough[0, c, y, x]).item() for c, y, x in np.ndindex(2, 6, 6)]
    steps_y = [abs(rough[0, c, y + 1, x] - rough[0, c, y, x]).item() for c, y, x in np.ndindex(2, 5, 7)]
    for flows in ((rough, flow_10), (flow_01, rough)):
        smoothness = model.losses("networks", window, out._replace(flow_01=flows[0], flow_10=flows[1]))["smoothness"]
        assert smoothness.item() == pytest.approx(np.mean(steps_x) + np.mean(steps_y), rel=1e-5)


def test_vgg_is_asked_for_by_the_loss_alone_and_is_no_part_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Features(VggFeatures):
        def __init__(self, layer: str) -> None:
            asked.append(layer)

        def __call__(self, frames: Tensor) -> Tensor:
            return frames.mean((2, 3))

    monkeypatch.setattr(superslomo, "VggFeatures", Features)
    batch = Batch(noise(2, 3, 5, 8, 8), torch.arange(2))
    for config, expected in ((TINY, []), (replace(TINY, perceptual=1.0), ["conv4_3"])):
        model = build(config)
        before = list(model.state_dict())
        for _ in range(2):
            (window,) = model.windows(batch)
            terms = model.losses("networks", window, model(window, None)[0])
        assert asked == expected
        assert ("perceptual" in terms) == bool(config.perceptual)
        assert list(model.state_dict()) == before


def test_flows_and_losses_stay_in_full_precision() -> None:
    model = build(TINY)
    (window,) = model.windows(Batch(noise(2, 3, 5, 8, 8), torch.arange(2)))
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = model(window, None)
        terms = model.losses("networks", window, out)
    assert {part.dtype for part in (out.flow_01, out.flow_10, *out.drawing, *terms.values())} == {torch.float32}
    assert all(math.isfinite(term.item()) for term in terms.values())


def test_learns_the_motion_of_a_square() -> None:
    """Flows leave zero: what the paper's warp loss is for."""
    torch.manual_seed(0)
    model = SuperSloMo(replace(TINY, widths=(8, 16, 16), times=1))
    video = torch.nn.functional.avg_pool3d(square(3, 2, 4), (1, 3, 3), stride=1, padding=(0, 1, 1))[..., :24, :32]
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        (window,) = model.windows(Batch(video, torch.tensor([0])))
        out, _ = model(window, None)
        optimiser.zero_grad()
        torch.stack(list(model.losses("networks", window, out).values())).sum().backward()
        optimiser.step()
    inside = out.flow_01[0, :, 10:18, 11:21].mean((1, 2))
    assert inside[0] > 2 and inside[1].abs() < 1, inside  # the truth: 4 px to the right
