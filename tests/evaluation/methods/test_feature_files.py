"""Methods whose features stand in files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from lfnet.evaluation.methods.extractors import make_methods, settings_of
from lfnet.evaluation.methods.feature_files import FeatureFile
from lfnet.integrations.hloc import FeatureFileError, write_features
from support.made_features import some_features


def test_features_files_of_anybody(features_file: Path) -> None:
    (method,) = make_methods([str(features_file)])
    assert isinstance(method, FeatureFile)
    assert (method.name, method.most_keypoints) == ("disk", 30)
    whole = some_features(30)
    found = method.features("walk/a.jpg", (200, 100), 10)
    assert len(found) == 10
    assert np.allclose(found.keypoints, whole.top(10).keypoints)
    halved = method.features("walk/a.jpg", (100, 50), 10)
    assert halved.image_size == (100, 50)
    assert np.allclose(halved.keypoints, found.keypoints / 2 - 0.25)
    assert np.allclose(halved.scales, found.scales / 2)
    assert len(method.features("walk/b.jpg", (200, 100), 10)) == 0
    assert method.features("bits.jpg", (200, 100), 10).is_binary
    assert settings_of(method)["order"] == "by score"


def test_names_in_features_files_may_have_another_root(features_file: Path) -> None:
    method = FeatureFile(features_file)
    assert method.find("a.jpg") == "walk/a.jpg"
    assert method.find("data/walk/b.jpg") == "walk/b.jpg"
    with pytest.raises(FeatureFileError, match=r"'b\.jpg' could be any of other/b\.jpg, walk/b\.jpg"):
        method.find("b.jpg")
    for stranger in ("c.jpg", "else/a.jpg"):
        with pytest.raises(FeatureFileError, match=rf"no features of picture '{stranger}'; it has '.*' and so on"):
            method.find(stranger)
    assert method.find("graf/bits.jpg") == method.find("oxford/graf/bits.jpg") == "bits.jpg"
    with pytest.raises(FeatureFileError, match=r"'bits\.jpg' could be 'graf/bits\.jpg' or 'boat/bits\.jpg'"):
        method.find("boat/bits.jpg")
    with pytest.raises(FeatureFileError, match=r"is \(200, 100\) there, 'walk/a\.jpg' is \(100, 200\) here"):
        method.features("walk/a.jpg", (100, 200), 5)
    assert len(method.features("walk/a.jpg", (67, 33), 5)) == 5


def test_features_files_without_scores_keep_their_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        group = file.create_group("a.jpg")
        group["keypoints"] = np.arange(18, dtype=np.float16).reshape(6, 3)
        group["descriptors"] = np.ones((4, 6), np.float16)
        group["image_size"] = np.array([100, 100])
    method = FeatureFile(tmp_path / "plain.h5")
    found = method.features("a.jpg", (100, 100), 2)
    assert found.keypoints.tolist() == [[0, 1], [3, 4]]
    assert (found.scales == 1).all()
    assert "no scores" in settings_of(method)["order"]


def test_damaged_features_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.h5"
    with h5py.File(path, "w") as file:
        write_features(file, "nan.jpg", some_features(4))
        file["nan.jpg/descriptors"][2, 1] = np.nan
        write_features(file, "turned.jpg", some_features(4))
        descriptors = np.asarray(file["turned.jpg/descriptors"]).T
        del file["turned.jpg/descriptors"]
        file["turned.jpg/descriptors"] = descriptors
        write_features(file, "sizeless.jpg", some_features(4))
        del file["sizeless.jpg/image_size"]
        write_features(file, "rotten.jpg", some_features(4))
        del file["rotten.jpg/scores"]
        checked = file.create_dataset("rotten.jpg/scores", data=np.ones(4, np.float32), chunks=(4,), fletcher32=True)
        file.flush()
        place = checked.id.get_chunk_info(0).byte_offset
    with path.open("r+b") as content:
        content.seek(place)
        content.write(b"rot!")
    method = FeatureFile(path)
    for name, message in {
        "nan.jpg": "descriptors hold NaN or infinity",
        "turned.jpg": r"descriptors must have shape \(D, 4\), got \(4, 8\)",
        "sizeless.jpg": "picture 'sizeless.jpg' has no image_size",
        "rotten.jpg": "'rotten.jpg/scores' can't be read",
    }.items():
        with pytest.raises(FeatureFileError, match=message) as caught:
            method.features(name, (200, 100), 4)
        assert "\n" not in str(caught.value)
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(FeatureFileError, match="holds no keypoints"):
        FeatureFile(tmp_path / "empty.h5")
