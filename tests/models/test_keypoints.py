"""Keypoints against brute force, and refined against Gaussians whose centre is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lfnet.models.config import (
    KeypointConfig,
)
from lfnet.models.detector import DetectorMaps
from lfnet.models.keypoints import (
    climb,
    detect_keypoints,
    fit_peaks,
    select_peaks,
    soft_argmax,
    usable_pixels,
)
from support.tensors import seeded


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_strict_maxima_against_brute_force(size: int) -> None:
    """Few distinct values, so that ties abound, up to the borders."""
    scores = torch.randint(0, 6, (2, 1, 17, 13), generator=seeded(size)).float() / 5
    scores[0, 0, 0, 0] = scores[1, 0, 16, 12] = scores[0, 0, 8, 0] = 2.0
    scores = scores + 0.1
    every = torch.ones_like(scores, dtype=torch.bool)
    places, values, present = select_peaks(scores, every, 17 * 13, size)
    found = np.zeros(scores.shape, bool)
    for b in range(2):
        x, y = places[b][present[b]].T.numpy()
        found[b, 0, y, x] = True
        torch.testing.assert_close(values[b][present[b]], scores[b, 0, y, x])
    reach = size // 2
    expected = np.zeros(scores.shape, bool)
    for b, _, y, x in np.ndindex(*scores.shape):
        plane = scores[b, 0].numpy()
        around = plane[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        expected[b, 0, y, x] = (around >= plane[y, x]).sum() == 1
    np.testing.assert_array_equal(found, expected)
    assert expected[0, 0, 0, 0]
    flat = torch.ones(1, 1, 9, 9)
    assert size == 1 or not bool(select_peaks(flat, flat > 0, 81, size)[2].any())


def test_usable_pixels_against_brute_force() -> None:
    valid = torch.ones(1, 1, 30, 34, dtype=torch.bool)
    valid[..., 12, 20] = False
    usable = usable_pixels(valid, 4, 3)[0, 0]
    for y, x in np.ndindex(30, 34):
        inside = 4 <= y < 26 and 4 <= x < 30
        near = max(abs(y - 12), abs(x - 20)) <= 3
        assert bool(usable[y, x]) == (inside and not near)
    assert not bool(usable_pixels(valid, 20, 3).any())


def test_select_peaks_gives_the_best_and_says_which_exist() -> None:
    scores = torch.zeros(2, 1, 12, 15)
    for rank, (y, x) in enumerate([(3, 4), (9, 11), (6, 1)]):
        scores[0, 0, y, x] = 0.9 - 0.2 * rank
    scores[1, 0, 5, 7] = 0.3
    usable = torch.ones(2, 1, 12, 15, dtype=torch.bool)
    usable[0, 0, 9, 11] = False
    places, values, present = select_peaks(scores, usable, 4, 5)
    assert present.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert places[0, :2].tolist() == [[4, 3], [1, 6]]
    assert values[0, :2].tolist() == pytest.approx([0.9, 0.5])
    assert places[1, 0].tolist() == [7, 5]


def test_refinement_finds_the_centre_of_a_gaussian() -> None:
    """The centroid of e^(strength S) by hand, and nearer to the truth than the whole pixel is."""
    height = width = 21
    y, x = np.mgrid[0:height, 0:width]
    for centre_x, centre_y in ((10.3, 9.8), (7.0, 12.0), (12.4, 11.6)):
        scores = np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * 1.0**2)).astype(np.float32)
        peak = np.array([round(centre_x), round(centre_y)])
        config = KeypointConfig(subpixel=5, subpixel_strength=10.0)
        maximum = torch.from_numpy(peak)[None, None]
        refined = torch.from_numpy(peak) + soft_argmax(torch.from_numpy(scores)[None, None], maximum, config)[0, 0]
        window = scores[peak[1] - 2 : peak[1] + 3, peak[0] - 2 : peak[0] + 3].astype(np.float64)
        weights = np.exp(10 * window)
        weights /= weights.sum()
        offsets = np.arange(-2, 3)
        by_hand = peak + np.array([(weights.sum(0) * offsets).sum(), (weights.sum(1) * offsets).sum()])
        np.testing.assert_allclose(refined.numpy(), by_hand, atol=1e-4)
        error, whole = np.abs(refined.numpy() - [centre_x, centre_y]), np.abs(peak - [centre_x, centre_y])
        assert bool((error <= 0.65 * whole + 1e-3).all())
    on_grid = soft_argmax(torch.from_numpy(scores)[None, None], torch.tensor([[[3, 4]]]), KeypointConfig(subpixel=1))
    assert on_grid.tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize(("height", "sigma"), [(1.0, 0.5), (0.02, 0.7), (1e-4, 1.5)])
def test_a_fitted_peak_is_that_of_the_gaussian_however_low(height: float, sigma: float) -> None:
    y, x = torch.meshgrid(torch.arange(21.0), torch.arange(23.0), indexing="ij")
    for centre_x, centre_y in ((10.3, 9.8), (7.0, 12.0), (12.4, 11.6)):
        scores = height * torch.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * sigma**2))
        peak = torch.tensor([[[round(centre_x), round(centre_y)]]])
        found = fit_peaks(scores[None, None], peak)
        torch.testing.assert_close((peak + found.offsets)[0, 0], torch.tensor([centre_x, centre_y]), atol=1e-3, rtol=0)
        assert float(found.widths) == pytest.approx(sigma, rel=1e-3)
        beside = climb(scores[None, None], peak + torch.tensor([1, -1]))
        assert beside.tolist() == peak.tolist()


def test_what_has_no_peak_stays_where_it_is() -> None:
    slope = torch.arange(9.0)[None, None, None].expand(1, 1, 9, 9) + 1
    found = fit_peaks(slope, torch.tensor([[[4, 4], [0, 0]]]))
    assert found.offsets.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    assert bool((found.widths > 3).all())


def test_a_soft_argmax_carries_gradients_and_a_peak_fit_none() -> None:
    for refinement in ("soft-argmax", "peak-fit"):
        scores = torch.rand(1, 1, 20, 20, generator=seeded()).requires_grad_()
        maps = DetectorMaps(scores, torch.ones(1, 1, 20, 20), torch.ones(1, 2, 20, 20))
        config = KeypointConfig(refinement=refinement)
        keypoints = detect_keypoints(maps, torch.ones(1, 1, 20, 20, dtype=torch.bool), 5, config)
        assert keypoints.points.requires_grad == (refinement == "soft-argmax")
        assert not keypoints.sigmas.requires_grad
        if refinement == "soft-argmax":
            keypoints.points.sum().backward()
            assert scores.grad is not None
            assert float(scores.grad.abs().sum()) > 0


def test_keypoints_read_scale_and_orientation_at_their_pixel() -> None:
    scores = torch.zeros(1, 1, 20, 24)
    scores[0, 0, 7, 15] = 0.8
    scales = torch.rand(1, 1, 20, 24, generator=seeded())
    turns = torch.rand(1, 2, 20, 24, generator=seeded(1))
    usable = torch.ones(1, 1, 20, 24, dtype=torch.bool)
    found = detect_keypoints(DetectorMaps(scores, scales, turns), usable, 3, KeypointConfig())
    assert found.present.tolist() == [[True, False, False]]
    assert found.points[0, 0].tolist() == pytest.approx([15, 7], abs=1e-4)
    assert float(found.scales[0, 0]) == float(scales[0, 0, 7, 15])
    assert found.orientations[0, 0].tolist() == turns[0, :, 7, 15].tolist()
