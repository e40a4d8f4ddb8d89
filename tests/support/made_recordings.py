"""Recordings of a plane with a known texture, and what proves that they were read rightly."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfnet.coordinates import Size
from lfnet.data import layouts
from lfnet.data.frames import Frame, FrameSet, read_view
from lfnet.data.layouts import LAYOUTS
from lfnet.data.pair import Pair
from lfnet.data.recordings.tum import Lens
from lfnet.geometry.sampling import sample

NORMAL, DISTANCE = np.array([0.1, -0.15, 1.0]), 2.0
SIZE = (96, 72)
INTRINSICS = np.array([[80.0, 0.0, 47.0], [0.0, 82.0, 36.5], [0.0, 0.0, 1.0]])
DEPTH_SIZE = (64, 50)
DEPTH_INTRINSICS = np.array([[50.0, 0.0, 30.0], [0.0, 51.0, 25.5], [0.0, 0.0, 1.0]])
"""Of a depth camera that sees more than the colour camera, more coarsely."""
COUNT = 4


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


def write_plain(folder: Path) -> None:
    for index in range(COUNT):
        grey, depth = render(world_from_camera(index), INTRINSICS, SIZE)
        write_png(folder / "images" / f"{index:03d}.png", grey)
        write_png(folder / "depth" / f"{index:03d}.png", millimetres(depth))
    np.savetxt(folder / "poses.txt", [world_from_camera(index).ravel() for index in range(COUNT)])
    np.savetxt(folder / "K.txt", INTRINSICS)


def four_by_four(intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsics
    return matrix


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


def quaternion(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """x, y, z, w, of a rotation by less than half a turn."""
    w = math.sqrt(1 + np.trace(matrix)) / 2
    x, y, z = matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]
    return np.array([x / (4 * w), y / (4 * w), z / (4 * w), w])


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


def colmap_depth(depth: NDArray[np.float64]) -> bytes:
    """COLMAP's documentation, "Dense reconstruction": the header in text, then rows of float32."""
    header = f"{depth.shape[1]}&{depth.shape[0]}&1&".encode()
    values = [struct.pack("<f", value) for row in depth for value in row]
    return header + b"".join(values)
