import json

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from douga.core.contracts import Metric
from douga.metrics.position import Position

ENDS = torch.tensor([True, False, True])


def scene(*places: tuple[int, int], light: float = 0.6) -> Tensor:
    """(3, T, 24, 32): in each frame an 6x4 box, whose top left pixel is at (x, y), before a gradient from top to bottom."""
    video = torch.linspace(-0.5, 0.0, 24)[None, None, :, None].expand(3, len(places), 24, 32).clone()
    for time, (x, y) in enumerate(places):
        video[:, time, y : y + 4, x : x + 6] += light
    return video


def measure(drawn: Tensor, truth: Tensor) -> dict[str, float]:
    metric = Position(torch.device("cpu"))
    observed = {name: value[None] for name, value in metric.observe(drawn[None], truth, ENDS).items()}
    return {name: figure.values.item() for name, figure in metric.compute(observed).items()}


def test_keeps_the_contract() -> None:
    metric = Position(torch.device("cpu"))
    assert isinstance(metric, Metric)
    assert json.loads(json.dumps(metric.settings)) == metric.settings
    with pytest.raises(ValueError, match="every frame was given"):
        metric.observe(scene((1, 2))[None], scene((1, 2)), torch.tensor([True]))


def test_the_truth_has_no_error_and_a_shift_has_its_length() -> None:
    truth = scene((2, 5), (10, 5), (18, 5))
    assert measure(truth, truth) == pytest.approx(dict.fromkeys(measure(truth, truth), 0.0), abs=1e-9)
    moved = measure(scene((2, 5), (13, 9), (18, 5)), truth)
    assert moved["centroid_error"] == pytest.approx(5)  # 3 right, 4 down
    assert moved["transport_error"] == pytest.approx(5)
    assert moved["drawn_amount"] == pytest.approx(0, abs=1e-6)


def test_a_cross_fade_stands_right_on_average_and_nowhere_in_truth() -> None:
    truth = scene((2, 5), (10, 5), (18, 5))
    fade = truth.clone()
    fade[:, 1] = (truth[:, 0] + truth[:, 2]) / 2
    found = measure(fade, truth)
    assert found["centroid_error"] == pytest.approx(0, abs=1e-6)
    assert found["transport_error"] == pytest.approx(
        6.5
    )  # 8 from box to box, but each ghost fills its half of the true one


def test_fainter_things_have_a_smaller_amount() -> None:
    truth = scene((2, 5), (10, 5), (18, 5))
    assert measure(scene((2, 5), (10, 5), (18, 5), light=0.3), truth)["drawn_amount"] == pytest.approx(1, abs=1e-3)


def test_transport_is_that_of_an_independent_implementation() -> None:
    chance = torch.Generator().manual_seed(0)
    truth = scene((2, 5), (10, 5), (18, 5))
    drawn = truth.clone()
    drawn[:, 1] = torch.rand(3, 24, 32, generator=chance) * 2 - 1
    backdrop = scene((0, 0), light=0.0)[:, 0]
    masses = []
    for frame in (drawn[:, 1], truth[:, 1]):
        apart = (frame - backdrop).abs().mean(0).double()
        masses.append(torch.where(apart > 0.1, apart, 0.0))
    away = [
        wasserstein_distance(range(size), range(size), *(mass.sum(axis).numpy() for mass in masses))
        for axis, size in ((0, 32), (1, 24))
    ]
    assert measure(drawn, truth)["transport_error"] == pytest.approx((away[0] ** 2 + away[1] ** 2) ** 0.5, rel=1e-6)


def test_nothing_drawn_is_spread_over_the_picture() -> None:
    truth = scene((2, 5), (10, 5), (18, 5))
    nothing = scene((2, 5), (10, 5), (18, 5), light=0.0)
    found = measure(nothing, truth)
    assert found["centroid_error"] == pytest.approx(((15.5 - 12.5) ** 2 + (11.5 - 6.5) ** 2) ** 0.5)
    assert found["drawn_amount"] > 10
