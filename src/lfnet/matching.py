"""Matches between the features of two pictures: mutual nearest neighbours, and verification by geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfnet.errors import UserError
from lfnet.features import Features, Matches

Geometry: TypeAlias = Literal["homography", "fundamental", "essential"]

_BLOCK_ELEMENTS = 1 << 24
"""Distances held at once: 64 MB of float32, whatever the number of features."""

_MINIMUM_MATCHES = {"homography": 4, "fundamental": 7, "essential": 5}
"""Matches that the minimal solver of each geometry takes."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest descriptors of two pictures, both ways: all that matching by descriptors needs to know of them."""

    b_of_a: NDArray[np.int64]
    """(Na,) index of the nearest of b; -1 where b is empty."""
    a_of_b: NDArray[np.int64]
    """(Nb,) index of the nearest of a; -1 where a is empty."""
    distances: NDArray[np.float32]
    """(Na,) distance to the nearest of b: Euclidean, or Hamming; infinite where b is empty."""
    second: NDArray[np.float32]
    """(Na,) distance to the second nearest of b; infinite where there is none."""

    @classmethod
    def of(cls, descriptors_a: NDArray, descriptors_b: NDArray) -> Neighbours:
        """Compare two sets of descriptors.

        Args:
            descriptors_a: (Na, D) float32, or uint8 whose bits are compared.
            descriptors_b: (Nb, D) of the same type; of equal distances the first counts.

        Raises:
            UserError: the two don't go together.
        """
        if len(descriptors_a) == 0 or len(descriptors_b) == 0:
            none = np.full(len(descriptors_a), np.inf, np.float32)
            return cls(np.full(len(descriptors_a), -1), np.full(len(descriptors_b), -1), none, none)
        _check_comparable(descriptors_a, descriptors_b)
        b_of_a, a_of_b, squared = _nearest(_as_vectors(descriptors_a), _as_vectors(descriptors_b))
        second = squared if descriptors_a.dtype == np.uint8 else np.sqrt(squared)
        return cls(b_of_a, a_of_b, _distances(descriptors_a, descriptors_b, b_of_a), second)

    def mutual(self, ratio: float | None = None) -> NDArray[np.int64]:
        """Pairs of features that are each the other's nearest.

        Args:
            ratio: keep a pair only where its distance is below this times that of the second nearest in b (Lowe's
                test). None: no such test.

        Returns:
            (M, 2) index in a and in b, in the order of a.

        Raises:
            UserError: a ratio outside (0, 1].
        """
        if ratio is not None and not 0 < ratio <= 1:
            raise UserError(f"ratio must be in (0, 1], got {ratio}")
        index = np.flatnonzero(self.b_of_a >= 0)
        index = index[self.a_of_b[self.b_of_a[index]] == index]
        if ratio is not None:
            index = index[self.distances[index] < ratio * self.second[index]]
        return np.stack([index, self.b_of_a[index]], axis=1)


def mutual_nearest_neighbours(
    features_a: Features,
    features_b: Features,
    *,
    ratio: float | None = None,
    max_distance: float | None = None,
) -> Matches:
    """Matches of features that are each the other's nearest.

    Args:
        features_a: features of picture a.
        features_b: features of picture b, with descriptors of the same kind.
        ratio: keep a match only where its distance is below this times the distance of the second nearest in
            b (Lowe's test; the authors of LF-Net warn against it). None: no such test.
        max_distance: keep a match only up to this distance (Euclidean, or bits). None: no limit.

    Returns:
        Matches in the order of picture a. The score is 1 - d/2 of the Euclidean distance d, which lies in [0,
        1] for descriptors of unit length; for binary descriptors it is the share of bits that agree.

    Raises:
        UserError: descriptors of different length or type, or a ratio outside (0, 1].

    Source: Ono et al. 2018, section 4.1, for matching by nearest neighbours without the ratio test.
    """
    a, b = features_a.descriptors, features_b.descriptors
    neighbours = Neighbours.of(a, b)
    indices = neighbours.mutual(ratio)
    distances = neighbours.distances[indices[:, 0]]
    if max_distance is not None:
        keep = distances <= max_distance
        indices, distances = indices[keep], distances[keep]
    worst = 8.0 * a.shape[1] if a.dtype == np.uint8 else 2.0
    return Matches(indices, 1 - distances / worst)


