"""Homographies by MAGSAC++ from mutual nearest neighbours, and the accuracy of the matches themselves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lfnet.evaluation.cache import digest
from lfnet.evaluation.data.truth import HomographyTruth
from lfnet.evaluation.protocols.geometry_metrics import (
    area_under_recall,
    corner_error,
    mean_matching_accuracy,
    transfer_errors,
)
from lfnet.evaluation.protocols.tuning import EstimationSettings, Task, Tuning, measure_tuned
from lfnet.features import Matches
from lfnet.matching import verify
from lfnet.progress import Say

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray as Array

    from lfnet.evaluation.cache import Arrays
    from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method
    from lfnet.evaluation.protocols.tuning import Estimator
    from lfnet.evaluation.results import Section
    from lfnet.features import Features

CORNER_THRESHOLDS = (1.0, 3.0, 5.0)
"""Pixels at which the area under the recall of corner errors is taken."""
MATCH_THRESHOLDS = tuple(float(pixels) for pixels in range(1, 11))
"""Pixels at which matching accuracy is taken, as D2-Net has it."""
HOMOGRAPHY_VERSION = 1
"""Raised with every change of what `estimate_homography` makes of the same matches."""


@dataclass(frozen=True)
class HomographySettings(EstimationSettings):
    """How homographies are estimated."""


def homography_task(source: FeatureSource, settings: HomographySettings) -> Task:
    """What is tuned and measured of a pair."""
    return Task(
        protocol="homography",
        usable=lambda pair: isinstance(pair.truth, HomographyTruth),
        needs="a known homography",
        measure=partial(_measure, source, settings),
        objective="corner_auc@3",
    )


def measure_homography(
    dataset: Dataset,
    source: FeatureSource,
    settings: HomographySettings,
    progress: Say,
    *,
    tuning: Tuning | None = None,
) -> Section:
    """Every method on every pair that a known homography relates.

    Matching accuracy is that of plain mutual nearest neighbours, without the ratio test that the estimate may have.

    Args:
        dataset: pairs; others are passed over.
        source: features of the methods.
        settings: budget, RANSAC, and what is tuned.
        progress: called before each pair.
        tuning: other pairs to tune on; None = every fourth group of this data set, which isn't reported.

    Returns:
        the section `homography`.
    """
    return measure_tuned(homography_task(source, settings), dataset, source, settings, progress, tuning)


def estimate_homography(
    features_a: Features,
    features_b: Features,
    indices: Int[Array, "M 2"],
    threshold: float,
    settings: EstimationSettings,
) -> tuple[Float[Array, "3 3"], int]:
    """Homography from matches.

    Args:
        features_a: of the first picture.
        features_b: of the second.
        indices: matches.
        threshold: of MAGSAC, pixels.
        settings: confidence, iterations, seed.

    Returns:
        b_from_a, NaN where nothing was found; and how many matches agree with it.
    """
    inlying, matrix = verify(
        features_a,
        features_b,
        Matches(indices, np.zeros(len(indices), np.float32)),
        "homography",
        threshold=threshold,
        confidence=settings.confidence,
        max_iterations=settings.max_iterations,
        seed=settings.seed,
    )
    if matrix is None or not np.isfinite(matrix).all():
        return np.full((3, 3), np.nan), 0
    return matrix, len(inlying)


def _measure(
    source: FeatureSource,
    settings: HomographySettings,
    method: Method,
    dataset: Dataset,
    pair: EvaluationPair,
    estimator: Estimator,
) -> dict[str, float]:
    assert isinstance(pair.truth, HomographyTruth)
    features_a = source.features(method, dataset, pair.picture_a, budget=settings.budget)
    features_b = source.features(method, dataset, pair.picture_b, budget=settings.budget)
    neighbours = source.neighbours(features_a, features_b)
    kept = neighbours.mutual(estimator.ratio_test)
    matrix, inliers = _cached_homography(source, features_a, features_b, kept, estimator.threshold, settings)
    truth = pair.truth.matrix_b_from_a
    error = corner_error(matrix, truth, pair.truth.size_a) if np.isfinite(matrix).all() else np.inf
    plain = neighbours.mutual()
    errors = transfer_errors(truth, features_a.keypoints[plain[:, 0]], features_b.keypoints[plain[:, 1]])
    accuracy = mean_matching_accuracy(errors, MATCH_THRESHOLDS)
    return {
        **{f"corner_auc@{pixels:g}": area_under_recall([error], pixels) for pixels in CORNER_THRESHOLDS},
        "corner_error": error,
        **{f"mma@{pixels:g}": share for pixels, share in accuracy.items()},
        "matches": float(len(plain)),
        "inliers": float(inliers),
    }


def _cached_homography(
    source: FeatureSource,
    features_a: Features,
    features_b: Features,
    indices: Int[Array, "M 2"],
    threshold: float,
    settings: HomographySettings,
) -> tuple[Float[Array, "3 3"], int]:
    def compute() -> Arrays:
        matrix, count = estimate_homography(features_a, features_b, indices, threshold, settings)
        return {"matrix": matrix, "inliers": np.array([count])}

    key = {
        "inputs": digest(features_a.keypoints[indices[:, 0]], features_b.keypoints[indices[:, 1]]),
        "threshold": threshold,
        "confidence": settings.confidence,
        "max_iterations": settings.max_iterations,
        "seed": settings.seed,
        "opencv": cv2.__version__,
        "version": HOMOGRAPHY_VERSION,
    }
    arrays = source.cache.fetch("homographies", key, compute)
    return arrays["matrix"], int(arrays["inliers"][0])
