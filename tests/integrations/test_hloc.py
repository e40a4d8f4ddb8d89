"""hloc's files: the layout as hloc reads it, written out with plain h5py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from lfnet.features import Features, Matches
from lfnet.file_matching import MatchSettings, match_feature_file, match_in_batches
from lfnet.files.atomic import replacing, write_bytes
from lfnet.files.hdf5 import PatientFile, replacing_hdf5
from lfnet.integrations import hloc


def some_features(count: int = 5) -> Features:
    generator = np.random.default_rng(0)
    return Features(
        generator.uniform(1500, 3000, (count, 2)),
        generator.uniform(0.5, 2, count),
        generator.uniform(-3, 3, count),
        generator.uniform(0, 1, count),
        generator.normal(size=(count, 8)),
        (4000, 3000),
    )


def test_features_have_the_layout_that_hloc_reads(tmp_path: Path) -> None:
    features = some_features()
    with h5py.File(tmp_path / "f.h5", "w") as file:
        hloc.describe_frame(file)
        hloc.write_features(file, "day/one.jpg", features, uncertainty=2.5)
    with h5py.File(tmp_path / "f.h5", "r") as file:
        group = file["day/one.jpg"]
        assert group["keypoints"].shape == (5, 2)
        assert group["descriptors"].shape == (8, 5)
        assert group["scores"].shape == group["scales"].shape == group["orientations"].shape == (5,)
        assert group["image_size"][()].tolist() == [4000, 3000]
        assert group["keypoints"].attrs["uncertainty"] == 2.5
        assert all(group[key].dtype == np.float32 for key in ("keypoints", "descriptors", "scores"))
        assert np.array_equal(group["keypoints"][()], features.keypoints)
        assert np.allclose(np.radians(group["oris"][()]), features.orientations)
        assert file.attrs["frame"] == b"raw"
        assert hloc.list_names(file) == ["day/one.jpg"]


def test_half_precision_spares_positions(tmp_path: Path) -> None:
    features = some_features()
    with h5py.File(tmp_path / "f.h5", "w") as file:
        hloc.write_features(file, "a.jpg", features, half=True)
        assert file["a.jpg/descriptors"].dtype == file["a.jpg/scores"].dtype == np.float16
    back = hloc.read_features(tmp_path / "f.h5", "a.jpg")
    assert np.array_equal(back.keypoints, features.keypoints)
    assert np.allclose(back.descriptors, features.descriptors, atol=2e-3)
    assert back.descriptors.dtype == np.float32


def test_sigmas_are_there_where_a_method_says_them(tmp_path: Path) -> None:
    features = some_features()
    exact = replace(features, sigmas=np.linspace(0.1, 2, 5))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        hloc.write_features(file, "a.jpg", features)
        hloc.write_features(file, "b.jpg", exact, half=True)
        assert "sigmas" not in file["a.jpg"]
        assert hloc.read_features(file, "a.jpg").sigmas is None
        assert hloc.read_features(file, "b.jpg").sigmas.tolist() == exact.sigmas.tolist()


def test_binary_descriptors_stay_bits(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 256, (1, 32), np.uint8)
    features = Features([[1, 2]], [1], [0], [1], bits, (9, 9))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        hloc.write_features(file, "a.jpg", features, half=True)
    assert np.array_equal(hloc.read_features(tmp_path / "f.h5", "a.jpg").descriptors, bits)


def test_files_of_other_extractors_can_be_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a.jpg/keypoints"] = np.ones((3, 2), np.float16)
        file["a.jpg/descriptors"] = np.ones((256, 3), np.float16)
        file["a.jpg/image_size"] = np.array([640, 480])
    features = hloc.read_features(tmp_path / "f.h5", "a.jpg")
    assert features.scales.tolist() == [1, 1, 1]
    assert features.orientations.tolist() == [0, 0, 0]
    assert features.descriptors.shape == (3, 256)


def test_degrees_of_other_extractors_are_orientations(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        hloc.write_features(file, "a.jpg", some_features())
        del file["a.jpg/orientations"]
    assert np.allclose(hloc.read_features(tmp_path / "f.h5", "a.jpg").orientations, some_features().orientations)


def test_pairs_are_named_as_hloc_names_them() -> None:
    assert hloc.names_to_pair("day/a.jpg", "night/b.jpg") == "day-a.jpg/night-b.jpg"


def test_matches_come_back_either_way_round(tmp_path: Path) -> None:
    matches = Matches([[0, 3], [2, 1]], [0.5, 0.75])
    with h5py.File(tmp_path / "m.h5", "w") as file:
        hloc.write_matches(file, "x/a", "b", matches, 4)
        assert file["x-a/b/matches0"][()].tolist() == [3, -1, 1, -1]
        assert file["x-a/b/matching_scores0"][()].tolist() == [0.5, 0, 0.75, 0]
        with pytest.raises(hloc.FeatureFileError, match="two pairs have this name"):
            hloc.write_matches(file, "x-a", "b", matches, 4)
    assert hloc.read_matches(tmp_path / "m.h5", "x/a", "b").indices.tolist() == [[0, 3], [2, 1]]
    assert hloc.read_matches(tmp_path / "m.h5", "b", "x/a").indices.tolist() == [[3, 0], [1, 2]]
    with pytest.raises(hloc.FeatureFileError, match="no pair of 'a' and 'c'"):
        hloc.read_matches(tmp_path / "m.h5", "a", "c")


def test_a_list_of_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("# frames\na.jpg b.jpg\n\nb.jpg a.jpg\nb.jpg c.jpg\n")
    assert hloc.read_pairs(path) == [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]
    path.write_text("a.jpg b.jpg 0.7\n")
    with pytest.raises(hloc.FeatureFileError, match="line 1 has 3 words"):
        hloc.read_pairs(path)
    with pytest.raises(hloc.FeatureFileError, match="no such file"):
        hloc.read_pairs(tmp_path / "none.txt")
    hloc.write_pairs(path, [("a 1.jpg", "b.jpg"), ("a#2.jpg", "b.jpg")])
    assert hloc.read_pairs(path) == [("a 1.jpg", "b.jpg"), ("a#2.jpg", "b.jpg")]
    for name in ("#1.jpg", 'a".jpg', "a\tb.jpg", "a\nb.jpg"):
        with pytest.raises(hloc.FeatureFileError, match="can't hold the name"):
            hloc.write_pairs(path, [(name, "2.jpg")])


def test_what_is_no_features_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(hloc.FeatureFileError, match="not an HDF5 file"):
        hloc.read_features(tmp_path / "text.h5", "a")
    with pytest.raises(hloc.FeatureFileError, match="no such file"):
        hloc.read_features(tmp_path / "none.h5", "a")
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(hloc.FeatureFileError, match=r"empty\.h5: no features of picture 'a'"):
        hloc.read_features(tmp_path / "empty.h5", "a")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    write_bytes(path, b"old")

    def fail_midway() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["a.bin"]
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_hdf5_on_the_patient_file_is_plain_hdf5(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 70))
    path = tmp_path / "a.h5"
    with replacing_hdf5(path) as (file, _):
        for index in range(40):
            file[f"group{index}/values"] = values + index
    with replacing_hdf5(path, path) as (file, _):
        file["more"] = values
    with h5py.File(path, "r") as file:
        assert len(file) == 41
        assert np.array_equal(file["group39/values"][()], values + 39)
        assert np.array_equal(file["more"][()], values)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, on which every write fails")
def test_the_patient_file_keeps_what_a_full_disk_refuses() -> None:
    with PatientFile(Path("/dev/full"), Path("wanted.h5")) as file:
        file.check()
        file.seek(10)
        assert file.write(b"hello") == 5
        file.seek(12)
        assert file.read(3) == b"llo"
        assert file.seek(0, 2) >= 15
        with pytest.raises(OSError, match=r"No space left on device: 'wanted\.h5'"):
            file.check()


@pytest.mark.parametrize("alias", ["./day/one.jpg", "/day/one.jpg", "day//one.jpg", "day", "day/one.jpg/keypoints"])
def test_hdf5s_other_ways_to_a_picture_are_no_names(alias: str, tmp_path: Path) -> None:
    features, pairs = tmp_path / "f.h5", [(alias, "two.jpg")]
    with h5py.File(features, "w") as file:
        hloc.write_features(file, "day/one.jpg", some_features())
        hloc.write_features(file, "two.jpg", some_features())
        if alias not in ("day", "day/one.jpg/keypoints"):
            with pytest.raises(hloc.FeatureFileError, match=r"name it 'day/one\.jpg'"):
                hloc.write_features(file, alias, some_features())
    with pytest.raises(hloc.FeatureFileError, match="no features of picture"):
        hloc.read_features(features, alias)
    for match in (match_feature_file, match_in_batches):
        with pytest.raises(hloc.FeatureFileError, match="1 pictures of the list are not in it"):
            match(features, pairs, tmp_path / "m.h5", MatchSettings())
    assert not (tmp_path / "m.h5").exists()


def test_matches_of_other_programs(tmp_path: Path) -> None:
    """Without scores, and under the names of hloc's first release."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["a.jpg/b.jpg/matches0"] = np.array([1, -1, 0], np.int16)
        file["day-c.jpg_d.jpg/matches0"] = np.array([-1, 2])
        file["day-c.jpg_d.jpg/matching_scores0"] = np.array([0, 0.5])
        file["e/f/matches0"] = np.array([0.5])
        file["e/g/matches0"] = np.array([0])
        file["e/g/matching_scores0"] = np.array([0.5, 1])
    assert hloc.read_matches(path, "a.jpg", "b.jpg").indices.tolist() == [[0, 1], [2, 0]]
    assert hloc.read_matches(path, "a.jpg", "b.jpg").scores.tolist() == [1, 1]
    assert hloc.read_matches(path, "d.jpg", "day/c.jpg").indices.tolist() == [[2, 1]]
    with pytest.raises(hloc.FeatureFileError, match=r"m\.h5: pair 'e/f': matches0 must be integers"):
        hloc.read_matches(path, "e", "f")
    with pytest.raises(hloc.FeatureFileError, match=r"m\.h5: pair 'e/g': matching_scores0 must have shape"):
        hloc.read_matches(path, "e", "g")


def test_one_bad_picture_is_named_with_its_data_set(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        hloc.write_features(file, "good.jpg", some_features())
        hloc.write_features(file, "bad.jpg", some_features())
        del file["bad.jpg/scores"]
        file["bad.jpg/scores"] = np.array(["high"] * 5, "S4")
    with pytest.raises(hloc.FeatureFileError, match=r"f\.h5: 'bad\.jpg/scores' is no data set of numbers"):
        match_feature_file(path, [("good.jpg", "bad.jpg")], tmp_path / "m.h5", MatchSettings())
