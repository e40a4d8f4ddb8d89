"""Where a point of one picture truly lies in another: plain NumPy, in double precision.

A `Truth` knows nothing of features. It answers in pixels (x, y), the centre of the top-left pixel at (0, 0).

What decides is shared with nothing that is measured: this file alone samples depth and projects points. The rule of
depth edges is that of `lfnet.geometry.depth`, and a test holds both to the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lfnet.errors import UserError
from lfnet.geometry.depth import MAX_STEP, DepthView

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float
    from numpy import ndarray as Array

    Places = tuple[Float[Array, "N 2"], Bool[Array, " N"]]
    """Places in the other picture, pixels, and whether each is seen there."""


class Truth(Protocol):
    """Known geometry of a pair of pictures."""

    def b_from_a(self, points: Float[Array, "N 2"]) -> Places:
        """Places in b of points of a, and whether b sees them."""
        ...

    def a_from_b(self, points: Float[Array, "N 2"]) -> Places:
        """Places in a of points of b, and whether a sees them."""
        ...


def apply_matrix(matrix: Float[Array, "3 3"], points: Float[Array, "N 2"]) -> Float[Array, "N 2"]:
    """Points moved by a homography.

    Args:
        matrix: 3x3, target_from_source.
        points: source pixels (x, y).

    Returns:
        target pixels; NaN for points at or behind infinity.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    moved = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ np.asarray(matrix, np.float64).T
    weight = np.where(moved[:, 2] > 1e-9, moved[:, 2], np.nan)
    return moved[:, :2] / weight[:, None]


def inside(points: Float[Array, "N 2"], size: tuple[int, int]) -> Bool[Array, " N"]:
    """Whether points lie on a picture of `size` (width, height), border pixels to their outer edge."""
    with np.errstate(invalid="ignore"):
        low = (points >= -0.5).all(axis=1)
        return low & (points[:, 0] < size[0] - 0.5) & (points[:, 1] < size[1] - 0.5)


def sample_depth(depth: Float[Array, "H W"], points: Float[Array, "N 2"]) -> Float[Array, " N"]:
    """Depth at sub-pixel places, without blending across edges.

    Inverse depth is interpolated between the four neighbours (exact on a plane) if all have one and none
    is farther from another than the relative `MAX_STEP`; elsewhere the nearest pixel is taken.

    Args:
        depth: z in the camera frame, any unit; 0 = unknown.
        points: pixels (x, y).

    Returns:
        depth, 0 where unknown or outside of the picture.
    """
    height, width = depth.shape
    usable = inside(points, (width, height))
    safe = np.where(usable[:, None], points, 0.0)
    x = np.clip(safe[:, 0], 0, width - 1)
    y = np.clip(safe[:, 1], 0, height - 1)
    left = np.clip(np.floor(x).astype(int), 0, max(width - 2, 0))
    top = np.clip(np.floor(y).astype(int), 0, max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    corners = np.stack([depth[top, left], depth[top, right], depth[bottom, left], depth[bottom, right]], axis=1)
    corners = corners.astype(np.float64)
    fraction_x, fraction_y = x - left, y - top
    weights = np.stack(
        [
            (1 - fraction_x) * (1 - fraction_y),
            fraction_x * (1 - fraction_y),
            (1 - fraction_x) * fraction_y,
            fraction_x * fraction_y,
        ],
        axis=1,
    )
    smooth = (corners.min(axis=1) > 0) & (corners.max(axis=1) <= (1 + MAX_STEP) * corners.min(axis=1))
    inverse = (weights / np.where(corners > 0, corners, np.inf)).sum(axis=1)
    blended = 1.0 / np.where(smooth, inverse, 1.0)
    nearest = corners[np.arange(len(corners)), weights.argmax(axis=1)]
    return np.where(usable, np.where(smooth, blended, nearest), 0.0)


@dataclass(frozen=True)
class HomographyTruth:
    """A plane, or a camera that only turned: one 3x3 matrix moves every point."""

    matrix_b_from_a: Float[Array, "3 3"]
    """Homography, pixels of b from pixels of a."""
    size_a: tuple[int, int]
    """Width and height of a, pixels."""
    size_b: tuple[int, int]
    """Width and height of b, pixels."""

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix_b_from_a)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise UserError(f"matrix_b_from_a must be a finite 3x3 matrix, got shape {matrix.shape}")
        if abs(np.linalg.det(matrix)) < 1e-12:
            raise UserError("matrix_b_from_a is singular: check the ground-truth file of this pair")

    def b_from_a(self, points: Float[Array, "N 2"]) -> Places:
        """Places in b of points of a, and whether b sees them."""
        places = apply_matrix(self.matrix_b_from_a, points)
        return places, inside(places, self.size_b)

    def a_from_b(self, points: Float[Array, "N 2"]) -> Places:
        """Places in a of points of b, and whether a sees them."""
        places = apply_matrix(np.linalg.inv(self.matrix_b_from_a), points)
        return places, inside(places, self.size_a)


