"""Preparations that are killed with SIGKILL, in every step and between steps, end with the scene of one that never was.

On one thread COLMAP is bit-for-bit repeatable, and so is all else: scenes are compared file by file, byte by byte.
One scene is killed again and again, each time further on, so that every run but the first goes on with what a killed
one left.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage.data")

from lfnet.data.reconstructions.colmap_files import read_reconstruction, write_reconstruction
from lfnet.data.scenes.scene import Scene, SceneError
from support.rendered_photos import RenderedView, poses, render, write_photos

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]
needs_pycolmap = pytest.mark.skipif(find_spec("pycolmap") is None, reason="needs pycolmap")

KILLED = """
import json, os, pathlib, signal, sys, time
from lfnet.cli import prepare
from lfnet.cli.main import main
from lfnet.preparation import scene_folder, steps

place, name, number, delay = json.loads(sys.argv.pop(1))

def die():
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)

def wrap(owner, method, is_time):
    original = getattr(owner, method)
    def wrapped(*arguments, **options):
        if is_time(*arguments):
            die()
        return original(*arguments, **options)
    setattr(owner, method, wrapped)

if place == "report":  # Of progress of a step.
    wrap(prepare._Bars, "progress", lambda bars, step, done, total: step == name and done >= number)
elif place == "finish":  # What the step made is there, and not yet noted.
    wrap(steps.Record, "finish", lambda record, step, *others: step == name)
elif place == "naming":  # The file is written, and has not yet its name.
    wrap(pathlib.Path, "replace", lambda path, target: pathlib.Path(target).name == name)
elif place == "cleaning":  # The scene is finished, and what only its making needed is being removed.
    wrap(scene_folder, "remove", lambda path: path.name == name)
sys.exit(main(sys.argv[1:]))
"""

Run = Callable[..., subprocess.CompletedProcess[str]]
Kill = Callable[..., None]
SIZE = (240, 180)
COUNT = 9
"""Photos: one more than a batch of features has."""
OPTIONS = ("--threads", 1, "--sfm.max-features", 600)


@pytest.fixture(scope="module")
def views() -> list[RenderedView]:
    return [render(pose, f"photo{number}.jpg", SIZE) for number, pose in enumerate(poses(COUNT))]


@pytest.fixture(scope="module")
def photos(views: list[RenderedView], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("killed") / "photos", views)


@pytest.fixture(scope="module")
def whole(photos: Path, run_lfnet: Run) -> Path:
    """The scene of the photos, by a run that was never killed."""
    scene = photos.parent / "whole"
    done = run_lfnet("prepare", "photos", photos, scene, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return scene


@pytest.fixture(scope="module")
def kill(user_environment: dict[str, str]) -> Kill:
    """Run `lfnet` until a point at which it kills itself."""

    def run(point: tuple[str, str, int, float], *words: object) -> None:
        command = [sys.executable, "-c", KILLED, json.dumps(point), *map(str, words)]
        done = subprocess.run(command, env=user_environment, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == -signal.SIGKILL, f"not killed at {point}: {done.stderr}"

    return run


def content(scene: Path) -> dict[str, Any]:
    """All that a scene is, without how long it took and what its making keeps for itself."""
    found: dict[str, Any] = {}
    for path in sorted(scene.rglob("*")):
        if path.is_file() and not path.is_relative_to(scene / "work"):
            found[path.relative_to(scene).as_posix()] = path.read_bytes()
    manifest = json.loads(found.pop("manifest.json"))
    manifest.pop("steps")
    return {**found, "manifest": manifest}


def assert_same(killed: Path, whole: Path) -> None:
    one, other = content(killed), content(whole)
    assert one.keys() == other.keys()
    different = [name for name in one if one[name] != other[name]]
    assert not different
    assert sorted(path.name for path in (killed / "work").iterdir()) == sorted(
        path.name for path in (whole / "work").iterdir()
    )


PHOTO_POINTS = [
    ("report", "survey", 3, 0.0),
    ("naming", "features.db", 0, 0.0),
    ("report", "features", 0, 0.2),
    ("report", "features", 8, 0.0),
    ("report", "matches", 0, 0.2),
    ("finish", "matches", 0, 0.0),
    ("report", "mapping", 5, 0.0),
    ("finish", "mapping", 0, 0.0),
    ("report", "pictures", 0, 0.05),
    ("naming", "images.bin", 0, 0.0),
    ("naming", "2.npy", 0, 0.0),
    ("report", "sweep", 3, 0.0),
    ("naming", "photo4.jpg.h5", 0, 0.0),
    ("finish", "depth", 0, 0.0),
    ("report", "pairs: pairs", 1, 0.0),
    ("naming", "pairs.h5", 0, 0.0),
    ("naming", "manifest.json", 0, 0.0),
    ("cleaning", "sweep", 0, 0.0),
]
"""Where a preparation of photos is killed: kind, name, number of things done, seconds to wait before."""


@needs_pycolmap
def test_photos_killed_in_every_step(photos: Path, whole: Path, kill: Kill, run_lfnet: Run) -> None:
    killed = photos.parent / "killed"
    for point in PHOTO_POINTS:
        if point[0] != "cleaning":
            with pytest.raises(SceneError, match="no scene"):
                Scene.open(killed)
        kill(point, "prepare", "photos", photos, killed, *OPTIONS)
    assert len(Scene.open(killed).frames) == COUNT  # Finished, though not tidied up.
    last = run_lfnet("prepare", "photos", photos, killed, *OPTIONS)
    assert last.returncode == 0, last.stderr
    assert "finished already" in last.stderr
    assert_same(killed, whole)


@needs_pycolmap
def test_settings_changed_after_a_kill(photos: Path, whole: Path, kill: Kill, run_lfnet: Run) -> None:
    """What a killed run with other settings left in the database and beside it is not taken over."""
    changed = photos.parent / "changed"
    more = ("--threads", 1, "--sfm.max-features", 900)
    kill(("report", "features", 8, 0.0), "prepare", "photos", photos, changed, *more)
    kill(("report", "matches", 0, 0.2), "prepare", "photos", photos, changed, *more)
    last = run_lfnet("prepare", "photos", photos, changed, *OPTIONS)
    assert last.returncode == 0, last.stderr
    assert "features: settings or inputs changed, done again" in last.stderr
    assert_same(changed, whole)


@needs_pycolmap
def test_colmap_ends_with_a_killed_command(photos: Path, kill: Kill) -> None:
    """Else two processes would write to one database, once the command is run again."""
    scene = photos.parent / "ends"
    kill(("report", "features", 0, 0.1), "prepare", "photos", photos, scene, *OPTIONS)
    for _ in range(50):
        if not workers_at(scene):
            return
        time.sleep(0.1)
    raise AssertionError("COLMAP's process goes on without its caller")


def workers_at(folder: Path) -> list[str]:
    """Processes of COLMAP that have a file in a folder open."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("reads open files from Linux's /proc")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [str(link.resolve()) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        found += [process.name for file in files if file.startswith(str(folder))]
    return found


