"""Data sets of the benchmark: each kind of data on disk, what is chosen of it, and what is said of the rest."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lfnet.data.frames import Frame
from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, ReconstructionError, RegisteredImage
from lfnet.data.scenes.scene import depth_path
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import KINDS, open_data
from lfnet.evaluation.data.homography_sets import LEFT_OUT, read_matrix
from lfnet.evaluation.data.measured_frames import MeasuredFrames, evenly
from lfnet.evaluation.data.pair_lists import quarter_turn, read_object_arrays
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair, RelativePose
from lfnet.evaluation.data.posed_folders import pairs_by_points
from lfnet.evaluation.data.stereo import indexed_by_left, motorcycle, photo_error, stereo_dataset
from lfnet.evaluation.data.synthetic import rendered_dataset, warped_dataset
from lfnet.evaluation.data.truth import apply_matrix
from lfnet.evaluation.feature_source import FeatureSource
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.matching import MatchingSettings, measure_matching
from lfnet.images import read_grey, read_image
from support.made_scenes import make_own_scene
from support.rendered_photos import SIZE, RenderedView, render_views

COUNT = 6


@pytest.fixture(scope="module")
def views() -> list[RenderedView]:
    """Photos of a small world, known exactly."""
    pytest.importorskip("skimage")
    return render_views(COUNT)


@pytest.fixture
def recording(tmp_path: Path, views: list[RenderedView]) -> Path:
    """The photos as a recording in the plain layout."""
    folder = tmp_path / "walk"
    write_cameras(folder, views)
    (folder / "depth").mkdir()
    for view in views:
        depth = np.rint(view.depth * 1000).astype(np.uint16)
        cv2.imwrite(str(folder / "depth" / f"{Path(view.name).stem}.png"), depth)
    return folder


def write_cameras(folder: Path, views: list[RenderedView]) -> None:
    """Pictures, intrinsics and poses, without depth."""
    (folder / "images").mkdir(parents=True)
    for view in views:
        Image.fromarray(view.picture).save(folder / "images" / f"{Path(view.name).stem}.png")
    np.savetxt(folder / "K.txt", views[0].intrinsics)
    np.savetxt(folder / "poses.txt", [np.linalg.inv(view.camera_from_world).ravel() for view in views])


def write_set(folder: Path, name: str, picture: str, matrices: dict[str, NDArray[np.float64]]) -> Path:
    """A scene of pictures related by homographies: noise, as nothing is extracted here."""
    scene = folder / name
    scene.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(1, len(matrices) + 2):
        pixels = generator.integers(0, 255, (96, 128, 3), np.uint8)
        Image.fromarray(pixels).save(scene / picture.format(number))
    for file, matrix in matrices.items():
        np.savetxt(scene / file, matrix)
    return scene


def epipolar_error(pose: RelativePose, points_a: NDArray[np.float64], points_b: NDArray[np.float64]) -> float:
    """Largest distance of points of b to the lines that those of a must lie on, pixels."""
    (x, y, z), rotation = pose.b_from_a[:3, 3], pose.b_from_a[:3, :3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    fundamental = np.linalg.inv(pose.intrinsics_b).T @ essential @ np.linalg.inv(pose.intrinsics_a)
    ones = np.ones((len(points_a), 1))
    lines = np.concatenate([points_a, ones], axis=1) @ fundamental.T
    distances = (lines * np.concatenate([points_b, ones], axis=1)).sum(1) / np.linalg.norm(lines[:, :2], axis=1)
    return float(np.abs(distances).max())


def assert_truth_and_pose_agree(dataset: Dataset, pair: EvaluationPair) -> None:
    """Both say where the points of a grid are, the truth by depth, the pose by a line."""
    height, width = dataset.load(pair.picture_a).shape[:2]
    x, y = np.meshgrid(np.arange(5.0, width, 11), np.arange(5.0, height, 11))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    assert pair.truth is not None
    assert pair.pose is not None
    places, seen = pair.truth.b_from_a(grid)
    assert seen.sum() > 20
    assert epipolar_error(pair.pose, grid[seen], places[seen]) < 1e-3


# --- pictures ---


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


# --- homography sets ---


def test_oxford_as_opencv_has_it(shared_data: Path) -> None:
    dataset = open_data(shared_data / "homography" / "oxford", DataSettings(long_side=320))
    assert (dataset.name, dataset.kind, dataset.unit, len(dataset.pairs)) == ("oxford", "homographies", "scenes", 30)
    assert sorted({pair.subset for pair in dataset.pairs}) == ["bark", "boat", "graf", "leuven", "ubc", "wall"]
    assert dataset.thresholds == (1.0, 3.0, 5.0)
    pair = next(pair for pair in dataset.pairs if pair.name == "graf 1-2")
    image_a, image_b = dataset.load(pair.picture_a), dataset.load(pair.picture_b)
    assert image_a.shape == (256, 320, 3)
    assert pair.truth is not None
    warped = cv2.warpPerspective(image_a, pair.truth.matrix_b_from_a, (320, 256))  # type: ignore[attr-defined]
    covered = cv2.warpPerspective(np.ones((256, 320)), pair.truth.matrix_b_from_a, (320, 256)) > 0.99  # type: ignore[attr-defined]
    difference = np.abs(warped.astype(float) - image_b)[covered].mean()
    assert difference < 0.5 * np.abs(image_a.astype(float) - image_b)[covered].mean()


def test_hpatches_is_split_and_eight_sequences_are_left_out(tmp_path: Path) -> None:
    shift = np.array([[1.0, 0, 8], [0, 1, 4], [0, 0, 1]])
    for name in ("i_light", "v_turn", LEFT_OUT[2]):
        write_set(tmp_path, name, "{}.ppm", {"H_1_2": shift, "H_1_3": 2 * shift})
    dataset = open_data(tmp_path, DataSettings(long_side=64))
    assert [pair.name for pair in dataset.pairs] == ["i_light 1-2", "i_light 1-3", "v_turn 1-2", "v_turn 1-3"]
    assert [pair.subset for pair in dataset.pairs] == ["illumination", "illumination", "viewpoint", "viewpoint"]
    assert [pair.picture_b for pair in dataset.pairs[:2]] == ["i_light/2.ppm", "i_light/3.ppm"]
    assert dataset.settings["left_out"] == ["i_dc"]
    assert dataset.skipped == []
    for pair in dataset.pairs:
        assert pair.truth is not None
        # Half the size: pixel 10 is at 20.5, moved to 28.5, which is at 14.
        np.testing.assert_allclose(pair.truth.b_from_a(np.array([[10.0, 10.0]]))[0], [[14.0, 12.0]])
    assert dataset.load("v_turn/1.ppm").shape == (48, 64, 3)
    only = open_data(tmp_path / "v_turn", DataSettings())
    assert {pair.group for pair in only.pairs} == {"v_turn"}


def test_oxford_as_it_was_published(tmp_path: Path) -> None:
    write_set(tmp_path, "bikes", "img{}.ppm", {"H1to2p": np.eye(3)})
    dataset = open_data(tmp_path, DataSettings())
    assert [(pair.name, pair.subset) for pair in dataset.pairs] == [("bikes 1-2", "bikes")]


def test_matrices_that_are_negative_are_the_same_homography(tmp_path: Path) -> None:
    matrix = np.array([[1.1, 0.1, 3], [0, 0.9, 4], [1e-4, 0, 1]])
    write_set(tmp_path, "v_a", "{}.ppm", {"H_1_2": matrix, "H_1_3": -3e-7 * matrix})
    first, second = (pair.truth for pair in open_data(tmp_path, DataSettings()).pairs)
    assert first is not None
    assert second is not None
    point = np.array([[50.0, 60.0]])
    np.testing.assert_allclose(first.b_from_a(point)[0], apply_matrix(matrix, point))
    np.testing.assert_allclose(second.b_from_a(point)[0], apply_matrix(matrix, point))


def test_what_a_set_lacks_is_a_line_each(tmp_path: Path) -> None:
    scene = write_set(tmp_path, "v_a", "{}.ppm", {f"H_1_{number}": np.eye(3) for number in range(2, 8)})
    np.savetxt(scene / "H_1_3", [[1, 2, 3], [2, 4, 6], [0, 0, 1]])
    (scene / "H_1_4").write_text("1 0 0 zero 1 0 0 0 1")
    (scene / "H_1_5").write_text("1 0 0 0 1 0 0 0")
    (scene / "H_1_6").write_text("nan 0 0 0 1 0 0 0 1")
    (scene / "7.ppm").unlink()
    dataset = open_data(tmp_path, DataSettings())
    assert [pair.name for pair in dataset.pairs] == ["v_a 1-2"]
    expected = (
        "1-3: .*H_1_3: the matrix is singular",
        "1-4: .*as text",
        "1-5: .*got 8 numbers",
        "1-6: .*NaN",
        "1-7: .*no such",
    )
    assert len(dataset.skipped) == len(expected)
    for line, pattern in zip(dataset.skipped, expected, strict=True):
        assert "\n" not in line
        assert re.search(pattern, line), line
    (scene / "1.ppm").unlink()
    with pytest.raises(ValueError, match="none of 1 scenes has a pair that can be used; the first: v_a 1-2"):
        open_data(tmp_path, DataSettings())


def test_matrix_files(tmp_path: Path) -> None:
    storage = cv2.FileStorage(str(tmp_path / "H.xml"), cv2.FILE_STORAGE_WRITE)
    storage.write("H12", np.diag([1.0, 2.0, 3.0]))
    storage.release()
    assert np.array_equal(read_matrix(tmp_path / "H.xml"), np.diag([1.0, 2.0, 3.0]))
    (tmp_path / "text.xml").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.xml"):
        read_matrix(tmp_path / "text.xml")


# --- recordings and scenes ---


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
    assert "depth can't be read" in section.skipped[0]
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


# --- COLMAP models and cameras ---


def model_of(views: list[RenderedView], seen: list[list[int]], distortion: tuple[float, ...] = ()) -> Reconstruction:
    """A model in which each picture sees the points that are named."""
    camera = Camera.pinhole(1, SIZE, views[0].intrinsics, distortion)
    images = {}
    for number, (view, points) in enumerate(zip(views, seen, strict=True), 1):
        places = np.full((len(points), 2), 5.0)
        ids = np.array(points, np.int64)
        images[number] = RegisteredImage(number, view.name, 1, view.camera_from_world, places, ids)
    count = max(max(points) for points in seen) + 1
    points = Points(np.arange(count), np.zeros((count, 3)), np.zeros((count, 3), np.uint8), np.zeros(count))
    return Reconstruction({1: camera}, images, points)


def write_pictures(folder: Path, views: list[RenderedView]) -> None:
    folder.mkdir(parents=True)
    for view in views:
        Image.fromarray(view.picture).save(folder / view.name)


def test_colmap_models_are_paired_by_shared_points(tmp_path: Path, views: list[RenderedView]) -> None:
    seen = [list(range(10)), list(range(5, 15)), list(range(9, 19)), list(range(10)), [20, 21], list(range(0, 20, 4))]
    write_reconstruction(tmp_path / "sparse" / "0", model_of(views, seen))
    write_pictures(tmp_path / "images", views)
    dataset = open_data(tmp_path, DataSettings(long_side=200), "town")
    expected = [
        (f"photo{a}.jpg", f"photo{b}.jpg")
        for a in range(COUNT)
        for b in range(a + 1, COUNT)
        if 0.1 <= len({*seen[a]} & {*seen[b]}) / min(len(seen[a]), len(seen[b])) <= 0.7
    ]
    assert [(pair.picture_a, pair.picture_b) for pair in dataset.pairs] == expected
    assert ("photo0.jpg", "photo3.jpg") not in expected, "they see the same points: too alike"
    assert all(pair.truth is None and pair.group == pair.picture_a for pair in dataset.pairs)
    pose = dataset.pairs[0].pose
    assert pose is not None
    np.testing.assert_allclose(pose.b_from_a, views[1].camera_from_world @ np.linalg.inv(views[0].camera_from_world))
    np.testing.assert_allclose(pose.intrinsics_a[0], [views[0].intrinsics[0, 0] / 2, 0, 99.5], atol=1e-9)
    assert open_data(tmp_path / "sparse", DataSettings(images=tmp_path / "images")).kind == "COLMAP model"
    for view in views[1:]:
        (tmp_path / "images" / view.name).unlink()
    with pytest.raises(ValueError, match=r"no two of 1 pictures share enough.*5 of 6 pictures .* are not in"):
        open_data(tmp_path, DataSettings())
    (tmp_path / "images" / views[0].name).unlink()
    with pytest.raises(ValueError, match="no picture of its model can be used"):
        open_data(tmp_path, DataSettings())
    (tmp_path / "images").rmdir()
    with pytest.raises(ValueError, match="no pictures in images/ beside the model"):
        open_data(tmp_path, DataSettings())


def test_names_of_a_model_that_are_not_asked_for_are_left_out(views: list[RenderedView]) -> None:
    model = model_of(views[:3], [[0, 1], [1, 2], [1, 3]])
    assert pairs_by_points(model, {"photo0.jpg", "photo2.jpg"}, 0.1) == [("photo0.jpg", "photo2.jpg")]


def test_distorted_pictures_of_a_model_are_undistorted(tmp_path: Path, views: list[RenderedView]) -> None:
    distortion = (0.2, 0.0, 0.0, 0.0)
    seen = [[0, 1], [1, 2]]
    write_reconstruction(tmp_path / "sparse", model_of(views[:2], seen, distortion))
    (tmp_path / "images").mkdir()
    x, y = np.meshgrid(np.arange(SIZE[0], dtype=np.float32), np.arange(SIZE[1], dtype=np.float32))
    matrix = views[0].intrinsics
    stored = np.stack([x.ravel(), y.ravel()], axis=1)[:, None]
    ideal = cv2.undistortPoints(stored, matrix, np.array(distortion), P=matrix).reshape(*SIZE[::-1], 2)
    for view in views[:2]:
        bent = cv2.remap(view.picture, ideal.astype(np.float32), None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        Image.fromarray(bent).save(tmp_path / "images" / view.name)
    dataset = open_data(tmp_path, DataSettings())
    loaded = dataset.load("photo0.jpg").astype(float)[60:-60, 60:-60]
    assert np.abs(loaded - views[0].picture[60:-60, 60:-60]).mean() < 6
    with Image.open(tmp_path / "images" / "photo0.jpg") as picture:
        bent = np.asarray(picture, float)[60:-60, 60:-60]
    assert np.abs(bent - views[0].picture[60:-60, 60:-60]).mean() > 12


def test_a_camera_that_has_no_straight_lines_is_a_line(tmp_path: Path, views: list[RenderedView]) -> None:
    model = model_of(views[:3], [[0, 1], [1, 2], [1, 3]])
    fisheye = Camera(2, "OPENCV_FISHEYE", SIZE, np.array([400, 400, 200, 150, 0.1, 0, 0, 0]))
    third = model.images[3]
    images = {
        **model.images,
        3: RegisteredImage(3, third.name, 2, third.camera_from_world, third.keypoints, third.point_ids),
    }
    write_reconstruction(tmp_path / "sparse", Reconstruction({**model.cameras, 2: fisheye}, images, model.points))
    write_pictures(tmp_path / "images", views[:3])
    dataset = open_data(tmp_path, DataSettings())
    assert len(dataset.pairs) == 1
    assert len(dataset.skipped) == 1
    assert "photo2.jpg: camera 2: the distortion of OPENCV_FISHEYE" in dataset.skipped[0]
    (tmp_path / "sparse" / "images.bin").write_bytes(b"short")
    with pytest.raises(ReconstructionError, match=r"images\.bin"):
        open_data(tmp_path, DataSettings())


def test_a_folder_with_cameras(tmp_path: Path, views: list[RenderedView]) -> None:
    write_cameras(tmp_path / "walk", views)
    dataset = open_data(tmp_path / "walk", DataSettings(gaps=(1, 2), long_side=200))
    assert (dataset.kind, len(dataset.pairs)) == ("posed pictures", 9)
    assert all(pair.truth is None and pair.pose is not None for pair in dataset.pairs)
    (tmp_path / "walk" / "images" / "photo3.png").unlink()
    with pytest.raises(ValueError, match="expected as many pictures as poses, got 5 and 6"):
        open_data(tmp_path / "walk", DataSettings())


# --- published lists ---


def list_line(view_a: RenderedView, view_b: RenderedView, turns: tuple[int, int] = (0, 0)) -> str:
    """A line in SuperGlue's format, pictures as they are stored turned back by their turns."""
    cameras, poses = [], []
    for view, turn in zip((view_a, view_b), turns, strict=True):
        # Stored, the picture is turned clockwise; np.rot90 puts it upright.
        matrix, _ = quarter_turn(SIZE, -turn)
        rotation = np.eye(4)
        rotation[:2, :2] = matrix[:2, :2]
        cameras.append(matrix @ view.intrinsics @ rotation[:3, :3].T)
        poses.append(rotation @ view.camera_from_world)
    motion = poses[1] @ np.linalg.inv(poses[0])
    numbers = np.concatenate([*(camera.ravel() for camera in cameras), motion.ravel()])
    return f"{view_a.name} {view_b.name} {turns[0]} {turns[1]} {' '.join(f'{number:.17g}' for number in numbers)}"


