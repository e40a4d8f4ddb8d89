"""A convolution that holds its batch norm."""

from __future__ import annotations

import copy

import torch

from lfnet.models.layers import conv_norm
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
