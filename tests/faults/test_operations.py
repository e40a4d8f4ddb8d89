"""Every file operation of a command fails once, in each way of a disk; the command run again ends as if none had.

`make soak` lets each of them fail; without it a few of each kind do, the same in every run.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.cli.main import main
from lfnet.files.hdf5 import PatientFile
from lfnet.models.weights import read_weights
from lfnet.settings import config_to_dict
from lfnet.training import monitor
from lfnet.training.checkpoint import read_checkpoint
from support.contents import arrays, flat
from support.made_recordings import write_plain
from support.networks import tiny_config
from support.toml_files import write_toml

OPERATIONS = {
    "write": [(Path, "write_bytes"), (PatientFile, "_write_all"), (monitor, "open")],
    "rename": [(Path, "replace")],
    "fsync": [(os, "fsync")],
    "mkdir": [(Path, "mkdir")],
}
CODES = (errno.ENOSPC, errno.EIO, errno.EACCES)
MOST = 4
"""Failures of a kind in a command, unless all are asked for."""


class Faults:
    """Lets the n-th operation of a kind fail, and counts them."""

    def __init__(self, patch: pytest.MonkeyPatch, kind: str, number: int, code: int) -> None:
        self.count = 0
        for owner, method in OPERATIONS[kind]:
            original = getattr(owner, method, open)
            patch.setattr(owner, method, self._failing(original, method, number, code), raising=False)

    def _failing(self, original: Callable[..., Any], method: str, number: int, code: int) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count != number:
                return original(*arguments, **options)
            if method == "write_bytes":
                path, data = arguments
                original(path, data[: len(data) // 2])
            # As the system does: it names the file where it was given a name, not where it was given an open file.
            named = (str(arguments[0]),) if method in ("replace", "mkdir", "open") else ()
            raise OSError(code, os.strerror(code), *named)

        return operation


@dataclass(frozen=True)
class Job:
    """A command, and how what it leaves is compared."""

    words: Sequence[str]
    folder: Path
    """That it writes into."""
    content: Callable[[Path], dict[str, Any]]
    """All that is in the folder under final names."""
    is_sound: Callable[[dict[str, Any], dict[str, Any]], bool]
    """Whether what a failure left is whole, given that and what an undisturbed run leaves."""
    resumes: Callable[[], Sequence[str]] = tuple
    """Options that the second run has more."""


def assert_every_fault_is_got_over(job: Job, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Undisturbed first; then with an operation failing, and again without."""
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, kind, 0, 0)
        assert main([*job.words]) == 0
    expected = job.content(job.folder)
    for number, code in chosen(faults.count):
        shutil.rmtree(job.folder)
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, kind, number, code)
            returned = main([*job.words])
        assert_one_line(capsys.readouterr().err, code, job.folder)
        assert returned == 1
        assert job.is_sound(job.content(job.folder), expected), f"{kind} {number}"
        assert main([*job.words, *job.resumes()]) == 0, capsys.readouterr().err
        assert job.content(job.folder) == expected, f"{kind} {number}"
        assert not [path for path in job.folder.rglob(".*") if path.suffix in (".tmp", ".lock")]


def chosen(count: int) -> list[tuple[int, int]]:
    """Numbers of operations that fail, and how."""
    assert count  # Else there is nothing to fail, and nothing is shown.
    every = list(product(range(1, count + 1), CODES))
    return every if "LFNET_SOAK" in os.environ else random.Random(count).sample(every, min(MOST, len(every)))


def assert_one_line(said: str, code: int, folder: Path) -> None:
    """One error, with the file and the cause."""
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("lfnet: error: ")]
    assert len(errors) == 1, said
    assert os.strerror(code) in errors[0]
    assert str(folder) in errors[0]


def nothing_yet(left: dict[str, Any], expected: dict[str, Any]) -> bool:
    return not left


def hdf5_content(folder: Path) -> dict[str, Any]:
    return {path.name: flat(arrays(path)) for path in folder.glob("*.h5")}


@pytest.mark.parametrize("kind", OPERATIONS)
def test_extract(kind: str, folder: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    options = ["--weights", str(tiny_weights), "--max-keypoints", "8", "--resize", "64", "--threads", "1"]
    words = ["extract", str(folder), *options, "-o", str(out / "f.h5")]
    assert_every_fault_is_got_over(Job(words, out, hdf5_content, nothing_yet), kind, capsys)


@pytest.mark.parametrize("kind", OPERATIONS)
def test_match(kind: str, folder: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    features, pairs, out = tmp_path / "f.h5", tmp_path / "pairs.txt", tmp_path / "out"
    options = ["--weights", str(tiny_weights), "--max-keypoints", "8", "--resize", "64", "--threads", "1"]
    assert main(["extract", str(folder), *options, "-o", str(features)]) == 0
    pairs.write_text("camera.png coffee.jpg\ncoffee.jpg inside/turned.png\n")
    words = ["match", str(features), "--pairs", str(pairs), "--threads", "1", "-o", str(out / "m.h5")]
    assert_every_fault_is_got_over(Job(words, out, hdf5_content, nothing_yet), kind, capsys)


def scene_content(folder: Path) -> dict[str, Any]:
    """All that a scene is, without how long it took and what its making keeps for itself."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(folder / "work") and not path.name.startswith("."):
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    if "manifest.json" in found:
        manifest = json.loads(found["manifest.json"])
        del manifest["steps"]
        found["manifest.json"] = manifest
    return found


@pytest.mark.parametrize("kind", OPERATIONS)
def test_prepare(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recording, scene = tmp_path / "recording", tmp_path / "scene"
    write_plain(recording)

    def is_sound(left: dict[str, Any], expected: dict[str, Any]) -> bool:
        return "manifest.json" not in left and all(expected[name] == content for name, content in left.items())

    words = ["prepare", "rgbd", str(recording), str(scene), "--threads", "1"]
    assert_every_fault_is_got_over(Job(words, scene, scene_content, is_sound), kind, capsys)


def run_content(folder: Path) -> dict[str, Any]:
    """What a training leaves; a file that is not whole can't be read here."""
    found: dict[str, Any] = {}
    for path in folder.glob("*.ckpt"):
        found[path.name] = flat(read_checkpoint(path)[0])
    for path in folder.glob("*.safetensors"):
        read_weights(path)
        found[path.name] = path.read_bytes()
    for path in [*folder.glob("metrics.csv"), *folder.glob("pictures/[!.]*")]:
        found[path.name] = path.read_bytes()
    return found


@pytest.mark.parametrize("kind", OPERATIONS)
def test_train(kind: str, camera: NDArray, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    Image.fromarray(camera).save(tmp_path / "camera.png")
    config = write_toml(
        tmp_path / "tiny.toml",
        {
            "model": config_to_dict(tiny_config()),
            "strategy": {"keypoints": 16, "mask_reach": 4},
            "data": {"pictures": [tmp_path / "camera.png"], "size": 64, "render_share": 0.0},
            "optimizer": {"steps": 2, "batch": 1},
            "validation": {"every": 1, "pairs": 1, "keypoints": 16},
        },
    )
    words = ["train", str(config), "--threads", "1", "-o", str(out)]

    def is_sound(left: dict[str, Any], expected: dict[str, Any]) -> bool:
        return left.keys() <= expected.keys()

    job = Job(words, out, run_content, is_sound, lambda: ["--resume"] if (out / "last.ckpt").exists() else [])
    assert_every_fault_is_got_over(job, kind, capsys)
