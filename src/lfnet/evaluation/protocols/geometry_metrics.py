"""Pure metrics of estimated geometry: relative pose, homography, and matches under a known homography."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lfnet.evaluation.data.truth import apply_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from numpy import ndarray as Array

    from lfnet.coordinates import Size

NO_BASELINE = 1e-9
"""Length of a true translation up to which it has no direction."""


def rotation_error(estimated: Float[Array, "3 3"], truth: Float[Array, "3 3"]) -> float:
    """Angle between two rotations, degrees in [0, 180].

    It is taken from the sine and cosine of the rotation between them: the arc cosine alone, as others have it, loses
    angles below 1e-6 degrees.

    Args:
        estimated: rotation matrix.
        truth: rotation matrix.
    """
    between = np.asarray(estimated, np.float64) @ np.asarray(truth, np.float64).T
    skew = np.array([between[2, 1] - between[1, 2], between[0, 2] - between[2, 0], between[1, 0] - between[0, 1]])
    return float(np.degrees(np.arctan2(np.linalg.norm(skew), np.trace(between) - 1)))


def pose_errors(
    rotation: Float[Array, "3 3"], translation: Float[Array, "3"], b_from_a: Float[Array, "4 4"]
) -> tuple[float, float]:
    """Errors of an estimated relative pose, whose translation is known up to its length.

    Args:
        rotation: estimated, camera b from camera a.
        translation: estimated, any length but 0.
        b_from_a: the truth, rigid.

    Returns:
        degrees between the rotations, in [0, 180]; and between the directions of translation up to their sign, in
        [0, 90]. Without a true translation (two views from one place) its direction is undefined, and its error 0.

    Source: SuperGlue (Sarlin et al., 2020), models/utils.py, which folds the translation: an essential matrix doesn't
    know its sign.
    """
    turned = rotation_error(rotation, b_from_a[:3, :3])
    true_direction = np.asarray(b_from_a, np.float64)[:3, 3]
    length = np.linalg.norm(true_direction)
    if length <= NO_BASELINE:
        return turned, 0.0
    direction = np.asarray(translation, np.float64).ravel()
    sine = np.linalg.norm(np.cross(direction, true_direction / length))
    return turned, float(np.degrees(np.arctan2(sine, abs(direction @ true_direction) / length)))


def area_under_recall(errors: Sequence[float] | Float[Array, " N"], threshold: float) -> float:
    """Area under the curve of recall over error, from 0 to a threshold, as a share of the whole.

    The recall at an error e is the share of errors that are no larger: a curve of steps, whose area is the mean of
    max(0, 1 - error / threshold). SuperGlue and LoFTR join the steps by slanted lines instead, which gives up to
    1 / (2 N) more for N errors: 0.0003 for 1500 pairs.

    Args:
        errors: at least 0; infinity where nothing was estimated.
        threshold: in the errors' unit.

    Returns:
        in [0, 1]; NaN without errors.
    """
    values = np.asarray(errors, np.float64)
    return float(np.maximum(0.0, 1.0 - values / threshold).mean()) if len(values) else float("nan")


def corner_error(estimated: Float[Array, "3 3"], truth: Float[Array, "3 3"], size: Size) -> float:
    """Mean distance of the four corners of picture a in picture b, by an estimated and by the true homography.

    Args:
        estimated: b_from_a.
        truth: b_from_a, finite at the corners of a.
        size: width and height of a, pixels; its corners are the centres of its corner pixels.

    Returns:
        pixels of b; infinite if the estimate sends a corner to infinity or beyond.

    Source: SuperPoint (DeTone et al., 2018), section 6.2.
    """
    right, bottom = size[0] - 1.0, size[1] - 1.0
    corners = np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])
    # A homography is known up to its sign; the middle of the picture must stay in front.
    sign = np.sign(np.asarray(estimated)[2] @ [right / 2, bottom / 2, 1.0])
    distances = np.linalg.norm(apply_matrix(estimated * sign, corners) - apply_matrix(truth, corners), axis=1)
    return float(distances.mean()) if np.isfinite(distances).all() else float("inf")


def transfer_errors(
    b_from_a: Float[Array, "3 3"], points_a: Float[Array, "M 2"], points_b: Float[Array, "M 2"]
) -> Float[Array, " M"]:
    """Distances of matched points of b to the true places of those of a.

    Args:
        b_from_a: the true homography.
        points_a: pixels of a.
        points_b: pixels of b.

    Returns:
        pixels of b; infinite where the true place is at infinity or beyond.
    """
    distances = np.linalg.norm(apply_matrix(b_from_a, points_a) - np.asarray(points_b, np.float64), axis=1)
    return np.where(np.isnan(distances), np.inf, distances)


def mean_matching_accuracy(errors: Float[Array, " M"], thresholds: Sequence[float]) -> dict[float, float]:
    """Share of the matches of a pair that are right, whose mean over pairs is the mean matching accuracy.

    Args:
        errors: of every match, from `transfer_errors`, pixels.
        thresholds: pixels.

    Returns:
        share for each threshold; 0 without matches, as in D2-Net.

    Source: Mikolajczyk and Schmid (2005); D2-Net (Dusmanu et al., 2019), section 5.1.
    """
    return {float(t): float((errors <= t).mean()) if len(errors) else 0.0 for t in thresholds}
