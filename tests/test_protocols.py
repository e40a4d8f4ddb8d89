"""Protocols on real pictures with RootSIFT, and the methods behind them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lfnet.evaluation.baselines import LFNetExtractor, OpenCVExtractor, make_extractors, root_normalised
from lfnet.evaluation.homographies import (
    HomographySets,
    HomographySettings,
    evaluate_homographies,
    read_matrix,
)
from lfnet.evaluation.protocols import ProtocolSettings, extract_from, strongest_apart
from lfnet.evaluation.sequence import Sequence, SequenceSettings, evaluate_sequence, sequence_pairs
from lfnet.evaluation.stereo import evaluate_stereo, indexed_by_left, motorcycle, photo_error
from lfnet.evaluation.views import Variant, beyond_reach, transform_image
from lfnet.features import Features

SMALL = ProtocolSettings(max_keypoints=200, turns=(0, 90), zooms=(0.5,))
ROOTSIFT = [OpenCVExtractor("rootsift")]


@pytest.mark.parametrize("name", ["sift", "rootsift", "orb"])
def test_opencv_features_fill_their_budget(name: str, camera: np.ndarray) -> None:
    found = OpenCVExtractor(name)(camera, max_keypoints=150)
    assert 140 <= len(found) <= 150, "ORB shares its budget among octaves, not all of which fill theirs"
    assert len(found) == 150 or name == "orb"
    assert (np.diff(found.scores) <= 0).all()
    assert found.descriptors.dtype == (np.uint8 if name == "orb" else np.float32)
    mask = np.zeros(camera.shape, bool)
    mask[:, :120] = True
    inside = OpenCVExtractor(name)(camera, max_keypoints=60, mask=mask)
    assert 50 <= len(inside) <= 60
    assert inside.keypoints[:, 0].max() < 120.5
    assert len(OpenCVExtractor(name)(np.full((80, 90), 7, np.uint8), max_keypoints=10)) == 0


def test_sift_takes_the_strongest_as_opencv_does(camera: np.ndarray) -> None:
    ours = OpenCVExtractor("sift")(camera, max_keypoints=100)
    theirs = cv2.SIFT.create(nfeatures=100, contrastThreshold=1e-5).detect(camera, None)
    weakest = min(point.response for point in theirs)
    assert ours.scores.min() == pytest.approx(weakest)
    assert {tuple(np.round(point.pt, 2)) for point in theirs} >= {
        tuple(np.round(p, 2)) for p in ours.keypoints.tolist()
    }


def test_root_descriptors_have_unit_length() -> None:
    raw = np.array([[4.0, 0, 12], [0, 0, 0]])
    assert np.allclose(root_normalised(raw), [[0.5, 0, np.sqrt(0.75)], [0, 0, 0]])


def test_orientation_of_opencv_keypoints_turns_clockwise(camera: np.ndarray) -> None:
    settings = ProtocolSettings(max_keypoints=200)
    upright = extract_from(ROOTSIFT[0], transform_image(camera, Variant()), settings)
    view = transform_image(camera, Variant(degrees=90))
    turned = extract_from(ROOTSIFT[0], view, settings)
    bias = 0.25  # of OpenCV's SIFT, which doubles a picture but not its pixel centres.
    places = np.c_[upright.keypoints - bias, np.ones(len(upright))] @ view.from_base.T
    distances = np.linalg.norm(places[:, None, :2] - (turned.keypoints[None] - bias), axis=-1)
    same = distances.min(axis=1) < 0.2
    assert same.sum() > 50
    change = turned.orientations[distances.argmin(axis=1)] - upright.orientations - np.pi / 2
    assert np.median(np.abs(np.angle(np.exp(1j * change[same])))) < 0.05


def test_no_method_loses_budget_to_corners(camera: np.ndarray) -> None:
    view = transform_image(camera, Variant(degrees=30))
    found = extract_from(ROOTSIFT[0], view, ProtocolSettings(max_keypoints=120))
    assert len(found) == 120
    assert beyond_reach(found.keypoints, view.valid, 32).all()
    everything = extract_from(ROOTSIFT[0], view, ProtocolSettings(max_keypoints=100_000))
    assert 120 < len(everything) < 100_000
    assert np.allclose(everything.top(120).scores, found.scores)


def test_lfnet_is_a_method_like_others(tiny_weights: Path, camera: np.ndarray) -> None:
    extractor = LFNetExtractor.from_weights(str(tiny_weights))
    assert extractor.name == "tiny"
    view = transform_image(camera, Variant(degrees=30))
    found = extract_from(extractor, view, ProtocolSettings(max_keypoints=50))
    assert isinstance(found, Features)
    assert 0 < len(found) <= 50
    assert beyond_reach(found.keypoints, view.valid, 32).all()


def test_two_methods_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="twice: sift"):
        make_extractors(["sift", "orb", "sift"])


def test_stereo_disparity_belongs_to_the_left_picture() -> None:
    pytest.importorskip("skimage")
    stereo = motorcycle()
    error = photo_error(stereo.left, stereo.right, stereo.disparity)
    assert error < 0.6 * photo_error(stereo.right[:, ::-1], stereo.left[:, ::-1], stereo.disparity[:, ::-1])
    swapped = indexed_by_left(stereo.right, stereo.left, stereo.disparity)
    assert np.array_equal(swapped.left, stereo.left)
    with pytest.raises(ValueError, match="explains neither"):
        indexed_by_left(stereo.left, stereo.right, np.full_like(stereo.disparity, 200.0))


def test_stereo_protocol_scores_rootsift_as_expected() -> None:
    pytest.importorskip("skimage")
    results = evaluate_stereo(ROOTSIFT, ProtocolSettings(max_keypoints=256, turns=(0, 90)))
    upright, turned = (results.mean("matching_score@5", "rootsift", name) for name in ("turn000", "turn090"))
    assert 0.4 < upright < 0.8
    assert turned == pytest.approx(upright, abs=0.06)
    assert results.mean("localisation_error", "rootsift", "turn000") < 1.5
    assert results.seconds["rootsift"] > 0


def test_sequence_protocol_on_hololens(shared_data: Path) -> None:
    folder = shared_data / "rgbd" / "hololens"
    pairs = SequenceSettings(frames=(290, 320), gaps=(4, 8), max_pairs=3)
    results = evaluate_sequence(folder, ROOTSIFT, pairs, SMALL)
    assert results.settings["pairs"] == 3
    assert results.variants() == ["turn000", "turn090", "zoom0.5"]
    assert len(results.rows) == 9
    upright, turned = (results.mean("matching_score@5", "rootsift", name) for name in ("turn000", "turn090"))
    assert 0.1 < upright < 0.6
    assert turned == pytest.approx(upright, abs=0.1)
    assert results.mean("repeatability@5", "rootsift", "turn000") >= upright


def test_sequence_pairs_see_each_other(shared_data: Path) -> None:
    sequence = Sequence(shared_data / "rgbd" / "hololens", (480, 320))
    some = sequence_pairs(sequence, SequenceSettings(frames=(290, 310), gaps=(1,), min_overlap=0.1))
    fewer = sequence_pairs(sequence, SequenceSettings(frames=(290, 310), gaps=(1,), min_overlap=0.4))
    assert 0 < len(fewer) < len(some) <= 19
    with pytest.raises(ValueError, match="has 373 pictures"):
        sequence_pairs(sequence, SequenceSettings(frames=(290, 400)))


def test_homography_protocol_falls_with_viewpoint(shared_data: Path) -> None:
    folder = shared_data / "homography" / "oxford"
    sets = HomographySets(folder, HomographySettings(long_side=320))
    assert sets.scenes == ["bark", "boat", "graf", "leuven", "ubc", "wall"]
    settings = ProtocolSettings(max_keypoints=256, turns=(0,))
    results = evaluate_homographies(folder, ROOTSIFT, HomographySettings(long_side=320), settings)
    by_pair = {row.pair: row.metrics["matching_score@5"] for row in results.rows}
    assert len(by_pair) == 30
    assert by_pair["graf 1-2"] > by_pair["graf 1-4"] > by_pair["graf 1-6"]
    assert by_pair["boat 1-2"] > by_pair["boat 1-6"]


def test_matrix_files(tmp_path: Path) -> None:
    storage = cv2.FileStorage(str(tmp_path / "H.xml"), cv2.FILE_STORAGE_WRITE)
    storage.write("H12", np.diag([1.0, 2.0, 3.0]))
    storage.release()
    assert np.array_equal(read_matrix(tmp_path / "H.xml"), np.diag([1.0, 2.0, 3.0]))
    (tmp_path / "text.xml").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.xml"):
        read_matrix(tmp_path / "text.xml")
    with pytest.raises(ValueError, match="H1to2p"):
        HomographySets(tmp_path, HomographySettings())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sequence", "nowhere", "--methods", "orb"], "nowhere"),
        (["homographies", "nowhere", "--methods", "orb"], "nowhere"),
        (["stereo", "--methods", "orb", "--output", "nowhere/x.json"], "nowhere"),
        (["stereo", "--methods", "orb", "--output", "x.txt"], ".json"),
        (["stereo", "--methods", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_wrong_use_is_one_line(run_lfnet, tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = run_lfnet("evaluate", *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


def test_settings_that_make_no_sense_are_wrong_usage(run_lfnet) -> None:
    done = run_lfnet("evaluate", "stereo", "--methods", "orb", "--zooms", "-1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "zooms must be positive" in " ".join(done.stderr.split())


def test_evaluate_as_a_user_runs_it(run_lfnet, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    output = tmp_path / "results.json"
    done = run_lfnet(
        "evaluate", "stereo", "--methods", "rootsift", "orb", "--turns", "0", "90", "--max-keypoints", "128",
        "--threads", "1", "--output", output,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| orb" in done.stdout
    assert "ratio to rootsift" in done.stdout
    written = json.loads(output.read_text())
    assert {row["method"] for row in written["rows"]} == {"rootsift", "orb"}
    assert written["environment"]["threads_opencv"] == "1"
    assert output.with_suffix(".md").read_text().strip() in done.stdout


def test_a_place_found_twice_counts_once() -> None:
    places = np.array([[10.0, 10.0], [11.0, 10.0], [12.5, 10.0], [30.0, 5.0]])
    scores = np.array([0.5, 0.9, 0.4, 0.1])
    features = Features(places, np.ones(4), np.zeros(4), scores, np.eye(4), (64, 64))
    assert strongest_apart(features, 2.0).tolist() == [1, 3]
    assert strongest_apart(features, 1.2).tolist() == [1, 2, 3]
    assert strongest_apart(features, 0.0).tolist() == [0, 1, 2, 3]


def test_weights_of_one_name_are_told_apart_by_their_folders(tiny_weights: Path, tmp_path: Path) -> None:
    paths = [tmp_path / run / "best.safetensors" for run in ("tuned", "scratch")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(tiny_weights.read_bytes())
    made = make_extractors(["orb", *map(str, paths)])
    assert [extractor.name for extractor in made] == ["orb", "tuned/best", "scratch/best"]
    with pytest.raises(ValueError, match="got twice: tuned/best"):
        make_extractors([str(paths[0]), str(paths[0])])
