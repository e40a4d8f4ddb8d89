"""COLMAP models: bit by bit as documented, both ways, and as pycolmap reads and writes them."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.data.reconstructions.colmap_files import (
    MODEL_PLACES,
    find_model,
    find_pictures,
    has_model,
    read_reconstruction,
    write_reconstruction,
)
from lfnet.data.reconstructions.colmap_model import (
    MODELS,
    Camera,
    Points,
    Reconstruction,
    ReconstructionError,
    RegisteredImage,
)
from lfnet.geometry.quaternion import quaternion_from_rotation, rotation_from_quaternion

INTRINSICS = np.array([[500.0, 0.0, 319.5], [0.0, 510.0, 239.5], [0.0, 0.0, 1.0]])


def pose(seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(generator.normal(size=3))[0]
    matrix[:3, 3] = generator.normal(size=3)
    return matrix


def made_up() -> Reconstruction:
    """Three pictures, two cameras, five points, one of them seen by nobody."""
    generator = np.random.default_rng(0)
    cameras = {
        1: Camera.pinhole(1, (640, 480), INTRINSICS),
        7: Camera.pinhole(7, (320, 240), INTRINSICS / 2, (0.1, -0.05, 1e-3, 2e-3, 0.01)),
    }
    observed = {3: [11, 5, 900], 4: [5, 11], 9: []}
    images = {
        image_id: RegisteredImage(
            image_id,
            f"hall/{image_id}.jpg",
            1 if image_id < 9 else 7,
            pose(image_id),
            generator.uniform(0, 200, (len(points), 2)),
            np.array(points, np.int64),
        )
        for image_id, points in observed.items()
    }
    points = Points(
        np.array([5, 900, 11, 12, 2]),
        generator.normal(size=(5, 3)),
        generator.integers(0, 256, (5, 3), dtype=np.uint8),
        generator.uniform(0, 2, 5),
    )
    return Reconstruction(cameras, images, points)


def assert_same(first: Reconstruction, second: Reconstruction, tolerance: float = 1e-12) -> None:
    assert sorted(first.cameras) == sorted(second.cameras)
    assert sorted(first.images) == sorted(second.images)
    for number, camera in first.cameras.items():
        assert (camera.model, camera.size) == (second.cameras[number].model, second.cameras[number].size)
        np.testing.assert_allclose(camera.params, second.cameras[number].params, atol=tolerance)
    for number, image in first.images.items():
        other = second.images[number]
        assert (image.name, image.camera_id) == (other.name, other.camera_id)
        np.testing.assert_allclose(image.camera_from_world, other.camera_from_world, atol=1e-9)
        np.testing.assert_allclose(image.keypoints, other.keypoints, atol=max(tolerance, 1e-9))
        np.testing.assert_array_equal(image.point_ids, other.point_ids)
    order, other_order = np.argsort(first.points.ids), np.argsort(second.points.ids)
    np.testing.assert_array_equal(first.points.ids[order], second.points.ids[other_order])
    for name in ("positions", "colours", "errors"):
        np.testing.assert_allclose(
            getattr(first.points, name)[order], getattr(second.points, name)[other_order], atol=max(tolerance, 1e-9)
        )


@pytest.mark.parametrize("binary", [True, False])
def test_round_trip(tmp_path: Path, binary: bool) -> None:
    write_reconstruction(tmp_path, made_up(), binary)
    assert_same(read_reconstruction(tmp_path), made_up())


def test_text_and_binary_replace_each_other(tmp_path: Path) -> None:
    write_reconstruction(tmp_path, made_up(), binary=True)
    (tmp_path / "rigs.bin").write_bytes(b"old")
    (tmp_path / "project.ini").write_text("stays")
    write_reconstruction(tmp_path, made_up(), binary=False)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cameras.txt", "images.txt", "points3D.txt", "project.ini"]


@pytest.mark.parametrize("binary", [True, False])
def test_without_observations(tmp_path: Path, binary: bool) -> None:
    write_reconstruction(tmp_path, made_up(), binary)
    light = read_reconstruction(tmp_path, observations=False)
    assert [image.name for image in light.images.values()] == ["hall/3.jpg", "hall/4.jpg", "hall/9.jpg"]
    assert sum(len(image.keypoints) for image in light.images.values()) == 0
    assert light.points.positions.shape == (0, 3)


def test_empty_model(tmp_path: Path) -> None:
    for binary in (True, False):
        write_reconstruction(tmp_path, Reconstruction({}, {}, Points.empty()), binary)
        empty = read_reconstruction(tmp_path)
        assert (empty.cameras, empty.images, len(empty.points.ids)) == ({}, {}, 0)


def write_by_hand(folder: Path) -> None:
    """One SIMPLE_RADIAL camera, one picture with two keypoints, one of them with a point: each byte as documented."""
    folder.mkdir(parents=True, exist_ok=True)
    count_of_one = struct.pack("<Q", 1)
    cameras = count_of_one + struct.pack("<i", 2) + struct.pack("<i", 2) + struct.pack("<QQ", 100, 80)
    cameras += struct.pack("<4d", 90.0, 50.0, 40.0, 0.25)
    images = count_of_one + struct.pack("<i", 6)
    images += struct.pack("<4d", 2**-0.5, 0.0, 0.0, 2**-0.5) + struct.pack("<3d", 1.0, 2.0, 3.0)
    images += struct.pack("<i", 2) + b"a b.png\0" + struct.pack("<Q", 2)
    images += struct.pack("<ddq", 10.5, 20.5, -1) + struct.pack("<ddq", 0.5, 30.0, 77)
    points = count_of_one + struct.pack("<Q", 77) + struct.pack("<3d", -1.0, 0.5, 4.0) + struct.pack("<3B", 1, 2, 255)
    points += struct.pack("<d", 0.75) + struct.pack("<Q", 1) + struct.pack("<ii", 6, 1)
    for name, content in (("cameras", cameras), ("images", images), ("points3D", points)):
        (folder / f"{name}.bin").write_bytes(content)


def test_binary_bit_by_bit(tmp_path: Path) -> None:
    write_by_hand(tmp_path)
    model = read_reconstruction(tmp_path)
    camera, image = model.cameras[2], model.images[6]
    assert (camera.model, camera.size) == ("SIMPLE_RADIAL", (100, 80))
    np.testing.assert_allclose(camera.intrinsics, [[90, 0, 49.5], [0, 90, 39.5], [0, 0, 1]])
    assert camera.distortion == (0.25, 0, 0, 0, 0)
    assert not camera.is_pinhole
    assert (image.name, image.camera_id) == ("a b.png", 2)
    # A quarter turn about z takes x to y.
    np.testing.assert_allclose(
        image.camera_from_world, [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], atol=1e-12
    )
    np.testing.assert_array_equal(image.keypoints, [[0.0, 29.5]])
    np.testing.assert_array_equal(image.point_ids, [77])
    np.testing.assert_array_equal(model.points.positions, [[-1, 0.5, 4]])
    np.testing.assert_array_equal(model.points.colours, [[1, 2, 255]])
    assert model.points.errors == [0.75]


def test_text_as_documented(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("# Camera list\n#\n3 RADIAL 3072 2304 2559.81 1536 1152 -0.0204997 0.01\n\n")
    (tmp_path / "images.txt").write_text(
        "# Image list\n1 1.0 0.0 0 0 -0.7 0.1 1.6 3 one.jpg\n2362.39 248.498 58396 1784.7 268.254 -1\n"
        "2 1.0 0.0 0 0 -0.7 0.1 1.6 3 two words.jpg\n\n"
    )
    (tmp_path / "points3D.txt").write_text("58396 1.67 0.13 2.86 115 121 122 1.33 1 0\n")
    model = read_reconstruction(tmp_path)
    assert model.cameras[3].distortion == (-0.0204997, 0.01, 0, 0, 0)
    assert model.images[2].name == "two words.jpg"
    np.testing.assert_allclose(model.images[1].keypoints, [[2361.89, 247.998]])
    np.testing.assert_array_equal(model.images[1].point_ids, [58396])
    np.testing.assert_array_equal(model.points.colours, [[115, 121, 122]])
    with pytest.raises(ReconstructionError, match="blanks"):
        write_reconstruction(tmp_path / "again", model, binary=False)


def test_cameras_of_each_model() -> None:
    for name, model in MODELS.items():
        params = np.arange(1.0, model.parameters + 1)
        camera = Camera(1, name, (64, 48), params)
        if name in ("SIMPLE_PINHOLE", "PINHOLE"):
            assert camera.is_pinhole
            assert camera.distortion == ()
        elif name in ("SIMPLE_RADIAL", "RADIAL", "OPENCV"):
            assert [value for value in camera.distortion if value] == params[model.focal_lengths + 2 :].tolist()
        else:
            with pytest.raises(ReconstructionError, match=name):
                _ = camera.distortion
    with pytest.raises(ReconstructionError, match="no focal length"):
        _ = Camera(1, "EQUIRECTANGULAR", (64, 48), np.array([64.0, 48.0])).intrinsics


@pytest.mark.parametrize(
    ("distortion", "model"),
    [
        ((), "PINHOLE"),
        ((0.0, 0.0, 0.0, 0.0, 0.0), "PINHOLE"),
        ((0.1, 0.2, 0.3, 0.4, 0.0), "OPENCV"),
        ((0.1, 0.2, 0.3, 0.4, 0.5), "FULL_OPENCV"),
    ],
)
def test_camera_from_intrinsics_and_back(distortion: tuple[float, ...], model: str) -> None:
    camera = Camera.pinhole(1, (640, 480), INTRINSICS, distortion)
    assert camera.model == model
    assert camera.params[2] == 320.0
    np.testing.assert_allclose(camera.intrinsics, INTRINSICS)
    assert camera.distortion == (distortion if any(distortion) else ())


def test_rotations_and_quaternions() -> None:
    for seed in range(20):
        rotation = pose(seed)[:3, :3]
        quaternion = quaternion_from_rotation(rotation)
        assert quaternion[0] >= 0
        np.testing.assert_allclose(rotation_from_quaternion(quaternion), rotation, atol=1e-12)
    half_turn = np.diag([-1.0, 1.0, -1.0])
    np.testing.assert_allclose(np.abs(quaternion_from_rotation(half_turn)), [0, 0, 1, 0], atol=1e-12)


def one_line(folder: Path) -> str:
    with pytest.raises(ReconstructionError) as caught:
        read_reconstruction(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("table", ["cameras", "images", "points3D"])
def test_binary_files_cut_anywhere(tmp_path: Path, table: str) -> None:
    path = tmp_path / f"{table}.bin"
    write_by_hand(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert path.name in one_line(tmp_path)
    path.write_bytes(whole + b"\0")
    assert "more" in one_line(tmp_path)


@pytest.mark.parametrize("table", ["cameras", "images", "points3D"])
def test_garbage(tmp_path: Path, table: str) -> None:
    for content in (b"\xff" * 200, b"<html>not found</html>" * 9):
        write_by_hand(tmp_path)
        (tmp_path / f"{table}.bin").write_bytes(content)
        assert f"{table}.bin" in one_line(tmp_path)


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("cameras", "1 PINHOLE 640 480 500 500 320\n", "line 1.*4 parameters"),
        ("cameras", "1 SHOEBOX 640 480 500\n", "SHOEBOX"),
        ("cameras", "1 PINHOLE 640 480 nan 500 320 240\n", "numbers"),
        ("cameras", "1 PINHOLE\n", "line 1"),
        ("images", "3 1 0 0 0 0 0 0 1 a.jpg\n1.5 2.5\n", "line 2.*x, y and point"),
        ("images", "3 1 0 0 0 0 0 0 1 a.jpg\n", "keypoints of picture a.jpg"),
        ("images", "3 0 0 0 0 0 0 0 1 a.jpg\n\n", "pose of picture a.jpg"),
        ("images", "3 1 0 0 0 nan 0 0 1 a.jpg\n\n", "pose of picture a.jpg"),
        ("images", "3 1 0 0 0 0 0 0 55 a.jpg\n\n", "camera 55"),
        ("points3D", "5 1 2 3\n", "line 1"),
        ("points3D", "five 1 2 3 4 5 6 7\n", "line 1"),
    ],
)
def test_wrong_text(tmp_path: Path, table: str, content: str, message: str) -> None:
    write_reconstruction(tmp_path, made_up(), binary=False)
    (tmp_path / f"{table}.txt").write_text(content)
    with pytest.raises(ReconstructionError, match=f"{table}.txt: .*{message}"):
        read_reconstruction(tmp_path)


@pytest.mark.parametrize("place", MODEL_PLACES)
def test_a_model_is_found_wherever_tools_leave_it(tmp_path: Path, place: str) -> None:
    assert not has_model(tmp_path)
    with pytest.raises(ReconstructionError, match=r"expected a COLMAP model.*in it, or in sparse, sparse/0"):
        find_model(tmp_path)
    write_reconstruction(tmp_path / place, made_up())
    assert has_model(tmp_path)
    assert find_model(tmp_path) == tmp_path / place
    (tmp_path / place / "points3D.bin").unlink()
    assert not has_model(tmp_path)


def test_of_two_models_the_nearer_one_counts(tmp_path: Path) -> None:
    write_reconstruction(tmp_path / "sparse" / "0", made_up())
    write_reconstruction(tmp_path / "sparse", made_up())
    assert find_model(tmp_path) == tmp_path / "sparse"
    assert find_model(tmp_path / "sparse" / "0") == tmp_path / "sparse" / "0"


def test_pictures_lie_in_the_folder_or_beside_the_model(tmp_path: Path) -> None:
    assert find_pictures(tmp_path) is None
    (tmp_path / "images").mkdir()
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "sparse", tmp_path / "sparse" / "0"):
        found = find_pictures(folder)
        assert found is not None
        assert found.samefile(tmp_path / "images")


def test_missing_table_and_unknown_point(tmp_path: Path) -> None:
    with pytest.raises(ReconstructionError, match=r"expected a COLMAP model.*sparse/0"):
        read_reconstruction(tmp_path)
    model = made_up()
    with pytest.raises(ReconstructionError, match="observes point"):
        write_reconstruction(tmp_path, Reconstruction(model.cameras, model.images, Points.empty()))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ReconstructionError, match="skew"):
        Camera.pinhole(1, (8, 8), np.array([[1.0, 0.1, 0], [0, 1, 0], [0, 0, 1]]))


REWRITE = """
import sys, zlib
import pycolmap
model = pycolmap.Reconstruction(sys.argv[1])
for point in model.points3D.values():
    for element in point.track.elements:
        assert model.images[element.image_id].points2D[element.point2D_idx].has_point3D()
image = model.images[3]
pose = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
print(*pose.matrix().ravel(), *image.points2D[0].xy)
getattr(model, sys.argv[3])(sys.argv[2])
"""


@pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="needs pycolmap (extra sfm)")
@pytest.mark.parametrize("binary", [True, False])
def test_pycolmap_reads_ours_and_we_read_its(tmp_path: Path, binary: bool) -> None:
    ours, its = tmp_path / "ours", tmp_path / "its"
    its.mkdir()
    model = made_up()
    write_reconstruction(ours, model, binary)
    # In a process of its own: pycolmap's wheel can break zlib in ours.
    words = [sys.executable, "-c", REWRITE, str(ours), str(its), "write_binary" if binary else "write_text"]
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    numbers = np.array(process.stdout.split(), float)
    image = model.images[3]
    np.testing.assert_allclose(numbers[:12].reshape(3, 4), image.camera_from_world[:3], atol=1e-9)
    np.testing.assert_allclose(numbers[12:], image.keypoints[0] + 0.5)
    assert_same(read_reconstruction(its), model)
