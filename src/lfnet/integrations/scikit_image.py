"""Keypoints as scikit-image has them, (row, column), and what its SIFT and ORB found as Features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.integrations.opencv import PATCH_PIXELS

_ORB_PATCH = 31.0
"""Width in pixels of ORB's patch at scale 1: Rublee et al. 2011, section 4.2."""


def to_skimage(features: Features) -> tuple[NDArray[np.float64], NDArray]:
    """Keypoints and descriptors as `skimage.feature.match_descriptors` and `plot_matched_features` take them.

    Args:
        features: of one picture.

    Returns:
        (N, 2) row and column in pixels, and the (N, D) descriptors; of bits, D counts bits, as bool.
    """
    descriptors: NDArray = features.descriptors
    if features.is_binary:
        descriptors = np.unpackbits(descriptors, axis=1).astype(bool)
    return features.keypoints[:, ::-1].astype(np.float64), descriptors


def from_skimage(extractor: Any, image_size: Size) -> Features:
    """Features from a `skimage.feature.SIFT` or `ORB` that has run `detect_and_extract`.

    SIFT measures orientations from the row axis, ORB from the column axis as we do: both come out as ours.

    Args:
        extractor: with `keypoints`, `descriptors`, `scales` and `orientations`, and SIFT's `sigmas` or ORB's
            `responses`.
        image_size: (width, height) of the picture, in pixels.

    Returns:
        Features whose scale is the diameter, 2 sigma or the width of ORB's patch, over 32, as `from_opencv` has it.

    Raises:
        ValueError: the extractor has not run.
    """
    if getattr(extractor, "descriptors", None) is None:
        raise UserError(f"{type(extractor).__name__}: no descriptors in it; call detect_and_extract(image) first")
    is_sift = hasattr(extractor, "sigmas")
    diameters = 2 * np.asarray(extractor.sigmas) if is_sift else _ORB_PATCH * np.asarray(extractor.scales)
    angles = np.pi / 2 - extractor.orientations if is_sift else np.asarray(extractor.orientations)
    descriptors = np.asarray(extractor.descriptors)
    return Features(
        np.asarray(extractor.keypoints, np.float32)[:, ::-1],
        (diameters / PATCH_PIXELS).astype(np.float32),
        np.arctan2(np.sin(angles), np.cos(angles)).astype(np.float32),
        np.asarray(getattr(extractor, "responses", np.zeros(len(descriptors))), np.float32),
        np.packbits(descriptors, axis=1) if descriptors.dtype == bool else descriptors.astype(np.float32),
        image_size,
    )
