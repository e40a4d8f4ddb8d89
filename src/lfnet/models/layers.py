"""Pieces that several networks share: a convolution with its batch norm, and the wrap-around of angles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.geometry.sizes import is_tracing

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
    return convolve(inputs, conv.weight * gain.view(-1, 1, 1, 1), shift, conv)


def convolve(
    inputs: Float[Tensor, "B C H W"],
    kernels: Float[Tensor, "D C k l"],
    bias: Float[Tensor, "D"] | None,
    conv: nn.Conv2d,
) -> Float[Tensor, "B D h w"]:
    """The convolution with other kernels, channels last, in evaluation mode.

    Of a single channel it is a product of windows and kernels: on a CPU, convolution libraries take several times as
    long for it, and give it back channels first, which slows down the next one. ONNX runtimes do not.
    """
    if is_tracing() or inputs.shape[1] > 1 or conv.dilation != (1, 1) or inputs.is_cuda:
        kernels = kernels.contiguous(memory_format=torch.channels_last)
        return F.conv2d(inputs, kernels, bias, conv.stride, conv.padding, conv.dilation)
    assert not isinstance(conv.padding, str)
    (high, wide), (down, across), (y, x) = kernels.shape[-2:], conv.stride, conv.padding
    padded = F.pad(inputs[:, 0], (x, x, y, y))
    height, width = padded.shape[1] - high + 1, padded.shape[2] - wide + 1
    windows = [padded[:, i : i + height : down, j : j + width : across] for i in range(high) for j in range(wide)]
    return F.linear(torch.stack(windows, -1), kernels.flatten(1), bias).permute(0, 3, 1, 2)


def wrapped(maps: Float[Tensor, "*B A"], before: int = 1, after: int = 1) -> Float[Tensor, "*B V"]:
    """Maps over angles with their last columns repeated before the first and their first after the last."""
    return torch.cat((maps[..., maps.shape[-1] - before :], maps, maps[..., :after]), -1)