@needs_pycolmap
def test_model_killed_and_gone_on_with(whole: Path, tmp_path: Path, kill: Kill, run_lfnet: Run) -> None:
    """With pictures by reference and depth measured, then with depth maps that are imported."""
    model = tmp_path / "model"
    write_reconstruction(model / "sparse", read_reconstruction(whole / "model"), binary=False)
    shutil.copytree(whole / "images", model / "images")
    words = ("prepare", "colmap", model, tmp_path / "killed", "--threads", 1)
    for point in [
        ("naming", "images.bin", 0, 0.0),
        ("naming", "3.npy", 0, 0.0),
        ("naming", "photo3.jpg.h5", 0, 0.0),
    ]:
        kill(point, *words)
    for name in ("killed", "whole"):
        done = run_lfnet("prepare", "colmap", model, tmp_path / name, "--threads", 1)
        assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "killed", tmp_path / "whole")
    shutil.copytree(whole / "depth", model / "depth")
    kill(("naming", "photo5.jpg.h5", 0, 0.0), "prepare", "colmap", model, tmp_path / "imported", "--threads", 1)
    done = run_lfnet("prepare", "colmap", model, tmp_path / "imported", "--threads", 1)
    assert done.returncode == 0, done.stderr
    for frame, other in zip(Scene.open(tmp_path / "imported").frames, Scene.open(whole).frames, strict=True):
        assert frame.read_depth is not None
        assert other.read_depth is not None
        np.testing.assert_array_equal(frame.read_depth(), other.read_depth())


def test_recording_killed_and_gone_on_with(
    views: list[RenderedView], tmp_path: Path, kill: Kill, run_lfnet: Run
) -> None:
    recording = tmp_path / "recording"
    (recording / "images").mkdir(parents=True)
    (recording / "depth").mkdir()
    for number, view in enumerate(views):
        Image.fromarray(view.picture).save(recording / "images" / f"{number}.png")
        Image.fromarray((view.depth * 1000).astype(np.uint16)).save(recording / "depth" / f"{number}.png")
    np.savetxt(recording / "K.txt", views[0].intrinsics)
    np.savetxt(
        recording / "poses.txt", [np.linalg.inv(view.camera_from_world).ravel() for view in views]
    )
    words = ("prepare", "rgbd", recording, tmp_path / "killed", "--threads", 1)
    for point in [
        ("naming", "images.bin", 0, 0.0),
        ("finish", "cameras", 0, 0.0),
        ("report", "pairs: pairs", 1, 0.0),
        ("naming", "manifest.json", 0, 0.0),
    ]:
        kill(point, *words)
    for name in ("killed", "whole"):
        done = run_lfnet("prepare", "rgbd", recording, tmp_path / name, "--threads", 1)
        assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "killed", tmp_path / "whole")
    assert len(Scene.open(tmp_path / "killed").frames) == COUNT
