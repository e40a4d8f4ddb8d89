"""Poses say where every pixel went: the middle stays, turns are clockwise, smaller pictures are averaged."""

from __future__ import annotations

import numpy as np
import pytest

from lfnet.app.poses import pose_matrix, posed
from lfnet.app.requests import Pose


def test_a_quarter_turn_is_clockwise_and_keeps_the_middle() -> None:
    matrix = pose_matrix((9, 5), Pose(turn=90))
    assert np.allclose(matrix @ [4, 2, 1], [4, 2, 1])
    assert np.allclose(matrix @ [5, 2, 1], [4, 3, 1]), "what was right of the middle is below it"


@pytest.mark.parametrize("pose", [Pose(30, 1.0), Pose(0, 0.5), Pose(-75, 1.7), Pose(160, 0.4)])
def test_a_dot_is_where_the_matrix_says(pose: Pose) -> None:
    picture = np.zeros((201, 301, 3), np.uint8)
    y, x = np.mgrid[:201, :301]
    place = np.array([170.0, 90.0])
    dot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 5.0**2))
    picture[:] = dot[..., None].astype(np.uint8)
    shown = posed(picture, pose)
    weights = shown.pixels[..., 0].astype(np.float64)
    found = np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
    assert np.abs(found - (shown.matrix @ [*place, 1])[:2]).max() < 0.1


def test_only_what_shows_the_picture_is_valid() -> None:
    picture = np.full((60, 80, 3), 200, np.uint8)
    assert posed(picture, Pose()).valid is None
    assert posed(picture, Pose(0, 1.5)).valid is None
    shown = posed(picture, Pose(45, 0.8))
    assert shown.valid is not None
    assert not shown.valid[0, 0]
    assert shown.valid[30, 40]
    assert (shown.pixels[shown.valid] >= 199).all()
