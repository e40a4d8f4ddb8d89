"""Rows of COLMAP's: against pycolmap's own keypoints."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lfnet.features import Features
from lfnet.integrations.colmap_keypoints import from_colmap, to_colmap
from lfnet.integrations.pycolmap_process import has_pycolmap

ASK = """
import sys, numpy, pycolmap
for point in pycolmap.keypoints_from_matrix(numpy.array(eval(sys.argv[1]), numpy.float32)):
    shape = point.a11, point.a12, point.a21, point.a22
    print(point.x, point.y, point.compute_scale(), point.compute_orientation(), *shape)
"""


def some_features() -> Features:
    return Features([[12, 8], [3, 4.5]], [0.75, 2], [-2.5, 3], [0, 0], np.eye(2, 8), (64, 48))


@pytest.mark.parametrize("affine", [False, True])
def test_round_trip(affine: bool) -> None:
    features = some_features()
    rows = to_colmap(features, affine=affine)
    assert rows.shape == (2, 6 if affine else 4)
    back = from_colmap(rows, features.descriptors, (64, 48))
    for name in ("keypoints", "scales", "orientations", "scores", "descriptors"):
        assert np.allclose(getattr(back, name), getattr(features, name), atol=1e-5), name


def test_places_alone_and_wrong_shapes() -> None:
    places = from_colmap([[0.5, 0.5]], np.zeros((1, 4), np.float32), (64, 48))
    assert (places.keypoints.tolist(), places.scales, places.orientations) == ([[0, 0]], [1], [0])
    with pytest.raises(ValueError, match=r"\(N, 2\), \(N, 4\) or \(N, 6\), got \(1, 3\)"):
        from_colmap([[1, 2, 3]], np.zeros((1, 4), np.float32), (64, 48))


def test_pycolmap_means_the_same_by_its_columns() -> None:
    """In a process of its own, since pycolmap does not get along with PyTorch in one."""
    if not has_pycolmap():
        pytest.skip("pycolmap is not installed")
    features = some_features()
    rows = str(to_colmap(features).tolist())
    done = subprocess.run([sys.executable, "-c", ASK, rows], capture_output=True, text=True, check=True)
    theirs = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    assert np.allclose(theirs[:, :4], to_colmap(features), atol=1e-4)
    assert np.allclose(theirs[:, 4:], to_colmap(features, affine=True)[:, 2:], atol=1e-3)