def write_list(folder: Path, views: list[RenderedView], lines: list[str], turned: dict[str, int] | None = None) -> Path:
    folder.mkdir(parents=True)
    for view in views:
        picture = np.rot90(view.picture, -(turned or {}).get(view.name, 0))
        Image.fromarray(picture).save(folder / view.name, quality=100, subsampling=0)
    path = folder / "pairs.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_pair_lists_and_their_turns(turn: int, tmp_path: Path, views: list[RenderedView]) -> None:
    line = list_line(views[0], views[1], (0, turn))
    path = write_list(tmp_path / "list", views[:2], [line, ""], {views[1].name: turn})
    dataset = open_data(path, DataSettings(long_side=400))
    (pair,) = dataset.pairs
    assert (dataset.name, dataset.kind, pair.group) == ("pairs", "pair list", "photo0.jpg")
    loaded = dataset.load(pair.picture_b)
    assert loaded.shape == views[1].picture.shape
    assert np.abs(loaded.astype(float) - views[1].picture).mean() < 2
    assert pair.pose is not None
    np.testing.assert_allclose(pair.pose.intrinsics_b, views[1].intrinsics, atol=1e-9)
    expected = views[1].camera_from_world @ np.linalg.inv(views[0].camera_from_world)
    np.testing.assert_allclose(pair.pose.b_from_a, expected, atol=1e-9)


