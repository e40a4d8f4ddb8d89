"""A sound, small input for each reader."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import torch

from faults.fuzz import Case
from lfnet.data.depth_maps import read_depth_map, read_depth_png
from lfnet.data.reconstructions.colmap_files import read_reconstruction, write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.data.recordings.calibration import read_matrix
from lfnet.data.recordings.scannet import read_sens
from lfnet.data.recordings.tum import read_tum
from lfnet.data.scenes.scene import FORMAT, VERSION, read_manifest
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.pair_lists import open_pair_list
from lfnet.evaluation.results import Results, Row, Section, read_results, write_results
from lfnet.features import Features, Matches
from lfnet.files.hdf5_reading import write_text
from lfnet.integrations import hloc
from lfnet.models.lfnet import LFNet
from lfnet.models.weights import save_weights
from lfnet.training.checkpoint import read_checkpoint, restore, save_checkpoint
from lfnet.training.config import OptimizerConfig, TrainConfig, read_config
from lfnet.training.loop import new_state
from support.networks import tiny_config


def make_cases() -> dict[str, Case]:
    """Every reader's case, by name."""
    cases = {}
    for maker in (_hdf5, _texts, _models, _depths, _training, _json, _sens):
        folder = Path(tempfile.mkdtemp())
        try:
            for name, (read, spoiled) in maker(folder).items():
                files = {path.relative_to(folder).as_posix(): path.read_bytes()
                         for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip
                cases[name] = Case(read, spoiled, files)
        finally:
            shutil.rmtree(folder)
    return cases


Found = dict[str, tuple[Callable[[Path], Any], str]]


def _hdf5(folder: Path) -> Found:
    rng, count = np.random.default_rng(0), 6
    one = Features(rng.uniform(0, 60, (count, 2)), np.ones(count), np.zeros(count), rng.random(count),
                   rng.normal(size=(count, 4)), (64, 64))  # fmt: skip
    with h5py.File(folder / "features.h5", "w") as file:
        hloc.describe_frame(file)
        write_text(file, "settings", "{}")
        for name in ("a/one.jpg", "two.jpg"):
            hloc.write_features(file, name, one)
    with h5py.File(folder / "matches.h5", "w") as file:
        hloc.write_matches(file, "a/one.jpg", "two.jpg", Matches([[0, 1], [2, 3]], [0.5, 1]), count)

    def features(path: Path) -> None:
        with hloc.open_file(path) as file:
            for name in hloc.list_names(file):
                hloc.read_features(file, name)

    return {
        "features": (features, "features.h5"),
        "matches": (lambda path: hloc.read_matches(path, "a/one.jpg", "two.jpg"), "matches.h5"),
    }


def _texts(folder: Path) -> Found:
    (folder / "pairs.txt").write_text('a.jpg b.jpg\n"c d.jpg" e.jpg\n')
    (folder / "train.toml").write_text("seed = 3\n[optimizer]\nsteps = 5\nlearning_rate = 0.001\n[data]\nsize = 64\n")
    (folder / "pose.txt").write_text("1 0 0 0.5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    cv2.imwrite(str(folder / "1.png"), np.zeros((48, 64, 3), np.uint8))
    (folder / "rgb.txt").write_text("1.0 1.png\n2.0 1.png\n")
    (folder / "depth.txt").write_text("1.0 1.png\n2.0 1.png\n")
    (folder / "groundtruth.txt").write_text("1.0 0 0 0 0 0 0 1\n2.0 0 0 0 0 0 0 1\n")
    (folder / "camera.txt").write_text("50 50 31.5 23.5\n")
    camera = " 50 0 31.5 0 50 23.5 0 0 1"
    (folder / "posed.txt").write_text(f"1.png 1.png 0 1{camera}{camera} 1 0 0 0.5 0 1 0 0 0 0 1 0 0 0 0 1\n")
    return {
        "pairs": (hloc.read_pairs, "pairs.txt"),
        "toml": (read_config, "train.toml"),
        "pose": (lambda path: read_matrix(path, (4, 4)), "pose.txt"),
        "posed pairs": (lambda path: open_pair_list(path, DataSettings()), "posed.txt"),
        **{f"tum {name}": (lambda path: read_tum(path.parent), f"{name}.txt")
           for name in ("rgb", "depth", "groundtruth", "camera")},
    }  # fmt: skip


def _models(folder: Path) -> Found:
    camera = Camera.pinhole(3, (64, 48), np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]]))
    image = RegisteredImage(1, "a/one.jpg", 3, np.eye(4), np.array([[1.5, 2.5]]), np.array([7]))
    points = Points(np.array([7]), np.zeros((1, 3)), np.zeros((1, 3), np.uint8), np.zeros(1))
    model = Reconstruction({3: camera}, {1: image}, points)
    found: Found = {}
    for ending, binary in (("bin", True), ("txt", False)):
        write_reconstruction(folder / ending, model, binary)
        for table in ("cameras", "images", "points3D"):
            place = f"{ending}/{table}.{ending}"
            found[f"colmap {table}.{ending}"] = (lambda path: read_reconstruction(path.parent).tracks(), place)
    return found


