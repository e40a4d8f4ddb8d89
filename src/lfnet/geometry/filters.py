"""Fixed linear filters: Gaussian smoothing and derivatives, as separable convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.geometry.sizes import is_tracing

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def gaussian_kernel(sigma: float) -> Float[Tensor, "N"]:
    """Sampled Gaussian of deviation `sigma` px, out to three deviations, summing to 1."""
    radius = max(1, math.ceil(3 * sigma))
    places = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    return kernel / kernel.sum()


def derivative_kernel(sigma: float) -> Float[Tensor, "N"]:
    """Derivative of a Gaussian for `F.conv2d` (a correlation), of unit response to a unit slope."""
    smooth = gaussian_kernel(sigma)
    radius = smooth.shape[0] // 2
    places = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = places * smooth
    return kernel / (kernel * places).sum()


def second_derivative_kernel(sigma: float) -> Float[Tensor, "N"]:
    """Second derivative of a Gaussian, blind to constants, of response 2 to x^2."""
    smooth = gaussian_kernel(sigma)
    radius = smooth.shape[0] // 2
    places = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = (places**2 - (smooth * places**2).sum()) * smooth
    return 2 * kernel / (kernel * places**2).sum()


def separable(
    maps: Float[Tensor, "B C H W"], along_x: Float[Tensor, "N"], along_y: Float[Tensor, "M"]
) -> Float[Tensor, "B C H W"]:
    """Correlate every channel with `along_y` x `along_x`, edges replicated.

    Written as one shifted sum a tap: on a CPU several times faster than a convolution with a group for each channel.
    An exported network has a convolution instead, which is one operator rather than two for each tap.
    """
    return _correlate(_correlate(maps, along_x, -1), along_y, -2)


def _correlate(maps: Float[Tensor, "B C H W"], kernel: Float[Tensor, "N"], dim: int) -> Float[Tensor, "B C H W"]:
    radius, length = kernel.shape[0] // 2, maps.shape[dim]
    margins = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
    padded = F.pad(maps, margins, mode="replicate")
    if is_tracing():
        taps = kernel.view((1, 1, 1, -1) if dim == -1 else (1, 1, -1, 1)).to(maps)
        return F.conv2d(padded.flatten(0, 1)[:, None], taps).view_as(maps)
    first, *others = kernel.tolist()
    total = first * padded.narrow(dim, 0, length)
    for shift, weight in enumerate(others, 1):
        total = total.add(padded.narrow(dim, shift, length), alpha=weight)
    return total


def gaussian_blur(maps: Float[Tensor, "B C H W"], sigma: float) -> Float[Tensor, "B C H W"]:
    """Smooth every channel by a Gaussian of deviation `sigma` px, edges replicated."""
    kernel = gaussian_kernel(sigma)
    return separable(maps, kernel, kernel)


def grow(mask: Bool[Tensor, "B 1 H W"], reach: int) -> Bool[Tensor, "B 1 H W"]:
    """True within `reach` px, as a square, of a true pixel."""
    if reach == 0:
        return mask
    rows = F.max_pool2d(mask.float(), (1, 2 * reach + 1), 1, (0, reach))
    return F.max_pool2d(rows, (2 * reach + 1, 1), 1, (reach, 0)) > 0


def gradients(image: Float[Tensor, "B 1 H W"], sigma: float = 1.0) -> Float[Tensor, "B 2 H W"]:
    """Derivatives along x and y of the picture smoothed by `sigma` px."""
    smooth, slope = gaussian_kernel(sigma), derivative_kernel(sigma)
    return torch.cat((separable(image, slope, smooth), separable(image, smooth, slope)), 1)


DERIVATIVE_GAIN = 4.0
"""Brings first and second derivatives (sigma 1 px) of a picture of unit deviation to about unit deviation."""
DERIVATIVE_CHANNELS = 10
"""How many channels `derivative_stack` returns."""


def derivative_stack(image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 10 H W"]:
    """First and second derivatives and their products, the ingredients of Harris' and Hessian detectors.

    Source: the handcrafted channels of Key.Net (Barroso-Laguna et al., 2019, section 3.1).
    """
    smooth, slope, bend = gaussian_kernel(1.0), derivative_kernel(1.0), second_derivative_kernel(1.0)
    ix, iy = separable(image, slope, smooth), separable(image, smooth, slope)
    ixx, iyy, ixy = separable(image, bend, smooth), separable(image, smooth, bend), separable(image, slope, slope)
    first, second = DERIVATIVE_GAIN * torch.cat((ix, iy), 1), DERIVATIVE_GAIN * torch.cat((ixx, iyy, ixy), 1)
    (gx, gy), (gxx, gyy, gxy) = first.split(1, 1), second.split(1, 1)
    return torch.cat((first, second, gx * gx, gy * gy, gx * gy, gxx * gyy, gxy * gxy), 1)
