"""The scale space against slow plain references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.geometry.filters import gaussian_blur
from lfnet.models.config import (
    ScaleSpaceConfig,
)
from lfnet.models.scale_space import merge_scales, normalize_maps, window_softmax
from support.tensors import everywhere, seeded


def slow_window_softmax(maps: NDArray, valid: NDArray, window: int, strength: float) -> NDArray:
    _, height, width = maps.shape
    powers = np.exp(strength * maps.astype(np.float64)) * valid
    result = np.zeros_like(powers)
    reach = window // 2
    for y in range(height):
        for x in range(width):
            around = powers[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if valid[y, x]:
                result[:, y, x] = powers[:, y, x] / around.sum()
    return result


def test_window_softmax_agrees_with_a_slow_reference() -> None:
    maps = 2 * torch.randn(2, 3, 20, 26, generator=seeded())
    valid = torch.ones(2, 1, 20, 26, dtype=torch.bool)
    valid[1, :, 5:12, :9] = False
    fast = window_softmax(maps, valid, 15, 3.0)
    for index in range(2):
        expected = slow_window_softmax(maps[index].numpy(), valid[index, 0].numpy(), 15, 3.0)
        np.testing.assert_allclose(fast[index].numpy(), expected, rtol=1e-4, atol=1e-9)


def test_window_softmax_in_blocks_is_near_that_of_pixels() -> None:
    """Exact where the sum is the same everywhere; within a few percent where it varies slowly; zero outside."""
    flat, valid = torch.zeros(1, 2, 40, 44), torch.ones(1, 1, 40, 44, dtype=torch.bool)
    in_blocks = window_softmax(flat, valid, 20, 3.0, 4)
    torch.testing.assert_close(in_blocks[..., 12:28, 12:32], torch.full((1, 2, 16, 20), 1 / 800))
    smooth = gaussian_blur(torch.randn(1, 1, 61, 63, generator=seeded()), 6.0) * 4
    valid = torch.ones(1, 1, 61, 63, dtype=torch.bool)
    valid[..., :5, :9] = False
    near = window_softmax(smooth, valid, 21, 3.0, 3)[..., 15:45, 15:45]
    exact = window_softmax(smooth, valid, 21, 3.0)[..., 15:45, 15:45]
    assert float((near / exact - 1).abs().max()) < 0.1
    assert bool((window_softmax(smooth, valid, 21, 3.0, 3)[..., :5, :9] == 0).all())


def test_window_softmax_bears_peaks_far_apart_in_height() -> None:
    maps = torch.zeros(1, 2, 40, 40)
    maps[0, 0, 5, 5], maps[0, 1, 30, 30] = 20.0, 6.0
    competing = window_softmax(maps, everywhere(maps), 15, 3.0)
    assert float(competing[0, 0, 5, 5]) == pytest.approx(1, abs=1e-6)
    assert float(competing[0, 1, 30, 30]) == pytest.approx(1, abs=1e-4)
    assert bool(torch.isfinite(competing).all())
    nothing = window_softmax(maps, torch.zeros(1, 1, 40, 40, dtype=torch.bool), 15, 3.0)
    assert bool((nothing == 0).all())


def test_normalize_maps_over_valid_pixels() -> None:
    maps = 5 + 3 * torch.randn(2, 4, 15, 18, generator=seeded())
    valid = torch.rand(2, 1, 15, 18, generator=seeded(1)) > 0.3
    maps = torch.where(valid, maps, torch.full_like(maps, 1e3))
    normal = normalize_maps(maps, valid)
    for index in range(2):
        for channel in range(4):
            kept = normal[index, channel][valid[index, 0]]
            assert float(kept.mean()) == pytest.approx(0, abs=1e-4)
            assert float(kept.std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_merge_scales_by_a_softmax() -> None:
    maps = torch.rand(1, 3, 6, 7, generator=seeded()) * 0.02
    scales = [0.5, 1.0, 2.0]
    scores, scale = merge_scales(maps, scales, 100.0)
    weights = np.exp(100 * maps[0].double().numpy())
    weights /= weights.sum(0)
    np.testing.assert_allclose(scores[0, 0].numpy(), (weights * maps[0].numpy()).sum(0), rtol=1e-5)
    expected = np.exp((weights * np.log(scales)[:, None, None]).sum(0))
    np.testing.assert_allclose(scale[0, 0].numpy(), expected, rtol=1e-5)
    clear = torch.zeros(1, 3, 1, 1)
    clear[0, 2] = 0.8
    scores, scale = merge_scales(clear, scales, 100.0)
    assert float(scores) == pytest.approx(0.8)
    assert float(scale) == pytest.approx(2.0)


def test_scales_are_spread_evenly_in_log() -> None:
    values = ScaleSpaceConfig(scales=7, reach=2.0).values()
    np.testing.assert_allclose(np.diff(np.log(values)), np.log(4) / 6)
    assert values[0] == pytest.approx(0.5)
    assert ScaleSpaceConfig(scales=1).values() == [1.0]
