"""OpenSfM's feature files: the layout, read back without this package's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.integrations.opensfm import read_opensfm, write_opensfm


def some_features() -> Features:
    corners = [[-0.5, -0.5], [299.5, 199.5], [149.5, 99.5], [20.0, 30.0]]
    return Features(corners, [1, 2, 0.5, 1], [0, 3, -3, 1], np.zeros(4), np.eye(4, 16), (300, 200))


def test_the_file_is_what_opensfm_reads(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    """opensfm/features.py: version 3, loaded without pickles; coordinates as its documentation defines them."""
    features = some_features()
    path = tmp_path / "features" / "coffee.jpg.features.npz"
    write_opensfm(path, features, coffee)
    with np.load(path, allow_pickle=False) as file:
        assert file["OPENSFM_FEATURES_VERSION"] == 3
        assert len(file["segmentations"]) == len(file["instances"]) == len(file["segmentation_labels"]) == 0
        points = file["points"]
        assert (points.dtype, points.shape) == (np.float32, (4, 4))
        assert np.allclose(points[:3, :2], [[-0.5, -1 / 3], [0.5, 1 / 3], [0, 0]], atol=1e-6)
        assert np.allclose(points[:, 2], np.array([1, 2, 0.5, 1]) * 32 / 6 / 300)
        assert np.allclose(points[:, 3], [0, np.degrees(3), 360 - np.degrees(3), np.degrees(1)], atol=1e-3)
        assert file["descriptors"].dtype == np.float32
        assert file["colors"][3].tolist() == coffee[30, 20].tolist()


def test_round_trip(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    features = some_features()
    write_opensfm(tmp_path / "a.npz", features, coffee[:, :, 0])
    back = read_opensfm(tmp_path / "a.npz", (300, 200))
    for name in ("keypoints", "scales", "orientations", "descriptors"):
        assert np.allclose(getattr(back, name), getattr(features, name), atol=1e-4), name
    with pytest.raises(ValueError, match="expected 300x200 px, got 100x200"):
        write_opensfm(tmp_path / "a.npz", features, coffee[:, :100])
    (tmp_path / "b.npz").write_text("no archive")
    with pytest.raises(UserError, match=r"b\.npz: not a features file of OpenSfM"):
        read_opensfm(tmp_path / "b.npz", (300, 200))
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(UserError, match=r"b\.npz: not a features file of OpenSfM"):
        read_opensfm(tmp_path / "b.npz", (300, 200))
    with pytest.raises(UserError, match="no such file"):
        read_opensfm(tmp_path / "c.npz", (300, 200))
