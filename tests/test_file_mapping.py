"""`lfnet colmap` and `lfnet pairs` as a user runs them, on rendered photos."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage.data")
if find_spec("pycolmap") is None:  # Not importorskip: pycolmap must not be imported into this process.
    pytest.skip("pycolmap is not installed", allow_module_level=True)

from lfnet.cli.main import main
from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.file_matching import MatchSettings, match_feature_file
from lfnet.integrations import hloc
from support.rendered_photos import RenderedView, render_views, write_photos

SIZE = (240, 180)
Lfnet = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def views() -> list[RenderedView]:
    return render_views(5, SIZE)


@pytest.fixture(scope="module")
def photos(views: list[RenderedView], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), views)


@pytest.fixture(scope="module")
def features(views: list[RenderedView], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RootSIFT's, so that the tests need no network."""
    path = tmp_path_factory.mktemp("features") / "features.h5"
    with h5py.File(path, "w") as file:
        for view in views:
            hloc.write_features(file, view.name, OpenCVExtractor("rootsift")(view.grey, max_keypoints=600))
    return path


@pytest.fixture
def lfnet(capsys: pytest.CaptureFixture[str]) -> Lfnet:
    """Run a command in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(map(str, words)))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_from_features_to_the_folder_that_trainers_open(
    lfnet: Lfnet, photos: Path, features: Path, views: list[RenderedView], tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.full(SIZE[::-1], 255, np.uint8)
    mask[:, :120] = 0
    Image.fromarray(mask).save(masks / "photo2.png")
    output = tmp_path / "out"
    words = ("colmap", photos, "-o", output, "--features", features, "--ratio", "0.8", "--threads", "1")
    code, told, _ = lfnet(*words, "--undistort", "--undistorted-side", "120", "--masks", masks)
    assert code == 0, told
    assert "features of 5 photos written; 5 photos added to it\n10 pairs chosen; 10 pairs of" in told
    assert f"{output / 'sparse' / '0'}: 5 of 5 photos" in told
    for place in ("sparse/0", "colmap/sparse/0"):
        model = read_reconstruction(output / "undistorted" / place)
        assert {camera.model for camera in model.cameras.values()} == {"PINHOLE"}
        assert len(model.images) == 5
    sizes = {Image.open(path).size for path in (output / "undistorted" / "images").iterdir()}
    assert len(sizes) == 1
    assert max(max(sizes)) == 120
    assert sorted(path.name for path in (output / "undistorted").iterdir()) == ["colmap", "images", "masks", "sparse"]
    drawn = np.asarray(Image.open(output / "undistorted" / "masks" / "photo2.jpg.png"))
    assert drawn[:, 70:].all()
    assert not drawn[:, :50].any()
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.bin")}
    code, told, _ = lfnet(*words, "--undistort", "--undistorted-side", "120", "--masks", masks)
    assert (code, "features of 0 photos written, 5 had theirs already" in told) == (0, True)
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.bin")}


def test_options_that_nothing_would_come_of_are_refused(
    lfnet: Lfnet, photos: Path, features: Path, tmp_path: Path
) -> None:
    given = ("colmap", photos, "-o", tmp_path / "out", "--features", features)
    for words, told in (
        (("--max-keypoints", "7"), "--features are taken as they are"),
        (("--weights", "nosuch"), "--features are taken as they are"),
        (("--batch-size", "2"), "--features are taken as they are"),
        (("--matches", features, "--ratio", "0.5"), "--matches are taken as they are"),
        (("--undistorted-side", "50"), "is of --undistort"),
        (("--undistorted-side", "-3", "--undistort"), "undistorted_side"),
        (("--fix-cameras",), "is of --map"),
        (("--sequential", "2", "--exhaustive"), "expected one of --exhaustive"),
    ):
        code, _, error = lfnet(*given, *words)
        assert (code, told in error, len(error.splitlines())) == (2, True, 1), error
    pairs = ("pairs", photos, "-o", tmp_path / "pairs.txt", "--exhaustive", "--features", features)
    assert lfnet(*pairs)[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_an_output_among_the_photos_is_none_of_them(
    lfnet: Lfnet, photos: Path, features: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    output = folder / "out"
    words = ("colmap", folder, "-o", output, "--features", features, "--sequential", "1", "--threads", "1")
    code, told, _ = lfnet(*words)
    assert (code, "5 photos written" in told) == (0, True)
    made = output / "undistorted" / "images"
    made.mkdir(parents=True)
    shutil.copy(folder / "photo0.jpg", made)
    code, told, _ = lfnet(*words)
    assert (code, "0 photos written, 5 had theirs already\n" in told) == (0, True), told


def test_matches_of_earlier_features_are_not_gone_on_with(
    lfnet: Lfnet, photos: Path, features: Path, tmp_path: Path
) -> None:
    mine = shutil.copy(features, tmp_path / "features.h5")
    with h5py.File(mine, "r+") as file:
        file.attrs["settings"] = "as always"
    words = ("colmap", photos, "-o", tmp_path / "out", "--features", mine, "--sequential", "1", "--threads", "1")
    assert lfnet(*words)[0] == 0
    with h5py.File(mine, "r+") as file:
        file["photo1.jpg/keypoints"][:] = file["photo1.jpg/keypoints"][:] + 1
    code, _, error = lfnet(*words)
    assert (code, "has matches of earlier features of photo1.jpg" in error) == (1, True), error
    assert lfnet(*words, "--overwrite")[0] == 0


def test_fewer_pairs_than_before_are_told(lfnet: Lfnet, photos: Path, features: Path, tmp_path: Path) -> None:
    words = ("colmap", photos, "-o", tmp_path / "out", "--features", features, "--threads", "1")
    assert "pairs of earlier runs" not in lfnet(*words)[1]
    assert "pairs of earlier runs stay in the database" in lfnet(*words, "--sequential", "1")[1]


def test_a_list_of_pairs_replaces_only_its_kind(lfnet: Lfnet, photos: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("mine, and nobody else's\n")
    code, _, error = lfnet("pairs", photos, "-o", notes, "--exhaustive")
    assert (code, "no list of pairs, so it is not overwritten" in error) == (1, True)
    assert notes.read_text() == "mine, and nobody else's\n"
    for _ in range(2):
        assert lfnet("pairs", photos, "-o", tmp_path / "pairs.txt", "--sequential", "1")[0] == 0


def test_a_photo_more_joins_what_is_there(lfnet: Lfnet, photos: Path, features: Path, tmp_path: Path) -> None:
    growing, output = tmp_path / "photos", tmp_path / "out"
    growing.mkdir()
    for number in range(4):
        shutil.copy(photos / f"photo{number}.jpg", growing)
    words = ("colmap", growing, "-o", output, "--features", features, "--map", "--threads", "1")
    assert "4 of 4 photos" in lfnet(*words)[1]
    shutil.copy(photos / "photo4.jpg", growing)
    code, told, _ = lfnet(*words)
    assert code == 0
    assert "features of 1 photos written, 4 had theirs already; 1 photos added to it" in told
    assert "5 of 5 photos" in told


def test_a_database_is_touched_only_when_it_is_meant(
    lfnet: Lfnet, photos: Path, features: Path, tmp_path: Path
) -> None:
    output, given = tmp_path / "out", ("--features", features, "--threads", "1")
    assert lfnet("colmap", photos, "-o", output, *given, "--database", tmp_path / "my.db")[0] == 0
    content = (tmp_path / "my.db").read_bytes()
    shutil.copy(tmp_path / "my.db", output / "database.db")
    refusals = {
        ("--database", tmp_path / "my.db"): "--append adds features to it, --replace takes others",
        (): "was not made by this command; name another output, or add to it by",
        ("--overwrite",): "was not made by this command",
        ("--database", tmp_path / "none.db", "--append"): "no such database; check the path",
    }
    for words, message in refusals.items():
        code, told, error = lfnet("colmap", photos, "-o", output, *given, *words)
        assert (code, told) == (1, "")
        assert message in error
        assert len(error.strip().splitlines()) == 1
    assert (output / "database.db").read_bytes() == (tmp_path / "my.db").read_bytes() == content
    code, told, _ = lfnet("colmap", photos, "-o", output, *given, "--database", tmp_path / "my.db", "--append")
    assert (code, "5 had theirs already" in told) == (0, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--append",), 2, "--append is for a --database that is there"),
        (("--database", "a.db", "--append", "--replace"), 2, "give one of them"),
        (("--matches", "m.h5"), 2, "--matches needs the --features"),
        (("--camera-model", "FISH"), 2, "expected one of COLMAP's"),
        (("--camera-params", "1,2"), 2, "SIMPLE_RADIAL has 4, got 2"),
        (("--camera-params", "1;2"), 2, "expected numbers and commas"),
        (("--sequential", "2", "--exhaustive"), 2, "expected one of --exhaustive, --sequential"),
        (("--features", "none.h5"), 1, "none.h5: no such file"),
        (("--masks", "none"), 1, "--masks none: no such folder"),
        (("--weights", "none"), 1, "none"),
    ],
)
def test_wrong_options_are_one_line(
    lfnet: Lfnet, photos: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    ended, told, error = lfnet("colmap", photos, "-o", tmp_path / "out", *words)
    assert (ended, told) == (code, "")
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_what_does_not_fit_is_one_line(lfnet: Lfnet, photos: Path, features: Path, tmp_path: Path) -> None:
    blank = tmp_path / "blank"
    blank.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", SIZE).save(blank / name)
    output = tmp_path / "out"
    code, _, error = lfnet("colmap", blank, "-o", output, "--features", features)
    assert (code, "has no features of the photos, as 'a.png', but of 'photo0.jpg'" in error) == (1, True)
    code, _, error = lfnet("colmap", blank, "-o", output, "--weights", "lfnet-cpu", "--threads", "1")
    assert (code, "no two of the 2 photos match" in error.splitlines()[-1]) == (1, True)
    code, _, error = lfnet("colmap", blank, "-o", output, "--weights", "lfnet-cpu", "--camera-per", "single")
    assert (code, "sharing auto (now single); name another output, or start again with" in error) == (1, True)


def test_pairs_by_command(lfnet: Lfnet, photos: Path, features: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.txt"
    code, told, _ = lfnet("pairs", photos, "-o", output, "--similar", "1", "--features", features)
    listed = hloc.read_pairs(output)
    assert (code, told) == (0, f"{output}: {len(listed)} of the 10 pairs of 5 pictures\n")
    assert {name for pair in listed for name in pair} == {f"photo{number}.jpg" for number in range(5)}
    assert match_feature_file(features, listed, tmp_path / "matches.h5", MatchSettings()) > 0
    code, _, error = lfnet("pairs", photos, "-o", output)
    assert (code, "expected one of --exhaustive" in error) == (2, True)


KILLED = """
import json, os, signal, sys
from lfnet.cli import prepare
from lfnet.cli.main import main

