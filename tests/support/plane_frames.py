"""Frames that see one plane, whose overlap is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lfnet.data.frames import Frame
from lfnet.preparation.overlap import Measurements, measure_pairs, read_thumbnails

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
INTRINSICS = np.array([[FOCAL, 0.0, (WIDTH - 1) / 2], [0.0, FOCAL, (HEIGHT - 1) / 2], [0.0, 0.0, 1.0]])


def no_picture() -> NDArray[np.uint8]:
    raise AssertionError("pairs are measured without pictures")


def plane_frame(
    name: str,
    centre: tuple[float, float, float],
    zoom: float = 1.0,
    rotation: NDArray[np.float64] | None = None,
    unit: float = 1.0,
    far: float = 0.0,
) -> Frame:
    """A camera that looks along z at the plane z = 2, or along z turned by `rotation`."""
    rotation = np.eye(3) if rotation is None else rotation
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = rotation
    world_from_camera[:3, 3] = unit * np.array(centre) + far
    intrinsics = INTRINSICS.copy()
    intrinsics[:2, :2] *= zoom
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack((x, y, np.ones_like(x)), -1) @ np.linalg.inv(intrinsics).T @ rotation.T
    depth = (unit * (2 - centre[2]) / rays[..., 2]).astype(np.float32)
    return Frame(name, (WIDTH, HEIGHT), intrinsics, np.linalg.inv(world_from_camera), no_picture, lambda: depth.copy())


def measured(*frames: Frame) -> Measurements:
    return measure_pairs(read_thumbnails(frames), np.array([[0, 1]]))


def walk(count: int = 30, step: float = 0.12) -> list[Frame]:
    """Along the plane and back, nearer on the way back."""
    frames = []
    for index in range(count):
        forth = index < count // 2
        place = index if forth else count - 1 - index
        frames.append(plane_frame(f"{index:03d}.png", (step * place, 0.0, 0.0 if forth else 0.8)))
    return frames
