"""Recordings, scenes and collections: what is chosen of them, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.data.frames import Frame
from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.scenes.scene import depth_path
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import KINDS, open_data
from lfnet.evaluation.data.measured_frames import MeasuredFrames, evenly
from lfnet.evaluation.feature_source import FeatureSource
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.matching import MatchingSettings, measure_matching
from lfnet.images import read_grey, read_image
from support.made_scenes import make_own_scene
from support.made_sets import COUNT, assert_truth_and_pose_agree, model_of, write_pictures
from support.rendered_photos import RenderedView

pytestmark = pytest.mark.slow


def test_frames_are_in_colour_and_their_grey_is_that_of_pictures(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    Image.fromarray(coffee).save(tmp_path / "coffee.png")
    size = (coffee.shape[1], coffee.shape[0])
    frame = Frame("coffee.png", size, np.eye(3), np.eye(4), lambda: read_image(tmp_path / "coffee.png"), None)
    assert np.array_equal(frame.read_image(), coffee)
    assert np.array_equal(frame.read_grey(), read_grey(tmp_path / "coffee.png"))


def test_a_picture_of_another_size_than_its_camera_is_refused() -> None:
    frame = Frame("a.png", (64, 48), np.eye(3), np.eye(4), lambda: np.zeros((40, 64), np.uint8), None)
    with pytest.raises(ValueError, match=r"a\.png: 64x40 pixels, but its camera has 64x48"):
        MeasuredFrames([frame], 640).load("a.png")


def test_evenly_spread() -> None:
    assert evenly(range(5), 5) == [0, 1, 2, 3, 4]
    assert evenly(range(9), 3) == [2, 4, 6]


def test_settings_that_make_no_sense() -> None:
    for wrong, message in (
        ({"long_side": 10}, "long_side must be at least 64"),
        ({"max_pairs": 0}, "max_pairs must be at least 1"),
        ({"frames": (5, 5)}, "ascending"),
        ({"gaps": ()}, "gaps must be at least 1"),
        ({"min_overlap": 1.0}, "min_overlap"),
        ({"stretch": 0}, "stretch"),
        ({"split": "test"}, "split must be validation or training, got 'test'"),
        ({"thresholds": (0.0,)}, "thresholds must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            DataSettings(**wrong)  # type: ignore[arg-type]


def test_what_is_no_data_is_told_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such file or folder"):
        open_data(tmp_path / "nowhere", DataSettings())
    with pytest.raises(ValueError, match="looks like no data that can be measured on") as caught:
        open_data(tmp_path, DataSettings())
    assert all(kind.expects in str(caught.value) for kind in KINDS)
    assert "\n" not in str(caught.value)


def test_recordings_are_paired_by_gap(recording: Path) -> None:
    settings = DataSettings(long_side=200, gaps=(1, 3), min_overlap=0.1, stretch=2, max_pairs=5)
    dataset = open_data(recording, settings, "walking")
    assert (dataset.name, dataset.kind, dataset.unit) == ("walking", "recording", "stretches of frames")
    assert dataset.thresholds == (5.0,)
    assert [pair.subset for pair in dataset.pairs] == ["gap 1"] * 3 + ["gap 3"] * 2
    assert dataset.pairs[0].name == "photo0.png - photo1.png" or dataset.pairs[0].picture_b == "photo2.png"
    assert {pair.group for pair in dataset.pairs} <= {"frames 0+", "frames 2+", "frames 4+"}
    assert dataset.load("photo0.png").shape == (150, 200, 3)
    for pair in dataset.pairs:
        assert_truth_and_pose_agree(dataset, pair)
    few = open_data(recording, DataSettings(long_side=200, gaps=(1,), frames=(2, 5), thresholds=(1.0,)))
    assert [pair.picture_a for pair in few.pairs] == ["photo2.png", "photo3.png"]
    assert few.thresholds == (1.0,)
    with pytest.raises(ValueError, match="frames end at 9, but it has 6 pictures"):
        open_data(recording, DataSettings(frames=(0, 9)))
    with pytest.raises(ValueError, match=r"no pair of frames 0 to 6 with gaps 10, 20.*try smaller gaps"):
        open_data(recording, DataSettings())


def test_pairs_of_a_recording_see_each_other(shared_data: Path) -> None:
    folder = shared_data / "rgbd" / "hololens"
    some, fewer = (
        open_data(folder, DataSettings(frames=(290, 310), gaps=(1,), min_overlap=overlap)) for overlap in (0.1, 0.4)
    )
    assert 0 < len(fewer.pairs) < len(some.pairs) <= 19
    assert some.load(some.pairs[0].picture_a).shape == (360, 540, 3)


def test_a_damaged_depth_map_costs_its_pairs(recording: Path) -> None:
    (recording / "depth" / "photo3.png").write_bytes(b"nothing")
    dataset = open_data(recording, DataSettings(long_side=200, gaps=(1,)))
    assert len(dataset.pairs) == 3
    assert [line.split(":")[0] for line in dataset.skipped] == ["photo2.png - photo3.png", "photo3.png - photo4.png"]
    assert all("\n" not in line for line in dataset.skipped)


def test_scenes_that_were_prepared(tmp_path: Path) -> None:
    folder = make_own_scene(tmp_path / "own")
    dataset = open_data(folder, DataSettings(split="training"))
    assert (dataset.kind, dataset.unit) == ("scene", "first pictures")
    assert dataset.pairs
    for pair in dataset.pairs:
        assert pair.group == pair.picture_a
        assert pair.truth is not None
        assert pair.pose is not None
        assert dataset.load(pair.picture_a).ndim == 3
    assert len(open_data(folder, DataSettings(split="training", max_pairs=1)).pairs) == 1


def test_a_damaged_depth_map_of_a_scene_costs_its_pairs(tmp_path: Path) -> None:
    folder = make_own_scene(tmp_path / "own")
    dataset = open_data(folder, DataSettings(split="training"))
    spoilt = dataset.pairs[0].picture_a
    depth_path(folder, spoilt).write_bytes(b"nothing")
    settings = MatchingSettings(budgets=(50,))
    section = measure_matching(dataset, FeatureSource([OpenCVExtractor("orb")]), settings, lambda text: None)
    whole = [pair.name for pair in dataset.pairs if spoilt not in (pair.picture_a, pair.picture_b)]
    assert {row.pair for row in section.rows} == set(whole)
    assert len(section.skipped) == 1
    assert "not an HDF5 file, or damaged" in section.skipped[0]
    assert "\n" not in section.skipped[0]


def test_collections_are_paired_by_what_their_depth_shows(tmp_path: Path, views: list[RenderedView]) -> None:
    for view in views:
        path = tmp_path / "depths" / f"{Path(view.name).stem}.h5"
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file["depth"] = view.depth
    write_reconstruction(tmp_path / "sparse", model_of(views, [[0]] * COUNT))
    write_pictures(tmp_path / "images", views)
    dataset = open_data(tmp_path, DataSettings(long_side=200, min_overlap=0.2))
    assert (dataset.kind, dataset.settings["layout"]) == ("posed pictures", "megadepth")
    for pair in dataset.pairs:
        assert_truth_and_pose_agree(dataset, pair)
    assert 0 < len(dataset.pairs) < COUNT * (COUNT - 1) / 2