def verify(
    features_a: Features,
    features_b: Features,
    matches: Matches,
    geometry: Geometry = "homography",
    *,
    intrinsics_a: ArrayLike | None = None,
    intrinsics_b: ArrayLike | None = None,
    threshold: float = 3.0,
    confidence: float = 0.9999,
    max_iterations: int = 10_000,
    seed: int = 0,
) -> tuple[Matches, NDArray[np.float64] | None]:
    """Keep the matches that one geometry explains, found by OpenCV's MAGSAC++.

    Args:
        features_a: features of picture a.
        features_b: features of picture b.
        matches: between them.
        geometry: "homography" (a plane, or a camera that only turned), "fundamental" (any rigid scene) or
            "essential" (the same with known intrinsics).
        intrinsics_a: (3, 3) of picture a in pixels, for "essential".
        intrinsics_b: (3, 3) of picture b; None: as picture a.
        threshold: largest error of an inlier, in pixels.
        confidence: wanted probability of having drawn one sample without outliers.
        max_iterations: samples drawn at most.
        seed: of the sampling; equal seeds give equal results.

    Returns:
        The inliers, in their order, and the (3, 3) model: the homography `b_from_a`, or the matrix M with
        x_b^T M x_a = 0 for pixels ("fundamental") or normalised rays ("essential"). Too few matches, or none
        that agree: no matches and None.

    Raises:
        UserError: another geometry, no intrinsics for "essential", or a threshold that is not positive.

    Source: Barath et al., "MAGSAC++", CVPR 2020, as implemented in OpenCV's USAC.
    """
    if geometry not in _MINIMUM_MATCHES:
        raise UserError(f"geometry must be one of {', '.join(_MINIMUM_MATCHES)}, got {geometry!r}")
    if not threshold > 0:
        raise UserError(f"threshold must be positive, got {threshold} px")
    if geometry == "essential" and intrinsics_a is None:
        raise UserError("an essential matrix needs intrinsics_a: give them, or verify by 'fundamental'")
    if len(matches) < _MINIMUM_MATCHES[geometry]:
        return Matches.empty(), None
    points_a = features_a.keypoints[matches.indices[:, 0]].astype(np.float64)
    points_b = features_b.keypoints[matches.indices[:, 1]].astype(np.float64)
    params = _magsac(threshold, confidence, max_iterations, seed)
    try:
        model, mask = _estimate(geometry, points_a, points_b, params, intrinsics_a, intrinsics_b)
    except cv2.error:
        return Matches.empty(), None  # OpenCV throws where every sample is degenerate (all points on a line).
    if model is None or np.shape(model) != (3, 3) or mask is None:
        return Matches.empty(), None
    inliers = np.asarray(mask).ravel().astype(bool)
    if not inliers.any():
        return Matches.empty(), None
    return matches.select(inliers), np.asarray(model, np.float64)


def _estimate(
    geometry: Geometry,
    points_a: NDArray,
    points_b: NDArray,
    params: cv2.UsacParams,
    intrinsics_a: ArrayLike | None,
    intrinsics_b: ArrayLike | None,
) -> tuple[NDArray | None, NDArray | None]:
    if geometry == "homography":
        return cv2.findHomography(points_a, points_b, params)
    if geometry == "fundamental":
        return cv2.findFundamentalMat(points_a, points_b, params)
    camera_a = np.asarray(intrinsics_a, np.float64)
    camera_b = camera_a if intrinsics_b is None else np.asarray(intrinsics_b, np.float64)
    undistorted = np.zeros(4)
    return cv2.findEssentialMat(points_a, points_b, camera_a, camera_b, undistorted, undistorted, params)


def _magsac(threshold: float, confidence: float, max_iterations: int, seed: int) -> cv2.UsacParams:
    """What OpenCV's flag USAC_MAGSAC sets, with a seed."""
    params = cv2.UsacParams()
    params.threshold = threshold
    params.confidence = confidence
    params.maxIterations = max_iterations
    params.randomGeneratorState = seed
    params.isParallel = False
    params.sampler = cv2.SAMPLING_UNIFORM
    params.score = cv2.SCORE_METHOD_MAGSAC
    params.loMethod = cv2.LOCAL_OPTIM_SIGMA
    params.final_polisher = cv2.MAGSAC
    return params


def _check_comparable(a: NDArray, b: NDArray) -> None:
    if a.ndim != 2 or b.ndim != 2 or (len(a) and len(b) and a.shape[1] != b.shape[1]):
        raise UserError(f"descriptors must have shapes (Na, D) and (Nb, D), got {a.shape} and {b.shape}")
    if (a.dtype == np.uint8) != (b.dtype == np.uint8):
        raise UserError(
            f"descriptors must both be bits (uint8) or both floating, got {a.dtype} and {b.dtype}"
        )


def _as_vectors(descriptors: NDArray) -> NDArray[np.float32]:
    """Vectors whose squared Euclidean distance orders the descriptors: bits become 0 and 1."""
    if descriptors.dtype == np.uint8:
        descriptors = np.unpackbits(descriptors, axis=1)
    return np.ascontiguousarray(descriptors, np.float32)


def _nearest(
    a: NDArray[np.float32], b: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Nearest of b for each a, nearest of a for each b, and squared distance of the second nearest of b.

    One pass over the squared distances |a|^2 + |b|^2 - 2 a.b in blocks of rows.
    """
    b_of_a = np.full(len(a), -1, np.int64)
    second = np.full(len(a), np.inf, np.float32)
    a_of_b = np.full(len(b), -1, np.int64)
    best_of_b = np.full(len(b), np.inf, np.float32)
    if len(a) == 0 or len(b) == 0:
        return b_of_a, a_of_b, second
    squares_a, squares_b = np.square(a).sum(1), np.square(b).sum(1)
    rows = max(1, _BLOCK_ELEMENTS // len(b))
    columns = np.arange(len(b))
    for start in range(0, len(a), rows):
        block = slice(start, start + rows)
        squared = a[block] @ b.T
        squared *= -2.0
        squared += squares_a[block, None]
        squared += squares_b
        nearest_row = squared.argmin(0)
        nearest = squared[nearest_row, columns]
        better = nearest < best_of_b
        a_of_b[better] = nearest_row[better] + start
        best_of_b[better] = nearest[better]
        b_of_a[block] = squared.argmin(1)
        if len(b) > 1:
            squared[np.arange(len(squared)), b_of_a[block]] = np.inf
            second[block] = np.maximum(squared.min(1), 0.0)
    return b_of_a, a_of_b, second


def _distances(a: NDArray, b: NDArray, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Distance of each a to the b chosen for it, from the difference itself, which loses no digits."""
    if len(b) == 0:
        return np.full(len(a), np.inf, np.float32)
    if a.dtype == np.uint8:
        return np.unpackbits(np.bitwise_xor(a, b[index]), axis=1).sum(1).astype(np.float32)
    return np.linalg.norm(a - b[index], axis=1).astype(np.float32)
