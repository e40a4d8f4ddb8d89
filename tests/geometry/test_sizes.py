"""Sizes as numbers, and as tensors that stay free in an exported network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lfnet.geometry import sizes
from support.exported import as_onnx


def some_sizes(maps: Tensor) -> Tensor:
    """A number by each of the functions."""
    height, width = maps.shape[-2:]
    octave = sizes.exact(height) * 0.7071
    return sizes.tensor_of(
        (
            sizes.rounded(octave),
            sizes.rounded(sizes.exact(width) * 0.5),
            sizes.ceiling(octave),
            sizes.root(octave),
            sizes.at_least(width - 30, 1),
            sizes.smaller(height, width),
            sizes.smaller(1.0, octave / 100),
            sizes.larger(height, 50),
            7,
        ),
        maps,
    )


@pytest.mark.parametrize("size", [(40, 50), (45, 29), (200, 301)])
def test_traced_sizes_are_those_of_the_image(size: tuple[int, int]) -> None:
    maps = torch.zeros(1, 1, *size)
    height, width = size
    octave = height * 0.7071
    expected = [round(octave), round(width * 0.5), math.ceil(octave), math.sqrt(octave), max(1, width - 30)]
    expected += [min(size), min(1.0, octave / 100), max(height, 50), 7]
    np.testing.assert_allclose(some_sizes(maps), expected, rtol=1e-6)
    np.testing.assert_allclose(as_onnx(some_sizes, torch.zeros(1, 1, 40, 50))(maps)[0], expected, rtol=1e-6)
