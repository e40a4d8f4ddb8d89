"""Layouts on disk: made-up recordings of a plane with a known texture, written bit by bit as each format is documented.

What a reader returns is held against the world: depth of every pixel must put it on the plane, and the plane must look
there as the picture does. A wrong unit, a pose the wrong way round or half a pixel of shift can't pass.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.coordinates import Size, resize_matrix
from lfnet.data import layouts
from lfnet.data.augment import GeometricConfig
from lfnet.data.depth_maps import read_depth_map
from lfnet.data.depth_registration import register_depth, resample_depth
from lfnet.data.frames import Frame, FrameSet, SequenceError, read_view
from lfnet.data.layouts import LAYOUTS, detect_layout
from lfnet.data.pair import Pair
from lfnet.data.pair_sources import SequencePairs
from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.data.recordings.picture_folders import SEVEN_SCENES_INTRINSICS
from lfnet.data.recordings.tum import CAMERAS, Lens, associate
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.geometry.sampling import sample
from lfnet.preparation.imported_depth import find_depth_maps

NORMAL, DISTANCE = np.array([0.1, -0.15, 1.0]), 2.0
SIZE = (96, 72)
INTRINSICS = np.array([[80.0, 0.0, 47.0], [0.0, 82.0, 36.5], [0.0, 0.0, 1.0]])
DEPTH_SIZE = (64, 50)
DEPTH_INTRINSICS = np.array([[50.0, 0.0, 30.0], [0.0, 51.0, 25.5], [0.0, 0.0, 1.0]])
"""Of a depth camera that sees more than the colour camera, more coarsely."""
COUNT = 4


# --- the world ---


def rotation(nod: float, roll: float) -> NDArray[np.float64]:
    pitch = np.array([[1, 0, 0], [0, math.cos(nod), -math.sin(nod)], [0, math.sin(nod), math.cos(nod)]])
    turn = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    return pitch @ turn


def world_from_camera(time: float) -> NDArray[np.float64]:
    """A camera that moves to the right, nods and rolls."""
    pose = np.eye(4)
    pose[:3, :3] = rotation(0.04 * time, 0.15 * time)
    pose[:3, 3] = [0.12 * time, -0.03 * time, 0.1 * time]
    return pose


def colour_from_depth() -> NDArray[np.float64]:
    """A depth camera some centimetres to the left of the colour camera, turned a little."""
    transform = np.eye(4)
    transform[:3, :3] = rotation(0.01, -0.02)
    transform[:3, 3] = [-0.06, 0.01, 0.005]
    return transform


def texture(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 + 0.2 * np.sin(9 * u + 3 * v) + 0.2 * np.sin(4 * u - 8 * v + 1)


def rays(size: Size, lens: Lens) -> NDArray[np.float64]:
    """(H, W, 3) with z = 1, of the pixels of a stored picture; OpenCV's documentation, "Camera calibration"."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(float)
    stored = np.stack((x, y, np.ones_like(x)), -1) @ np.linalg.inv(lens.intrinsics).T
    k1, k2, p1, p2, k3 = lens.distortion or (0.0,) * 5
    x, y = stored[..., 0], stored[..., 1]
    for _ in range(30 if lens.distortion else 1):
        square = x * x + y * y
        radial = 1 + square * (k1 + square * (k2 + square * k3))
        shift_x = 2 * p1 * x * y + p2 * (square + 2 * x * x)
        shift_y = p1 * (square + 2 * y * y) + 2 * p2 * x * y
        x, y = (stored[..., 0] - shift_x) / radial, (stored[..., 1] - shift_y) / radial
    return np.stack((x, y, np.ones_like(x)), -1)


