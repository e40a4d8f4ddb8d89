"""Recordings of the walk along the textured plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.textured_plane import (
    INTRINSICS,
    draw_frame,
    world_from_camera,
    write_depth,
)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain"
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    poses = []
    for index in range(4):
        picture, depth = draw_frame(index)
        Image.fromarray(picture).save(folder / "images" / f"{index:03d}.png")
        write_depth(folder / "depth" / f"{index:03d}.png", depth)
        poses.append(world_from_camera(index).ravel())
    np.savetxt(folder / "poses.txt", poses)
    np.savetxt(folder / "K.txt", INTRINSICS)
    return folder


@pytest.fixture
def seven_scenes(tmp_path: Path) -> Path:
    folder = tmp_path / "seven"
    folder.mkdir()
    for index in range(4):
        picture, depth = draw_frame(index)
        Image.fromarray(picture).save(folder / f"frame-{index:06d}.color.png")
        write_depth(folder / f"frame-{index:06d}.depth.png", depth, hole=65535)
        np.savetxt(folder / f"frame-{index:06d}.pose.txt", world_from_camera(index))
    np.savetxt(folder / "camera-K.txt", INTRINSICS)
    return folder
