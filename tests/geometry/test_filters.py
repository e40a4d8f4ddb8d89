"""Filters against what they stand for."""

from __future__ import annotations

import pytest
import torch

from lfnet.geometry.camera import pixel_grid
from lfnet.geometry.filters import DERIVATIVE_GAIN, derivative_stack, gaussian_blur, gradients, grow, separable
from support.planes import random_points


def test_derivatives_of_a_polynomial_are_exact() -> None:
    """a x^2 + b xy + c y^2 + d x + e y + f, away from the edges."""
    a, b, c, d, e, f = 0.02, -0.03, 0.015, 0.4, -0.2, 1.5
    x, y = pixel_grid(24, 30).double().unbind(-1)
    image = (a * x * x + b * x * y + c * y * y + d * x + e * y + f).view(1, 1, 24, 30)
    expected_x, expected_y = 2 * a * x + b * y + d, b * x + 2 * c * y + e
    inner = (slice(None), slice(8, -8), slice(8, -8))
    for sigma in (1.0, 2.0):
        slopes = gradients(image, sigma)[0]
        expected = torch.stack((expected_x, expected_y)).view(2, 24, 30)
        torch.testing.assert_close(slopes[inner], expected[inner], atol=1e-6, rtol=1e-5)
    first = DERIVATIVE_GAIN * torch.stack((expected_x, expected_y)).view(2, 24, 30)
    second = DERIVATIVE_GAIN * torch.tensor([2 * a, 2 * c, b]).double().view(3, 1, 1).expand(3, 24, 30)
    products = torch.stack(
        (
            first[0] ** 2,
            first[1] ** 2,
            first[0] * first[1],
            second[0] * second[1],
            second[2] ** 2,
        )
    )
    stack = derivative_stack(image)[0]
    torch.testing.assert_close(stack[inner], torch.cat((first, second, products))[inner], atol=2e-5, rtol=1e-4)


def test_separable_filters_are_the_convolution_they_stand_for() -> None:
    maps, along_x, along_y = random_points(15 * 4).view(2, 3, 4, 5), torch.tensor([0.2, -0.5, 1.0]), torch.rand(5)
    padded = torch.nn.functional.pad(maps, (1, 1, 2, 2), mode="replicate")
    kernel = (along_y[:, None] * along_x).expand(3, 1, 5, 3)
    expected = torch.nn.functional.conv2d(padded, kernel, groups=3)
    torch.testing.assert_close(separable(maps, along_x, along_y), expected, atol=1e-3, rtol=1e-5)


def test_a_mask_grows_as_a_square() -> None:
    mask = torch.zeros(2, 1, 9, 11, dtype=torch.bool)
    mask[0, 0, 4, 1] = True
    expected = torch.zeros_like(mask)
    expected[0, 0, 2:7, :4] = True
    assert torch.equal(grow(mask, 2), expected)
    assert torch.equal(grow(mask, 0), mask)


def test_blur_keeps_the_mean_and_has_its_deviation() -> None:
    image = torch.zeros(1, 1, 41, 41)
    image[..., 20, 20] = 1
    blurred = gaussian_blur(image, 2.0)[0, 0]
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    offsets = torch.arange(41.0) - 20
    assert float((blurred.sum(0) * offsets**2).sum()) == pytest.approx(4.0, rel=0.05)
    torch.testing.assert_close(blurred, blurred.T)
    flat = torch.full((1, 2, 9, 12), 0.7)
    torch.testing.assert_close(gaussian_blur(flat, 3.0), flat)
