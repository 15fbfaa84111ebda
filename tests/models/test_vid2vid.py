"""The paper's equation and losses written out with loops, and what each switch does, against `models/vid2vid.py`."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from douga.core.clip import Batch, Request
from douga.data.blocks import Blocks
from douga.data.loader import reference_flow
from douga.models.vid2vid import STORED, Config, Drafts, Vid2Vid, Window, flow_loss
from douga.nn.maps import INSTANCES, identities
from douga.video.ops import EXPLAINED, chained, encode_labels, warp

TINY = Config(
    classes=4,
    things=(3,),
    width=4,
    downs=1,
    blocks=2,
    critic_width=4,
    critic_layers=1,
    strides=(1, 2),
    perceptual=0.0,
)
ROAD, HOUSE, TREE, CAR = range(4)


def build(**changes: Any) -> Vid2Vid:
    torch.manual_seed(0)
    return Vid2Vid(replace(TINY, **changes)).eval()


def chance(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=chance(seed)) * 2 - 1


def street(frames: int = 6, size: tuple[int, int] = (16, 24), batch: int = 1) -> Tensor:
    """(B, 5, T, H, W): two houses with numbers on a road; the cars 7 and 8 drive right, one px a frame, 8 comes in third."""
    h, w = size
    maps = torch.zeros(2, frames, h, w, dtype=torch.int32)
    maps[0, :, : h // 2] = HOUSE
    maps[1, :, : h // 2, : w // 2], maps[1, :, : h // 2, w // 2 :] = 1, 2
    for t in range(frames):
        maps[0, t, h // 2 : h // 2 + 4, 2 + t : 8 + t], maps[1, t, h // 2 : h // 2 + 4, 2 + t : 8 + t] = CAR, 7
        if t >= 2:
            maps[0, t, h - 3 :, t : 5 + t], maps[1, t, h - 3 :, t : 5 + t] = CAR, 8
    return encode_labels(maps, 4)[None].repeat(batch, 1, 1, 1, 1)


def ask(cond: Tensor, given: int = 0, seed: int = 1) -> Request:
    b, _, t, h, w = cond.shape
    return Request.hide(noise(b, 3, t, h, w, seed=seed), torch.arange(t) < given, cond=cond)


def learn(frames: int = 6, step: int = 0, batch: int = 1, size: tuple[int, int] = (16, 24)) -> Batch:
    shape = frames, *size
    cond, flow = street(frames, size, batch), 2 * noise(batch, 2, *shape, seed=5)
    return Batch(noise(batch, 3, *shape, seed=4), torch.arange(batch), step, cond, flow)


def window(batch: Batch, start: int, stop: int, *, given: bool = False) -> Window:
    assert batch.cond is not None and batch.flow is not None
    return Window(batch.video, batch.cond, batch.flow, start, stop, given, 0, alone=False, judged=True)


# the equation


class Says(nn.Module):
    """Stands for a scale: says the same whatever it is shown, and keeps what it was shown."""

    def __init__(self, picture: Tensor, motion: Tensor | None) -> None:
        super().__init__()
        self.drafts = Drafts(picture, None, picture, motion)
        self.shown: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, maps: Tensor, past: Tensor | None, below: Drafts | None) -> Drafts:
        self.shown.append((maps, past))
        return self.drafts


def sampled(picture: Tensor, y: float, x: float) -> float:
    """One value of (H, W), bilinear, beyond the border its nearest one."""
    h, w = picture.shape
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            share = (1 - abs(y - row)) * (1 - abs(x - column))
            total += share * picture[min(row, h - 1), min(column, w - 1)].item()
    return total


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("fuse", ["paper", "code"])
def test_a_frame_is_put_together_as_the_equation_says(fuse: str, begins: bool) -> None:  # noqa: FBT001
    generator = build(fuse=fuse, flow_px=5.0).generator
    picture, thing, motion = noise(1, 3, 4, 5, seed=1), noise(1, 3, 4, 5, seed=2), noise(1, 3, 4, 5, seed=3)
    generator.scales, generator.things = nn.ModuleList([Says(picture, motion)]), nn.ModuleList([Says(thing, None)])
    past = noise(1, 6, 4, 5, seed=4)
    ground = (noise(1, 1, 4, 5, seed=5) > 0).float()
    drawn, flow = generator(noise(1, 18, 4, 5), past, ground, 0, alone=False, begins=begins)
    assert (flow is None) == begins
    for colour, y, x in np.ndindex(3, 4, 5):
        h, f, b = picture[0, colour, y, x].tanh(), thing[0, colour, y, x].tanh(), ground[0, 0, y, x]
        dx, dy, m = (5 * motion[0, 0, y, x]).item(), (5 * motion[0, 1, y, x]).item(), motion[0, 2, y, x].sigmoid()
        m, warped = (1.0, 0.0) if begins else (m, sampled(past[0, 3 + colour], y + dy, x + dx))
        wanted = (1 - m) * warped + m * ((1 - b) * f + b * h)
        if fuse == "code":
            wanted = (1 - b) * f + b * ((1 - m) * warped + m * h)
        assert drawn[0, colour, y, x].item() == pytest.approx(float(wanted), abs=1e-5)
        if flow is not None:
            assert flow[0, :, y, x].tolist() == pytest.approx([dx, dy])


def test_the_flow_is_told_in_pixels_of_the_finest_scale() -> None:
    generator = build(fine=2, foreground=False, flow_px=5.0).generator
    motion = noise(1, 3, 16, 16)
    generator.scales[2] = Says(noise(1, 3, 16, 16), motion)
    maps, past, ground = noise(1, 18, 16, 16), noise(1, 6, 16, 16), torch.ones(1, 1, 16, 16)
    _, flow = generator(maps, past, ground, 2, alone=False, begins=False)
    torch.testing.assert_close(flow, 20 * motion[:, :2])


def test_things_are_told_from_the_maps_alone() -> None:
    """Their part of the picture does not change with the frames before; all else does."""
    model, cond = build(fuse="code"), street(4)
    one, other = (model.synthesize(ask(cond, 1, seed=seed), 1, chance())[0] for seed in (1, 2))
    car = (cond[:, CAR] > 0)[:, None].expand_as(one)
    same = one == other
    assert same[:, :, 1:][car[:, :, 1:]].all()
    assert same[:, :, 1:][~car[:, :, 1:]].float().mean() < 0.01


def test_in_the_paper_things_too_are_partly_warped() -> None:
    model, cond = build(), street(4)
    one, other = (model.synthesize(ask(cond, 1, seed=seed), 1, chance())[0] for seed in (1, 2))
    car = (cond[:, CAR] > 0)[:, None].expand_as(one)
    assert (one == other)[:, :, 1:][car[:, :, 1:]].float().mean() < 0.01
    shown = []
    model.generator.things[0].register_forward_hook(lambda _, given, __: shown.append(given[1]))
    model.synthesize(ask(cond, 1), 1, chance())
    assert shown == [None] * 3


def test_a_frame_is_drawn_from_the_last_maps_and_frames_in_their_order() -> None:
    model = build(foreground=False, style=0, past=3)
    says = Says(noise(1, 3, 16, 24), noise(1, 3, 16, 24))
    model.generator.scales = nn.ModuleList([says])
    cond = street(5)
    drawn = model.synthesize(ask(cond), 1, chance())[0]
    for t, (maps, past) in enumerate(says.shown):
        assert past is not None
        for k in range(4):  # the first map stands for those that are missing, and so does the first frame
            labels = maps[:, 5 * k : 5 * k + 4]
            assert torch.equal(labels, cond[:, :4, max(0, t - 3 + k)])
        if t == 0:
            assert not past.any()
        else:
            assert torch.equal(past, torch.cat([drawn[:, :, max(0, t - k)] for k in (3, 2, 1)], 1))


# the ablations


def test_an_ablation_drops_what_it_says() -> None:
    whole, batch = build(), learn()
    names = {name for name, _ in whole.named_parameters()}

    def without(**changes: Any) -> tuple[Vid2Vid, set[str], set[str]]:
        model = build(**changes)
        (piece, *_) = model.windows(batch)
        out, _ = model(piece, None)
        terms = model.losses("generator", piece, out)
        return model, names - {name for name, _ in model.named_parameters()}, set(terms)

    _, gone, all_terms = without()
    assert not gone and all_terms == {"image", "image_features", "video", "video_features", "flow"}
    model, gone, terms = without(flow=False)
    assert gone and all(name.startswith("generator.scales.0.flow_") for name in gone)
    assert terms == all_terms - {"flow"}
    model, gone, terms = without(foreground=False)
    assert gone and all(name.startswith("generator.things.") for name in gone) and terms == all_terms
    assert not build(things=()).generator.things
    model, gone, terms = without(strides=())
    assert gone and all(name.startswith("video_critics.") for name in gone)
    assert terms == all_terms - {"video", "video_features"}
    assert [phase.name for phase in model.phases()] == ["image_critic", "generator"]
    assert [phase.name for phase in whole.phases()] == ["image_critic", "video_critic", "generator"]


def test_without_flow_nothing_is_warped() -> None:
    model = build(flow=False, foreground=False)
    picture = noise(1, 3, 16, 24)
    model.generator.scales = nn.ModuleList([Says(picture, None)])
    drawn = model.synthesize(ask(street(3), 1), 1, chance())[0]
    assert torch.equal(drawn[:, :, 1], picture.tanh()) and torch.equal(drawn[:, :, 2], picture.tanh())


# drawing


@pytest.mark.parametrize("given", [0, 1, 3])
def test_the_stream_gives_what_synthesize_gives(given: int) -> None:
    model, cond = build(), street(5, size=(33, 50), batch=2)
    request = ask(cond, given)
    whole = model.synthesize(request, 2, chance())
    first = request.known[:, :, :given]
    frames = list(model.stream(cond.unbind(2), first if given else None, 2, chance()))
    assert whole.shape == (2, 2, 3, 5, 33, 50)
    assert torch.equal(torch.stack(frames, 3), whole)


def test_the_stream_takes_a_map_at_a_time_and_keeps_only_the_last_frames() -> None:
    model, cond = build(), street(40)
    kept: list[weakref.ref[Tensor]] = []
    taken = 0

    def maps() -> Iterator[Tensor]:
        nonlocal taken
        for t in range(40):
            taken += 1
            yield cond[:, :, t]

    plain = model._frame

    def watched(seen: list[Tensor], past: list[Tensor], *rest: Any, **options: Any) -> Any:
        kept.extend(weakref.ref(tensor) for tensor in (seen[-1], *past[-1:]))
        return plain(seen, past, *rest, **options)

    model._frame = watched  # type: ignore[method-assign]
    for t, _ in enumerate(model.stream(maps(), None, 1, chance())):
        assert taken == t + 1
        assert sum(tensor() is not None for tensor in kept) <= 2 * TINY.past + 1, t
    assert t == 39 and len(kept) == 79


def test_no_frame_depends_on_later_maps() -> None:
    model, cond = build(), street(6)
    changed = cond.clone()
    changed[:, :, 4:] = street(6).flip(4)[:, :, 4:]
    one, other = (model.synthesize(ask(maps), 2, chance()) for maps in (cond, changed))
    alone = model.synthesize(ask(cond[:, :, :4]), 2, chance())
    assert torch.equal(one[:, :, :, :4], other[:, :, :, :4]) and torch.equal(one[:, :, :, :4], alone)
    assert not torch.equal(one[:, :, :, 4], other[:, :, :, 4])


@pytest.mark.parametrize("fine", [0, 1])
def test_odd_sizes_are_padded_with_their_borders_and_cut(fine: int) -> None:
    model, cond = build(downs=2, fine=fine), street(3, size=(33, 50))
    step = 4 * 2**fine
    rows, columns = torch.arange(33 + -33 % step).clamp(max=32), torch.arange(50 + -50 % step).clamp(max=49)
    padded = cond[..., rows[:, None], columns]
    drawn = model.synthesize(ask(cond), 2, chance())
    assert drawn.shape == (2, 1, 3, 3, 33, 50)
    assert torch.equal(drawn, model.synthesize(ask(padded), 2, chance())[..., :33, :50])


def test_pictures_as_maps_are_painted_too() -> None:
    model = build(classes=0, things=())
    request = Request.hide(noise(1, 3, 4, 16, 24), torch.zeros(4, dtype=torch.bool), cond=noise(1, 3, 4, 16, 24))
    drawn = model.synthesize(request, 2, chance())
    assert drawn.shape == (2, 1, 3, 4, 16, 24) and drawn.std() > 0.01
    assert not torch.equal(drawn[0], drawn[1])


def test_what_cannot_be_painted_is_said() -> None:
    model, cond = build(), street(4)
    known = noise(1, 3, 4, 16, 24)
    with pytest.raises(ValueError, match="the request has none"):
        model.synthesize(Request.hide(known, torch.arange(4) < 1), 1, chance())
    with pytest.raises(ValueError, match=r"4 classes \(5 planes\), not maps of 4 planes"):
        model.synthesize(Request.hide(known, torch.arange(4) < 1, cond=cond[:, 1:]), 1, chance())
    for given in ([1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]):
        with pytest.raises(ValueError, match="without gaps"):
            model.synthesize(Request.hide(known, torch.tensor(given).bool(), cond=cond), 1, chance())
    frames = model.stream(iter([cond[:, :, 0], cond[:, :, 1, :, :20]]), None, 1, chance())
    next(frames)
    with pytest.raises(ValueError, match="map 1 is 20x16, the ones before it are 24x16"):
        next(frames)
    for things in ((4,), (-1,), (0, 5)):
        with pytest.raises(ValueError, match="things must be classes from 0 to 3"):
            build(things=things)
    with pytest.raises(ValueError, match="learns from videos with maps"):
        list(model.windows(replace(learn(), cond=None)))


# styles


def shown_styles(model: Vid2Vid, cond: Tensor, samples: int) -> Tensor:
    """(T, S B, F, H, W), as the generator sees them."""
    shown = []
    plain = model._frame

    def watched(seen: Any, past: Any, style: Tensor, *rest: Any, **options: Any) -> Any:
        shown.append(style)
        return plain(seen, past, style, *rest, **options)

    model._frame = watched  # type: ignore[method-assign]
    model.synthesize(ask(cond), samples, chance())
    return torch.stack(shown)


def test_an_instance_keeps_its_style_and_another_sample_has_another() -> None:
    cond = street(6)
    styles = shown_styles(build(), cond, samples=2)  # (T, 2, 3, 16, 24)
    who = identities(cond[0].transpose(0, 1))
    met = []
    for identity in who.unique().tolist():
        for sample in range(2):
            own = styles[:, sample].permute(0, 2, 3, 1)[who == identity]
            assert torch.equal(own, own[:1].expand_as(own)), identity
            met.append(own[0])
    # a road, two houses, two cars, twice each
    assert len(met) == 10
    apart = torch.cdist(torch.stack(met), torch.stack(met)) + torch.eye(10)
    assert apart.min() > 1e-3


def test_no_style_no_chance() -> None:
    model = build(style=0)
    drawn = model.synthesize(ask(street(3)), 2, chance())
    assert not model.stochastic and torch.equal(drawn[0], drawn[1])


def draws(model: Vid2Vid, label: int, count: int = 40_000) -> Tensor:
    return model._draw_style(label, count, chance())


def test_styles_are_drawn_around_those_last_met() -> None:
    model = build().train()
    unmet = draws(model, TREE)
    assert unmet.abs().max() == 1 and 0.4 < unmet.std() < 0.6
    model._remember(torch.tensor([TREE, HOUSE]), torch.tensor([[0.1, 0.2, 0.3], [0.7, 0.7, 0.7]]))
    assert torch.equal(draws(model, TREE), torch.tensor([[0.1, 0.2, 0.3]]).expand(40_000, 3))
    assert model.stored.tolist() == [0, 1, 1, 0]
    # The first ones are far off: after as many others as are kept nothing is left of them.
    model._remember(torch.full((STORED,), TREE), noise(STORED, 3) / 10 - 0.4)
    assert model.stored[TREE] == STORED + 1
    kept = noise(STORED, 3) / 10 - 0.4
    assert torch.equal(model.styles[TREE].sort(0).values, kept.sort(0).values)
    drawn = draws(model, TREE)
    assert drawn.max() < 0
    width = kept.std(0, correction=0) * (STORED * 5 / 4) ** (-1 / 7)  # Silverman's, in three dimensions
    torch.testing.assert_close(drawn.mean(0), kept.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.var(0), kept.var(0, correction=0) + width**2, rtol=0.025, atol=0)


def test_the_oldest_style_makes_room() -> None:
    model = build().train()
    for k in range(STORED + 6):
        model._remember(torch.tensor([CAR]), torch.full((1, 3), k / 100))
    assert sorted((100 * model.styles[CAR, :, 0]).round().int().tolist()) == list(range(6, STORED + 6))
    before = model.styles.clone()
    model.eval()._remember(torch.tensor([CAR]), torch.ones(1, 3))
    model.train()._remember(torch.tensor([-1]), torch.ones(1, 3))  # no class
    assert torch.equal(model.styles, before)


def test_the_style_of_a_true_thing_is_its_mean_through_the_window() -> None:
    model, batch = build().train(), learn(frames=5, batch=2)
    field = model._pooled_style(window(batch, 1, 4))
    assert field is not None and batch.cond is not None and field.shape == (2, 3, 3, 16, 24)
    for row in range(2):
        features = torch.stack([model.generator.style(batch.video[row : row + 1, :, t])[0] for t in (1, 2, 3)], 1)
        who = identities(batch.cond[row, :, 1:4].transpose(0, 1))
        for identity in who.unique().tolist():
            mean = features[:, who == identity].mean(1)
            torch.testing.assert_close(field[row][:, who == identity], mean[:, None].expand(3, (who == identity).sum()))
            stored = model.styles[identity // INSTANCES]
            assert (stored - mean).abs().sum(1).min() < 1e-5
    assert model.stored.tolist() == [2, 4, 0, 4]  # of two clips: a road, two houses, two cars


# the flow


def test_motion_over_several_frames_is_chained() -> None:
    flow = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1, 1).expand(1, 2, 6, 8, 9).clone()
    flow[:, :, 0] = 0
    assert torch.equal(chained(flow, 5, 1), flow[:, :, 5])
    torch.testing.assert_close(chained(flow, 5, 3), 3 * flow[:, :, 5])
    torch.testing.assert_close(chained(flow, 3, 3), 3 * flow[:, :, 3])  # frame 0 itself has none


def test_chained_zooms_go_one_after_the_other() -> None:
    """From frame t to the one before, a place moves to centre + scale (place - centre), another one in each frame."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    zooms = {1: (0.9, 5.0, 8.0), 2: (0.8, 18.0, 3.0), 3: (0.95, 2.0, 17.0)}  # scale, centre x and y
    flow = torch.zeros(1, 2, 4, 20, 24)
    for t, (scale, cx, cy) in zooms.items():
        flow[0, :, t] = torch.stack([(scale - 1) * (x - cx), (scale - 1) * (y - cy)])
    x0, y0 = x, y
    for t in (3, 2, 1):
        scale, cx, cy = zooms[t]
        x0, y0 = cx + scale * (x0 - cx), cy + scale * (y0 - cy)
    torch.testing.assert_close(chained(flow, 3, 3)[0], torch.stack([x0 - x, y0 - y]), rtol=0, atol=1e-3)