def test_turns_are_those_of_numpy() -> None:
    picture = np.arange(12).reshape(3, 4)
    for quarters in range(4):
        matrix, size = quarter_turn((4, 3), quarters)
        turned = np.rot90(picture, quarters)
        assert turned.shape == size[::-1]
        for y, x in np.ndindex(3, 4):
            column, row = np.rint(apply_matrix(matrix, np.array([[x, y]]))[0]).astype(int)
            assert turned[row, column] == picture[y, x]


def test_what_a_list_lacks_is_a_line_each(tmp_path: Path, views: list[RenderedView]) -> None:
    good = list_line(views[0], views[1])
    lines = [
        good,
        good,
        "photo0.jpg photo2.jpg",
        "photo0.jpg photo2.jpg 0 0",
        good.replace("photo1", "nowhere"),
        good + " 1.0",
        list_line(views[0], views[2]).replace(" 0 0 ", " 0 half ", 1),
        list_line(views[0], views[2], (1, 0)),
        list_line(views[0], replace(views[2], intrinsics=np.diag([4.0, 4.0, 1.0]) @ views[2].intrinsics)),
        " ".join([*list_line(views[0], views[2]).split()[:22], *map(str, np.diag([2.0, 2, 2, 1]).ravel())]),
    ]
    dataset = open_data(write_list(tmp_path / "list", views[:3], lines), DataSettings())
    assert [pair.name for pair in dataset.pairs] == ["photo0.jpg - photo1.jpg"]
    expected = (
        "line 3: no cameras and motion",
        "line 4: no cameras and motion",
        "line 6: a broken line: expected 38 words, got 39",
        "line 7: a broken line",
        "more than once in the list",
        "nowhere.jpg: no such file",
        "photo0.jpg is turned by 1 quarters",
        "photo2.jpg: the principal point (798, 598) lies outside of a picture of 400x300",
        "the motion from a to b: expected rigid 4x4 poses",
    )
    assert len(dataset.skipped) == len(expected)
    for line, part in zip(dataset.skipped, expected, strict=True):
        assert part in line
        assert "\n" not in line


