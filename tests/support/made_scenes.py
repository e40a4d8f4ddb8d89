"""Prepared scenes made of the walk along the textured plane."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.data.scenes.scene import Scene, depth_path
from lfnet.preparation.pairs import PairSettings, make_pair_table, write_pair_table
from support.textured_plane import (
    HEIGHT,
    INTRINSICS,
    WIDTH,
    draw_frame,
    world_from_camera,
)

COUNT = 6


def write_manifest(folder: Path, **changes: object) -> None:
    manifest = {
        "format": "lfnet-scene",
        "version": 1,
        "source": {"layout": "photos", "folder": "/nowhere", "relative": "nowhere"},
        "pictures": "own",
        "depth": "own",
        **changes,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write_model(folder: Path, unit: float = 1.0) -> None:
    images = {}
    for index in range(COUNT):
        pose = np.linalg.inv(world_from_camera(index))
        pose[:3, 3] *= unit
        name = f"walk/{index}.png"
        images[index + 10] = RegisteredImage(index + 10, name, 1, pose, np.zeros((0, 2)), np.zeros(0, np.int64))
    cameras = {1: Camera.pinhole(1, (WIDTH, HEIGHT), INTRINSICS)}
    write_reconstruction(folder / "model", Reconstruction(cameras, images, Points.empty()))


def make_own_scene(folder: Path, unit: float = 1.0) -> Path:
    """A walk along a textured plane, with pictures and depth of its own; the last two pictures are held back."""
    write_model(folder, unit)
    write_manifest(folder)
    (folder / "images" / "walk").mkdir(parents=True)
    for index in range(COUNT):
        picture, depth = draw_frame(index)
        Image.fromarray(picture).save(folder / "images" / "walk" / f"{index}.png")
        path = depth_path(folder, f"walk/{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["depth"] = (unit * depth).astype(np.float32)
    add_pairs(folder)
    return folder


def add_pairs(folder: Path) -> None:
    (folder / "pairs.h5").touch()
    scene = Scene.open(folder)
    names = tuple(frame.name for frame in scene.frames[4:])
    settings = PairSettings(overlap=(0.1, 1.0), validation=names)
    write_pair_table(folder / "pairs.h5", make_pair_table(scene.frames, scene.image_ids, settings)[0])