def test_chained_flow_of_a_street_leads_back_three_frames() -> None:
    blocks = Blocks(None, "test", (32, 64))
    video, flow = blocks.clip(5, 10, 4)[None], reference_flow(blocks, 5, 10, 4)[None]

    def off(steps: int) -> float:
        return (warp(video[:, :, 0], chained(flow, 3, steps)) - video[:, :, 3]).abs().mean().item()

    still = (video[:, :, 0] - video[:, :, 3]).abs().mean().item()
    assert off(3) < 0.6 * still
    assert off(3) < off(2) < off(1)


def test_a_perfect_flow_costs_nothing() -> None:
    before, flow = noise(2, 3, 6, 7), 2 * noise(2, 2, 6, 7, seed=1)
    frame = warp(before, flow)
    assert flow_loss(flow, flow, before, frame).item() == 0
    assert flow_loss(flow + 1, flow, before, frame).item() > 1


def test_the_reference_is_followed_where_it_explains_the_frame() -> None:
    before, reference = noise(1, 3, 5, 6), noise(1, 2, 5, 6, seed=1)
    frame = warp(before, reference)
    frame[..., :3] += 0.9 * math.sqrt(EXPLAINED / 3)  # of three colours: just within
    frame[..., 3:] += 1.1 * math.sqrt(EXPLAINED / 3)  # just beyond
    flow = reference + noise(1, 2, 5, 6, seed=2)
    apart = sum((flow - reference)[0, k, y, x].abs().item() for k, y, x in np.ndindex(2, 5, 3)) / (2 * 5 * 6)
    shown = 0.0
    for k, y, x in np.ndindex(3, 5, 6):
        dx, dy = flow[0, :, y, x].tolist()
        shown += abs(sampled(before[0, k], y + dy, x + dx) - frame[0, k, y, x].item()) / (3 * 5 * 6)
    assert flow_loss(flow, reference, before, frame).item() == pytest.approx(apart + shown, rel=1e-4)


