"""What the sparse points of a reconstruction say before there is any depth: who sees what, how far away, from where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lfnet.data.reconstructions.colmap_model import Reconstruction

BEST_ANGLE = 5.0
"""Degrees between two rays to a point at which a pair is worth most: less measures depth poorly, more looks less alike.

Source: Yao et al., "MVSNet" (2018), section 4.1, as are the two spreads below."""
ANGLE_SPREADS = (1.0, 10.0)
"""Deviation of the worth of a pair below and above the best angle, degrees."""
FEWEST_POINTS = 10
"""Sparse points below which a view has no range of depths, and a pair nothing in common."""
RANGE_QUANTILES = (0.01, 0.99)
"""Of the depths of a view's points; what lies beyond may be wrong."""
RANGE_MARGIN = 1.3
"""How much nearer and farther than the points the planes reach."""


@dataclass(frozen=True)
class Neighbour:
    """Another picture, and how much it is worth for measuring depth."""

    image_id: int
    worth: float
    """Sum over the points seen by both of the worth of their angle."""
    shared: int
    """Number of those points."""


class SparseGeometry:
    """The points that each registered picture observes, with angles and depths.

    Args:
        reconstruction: with its observations.
    """

    def __init__(self, reconstruction: Reconstruction) -> None:
        self._reconstruction = reconstruction
        order = np.argsort(reconstruction.points.ids)
        self._ids = reconstruction.points.ids[order]
        self._positions = reconstruction.points.positions[order]
        poses = {number: image.camera_from_world for number, image in reconstruction.images.items()}
        self._centres = {number: -pose[:3, :3].T @ pose[:3, 3] for number, pose in poses.items()}
        self._observed = {
            number: np.unique(np.searchsorted(self._ids, image.point_ids))
            for number, image in reconstruction.images.items()
        }

    def observed(self, image_id: int) -> NDArray[np.int64]:
        """Indices of the points that a picture observes, without repeats, ascending."""
        return self._observed[image_id]

    def points(self, image_id: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels (N, 2) at which a picture sees its points, by projection, and their depths (N)."""
        image = self._reconstruction.images[image_id]
        intrinsics = self._reconstruction.cameras[image.camera_id].intrinsics
        world = self._positions[self._observed[image_id]]
        points = world @ image.camera_from_world[:3, :3].T + image.camera_from_world[:3, 3]
        projected = points @ intrinsics.T
        return projected[:, :2] / np.where(np.abs(points[:, 2:]) < 1e-9, 1e-9, points[:, 2:]), points[:, 2]

    def depth_range(self, image_id: int) -> tuple[float, float] | None:
        """Nearest and farthest depth worth looking at; None where too few points say so."""
        _, depths = self.points(image_id)
        depths = depths[depths > 0]
        if len(depths) < FEWEST_POINTS:
            return None
        near, far = np.quantile(depths, RANGE_QUANTILES)
        return float(near / RANGE_MARGIN), float(far * RANGE_MARGIN)

    @cached_property
    def _observers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each point where its observers start, and the observers, point by point."""
        numbers = np.concatenate([np.full(len(seen), number) for number, seen in self._observed.items()] or [[]])
        points = np.concatenate(list(self._observed.values()) or [[]]).astype(np.int64)
        order = np.argsort(points, kind="stable")
        starts = np.searchsorted(points[order], np.arange(len(self._ids) + 1))
        return starts, numbers[order].astype(np.int64)

    def neighbours(self, image_id: int, count: int) -> list[Neighbour]:
        """The pictures worth most for measuring the depth of one, best first, at most `count`."""
        starts, observers = self._observers
        seen = self._observed[image_id]
        others = np.concatenate([observers[starts[point] : starts[point + 1]] for point in seen] or [[]])
        points = np.repeat(seen, starts[seen + 1] - starts[seen]) if len(seen) else seen
        found = []
        for other in np.unique(others).astype(int):
            shared = points[others == other]
            if other != image_id and len(shared) >= FEWEST_POINTS:
                worth = _worth(self._angles(image_id, other, shared)).sum()
                found.append(Neighbour(other, float(worth), len(shared)))
        return sorted(found, key=lambda each: (-each.worth, each.image_id))[:count]

    def _angles(self, first: int, second: int, points: NDArray[np.int64]) -> NDArray[np.float64]:
        """Degrees between the rays from two pictures to points."""
        rays = [self._positions[points] - self._centres[number] for number in (first, second)]
        rays = [ray / np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-12) for ray in rays]
        return np.rad2deg(np.arccos(np.clip((rays[0] * rays[1]).sum(1), -1, 1)))


def _worth(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = np.where(angles <= BEST_ANGLE, *ANGLE_SPREADS)
    return np.exp(-((angles - BEST_ANGLE) ** 2) / (2 * spread**2))
