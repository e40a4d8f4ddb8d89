"""What of a depth map other views confirm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.geometry.depth import DepthView, sample_depth
from lfnet.settings import ConfigError


@dataclass(frozen=True)
class ConsistencySettings:
    """When two views confirm each other."""

    pixels: float = 1.5
    """Farthest that a pixel may land from itself, there by its own depth and back by the other view's, px."""
    depth: float = 0.01
    """Largest relative difference of the two depths."""
    views: int = 2
    """How many others must confirm a pixel, where there are that many."""
    speckle: int = 60
    """Smaller patches of connected depth are dropped, px."""

    def __post_init__(self) -> None:
        if self.views < 1 or not self.pixels > 0 or not self.depth > 0:
            raise ConfigError("depth.consistency: expected at least 1 view, and pixels and depth above 0")


def confirmations(view: DepthView, others: Sequence[DepthView], settings: ConsistencySettings) -> NDArray[np.uint8]:
    """How many of the other views confirm each pixel: (H, W).

    A pixel goes to the other view by its own depth, and returns by the depth found there; both the place and the
    depth must be what they were.
    """
    height, width = view.depth.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    points = np.stack((x.ravel(), y.ravel(), np.ones(x.size)))
    depth = view.depth.ravel().astype(np.float64)
    rays = np.linalg.inv(view.intrinsics) @ points
    count = np.zeros(depth.shape, np.uint8)
    for other in others:
        there = other.camera_from_world @ np.linalg.inv(view.camera_from_world)
        moved = there[:3, :3] @ (rays * depth) + there[:3, 3:]
        landed, z = _project(other.intrinsics, moved)
        found = sample_depth(other.depth, landed.T)
        back = np.linalg.inv(there)
        returned = back[:3, :3] @ (np.linalg.inv(other.intrinsics) @ _homogeneous(landed) * found) + back[:3, 3:]
        home, z_home = _project(view.intrinsics, returned)
        near = np.hypot(home[0] - points[0], home[1] - points[1]) <= settings.pixels
        alike = np.abs(z_home - depth) <= settings.depth * depth
        count += ((depth > 0) & (z > 0) & (found > 0) & near & alike).astype(np.uint8)
    return count.reshape(height, width)


def drop_speckles(depth: NDArray[np.float32], size: int, step: float = 0.02) -> NDArray[np.float32]:
    """The depth map without patches of fewer than `size` pixels; neighbours that differ by more than the relative
    `step` don't belong together."""
    known = depth > 0
    if size <= 0 or not known.any():
        return depth
    # Equal ratios of depth become equal steps of the 16-bit picture that OpenCV labels.
    logarithm = np.zeros(depth.shape, np.float32)
    logarithm[known] = np.log(depth[known])
    low, high = logarithm[known].min(), logarithm[known].max()
    unit = max((high - low) / 30000, np.log1p(step) / 64)
    labels = np.where(known, (logarithm - low) / unit + 1, 0).astype(np.int16)
    cv2.filterSpeckles(labels, 0, size - 1, np.log1p(step) / unit)
    return np.where(labels > 0, depth, 0).astype(np.float32)


def _project(
    intrinsics: NDArray[np.float64], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    z = points[2]
    image = intrinsics @ points
    return image[:2] / np.where(np.abs(z) < 1e-9, 1e-9, z), z


def _homogeneous(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate((points, np.ones((1, points.shape[1]))))