def test_only_drawn_frames_with_one_before_have_a_flow_to_learn() -> None:
    model, batch = build(), learn(frames=3)
    out, _ = model(window(batch, 0, 3), None)
    assert [flow is None for flow in out.flows] == [True, False, False]
    found = model.losses("generator", window(batch, 0, 3), out)["flow"]
    errors = [
        flow_loss(flow, batch.flow[:, :, t], batch.video[:, :, t - 1], batch.video[:, :, t])  # type: ignore[index]
        for t, flow in ((1, out.flows[1]), (2, out.flows[2]))
    ]
    torch.testing.assert_close(found, 10 * (errors[0] + errors[1]) / 2)
    out, _ = model(window(batch, 0, 1), None)
    assert "flow" not in model.losses("generator", window(batch, 0, 1), out)


# windows


@pytest.mark.parametrize(("step", "frames"), [(0, 2), (9, 2), (10, 4), (19, 4), (20, 8), (30, 11), (10**9, 11)])
def test_clips_grow_with_the_steps(step: int, frames: int) -> None:
    pieces = list(build(first_frames=2, double_steps=10, window=3).windows(learn(11, step)))
    assert {piece.video.shape[2] for piece in pieces} == {frames}
    assert {x.shape[2] for piece in pieces for x in (piece.cond, piece.flow)} == {frames}
    drawn = [t for piece in pieces for t in range(piece.start, piece.stop)]
    assert drawn == list(range(int(pieces[0].given), frames))  # each once
    assert max(piece.stop - piece.start for piece in pieces) <= 3
    assert [p.video.shape[2] for p in build(double_steps=0).windows(learn(11, 0))] == [11] * 3


