"""Batch norm whose statistics are those of all processes.

PyTorch's SyncBatchNorm is for GPUs alone; this one works wherever sums over processes do.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.distributed.processes import ALONE, Processes


class _Total(torch.autograd.Function):
    """The sum over all processes; each one's loss depends on every one's values, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.total(values).clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.total(gradients[0]), None


class _Synchronised(nn.modules.batchnorm._BatchNorm):
    processes: Processes = ALONE

    def forward(self, input: Tensor) -> Tensor:
        """The input (N, C, ...), normalised by mean and variance over the inputs of all processes while it trains."""
        assert self.running_mean is not None
        assert self.running_var is not None
        if not self.training:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        values = input.float()
        others = [axis for axis in range(values.dim()) if axis != 1]
        shape = [1, -1, *[1] * (values.dim() - 2)]
        number = values.new_tensor([values.numel() / values.shape[1]])
        first = _total(torch.cat((values.sum(others), number)), self.processes)
        count, mean = first[-1].detach(), first[:-1] / first[-1].detach()
        centred = values - mean.view(shape)
        variance = _total(centred.square().sum(others), self.processes) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        gain = self.weight * (variance + self.eps).rsqrt()
        return (centred * gain.view(shape) + self.bias.view(shape)).to(input.dtype)


def _total(values: Tensor, processes: Processes) -> Tensor:
    total = _Total.apply(values, processes)
    assert isinstance(total, Tensor)
    return total


class SynchronisedBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all processes."""


class SynchronisedBatchNorm2d(_Synchronised, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes."""


_KINDS = {nn.BatchNorm1d: SynchronisedBatchNorm1d, nn.BatchNorm2d: SynchronisedBatchNorm2d}


def synchronise(model: nn.Module, processes: Processes) -> None:
    """Put batch norm over all processes in the place of each batch norm, with the same parameters and statistics.

    Args:
        model: is changed; names and values of its state stay.
        processes: whose inputs are counted together.
    """
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            kind = _KINDS.get(type(norm))  # pyright: ignore[reportArgumentType, reportCallIssue]
            if kind is None:
                continue
            assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
            shared = kind(norm.num_features, norm.eps, norm.momentum)
            shared.processes = processes
            shared.weight, shared.bias = norm.weight, norm.bias
            for buffer, values in norm.named_buffers():
                setattr(shared, buffer, values)
            shared.train(norm.training)
            setattr(parent, name, shared)


def statistics(model: nn.Module) -> list[Tensor]:
    """Running means and variances of every batch norm of a model, in order."""
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    return [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]


def freeze(model: nn.Module) -> None:
    """Let every batch norm of a model use its running statistics, and leave them as they are, until `model.train()`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