def test_lists_that_can_not_be_used(tmp_path: Path, views: list[RenderedView]) -> None:
    path = write_list(tmp_path / "list", views[:2], ["photo0.jpg photo1.jpg"])
    with pytest.raises(ValueError, match=r"no pair can be used .*--images.*line 1: no cameras and motion"):
        open_data(path, DataSettings())
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="expected a list of pairs as text"):
        open_data(path, DataSettings())


def test_a_list_that_is_cut_says_so(tmp_path: Path, views: list[RenderedView]) -> None:
    lines = [list_line(views[0], view) for view in views[1:4]]
    dataset = open_data(write_list(tmp_path / "list", views[:4], lines), DataSettings(max_pairs=1))
    assert len(dataset.pairs) == 1
    assert dataset.skipped[0].startswith("2 of 3 pairs of the list")


def scene_info(views: list[RenderedView], pairs: list[tuple[int, int]]) -> dict[str, NDArray]:
    """What LoFTR's files hold: lists in arrays of objects, and nothing for pictures that are in no pair."""
    infos = np.empty(len(pairs), object)
    for place, pair in enumerate(pairs):
        infos[place] = (pair, 0.25, np.zeros((3, 4)))
    used = {index for pair in pairs for index in pair}
    paths, cameras, poses = (np.empty(len(views), object) for _ in range(3))
    for index in used & set(range(len(views))):
        colmap = views[index].intrinsics.copy()
        colmap[:2, 2] += 0.5
        paths[index], cameras[index], poses[index] = views[index].name, colmap, views[index].camera_from_world
    return {"pair_infos": infos, "image_paths": paths, "intrinsics": cameras, "poses": poses}


