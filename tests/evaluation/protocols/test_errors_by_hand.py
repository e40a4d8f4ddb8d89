"""Errors of pose and homography, worked by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.evaluation.protocols.estimation import (
    area_under_recall,
)
from lfnet.evaluation.protocols.homography import corner_error, transfer_errors
from lfnet.evaluation.protocols.pose import pose_errors, rotation_error
from lfnet.matching_score import share_within
from support.geometry import motion, turn


@pytest.mark.parametrize("degrees", [0.0, 1e-7, 0.1, 30.0, 90.0, 179.0, 180.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_error_is_the_angle(degrees: float, axis: int) -> None:
    base = turn(40, 0) @ turn(25, 1)
    assert rotation_error(turn(degrees, axis) @ base, base) == pytest.approx(degrees, rel=1e-6, abs=1e-9)
    assert rotation_error(base, turn(degrees, axis) @ base) == pytest.approx(degrees, rel=1e-6, abs=1e-9)


def test_pose_errors_by_hand() -> None:
    truth = motion(turn(10), (0.0, 0.0, 2.0))
    assert pose_errors(turn(10), np.array([0, 0, 7.0]), truth) == pytest.approx((0, 0), abs=1e-9)
    assert pose_errors(turn(13), np.array([0, 1.0, 1.0]), truth) == pytest.approx((3, 45))
    assert pose_errors(turn(10), np.array([0, 0, -1.0]), truth)[1] == pytest.approx(0), "the sign is not known"
    assert pose_errors(turn(10), np.array([0, 1.0, -1.0]), truth)[1] == pytest.approx(45)
    assert pose_errors(turn(10), np.array([1.0, 0, 0]), truth)[1] == pytest.approx(90)
    still = motion(turn(10), (0.0, 0.0, 0.0))
    assert pose_errors(turn(12), np.array([1.0, 0, 0]), still) == pytest.approx((2, 0)), "no baseline, no direction"


def slow_area(errors: NDArray[np.float64], threshold: float) -> float:
    """Exact integral of the steps of recall: between two errors, as wide as they are apart."""
    stops = sorted({0.0, threshold, *(error for error in errors if error < threshold)})
    area = 0.0
    for low, high in pairwise(stops):
        area += (high - low) * sum(error <= low for error in errors) / len(errors)
    return area / threshold


def slanted_area(errors: NDArray[np.float64], threshold: float) -> float:
    """As SuperGlue takes it: straight lines from step to step."""
    known = np.concatenate([[0.0], np.sort(errors)])
    recall = np.arange(len(known)) / len(errors)
    last = int(np.searchsorted(known, threshold))
    heights = np.concatenate([recall[:last], [recall[last - 1]]])
    places = np.concatenate([known[:last], [threshold]])
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(places)).sum() / threshold)


@pytest.mark.parametrize("count", [1, 7, 200])
@pytest.mark.parametrize("threshold", [5.0, 10.0, 20.0])
def test_area_under_recall_is_the_exact_integral(count: int, threshold: float) -> None:
    generator = np.random.default_rng(count)
    errors = generator.gamma(1.0, 8.0, count)
    errors[generator.random(count) < 0.2] = np.inf
    exact = area_under_recall(errors, threshold)
    assert exact == pytest.approx(slow_area(errors, threshold))
    assert exact <= slanted_area(errors, threshold) <= exact + 1 / (2 * count) + 1e-12


def test_area_under_recall_by_hand() -> None:
    assert area_under_recall([0.0], 5) == 1
    assert area_under_recall([2.5], 5) == 0.5
    assert area_under_recall([1.0, 4.0, 7.0, np.inf], 5) == pytest.approx((0.8 + 0.2) / 4)
    assert slanted_area(np.array([2.5]), 5) == 0.75, "half a step more than the recall of the one error there is"
    assert math.isnan(area_under_recall([], 5))


def test_corner_error_by_hand() -> None:
    size = (101, 51)
    assert corner_error(np.eye(3), np.eye(3), size) == 0
    shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert corner_error(shift, np.eye(3), size) == pytest.approx(5)
    assert corner_error(-2 * shift, np.eye(3), size) == pytest.approx(5), "known up to scale and sign"
    zoom = np.diag([1.1, 1.0, 1.0])
    assert corner_error(zoom, np.eye(3), size) == pytest.approx((0 + 10 + 10 + 0) / 4)
    beyond = np.array([[1.0, 0, 0], [0, 1, 0], [-0.015, 0, 1]])
    assert corner_error(beyond, np.eye(3), size) == math.inf
    assert corner_error(np.zeros((3, 3)), np.eye(3), size) == math.inf


def test_matching_accuracy_by_hand() -> None:
    shift = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
    points_a = np.array([[0.0, 0], [1, 1], [2, 2], [3, 3]])
    points_b = np.array([[10.0, 0], [11, 3], [12, 7], [99, 3]])
    errors = transfer_errors(shift, points_a, points_b)
    np.testing.assert_allclose(errors, [0, 2, 5, 86])
    assert share_within(errors, (1, 2, 5)) == {1.0: 0.25, 2.0: 0.5, 5.0: 0.75}
    assert share_within(np.zeros(0), (1,)) == {1.0: 0.0}
    beyond = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 1]])
    assert transfer_errors(beyond, np.array([[2.0, 0]]), np.array([[0.0, 0]])).tolist() == [math.inf]
