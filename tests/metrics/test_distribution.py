from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from douga.core.contracts import Metric
from douga.metrics import distribution
from douga.metrics.distribution import ResNextDistance, VideoDistance, frechet, kernel


def draws(n: int, d: int, seed: int) -> Tensor:
    """Correlated, off centre, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixed + seed


@pytest.mark.parametrize(("n", "m", "d"), [(50, 70, 8), (9, 40, 8), (300, 300, 40)])
def test_frechet_equals_the_root_of_a_matrix(n: int, m: int, d: int) -> None:
    a, b = draws(n, d, 0), draws(m, d, 1)
    covariances = [np.cov(features.numpy(), rowvar=False) for features in (a, b)]
    apart = np.square(a.mean(0).numpy() - b.mean(0).numpy()).sum()
    expected = apart + np.trace(covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 60), (20, 90, 60), (200, 90, 60)])
def test_frechet_has_its_closed_form_where_covariances_commute(n: int, m: int, d: int) -> None:
    """Sets whose means are known and whose covariances are V diag(s^2) V^T, exactly, with the same V."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    sets, deviations, means = [], [], []
    for count in (n, m):
        rank = min(count - 1, d)
        ones = torch.ones(count, 1, dtype=torch.float64)
        other = torch.randn(count, rank, generator=generator, dtype=torch.float64)
        centred = torch.linalg.qr(torch.cat([ones, other], dim=1)).Q[:, 1:]  # orthonormal, each column of mean 0
        deviation = torch.zeros(d, dtype=torch.float64)
        deviation[torch.randperm(d, generator=generator)[:rank]] = torch.rand(rank, generator=generator).double() * 9
        mean = torch.randn(d, generator=generator, dtype=torch.float64)
        used = deviation.nonzero().squeeze(1)
        sets.append(mean + (count - 1) ** 0.5 * centred @ (deviation[used, None] * axes.T[used]))
        deviations.append(deviation)
        means.append(mean)
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert frechet(*sets) == pytest.approx(float(expected), rel=1e-10)


def test_frechet_of_a_set_and_itself_is_nothing() -> None:
    for n in (30, 100, 500):
        a = draws(n, 100, 3) * 20  # as large as logits
        assert abs(frechet(a, a)) < 1e-6
        assert frechet(a, a + 2) == pytest.approx(400, rel=1e-9)
        assert frechet(a, draws(80, 100, 4)) == pytest.approx(frechet(draws(80, 100, 4), a), rel=1e-12)
        assert frechet(a, a.flip(0)) == pytest.approx(0, abs=1e-6)  # order is nothing


@pytest.mark.parametrize(("n", "m"), [(6, 6), (5, 9)])
def test_kernel_equals_a_double_loop(n: int, m: int) -> None:
    a, b = draws(n, 7, 0), draws(m, 7, 1)

    def k(x: Tensor, y: Tensor) -> float:
        return (sum(float(p * q) for p, q in zip(x, y, strict=True)) / 7 + 1) ** 3

    within = [
        sum(k(s[i], s[j]) for i, j in product(range(len(s)), repeat=2) if i != j) / (len(s) * (len(s) - 1))
        for s in (a, b)
    ]
    between = sum(k(x, y) for x, y in product(a, b)) / (n * m)
    assert kernel(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_kernel_distance_of_one_distribution_is_nothing_on_average_but_frechet_is_not() -> None:
    halves = [draws(40, 20, 0)[torch.randperm(40, generator=torch.Generator().manual_seed(s))] for s in range(50)]
    kernels = torch.tensor([kernel(half[:20], half[20:]) for half in halves])
    assert kernels.mean().abs() < 4 * kernels.std() / len(halves) ** 0.5
    assert min(frechet(half[:20], half[20:]) for half in halves) > 1


class Network:
    """Stands for I3D: 400 numbers that depend on every pixel, and a note of what was asked."""

    def __init__(self, device: object = "cpu") -> None:
        self.asked: list[tuple[int, ...]] = []

    def logits(self, video: Tensor) -> Tensor:
        self.asked.append(tuple(video.shape))
        pixels = video.flatten(1)
        return torch.cos(pixels @ torch.arange(400.0 * pixels.shape[1]).view(-1, 400).sin() + 1)


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch) -> VideoDistance:
    monkeypatch.setattr(distribution, "I3D", Network)
    return VideoDistance("cpu")


