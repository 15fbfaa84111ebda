import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from douga.core.contracts import Figure, Metric
from douga.metrics import temporal
from douga.metrics.temporal import TemporalLpips, WarpError

CPU = torch.device("cpu")
ENDS = torch.tensor([True, False, False, False, True])


def moving(step_px: int = 2, frames: int = 5) -> Tensor:
    """(3, T, 48, 48): a texture that goes right."""
    coarse = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wide = F.interpolate(coarse, (48, 72), mode="bicubic").clamp(-1, 1)[0]
    return torch.stack([wide[..., 20 - step_px * t : 68 - step_px * t] for t in range(frames)], dim=1)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measure(drawn: Tensor, truth: Tensor, mask: Tensor = ENDS) -> dict[str, Figure]:
    metric = WarpError(CPU)
    return metric.compute({name: value[None] for name, value in metric.observe(drawn, truth, mask).items()})


def test_keeps_the_contract() -> None:
    metric, truth = WarpError(CPU), moving()
    assert isinstance(metric, Metric)
    assert json.loads(json.dumps(metric.settings)) == metric.settings
    each = [metric.observe(truth[None] + amount * noise(1, *truth.shape), truth, ENDS) for amount in (0.0, 0.1)]
    observed = {name: torch.stack([row[name] for row in each]) for name in each[0]}
    assert metric.curves(observed) == {}
    for name, figure in metric.compute(observed).items():
        assert figure.values.shape == (2,) and figure.values.dtype == torch.float64
        assert figure.higher_is_better is (None if name == "warp_error" else False)
        backwards = metric.compute({key: rows.flip(0) for key, rows in observed.items()})[name]
        assert torch.equal(backwards.values.flip(0), figure.values)
    with pytest.raises(ValueError, match="every frame was given"):
        metric.observe(truth[None], truth, torch.ones(5, dtype=torch.bool))


def test_motion_costs_little_flicker_and_noise_much() -> None:
    truth = moving()
    still = truth[:, :1].expand(-1, 5, -1, -1)
    assert measure(still[None], still)["warp_error"].values.item() == pytest.approx(0, abs=1e-9)
    steady = measure(truth[None], truth)["warp_error"].values.item()
    unaligned = 1000 * ((truth[:, 1:] - truth[:, :-1]) / 2).square().mean().item()
    assert steady < unaligned / 20
    errors = [
        measure(truth[None] + amount * noise(1, *truth.shape), truth)["warp_error"].values for amount in (0.1, 0.3)
    ]
    assert steady < errors[0] < errors[1]
    flickering = truth + 0.2 * torch.tensor([0.0, 1, 0, 1, 0])[:, None, None]
    assert measure(flickering[None], truth)["warp_error"].values.item() == pytest.approx(10, rel=0.3)  # (0.2 / 2)^2


@pytest.mark.parametrize(
    "turn", [0.0, 0.76, 0.9, 40.0]
)  # px by which the way there misses: within the slack, beyond it, lost
def test_equals_its_definition_written_as_loops(turn: float, monkeypatch: pytest.MonkeyPatch) -> None:
    video = noise(1, 3, 2, 7, 9) * 0.3
    mask = torch.tensor([True, False])
    there = torch.tensor([2.0, -1.0])[None, :, None, None].expand(1, 2, 7, 9).clone()
    back = -there
    there[:, 0, :, 5:] += turn  # of the right half of the first picture alone
    if turn > 10:
        there[:, 1] += turn
    monkeypatch.setattr(temporal, "estimate", lambda source, _: there if torch.equal(source, video[:, :, 0]) else back)
    errors = []
    for y in range(7):
        for x in range(9):
            row, column = y + 1, x - 2  # where the way back leads
            if not (row < 7 and column >= 0):
                continue
            w, b = there[0, :, row, column], back[0, :, y, x]
            if (w + b).square().sum() < 0.01 * (w.square().sum() + b.square().sum()) + 0.5:
                errors.append(((video[0, :, 0, row, column] - video[0, :, 1, y, x]) / 2).square().mean().item())
    assert len(errors) == {0.0: 42, 0.76: 42, 0.9: 30, 40.0: 0}[turn]
    got = measure(video, video[0], mask)["warp_error"].values.item()
    if errors:
        assert got == pytest.approx(1000 * sum(errors) / len(errors), rel=1e-4)
    else:
        assert got > 0  # the whole picture counts, so that noise is not a perfect score


def test_looks_at_neighbours_of_drawn_frames_in_the_first_five_samples() -> None:
    truth = moving()
    drawn = truth + 0.1 * noise(7, *truth.shape)
    mask = torch.tensor([True, True, True, False, False])
    before = measure(drawn, truth, mask)
    changed = drawn.clone()
    changed[:, :, :2] = 0
    changed[5:] = 0
    after = measure(changed, truth, mask)
    assert all(torch.equal(before[name].values, after[name].values) for name in before)
    changed[:, :, 2] = 0
    after = measure(changed, truth, mask)
    assert all(not torch.equal(before[name].values, after[name].values) for name in before)


def test_a_flash_and_a_halt_at_the_key_frames_both_count() -> None:
    truth = torch.linspace(-0.5, 0.5, 5)[None, :, None, None].expand(3, 5, 16, 16)  # brighter by 0.25 a frame
    assert measure(truth[None], truth)["jump_keys"].values.item() == 0
    changed = truth.clone()
    changed[:, 1] += 0.1  # a longer step out of the first key frame
    changed[:, 3] += 0.2  # a shorter one into the last
    got = measure(changed[None], truth)["jump_keys"].values.item()
    assert got == pytest.approx(127.5 * (0.1 + 0.2) / 2, rel=1e-4)
    middle = torch.tensor([False, False, True, False, False])
    assert measure(changed[None], truth, middle)["jump_keys"].values.item() == pytest.approx(127.5 * 0.15, rel=1e-4)


class TestTemporalLpips:
    def test_a_frozen_video_is_as_wrong_as_a_flickering_one(self, real_data: Path) -> None:
        metric = TemporalLpips(torch.device("cpu"))
        x = torch.arange(48.0)
        truth = torch.stack([(0.4 * (x - 2 * t)).sin().expand(3, 48, 48) * 0.7 for t in range(6)], dim=1)
        mask = torch.arange(6) == 0
        frozen = truth[:, :1].expand(-1, 6, -1, -1)
        flicker = truth * torch.tensor([1.0, 0.0] * 3)[:, None, None]

        def score(video: Tensor) -> float:
            return metric.compute({"apart": metric.observe(video[None], truth, mask)["apart"][None]})[
                "tlp_alex"
            ].values.item()

        assert score(truth) == 0
        changes = metric._changes(truth)
        assert score(frozen) == pytest.approx(1000 * changes.mean().item(), rel=1e-4)
        assert score(flicker) > 0.5 * score(frozen)
