"""Each example runs as a user runs it, and does what it says; wrappers run in the programs that they are for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import lfnet
from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.integrations.pycolmap_process import has_pycolmap
from support.commands import REPOSITORY
from support.rendered_photos import render_views, write_photos

EXAMPLES = REPOSITORY / "examples"
pytestmark = pytest.mark.skipif(
    "lfnet-cpu" not in lfnet.list_pretrained(), reason="examples use the packaged weights"
)
Run = Callable[..., str]


@pytest.fixture
def run(user_environment: dict[str, str], tmp_path: Path) -> Run:
    """Run an example in a folder of its own, and give back what it printed."""

    def start(name: str, *arguments: object) -> str:
        command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=user_environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return start


def load(path: Path, name: str) -> ModuleType:
    """A wrapper, as if it lay where its docstring says."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_are_short() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 5
    for script in scripts:
        assert len(script.read_text().splitlines()) <= 50, script.name


def test_two_pictures(run: Run, tmp_path: Path) -> None:
    views = render_views(3)[:2]
    write_photos(tmp_path, views)
    out = run("match_two_pictures.py", "photo0.jpg", "photo1.jpg", "matches.jpg")
    assert int(out.split(" mutual matches, ")[1].split()[0]) > 100
    assert Image.open(tmp_path / "matches.jpg").width > 2 * 300


@pytest.mark.slow
@pytest.mark.skipif(not has_pycolmap(), reason="pycolmap is not installed")
def test_a_folder_to_colmap_and_a_photo_localised_in_it(run: Run, tmp_path: Path) -> None:
    views = render_views(7)
    query = views.pop(3)
    write_photos(tmp_path / "photos", views)
    write_photos(tmp_path, [query])
    assert "6 of 6 photos" in run("folder_to_colmap.py", "photos", "model", "lfnet-cpu")
    out = run("localise_in_model.py", "photos", "model/0", query.name, "lfnet-cpu")
    pose = np.array([eval(line) for line in out.splitlines()[-4:]])
    found = {image.name: image.camera_from_world for image in read_reconstruction(tmp_path / "model/0").images.values()}
    centres = np.array([centre(found[view.name]) for view in views])
    truth = np.array([centre(view.camera_from_world) for view in views])
    linear, shift = similarity(centres, truth)
    assert np.linalg.norm(linear @ centre(pose) + shift - centre(query.camera_from_world)) < 0.05


def centre(camera_from_world: NDArray[np.float64]) -> NDArray[np.float64]:
    return -camera_from_world[:3, :3].T @ camera_from_world[:3, 3]


def similarity(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scaled turn and the shift that bring points onto others: Umeyama 1991."""
    a, b = source - source.mean(0), target - target.mean(0)
    left, spread, right = np.linalg.svd(b.T @ a)
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    linear = (left * signs) @ right * (spread @ signs / np.square(a).sum())
    return linear, target.mean(0) - linear @ source.mean(0)


@pytest.mark.slow
def test_a_panorama_is_the_picture_that_photos_were_taken_of(run: Run, tmp_path: Path) -> None:
    """Three photos of one wide picture by a camera that turns about its centre."""
    data = pytest.importorskip("skimage.data")
    wide = cv2.resize(data.coffee(), (900, 600), interpolation=cv2.INTER_CUBIC)
    camera = np.array([[500.0, 0, 199.5], [0, 500, 199.5], [0, 0, 1]])
    wide_from_middle = np.array([[1.0, 0, 250], [0, 1, 100], [0, 0, 1]])
    for name, degrees in (("left", -14), ("middle", 0), ("right", 14)):
        turn = cv2.Rodrigues(np.array([0, np.radians(degrees), 0]))[0]
        wide_from_photo = wide_from_middle @ camera @ turn @ np.linalg.inv(camera)
        photo = cv2.warpPerspective(wide, np.linalg.inv(wide_from_photo), (400, 400))
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
    run("stitch_panorama.py", "left.png", "middle.png", "right.png", "panorama.png")
    panorama = np.asarray(Image.open(tmp_path / "panorama.png"))
    assert panorama.shape[1] > 600
    matched = cv2.matchTemplate(panorama, np.asarray(Image.open(tmp_path / "middle.png")), cv2.TM_SQDIFF)
    x, y = cv2.minMaxLoc(matched)[2]
    top, left = 100 - y, 250 - x
    truth = wide[top : top + panorama.shape[0], left : left + panorama.shape[1]].astype(float)
    covered = panorama.any(2)
    assert covered.mean() > 0.6
    assert np.abs(panorama - truth)[covered].mean() < 4


@pytest.mark.slow
def test_training(run: Run, tmp_path: Path, folder: Path) -> None:
    out = run("train_on_your_pictures.py", folder, "run", 4)
    before, after = (int(line.split(": ")[1].split()[0]) for line in out.splitlines()[-2:])
    assert before > 50
    assert after > 50
    assert lfnet.LFNet.from_pretrained(tmp_path / "run" / "to_share").config.descriptor.dimension == 256


def test_vismatch(camera: NDArray[np.uint8]) -> None:
    pytest.importorskip("vismatch")
    module = load(EXAMPLES / "wrappers" / "vismatch_lfnet.py", "vismatch_lfnet")
    picture = np.repeat(camera[None] / np.float32(255), 3, axis=0)
    found = module.LFNetMatcher(max_num_keypoints=300, weights="lfnet-cpu")(picture, picture[:, 5:, 8:].copy())
    assert found["num_inliers"] > 150
    assert np.allclose(found["H"], [[1, 0, -8], [0, 1, -5], [0, 0, 1]], atol=0.2)
    assert found["all_desc0"].shape == (300, 256)
    assert len(found["matched_confidences"]) == len(found["matched_kpts0"])


def test_deep_image_matching(folder: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("deep_image_matching")
    module = load(EXAMPLES / "wrappers" / "deep_image_matching_lfnet.py", "deep_image_matching.extractors.lfnet")
    extractor = {"name": "lfnet", "weights": "lfnet-cpu", "max_keypoints": 200}
    package.config.confs["lfnet"] = {"extractor": extractor, "matcher": {"name": "kornia_matcher"}}
    package.config.opt_zoo["extractors"].append("lfnet")
    config = package.config.Config(
        {"images": folder, "outs": tmp_path / "out", "pipeline": "lfnet", "strategy": "bruteforce"}
    )
    stored = module.LFNetExtractor(config).extract(folder / "camera.png")
    found = package.io.h5.get_features(stored, "camera.png")
    ours = lfnet.extract(folder / "camera.png", "lfnet-cpu", max_keypoints=200)
    assert np.allclose(found["keypoints"], ours.keypoints, atol=1e-3)
    assert found["descriptors"].shape == (256, 200)


def test_image_matching_webui(camera: NDArray[np.uint8]) -> None:
    pytest.importorskip("imcui.hloc.utils.base_model")
    module = load(EXAMPLES / "wrappers" / "image_matching_webui_lfnet.py", "imcui.hloc.extractors.lfnet")
    extract_features = pytest.importorskip("imcui.hloc.extract_features")
    model = module.LFNet({"name": "lfnet", "weights": "lfnet-cpu", "max_keypoints": 200})
    found = extract_features.extract(model, camera, {"grayscale": True, "resize_max": 1600})
    assert found["descriptors"][0].shape == (256, 200)
    ours = lfnet.extract(camera, "lfnet-cpu", max_keypoints=200)
    assert np.allclose(found["keypoints"][0], ours.keypoints, atol=1e-3)
