"""Relative pose of calibrated pictures: an essential matrix by MAGSAC++ from mutual nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lfnet.evaluation.cache import digest
from lfnet.evaluation.protocols.geometry_metrics import area_under_recall, pose_errors
from lfnet.evaluation.protocols.tuning import EstimationSettings, Task, Tuning, measure_tuned
from lfnet.features import Matches
from lfnet.matching import verify
from lfnet.progress import Say

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from numpy import ndarray as Array

    from lfnet.evaluation.cache import Arrays
    from lfnet.evaluation.data.pairs import Dataset, EvaluationPair, RelativePose
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method
    from lfnet.evaluation.protocols.tuning import Estimator
    from lfnet.evaluation.results import Section
    from lfnet.features import Features

ANGLES = (5.0, 10.0, 20.0)
"""Degrees at which the area under the recall is taken, as SuperGlue has it."""
FAR = 1e9
"""Depth in baselines up to which a point tells in front from behind; OpenCV's own 50 loses far scenes."""
POSE_VERSION = 1
"""Raised with every change of what `estimate_pose` makes of the same matches."""


@dataclass(frozen=True)
class PoseSettings(EstimationSettings):
    """How relative poses are estimated."""


def pose_task(source: FeatureSource, settings: PoseSettings) -> Task:
    """What is tuned and measured of a pair."""
    return Task(
        protocol="pose",
        usable=lambda pair: pair.pose is not None,
        needs="known cameras",
        measure=partial(_measure, source, settings),
        objective="pose_auc@10",
    )


def measure_pose(
    dataset: Dataset,
    source: FeatureSource,
    settings: PoseSettings,
    progress: Say,
    *,
    tuning: Tuning | None = None,
) -> Section:
    """Every method on every pair with cameras.

    Args:
        dataset: pairs; those without a known pose are passed over.
        source: features of the methods.
        settings: budget, RANSAC, and what is tuned.
        progress: called before each pair.
        tuning: other pairs to tune on; None = every fourth group of this data set, which isn't reported.

    Returns:
        the section `pose`.

    Source: protocol of SuperGlue (Sarlin et al., 2020), with MAGSAC++ in place of RANSAC.
    """
    return measure_tuned(pose_task(source, settings), dataset, source, settings, progress, tuning)


@dataclass(frozen=True)
class EstimatedPose:
    """Motion from a to b that matches agree on."""

    rotation: Float[Array, "3 3"]
    """Camera b from camera a; NaN where nothing was found."""
    translation: Float[Array, "3"]
    """Of unit length; NaN where nothing was found."""
    inliers: Bool[Array, " M"]
    """Matches that agree."""

    @property
    def found(self) -> bool:
        """Whether there is a pose."""
        return bool(np.isfinite(self.rotation).all())


def estimate_pose(
    features_a: Features,
    features_b: Features,
    indices: Int[Array, "M 2"],
    pose: RelativePose,
    threshold: float,
    settings: EstimationSettings,
) -> EstimatedPose:
    """Pose from matches and intrinsics.

    Args:
        features_a: of the first picture.
        features_b: of the second.
        indices: matches, each feature of a at most once.
        pose: whose intrinsics are used, and nothing else.
        threshold: of MAGSAC, pixels, turned into an angle by the mean of both cameras' focal lengths.
        settings: confidence, iterations, seed.

    Returns:
        the pose in front of whose cameras most inliers lie.
    """
    nothing = EstimatedPose(np.full((3, 3), np.nan), np.full(3, np.nan), np.zeros(len(indices), bool))
    inlying, essential = verify(
        features_a,
        features_b,
        Matches(indices, np.zeros(len(indices), np.float32)),
        "essential",
        intrinsics_a=pose.intrinsics_a,
        intrinsics_b=pose.intrinsics_b,
        threshold=threshold,
        confidence=settings.confidence,
        max_iterations=settings.max_iterations,
        seed=settings.seed,
    )
    if essential is None or not np.isfinite(essential).all():
        return nothing
    inliers = np.isin(indices[:, 0], inlying.indices[:, 0])
    rays_a = _rays(features_a.keypoints[indices[inliers, 0]], pose.intrinsics_a)
    rays_b = _rays(features_b.keypoints[indices[inliers, 1]], pose.intrinsics_b)
    in_front, rotation, translation, *_ = cv2.recoverPose(essential, rays_a, rays_b, np.eye(3), FAR)
    if not in_front:
        return nothing
    return EstimatedPose(np.asarray(rotation, np.float64), np.asarray(translation, np.float64).ravel(), inliers)


def _rays(points: Float[Array, "N 2"], intrinsics: Float[Array, "3 3"]) -> Float[Array, "N 2"]:
    """Pixels as directions of depth 1."""
    homogeneous = np.concatenate([np.asarray(points, np.float64), np.ones((len(points), 1))], axis=1)
    return (homogeneous @ np.linalg.inv(intrinsics).T)[:, :2]


def _measure(
    source: FeatureSource,
    settings: PoseSettings,
    method: Method,
    dataset: Dataset,
    pair: EvaluationPair,
    estimator: Estimator,
) -> dict[str, float]:
    assert pair.pose is not None
    features_a = source.features(method, dataset, pair.picture_a, budget=settings.budget)
    features_b = source.features(method, dataset, pair.picture_b, budget=settings.budget)
    indices = source.neighbours(features_a, features_b).mutual(estimator.ratio_test)
    estimated = _cached_pose(source, features_a, features_b, indices, pair.pose, estimator.threshold, settings)
    turned, moved = np.inf, np.inf
    if estimated.found:
        turned, moved = pose_errors(estimated.rotation, estimated.translation, pair.pose.b_from_a)
    error = max(turned, moved)
    return {
        **{f"pose_auc@{angle:g}": area_under_recall([error], angle) for angle in ANGLES},
        "pose_error": error,
        "rotation_error": turned,
        "translation_error": moved,
        "matches": float(len(indices)),
        "inliers": float(estimated.inliers.sum()),
    }


def _cached_pose(
    source: FeatureSource,
    features_a: Features,
    features_b: Features,
    indices: Int[Array, "M 2"],
    pose: RelativePose,
    threshold: float,
    settings: PoseSettings,
) -> EstimatedPose:
    def compute() -> Arrays:
        found = estimate_pose(features_a, features_b, indices, pose, threshold, settings)
        return {"rotation": found.rotation, "translation": found.translation, "inliers": found.inliers}

    points = features_a.keypoints[indices[:, 0]], features_b.keypoints[indices[:, 1]]
    key = {
        "inputs": digest(*points, pose.intrinsics_a, pose.intrinsics_b),
        "threshold": threshold,
        "confidence": settings.confidence,
        "max_iterations": settings.max_iterations,
        "seed": settings.seed,
        "opencv": cv2.__version__,
        "version": POSE_VERSION,
    }
    return EstimatedPose(**source.cache.fetch("poses", key, compute))
