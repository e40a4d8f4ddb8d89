"""Data of the benchmark, written as their makers distribute them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair, RelativePose
from support.rendered_photos import SIZE, RenderedView

COUNT = 6


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
