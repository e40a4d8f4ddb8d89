"""The second picture, turned and zoomed as if its camera were: the frame stays, and what leaves it is not seen."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.app.requests import Pose
from lfnet.coordinates import Size, resize_matrix


class Posed(NamedTuple):
    """A picture in a pose."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB, of the size of the picture."""
    valid: NDArray[np.bool_] | None
    """(H, W), false where the frame shows nothing of the picture; None: nowhere."""
    matrix: NDArray[np.float64]
    """(3, 3), `posed_from_original` in pixels: the ground truth."""


def pose_matrix(size: Size, pose: Pose) -> NDArray[np.float64]:
    """The 3x3 matrix that turns and zooms a picture about its middle.

    Args:
        size: (width, height) in pixels.
        pose: how far.

    Returns:
        `posed_from_original`, in pixels.
    """
    angle = np.radians(pose.turn)
    cosine, sine = pose.zoom * np.cos(angle), pose.zoom * np.sin(angle)
    middle = (np.array(size) - 1) / 2
    linear = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = middle - linear @ middle
    return matrix


def posed(pixels: NDArray[np.uint8], pose: Pose) -> Posed:
    """A picture, turned and zoomed about its middle; smaller by area averaging first.

    Args:
        pixels: (H, W, 3) RGB.
        pose: how far.
    """
    height, width = pixels.shape[:2]
    matrix = pose_matrix((width, height), pose)
    if np.allclose(matrix, np.eye(3), atol=1e-9):
        return Posed(pixels, None, np.eye(3))
    small, size = pixels, (width, height)
    if pose.zoom < 1:
        size = (max(1, round(width * pose.zoom)), max(1, round(height * pose.zoom)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    from_small = matrix @ np.linalg.inv(resize_matrix((width, height), size))
    turned = cv2.warpPerspective(small, from_small, (width, height), flags=cv2.INTER_LINEAR)
    inside = np.full(small.shape[:2], 255, np.uint8)
    shown = cv2.warpPerspective(inside, from_small, (width, height), flags=cv2.INTER_LINEAR) == 255
    return Posed(np.asarray(turned, np.uint8), None if shown.all() else shown, matrix)
