"""Resizing, in use and in an exported network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lfnet.geometry.resize import enlarge, pad_to_multiple, resize
from lfnet.geometry.sizes import exact, rounded
from support.exported import as_onnx


def at(octave: float, maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    return resize(maps, (rounded(exact(height) * octave), rounded(exact(width) * octave)), antialias=octave < 1)


FUNCTIONS = {
    "half": lambda maps: at(0.5, maps),
    "0.7071": lambda maps: at(0.7071, maps),
    "double": lambda maps: enlarge(maps, 2),
    "1.2, as it is": lambda maps: at(1.2, maps),
    "edges repeated": lambda maps: pad_to_multiple(maps, 4, "replicate"),
    "zeros beside": lambda maps: pad_to_multiple(maps, 4, "constant"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_exported_maps_are_those_in_use(name: str) -> None:
    function: Callable[[Tensor], Tensor] = FUNCTIONS[name]
    generator = torch.Generator().manual_seed(0)
    exported = as_onnx(function, torch.rand(1, 2, 40, 50, generator=generator))
    for size in ((40, 50), (61, 47), (30, 128)):
        maps = torch.rand(1, 2, *size, generator=generator)
        np.testing.assert_allclose(exported(maps)[0], function(maps), atol=2e-5)


def test_resizing_keeps_what_is_level_and_padding_what_was_there() -> None:
    assert torch.allclose(at(0.5, torch.full((1, 1, 9, 7), 3.0)), torch.tensor(3.0))
    maps = torch.rand(1, 1, 5, 8)
    padded = pad_to_multiple(maps, 4, "replicate")
    assert padded.shape == (1, 1, 8, 8)
    assert torch.equal(padded[..., :5, :], maps)
    assert torch.equal(padded[..., 7, :], maps[..., 4, :])