def test_a_share_of_the_steps_begins_from_nothing() -> None:
    def given(share: float) -> list[bool]:
        model = build(from_nothing=share)
        return [next(iter(model.windows(learn(3, step)))).given for step in range(60)]

    assert all(given(0.0)) and not any(given(1.0))
    assert 15 < sum(given(0.5)) < 45 and given(0.5) == given(0.5)
    batch = learn(3)
    for share, start in ((0.0, 1), (1.0, 0)):
        model = build(from_nothing=share)
        (piece,) = model.windows(batch)
        out, _ = model(piece, None)
        assert piece.start == start and out.drawn.shape == batch.video.shape
        assert torch.equal(out.drawn[:, :, 0], batch.video[:, :, 0]) == (start == 1)


def test_the_carry_is_all_that_was_drawn_and_no_gradient_crosses_it() -> None:
    model, batch = build(from_nothing=1.0, window=2), learn(5)
    first, second, third = model.windows(batch)
    drawn, carry = model(first, None)
    assert torch.equal(carry, drawn.drawn) and not carry.requires_grad
    drawn, longer = model(second, carry)
    assert longer.shape[2] == 4 and torch.equal(longer[:, :, :2], carry)
    assert drawn.drawn.requires_grad
    assert model(third, longer)[1].shape[2] == 5


