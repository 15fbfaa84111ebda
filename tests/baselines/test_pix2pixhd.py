"""Frame by frame: what depends on what, and the losses written out, against `baselines/pix2pixhd.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from douga.baselines.pix2pixhd import Config, Painter, Pix2PixHD
from douga.core.clip import Batch, Request
from douga.nn.maps import outlined
from douga.video.ops import encode_labels

TINY = Config(classes=3, width=4, downs=2, blocks=2, critic_width=4, critic_layers=1, perceptual=0.0, window=2)


def build(**changes: Any) -> Pix2PixHD:
    torch.manual_seed(0)
    return Pix2PixHD(replace(TINY, **changes)).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def maps(frames: int = 5, size: tuple[int, int] = (16, 24), batch: int = 1, seed: int = 0) -> Tensor:
    """(B, 4, T, H, W): patches of 4x4 px, each with a class and a number, others in each frame."""
    h, w = size
    chance = torch.Generator().manual_seed(seed)
    coarse = torch.randint(3, (2, batch * frames, -(-h // 4), -(-w // 4)), generator=chance, dtype=torch.int32)
    labels = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :h, :w]
    return encode_labels(labels, 3).unflatten(1, (batch, frames)).transpose(0, 1)


def ask(cond: Tensor, *known: int, seed: int = 1) -> Request:
    b, _, t, h, w = cond.shape
    mask = torch.isin(torch.arange(t), torch.tensor(known, dtype=torch.int64))
    return Request.hide(noise(b, 3, t, h, w, seed=seed), mask, cond=cond)


def draw(model: Pix2PixHD, request: Request, samples: int = 1) -> Tensor:
    return model.synthesize(request, samples, torch.Generator().manual_seed(3))


def test_its_layers_are_those_of_the_paper() -> None:
    """c7s1-64, d128, d256, d512, d1024, R1024 nine times, u512, u256, u128, u64, c7s1-3."""
    with torch.device("meta"):
        painter = Painter(Config())
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    convs = [layer for layer in painter.modules() if isinstance(layer, kinds)]
    seen = [(type(c) is kinds[1], c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs]
    downs = [(False, 64 * 2**k, 128 * 2**k, 3, 2) for k in range(4)]
    ups = [(True, 128 * 2**k, 64 * 2**k, 4, 2) for k in (3, 2, 1, 0)]
    assert seen == [(False, 36, 64, 7, 1), *downs, *[(False, 1024, 1024, 3, 1)] * 18, *ups, (False, 64, 3, 7, 1)]


def test_each_frame_is_drawn_from_its_own_map_alone() -> None:
    model, cond = build(), maps()
    whole = draw(model, ask(cond))[0]
    changed = cond.clone()
    changed[:, :, 2] = maps(seed=7)[:, :, 2]
    other = draw(model, ask(changed))[0]
    assert [torch.equal(whole[:, :, t], other[:, :, t]) for t in range(5)] == [True, True, False, True, True]
    order = [3, 0, 4, 1, 2]
    assert torch.equal(draw(model, ask(cond[:, :, order]))[0], whole[:, :, order])
    for t in range(5):
        painted = model.painter(outlined(cond[:, :, t], 3))
        torch.testing.assert_close(whole[:, :, t], painted, rtol=0, atol=1e-6)


def test_given_frames_are_kept_wherever_they_lie_and_not_looked_at() -> None:
    model, cond = build(), maps()
    plain = draw(model, ask(cond))[0]
    for known in ((0,), (1, 3), (4,)):
        request = ask(cond, *known)
        drawn = draw(model, request, samples=2)
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], torch.where(request.mask[:, None, None], request.known, plain))


@pytest.mark.parametrize("given", [0, 2])
def test_the_stream_gives_what_synthesize_gives_at_odd_sizes(given: int) -> None:
    model, cond = build(), maps(size=(33, 50), batch=2)
    request = ask(cond, *range(given))
    frames = list(model.stream(cond.unbind(2), request.known[:, :, :given], 2, torch.Generator()))
    drawn = draw(model, request, samples=2)
    assert drawn.shape == (2, 2, 3, 5, 33, 50)
    assert torch.equal(torch.stack(frames, 3), drawn)
    rows, columns = torch.arange(36).clamp(max=32), torch.arange(52).clamp(max=49)
    padded = draw(model, ask(cond[..., rows[:, None], columns]))[0, ..., :33, :50]
    assert torch.equal(padded[:, :, given:], drawn[0][:, :, given:])


def test_what_cannot_be_painted_is_said() -> None:
    model, cond = build(), maps()
    with pytest.raises(ValueError, match="the request has none"):
        draw(model, Request.hide(noise(1, 3, 5, 16, 24), torch.arange(5) < 1))
    with pytest.raises(ValueError, match=r"3 classes \(4 planes\), not maps of 3 planes"):
        draw(model, ask(cond[:, 1:]))
    with pytest.raises(ValueError, match=r"pictures \(3 planes\), not maps of 4 planes"):
        draw(build(classes=0), ask(cond))
    for missing in ("cond", "flow"):
        with pytest.raises(ValueError, match="learns from videos with maps"):
            list(model.windows(replace(learn(), **{missing: None})))  # type: ignore[arg-type]


# learning


def learn(batch: int = 2, frames: int = 5) -> Batch:
    shape = frames, 16, 24
    flow = noise(batch, 2, *shape, seed=5)
    return Batch(noise(batch, 3, *shape, seed=4), torch.arange(batch), 0, maps(frames, batch=batch), flow)


def test_windows_hold_every_frame_once_clip_after_clip() -> None:
    batch = learn()
    assert batch.cond is not None and batch.flow is not None
    pieces = list(build().windows(batch))
    assert [len(piece.frames) for piece in pieces] == [4, 4, 2]
    start = 0
    for piece, frames in zip(pieces, (2, 2, 1), strict=True):
        for b in range(2):
            for k in range(frames):
                row, t = b * frames + k, start + k
                assert torch.equal(piece.frames[row], batch.video[b, :, t])
                assert torch.equal(piece.flow[row], batch.flow[b, :, t])
                assert torch.equal(piece.maps[row], outlined(batch.cond[b : b + 1, :, t], 3)[0])
        assert piece.clips == 2
        start += frames


def test_the_losses_written_out() -> None:
    model = build()
    piece = next(iter(model.windows(learn())))
    out, carry = model(piece, None)
    assert carry is None
    real, drawn = (model.critic(torch.cat([piece.maps, frames], 1)) for frames in (piece.frames, out))
    told = sum(((a[-1] - 1).square().mean() + b[-1].square().mean()) / 2 / 2 for a, b in zip(real, drawn, strict=True))
    found = model.losses("critic", piece, out)
    assert set(found) == {"critic"}
    torch.testing.assert_close(found["critic"], told)
    found = model.losses("painter", piece, out)
    assert set(found) == {"image", "image_features"}
    torch.testing.assert_close(found["image"], sum((b[-1] - 1).square().mean() / 2 for b in drawn))
    layers = [(a - b).abs().mean() for k in (0, 1) for a, b in zip(real[k][:-1], drawn[k][:-1], strict=True)]
    torch.testing.assert_close(found["image_features"], 10 * sum(layers) / len(layers))


def test_without_the_perceptual_term_no_weights_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUGA_CACHE", str(tmp_path))
    for weight in (0.0, 10.0):
        model = build(perceptual=weight)
        piece = next(iter(model.windows(learn())))
        out, _ = model(piece, None)
        if weight:
            with pytest.raises(FileNotFoundError, match="vgg16"):
                model.losses("painter", piece, out)
        else:
            assert "perceptual" not in model.losses("painter", piece, out)
