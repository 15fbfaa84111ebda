import json
from itertools import combinations
from statistics import mean

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from douga.core.contracts import Metric
from douga.metrics import paired
from douga.metrics.paired import Lpips, Mse, Psnr, Ssim, best_of, mse, ssim
from douga.nn.pretrained import NETWORKS

CPU = torch.device("cpu")
MASK = torch.tensor([True, False, False, True, False])


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def noisy(truth: Tensor, samples: int, amount: float, seed: int = 1) -> Tensor:
    noise = torch.randn(samples, *truth.shape, generator=torch.Generator().manual_seed(seed))
    return (truth + amount * noise).clamp(0, 1)


def theirs(drawn: Tensor, truth: Tensor) -> Tensor:
    """scikit-image's SSIM of each frame, in float64."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    frames = [
        [video[:, t].permute(1, 2, 0).double().numpy() for t in range(truth.shape[1])] for video in (truth, *drawn)
    ]
    return torch.tensor(
        [
            [structural_similarity(a, b, channel_axis=2, **options) for a, b in zip(frames[0], sample, strict=True)]
            for sample in frames[1:]
        ]
    )


@pytest.mark.parametrize("size", [(11, 11), (11, 30), (12, 13), (37, 21), (64, 64), (65, 40)])
def test_ssim_equals_scikit_image(size: tuple[int, int]) -> None:
    truth = pixels(3, 2, *size)
    drawn = torch.cat([noisy(truth, 2, 0.05), noisy(truth, 1, 0.5), pixels(1, 3, 2, *size, seed=2), 1 - truth[None]])
    torch.testing.assert_close(ssim(drawn, truth).double(), theirs(drawn, truth), rtol=0, atol=1e-6)
    assert torch.equal(ssim(truth[None], truth), torch.ones(1, 2))


@pytest.mark.parametrize("halves", [(0, 0), (0.02, 0.02), (0.5, 0.5), (0.98, 0.98), (1, 1), (0, 1), (0.2, 0.8)])
@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-3, 1e-2])
def test_ssim_equals_scikit_image_on_nearly_flat_frames(halves: tuple[float, float], noise: float) -> None:
    flat = torch.tensor(halves, dtype=torch.float32).repeat_interleave(20).expand(3, 2, 30, 40)
    truth, similar = noisy(flat, 1, noise)[0], noisy(flat, 1, noise, seed=2)
    drawn = torch.cat([similar, similar * 0.97, similar * 0.5, (similar + 1) / 2, 1 - similar])
    worst = 1e-4 if halves[0] != halves[1] and noise == 0 else 1e-5
    torch.testing.assert_close(ssim(drawn, truth).double(), theirs(drawn, truth), rtol=0, atol=worst)
    doubled = ssim(drawn.double(), truth.double())
    torch.testing.assert_close(doubled, theirs(drawn, truth), rtol=0, atol=1e-10)


def test_ssim_does_not_depend_on_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = pixels(3, 5, 16, 20)
    drawn = noisy(truth, 3, 0.1)
    whole = ssim(drawn, truth)
    for values in (1, 2 * truth[:, 0].numel()):
        monkeypatch.setattr(paired, "CHUNK", values)
        torch.testing.assert_close(ssim(drawn, truth), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(10, 11), (11, 10), (4, 64)])
def test_ssim_of_pictures_that_are_too_small_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"11x11 px; the pictures have {size[0]}x{size[1]}"):
        ssim(pixels(1, 3, 1, *size), pixels(3, 1, *size))


def test_mse_and_psnr_equal_scikit_image() -> None:
    truth = pixels(3, 5, 8, 9)
    drawn = noisy(truth, 2, 0.2)
    expected = [[mean_squared_error(d[:, t].numpy(), truth[:, t].numpy()) for t in range(5)] for d in drawn]
    assert torch.allclose(mse(drawn, truth).double(), torch.tensor(expected, dtype=torch.float64))
    observed = Psnr(CPU).observe(drawn * 2 - 1, truth * 2 - 1, MASK)
    for got, sample in zip(observed["per_sample"].tolist(), drawn, strict=True):
        hidden = (truth[:, ~MASK].numpy(), sample[:, ~MASK].numpy())
        assert got == pytest.approx(peak_signal_noise_ratio(*hidden, data_range=1), abs=1e-4)
    for got, t in zip(observed["per_frame"].tolist(), (1, 2, 4), strict=True):
        each = [peak_signal_noise_ratio(truth[:, t].numpy(), d[:, t].numpy(), data_range=1) for d in drawn]
        assert got == pytest.approx(mean(each), abs=1e-4)


@pytest.mark.parametrize("higher", [True, False])
def test_best_of_equals_all_ways_to_draw(higher: bool) -> None:  # noqa: FBT001
    scores = pixels(3, 7)
    best = best_of(scores, higher_is_better=higher)
    for row, found in zip(scores.tolist(), best.tolist(), strict=True):
        for k in range(1, 8):
            picks = [(max if higher else min)(pick) for pick in combinations(row, k)]
            assert found[k - 1] == pytest.approx(mean(picks))
    assert best_of(pixels(1, 100), higher_is_better=higher).isfinite().all()


@pytest.fixture
def metric(kind: type[Mse], request: pytest.FixtureRequest) -> Mse:
    if kind is Lpips and not (request.getfixturevalue("real_data") / "weights" / NETWORKS["lpips-alex"].file).is_file():
        pytest.skip("DOUGA_CACHE has no weights of LPIPS")
    return kind(CPU)


def observe(metric: Metric, truth: Tensor, drawn: Tensor, mask: Tensor = MASK) -> dict[str, Tensor]:
    return dict(metric.observe(drawn * 2 - 1, truth * 2 - 1, mask))


@pytest.mark.parametrize("kind", [Mse, Psnr, Ssim, Lpips])
class TestMetric:
    def test_keeps_the_contract(self, metric: Mse) -> None:
        assert isinstance(metric, Metric)
        assert json.loads(json.dumps(metric.settings)) == metric.settings
        truths = [pixels(3, 5, 32, 34, seed=seed) for seed in range(2)]
        each = [observe(metric, truth, noisy(truth, 12, 0.1)) for truth in truths]
        observed = {name: torch.stack([row[name] for row in each]) for name in each[0]}
        figures, name = metric.compute(observed), metric.name
        assert list(figures) == [name, f"{name}_best5", f"{name}_best10"]
        for figure in figures.values():
            assert figure.values.shape == (2,) and figure.values.dtype == torch.float64
            assert figure.higher_is_better is metric.higher_is_better
            assert figure.unit == ("dB" if name == "psnr_hidden" else "")
        curves = metric.curves(observed)
        assert {key: curve.shape for key, curve in curves.items()} == {
            f"{name}_over_frames": (3,),
            f"{name}_best_of": (12,),
        }
        best = [figure.values.mean().item() for figure in figures.values()]
        assert curves[f"{name}_best_of"][[0, 4, 9]].tolist() == pytest.approx(best)
        assert best == sorted(best, reverse=not metric.higher_is_better)
        if name != "psnr_hidden":  # where the mean of frames is not the sequence's
            assert curves[f"{name}_over_frames"].mean().item() == pytest.approx(best[0])
        backwards = metric.compute({key: rows.flip(0) for key, rows in observed.items()})
        assert all(torch.allclose(backwards[key].values.flip(0), figures[key].values) for key in figures)

    def test_the_truth_is_the_best_and_more_noise_is_worse(self, metric: Mse) -> None:
        truth = pixels(3, 5, 32, 34)
        scores = [
            observe(metric, truth, noisy(truth, 4, noise))["per_sample"].mean().item() for noise in (0, 0.05, 0.2)
        ]
        assert scores[0] == pytest.approx({"psnr_hidden": 100, "ssim_hidden": 1}.get(metric.name, 0), abs=1e-9)
        assert scores == sorted(scores, reverse=metric.higher_is_better)
        assert len(set(scores)) == 3

    def test_looks_at_hidden_frames_alone(self, metric: Mse) -> None:
        truth = pixels(3, 5, 32, 34)
        drawn = noisy(truth, 2, 0.1)
        changed = drawn.clone()
        changed[:, :, MASK] = 0
        before, after = (observe(metric, truth, video) for video in (drawn, changed))
        assert all(torch.equal(before[key], after[key]) for key in before)
        changed[:, :, 4] = 0
        assert not torch.equal(observe(metric, truth, changed)["per_sample"], before["per_sample"])
        with pytest.raises(ValueError, match="every frame was given"):
            observe(metric, truth, drawn, torch.ones(5, dtype=torch.bool))


@pytest.mark.parametrize("kind", [Lpips])
@pytest.mark.parametrize("values", [1, 2**20])
def test_lpips_equals_a_call_for_each_frame(metric: Lpips, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "CHUNK", values)
    truth = pixels(3, 5, 32, 40)
    drawn = noisy(truth, 3, 0.2)
    expected = torch.stack(
        [
            torch.cat([metric.network(d[None, :, t] * 2 - 1, truth[None, :, t] * 2 - 1) for t in (1, 2, 4)])
            for d in drawn
        ]
    )
    observed = observe(metric, truth, drawn)
    torch.testing.assert_close(observed["per_sample"].float(), expected.mean(1), rtol=1e-4, atol=0)
    torch.testing.assert_close(observed["per_frame"].float(), expected.mean(0), rtol=1e-4, atol=0)


def test_the_best_is_a_sequence_and_not_a_choice_of_frames() -> None:
    truth = torch.zeros(3, 2, 4, 4)
    drawn = truth.repeat(5, 1, 1, 1, 1)
    drawn[0, :, 0] = drawn[1, :, 1] = 0.4  # each of two samples is right in one frame
    drawn[2:] = 1.0
    row = Mse(CPU).observe(drawn, truth, torch.zeros(2, dtype=torch.bool))
    best = Mse(CPU).compute({name: value[None] for name, value in row.items()})["mse_hidden_best5"]
    assert best.values.item() == pytest.approx(np.mean([0.2**2, 0]))