def clips(samples: int, frames: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(samples + 1, 3, frames, 4, 6, generator=generator) * 2 - 1
    mask = torch.zeros(frames, dtype=torch.bool)
    mask[[0, -1]] = True
    return video[:-1], video[-1], mask


def test_an_observation_is_what_the_network_says(metric: VideoDistance) -> None:
    assert isinstance(metric, Metric)
    for samples, passes in ((3, 3), (7, 5)):
        drawn, truth, mask = clips(samples, seed=samples)
        seen = metric.observe(drawn, truth, mask)
        assert {name: tuple(value.shape) for name, value in seen.items()} == {
            "frames": (),
            "hidden": (),
            "drawn": (passes, 400),
            "truth": (400,),
            "drawn_hidden": (passes, 400),
            "truth_hidden": (400,),
        }
        network = Network()
        assert torch.equal(seen["drawn"], network.logits(drawn[:passes]))
        assert torch.equal(seen["truth"], network.logits(truth[None])[0])
        assert torch.equal(seen["drawn_hidden"], network.logits(drawn[:passes, :, 1:-1]))
        assert torch.equal(seen["truth_hidden"], network.logits(truth[None, :, 1:-1])[0])
        assert (seen["frames"].item(), seen["hidden"].item()) == (16, 14)


def test_hidden_frames_too_few_for_the_network_are_left_out(metric: VideoDistance) -> None:
    assert "drawn_hidden" in metric.observe(*clips(2, 11))
    assert metric.observe(*clips(2, 10)).keys() == {"frames", "hidden", "drawn", "truth"}


def test_the_truth_is_looked_at_once_for_all_methods(metric: VideoDistance) -> None:
    drawn, truth, mask = clips(2)
    first = metric.observe(drawn, truth, mask)
    asked = metric._network.asked  # type: ignore[attr-defined]
    before = len(asked)
    second = metric.observe(-drawn, truth.clone(), mask)
    assert asked[before:] == [(2, 3, 16, 4, 6), (2, 3, 14, 4, 6)]
    assert torch.equal(first["truth_hidden"], second["truth_hidden"])
    assert not torch.equal(metric.observe(drawn, -truth, mask)["truth"], first["truth"])
    metric.observe(drawn.reshape(2, 3, 16, 2, 12), truth.reshape(3, 16, 2, 12), mask)  # the same bytes
    assert (1, 3, 16, 2, 12) in asked


def observations(clips: int, passes: int, hidden: int = 14) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    numbers = {"frames": torch.full((clips,), 16), "hidden": torch.full((clips,), hidden)}
    sets = {name: torch.randn(clips, passes, 400, generator=generator) * 3 for name in ("drawn", "drawn_hidden")}
    truths = {name: torch.randn(clips, 400, generator=generator) * 4 + 1 for name in ("truth", "truth_hidden")}
    return {**numbers, **sets, **truths}


def test_figures_are_the_mean_over_the_passes_under_a_name_that_says_how(metric: VideoDistance) -> None:
    observed = observations(10, 3)
    figures = metric.compute(observed)
    rows = {
        "fvd_i3d_16f_n10": (frechet, ""),
        "kvd_i3d_16f_n10": (kernel, ""),
        "fvd_i3d_hidden14f_n10": (frechet, "_hidden"),
    }
    assert figures.keys() == {*rows, "diversity_i3d"}
    for name, (distance, part) in rows.items():
        one_by_one = [distance(observed[f"drawn{part}"][:, p], observed[f"truth{part}"]) for p in range(3)]
        assert figures[name].values.shape == ()
        assert figures[name].values.item() == pytest.approx(sum(one_by_one) / 3)
        assert figures[name].higher_is_better is False
    assert len({figures[name].values.item() for name in rows}) == 3
    diversity = figures["diversity_i3d"]
    by_hand = [
        np.mean([float((a - b).norm()) for a, b in combinations(clip, 2)]) for clip in observed["drawn"].double()
    ]
    assert diversity.values.tolist() == pytest.approx(by_hand)
    assert diversity.higher_is_better is None
    assert {figure.values.dtype for figure in figures.values()} == {torch.float64}


def test_what_cannot_be_known_is_left_out(metric: VideoDistance) -> None:
    assert metric.compute(observations(1, 3)).keys() == {"diversity_i3d"}
    assert metric.curves(observations(1, 3)) == {}
    alone = {name: value for name, value in observations(4, 1).items() if not name.endswith("_hidden")}
    assert metric.compute(alone).keys() == {"fvd_i3d_16f_n4", "kvd_i3d_16f_n4"}


def test_the_curve_ends_at_the_figure_and_falls(metric: VideoDistance) -> None:
    observed = observations(40, 2)
    curves = metric.curves(observed)
    numbers, values = curves["fvd_i3d_over_n_n"], curves["fvd_i3d_over_n_fvd"]
    assert numbers.tolist() == [10, 20, 30, 40]
    assert values.shape == (4,) and values.dtype == torch.float64
    assert values[-1].item() == pytest.approx(metric.compute(observed)["fvd_i3d_16f_n40"].values.item())
    torch.manual_seed(5)
    assert torch.equal(metric.curves(observed)["fvd_i3d_over_n_fvd"], values)
    same = {**observed, "truth": observed["drawn"][torch.arange(40).roll(1), 0]}
    falling = metric.curves({**same, "drawn": torch.randn(40, 1, 400) * 3})["fvd_i3d_over_n_fvd"]
    assert (falling.diff() < 0).all()
    assert metric.curves(observations(3, 1))["fvd_i3d_over_n_n"].tolist() == [2, 3]


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUGA_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="weights of i3d are missing"):
        VideoDistance("cpu")


