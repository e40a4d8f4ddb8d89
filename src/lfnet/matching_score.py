"""The matching score and what stands beside it, of one pair of pictures: arrays in, numbers out.

The one definition: the benchmark reports it (`evaluation/protocols/matching.py`), training watches it
(`training/validation.py`). Directions are written as `b_from_a`: keypoints of a are projected into b, where distances
are measured. The score of a pair is the mean of both directions.

Source: LF-Net (Ono et al., NeurIPS 2018), section 4; the definition of Mikolajczyk and Schmid (2005).
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


def share_within(
    errors: Float[Array, " N"], thresholds: Sequence[float], *, of_nothing: float = 0.0
) -> dict[float, float]:
    """Share of known errors that are no larger than each threshold.

    Of `match_errors` it is one direction of the matching score: of the keypoints of one view that the other sees, the
    share whose nearest descriptor lies at the true place. Of the errors of mutual matches alone it is their precision,
    and of `nearest_keypoint_errors` one direction of the repeatability.

    Args:
        errors: pixels; NaN is left out of the count, infinity counts as wrong.
        thresholds: pixels.
        of_nothing: where nothing is left to count. It is 0 by default, so that a method without keypoints scores
            nothing instead of being left out.

    Returns:
        share in [0, 1] for each threshold.
    """
    known = errors[~np.isnan(errors)]
    return {float(t): float((known <= t).mean()) if len(known) else of_nothing for t in thresholds}


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
    """Mean of the `nearest_keypoint_errors` up to a threshold, pixels: of the keypoints that are repeated at all."""
    repeated = errors[errors <= threshold]
    return float(repeated.mean()) if len(repeated) else float("nan")


def correct_match_error(errors: Float[Array, " N"], threshold: float) -> float:
    """Median of the `match_errors` up to a threshold, pixels: of the matches that are correct."""
    correct = errors[errors <= threshold]
    return float(np.median(correct)) if len(correct) else float("nan")


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
        tolerance: radians; the default, 22.5 degrees, is half a bin of SIFT's descriptor, about what one survives.

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
