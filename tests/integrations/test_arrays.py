"""Features as a dictionary of arrays, and as rows of COLMAP's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lfnet.features import Features
from lfnet.integrations.arrays import from_arrays, to_arrays

FIELDS = ("keypoints", "scales", "orientations", "scores", "descriptors")


def some_features() -> Features:
    return Features([[1, 2], [3, 4.5]], [1, 0.5], [3, -1], [0.5, 0.25], np.eye(2, 8), (64, 48))


@pytest.mark.parametrize("sigmas", [None, [0.25, 2.0]])
def test_an_npz_keeps_everything(tmp_path: Path, sigmas: list[float] | None) -> None:
    features = replace(some_features(), sigmas=sigmas)
    np.savez(tmp_path / "a.npz", **to_arrays(features))
    with np.load(tmp_path / "a.npz") as file:
        back = from_arrays(file)
    assert all(np.array_equal(getattr(back, name), getattr(features, name)) for name in FIELDS)
    assert back.image_size == (64, 48)
    assert (back.sigmas is None) == (sigmas is None)
    assert sigmas is None or back.sigmas.tolist() == sigmas


def test_three_arrays_are_enough() -> None:
    arrays = {"keypoints": [[1, 2]], "descriptors": [[0.5, 0.5]], "image_size": [64, 48]}
    features = from_arrays(arrays)
    assert (features.scales, features.orientations, features.scores) == ([1], [0], [0])
    del arrays["image_size"]
    with pytest.raises(ValueError, match="image_size missing"):
        from_arrays(arrays)
