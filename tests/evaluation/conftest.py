"""A file of features that somebody else made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from lfnet.integrations.hloc import write_features
from support.made_features import some_features


@pytest.fixture
def features_file(tmp_path: Path) -> Path:
    path = tmp_path / "disk.h5"
    with h5py.File(path, "w") as file:
        write_features(file, "walk/a.jpg", some_features(30), half=True)
        write_features(file, "walk/b.jpg", some_features(0))
        write_features(file, "other/b.jpg", some_features(20))
        bits = replace(some_features(5), descriptors=np.arange(40, dtype=np.uint8).reshape(5, 8))
        write_features(file, "bits.jpg", bits)
    return path
