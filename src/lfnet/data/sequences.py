"""RGB-D sequences on disk: frames with depth, intrinsics and poses, read by reference.

Layouts (each states unit, invalid value and direction of the pose):
- plain: `images/*`, `depth/*.png` in like order, `K.txt` (3x3), `poses.txt` (one row-major 4x4 world-from-camera matrix
  a line). Depth: 16-bit millimetres, 0 unknown. Source: the test sequence of DeepVideoMVS (Duzceker et al., 2021).
- 7-Scenes: `NAME.color.{jpg,png}`, `NAME.depth.png`, `NAME.pose.txt` (4x4 world-from-camera), and an intrinsics file
  `*K.txt`. Depth: 16-bit millimetres, 0 and 65535 unknown. Source: Shotton et al. (2013), dataset page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from lfnet.data.pair import View
from lfnet.images import list_images, natural_key, read_grey


class SequenceError(ValueError):
    """A sequence that is missing files, or whose files do not fit together."""


@dataclass(frozen=True)
class Frame:
    """One frame, not yet read."""

    image: Path
    depth: Path
    intrinsics: np.ndarray
    """3x3, pixels of the depth map and of the picture alike."""
    world_from_camera: np.ndarray
    """4x4, metres."""


DEPTH_UNIT = 1e-3
"""Metres per step of the 16-bit depth of both layouts."""
DEPTH_UNKNOWN = 65535
"""Besides 0, the value that 7-Scenes gives to pixels without depth."""


def read_sequence(folder: str | Path) -> list[Frame]:
    """Frames of a sequence in either layout, in order of their names.

    Raises:
        SequenceError: naming the file that is missing or does not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SequenceError(f"sequence {folder}: no such folder")
    if (folder / "poses.txt").is_file():
        return _read_plain(folder)
    if any(folder.glob("*.pose.txt")):
        return _read_seven_scenes(folder)
    raise SequenceError(f"sequence {folder}: expected poses.txt (plain layout) or *.pose.txt (7-Scenes layout)")


def _matrix(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        values = np.loadtxt(path, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise SequenceError(f"{path}: expected numbers of shape {shape}, cannot be read ({error})") from error
    entries = int(np.prod(np.abs(shape)))
    if values.size % entries if -1 in shape else values.size != entries:
        raise SequenceError(f"{path}: expected {shape}, got {values.shape}")
    return values.reshape(shape)


def _check_pose(pose: np.ndarray, source: Path) -> np.ndarray:
    rotation = pose[:3, :3]
    if not np.isfinite(pose).all() or abs(np.linalg.det(rotation) - 1) > 1e-2:
        raise SequenceError(f"{source}: expected rigid 4x4 poses, got one with NaN or a block that is no rotation")
    return pose


def _read_plain(folder: Path) -> list[Frame]:
    intrinsics = _matrix(folder / "K.txt", (3, 3))
    poses = _matrix(folder / "poses.txt", (-1, 4, 4))
    images = list_images([folder / "images"])
    depths = sorted((folder / "depth").glob("*.png"), key=natural_key)
    if not len(images) == len(depths) == len(poses):
        raise SequenceError(
            f"sequence {folder}: expected as many pictures as depth maps and poses, "
            f"got {len(images)}, {len(depths)} and {len(poses)}"
        )
    for image, depth in zip(images, depths, strict=True):
        if image.stem != depth.stem:
            raise SequenceError(
                f"sequence {folder}: expected each depth map to have the name of its picture, "
                f"got {depth.name} beside {image.name}"
            )
    source = folder / "poses.txt"
    return [
        Frame(image, depth, intrinsics, _check_pose(pose, source))
        for image, depth, pose in zip(images, depths, poses, strict=True)
    ]


def _read_seven_scenes(folder: Path) -> list[Frame]:
    candidates = sorted(folder.glob("*K.txt"))
    if not candidates:
        raise SequenceError(f"sequence {folder}: expected a file *K.txt with the 3x3 intrinsics")
    intrinsics = _matrix(candidates[0], (3, 3))
    frames = []
    for pose_path in sorted(folder.glob("*.pose.txt"), key=natural_key):
        stem = pose_path.name.removesuffix(".pose.txt")
        images = [path for path in (folder / f"{stem}.color.jpg", folder / f"{stem}.color.png") if path.is_file()]
        depth = folder / f"{stem}.depth.png"
        if not images or not depth.is_file():
            raise SequenceError(f"{pose_path}: expected {stem}.color.jpg or .png and {stem}.depth.png beside it")
        frames.append(Frame(images[0], depth, intrinsics, _check_pose(_matrix(pose_path, (4, 4)), pose_path)))
    return frames


def read_depth(path: str | Path) -> np.ndarray:
    """Depth map in metres, float32 (H, W), 0 where unknown.

    Raises:
        SequenceError: if the file is no 16-bit picture of one channel.
    """
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        raise SequenceError(f"{path}: expected a 16-bit depth map of one channel; is the file there and complete?")
    depth = raw.astype(np.float32) * DEPTH_UNIT
    depth[raw == DEPTH_UNKNOWN] = 0
    return depth


def fill_pinholes(depth: np.ndarray, passes: int = 2, neighbours: int = 5, agreement: float = 0.05) -> np.ndarray:
    """Give unknown pixels the mean inverse depth of the 3x3 pixels around them, where it is plain what that is.

    Depth registered to a colour camera of finer resolution is riddled with holes of a pixel or two, 8 % of all pixels
    in the sequences here; left as they are, they punch the visible area, and with it the painted target, full of holes.

    Args:
        depth: (H, W), 0 where unknown.
        neighbours: how many of the eight around must be known.
        agreement: largest relative difference between the nearest and the farthest of them.
    """
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-6), 0).astype(np.float32)
    box = np.ones((3, 3), np.float32)
    for _ in range(passes):
        known = (inverse > 0).astype(np.float32)
        count = cv2.filter2D(known, -1, box, borderType=cv2.BORDER_CONSTANT)
        total = cv2.filter2D(inverse, -1, box, borderType=cv2.BORDER_CONSTANT)
        largest = cv2.dilate(inverse, box)
        smallest = cv2.erode(np.where(known > 0, inverse, np.float32(np.inf)), box)
        fill = (known == 0) & (count >= neighbours) & (largest - smallest <= agreement * largest)
        inverse = np.where(fill, total / np.maximum(count, 1), inverse)
    return np.where(inverse > 0, 1 / np.maximum(inverse, 1e-9), 0).astype(np.float32)


def read_view(frame: Frame) -> View:
    """Read picture and depth of a frame as a view of batch 1.

    Raises:
        SequenceError: if picture and depth differ in size: depth must be registered to the picture first.
    """
    grey, depth = read_grey(frame.image), fill_pinholes(read_depth(frame.depth))
    if grey.shape[:2] != depth.shape:
        raise SequenceError(
            f"{frame.depth}: depth of {depth.shape[1]}x{depth.shape[0]} beside a picture of "
            f"{grey.shape[1]}x{grey.shape[0]}; register the depth to the picture first"
        )
    image = torch.from_numpy(grey.astype(np.float32) / 255)[None, None]
    return View(
        image=image,
        valid=torch.ones_like(image, dtype=torch.bool),
        depth=torch.from_numpy(depth)[None, None],
        intrinsics=torch.from_numpy(frame.intrinsics).float()[None],
        camera_from_world=torch.from_numpy(np.linalg.inv(frame.world_from_camera)).float()[None],
    )
