"""Posed pictures with depth, by reference: the one type that every layout on disk is read into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.data.pair import View
from lfnet.errors import UserError
from lfnet.images import grey_bytes


class SequenceError(UserError):
    """Data that is missing files, or whose files do not fit together; the message names the file and the remedy."""


@dataclass(frozen=True)
class Frame:
    """One picture with its camera and depth, not yet read.

    Where the lens is known to distort, `read_image` and `read_depth` give the picture and the depth undistorted:
    `intrinsics` is the pinhole camera of what they return.
    """

    name: str
    """Of the picture, relative to the folder of pictures, with forward slashes: its name in a COLMAP model."""
    size: Size
    """(width, height) of the picture, pixels."""
    intrinsics: NDArray[np.float64]
    """3x3; the centre of the top-left pixel is (0, 0)."""
    camera_from_world: NDArray[np.float64]
    """4x4, rigid."""
    read_image: Callable[[], NDArray[np.uint8]]
    """Picture, (H, W, 3) RGB or (H, W) grey."""
    read_depth: Callable[[], NDArray[np.float32]] | None
    """z in the camera frame for every pixel of the picture, (H, W), in the unit of the poses, 0 where unknown; None
    where there is no depth."""
    distortion: tuple[float, ...] = ()
    """OpenCV's coefficients (k1, k2, p1, p2, k3) of the picture as stored; empty for a pinhole camera."""

    def read_grey(self) -> NDArray[np.uint8]:
        """Grey picture, (H, W)."""
        return grey_bytes(self.read_image())


@dataclass(frozen=True)
class FrameSet:
    """The frames of one recording or reconstruction, as one layout on disk holds them."""

    layout: str
    """Its name in `LAYOUTS`."""
    folder: Path
    frames: list[Frame]
    """In order of time, or of their names."""
    image_root: Path | None = None
    """Folder that the frames' names are relative to; None where the pictures are no files of their own."""
    depth_root: Path | None = None
    """Folder of the depth maps, where they have one."""
    notes: list[str] = field(default_factory=list)
    """What was left out and why, a line each: "12 frames without a pose"."""


ROTATION_TOLERANCE = 1e-2
"""Largest entry of R R^T - 1, and difference of det R from 1, of a pose that was written with few digits."""


def check_pose(pose: NDArray[np.float64], source: Path | str) -> NDArray[np.float64]:
    """The pose itself, if it is rigid.

    Args:
        pose: 4x4.
        source: named in the error.

    Raises:
        SequenceError: NaN or infinity, or a block that is no rotation.
    """
    rotation = pose[:3, :3]
    if not np.isfinite(pose).all():
        raise SequenceError(f"{source}: expected rigid 4x4 poses, got one with NaN or infinity; leave that frame out")
    far = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if far > ROTATION_TOLERANCE or abs(np.linalg.det(rotation) - 1) > ROTATION_TOLERANCE:
        raise SequenceError(
            f"{source}: expected rigid 4x4 poses, got one whose 3x3 block is no rotation (R R^T is off by {far:.2g}, "
            f"determinant {np.linalg.det(rotation):.3g}); leave that frame out, or check the order of its numbers"
        )
    return pose


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
        SequenceError: picture, depth and camera differ in size, or there is no depth.
        ImageError: the picture can't be read.
    """
    if frame.read_depth is None:
        raise SequenceError(f"{frame.name}: no depth map; only frames with depth can be warped")
    grey, depth = frame.read_grey(), fill_pinholes(frame.read_depth())
    if grey.shape[:2] != depth.shape:
        raise SequenceError(
            f"{frame.name}: depth of {depth.shape[1]}x{depth.shape[0]} beside a picture of "
            f"{grey.shape[1]}x{grey.shape[0]}; register the depth to the picture first"
        )
    image = torch.from_numpy(grey.astype(np.float32) / 255)[None, None]
    return View(
        image=image,
        valid=torch.ones_like(image, dtype=torch.bool),
        depth=torch.from_numpy(depth)[None, None],
        intrinsics=torch.from_numpy(frame.intrinsics).float()[None],
        camera_from_world=torch.from_numpy(frame.camera_from_world).float()[None],
    )
