"""Parts of a features file that somebody removes are missed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lfnet.feature_store import FeatureStore
from lfnet.features import Features
from lfnet.integrations import hloc


def test_parts_removed_during_a_run_are_no_success(tmp_path: Path) -> None:
    one = Features([[1, 2]], [1], [0], [1], np.eye(1, 4), (8, 8))
    output = tmp_path / "f.h5"
    store = FeatureStore(output, "{}")
    store.add([("a.jpg", one, 1.0)])
    shutil.rmtree(store.folder)
    store.add([("b.jpg", one, 1.0)])
    with pytest.raises(hloc.FeatureFileError, match="1 of 2 parts were removed while this ran; run the same command"):
        store.join()
    again = FeatureStore(output, "{}")
    assert again.names() == {"b.jpg"}
    again.add([("a.jpg", one, 1.0)])
    again.join()
    assert FeatureStore(output, "{}").names() == {"a.jpg", "b.jpg"}
    assert [path.name for path in tmp_path.iterdir()] == ["f.h5"]
