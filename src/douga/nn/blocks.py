"""Layers with more than one user."""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(_BatchNorm):
    """Batch norm over (B, C, ...), of any number of axes, whose statistics span all processes.

    torch's SyncBatchNorm needs a GPU; this one makes two CPU processes take the step that one with the whole batch takes.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim >= 2, input.shape

    def forward(self, input: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        wide = input.float()
        count = wide.new_full((1,), wide.numel() / wide.shape[1])
        sums = all_reduce(torch.cat([wide.sum(axes), wide.square().sum(axes), count]))
        n = sums[-1]
        mean, square = (sums[:-1] / n).chunk(2)
        variance = square - mean.square()
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shape = (1, -1) + (1,) * (input.ndim - 2)
        return (wide * scale.view(shape) + (self.bias - mean * scale).view(shape)).to(input.dtype)
