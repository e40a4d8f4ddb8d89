"""Depth brought to the picture: from another resolution, or from a camera beside the picture's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size

SAMPLE_SPACING = 0.6
"""Largest distance between the samples of a measurement in the picture, pixels. Samples one pixel apart leave no pixel
out; the rest is for surfaces that the picture sees less slanted than the depth camera does, and for turns, where
neighbours on a diagonal are farther apart by the root of two."""
SAME_PLACE = 1e-6
"""Largest entry of `colour_from_depth` minus the identity for cameras that count as one."""


def align_depth(
    depth: NDArray[np.float32],
    depth_intrinsics: NDArray[np.float64],
    colour_intrinsics: NDArray[np.float64],
    colour_from_depth: NDArray[np.float64],
    size: Size,
) -> NDArray[np.float32]:
    """Depth for every pixel of the picture: `resample_depth` where both cameras are in one place, or `register_depth`.

    Args and returns: as `register_depth`.
    """
    if np.abs(colour_from_depth - np.eye(4)).max() <= SAME_PLACE:
        return resample_depth(depth, depth_intrinsics, colour_intrinsics, size)
    return register_depth(depth, depth_intrinsics, colour_intrinsics, colour_from_depth, size)


def resample_depth(
    depth: NDArray[np.float32],
    depth_intrinsics: NDArray[np.float64],
    colour_intrinsics: NDArray[np.float64],
    size: Size,
) -> NDArray[np.float32]:
    """Depth for every pixel of a picture taken from the same place along the same axes.

    Each pixel gets the measurement nearest to its ray; none are mixed, so that an edge stays one.

    Args:
        depth: (H, W), z in the camera frame, 0 where unknown.
        depth_intrinsics: 3x3, pixels of the depth map.
        colour_intrinsics: 3x3, pixels of the picture.
        size: (width, height) of the picture, pixels.

    Returns:
        (height, width), in the unit of `depth`, 0 where unknown or not seen by the depth camera.
    """
    depth_from_colour = depth_intrinsics @ np.linalg.inv(colour_intrinsics)
    x, y = np.arange(size[0])[None, :], np.arange(size[1])[:, None]
    # The last row is (0, 0, 1): the cameras differ by an affine map of pixels.
    columns = depth_from_colour[0, 0] * x + depth_from_colour[0, 1] * y + depth_from_colour[0, 2]
    rows = depth_from_colour[1, 0] * x + depth_from_colour[1, 1] * y + depth_from_colour[1, 2]
    columns, rows = np.rint(columns).astype(np.intp), np.rint(rows).astype(np.intp)
    height, width = depth.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    nearest = depth[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return np.where(inside, nearest, 0).astype(np.float32)


def register_depth(
    depth: NDArray[np.float32],
    depth_intrinsics: NDArray[np.float64],
    colour_intrinsics: NDArray[np.float64],
    colour_from_depth: NDArray[np.float64],
    size: Size,
) -> NDArray[np.float32]:
    """Depth seen from the picture's camera, which stands beside the depth camera.

    Each measurement is a small square that faces the depth camera. It is projected by samples dense enough to leave no
    pixel of its footprint out, and the nearest one wins, so that what the picture's camera doesn't see is hidden. What
    it sees and the depth camera didn't stays unknown.

    Args:
        depth: (H, W), z in the depth camera's frame, 0 where unknown.
        depth_intrinsics: 3x3, pixels of the depth map.
        colour_intrinsics: 3x3, pixels of the picture.
        colour_from_depth: 4x4, rigid, in the unit of `depth`.
        size: (width, height) of the picture, pixels.

    Returns:
        (height, width), z in the picture's camera frame, 0 where unknown.
    """
    rows, columns = np.nonzero(depth > 0)
    values = depth[rows, columns].astype(np.float64)
    nearest = np.full(size[0] * size[1], np.inf)
    pixels_from_rays = colour_intrinsics @ colour_from_depth[:3, :3]
    towards, offset = pixels_from_rays @ np.linalg.inv(depth_intrinsics), colour_intrinsics @ colour_from_depth[:3, 3]
    places = np.stack((columns, rows, np.ones_like(rows))).astype(np.float64)
    centres = (towards @ places) * values + offset[:, None]
    ahead = centres[2] > 0
    # Far to near: where several fall on a pixel, the last one written stays.
    order = np.argsort(-centres[2])
    order = order[ahead[order]]
    if not len(order):
        return np.zeros((size[1], size[0]), np.float32)
    centres, values = centres[:, order], values[order]
    steps = _samples_per_side(towards, centres, values)
    for shift_y in (np.arange(steps) + 0.5) / steps - 0.5:
        for shift_x in (np.arange(steps) + 0.5) / steps - 0.5:
            shifted = centres + (towards[:, 0] * shift_x + towards[:, 1] * shift_y)[:, None] * values
            _draw(shifted, size, nearest)
    return np.where(np.isfinite(nearest), nearest, 0).reshape(size[1], size[0]).astype(np.float32)


def _samples_per_side(towards: NDArray[np.float64], centres: NDArray[np.float64], values: NDArray[np.float64]) -> int:
    """Into how many samples a side of a measurement is divided, for the largest footprint but for a few outliers."""
    place = centres[:2] / centres[2]
    sides = [towards[:2, axis, None] - towards[2, axis] * place for axis in (0, 1)]
    spread = np.maximum(*(np.abs(side).max(0) for side in sides)) * values / centres[2]
    return max(1, math.ceil(float(np.quantile(spread, 0.999)) / SAMPLE_SPACING))


def _draw(projected: NDArray[np.float64], size: Size, nearest: NDArray[np.float64]) -> None:
    """Keep the smaller of what is there and z of samples (x z, y z, z), ordered far to near."""
    z = projected[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = projected[0] / z, projected[1] / z
        inside = (z > 0) & (x > -0.5) & (x < size[0] - 0.5) & (y > -0.5) & (y < size[1] - 0.5)
    index = np.rint(y[inside]).astype(np.intp) * size[0] + np.rint(x[inside]).astype(np.intp)
    layer = np.full_like(nearest, np.inf)
    layer[index] = z[inside]
    np.minimum(nearest, layer, out=nearest)