def test_the_coarsest_scale_learns_first_then_the_finest_then_all() -> None:
    model = build(fine=1, coarse_steps=10, alone_steps=5, from_nothing=1.0)
    batch = learn(4)
    assert batch.cond is not None and batch.flow is not None
    seen = {}
    for step in (9, 10, 14, 15):
        (seen[step],) = model.windows(replace(batch, step=step))
    assert [(piece.level, piece.alone) for piece in seen.values()] == [(0, False), (1, True), (1, True), (1, False)]
    assert all(torch.equal(seen[step].video, batch.video) for step in (10, 15))
    small = seen[9]
    blocks = batch.video.unfold(3, 2, 2).unfold(4, 2, 2)
    torch.testing.assert_close(small.video, blocks.mean((-1, -2)))
    torch.testing.assert_close(small.flow, batch.flow.unfold(3, 2, 2).unfold(4, 2, 2).mean((-1, -2)) / 2)
    assert small.cond.shape[3:] == (8, 12) and torch.equal(small.cond[:, :4].sum(1), torch.ones(1, 4, 8, 12))
    assert torch.equal(small.cond, batch.cond[..., 1::2, 1::2])


@pytest.mark.parametrize(("step", "reached"), [(9, {0}), (10, {1}), (15, {0, 1})])
def test_each_stage_gives_gradients_to_its_own_scales(step: int, reached: set[int]) -> None:
    model = build(fine=1, coarse_steps=10, alone_steps=5, from_nothing=1.0)
    (piece,) = model.windows(learn(4, step))
    out, _ = model(piece, None)
    sum(model.losses("generator", piece, out).values()).backward()
    for scales in (model.generator.scales, model.generator.things):
        for k, scale in enumerate(scales):
            grads = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in scale.parameters()]
            assert all(grads) if k in reached else not any(grads), k
    assert any(parameter.grad is not None for parameter in model.generator.style.parameters())


