"""Sampling."""

from __future__ import annotations

import torch

from lfnet.geometry.sampling import in_bounds, sample


def test_sampling_convention() -> None:
    """The centre of the top-left pixel is (0, 0), x goes along a row; half-way is the mean; outside is 0."""
    maps = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[0.0, 0.0], [8.0, 6.0], [3.0, 5.0], [2.5, 4.0], [-2.0, 3.0]]).expand(2, -1, -1)
    values = sample(maps, points)
    assert values.shape == (2, 5, 3)
    torch.testing.assert_close(values[:, 0], maps[..., 0, 0])
    torch.testing.assert_close(values[:, 1], maps[..., 6, 8], atol=1e-5, rtol=0)
    torch.testing.assert_close(values[:, 2], maps[..., 5, 3], atol=1e-5, rtol=0)
    torch.testing.assert_close(values[:, 3], (maps[..., 4, 2] + maps[..., 4, 3]) / 2, atol=1e-5, rtol=0)
    assert bool((values[:, 4] == 0).all())
    torch.testing.assert_close(sample(maps, points + 0.3, mode="nearest")[:, 2], maps[..., 5, 3])


def test_in_bounds_counts_the_outermost_pixel_centres() -> None:
    points = torch.tensor([[[0.0, 0.0], [8.0, 6.0], [8.1, 3.0], [3.0, -0.1], [1.9, 3.0], [2.0, 2.0]]])
    assert in_bounds(points, (7, 9))[0].tolist() == [True, True, False, False, True, True]
    assert in_bounds(points, (7, 9), border=2.0)[0].tolist() == [False, False, False, False, False, True]