def _depths(folder: Path) -> Found:
    depth = np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4)
    with h5py.File(folder / "depth.h5", "w") as file:
        file["depth"] = depth
    (folder / "depth.bin").write_bytes(b"4&3&1&" + depth.tobytes())
    cv2.imwrite(str(folder / "depth.png"), (depth * 1000).astype(np.uint16))
    found: Found = {f"depth {ending}": (read_depth_map, f"depth.{ending}") for ending in ("h5", "bin")}
    return {**found, "depth png": (lambda path: read_depth_png(path, 0.001), "depth.png")}


def _training(folder: Path) -> Found:
    config = TrainConfig(model=tiny_config(), optimizer=OptimizerConfig(steps=5))
    state = new_state(config, torch.device("cpu"))
    save_checkpoint(folder / "last.ckpt", state, config)
    save_weights(folder / "w.safetensors", state.model.config, state.model.state_dict(), {"licence": "none"})

    def resume(path: Path) -> None:
        values, saved = read_checkpoint(path)
        if saved.model == config.model:
            restore(new_state(config, torch.device("cpu")), values, path)

    return {"checkpoint": (resume, "last.ckpt"), "weights": (LFNet.from_pretrained, "w.safetensors")}


def _json(folder: Path) -> Found:
    rows = [Row("sift", "a-b", "g", {"score": 0.5}), Row("orb", "a-b", "g", {"score": float("nan")}, budget=9)]
    write_results(folder / "results.json", Results([Section("matching", "oxford", rows)], {"torch": "2"}, {"sift": {}}))
    source = f'{{"layout": "photos", "folder": "{folder.name}"}}'
    (folder / "manifest.json").write_text(
        f'{{"format": "{FORMAT}", "version": {VERSION}, "pictures": "own", "depth": "own", "source": {source}, '
        '"checksums": {"pairs.h5": "0"}}'
    )
    return {
        "results": (read_results, "results.json"),
        "manifest": (lambda path: read_manifest(path.parent), "manifest.json"),
    }


def _sens(folder: Path) -> Found:
    size, intrinsics = (16, 12), np.diag([20.0, 20, 1, 1])
    intrinsics[:2, 2] = 8, 6
    matrices = (intrinsics, np.eye(4), intrinsics, np.eye(4))
    content = struct.pack("<IQ", 4, 6) + b"sensor" + b"".join(matrix.astype("<f4").tobytes() for matrix in matrices)
    content += struct.pack("<2i4IfQ", 2, 1, *size, *size, 1000.0, 2)
    colour = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()
    depth = zlib.compress(np.full((12, 16), 1500, "<u2").tobytes())
    for _ in range(2):
        content += np.eye(4, dtype="<f4").tobytes() + struct.pack("<4Q", 0, 0, len(colour), len(depth)) + colour + depth
    (folder / "scan.sens").write_bytes(content)

    def read(path: Path) -> None:
        for frame in read_sens(path).frames:
            frame.read_image()
            frame.read_depth()  # type: ignore[misc]

    return {"sens": (read, "scan.sens")}
