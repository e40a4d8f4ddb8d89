"""A camera that walks along a textured plane: pictures, depth and poses that are known exactly."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.data.augment import (
    PhotometricConfig,
)
from lfnet.data.pair import Pair
from lfnet.geometry.sampling import sample

HEIGHT, WIDTH = 72, 96
INTRINSICS = np.array([[80.0, 0.0, 47.5], [0.0, 80.0, 35.5], [0.0, 0.0, 1.0]])
NORMAL, DISTANCE = np.array([0.1, -0.15, 1.0]), 2.0


def assert_photo_consistent(pair: Pair, tolerance: float = 0.02, least_seen: float = 0.1) -> None:
    """View b, warped into a, looks like a wherever a's pixels are valid and seen in b."""
    for there in (pair, pair.swapped()):
        warped = there.warp().grid()
        drawn = sample(there.b.image, warped.points)[..., 0]
        seen = warped.visible & there.a.valid.flatten(1)
        difference = (drawn - there.a.image.flatten(1)).abs()[seen]
        assert float(seen.float().mean()) > least_seen
        assert float(difference.mean()) < tolerance
        assert float(there.a.image.flatten(1)[seen].std()) > 5 * float(difference.mean())


def world_from_camera(index: int) -> NDArray[np.float64]:
    """A camera that moves to the right, nods and rolls."""
    nod, roll = 0.04 * index, 0.15 * index
    pitch = np.array([[1, 0, 0], [0, math.cos(nod), -math.sin(nod)], [0, math.sin(nod), math.cos(nod)]])
    turn = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = pitch @ turn
    pose[:3, 3] = [0.12 * index, -0.03 * index, 0.1 * index]
    return pose


def draw_frame(index: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Picture and depth of the plane NORMAL . X = DISTANCE (world), with a texture that lives on it."""
    pose = world_from_camera(index)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    rays = np.stack((x, y, np.ones_like(x)), -1) @ np.linalg.inv(INTRINSICS).T
    directions = rays @ pose[:3, :3].T
    depth = (DISTANCE - NORMAL @ pose[:3, 3]) / (directions @ NORMAL)
    u, v, _ = np.moveaxis(pose[:3, 3] + depth[..., None] * directions, -1, 0)
    grey = 0.5 + 0.2 * np.sin(9 * u + 3 * v) + 0.2 * np.sin(4 * u - 8 * v + 1) + 0.08 * np.sin(17 * u * v)
    return (255 * np.clip(grey, 0, 1)).round().astype(np.uint8), depth


def write_depth(path: Path, depth: NDArray[np.float64], hole: int = 0) -> None:
    millimetres = np.round(depth * 1000).astype(np.uint16)
    millimetres[:6, :8] = hole
    cv2.imwrite(str(path), millimetres)


STEADY = PhotometricConfig(enabled=False)


def smooth_picture(height: int, width: int) -> NDArray[np.uint8]:
    """A picture without fine detail, unlike itself everywhere."""
    noise = np.random.default_rng(0).random((height // 24 + 2, width // 24 + 2)).astype(np.float32)
    wide = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (255 * np.clip(wide, 0, 1)).round().astype(np.uint8)
