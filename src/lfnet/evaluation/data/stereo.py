"""The stereo pair that scikit-image bundles: real, with measured disparity, never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lfnet.errors import UserError
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
from lfnet.evaluation.data.truth import DisparityTruth
from lfnet.images import grey_bytes

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from numpy import ndarray as Array


@dataclass(frozen=True)
class StereoPair:
    """A rectified stereo pair with the disparity of its left picture."""

    left: UInt8[Array, "H W 3"]
    """RGB."""
    right: UInt8[Array, "H W 3"]
    """RGB."""
    disparity: Float[Array, "H W"]
    """x_left - x_right at pixels of the left picture; NaN = unknown."""

    def load(self, key: str) -> Array:
        """The grey picture `left` or `right`."""
        return grey_bytes({"left": self.left, "right": self.right}[key])

    def pair(self) -> EvaluationPair:
        """Left against right."""
        truth = DisparityTruth.from_left(self.disparity)
        return EvaluationPair("motorcycle", "motorcycle", "left", "right", truth)


def motorcycle() -> StereoPair:
    """The Middlebury 2014 motorcycle pair bundled with scikit-image (extra `demo`).

    Which picture the disparity indexes is decided by photo-consistency, not by trust in a description.

    Returns:
        the pair, its disparity indexed by the left picture.

    Raises:
        ModuleNotFoundError: if scikit-image is not installed.
        ValueError: if the disparity does not explain the pictures.

    Source: Scharstein et al., High-resolution stereo datasets, GCPR 2014.
    """
    try:
        from skimage.data import stereo_motorcycle
    except ImportError as error:
        raise ModuleNotFoundError(
            "the bundled stereo pair needs scikit-image: pip install 'lfnet[demo]'", name="skimage"
        ) from error
    first, second, disparity = stereo_motorcycle()
    disparity = np.where(np.isfinite(disparity), disparity, np.nan).astype(np.float64)
    return indexed_by_left(np.asarray(first), np.asarray(second), disparity)


def indexed_by_left(first: Array, second: Array, disparity: Array) -> StereoPair:
    """Order two rectified pictures so that the disparity is that of the left one.

    Args:
        first: RGB.
        second: RGB.
        disparity: positive, of unknown reference; NaN = unknown.

    Returns:
        the pair; if the disparity fits the right picture best, both are mirrored, which makes it the left.

    Raises:
        ValueError: if no way to apply the disparity is better than ignoring it.
    """
    candidates = {
        "first is left": (first, second, disparity),
        "second is left": (second, first, disparity),
        "first is right": (first[:, ::-1], second[:, ::-1], disparity[:, ::-1]),
        "second is right": (second[:, ::-1], first[:, ::-1], disparity[:, ::-1]),
    }
    errors = {name: photo_error(*candidate) for name, candidate in candidates.items()}
    best = min(errors, key=lambda name: errors[name])
    if errors[best] > 0.5 * photo_error(first, second, np.where(np.isfinite(disparity), 0.0, np.nan)):
        raise UserError(f"the disparity explains neither picture from the other, errors {errors}")
    left, right, indexed = (np.ascontiguousarray(part) for part in candidates[best])
    return StereoPair(left, right, indexed)


def photo_error(left: Array, right: Array, disparity: Array) -> float:
    """Mean absolute difference of left pixels and right pixels moved by the disparity of the left.

    Args:
        left: RGB, 0-255.
        right: RGB, 0-255.
        disparity: x_left - x_right at left pixels; NaN = unknown.

    Returns:
        grey levels; infinite if the disparity points at no pixel of the right picture.
    """
    rows, columns = np.nonzero(np.isfinite(disparity))
    targets = np.rint(columns - disparity[rows, columns]).astype(int)
    inside = (targets >= 0) & (targets < right.shape[1])
    if not inside.any():
        return float("inf")
    rows, columns, targets = rows[inside], columns[inside], targets[inside]
    difference = left[rows, columns].astype(np.float64) - right[rows, targets].astype(np.float64)
    return float(np.abs(difference).mean())


def stereo_dataset() -> Dataset:
    """The bundled stereo pair as a data set of one pair, in colour.

    Raises:
        ModuleNotFoundError: if scikit-image is not installed.
    """
    stereo = motorcycle()
    pictures = {"left": stereo.left, "right": stereo.right}
    return Dataset(name="stereo", kind="stereo", pairs=[stereo.pair()], load=pictures.__getitem__, unit="pairs")
