"""Features as a dictionary of NumPy arrays, for `numpy.savez` and whatever takes arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfnet.errors import UserError
from lfnet.features import Features

_PER_KEYPOINT = ("keypoints", "scales", "orientations", "scores", "descriptors")


def to_arrays(features: Features) -> dict[str, NDArray]:
    """Features by the names of their fields: `numpy.savez("a.npz", **to_arrays(features))`.

    Args:
        features: of one picture.

    Returns:
        The arrays themselves, and `image_size` as (2,) width and height; `sigmas` only where they are known.
    """
    arrays: dict[str, NDArray] = {name: getattr(features, name) for name in _PER_KEYPOINT}
    arrays["image_size"] = np.array(features.image_size)
    return arrays if features.sigmas is None else {**arrays, "sigmas": features.sigmas}


def from_arrays(arrays: Mapping[str, ArrayLike]) -> Features:
    """Features from a dictionary of arrays, or from what `numpy.load` gives: the inverse of `to_arrays`.

    Args:
        arrays: `keypoints`, `descriptors` and `image_size`, and where known `scales` (else 1), `orientations` and
            `scores` (else 0) and `sigmas`.

    Returns:
        Features.

    Raises:
        ValueError: one of the three is missing, or a shape is wrong.
    """
    missing = sorted({"keypoints", "descriptors", "image_size"} - set(arrays))
    if missing:
        raise UserError(f"arrays: expected keypoints, descriptors and image_size, {', '.join(missing)} missing")
    count = len(np.asarray(arrays["keypoints"]))
    width, height = np.asarray(arrays["image_size"]).tolist()
    return Features(
        np.asarray(arrays["keypoints"]),
        np.asarray(arrays["scales"] if "scales" in arrays else np.ones(count)),
        np.asarray(arrays["orientations"] if "orientations" in arrays else np.zeros(count)),
        np.asarray(arrays["scores"] if "scores" in arrays else np.zeros(count)),
        np.asarray(arrays["descriptors"]),
        (width, height),
        np.asarray(arrays["sigmas"]) if "sigmas" in arrays else None,
    )
