"""The pixel convention, and the only place that converts between it and others.

A pixel position is (x, y), x to the right and y down, and the **centre** of the top-left pixel is (0, 0), as
in OpenCV. A picture of width W thus covers x from -0.5 to W - 0.5. COLMAP puts (0.5, 0.5) at that centre
instead.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""


def colmap_from_pixel(keypoints: ArrayLike) -> NDArray[np.floating]:
    """Positions in COLMAP's frame, where the centre of the top-left pixel is (0.5, 0.5).

    Args:
        keypoints: (..., 2) positions in pixels, centre of the top-left pixel at (0, 0).

    Returns:
        (..., 2) positions in pixels of COLMAP's frame.

    Source: COLMAP documentation, "Database format", keypoints.
    """
    return _floating(keypoints) + 0.5


def pixel_from_colmap(keypoints: ArrayLike) -> NDArray[np.floating]:
    """Positions in this package's frame, from COLMAP's: the inverse of `colmap_from_pixel`.

    Args:
        keypoints: (..., 2) positions in pixels of COLMAP's frame, centre of the top-left pixel at (0.5, 0.5).

    Returns:
        (..., 2) positions in pixels, centre of the top-left pixel at (0, 0).
    """
    return _floating(keypoints) - 0.5


def opensfm_from_pixel(keypoints: ArrayLike, image_size: Size) -> NDArray[np.floating]:
    """Positions in OpenSfM's frame: the picture's centre is (0, 0), and its long side has length 1.

    Args:
        keypoints: (..., 2) positions in pixels, centre of the top-left pixel at (0, 0).
        image_size: (width, height) of the picture, in pixels.

    Returns:
        (..., 2) positions in OpenSfM's normalised coordinates.

    Source: OpenSfM documentation, "Coordinate Systems", normalized image coordinates.
    """
    centre = (np.asarray(image_size, np.float64) - 1) / 2
    return (_floating(keypoints) - centre) / max(image_size)


def pixel_from_opensfm(keypoints: ArrayLike, image_size: Size) -> NDArray[np.floating]:
    """Positions in pixels, from OpenSfM's frame: the inverse of `opensfm_from_pixel`.

    Args:
        keypoints: (..., 2) positions in OpenSfM's normalised coordinates.
        image_size: (width, height) of the picture, in pixels.

    Returns:
        (..., 2) positions in pixels, centre of the top-left pixel at (0, 0).
    """
    centre = (np.asarray(image_size, np.float64) - 1) / 2
    return _floating(keypoints) * max(image_size) + centre


def resize_matrix(from_size: Size, to_size: Size) -> NDArray[np.float64]:
    """The 3x3 matrix that takes pixels of a picture to pixels of the same picture resized.

    Edges go to edges (-0.5 stays -0.5), as `cv2.resize` and `torch.nn.functional.interpolate` with
    `align_corners=False` do it. Multiplied from the left onto intrinsics it gives those of the resized
    picture.

    Args:
        from_size: (width, height) before, in pixels.
        to_size: (width, height) after, in pixels.

    Returns:
        (3, 3) float64, `resized_from_original`.

    Raises:
        ValueError: a size is not positive.
    """
    if min(*from_size, *to_size) <= 0:
        raise ValueError(f"sizes must be positive, got from_size={from_size} and to_size={to_size}")
    scale_x, scale_y = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return np.array([[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5], [0.0, 0.0, 1.0]])


def resize_keypoints(keypoints: ArrayLike, from_size: Size, to_size: Size) -> NDArray[np.floating]:
    """Positions in a resized picture.

    Args:
        keypoints: (..., 2) positions in pixels of the picture of `from_size`.
        from_size: (width, height) of the picture they are in.
        to_size: (width, height) of the picture they are wanted in.

    Returns:
        (..., 2) positions in pixels of the picture of `to_size`, of the input's floating type.

    Raises:
        ValueError: a size is not positive.
    """
    positions = _floating(keypoints)
    matrix = resize_matrix(from_size, to_size)
    resized = positions * np.diag(matrix)[:2] + matrix[:2, 2]
    return resized.astype(positions.dtype)


def _floating(values: ArrayLike) -> NDArray[np.floating]:
    array = np.asarray(values)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