def render(
    pose: NDArray[np.float64], intrinsics: NDArray[np.float64], size: Size, distortion: tuple[float, ...] = ()
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Picture and depth of the plane NORMAL . X = DISTANCE (world)."""
    directions = rays(size, Lens(intrinsics, distortion)) @ pose[:3, :3].T
    depth = (DISTANCE - NORMAL @ pose[:3, 3]) / (directions @ NORMAL)
    u, v, _ = np.moveaxis(pose[:3, 3] + depth[..., None] * directions, -1, 0)
    return (255 * texture(u, v)).round().astype(np.uint8), depth


def millimetres(depth: NDArray[np.float64], steps: float = 1000.0, hole: int = 0) -> NDArray[np.uint16]:
    """As a sensor stores it, with a patch that it did not see."""
    raw = np.round(depth * steps).astype(np.uint16)
    raw[2:6, 3:9] = hole
    return raw


def write_png(path: Path, pixels: NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def depths(frame: Frame) -> NDArray[np.float32]:
    assert frame.read_depth is not None
    return frame.read_depth()


def read_frames(folder: Path, layout: str | None = None) -> FrameSet:
    """Frames whose names differ, and lead to the pictures where these are files."""
    found = layouts.read_frames(folder, layout)
    assert found.layout in LAYOUTS
    assert len({frame.name for frame in found.frames}) == len(found.frames)
    for root in (found.image_root, found.depth_root):
        assert root is None or root.is_dir()
    for frame in found.frames:
        assert found.image_root is None or (found.image_root / frame.name).is_file()
    return found


def assert_on_the_plane(
    frames: Sequence[Frame], off: float = 0.004, known: float = 0.9, unlike: float = 0.03, step: float = 1.0
) -> None:
    """Every known pixel lies on the plane, to a median of `off` metres, and looks like it; frames warp to each other.

    `step` is the unit of the poses in metres.
    """
    for frame in frames:
        grey, depth = frame.read_grey(), depths(frame)
        assert grey.dtype == np.uint8
        assert depth.dtype == np.float32
        assert grey.shape == depth.shape == frame.size[::-1]
        y, x = np.nonzero(depth)
        assert known <= len(x) / depth.size < 1 or known == 1
        camera = np.linalg.inv(frame.intrinsics) @ np.stack((x, y, np.ones(len(x)))) * depth[y, x]
        pose = np.linalg.inv(frame.camera_from_world)
        world = step * (pose[:3, :3] @ camera + pose[:3, 3:])
        distance = np.abs(NORMAL @ world - DISTANCE)
        assert np.median(distance) < off
        assert np.quantile(distance, 0.99) < 6 * off
        assert np.abs(texture(world[0], world[1]) - grey[y, x] / 255).mean() < unlike
    views = [read_view(frame) for frame in (frames[0], frames[-1])]
    for pair in (Pair(views[0], views[1]), Pair(views[1], views[0])):
        warped = pair.warp().grid()
        seen = warped.visible
        assert float(seen.float().mean()) > 0.2
        there = sample(pair.b.image, warped.points)[..., 0][seen]
        assert float((there - pair.a.image.flatten(1)[seen]).abs().mean()) < unlike


# --- depth brought to the picture ---


def test_depth_of_another_size_is_resampled_by_both_calibrations() -> None:
    pose = world_from_camera(1)
    depth = render(pose, DEPTH_INTRINSICS, DEPTH_SIZE)[1].astype(np.float32)
    expected = render(pose, INTRINSICS, SIZE)[1]
    resampled = resample_depth(depth, DEPTH_INTRINSICS, INTRINSICS, SIZE)
    assert resampled.shape == SIZE[::-1]
    slope = max(np.abs(np.diff(depth, axis=axis)).max() for axis in (0, 1))
    assert bool((resampled > 0).all())
    assert np.abs(resampled - expected).max() <= 1.01 * slope  # Half a pixel to each side, in x and in y.
    assert np.abs(resampled - expected).mean() < 0.4 * slope
    # The plain scaling of sizes would be pixels beside it.
    guessed = cv2.resize(depth, SIZE, interpolation=cv2.INTER_NEAREST)
    assert np.abs(guessed - expected).mean() > 3 * np.abs(resampled - expected).mean()


def test_resampling_keeps_edges_and_what_was_not_seen() -> None:
    depth = np.full((40, 60), 3.0, np.float32)
    depth[:, 30:] = 1.0
    depth[:5] = 0
    intrinsics = np.array([[50.0, 0, 29.5], [0, 50.0, 19.5], [0, 0, 1]])
    twice = resize_matrix((60, 40), (120, 80)) @ intrinsics
    resampled = resample_depth(depth, intrinsics, twice, (120, 80))
    np.testing.assert_array_equal(resampled, cv2.resize(depth, (120, 80), interpolation=cv2.INTER_NEAREST))
    wide = intrinsics.copy()
    wide[:2, 2] += 10
    shifted = resample_depth(depth, intrinsics, wide, (80, 60))
    np.testing.assert_array_equal(shifted[10:50, 10:70], depth)
    assert float(shifted.sum()) == float(depth.sum())


def test_registered_depth_of_a_slanted_plane_is_where_it_belongs_and_without_holes() -> None:
    pose = world_from_camera(1)
    depth = render(pose @ colour_from_depth(), DEPTH_INTRINSICS, DEPTH_SIZE)[1]
    expected = render(pose, INTRINSICS, SIZE)[1]
    registered = register_depth(depth.astype(np.float32), DEPTH_INTRINSICS, INTRINSICS, colour_from_depth(), SIZE)
    assert registered.dtype == np.float32
    # What the depth camera sees of the picture, but for the rim that its outermost pixels cover in part.
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    points = np.linalg.inv(INTRINSICS) @ np.stack((x.ravel(), y.ravel(), np.ones(x.size))) * expected.ravel()
    back = np.linalg.inv(colour_from_depth())
    seen_at = DEPTH_INTRINSICS @ (back[:3, :3] @ points + back[:3, 3:])
    places = seen_at[:2] / seen_at[2]
    seen = ((places > 0.5) & (places < np.array(DEPTH_SIZE)[:, None] - 1.5)).all(0).reshape(expected.shape)
    assert seen.mean() > 0.8
    assert bool((registered[seen] > 0).all())
    slope = max(np.abs(np.diff(depth, axis=axis)).max() for axis in (0, 1))
    assert np.abs(registered - expected)[seen].max() < 2 * slope
    assert np.abs(registered - expected)[seen].mean() < 0.5 * slope


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0, 3.0])
def test_registration_hides_what_the_picture_does_not_see(zoom: float) -> None:
    """A square 1 m away before a wall at 2 m; the colour camera stands 6 cm to the right."""
    focal, baseline, size = 100.0, 0.06, (100, 80)
    intrinsics = np.array([[focal, 0, 49.5], [0, focal, 39.5], [0, 0, 1]])
    depth = np.full(size[::-1], 2.0, np.float32)
    depth[20:60, 40:70] = 1.0
    transform = np.eye(4)
    transform[0, 3] = -baseline
    larger = (round(100 * zoom), round(80 * zoom))
    matrix = resize_matrix(size, larger)
    registered = register_depth(depth, intrinsics, matrix @ intrinsics, transform, larger)
    # Edges of pixels in the picture, by the disparity of each surface: 6 px of the square, 3 px of the wall.
    x = (np.arange(larger[0]) - matrix[0, 2]) / zoom
    y = (np.arange(larger[1]) - matrix[1, 2]) / zoom
    in_rows = ((y > 19.5) & (y < 59.5))[:, None]
    square = in_rows & ((x > 39.5 - 6) & (x < 69.5 - 6))[None]
    unseen = (in_rows & ((x > 69.5 - 6) & (x < 69.5 - 3))[None]) | (x > 99.5 - 3)[None]
    expected = np.where(square, 1.0, np.where(unseen, 0.0, 2.0))
    # Edges fall on edges of pixels; at half the size, a pixel that has both takes the nearer one.
    differs = registered != expected
    assert float(differs.mean()) <= (0.05 if zoom < 1 else 0.0)
    assert bool((registered[differs] > 0).all())


def test_registration_of_nothing_and_of_what_is_behind() -> None:
    depth = np.zeros((10, 12), np.float32)
    transform = np.eye(4)
    transform[2, 3] = -5
    assert not register_depth(depth, INTRINSICS, INTRINSICS, transform, SIZE).any()
    depth[:] = 3
    assert not register_depth(depth, INTRINSICS, INTRINSICS, transform, SIZE).any()


# --- plain and 7-Scenes ---


def write_plain(folder: Path) -> None:
    for index in range(COUNT):
        grey, depth = render(world_from_camera(index), INTRINSICS, SIZE)
        write_png(folder / "images" / f"{index:03d}.png", grey)
        write_png(folder / "depth" / f"{index:03d}.png", millimetres(depth))
    np.savetxt(folder / "poses.txt", [world_from_camera(index).ravel() for index in range(COUNT)])
    np.savetxt(folder / "K.txt", INTRINSICS)


def write_seven_scenes(
    folder: Path,
    intrinsics: NDArray[np.float64],
    size: Size,
    depth_intrinsics: NDArray[np.float64] | None = None,
    depth_size: Size | None = None,
    displacement: NDArray[np.float64] | None = None,
) -> None:
    """As distributed; without depth intrinsics, depth is registered."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(COUNT):
        pose = world_from_camera(index)
        depth_pose = pose if displacement is None else pose @ displacement
        grey = render(pose, intrinsics, size)[0]
        depth = render(depth_pose, intrinsics if depth_intrinsics is None else depth_intrinsics, depth_size or size)[1]
        write_png(folder / f"frame-{index:06d}.color.png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
        write_png(folder / f"frame-{index:06d}.depth.png", millimetres(depth, hole=65535))
        text = "\n".join("\t ".join(f"{value: .7e}" for value in row) + "\t" for row in pose)
        (folder / f"frame-{index:06d}.pose.txt").write_text(text + "\n")


def test_the_plain_layout(tmp_path: Path) -> None:
    write_plain(tmp_path)
    found = read_frames(tmp_path)
    assert (found.layout, found.image_root, found.depth_root) == ("plain", tmp_path / "images", tmp_path / "depth")
    assert [frame.name for frame in found.frames] == ["000.png", "001.png", "002.png", "003.png"]
    assert (found.folder, found.notes) == (tmp_path, [])
    assert_on_the_plane(found.frames)


def test_the_plain_layout_with_a_depth_camera_of_its_own(tmp_path: Path) -> None:
    write_plain(tmp_path)
    for index in range(COUNT):
        depth = render(world_from_camera(index) @ colour_from_depth(), DEPTH_INTRINSICS, DEPTH_SIZE)[1]
        write_png(tmp_path / "depth" / f"{index:03d}.png", millimetres(depth))
    with pytest.raises(SequenceError, match=r"64x50 beside a picture of 96x72.*depth\.K\.txt"):
        depths(read_frames(tmp_path).frames[0])
    np.savetxt(tmp_path / "colour_from_depth.txt", colour_from_depth())
    with pytest.raises(SequenceError, match=r"depth\.K\.txt"):
        read_frames(tmp_path)
    np.savetxt(tmp_path / "depth.K.txt", DEPTH_INTRINSICS)
    assert_on_the_plane(read_frames(tmp_path).frames, off=0.003)


def test_seven_scenes_as_distributed_has_default_intrinsics_and_says_so(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path / "seq-01", SEVEN_SCENES_INTRINSICS, (640, 480))
    found = read_frames(tmp_path / "seq-01")
    assert found.layout == "7-scenes"
    assert len(found.notes) == 1
    assert "beside the picture" in found.notes[0]
    assert found.frames[2].name == "frame-000002.color.png"
    assert_on_the_plane(found.frames[:2], known=0.99)
    with pytest.raises(SequenceError, match=r"holds 1 sequences; name one of them, as .*seq-01"):
        read_frames(tmp_path)


def test_seven_scenes_registers_depth_where_both_cameras_are_known(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path, INTRINSICS, SIZE, DEPTH_INTRINSICS, DEPTH_SIZE, colour_from_depth())
    with pytest.raises(SequenceError, match=r"pictures of 640x480, frame-000000\.color\.png has 96x72"):
        read_frames(tmp_path)
    np.savetxt(tmp_path / "colour.K.txt", INTRINSICS)
    with pytest.raises(SequenceError, match="64x50 beside a picture of 96x72"):
        depths(read_frames(tmp_path).frames[0])
    np.savetxt(tmp_path / "depth.K.txt", DEPTH_INTRINSICS)
    np.savetxt(tmp_path / "colour_from_depth.txt", colour_from_depth())
    found = read_frames(tmp_path)
    assert found.notes == []
    assert_on_the_plane(found.frames, off=0.003)
    (tmp_path / "colour_from_depth.txt").unlink()
    with pytest.raises(AssertionError):
        assert_on_the_plane(read_frames(tmp_path).frames, off=0.003)


def test_seven_scenes_with_one_calibration_is_registered_already(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path, INTRINSICS, SIZE)
    np.savetxt(tmp_path / "intrinsics.K.txt", INTRINSICS)
    assert_on_the_plane(read_frames(tmp_path).frames)
    np.savetxt(tmp_path / "other.K.txt", INTRINSICS)
    with pytest.raises(SequenceError, match=r"one file \*K\.txt.*intrinsics\.K\.txt, other\.K\.txt"):
        read_frames(tmp_path)


# --- TUM RGB-D ---


def quaternion(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """x, y, z, w, of a rotation by less than half a turn."""
    w = math.sqrt(1 + np.trace(matrix)) / 2
    x, y, z = matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]
    return np.array([x / (4 * w), y / (4 * w), z / (4 * w), w])


START = 1305031102.0


def write_tum(folder: Path, lens: Lens, size: Size, count: int = COUNT) -> None:
    """Pictures every second, depth 15 ms later, poses every 16 ms, so that those of the pictures lie between two."""
    folder.mkdir(parents=True)
    lists = {"rgb": ["# color images", "# timestamp filename"], "depth": ["# depth maps", "# timestamp filename"]}
    for index in range(count):
        grey, depth = render(world_from_camera(index), lens.intrinsics, size, lens.distortion)
        for name, time, pixels in (
            ("rgb", START + index, np.repeat(grey[..., None], 3, 2)),
            ("depth", START + index + 0.015, millimetres(depth, 5000)),
        ):
            write_png(folder / name / f"{time:.6f}.png", pixels)
            lists[name].append(f"{time:.6f} {name}/{time:.6f}.png")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    lines = ["# ground truth trajectory", "# timestamp tx ty tz qx qy qz qw"]
    for time in np.arange(-0.1, count, 0.016) + 0.005:
        pose = world_from_camera(time)
        values = [*pose[:3, 3], *quaternion(pose[:3, :3])]
        lines.append(f"{START + time:.4f} " + " ".join(f"{value:.6f}" for value in values))
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")


def test_tum_associates_by_time_and_interpolates_poses(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    write_tum(folder, Lens(INTRINSICS), SIZE)
    with pytest.raises(SequenceError, match=r"freiburg1, freiburg2 and freiburg3.*K\.txt"):
        read_frames(folder)
    np.savetxt(folder / "K.txt", INTRINSICS)
    found = read_frames(folder)
    assert found.layout == "tum"
    assert found.notes == []
    assert [frame.name for frame in found.frames] == [f"rgb/{START + index:.6f}.png" for index in range(COUNT)]
    assert found.image_root == folder
    for index, frame in enumerate(found.frames):
        np.testing.assert_allclose(frame.camera_from_world, np.linalg.inv(world_from_camera(index)), atol=1e-5)
    assert_on_the_plane(found.frames)


@pytest.mark.parametrize("number", ["1", "2", "3"])
def test_tum_cameras_are_known_by_name_and_their_distortion_is_undone(number: str, tmp_path: Path) -> None:
    lens = Lens.of(CAMERAS[number])
    folder = tmp_path / f"rgbd_dataset_freiburg{number}_desk"
    write_tum(folder, lens, (640, 480), 2)
    found = read_frames(folder)
    assert found.frames[0].distortion == lens.distortion
    assert len(lens.distortion) == (0 if number == "3" else 5)
    assert_on_the_plane(found.frames, off=0.001, unlike=0.01)
    if lens.distortion:
        np.savetxt(folder / "K.txt", lens.intrinsics)  # Given by the user, without the distortion.
        with pytest.raises(AssertionError):
            assert_on_the_plane(read_frames(folder).frames, off=0.001, unlike=0.01)
        (folder / "K.txt").unlink()
        (folder / "camera.txt").write_text(" ".join(map(str, CAMERAS[number])))
        assert_on_the_plane(read_frames(folder).frames, off=0.001, unlike=0.01)


def test_time_stamps_pair_up_nearest_first_and_once() -> None:
    first = np.array([0.000, 0.033, 0.066, 0.500])
    second = np.array([0.045, 0.018, 0.530, 0.068])
    # 0.066-0.068, then 0.033-0.045; 0.000-0.018 is what is left, and 0.500 has none.
    assert associate(first, second) == [(0, 1), (1, 0), (2, 3)]
    assert associate(first, second, 0.015) == [(1, 0), (2, 3)]
    # Both are near 0.010; the nearer one has it.
    assert associate(np.array([0.0, 0.012]), np.array([0.010])) == [(1, 0)]
    assert associate(np.array([0.0]), np.array([1.0])) == []


def test_errors_of_tum(tmp_path: Path) -> None:
    folder = tmp_path / "fr3_short"
    write_tum(folder, Lens(INTRINSICS), SIZE)
    with pytest.raises(SequenceError, match=r"principal point \(320\.1, 247\.6\) lies outside of a picture of 96x72"):
        read_frames(folder)
    np.savetxt(folder / "K.txt", INTRINSICS)
    lines = (folder / "groundtruth.txt").read_text().splitlines()
    words = lines[3].split()
    for wrong, message in (
        ([*words[:4], "0.5", *words[5:]], "unit quaternions"),
        ([*words[:4], "nan", *words[5:]], "unit quaternions"),
        (words[:6], "line 4: expected 'time tx"),
        ([*words[:4], "x", *words[5:]], "could not convert"),
    ):
        (folder / "groundtruth.txt").write_text("\n".join([*lines[:3], " ".join(wrong), *lines[4:]]))
        with pytest.raises(SequenceError, match=message):
            read_frames(folder)
    # Poses of the first second only: frames 1 and later have none; of frame 0, the nearest one is left.
    near = [line for line in lines[2:] if float(line.split()[0]) < START]
    (folder / "groundtruth.txt").write_text("\n".join(near))
    found = read_frames(folder)
    assert len(found.frames) == 1
    assert found.notes == ["3 of 4 pictures with depth have no pose within 0.02 s"]
    (folder / "groundtruth.txt").write_text("# nothing\n")
    with pytest.raises(SequenceError, match="no picture has both"):
        read_frames(folder)
    (folder / "groundtruth.txt").unlink()
    with pytest.raises(SequenceError, match=r"groundtruth\.txt: cannot be read"):
        read_frames(folder)
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    write_png(folder / "depth" / f"{START + 0.015:.6f}.png", np.full((36, 48), 5000, np.uint16))
    with pytest.raises(SequenceError, match="48x36 beside a picture of 96x72"):
        depths(read_frames(folder).frames[0])
    (folder / "rgb.txt").write_text("# nothing\n")
    with pytest.raises(SequenceError, match=r"rgb\.txt: expected a line"):
        read_frames(folder)


# --- ScanNet ---


def four_by_four(intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsics
    return matrix


def sens_header(
    count: int,
    version: int = 4,
    colour_kind: int = 2,
    depth_kind: int = 1,
    colour_from_device: NDArray[np.float64] | None = None,
    depth_from_device: NDArray[np.float64] | None = None,
    colour: NDArray[np.float64] = INTRINSICS,
) -> bytes:
    sensor = b"StructureSensor"
    content = struct.pack("<IQ", version, len(sensor)) + sensor
    for matrix in (
        four_by_four(colour),
        np.eye(4) if colour_from_device is None else colour_from_device,
        four_by_four(DEPTH_INTRINSICS),
        np.eye(4) if depth_from_device is None else depth_from_device,
    ):
        content += struct.pack("<16f", *matrix.ravel())
    content += struct.pack("<ii", colour_kind, depth_kind) + struct.pack("<IIII", *SIZE, *DEPTH_SIZE)
    return content + struct.pack("<f", 1000.0) + struct.pack("<Q", count)


def sens_frame(
    index: int,
    colour_kind: int = 2,
    depth_kind: int = 1,
    lost: bool = False,
    colour_from_device: NDArray[np.float64] | None = None,
    depth_from_device: NDArray[np.float64] | None = None,
) -> bytes:
    device = world_from_camera(index)
    to_colour = np.eye(4) if colour_from_device is None else colour_from_device
    to_depth = np.eye(4) if depth_from_device is None else depth_from_device
    grey = render(device @ np.linalg.inv(to_colour), INTRINSICS, SIZE)[0]
    depth = millimetres(render(device @ np.linalg.inv(to_depth), DEPTH_INTRINSICS, DEPTH_SIZE)[1])
    rgb = np.repeat(grey[..., None], 3, 2)
    stream = io.BytesIO()
    if colour_kind == 0:
        stream.write(rgb.tobytes())
    elif colour_kind == 1:
        stream.write(png_bytes(rgb))
    else:
        Image.fromarray(rgb).save(stream, "JPEG", quality=95)
    colour = stream.getvalue()
    raw = depth.astype("<u2").tobytes()
    stored = zlib.compress(raw) if depth_kind == 1 else raw
    pose = np.full((4, 4), -np.inf) if lost else device
    times = (1000 * index, 1000 * index + 5)
    return struct.pack("<16f4Q", *pose.ravel(), *times, len(colour), len(stored)) + colour + stored


@pytest.mark.parametrize(("colour_kind", "depth_kind"), [(2, 1), (1, 0), (0, 1)])
def test_sens_files_are_read_in_place(colour_kind: int, depth_kind: int, tmp_path: Path) -> None:
    path = tmp_path / "scene0000_00.sens"
    content = sens_header(COUNT + 1, colour_kind=colour_kind, depth_kind=depth_kind)
    for index in range(COUNT + 1):
        content += sens_frame(index, colour_kind, depth_kind, lost=index == 1)
    path.write_bytes(content + struct.pack("<Q", 0))  # No frames of the inertial sensor follow.
    before = sorted(tmp_path.iterdir())
    found = read_frames(tmp_path)
    ending = "png" if colour_kind == 1 else "jpg"
    assert [frame.name for frame in found.frames] == [f"{index:06d}.{ending}" for index in (0, 2, 3, 4)]
    assert found.notes == ["1 of 5 frames have no pose: tracking was lost there"]
    assert (found.layout, found.image_root, found.folder) == ("scannet-sens", None, path)
    assert_on_the_plane(found.frames, off=0.003)
    assert len(read_frames(path).frames) == COUNT
    assert sorted(tmp_path.iterdir()) == before
    pairs = SequencePairs(tmp_path, GeometricConfig(), 48, gaps=(1,))
    assert len(pairs) == 3
    assert pairs.notes == found.notes
    path.with_name("scene0000_01.sens").write_bytes(content)
    with pytest.raises(SequenceError, match=r"expected one \.sens file, got 2"):
        read_frames(tmp_path)


def test_sens_files_with_extrinsics_have_depth_registered(tmp_path: Path) -> None:
    path = tmp_path / "scan.sens"
    depth_from_device = np.linalg.inv(colour_from_depth())
    device = np.eye(4)
    device[:3, 3] = [0.02, 0.01, 0.0]
    poses = {"colour_from_device": device, "depth_from_device": depth_from_device @ device}
    path.write_bytes(sens_header(2, **poses) + sens_frame(0, **poses) + sens_frame(1, **poses))
    assert_on_the_plane(read_frames(path).frames, off=0.003)


def test_errors_of_sens_files(tmp_path: Path) -> None:
    path = tmp_path / "scan.sens"
    header, frames = sens_header(3), [sens_frame(index) for index in range(3)]
    second = len(header) + len(frames[0])
    whole = header + b"".join(frames)
    for length in (second + 50, second + 400, second + len(frames[1]) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            SequenceError, match=rf"cut short in frame 1 of 3, which begins at byte {second}; .* {length} "
        ):
            read_frames(path)
    path.write_bytes(whole[:100])
    with pytest.raises(SequenceError, match="cut short in its header"):
        read_frames(path)
    bad_pose = struct.pack("<16f", *np.diag([2.0, 1, 1, 1]).ravel()) + frames[0][64:]
    empty = np.zeros((3, 3))
    for content, message in (
        (b"", "cut short in its header"),
        (struct.pack("<IQ", 4, 2**40) + bytes(200), "cut short in its header"),
        (sens_header(1, version=3) + frames[0], "expected version 4 of the .sens format, got 3"),
        (sens_header(1, depth_kind=2) + frames[0], "occi_ushort.*SensReader"),
        (sens_header(1, colour_kind=-1) + frames[0], "stored as -1"),
        (sens_header(1, colour=empty) + frames[0], "colour: expected 3x3 intrinsics"),
        (sens_header(1) + bad_pose, "frame 0: .*no rotation"),
        (sens_header(1) + sens_frame(0, lost=True), "none of 1 frames has a pose"),
    ):
        path.write_bytes(content)
        with pytest.raises(SequenceError, match=message):
            read_frames(path)
    start = len(header) + 96
    damaged = bytearray(whole)
    damaged[start : start + 20] = bytes(20)
    damaged[second - 200 : second] = bytes(200)
    path.write_bytes(damaged)
    frame = read_frames(path).frames[0]
    with pytest.raises(SequenceError, match=f"frame 0 at byte {start}: its picture is damaged"):
        frame.read_grey()
    with pytest.raises(SequenceError, match=f"frame 0 at byte {start}: its depth is damaged"):
        depths(frame)


def write_exported(folder: Path) -> None:
    for index in range(COUNT):
        pose = world_from_camera(index)
        depth = render(pose, DEPTH_INTRINSICS, DEPTH_SIZE)[1]
        write_png(folder / "color" / f"{index * 10}.jpg", render(pose, INTRINSICS, SIZE)[0])
        write_png(folder / "depth" / f"{index * 10}.png", millimetres(depth))
        (folder / "pose").mkdir(exist_ok=True)
        np.savetxt(folder / "pose" / f"{index * 10}.txt", pose, fmt="%f")
    (folder / "intrinsic").mkdir()
    for name, matrix in (("color", INTRINSICS), ("depth", DEPTH_INTRINSICS)):
        np.savetxt(folder / "intrinsic" / f"intrinsic_{name}.txt", four_by_four(matrix), fmt="%f")
        np.savetxt(folder / "intrinsic" / f"extrinsic_{name}.txt", np.eye(4), fmt="%f")


def test_exported_scans(tmp_path: Path) -> None:
    write_exported(tmp_path)
    found = read_frames(tmp_path)
    assert (found.layout, found.image_root) == ("scannet", tmp_path / "color")
    assert [frame.name for frame in found.frames] == ["0.jpg", "10.jpg", "20.jpg", "30.jpg"]
    assert_on_the_plane(found.frames, off=0.003)
    np.savetxt(tmp_path / "pose" / "10.txt", np.full((4, 4), -np.inf))
    found = read_frames(tmp_path)
    assert len(found.frames) == COUNT - 1
    assert found.notes == ["1 of 4 frames have no pose: tracking was lost there"]


def test_errors_of_exported_scans(tmp_path: Path) -> None:
    write_exported(tmp_path)
    pose = (tmp_path / "pose" / "20.txt").read_text()
    (tmp_path / "pose" / "20.txt").unlink()
    with pytest.raises(SequenceError, match="got 4, 4 and 3; frame 20 is not complete"):
        read_frames(tmp_path)
    (tmp_path / "pose" / "20.txt").write_text(pose.replace(pose.split()[0], "3.0", 1))
    with pytest.raises(SequenceError, match=r"20\.txt: .*no rotation"):
        read_frames(tmp_path)
    (tmp_path / "pose" / "20.txt").write_text("")
    with pytest.raises(SequenceError, match=r"20\.txt: expected \(4, 4\)"):
        read_frames(tmp_path)
    (tmp_path / "pose" / "20.txt").write_text(pose)
    # Pictures made smaller after the export no longer have these intrinsics.
    write_png(tmp_path / "color" / "0.jpg", np.zeros((30, 40), np.uint8))
    with pytest.raises(SequenceError, match=r"intrinsic_color\.txt: the principal point \(47, 36\.5\) lies outside"):
        read_frames(tmp_path)
    (tmp_path / "intrinsic" / "intrinsic_color.txt").unlink()
    with pytest.raises(SequenceError, match=r"intrinsic_color\.txt"):
        read_frames(tmp_path)


# --- reconstructions of others ---


def write_text_model(folder: Path, names: Sequence[str], model: str = "PINHOLE", tail: str = "") -> None:
    """COLMAP's documentation, "Text format"."""
    folder.mkdir(parents=True)
    (fx, _, cx), (_, fy, cy) = INTRINSICS[:2]
    cameras = f"# Camera list\n7 {model} {SIZE[0]} {SIZE[1]} {fx} {fy} {cx + 0.5} {cy + 0.5}{tail}\n"
    (folder / "cameras.txt").write_text(cameras)
    lines = ["# Image list with two lines of data per image:"]
    for index, name in enumerate(names):
        pose = np.linalg.inv(world_from_camera(index))
        x, y, z, w = quaternion(pose[:3, :3])
        values = " ".join(f"{value:.12f}" for value in (w, x, y, z, *pose[:3, 3]))
        lines += [f"{index + 1} {values} 7 {name}", "10.5 12.5 -1"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("# 3D point list\n")


def write_binary_model(folder: Path, names: Sequence[str], scale: float = 1.0) -> None:
    images = {}
    for index, name in enumerate(names):
        pose = np.linalg.inv(world_from_camera(index))
        pose[:3, 3] *= scale
        images[index + 1] = RegisteredImage(index + 1, name, 1, pose, np.zeros((0, 2)), np.zeros(0, np.int64))
    camera = Camera.pinhole(1, SIZE, INTRINSICS)
    write_reconstruction(folder, Reconstruction({1: camera}, images, Points.empty()))


def write_h5_depth(path: Path, depth: NDArray[np.float64], unknown: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = depth.astype(np.float32)
    stored[2:6, 3:9] = unknown
    with h5py.File(path, "w") as file:
        file["depth"] = stored


NAMES = [f"{number}_{number:x}_o.jpg" for number in (2001, 300, 4171, 52)]


def write_pictures(folder: Path, size: Size = SIZE, quality: int = 95) -> None:
    folder.mkdir(parents=True)
    for index, name in enumerate(NAMES):
        intrinsics = resize_matrix(SIZE, size) @ INTRINSICS
        grey = render(world_from_camera(index), intrinsics, size)[0]
        Image.fromarray(grey).save(folder / name, quality=quality)


def test_megadepth_in_one_folder(tmp_path: Path) -> None:
    """Depth of -1 is unknown; depth maps may be smaller, as pictures may."""
    write_text_model(tmp_path / "sparse", NAMES)
    write_pictures(tmp_path / "imgs", (72, 54))
    for index, name in enumerate(NAMES):
        size = (60, 45)
        depth = render(world_from_camera(index), resize_matrix(SIZE, size) @ INTRINSICS, size)[1]
        write_h5_depth(tmp_path / "depths" / name.replace(".jpg", ".h5"), depth, unknown=-1)
    found = read_frames(tmp_path)
    assert found.layout == "megadepth"
    assert [frame.name for frame in found.frames] == [NAMES[3], NAMES[1], NAMES[0], NAMES[2]]
    assert found.frames[0].size == (72, 54)
    assert_on_the_plane(found.frames, off=0.003)

    (tmp_path / "imgs" / NAMES[0]).unlink()
    (tmp_path / "depths" / NAMES[1].replace(".jpg", ".h5")).unlink()
    found = read_frames(tmp_path)
    assert found.notes == ["1 of 4 pictures of the model are not there", "1 of 3 pictures have no depth map"]
    assert [frame.read_depth is None for frame in found.frames] == [False, True, False]


@pytest.mark.parametrize("place", ["phoenix/S6/zl548/MegaDepth_v1/0015/dense0/depths", "depth_undistorted/0015"])
def test_megadepth_as_its_archives_unpack(place: str, tmp_path: Path) -> None:
    """Undistorted_SfM/SCENE with pictures and model, depth where the archive puts it; the unit is the model's."""
    scene = tmp_path / "Undistorted_SfM" / "0015"
    write_binary_model(scene / "sparse", NAMES, scale=3.7)
    write_pictures(scene / "images")
    for index, name in enumerate(NAMES):
        depth = render(world_from_camera(index), INTRINSICS, SIZE)[1]
        write_h5_depth(tmp_path / place / name.replace(".jpg", ".h5"), 3.7 * depth)
    found = read_frames(scene)
    assert found.layout == "megadepth"
    assert_on_the_plane(found.frames, step=1 / 3.7)


def test_errors_of_megadepth(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images")
    depth = render(world_from_camera(3), INTRINSICS, SIZE)[1]
    path = tmp_path / "depths" / NAMES[3].replace(".jpg", ".h5")
    write_h5_depth(path, depth)
    with pytest.raises(SequenceError, match=r"expected a COLMAP model.*sparse.*Undistorted_SfM"):
        read_frames(tmp_path)
    write_text_model(tmp_path / "sparse" / "0", NAMES, "OPENCV", " 0.1 0 0 0")
    with pytest.raises(SequenceError, match=r"camera 7 \(OPENCV\) distorts.*image_undistorter"):
        read_frames(tmp_path)
    (tmp_path / "sparse" / "0").rename(tmp_path / "elsewhere")
    write_text_model(tmp_path / "sparse" / "0", NAMES)
    frame = read_frames(tmp_path).frames[0]
    write_h5_depth(path, depth[:, :60])
    with pytest.raises(SequenceError, match="60x72 pixels are of another shape than its picture, 96x72"):
        depths(frame)
    with h5py.File(path, "w") as file:
        file["disparity"] = depth
    with pytest.raises(SequenceError, match=r"expected the dataset 'depth', got \['disparity'\]"):
        depths(frame)
    path.write_bytes(b"not HDF5")
    with pytest.raises(SequenceError, match="cannot be read as HDF5"):
        depths(frame)
    Image.fromarray(np.zeros((96, 72), np.uint8)).save(tmp_path / "images" / NAMES[0])
    with pytest.raises(SequenceError, match=f"{NAMES[0]}: 72x96 pixels are of another shape than the model's camera"):
        read_frames(tmp_path)
    for name in NAMES:
        (tmp_path / "images" / name).unlink()
    with pytest.raises(SequenceError, match="none of the 4 pictures of its model"):
        read_frames(tmp_path)


def colmap_depth(depth: NDArray[np.float64]) -> bytes:
    """COLMAP's documentation, "Dense reconstruction": the header in text, then rows of float32."""
    header = f"{depth.shape[1]}&{depth.shape[0]}&1&".encode()
    values = [struct.pack("<f", value) for row in depth for value in row]
    return header + b"".join(values)


def test_training_scenes_of_the_matching_benchmark(tmp_path: Path) -> None:
    dense = tmp_path / "brandenburg_gate" / "dense"
    write_binary_model(dense / "sparse", NAMES)
    write_pictures(dense / "images")
    (dense / "stereo" / "depth_maps").mkdir(parents=True)
    for index, name in enumerate(NAMES):
        depth = render(world_from_camera(index), INTRINSICS, SIZE)[1]
        depth[2:6, 3:9] = 0
        (dense / "stereo" / "depth_maps" / f"{name}.geometric.bin").write_bytes(colmap_depth(depth))
    for folder in (dense, dense.parent):
        found = read_frames(folder)
        assert found.layout == "image-matching-benchmark"
        assert found.image_root == dense / "images"
        assert_on_the_plane(found.frames)


def test_validation_scenes_of_the_matching_benchmark(tmp_path: Path) -> None:
    folder = tmp_path / "sacre_coeur" / "set_100"
    write_pictures(folder / "images")
    (folder / "calibration").mkdir()
    for index, name in enumerate(NAMES):
        stem = name.removesuffix(".jpg")
        pose = np.linalg.inv(world_from_camera(index))
        with h5py.File(folder / "calibration" / f"calibration_{stem}.h5", "w") as file:
            file["K"] = INTRINSICS + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
            file["R"], file["T"] = pose[:3, :3], pose[:3, 3]
        write_h5_depth(folder / "depth_maps" / f"{stem}.h5", render(world_from_camera(index), INTRINSICS, SIZE)[1])
    found = read_frames(folder.parent)
    assert found.layout == "image-matching-benchmark"
    assert_on_the_plane(found.frames, off=1e-4)
    (folder / "calibration" / f"calibration_{stem}.h5").unlink()
    assert read_frames(folder).notes == ["1 of 4 pictures have no calibration"]
    with h5py.File(folder / "calibration" / "calibration_2001_7d1_o.h5", "a") as file:
        file["R"][...] = 2 * np.eye(3)
    with pytest.raises(SequenceError, match=r"calibration_2001_7d1_o\.h5: .*no rotation"):
        read_frames(folder)


# --- depth maps ---


def openmvs_depth(
    depth: NDArray[np.float64], magic: bytes, kind: int = 1 | 2, exponent: int = 0, name: str = "00001.jpg"
) -> bytes:
    """OpenMVS's `HeaderDepthDataRaw`, for a picture twice as large as its depth map."""
    height, width = depth.shape
    content = magic + struct.pack("<Bb", kind, exponent) + struct.pack("<4I", 2 * width, 2 * height, width, height)
    content += struct.pack("<2f", depth.min(), depth.max()) + (struct.pack("<f", 1.0) if magic == b"D2" else b"")
    content += struct.pack("<H", len(name)) + name.encode() + struct.pack("<I3I", 3, 1, 0, 2)
    larger = resize_matrix((width, height), (2 * width, 2 * height)) @ INTRINSICS
    content += struct.pack("<9d9d3d", *larger.ravel(), *np.eye(3).ravel(), 0, 0, 0)
    values = depth.astype("<f4") if magic == b"DR" else (depth / 2**exponent).astype("<f2")
    return content + values.tobytes() + bytes(12 * depth.size if kind & 2 else 0)


def test_depth_maps_of_colmap_and_openmvs(tmp_path: Path) -> None:
    depth = render(world_from_camera(1), INTRINSICS, SIZE)[1]
    depth[:3] = 0
    (tmp_path / "a.geometric.bin").write_bytes(colmap_depth(depth))
    read, intrinsics = read_depth_map(tmp_path / "a.geometric.bin")
    assert intrinsics is None
    np.testing.assert_array_equal(read, depth.astype(np.float32))
    for magic, exponent, tolerance in ((b"DR", 0, 1e-7), (b"D2", 1, 5e-4)):
        (tmp_path / "a.dmap").write_bytes(openmvs_depth(depth, magic, exponent=exponent))
        read, intrinsics = read_depth_map(tmp_path / "a.dmap")
        np.testing.assert_allclose(read, depth, rtol=tolerance)
        np.testing.assert_allclose(intrinsics, INTRINSICS)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["depth"] = [[1.0, -1.0], [np.nan, np.inf]]
    np.testing.assert_array_equal(read_depth_map(tmp_path / "a.h5")[0], [[1.0, 0.0], [0.0, 0.0]])


def test_depth_maps_are_found_by_name_or_by_header(tmp_path: Path) -> None:
    """OpenMVS numbers its maps; their header names the picture. A name that two folders share is not guessed at."""
    (tmp_path / "depth0007.dmap").write_bytes(openmvs_depth(np.ones((5, 4)), b"DR", name="images/left.jpg"))
    (tmp_path / "same.h5").write_bytes(b"")
    names = ["left.jpg", "a/same.jpg", "b/same.jpg", "without.jpg"]
    assert find_depth_maps(tmp_path, names) == {"left.jpg": tmp_path / "depth0007.dmap"}
    assert find_depth_maps(tmp_path, ["a/same.jpg"]) == {"a/same.jpg": tmp_path / "same.h5"}
    assert find_depth_maps(tmp_path / "missing", names) == {}


def test_errors_of_depth_maps(tmp_path: Path) -> None:
    depth = np.ones((5, 4))
    for name, content, message in (
        ("a.bin", colmap_depth(depth)[:-1], "cut short: 4x5 pixels take 86 bytes, the file has 85"),
        ("a.bin", b"4&5&3&" + bytes(240), "one channel, got 3; is it a normal map"),
        ("a.bin", b"", "begins with 'width&height&1&'"),
        ("a.bin", b"DR" + bytes(80), "begins with 'width&height&1&'"),
        ("a.dmap", openmvs_depth(depth, b"DR", kind=1)[:-1], "cut short: 4x5"),
        ("a.dmap", openmvs_depth(depth, b"DR")[:40], "cut short in its header"),
        ("a.dmap", b"", "cut short in its header"),
        ("a.dmap", openmvs_depth(depth, b"XX"), "begins with DR or D2"),
        ("a.dmap", openmvs_depth(depth, b"DR", kind=2), "begins with DR or D2"),
        ("a.exr", b"", r"ending in \.h5, \.bin, \.dmap"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SequenceError, match=message):
            read_depth_map(tmp_path / name)
    with pytest.raises(SequenceError, match="No such file"):
        read_depth_map(tmp_path / "missing.bin")


# --- which layout it is ---


def test_a_folder_of_no_layout_names_what_each_expects(tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match="no such folder"):
        detect_layout(tmp_path / "missing")
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(SequenceError, match="no such folder"):
        detect_layout(tmp_path / "file.txt")
    with pytest.raises(SequenceError) as caught:
        read_frames(tmp_path)
    for name in LAYOUTS:
        assert f"{name}: " in str(caught.value)
    with pytest.raises(SequenceError, match="layout 'other': expected one of plain, 7-scenes, tum"):
        read_frames(tmp_path, "other")


def test_a_layout_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    write_plain(tmp_path)
    write_seven_scenes(tmp_path, INTRINSICS, SIZE)
    assert detect_layout(tmp_path) == "plain"
    assert read_frames(tmp_path, "7-scenes").frames[0].name == "frame-000000.color.png"


def test_evaluation_says_what_a_recording_lacks(tmp_path: Path) -> None:
    write_exported(tmp_path)
    np.savetxt(tmp_path / "pose" / "0.txt", np.full((4, 4), -np.inf))
    settings = DataSettings(gaps=(1,), min_overlap=0.0)
    assert "1 of 4 frames have no pose" in open_data(tmp_path, settings).skipped[0]
    (tmp_path / "intrinsic" / "intrinsic_color.txt").unlink()
    with pytest.raises(SequenceError, match=r"intrinsic_color\.txt: expected numbers of shape \(4, 4\)"):
        open_data(tmp_path, settings)
