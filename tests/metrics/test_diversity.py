import json
from itertools import combinations, product
from math import pi, sqrt
from statistics import NormalDist, mean

import pytest
import torch
from torch import Tensor

from douga.core.contracts import Figure, Metric
from douga.metrics.diversity import Calibration, Spread

CPU = torch.device("cpu")
MASK = torch.tensor([True, False, False, True])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measure(metric: Metric, drawn: Tensor, truth: Tensor, mask: Tensor = MASK) -> dict[str, Figure]:
    return dict(metric.compute({name: value[None] for name, value in metric.observe(drawn, truth, mask).items()}))


@pytest.mark.parametrize("kind", [Spread, Calibration])
def test_keeps_the_contract(kind: type) -> None:
    metric = kind(CPU)
    assert isinstance(metric, Metric)
    assert json.loads(json.dumps(metric.settings)) == metric.settings
    each = [metric.observe(normal(6, 3, 4, 9, 10, seed=n), normal(3, 4, 9, 10, seed=9 - n), MASK) for n in range(3)]
    observed = {name: torch.stack([row[name] for row in each]) for name in each[0]}
    forwards, backwards = metric.compute(observed), metric.compute({k: rows.flip(0) for k, rows in observed.items()})
    for name, figure in forwards.items():
        assert figure.values.dtype == torch.float64
        assert figure.values.shape == (() if name == "rank_deviation" else (3,))
        other = backwards[name].values
        assert torch.allclose(other.flip(0) if other.ndim else other, figure.values)
    assert all(curve.ndim == 1 and curve.dtype == torch.float64 for curve in metric.curves(observed).values())
    with pytest.raises(ValueError, match="every frame was given"):
        metric.observe(normal(2, 3, 4, 9, 10), normal(3, 4, 9, 10), torch.ones(4, dtype=torch.bool))


@pytest.mark.parametrize("samples", [2, 7])
def test_spread_equals_the_double_loop_over_pairs(samples: int) -> None:
    drawn = normal(samples, 3, 4, 5, 6)
    observed = Spread(CPU).observe(drawn, drawn[0], MASK)
    pairs = list(combinations(range(samples), 2))
    expected = [mean(127.5 * (drawn[i] - drawn[j])[:, t].abs().mean().item() for i, j in pairs) for t in range(4)]
    assert observed["per_frame"].tolist() == pytest.approx(expected)
    figure = measure(Spread(CPU), drawn, drawn[0])["spread_px"]
    assert figure.values.tolist() == pytest.approx([mean(expected[1:3])])
    assert (figure.unit, figure.higher_is_better) == ("of 255", None)


