"""Depth between pixels: exact on planes, the nearest measurement at edges, nothing where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lfnet.geometry.depth import sample_depth, sample_inverse_depth


def test_sampled_depth_is_exact_on_planes_and_never_mixed_over_edges() -> None:
    y, x = np.mgrid[0:40, 0:50].astype(np.float64)
    depth = 1 / (0.2 + 0.001 * x + 0.002 * y)
    points = np.random.default_rng(0).uniform((0, 0), (49, 39), (500, 2))
    np.testing.assert_allclose(sample_depth(depth, points), 1 / (0.2 + points @ [0.001, 0.002]), rtol=1e-12)
    half = depth.copy()
    half[:, 25:] *= 3
    between = np.array([[24.3, 10.0], [24.7, 10.0]])
    np.testing.assert_allclose(sample_depth(half, between), [half[10, 24], half[10, 25]])
    half[:, 25:] = 0
    assert sample_depth(half, between)[1] == 0
    outside = np.array([[-0.6, 5], [49.6, 5], [20, -0.6], [20, 39.6], [np.nan, 5], [20, np.inf]])
    assert not sample_depth(depth, outside).any()
    rim = np.array([[49.4, 10.0], [20.0, 39.4], [-0.4, 10.0]])
    np.testing.assert_allclose(sample_depth(depth, rim), [depth[10, 49], depth[39, 20], depth[10, 0]])


def test_inverse_depth_is_not_mixed_across_an_edge() -> None:
    depth = torch.full((1, 1, 10, 10), 2.0)
    depth[..., 5:] = 4.0
    depth[..., 8:, :] = 0
    points = torch.tensor([[[4.4, 3.0], [4.6, 3.0], [2.0, 7.4], [2.0, 7.6]]])
    assert sample_inverse_depth(depth, points)[0].tolist() == pytest.approx([0.5, 0.25, 0.5, 0.0])


def test_an_edge_is_one_wherever_between_its_pixels_it_is_asked_for() -> None:
    depth = torch.full((1, 1, 4, 6), 2.0)
    depth[..., 3:] = 2.2
    places = torch.tensor([[[2.1, 1.0], [2.49, 1.0], [2.51, 1.0], [2.9, 1.0]]])
    assert (1 / sample_inverse_depth(depth, places))[0].tolist() == pytest.approx([2.0, 2.0, 2.2, 2.2])
    assert (1 / sample_inverse_depth(depth, places, max_step=0.11))[0].tolist() == pytest.approx(
        [1 / (0.9 / 2 + 0.1 / 2.2), 1 / (0.51 / 2 + 0.49 / 2.2), 1 / (0.49 / 2 + 0.51 / 2.2), 1 / (0.1 / 2 + 0.9 / 2.2)]
    )


def test_inverse_depth_has_the_slope_of_its_plane() -> None:
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(12.0), indexing="ij")
    depth = (1 / (0.3 + 0.002 * x + 0.004 * y))[None, None].double()
    points = torch.tensor([[[3.3, 4.6], [7.5, 1.2]]], dtype=torch.float64, requires_grad=True)
    sample_inverse_depth(depth, points).sum().backward()
    assert points.grad is not None
    torch.testing.assert_close(points.grad, points.new_tensor([[[0.002, 0.004]] * 2]), rtol=0, atol=1e-7)
