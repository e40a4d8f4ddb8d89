"""Features as OpenCV's KeyPoint objects, and back."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.errors import UserError
from lfnet.features import Features

PATCH_PIXELS = 32.0
"""Width of the paper's patch of a keypoint of scale 1, in pixels: Ono et al. 2018, section 3.1."""


def to_opencv(features: Features) -> tuple[list[cv2.KeyPoint], NDArray]:
    """Features as OpenCV has them.

    `KeyPoint.size`, a diameter, is 32 times the scale, the width of the paper's patch, whatever `patches.extent` is.
    `KeyPoint.angle` is the orientation in degrees in [0, 360), clockwise on the screen, as in OpenCV.

    Args:
        features: of one picture.

    Returns:
        A list of N keypoints, and the (N, D) descriptors.
    """
    degrees = np.degrees(features.orientations.astype(np.float64)) % 360.0
    keypoints = [
        cv2.KeyPoint(float(x), float(y), float(PATCH_PIXELS * scale), float(angle), float(score))
        for (x, y), scale, angle, score in zip(
            features.keypoints, features.scales, degrees, features.scores, strict=True
        )
    ]
    return keypoints, features.descriptors


def from_opencv(keypoints: Sequence[cv2.KeyPoint], descriptors: NDArray | None, image_size: Size) -> Features:
    """Features from what an OpenCV detector found: the inverse of `to_opencv`.

    Args:
        keypoints: N keypoints; an angle of -1, OpenCV's "none", becomes orientation 0.
        descriptors: (N, D), uint8 for bits (ORB, AKAZE, BRISK) and float32 else (SIFT); None where N is 0, as
            OpenCV has it.
        image_size: (width, height) of the picture, in pixels.

    Returns:
        Features whose scale is the keypoint's diameter over 32.

    Raises:
        ValueError: keypoints without descriptors.
    """
    if len(keypoints) == 0:
        dim = 256 if descriptors is None else np.shape(descriptors)[-1]
        return Features.empty(image_size, dim)
    if descriptors is None:
        raise UserError(f"{len(keypoints)} keypoints came without descriptors: compute those first")
    degrees = np.array([point.angle for point in keypoints])
    orientations = np.radians(np.where(degrees == -1, 0.0, degrees))
    return Features(
        np.array([point.pt for point in keypoints], np.float32),
        np.array([point.size for point in keypoints], np.float32) / PATCH_PIXELS,
        (np.pi - (np.pi - orientations) % (2 * np.pi)).astype(np.float32),
        np.array([point.response for point in keypoints], np.float32),
        descriptors,
        image_size,
    )
