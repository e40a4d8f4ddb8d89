"""Pure metrics of a pair of pictures: arrays in, numbers out.

Directions are written as `b_from_a`: keypoints of a are projected into b, where distances are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float, Int
    from numpy import ndarray as Array


OCTAVES = ("1", "1/2", "1/4", "1/8")
"""Sizes of the picture, full size first, by which `octave_indices` counts; the last takes coarser ones too."""
HALF_OCTAVE_SLACK = 0.05
"""Octaves by which a scale may lie beyond half-way and still count as half-way: rounding a picture's side to whole
pixels, 15 or more, moves a scale by no more."""


@dataclass(frozen=True)
class Projection:
    """The keypoints of one view, where they truly lie in the other."""

    points: Float[Array, "N 2"]
    """True places in the other view, pixels; anything where `visible` is False."""
    visible: Bool[Array, " N"]
    """Whether the other view sees the point, so that the true place is known and counts."""


def distances_to(projection: Projection, keypoints: Float[Array, "M 2"]) -> Float[Array, "N M"]:
    """Distance of every true place to every keypoint of the other view.

    Args:
        projection: true places of N keypoints in the other view, pixels.
        keypoints: M keypoints of the other view, pixels (x, y).

    Returns:
        distances in pixels of the other view; infinite in the rows of invisible keypoints.
    """
    points = np.asarray(projection.points, np.float64).reshape(-1, 2)
    others = np.asarray(keypoints, np.float64).reshape(-1, 2)
    # By axes and in place: a norm over a last axis of two takes six times as long, and this is most of a measurement.
    squared = np.square(points[:, None, 0] - others[None, :, 0])
    squared += np.square(points[:, None, 1] - others[None, :, 1])
    distances = np.sqrt(squared, out=squared)
    distances[~projection.visible] = np.inf
    return distances


def match_errors(
    projection: Projection, keypoints: Float[Array, "M 2"], nearest: Int[Array, " N"]
) -> Float[Array, " N"]:
    """Distance of every keypoint's nearest descriptor to its true place.

    Args:
        projection: true places of N keypoints in the other view, pixels.
        keypoints: M keypoints of the other view, pixels (x, y).
        nearest: for each of the N, the index (of M) of the nearest descriptor; -1 where there is none.

    Returns:
        distances in pixels of the other view; infinite where `nearest` is -1, NaN for invisible keypoints.
    """
    errors = np.full(len(projection.visible), np.inf)
    found = np.asarray(nearest) >= 0
    if found.any():
        differences = np.asarray(keypoints, np.float64)[nearest[found]] - projection.points[found]
        errors[found] = np.linalg.norm(differences, axis=-1)
    errors[~projection.visible] = np.nan
    return errors


def share_within(errors: Float[Array, " N"], thresholds: Sequence[float]) -> dict[float, float]:
    """Share of known errors that are no larger than each threshold.

    This is one direction of the matching score when `errors` come from `match_errors`: of the keypoints of
    one view that the other sees, the share whose nearest descriptor lies at the true place. Given the
    distances to the nearest keypoint instead, it is one direction of the repeatability.

    Args:
        errors: pixels; NaN is left out of the count, infinity counts as wrong.
        thresholds: pixels.

    Returns:
        share in [0, 1] for each threshold; 0 where nothing is left to count, so that a method without
        keypoints scores nothing instead of being left out.

    Source: LF-Net (Ono et al., NeurIPS 2018), section 4; the definition of Mikolajczyk and Schmid (2005).
    """
    known = errors[~np.isnan(errors)]
    return {float(t): float((known <= t).mean()) if len(known) else 0.0 for t in thresholds}


def nearest_keypoint_errors(distances: Float[Array, "N M"], visible: Bool[Array, " N"]) -> Float[Array, " N"]:
    """Distance from each true place to the nearest keypoint of the other view.

    Args:
        distances: from `distances_to`, pixels.
        visible: whether the other view sees each keypoint.

    Returns:
        pixels; infinite if the other view has no keypoint, NaN where the keypoint is invisible.
    """
    nearest = distances.min(axis=1) if distances.shape[1] else np.full(len(distances), np.inf)
    return np.where(visible, nearest, np.nan)


def localisation_error(errors: Float[Array, " N"], threshold: float) -> float:
    """Mean distance between a true place and the nearest keypoint, of keypoints that are repeated at all.

    Args:
        errors: from `nearest_keypoint_errors`, pixels.
        threshold: pixels within which a keypoint counts as repeated.

    Returns:
        pixels; NaN if none is repeated.
    """
    repeated = errors[~np.isnan(errors) & (errors <= threshold)]
    return float(repeated.mean()) if len(repeated) else float("nan")


def octave_indices(scales: Float[Array, " N"]) -> Int[Array, " N"]:
    """Octave in which each keypoint is nearest to scale 1.

    Args:
        scales: of keypoints, as `Features.scales` has them; positive, 1 = found at full size.

    Returns:
        log2 of the scale, rounded, and clipped to the indices of `OCTAVES`. A scale half-way, as a detector that works
        at half octaves has them, counts to the finer of the two.
    """
    nearest = np.ceil(np.log2(np.asarray(scales, np.float64)) - 0.5 - HALF_OCTAVE_SLACK)
    return np.clip(nearest, 0, len(OCTAVES) - 1).astype(np.int64)


def correct_match_error(errors: Float[Array, " N"], threshold: float) -> float:
    """Median distance between a true place and the nearest descriptor's, of matches that are correct.

    Args:
        errors: from `match_errors`, pixels; NaN = truth unknown.
        threshold: pixels within which a match is correct.

    Returns:
        pixels; NaN if no match is correct.
    """
    correct = errors[errors <= threshold]
    return float(np.median(correct)) if len(correct) else float("nan")


def octave_shares(errors: Float[Array, " N"], octaves: Int[Array, " N"], threshold: float) -> Float[Array, " octaves"]:
    """Share of each of `OCTAVES` among the correct matches.

    Args:
        errors: from `match_errors`, pixels; NaN = truth unknown.
        octaves: of the N keypoints, from `octave_indices`.
        threshold: pixels within which a match is correct.

    Returns:
        shares in [0, 1] with the sum 1; NaN if no match is correct.
    """
    counts = np.bincount(octaves[errors <= threshold], minlength=len(OCTAVES))
    return counts / counts.sum() if counts.any() else np.full(len(OCTAVES), np.nan)


def mutual_nearest(nearest_in_b: Int[Array, " N"], nearest_in_a: Int[Array, " M"]) -> Bool[Array, " N"]:
    """Which keypoints of a are the nearest of their nearest.

    Args:
        nearest_in_b: for each keypoint of a, the index of the nearest descriptor in b, -1 for none.
        nearest_in_a: for each keypoint of b, the index of the nearest descriptor in a, -1 for none.

    Returns:
        True for each keypoint of a that is in a mutual match.
    """
    found = nearest_in_b >= 0
    mutual = np.zeros(len(nearest_in_b), bool)
    mutual[found] = nearest_in_a[nearest_in_b[found]] == np.flatnonzero(found)
    return mutual


def mutual_precision(
    errors: Float[Array, " N"], mutual: Bool[Array, " N"], thresholds: Sequence[float]
) -> dict[float, float]:
    """Share of mutual nearest neighbours that are right, of those whose truth is known.

    Args:
        errors: from `match_errors` in direction b_from_a, pixels; NaN = truth unknown.
        mutual: from `mutual_nearest`.
        thresholds: pixels.

    Returns:
        share in [0, 1] for each threshold; NaN if there is no mutual match with known truth.
    """
    known = errors[mutual & ~np.isnan(errors)]
    return {float(t): float((known <= t).mean()) if len(known) else float("nan") for t in thresholds}


def orientation_agreement(
    distances: Float[Array, "N M"],
    expected: Float[Array, " N"],
    orientations: Float[Array, " M"],
    *,
    threshold: float = 3.0,
    tolerance: float = np.pi / 8,
) -> float:
    """Share of repeated keypoints whose orientation turned as the picture did.

    Where several keypoints of the other view share the nearest place (SIFT gives one for every strong
    orientation), the one that agrees best counts.

    Args:
        distances: from `distances_to`, pixels.
        expected: orientations of the N keypoints carried into the other view, radians; NaN where unknown.
        orientations: of the M keypoints of the other view, radians.
        threshold: pixels within which a keypoint counts as repeated.
        tolerance: radians; the default, 22.5 degrees, is about what a descriptor survives.

    Returns:
        share in [0, 1]; NaN if no keypoint with a known orientation is repeated.
    """
    if not distances.size:
        return float("nan")
    closest = distances.min(axis=1)
    counted = (closest <= threshold) & ~np.isnan(expected)
    if not counted.any():
        return float("nan")
    difference = expected[counted, None] - np.asarray(orientations, np.float64)
    wrapped = np.abs((difference + np.pi) % (2 * np.pi) - np.pi)
    same_place = distances[counted] <= closest[counted, None] + 1e-3
    best = np.where(same_place, wrapped, np.inf).min(axis=1)
    return float((best <= tolerance).mean())


def mean_of_directions(first: float, second: float) -> float:
    """Mean of the two directions of a pair, or the one that is a number; NaN if neither is."""
    known = [value for value in (first, second) if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