def project(source: DepthView, target: DepthView, points: Float[Array, "N 2"], *, tolerance: float) -> Places:
    """Places in `target` of points of `source`, through the depth of `source` and both poses.

    Args:
        source: camera that the points belong to.
        target: camera to project into.
        points: pixels of `source`.
        tolerance: relative difference between the projected depth and the one that `target` measured there.

    Returns:
        pixels of `target`, and whether it sees them: the source has a depth, the point is in front and in
        bounds, the target has a depth there and it agrees.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    depth = sample_depth(source.depth, points)
    rays = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ np.linalg.inv(source.intrinsics).T
    target_from_source = target.camera_from_world @ np.linalg.inv(source.camera_from_world)
    moved = (rays * depth[:, None]) @ target_from_source[:3, :3].T + target_from_source[:3, 3]
    in_front = (depth > 0) & (moved[:, 2] > 1e-6)
    z = np.where(in_front, moved[:, 2], 1.0)
    places = ((moved / z[:, None]) @ target.intrinsics.T)[:, :2]
    measured = sample_depth(target.depth, places)
    agrees = (measured > 0) & (np.abs(measured - z) <= tolerance * measured)
    return places, in_front & inside(places, target.size) & agrees


@dataclass(frozen=True)
class DepthTruth:
    """Two posed pictures with depth maps; a point is seen only where the depths agree."""

    camera_a: DepthView
    camera_b: DepthView
    tolerance: float = 0.05
    """Relative difference of depth that still is the same surface (5 %, as in training)."""

    def b_from_a(self, points: Float[Array, "N 2"]) -> Places:
        """Places in b of points of a, and whether b sees them."""
        return project(self.camera_a, self.camera_b, points, tolerance=self.tolerance)

    def a_from_b(self, points: Float[Array, "N 2"]) -> Places:
        """Places in a of points of b, and whether a sees them."""
        return project(self.camera_b, self.camera_a, points, tolerance=self.tolerance)


def right_disparity(left: Float[Array, "H W"], *, step: float = 1.0) -> Float[Array, "H W"]:
    """Disparity indexed by the right picture, from the one indexed by the left (rectified pair).

    Neighbouring left pixels whose disparities differ by less than `step` bound a surface; its disparity is
    interpolated at the right pixels between them, and the nearest surface (the largest disparity) wins.

    Args:
        left: x_left - x_right at left pixels; NaN or infinite = unknown.
        step: pixels.

    Returns:
        x_left - x_right at right pixels; NaN = unknown or seen by the right picture only.
    """
    height, width = left.shape
    near, far = left[:, :-1], left[:, 1:]
    with np.errstate(invalid="ignore"):
        rows, columns = np.nonzero(np.isfinite(near) & np.isfinite(far) & (np.abs(near - far) < step))
    d0, d1 = near[rows, columns].astype(np.float64), far[rows, columns].astype(np.float64)
    start, length = columns - d0, 1 - (d1 - d0)
    right = np.full((height, width), -np.inf)
    for offset in (0, 1):
        x = np.ceil(start).astype(int) + offset
        fraction = (x - start) / length
        used = (fraction <= 1) & (x >= 0) & (x < width)
        value = d0 + fraction * (d1 - d0)
        np.maximum.at(right, (rows[used], x[used]), value[used])
    return np.where(np.isfinite(right), right, np.nan)


@dataclass(frozen=True)
class DisparityTruth:
    """A rectified stereo pair, a = left, b = right: x_b = x_a - disparity, y_b = y_a."""

    disparity_a: Float[Array, "H W"]
    """x_a - x_b at pixels of a; NaN = unknown."""
    disparity_b: Float[Array, "H W"]
    """x_a - x_b at pixels of b; NaN = unknown."""
    tolerance: float = 1.0
    """Pixels by which the two disparities of one point may differ before it counts as hidden."""

    @classmethod
    def from_left(cls, disparity: Float[Array, "H W"]) -> DisparityTruth:
        """The truth of a pair of which only the left picture has a disparity (NaN or infinite = unknown)."""
        left = np.where(np.isfinite(disparity), disparity, np.nan).astype(np.float64)
        return cls(left, right_disparity(left))

    def b_from_a(self, points: Float[Array, "N 2"]) -> Places:
        """Places in b of points of a, and whether b sees them."""
        return _shift(self.disparity_a, self.disparity_b, points, -1.0, self.tolerance)

    def a_from_b(self, points: Float[Array, "N 2"]) -> Places:
        """Places in a of points of b, and whether a sees them."""
        return _shift(self.disparity_b, self.disparity_a, points, 1.0, self.tolerance)


def _shift(
    source: Float[Array, "H W"],
    target: Float[Array, "H W"],
    points: Float[Array, "N 2"],
    sign: float,
    tolerance: float,
) -> Places:
    points = np.asarray(points, np.float64).reshape(-1, 2)
    disparity = _sample_disparity(source, points)
    places = points + np.stack([sign * np.nan_to_num(disparity), np.zeros(len(points))], axis=1)
    with np.errstate(invalid="ignore"):
        agrees = np.abs(_sample_disparity(target, places) - disparity) <= tolerance
    return places, inside(places, (source.shape[1], source.shape[0])) & agrees


def _sample_disparity(disparity: Float[Array, "H W"], points: Float[Array, "N 2"]) -> Float[Array, " N"]:
    """Disparity is inverse depth up to a factor: the same interpolation and the same guard at edges."""
    with np.errstate(divide="ignore"):
        depth = np.where(disparity > 0, 1.0 / disparity, 0.0)
    sampled = sample_depth(depth, points)
    return np.where(sampled > 0, 1.0 / np.where(sampled > 0, sampled, 1.0), np.nan)


@dataclass(frozen=True)
class TransformedTruth:
    """The truth of a pair after either picture was resized, turned or zoomed."""

    base: Truth
    a_from_base: Float[Array, "3 3"]
    """Pixels of the new a from pixels of the old."""
    b_from_base: Float[Array, "3 3"]
    """Pixels of the new b from pixels of the old."""

    def b_from_a(self, points: Float[Array, "N 2"]) -> Places:
        """Places in b of points of a, and whether b sees them."""
        places, visible = self.base.b_from_a(apply_matrix(np.linalg.inv(self.a_from_base), points))
        return apply_matrix(self.b_from_base, places), visible

    def a_from_b(self, points: Float[Array, "N 2"]) -> Places:
        """Places in a of points of b, and whether a sees them."""
        places, visible = self.base.a_from_b(apply_matrix(np.linalg.inv(self.b_from_base), points))
        return apply_matrix(self.a_from_base, places), visible


@dataclass(frozen=True)
class CountedTruth:
    """The truth of a pair where only some places of b count: elsewhere no method is let find keypoints."""

    base: Truth
    counts: Callable[[Float[Array, "N 2"]], Bool[Array, " N"]]
    """Whether keypoints at places of b, in pixels, are kept."""

    def b_from_a(self, points: Float[Array, "N 2"]) -> Places:
        """Places in b of points of a, and whether b sees them where its keypoints count."""
        places, visible = self.base.b_from_a(points)
        seen = np.flatnonzero(visible)
        counted = np.zeros(len(visible), bool)
        counted[seen] = self.counts(places[seen])
        return places, counted

    def a_from_b(self, points: Float[Array, "N 2"]) -> Places:
        """Places in a of points of b, and whether a sees them."""
        return self.base.a_from_b(points)


def carried_orientations(
    truth: Truth, points: Float[Array, "N 2"], orientations: Float[Array, " N"], *, step: float = 2.0
) -> Float[Array, " N"]:
    """Orientations of keypoints of a as b would see them, by a short step along each.

    Args:
        truth: geometry of the pair.
        points: pixels of a.
        orientations: radians, from +x towards +y.
        step: length of the step, pixels of a; the far end must be visible, too.

    Returns:
        radians in b; NaN where a step cannot be followed.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    angles = np.asarray(orientations, np.float64)
    half = 0.5 * step * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tail, tail_seen = truth.b_from_a(points - half)
    head, head_seen = truth.b_from_a(points + half)
    direction = head - tail
    carried = np.arctan2(direction[:, 1], direction[:, 0])
    return np.where(tail_seen & head_seen, carried, np.nan)


def visible_share(truth: Truth, size_a: tuple[int, int], size_b: tuple[int, int]) -> tuple[float, float]:
    """Share of the pixels of each picture that the other sees.

    Args:
        truth: geometry of the pair.
        size_a: width and height of a, pixels.
        size_b: width and height of b, pixels.

    Returns:
        shares of a and of b in [0, 1]; pixels whose geometry is unknown count as unseen. Every fourth pixel
        of every fourth row is asked.
    """
    _, seen_of_a = truth.b_from_a(_grid(size_a))
    _, seen_of_b = truth.a_from_b(_grid(size_b))
    return float(seen_of_a.mean()), float(seen_of_b.mean())


def _grid(size: tuple[int, int], step: int = 4) -> Float[Array, "N 2"]:
    x, y = np.meshgrid(np.arange(0, size[0], step), np.arange(0, size[1], step))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)