# the video critics


def test_a_video_critic_looks_at_three_frames_and_the_motion_between() -> None:
    model, batch = build(strides=(1, 2, 3)), learn(6, batch=2)
    drawn = noise(2, 3, 6, 16, 24, seed=9)
    assert batch.flow is not None
    pairs = list(model._triples(window(batch, 3, 6), drawn))
    assert [pair is None for pair in pairs] == [False, False, True]  # of stride 3 the first three end at frame 6
    for stride, pair in zip((1, 2), pairs, strict=False):
        assert pair is not None
        row = 0
        for t in (3, 4, 5):
            if t < 2 * stride:
                continue
            for b in range(2):
                motion = torch.cat([chained(batch.flow, t, stride)[b], chained(batch.flow, t - stride, stride)[b]]) / 20
                for video, found in zip((batch.video, drawn), pair, strict=True):
                    frames = torch.cat([video[b, :, t - 2 * stride], video[b, :, t - stride], video[b, :, t]])
                    torch.testing.assert_close(found[row], torch.cat([frames, motion]))
                row += 1
        assert len(pair[0]) == len(pair[1]) == row


def test_video_critics_sit_out_where_a_clip_is_too_short() -> None:
    model, batch = build(strides=(2,)), learn(5)
    early, late = window(batch, 0, 4), window(batch, 4, 5)
    out, carry = model(early, None)
    assert model.losses("video_critic", early, out) == {}
    assert not {"video", "video_features"} & set(model.losses("generator", early, out))
    out, _ = model(late, carry)  # frames 0, 2 and 4
    assert set(model.losses("video_critic", late, out)) == {"video_critic"}
    assert {"video", "video_features"} < set(model.losses("generator", late, out))


