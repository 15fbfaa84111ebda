from __future__ import annotations

import torch

from douga.nn.blocks import BatchNorm


def test_batch_norm_equals_torch_for_any_number_of_axes() -> None:
    for ours, theirs, shape in (
        (BatchNorm(4), torch.nn.BatchNorm2d(4), (3, 4, 5, 6)),
        (BatchNorm(4), torch.nn.BatchNorm3d(4), (3, 4, 2, 5, 6)),
    ):
        x = torch.randn(*shape) * 3 + 1
        assert torch.equal(ours(x), theirs(x))
        assert torch.equal(ours.running_var, theirs.running_var)
        assert torch.equal(ours.eval()(x), theirs.eval()(x))
