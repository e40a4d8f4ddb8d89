"""A convolution that holds its batch norm."""

from __future__ import annotations

import copy

import pytest
import torch

from lfnet.models.layers import conv_norm, convolve
from support.tensors import seeded


def test_a_convolution_holds_its_batch_norm() -> None:
    conv, norm = torch.nn.Conv2d(3, 5, 3, 2, 1), torch.nn.BatchNorm2d(5)
    with torch.no_grad():
        for _ in range(3):
            norm(3 * torch.randn(8, 5, 6, 6, generator=seeded()) + 1)
        norm.weight.uniform_(0.5, 2, generator=seeded())
        norm.bias.uniform_(-1, 1, generator=seeded())
    maps = torch.randn(2, 3, 9, 10, generator=seeded(1))
    norm.eval()
    torch.testing.assert_close(conv_norm(conv, norm, maps), norm(conv(maps)), atol=1e-5, rtol=1e-5)
    norm.train()
    torch.testing.assert_close(conv_norm(conv, norm, maps), copy.deepcopy(norm)(conv(maps)))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_apart_are_met_whatever_the_number_of_channels(channels: int) -> None:
    conv = torch.nn.Conv2d(channels, 2, (1, 3), dilation=(1, 2))
    maps = torch.randn(2, channels, 1, 20, generator=seeded())
    torch.testing.assert_close(convolve(maps, conv.weight, conv.bias, conv), conv(maps), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, (2, 2), (1, 0)), (4, (2, 2), (1, 1)), (5, (1, 2), (2, 2))]
)
def test_windows_of_one_channel_are_a_convolution(
    channels: int, kernel: int, stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    conv = torch.nn.Conv2d(channels, 6, kernel, stride, padding)
    images = torch.randn(2, channels, 57, 83, generator=seeded())
    found = convolve(images, conv.weight, conv.bias, conv)
    torch.testing.assert_close(found, conv(images), atol=1e-5, rtol=1e-5)
