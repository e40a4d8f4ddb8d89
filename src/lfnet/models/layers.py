"""Pieces that several networks share: a convolution with its batch norm, and the wrap-around of angles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


def conv_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, inputs: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
    """`norm(conv(inputs))`; in evaluation mode as one convolution, whose kernels hold the constants of the norm."""
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    if norm.training:
        return norm(conv(inputs))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * gain
    if conv.bias is not None:
        shift = shift + conv.bias * gain
    kernels = (conv.weight * gain.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
    return F.conv2d(inputs, kernels, shift, conv.stride, conv.padding)


def wrapped(maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H V"]:
    """Maps over angles with the last column repeated before the first and the first after the last."""
    return torch.cat((maps[..., -1:], maps, maps[..., :1]), -1)