name, number = json.loads(sys.argv.pop(1))
original = prepare._Bars.progress

def progress(bars, step, done, total):
    if step == name and done >= number:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(bars, step, done, total)

prepare._Bars.progress = progress
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_in_every_step_it_ends_as_if_it_never_was(
    photos: Path, tmp_path: Path, user_environment: dict[str, str]
) -> None:
    def run(folder: str, kill: tuple[str, int]) -> int:
        words = ["colmap", photos, "-o", tmp_path / folder, "--weights", "lfnet-cpu", "--map", "--threads", "1"]
        command = [sys.executable, "-c", KILLED, json.dumps(kill), *map(str, words)]
        return subprocess.run(command, env=user_environment, capture_output=True, timeout=300, check=False).returncode

    assert run("whole", ("", 0)) == 0
    for kill in (("features", 2), ("matches", 4), ("verification", 0), ("mapping", 2)):
        assert run("killed", kill) == -signal.SIGKILL, kill
    assert run("killed", ("", 0)) == 0
    for name in ("cameras", "images", "points3D"):
        contents = {(tmp_path / folder / "sparse" / "0" / f"{name}.bin").read_bytes() for folder in ("whole", "killed")}
        assert len(contents) == 1, name
    rows = []
    for folder in ("whole", "killed"):
        with closing(sqlite3.connect(tmp_path / folder / "database.db")) as connection:
            tables = ("cameras", "images", "keypoints", "matches", "two_view_geometries")
            rows.append([connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables])
    assert rows[0] == rows[1]
    assert len(rows[0][3]) == len(list(combinations(range(5), 2)))
