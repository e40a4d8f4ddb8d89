"""Relative pose of calibrated pictures: an essential matrix by MAGSAC++ from mutual nearest neighbours, and its AUC.

Source: protocol of SuperGlue (Sarlin et al., 2020), with MAGSAC++ in place of RANSAC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lfnet.evaluation.protocols.estimation import Task, area_under_recall

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray as Array

    from lfnet.evaluation.data.pairs import EvaluationPair, RelativePose
    from lfnet.evaluation.protocols.estimation import EstimationSettings, Estimator, MatchedPair

ANGLES = (5.0, 10.0, 20.0)
"""Degrees at which the area under the recall is taken, as SuperGlue has it."""
FAR = 1e9
"""Depth in baselines up to which a point tells in front from behind; OpenCV's own 50 loses far scenes."""
NO_BASELINE = 1e-9
"""Length of a true translation up to which it has no direction."""


def _measure(
    matched: MatchedPair, pair: EvaluationPair, estimator: Estimator, settings: EstimationSettings
) -> dict[str, float]:
    assert pair.pose is not None
    intrinsics = pair.pose.intrinsics_a, pair.pose.intrinsics_b
    found = matched.estimate(estimator, settings, intrinsics)
    pose = recovered_pose(found.model, *matched.points(found.used[found.inliers]), pair.pose)
    turned, moved = (np.inf, np.inf) if pose is None else pose_errors(*pose, pair.pose.b_from_a)
    error = max(turned, moved)
    return {
        **{f"pose_auc@{angle:g}": area_under_recall([error], angle) for angle in ANGLES},
        "pose_error": error,
        "rotation_error": turned,
        "translation_error": moved,
        "matches": float(len(found.used)),
        "inliers": 0.0 if pose is None else float(found.inliers.sum()),
        "estimation_time": found.milliseconds,
    }


POSE = Task("pose", lambda pair: pair.pose is not None, "known cameras", _measure, objective="pose_auc@10")
"""What is tuned and measured of a pair."""


def recovered_pose(
    essential: Float[Array, "3 3"], points_a: Float[Array, "M 2"], points_b: Float[Array, "M 2"], pose: RelativePose
) -> tuple[Float[Array, "3 3"], Float[Array, "3"]] | None:
    """The pose of an essential matrix in front of whose cameras most matches lie.

    Args:
        essential: of the rays of a and b; NaN = none was found.
        points_a: matched pixels of a that agree with it.
        points_b: those of b.
        pose: whose intrinsics are used, and nothing else.

    Returns:
        rotation, camera b from camera a, and translation of unit length; None where nothing was found.
    """
    if not np.isfinite(essential).all():
        return None
    rays_a, rays_b = _rays(points_a, pose.intrinsics_a), _rays(points_b, pose.intrinsics_b)
    in_front, rotation, translation, *_ = cv2.recoverPose(essential, rays_a, rays_b, np.eye(3), FAR)
    return (np.asarray(rotation, np.float64), np.asarray(translation, np.float64).ravel()) if in_front else None


def _rays(points: Float[Array, "N 2"], intrinsics: Float[Array, "3 3"]) -> Float[Array, "N 2"]:
    """Pixels as directions of depth 1."""
    homogeneous = np.concatenate([np.asarray(points, np.float64), np.ones((len(points), 1))], axis=1)
    return (homogeneous @ np.linalg.inv(intrinsics).T)[:, :2]


def rotation_error(estimated: Float[Array, "3 3"], truth: Float[Array, "3 3"]) -> float:
    """Angle between two rotations, degrees in [0, 180].

    It is taken from the sine and cosine of the rotation between them: the arc cosine alone, as others have it, loses
    angles below 1e-6 degrees.
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
