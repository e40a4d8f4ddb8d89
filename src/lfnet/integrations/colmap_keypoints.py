"""Keypoints as rows of COLMAP's database and of pycolmap, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfnet.coordinates import Size, colmap_from_pixel, pixel_from_colmap
from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.integrations.opencv import PATCH_PIXELS


def to_colmap(features: Features, *, affine: bool = False) -> NDArray[np.float32]:
    """Keypoints as COLMAP stores them, the centre of the top-left pixel at (0.5, 0.5).

    Args:
        features: in pixels of the picture as stored.
        affine: six columns rather than four.

    Returns:
        (N, 4) x, y, size in pixels and orientation in radians, clockwise on the screen; or (N, 6) x, y and the affine
        shape a11, a12, a21, a22 of the same circle.

    Source: COLMAP documentation, "Database format", keypoints.
    """
    places = colmap_from_pixel(features.keypoints)
    sizes, angles = PATCH_PIXELS * features.scales, features.orientations
    if affine:
        cos, sin = sizes * np.cos(angles), sizes * np.sin(angles)
        return np.column_stack((places, cos, -sin, sin, cos)).astype(np.float32)
    return np.column_stack((places, sizes, angles)).astype(np.float32)


def from_colmap(keypoints: ArrayLike, descriptors: NDArray, image_size: Size) -> Features:
    """Features from rows of a COLMAP database: the inverse of `to_colmap`.

    Args:
        keypoints: (N, 2), (N, 4) or (N, 6), as COLMAP has them; (N, 2) get scale 1 and orientation 0. Of an affine
            shape the area and the turn of its first axis are kept.
        descriptors: (N, D), float32; uint8 is taken for bits, so give SIFT's of COLMAP as float32.
        image_size: (width, height) of the picture, in pixels.

    Returns:
        Features with score 0, which COLMAP does not store.

    Raises:
        ValueError: another number of columns.
    """
    rows = np.asarray(keypoints, np.float64)
    if rows.ndim != 2 or rows.shape[1] not in (2, 4, 6):
        raise UserError(f"keypoints: expected (N, 2), (N, 4) or (N, 6), got {rows.shape}")
    sizes, angles = np.full(len(rows), PATCH_PIXELS), np.zeros(len(rows))
    if rows.shape[1] == 4:
        sizes, angles = rows[:, 2], rows[:, 3]
    elif rows.shape[1] == 6:
        a11, a12, a21, a22 = rows[:, 2:].T
        sizes, angles = np.sqrt(np.abs(a11 * a22 - a12 * a21)), np.arctan2(a21, a11)
    return Features(
        pixel_from_colmap(rows[:, :2]).astype(np.float32),
        (sizes / PATCH_PIXELS).astype(np.float32),
        np.arctan2(np.sin(angles), np.cos(angles)).astype(np.float32),
        np.zeros(len(rows), np.float32),
        descriptors,
        image_size,
    )