def test_spread_of_100_samples_equals_the_sum_over_order_statistics() -> None:
    drawn = normal(100, 3, 1, 16, 16)
    ranked = drawn.double().sort(dim=0).values.flatten(1)
    expected = 127.5 * ((2 * torch.arange(1, 101) - 101)[:, None] * ranked).sum(0).mean() * 2 / (100 * 99)
    observed = Spread(CPU).observe(drawn, drawn[0], torch.tensor([False]))
    assert observed["per_frame"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_spread_is_nothing_at_key_frames_and_of_a_single_sample() -> None:
    drawn = normal(3, 3, 4, 5, 6)
    drawn[:, :, MASK] = drawn[:1, :, MASK]
    over_frames = Spread(CPU).observe(drawn, drawn[0], MASK)["per_frame"]
    assert over_frames.gt(0).tolist() == [False, True, True, False]
    assert measure(Spread(CPU), drawn[:1], drawn[0])["spread_px"].values.tolist() == [0]


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_crps_and_energy_equal_their_definitions_written_as_loops(samples: int) -> None:
    drawn, truth = normal(samples, 3, 4, 2, 3), normal(3, 4, 2, 3, seed=1)
    figures = measure(Calibration(CPU), drawn, truth)
    scores = []
    for c, t, y, x in product(range(3), (1, 2), range(2), range(3)):
        values, true = drawn[:, c, t, y, x].tolist(), truth[c, t, y, x].item()
        between = [abs(a - b) for a, b in combinations(values, 2)]
        scores.append(mean(abs(v - true) for v in values) - (mean(between) / 2 if between else 0))
    assert figures["crps_hidden"].values.tolist() == pytest.approx([127.5 * mean(scores)])

    def distance(a: Tensor, b: Tensor) -> float:
        return (a - b)[:, 1:3].square().mean().sqrt().item()

    between = [distance(a, b) for a, b in combinations(drawn, 2)]
    energy = mean(distance(sample, truth) for sample in drawn) - (mean(between) / 2 if between else 0)
    assert figures["energy_hidden"].values.tolist() == pytest.approx([127.5 * energy])
    assert figures["crps_hidden"].higher_is_better is figures["energy_hidden"].higher_is_better is False


@pytest.mark.parametrize("samples", [3, 20])  # the fair form has no bias: few samples score as many do
@pytest.mark.parametrize("away", [0.0, 1.5])
def test_crps_of_a_normal_ensemble_is_the_closed_form(samples: int, away: float) -> None:
    drawn, truth = 0.2 * normal(samples, 3, 4, 64, 64), torch.full((3, 4, 64, 64), 0.2 * away)
    unit = NormalDist()
    expected = 127.5 * 0.2 * (away * (2 * unit.cdf(away) - 1) + 2 * unit.pdf(away) - 1 / sqrt(pi))
    assert measure(Calibration(CPU), drawn, truth)["crps_hidden"].values.item() == pytest.approx(expected, rel=0.02)


def test_the_truth_scores_best_and_more_noise_is_worse() -> None:
    truth = normal(3, 4, 16, 16)
    noises = [torch.tensor(amount) for amount in (0, 0.1, 0.4)]
    scores = [measure(Calibration(CPU), truth + amount * normal(4, 3, 4, 16, 16, seed=1), truth) for amount in noises]
    for name in ("crps_hidden", "energy_hidden"):
        values = [figures[name].values.item() for figures in scores]
        assert values[0] == 0
        assert values == sorted(values) and len(set(values)) == 3
    assert "rank_deviation" not in scores[0]  # 4 samples are too few


@pytest.mark.parametrize("samples", [5, 20, 29, 100])
def test_the_rank_histogram_tells_calibrated_from_over_and_underconfident(samples: int) -> None:
    shape, mask = (3, 100, 1, 64), torch.zeros(100, dtype=torch.bool)
    metric, truth = Calibration(CPU), normal(*shape, seed=1)
    deviations, histograms = [], []
    for width in (1.0, 0.4, 2.5):
        observed = metric.observe(width * normal(samples, *shape), truth, mask)
        stacked = {name: value[None] for name, value in observed.items()}
        assert observed["ranks"].shape == (samples + 1,)
        assert observed["ranks"].sum() == 100 * 8
        deviations.append(metric.compute(stacked)["rank_deviation"].values.item())
        histograms.append(metric.curves(stacked)["rank_histogram"])
        assert len(histograms[-1]) == min(samples + 1, 21)
    calibrated, narrow, wide = histograms
    assert deviations[0] < 0.12 < 0.2 < min(deviations[1:])
    assert (calibrated - 1).abs().max() < 0.75
    middle = len(narrow) // 2
    assert narrow[[0, -1]].min() > 1.5 > 0.8 > narrow[middle]
    assert wide[[0, -1]].max() < 0.5 < 1.2 < wide[middle]


def test_neighbouring_ranks_are_merged_without_losing_any() -> None:
    ranks = torch.ones(1, 101, dtype=torch.int64)
    observed = {"ranks": ranks, "crps": torch.zeros(1), "energy": torch.zeros(1)}
    assert torch.allclose(Calibration(CPU).curves(observed)["rank_histogram"], torch.ones(21, dtype=torch.float64))
    assert Calibration(CPU).compute(observed)["rank_deviation"].values.item() == pytest.approx(0, abs=1e-12)
    observed["ranks"] = torch.zeros(1, 101, dtype=torch.int64).index_fill(
        1, torch.tensor([0]), 7
    )  # the truth is always below
    assert Calibration(CPU).compute(observed)["rank_deviation"].values.item() == pytest.approx(1 - 5 / 101)


def test_ranks_count_the_samples_below_and_break_ties_by_a_chance_of_the_truth_alone() -> None:
    truth, mask = torch.zeros(3, 1, 1, 1), torch.tensor([False])
    drawn = torch.tensor([-0.5, -0.2, 0.1, 0.3, 0.9])[:, None, None, None, None].expand(5, 3, 1, 1, 1)
    assert Calibration(CPU).observe(drawn, truth, mask)["ranks"].tolist() == [0, 0, 1, 0, 0, 0]
    truth = normal(3, 4, 160, 158).clamp(-1, 1)
    same = [Calibration(CPU).observe(truth.repeat(5, 1, 1, 1, 1), truth, MASK)["ranks"] for _ in range(2)]
    assert torch.equal(*same)
    assert same[0].sum() == 2 * 20 * 20  # hidden frames, every eighth pixel
    assert same[0].min() > 0.7 * 2 * 20 * 20 / 6
