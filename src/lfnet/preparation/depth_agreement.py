"""Depth maps against the sparse points of their reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfnet.data.reconstructions.colmap_model import Reconstruction
from lfnet.preparation.view_selection import SparseGeometry
from lfnet.progress import Counter


@dataclass(frozen=True)
class Agreement:
    """Depth maps against the sparse points of the reconstruction."""

    maps: int
    completeness: float
    """Mean share of a map's pixels that have depth."""
    points: int
    """Sparse points at pixels that have depth."""
    coverage: float
    """Share of all sparse points that are."""
    median_error: float
    """Of the relative difference of depth there."""
    within_1_percent: float
    within_5_percent: float


def measure_agreement(
    reconstruction: Reconstruction,
    read_map: Callable[[int], NDArray[np.float32] | None],
    progress: Counter | None = None,
) -> Agreement:
    """Compare the depth of every view with that of the sparse points it observes, at the pixel nearest to each.

    Args:
        reconstruction: with observations.
        read_map: depth of an image by its number; None where it has none.
    """
    geometry = SparseGeometry(reconstruction)
    errors, shares, points = [], [], 0
    numbers = sorted(reconstruction.images)
    for done, number in enumerate(numbers):
        if progress is not None:
            progress(done, len(numbers))
        depth = read_map(number)
        if depth is None:
            continue
        shares.append(float((depth > 0).mean()))
        pixels, z = geometry.points(number)
        places = np.rint(pixels).astype(int)
        inside = (z > 0) & (places >= 0).all(1) & (places < (depth.shape[1], depth.shape[0])).all(1)
        found = depth[places[inside, 1], places[inside, 0]]
        known = found > 0
        points += int(inside.sum())
        errors.append(np.abs(found[known] - z[inside][known]) / z[inside][known])
    error = np.concatenate(errors) if errors else np.zeros(0)
    if not len(error):
        return Agreement(len(shares), float(np.mean(shares or [0])), 0, 0.0, float("nan"), 0.0, 0.0)
    return Agreement(
        maps=len(shares),
        completeness=float(np.mean(shares)),
        points=len(error),
        coverage=len(error) / points,
        median_error=float(np.median(error)),
        within_1_percent=float((error < 0.01).mean()),
        within_5_percent=float((error < 0.05).mean()),
    )
