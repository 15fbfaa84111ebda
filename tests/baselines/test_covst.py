"""What the mask blends, with the mask set by hand, against `baselines/covst.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from douga.baselines.covst import Config, Covst
from douga.baselines.pix2pixhd import Pix2PixHD, Window
from douga.core.clip import Batch, Request
from douga.nn.maps import outlined
from douga.video.ops import encode_labels, warp

TINY = Config(
    classes=3,
    width=4,
    downs=1,
    blocks=2,
    critic_width=4,
    critic_layers=1,
    perceptual=0.0,
    window=4,
    mask_width=4,
)


def build(mask: float | None = None, **changes: Any) -> Covst:
    """mask: what M is everywhere, 0 or 1, in place of what the network says."""
    torch.manual_seed(0)
    model = Covst(replace(TINY, **changes)).eval()
    if mask is not None:
        with torch.no_grad():
            model.mask[-2].weight.zero_()  # type: ignore[operator]
            model.mask[-2].bias.fill_(1000 * (2 * mask - 1))  # type: ignore[operator]
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def maps(frames: int = 4, size: tuple[int, int] = (16, 24), batch: int = 1) -> Tensor:
    """(B, 4, T, H, W): patches of 4x4 px, others in each frame."""
    h, w = size
    chance = torch.Generator().manual_seed(0)
    coarse = torch.randint(3, (2, batch * frames, -(-h // 4), -(-w // 4)), generator=chance, dtype=torch.int32)
    labels = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :h, :w]
    return encode_labels(labels, 3).unflatten(1, (batch, frames)).transpose(0, 1)


def ask(cond: Tensor, flow: Tensor | None, *known: int) -> Request:
    b, _, t, h, w = cond.shape
    mask = torch.isin(torch.arange(t), torch.tensor(known, dtype=torch.int64))
    return replace(Request.hide(noise(b, 3, t, h, w, seed=1), mask, cond=cond), flow=flow)


def constant(x: float, y: float, cond: Tensor) -> Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1, 1).expand(len(cond), 2, *cond.shape[2:])


def draw(model: Covst, request: Request, samples: int = 1) -> Tensor:
    return model.synthesize(request, samples, torch.Generator())


def test_where_the_mask_is_one_the_frame_before_is_carried_on() -> None:
    model, cond = build(mask=1), maps()
    drawn = draw(model, ask(cond, constant(0.0, 0.0, cond)), samples=2)
    first = model.painter(outlined(cond[:, :, 0], 3))
    for sample in drawn:
        torch.testing.assert_close(sample, first[:, :, None].expand_as(sample), rtol=0, atol=1e-4)
    same = cond[:, :, :1].expand_as(cond)
    drawn = draw(build(), ask(same, constant(0.0, 0.0, same)))  # equal maps: whatever the mask says
    torch.testing.assert_close(drawn[0], first[:, :, None].expand_as(drawn[0]), rtol=0, atol=1e-4)


def test_what_is_carried_on_follows_the_motion() -> None:
    """4 px of the picture are 2 of the features: after two frames those of the first lie 4 to the right."""
    model, cond = build(mask=1), maps()
    drawn = draw(model, ask(cond, constant(-4.0, 0.0, cond)))[0]
    features = model.painter.encoder(outlined(cond[:, :, 0], 3))
    for t in range(4):
        columns = (torch.arange(12) - 2 * t).clamp(min=0)
        wanted = model.painter.decode(features[..., columns])
        torch.testing.assert_close(drawn[:, :, t], wanted, rtol=0, atol=1e-4)
    assert not torch.allclose(drawn[:, :, 1], drawn[:, :, 0], atol=1e-2)


@pytest.mark.parametrize("size", [(16, 24), (15, 21)])
def test_where_the_mask_is_zero_it_is_pix2pixhd(size: tuple[int, int]) -> None:
    model, cond = build(mask=0), maps(size=size, batch=2)
    plain = Pix2PixHD(model.config).eval()
    plain.painter.load_state_dict(model.painter.state_dict())
    flow = 5 * noise(2, 2, 4, *size)
    drawn = draw(model, ask(cond, flow, 1))
    wanted = plain.synthesize(ask(cond, None, 1), 1, torch.Generator())
    torch.testing.assert_close(drawn, wanted, rtol=0, atol=1e-6)


def test_the_blend_is_that_of_the_paper() -> None:
    model = build()
    features, before, flow = noise(1, 8, 6, 7, seed=1), noise(1, 8, 6, 7, seed=2), 3 * noise(1, 2, 12, 14)
    small = flow.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)) / 2
    warped = warp(before, small)
    m = model.mask((features - warped).abs())
    assert m.shape == (1, 1, 6, 7)
    torch.testing.assert_close(model._blend(features, before, flow), (1 - m) * features + m * warped)
    assert torch.equal(model._blend(features, None, flow), features)


def test_it_cannot_be_used_without_the_true_motion() -> None:
    model, cond = build(), maps()
    with pytest.raises(ValueError, match="true motion"):
        draw(model, ask(cond, None))
    hidden = Request.hide(noise(1, 3, 4, 16, 24), torch.arange(4) < 1)
    with pytest.raises(ValueError, match="needs maps"):
        draw(model, replace(hidden, flow=torch.zeros(1, 2, 4, 16, 24)))
    with pytest.raises(ValueError, match="3 classes"):
        draw(model, ask(cond[:, 1:], constant(0.0, 0.0, cond)))
    frames = iter(cond.unbind(2))
    with pytest.raises(ValueError, match="can be evaluated, not used"):
        model.stream(frames, None, 1, torch.Generator())
    assert model.needs_flow


# learning


def piece(model: Covst, frames: int = 4, batch: int = 2) -> Window:
    video, flow = noise(batch, 3, frames, 16, 24, seed=4), 2 * noise(batch, 2, frames, 16, 24, seed=5)
    for t in range(1, frames):  # the flow explains the left half
        video[..., t, :, :12] = warp(video[:, :, t - 1], flow[:, :, t])[..., :12]
    (window,) = model.windows(Batch(video, torch.arange(batch), 0, maps(frames, batch=batch), flow))
    return window


def test_the_mask_is_taught_in_a_phase_of_its_own() -> None:
    model = build()
    window = piece(model)
    out, _ = model(window, None)
    assert [phase.name for phase in model.phases()] == ["mask", "critic", "painter"]
    of_painter = model.losses("painter", window, out)
    assert set(of_painter) == {"image", "image_features"}
    sum(of_painter.values()).backward()
    assert all(parameter.grad is None for parameter in model.mask.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.painter.parameters())
    # The engine asks for gradients of one phase's module at a time.
    model.zero_grad(set_to_none=True)
    model.painter.requires_grad_(False)
    of_mask = model.losses("mask", window, torch.full_like(out, torch.nan))  # what was painted plays no part
    assert set(of_mask) == {"mask_error", "mask_coherence"}
    sum(of_mask.values()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.mask.parameters())
    assert all(parameter.grad is None for parameter in (*model.painter.parameters(), *model.critic.parameters()))


def test_the_losses_of_the_mask_written_out() -> None:
    model = build()
    window = piece(model)
    frames, flow = (x.unflatten(0, (2, 4)) for x in (window.frames, window.flow))
    found = model.losses("mask", window, None)
    error = coherence = 0.0
    for b in range(2):
        drawn, before = [], None
        for t in range(4):
            features = model.painter.encoder(window.maps[4 * b + t][None])
            before = model._blend(features, before, flow[b, t][None])
            drawn.append(model.painter.decode(before)[0])
        for t in (1, 2, 3):
            error += F.l1_loss(drawn[t], frames[b, t]).item() / (2 * 3)
        for t in (2, 3):
            true, ours = (warp(x[None], flow[b, t][None])[0] for x in (frames[b, t - 1], drawn[t - 1]))
            explained = (true - frames[b, t]).square().sum(0) < 0.02
            assert explained[:, :12].all() and not explained[:, 12:].all()
            coherence += ((ours - drawn[t]).abs().mean(0) * explained).mean().item() / (2 * 2)
    assert found["mask_error"].item() == pytest.approx(10 * error, rel=1e-4)
    assert found["mask_coherence"].item() == pytest.approx(10 * coherence, rel=1e-4)


def test_a_short_piece_has_less_to_teach() -> None:
    model = build()
    for frames, names in ((1, set()), (2, {"mask_error"}), (3, {"mask_error", "mask_coherence"})):
        assert set(model.losses("mask", piece(model, frames), None)) == names
