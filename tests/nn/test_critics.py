from __future__ import annotations

import torch
from torch import Tensor, nn

from douga.nn.critics import PatchCritics, chunked, feature_distance, verdict_loss


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def critic(layers: int = 2, scales: int = 2) -> PatchCritics:
    torch.manual_seed(0)
    return PatchCritics(3, 4, layers, scales)


def test_its_layers_are_those_of_the_paper() -> None:
    """C64-C128-C256-C512 of 4x4, stride 2 but for the last, then one channel; no norm in the first."""
    with torch.device("meta"):
        whole = PatchCritics(39, 64, layers=3, scales=3)
    assert len(whole.scales) == 3
    for stages in whole.scales:
        convs = [layer for layer in stages.modules() if isinstance(layer, nn.Conv2d)]
        assert [(conv.in_channels, conv.out_channels) for conv in convs] == [
            (39, 64),
            (64, 128),
            (128, 256),
            (256, 512),
            (512, 1),
        ]
        assert [conv.stride[0] for conv in convs] == [2, 2, 2, 1, 1]
        assert {conv.kernel_size for conv in convs} == {(4, 4)}
        norms = [layer.num_channels for layer in stages.modules() if isinstance(layer, nn.GroupNorm)]
        assert norms == [128, 256, 512]
    with torch.device("meta"):
        deep = [conv.out_channels for conv in PatchCritics(3, 8, layers=5).modules() if isinstance(conv, nn.Conv2d)]
    assert deep == [8, 16, 32, 64, 64, 64, 1] * 2  # up to 8 times the first


def test_each_scale_looks_at_pictures_half_as_large() -> None:
    whole, pictures = critic(layers=2, scales=3), noise(2, 3, 32, 48)
    seen = whole(pictures)
    assert [len(features) for features in seen] == [4, 4, 4]
    assert [tuple(features[0].shape) for features in seen] == [(2, 4, 17, 25), (2, 4, 9, 13), (2, 4, 5, 7)]
    assert all(features[-1].shape[1] == 1 for features in seen)
    # What the second one sees: means of 3x3 pixels around every other one, of fewer at the border.
    half = torch.zeros(2, 3, 16, 24)
    for y in range(16):
        for x in range(24):
            part = pictures[:, :, max(0, 2 * y - 1) : 2 * y + 2, max(0, 2 * x - 1) : 2 * x + 2]
            half[:, :, y, x] = part.mean((2, 3))
    for stage, features in zip(whole.scales[1], seen[1], strict=True):
        half = stage(half)
        torch.testing.assert_close(half, features)


def test_perfect_verdicts_cost_nothing_and_each_scale_counts_alike() -> None:
    def saying(*verdicts: float) -> list[list[Tensor]]:
        return [[noise(1, 2, 3, 3), torch.full((1, 1, 3 * k, 3 * k), v)] for k, v in enumerate(verdicts, start=1)]

    assert verdict_loss(saying(1.0, 1.0), 1).item() == 0 == verdict_loss(saying(0.0, 0.0), 0).item()
    assert verdict_loss(saying(0.0, 1.0), 1).item() == 0.5  # however many patches there are
    assert verdict_loss(saying(3.0, 1.0), 0).item() == 5
    half = [[torch.tensor([[[[1.0, 0.0]]]])]]
    assert verdict_loss(half, 1).item() == 0.5


def test_features_are_compared_in_every_layer_but_the_verdict() -> None:
    seen = critic()(noise(2, 3, 16, 16))
    assert feature_distance(seen, seen).item() == 0
    verdicts = [[*features[:-1], features[-1] + 1] for features in seen]
    assert feature_distance(verdicts, seen).item() == 0
    other = critic()(noise(2, 3, 16, 16, seed=1))
    apart = [(a - b).abs().mean() for k in range(2) for a, b in zip(seen[k][:-1], other[k][:-1], strict=True)]
    assert len(apart) == 6
    torch.testing.assert_close(feature_distance(seen, other), sum(apart) / 6)


def test_feature_matching_moves_what_was_drawn_and_not_the_real() -> None:
    drawn, real = (noise(1, 3, 16, 16, seed=seed).requires_grad_() for seed in (0, 1))
    whole = critic()
    feature_distance(whole(drawn), whole(real)).backward()
    assert drawn.grad is not None and drawn.grad.any()
    assert real.grad is None


def test_parts_of_a_batch_are_seen_as_if_alone() -> None:
    whole, parts = critic(), [noise(2, 3, 16, 24, seed=k) * (k + 1) for k in range(3)]
    for alone, found in zip(map(whole, parts), chunked(whole(torch.cat(parts)), 3), strict=True):
        assert len(found) == 2
        for one, other in zip(alone, found, strict=True):
            assert len(one) == len(other) == 4
            for a, b in zip(one, other, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