def test_scene_infos_of_loftr(tmp_path: Path, views: list[RenderedView]) -> None:
    write_pictures(tmp_path / "pictures", views)
    (tmp_path / "infos").mkdir()
    for name, pairs in (("0015_0.1_0.3", [(0, 1), (1, 2), (0, 9)]), ("0022_0.3_0.5", [(2, 3), (0, 5)])):
        np.savez(tmp_path / "infos" / f"{name}.npz", **scene_info(views, pairs))  # type: ignore[arg-type]
    dataset = open_data(tmp_path / "infos", DataSettings(images=tmp_path / "pictures"), "megadepth-1500")
    assert [pair.subset for pair in dataset.pairs] == ["0015_0.1_0.3"] * 2 + ["0022_0.3_0.5"] * 2
    pose = dataset.pairs[0].pose
    assert pose is not None
    np.testing.assert_allclose(pose.intrinsics_a, views[0].intrinsics)
    np.testing.assert_allclose(pose.b_from_a, views[1].camera_from_world @ np.linalg.inv(views[0].camera_from_world))
    assert dataset.skipped == ["0015_0.1_0.3.npz, pair 2: it can't be used (pictures 0 and 9 of 6)"]


class RunsCode:
    """What a file that means harm holds."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["LFNET_TEST_FOLDER"],)


def test_scene_infos_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: list[RenderedView]) -> None:
    made = tmp_path / "made"
    monkeypatch.setenv("LFNET_TEST_FOLDER", str(made))
    info = scene_info(views, [(0, 1)])
    info["image_paths"] = np.array([RunsCode(), None], object)
    np.savez(tmp_path / "info.npz", **info)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"info\.npz: refused: it holds (posix|nt)\.mkdir, which is no data"):
        open_data(tmp_path / "info.npz", DataSettings())
    assert not made.exists()
    with zipfile.ZipFile(tmp_path / "info.npz") as archive:
        content = archive.read("image_paths.npy")
    pickle.loads(content[content.index(b"\n") + 1 :])
    assert made.exists(), "the file does run code where it is let"


def test_files_that_are_no_scene_infos(tmp_path: Path) -> None:
    path = tmp_path / "info.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no \.npz file of arrays"):
        open_data(path, DataSettings())
    np.savez(path, image_paths=np.zeros(3))
    with pytest.raises(ValueError, match="expected arrays pair_infos, image_paths, intrinsics, poses"):
        open_data(path, DataSettings())
    assert read_object_arrays(path, ("image_paths",))["image_paths"].shape == (3,)


# --- embedded ---


def test_rendered_pairs_are_the_same_everywhere() -> None:
    threads = torch.get_num_threads()
    datasets = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            datasets.append(rendered_dataset(count=3))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    first, second = datasets
    assert [pair.name for pair in first.pairs] == ["scene 00", "scene 01", "scene 02"]
    for pair, other in zip(first.pairs, second.pairs, strict=True):
        assert first.load(pair.picture_a).shape == (240, 320)
        assert np.array_equal(first.load(pair.picture_b), second.load(other.picture_b))
        assert_truth_and_pose_agree(first, pair)
    assert not np.array_equal(first.load("scene00/a"), rendered_dataset(count=1, seed=1).load("scene00/a"))


def test_truth_of_rendered_pairs_explains_the_pictures() -> None:
    dataset = rendered_dataset(count=2)
    for pair in dataset.pairs:
        image_a, image_b = (dataset.load(name).astype(float) for name in (pair.picture_a, pair.picture_b))
        x, y = np.meshgrid(np.arange(4.0, 316, 3), np.arange(4.0, 236, 3))
        grid = np.stack([x.ravel(), y.ravel()], axis=1)
        assert pair.truth is not None
        places, seen = pair.truth.b_from_a(grid)
        column, row = np.rint(places[seen]).astype(int).T
        there = image_b[np.clip(row, 0, 239), np.clip(column, 0, 319)]
        here = image_a[grid[seen, 1].astype(int), grid[seen, 0].astype(int)]
        assert np.corrcoef(here, there)[0, 1] > 0.6


def test_warped_pairs_are_what_their_matrices_say() -> None:
    pytest.importorskip("skimage")
    dataset = warped_dataset()
    assert len(dataset.pairs) == 12
    assert len({pair.group for pair in dataset.pairs}) == 6
    for pair in dataset.pairs:
        image_a, image_b = dataset.load(pair.picture_a), dataset.load(pair.picture_b)
        matrix = pair.truth.matrix_b_from_a  # type: ignore[union-attr]
        warped = cv2.warpPerspective(image_a, matrix, (320, 240))
        covered = cv2.warpPerspective(np.ones((240, 320)), matrix, (320, 240)) > 0.99
        assert covered.mean() > 0.15
        assert np.abs(warped.astype(float) - image_b)[covered].mean() < 6
    again = warped_dataset()
    assert np.array_equal(again.load(again.pairs[5].picture_b), dataset.load(dataset.pairs[5].picture_b))


def test_stereo_disparity_belongs_to_the_left_picture() -> None:
    pytest.importorskip("skimage")
    stereo = motorcycle()
    error = photo_error(stereo.left, stereo.right, stereo.disparity)
    assert error < 0.6 * photo_error(stereo.right[:, ::-1], stereo.left[:, ::-1], stereo.disparity[:, ::-1])
    swapped = indexed_by_left(stereo.right, stereo.left, stereo.disparity)
    assert np.array_equal(swapped.left, stereo.left)
    with pytest.raises(ValueError, match="explains neither"):
        indexed_by_left(stereo.left, stereo.right, np.full_like(stereo.disparity, 200.0))
    dataset = stereo_dataset()
    assert dataset.load(dataset.pairs[0].picture_b).shape == stereo.right.shape
