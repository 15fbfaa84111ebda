"""Layers, and what is done to them, with more than one user."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """Sum over processes; the gradient is summed likewise."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


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
        shape = (1, -1) + (1,) * (input.ndim - 2)
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        n = wide.numel() / wide.shape[1] * dist.get_world_size()  # processes have equal shares
        mean = _Sum.apply(wide.sum(axes)) / n
        centred = wide - mean.view(shape)  # first the mean, then the squares around it: exact where the mean is large
        variance = _Sum.apply(centred.square().sum(axes)) / n
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)


class InstanceNorm(nn.GroupNorm):
    """Of each channel of each picture, with scale and shift.

    A group norm of memory in the usual order: with channels last its backward is many times slower on a CPU in bf16 (torch 2.13).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return super().forward(input.contiguous())


def conv_block(inward: int, outward: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, instance norm, ReLU. Stride 2 halves even sides."""
    conv = nn.Conv2d(inward, outward, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, InstanceNorm(outward), nn.ReLU())


def up_block(inward: int, outward: int) -> nn.Sequential:
    """Twice the size: transposed 4x4 convolution, instance norm, ReLU."""
    conv = nn.ConvTranspose2d(inward, outward, 4, 2, padding=1, bias=False)
    return nn.Sequential(conv, InstanceNorm(outward), nn.ReLU())


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(conv_block(channels, channels), conv, InstanceNorm(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.body(x)


def channels_last(module: nn.Module) -> None:
    """Convolution weights channels-last, 2-D and 3-D alike (`Module.to` refuses a mixture)."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