def test_a_critic_is_paid_for_telling_the_drawn_from_the_real() -> None:
    model, batch = build(strides=(1,)), learn(4)
    piece = window(batch, 0, 4)
    out, _ = model(piece, None)
    for phase, critic, pair in (
        ("image_critic", model.image_critic, model._pictures(piece, out.drawn)),
        ("video_critic", model.video_critics[0], next(iter(model._triples(piece, out.drawn)))),
    ):
        assert pair is not None
        real, drawn = (critic(x.detach()) for x in pair)
        wanted = sum(
            ((a[-1] - 1).square().mean() + b[-1].square().mean()) / 2 for a, b in zip(real, drawn, strict=True)
        )
        torch.testing.assert_close(model.losses(phase, piece, out)[phase], wanted / 2)  # of two scales
        fooled = sum((b[-1] - 1).square().mean() for b in drawn) / 2
        torch.testing.assert_close(model.losses("generator", piece, out)[phase.removesuffix("_critic")], fooled)


@pytest.mark.usefixtures("as_shipped")
def test_what_does_not_fit_is_one_sentence() -> None:
    config = Config(classes=3, width=4, downs=2, blocks=2, critic_width=4, critic_layers=1, strides=(), perceptual=0)
    with pytest.raises(ValueError, match="past must be 1 or more"):
        Vid2Vid(replace(config, past=0))
    model = Vid2Vid(config).eval()
    maps, chance = torch.zeros(1, 4, 1, 16, 16), torch.Generator()
    with pytest.raises(ValueError, match="given frames are 8x8, the maps 16x16"):
        next(model.stream(maps.unbind(2), torch.zeros(1, 3, 1, 8, 8), 1, chance))
    batch = Batch(
        torch.zeros(1, 3, 2, 18, 16), torch.arange(1), 0, torch.zeros(1, 4, 2, 18, 16), torch.zeros(1, 2, 2, 18, 16)
    )
    with pytest.raises(ValueError, match="multiples of 4, not at 16x18"):
        next(iter(model.windows(batch)))
    assert next(model.stream(torch.zeros(1, 4, 1, 3, 2).unbind(2), None, 1, chance)).shape == (
        1,
        1,
        3,
        3,
        2,
    )  # tiny ones too


def test_the_first_steps_are_without_critics_and_with_the_error() -> None:
    model = build(warm_up=5, reconstruction=2.0)
    for step, judged in ((4, False), (5, True)):
        piece = next(iter(model.windows(learn(step=step))))
        out, _ = model(piece, None)
        assert bool(model.losses("image_critic", piece, out)) is judged
        assert bool(model.losses("video_critic", piece, out)) is judged
        terms = model.losses("generator", piece, out)
        assert ("image" in terms, "video" in terms) == (judged, judged)
        times = slice(piece.start, piece.stop)
        apart = (out.drawn[:, :, times] - piece.video[:, :, times]).abs().mean()
        torch.testing.assert_close(terms["reconstruction"], 2 * apart)
