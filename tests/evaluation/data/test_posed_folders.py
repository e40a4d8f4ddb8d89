"""COLMAP models and folders with cameras."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Reconstruction, ReconstructionError, RegisteredImage
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.evaluation.data.posed_folders import pairs_by_points
from support.made_sets import COUNT, model_of, write_cameras, write_pictures
from support.rendered_photos import SIZE, RenderedView

pytestmark = pytest.mark.slow


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
    poses = np.loadtxt(tmp_path / "walk" / "poses.txt")
    poses[2] = np.nan
    np.savetxt(tmp_path / "walk" / "poses.txt", poses)
    dataset = open_data(tmp_path / "walk", DataSettings(gaps=(1, 2), long_side=200))
    (line,) = dataset.skipped
    assert "left out: 1 of 6 frames can't be used (photo2.png): " in line
    assert not any("photo2" in pair.name for pair in dataset.pairs)
    (tmp_path / "walk" / "images" / "photo3.png").unlink()
    with pytest.raises(ValueError, match="expected as many pictures as poses, got 5 and 6"):
        open_data(tmp_path / "walk", DataSettings())
