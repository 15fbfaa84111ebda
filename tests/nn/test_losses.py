from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from douga.nn import losses
from douga.nn.losses import VggFeatures

# torchvision's numbers of VGG16's convolutions, and what stands between them, as its paper's table D has it.
TO_CONV4_3 = [0, "relu", 2, "relu", "pool", 5, "relu", 7, "relu", "pool", 10, "relu", 12, "relu", 14, "relu", "pool"]
TO_CONV4_3 += [17, "relu", 19, "relu", 21]
SHAPES = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
SHAPES |= {17: (512, 256), 19: (512, 512), 21: (512, 512)}


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Of the file's names and types, but drawn."""
    generator = torch.Generator().manual_seed(0)
    drawn = {}
    for number, (outward, inward) in SHAPES.items():
        spread = (2 / (9 * inward)) ** 0.5
        drawn[f"features.{number}.weight"] = (torch.randn(outward, inward, 3, 3, generator=generator) * spread).half()
        drawn[f"features.{number}.bias"] = (torch.randn(outward, generator=generator) * 0.1).half()
    drawn["lin0.weight"] = torch.rand(1, 64, 1, 1, generator=generator)
    monkeypatch.setattr(losses, "load", {"lpips-vgg16": drawn}.__getitem__)
    return drawn


def pictures(side: int = 32) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("layer", "steps"), [("conv4_3", 22), ("relu2_2", 9), ("conv1_1", 1)])
def test_equals_the_layers_one_after_the_other(weights: dict[str, Tensor], layer: str, steps: int) -> None:
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    x = (pictures() * 0.5 + 0.5 - mean) / std
    for step in TO_CONV4_3[:steps]:
        if step == "relu":
            x = x * (x > 0)
        elif step == "pool":
            x = torch.stack([x[..., i::2, j::2] for i in range(2) for j in range(2)]).amax(0)
        else:
            x = F.conv2d(x, *(weights[f"features.{step}.{kind}"].float() for kind in ("weight", "bias")), padding=1)
    torch.testing.assert_close(VggFeatures(layer)(pictures()), x, rtol=1e-4, atol=1e-4)


def test_is_fixed_but_lets_gradients_through(weights: dict[str, Tensor]) -> None:
    frames = pictures().requires_grad_()
    before = torch.get_rng_state()
    see = VggFeatures("conv2_1")
    assert torch.equal(torch.get_rng_state(), before)
    assert not isinstance(see, nn.Module)
    with torch.autocast("cpu", torch.bfloat16):
        seen = see(frames)
    assert seen.dtype == torch.float32
    seen.square().mean().backward()
    assert frames.grad is not None and frames.grad.any()
    assert not any(parameter.requires_grad for parameter in see.network.parameters())


def test_says_what_is_missing(weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="conv4_3, relu4_3"):
        VggFeatures("conv4_4")
    monkeypatch.undo()
    monkeypatch.setenv("DOUGA_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="lpips-vgg16"):
        VggFeatures("conv4_3")


def test_real_weights_tell_a_blur_from_a_change_of_brightness(real_data: Path) -> None:
    """What the loss is for: of two changes with the same squared error, the blur is the worse one."""
    see = VggFeatures("conv4_3")
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 16, 16, generator=generator) - 0.5
    picture = F.interpolate(coarse, (64, 64), mode="nearest")
    blurred = F.avg_pool2d(picture, 5, stride=1, padding=2, count_include_pad=False)
    brighter = picture + (blurred - picture).square().mean().sqrt()
    far, near = (F.mse_loss(see(changed), see(picture)) for changed in (blurred, brighter))
    assert far > 2 * near