class Means(torch.nn.Module):
    """In place of a 3-D ResNeXt: the mean of each channel and its change over time."""

    def forward(self, clip: Tensor) -> Tensor:
        return torch.cat([clip.mean((2, 3, 4)), clip[:, :, 8:].mean((2, 3, 4)) - clip[:, :, :8].mean((2, 3, 4))], 1)


def test_a_resnext_that_the_user_brings_is_measured_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUGA_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"put your own at .*weights/resnext3d\.pt2"):
        ResNextDistance()
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "resnext3d.pt2"
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="no network written by"):
        ResNextDistance()
    torch.export.save(torch.export.export(Means(), (torch.zeros(1, 3, 16, 112, 112),)), path)
    metric = ResNextDistance()
    mask = torch.zeros(18, dtype=torch.bool)
    seen = []
    for k in range(3):
        truth = torch.full((3, 18, 32, 40), k / 4)
        seen.append(metric.observe(truth[None] + 0.25, truth, mask))
    stacked = {name: torch.stack([one[name] for one in seen]) for name in seen[0]}
    figures = metric.compute(stacked)
    assert float(figures["frechet_resnext3d_18f_n3"].values) == pytest.approx(3 * 0.25**2, abs=1e-5)  # of three means
    assert "kernel_resnext3d_18f_n3" in figures and "fvd_i3d_18f_n3" not in figures
    with pytest.raises(ValueError, match="takes 16 frames or more, not 9"):
        metric.observe(truth[None, :, :9], truth[:, :9], mask[:9])
