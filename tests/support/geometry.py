"""Settings and cameras of the tests of pose and homography."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lfnet.evaluation.protocols.estimation import (
    EstimationSettings,
)

FIXED = EstimationSettings(ratio=1.0, threshold=1.0)


def quiet(text: str) -> None:
    """No progress shown."""


def turn(degrees: float, axis: int = 2) -> NDArray[np.float64]:
    """Rotation about an axis."""
    angle = math.radians(degrees)
    others = [index for index in range(3) if index != axis]
    matrix = np.eye(3)
    matrix[np.ix_(others, others)] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return matrix


def motion(rotation: NDArray[np.float64], translation: tuple[float, float, float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix
