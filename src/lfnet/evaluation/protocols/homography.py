"""Homographies by MAGSAC++ from mutual nearest neighbours, and the accuracy of the matches themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lfnet.evaluation.data.truth import HomographyTruth, apply_matrix
from lfnet.evaluation.protocols.estimation import Task, area_under_recall
from lfnet.matching_score import share_within

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray as Array

    from lfnet.coordinates import Size
    from lfnet.evaluation.data.pairs import EvaluationPair
    from lfnet.evaluation.protocols.estimation import EstimationSettings, Estimator, MatchedPair

CORNER_THRESHOLDS = (1.0, 3.0, 5.0)
"""Pixels at which the area under the recall of corner errors is taken."""
MATCH_THRESHOLDS = tuple(float(pixels) for pixels in range(1, 11))
"""Pixels at which matching accuracy is taken, as D2-Net has it."""


def _measure(
    matched: MatchedPair, pair: EvaluationPair, estimator: Estimator, settings: EstimationSettings
) -> dict[str, float]:
    """Matching accuracy is that of plain mutual nearest neighbours, without the estimate's ratio test and filter.

    Source of mean matching accuracy: Mikolajczyk and Schmid (2005); D2-Net (Dusmanu et al., 2019), section 5.1, where
    a pair without matches has 0.
    """
    assert isinstance(pair.truth, HomographyTruth)
    truth = pair.truth.matrix_b_from_a
    found = matched.estimate(estimator, settings)
    error = corner_error(found.model, truth, pair.truth.size_a) if np.isfinite(found.model).all() else np.inf
    plain = matched.neighbours.mutual()
    accuracy = share_within(transfer_errors(truth, *matched.points(plain)), MATCH_THRESHOLDS)
    return {
        **{f"corner_auc@{pixels:g}": area_under_recall([error], pixels) for pixels in CORNER_THRESHOLDS},
        "corner_error": error,
        **{f"mma@{pixels:g}": share for pixels, share in accuracy.items()},
        "matches": float(len(plain)),
        "inliers": float(found.inliers.sum()),
        "estimation_time": found.milliseconds,
    }


HOMOGRAPHY = Task(
    "homography",
    lambda pair: isinstance(pair.truth, HomographyTruth),
    "a known homography",
    _measure,
    objective="corner_auc@3",
)
"""What is tuned and measured of a pair."""


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
    """Distances of matched pixels of b to the true places of those of a; infinite where these are at infinity."""
    distances = np.linalg.norm(apply_matrix(b_from_a, points_a) - np.asarray(points_b, np.float64), axis=1)
    return np.where(np.isnan(distances), np.inf, distances)
