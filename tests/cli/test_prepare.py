"""What `lfnet prepare` says when it can't do what is asked, or not all of it: one line, with the remedy."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage.data")

from lfnet.cli.main import main
from lfnet.data.reconstructions.colmap_files import read_reconstruction, write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.data.scenes.scene import Scene, depth_path
from lfnet.files.atomic import held
from lfnet.files.containment import OutsideError
from lfnet.preparation.depth import DepthMaps
from lfnet.preparation.steps import PreparationError
from lfnet.preparation.survey import find_photos, survey_photos
from lfnet.preparation.target import check_room
from support.rendered_photos import intrinsics, look, poses, render, write_photo

pytestmark = pytest.mark.slow

needs_pycolmap = pytest.mark.skipif(find_spec("pycolmap") is None, reason="needs pycolmap")
SIZE = (240, 180)
OPTIONS = ("--threads", "1", "--sfm.max-features", "600")


class Told(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    error: str


Prepare = Callable[..., Told]


@pytest.fixture
def prepare(capsys: pytest.CaptureFixture[str]) -> Prepare:
    """Run `lfnet prepare` in this process."""

    def run(*words: object) -> Told:
        capsys.readouterr()
        code = main(["prepare", *map(str, words)])
        printed = capsys.readouterr()
        return Told(code, printed.out, printed.err)

    return run


def assert_refused(told: Told, *parts: str, code: int = 1) -> None:
    """One line, the last, that begins as all of our errors and holds the parts."""
    assert told.code == code, told
    assert "Traceback" not in told.error
    line = told.error.strip().splitlines()[-1]
    assert line.startswith("lfnet: error: "), told.error
    for part in parts:
        assert part in line


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos without EXIF, one of something else, one twice, one that is empty and one that is no picture."""
    import skimage.data as data

    folder = tmp_path_factory.mktemp("errors") / "photos"
    for number, pose in enumerate(poses(5)):
        write_photo(folder / f"photo{number}.jpg", render(pose, "", SIZE).picture, focal_length=False)
    shutil.copyfile(folder / "photo1.jpg", folder / "photo1 copy.jpg")
    Image.fromarray(data.camera()[100:280, 100:340]).convert("RGB").save(folder / "elsewhere.jpg", quality=95)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "damaged.jpg").write_bytes((folder / "photo0.jpg").read_bytes()[:3000])
    return folder


@pytest.fixture(scope="module")
def scene(photos: Path) -> Path:
    """A scene of these photos, and what was said while it was made, in `said.txt` beside it."""
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main(["prepare", "photos", str(photos), str(photos.parent / "scene"), *OPTIONS])
    (photos.parent / "said.txt").write_text(said.getvalue())
    assert code == 0, said.getvalue()
    return photos.parent / "scene"


@needs_pycolmap
def test_photos_with_faults_are_named_and_the_rest_goes_on(scene: Path) -> None:
    said = (scene.parent / "said.txt").read_text()
    assert "left out: photo1.jpg is photo1 copy.jpg again" in said
    for name in ("empty.jpg", "damaged.jpg"):
        line = next(line for line in said.splitlines() if f"{name}: " in line)
        assert line.startswith("left out: ")
        assert ";" in line  # The remedy follows.
    assert "no focal length in the EXIF of 6 of 6 photos" in said
    assert "--sfm.focal-length gives it" in said
    assert "not placed: elsewhere.jpg; photos between these and the others would join them" in said
    assert "registered 5 of 9 photos" in said
    numbers = json.loads((scene / "manifest.json").read_text())["numbers"]
    assert numbers["unregistered"] == ["elsewhere.jpg"]
    assert len(numbers["unreadable"]) == 2
    assert len(Scene.open(scene).frames) == 5


@needs_pycolmap
def test_a_second_run_does_nothing_and_says_so(photos: Path, scene: Path, prepare: Prepare) -> None:
    def written() -> dict[str, int]:
        files = (path for path in scene.rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = written()
    start = time.monotonic()
    told = prepare("photos", photos, scene, *OPTIONS)
    assert time.monotonic() - start < 5
    assert told.code == 0
    assert told.error.strip() == f"{scene} is finished already, with these settings; nothing is done again"
    assert "registered 5 of 9 photos" in told.out
    assert written() == before


@needs_pycolmap
def test_changed_settings_redo_later_steps_only(
    photos: Path, scene: Path, tmp_path: Path, prepare: Prepare
) -> None:
    changed = tmp_path / "scene"
    shutil.copytree(scene, changed)
    told = prepare("photos", photos, changed, *OPTIONS, "--pairs.max-angle", 50)
    assert told.code == 0
    assert "pairs: settings or inputs changed, done again" in told.error
    for step in ("survey", "features", "matches", "mapping", "pictures", "sweep", "depth"):
        assert f"{step}: settings" not in told.error
        assert f"\n{step}: " not in told.error
    told = prepare("photos", photos, changed, *OPTIONS, "--pairs.max-angle", 50, "--depth.min-score", 0.5)
    assert told.code == 0
    assert "depth: settings or inputs changed, done again" in told.error
    assert "features" not in told.error
    assert json.loads((changed / "manifest.json").read_text())["settings"]["depth"]["min_score"] == 0.5
    more = ("--pairs.max-angle", 50, "--depth.min-score", 0.5)
    told = prepare("photos", photos, changed, *OPTIONS, *more, "--licence", "mine")
    assert told.code == 0
    assert json.loads((changed / "manifest.json").read_text())["licence"] == "mine"


@needs_pycolmap
def test_files_gone_from_a_scene_are_made_again(photos: Path, scene: Path, tmp_path: Path, prepare: Prepare) -> None:
    mended = tmp_path / "scene"
    shutil.copytree(scene, mended)
    lost = [mended / "depth" / "photo2.jpg.h5", mended / "images" / "photo3.jpg", mended / "pairs.h5"]
    before = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    told = prepare("photos", photos, mended, *OPTIONS)
    assert told.code == 0, told.error
    assert [path.read_bytes() for path in lost] == before


@needs_pycolmap
def test_files_gone_are_made_again_without_a_manifest(
    photos: Path, scene: Path, tmp_path: Path, prepare: Prepare
) -> None:
    mended = tmp_path / "scene"
    shutil.copytree(scene, mended)
    lost = [mended / "manifest.json", mended / "images" / "photo3.jpg", mended / "depth" / "photo4.jpg.h5"]
    for path in lost:
        path.unlink()
    told = prepare("photos", photos, mended, *OPTIONS)
    assert told.code == 0, told.error
    assert all(path.exists() for path in lost)


@needs_pycolmap
def test_a_scene_of_other_photos_is_not_overwritten(
    photos: Path, scene: Path, tmp_path: Path, prepare: Prepare
) -> None:
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    manifest = (scene / "manifest.json").read_bytes()
    assert_refused(prepare("photos", other, scene, *OPTIONS), f"is a scene of {photos.resolve()}", "delete this one")
    assert (scene / "manifest.json").read_bytes() == manifest


@needs_pycolmap
def test_files_gone_are_made_again_though_a_kill_comes_between(
    photos: Path, scene: Path, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest, which knows of them, goes before the step that made them has its turn."""
    mended = tmp_path / "scene"
    shutil.copytree(scene, mended)
    lost = mended / "depth" / "photo2.jpg.h5"
    before = lost.read_bytes()
    lost.unlink()

    def interrupted(maps: DepthMaps, progress: object) -> None:
        raise KeyboardInterrupt  # As SIGINT does, where the caller doesn't ignore it, as shells do for jobs behind.

    with monkeypatch.context() as patched:
        patched.setattr(DepthMaps, "sweep", interrupted)
        assert prepare("photos", photos, mended, *OPTIONS).code != 0
    assert not (mended / "manifest.json").exists()
    told = prepare("photos", photos, mended, *OPTIONS)
    assert told.code == 0, told.error
    assert lost.read_bytes() == before


@needs_pycolmap
def test_masks_go_with_the_settings_that_made_them(
    photos: Path, scene: Path, tmp_path: Path, prepare: Prepare
) -> None:
    """Masks of earlier settings would keep depth off pixels that these ones allow."""
    changed = tmp_path / "scene"
    shutil.copytree(scene, changed)
    stale = changed / "work" / "scene_masks"
    stale.mkdir()
    for path in (changed / "images").iterdir():
        with Image.open(path) as picture:
            Image.new("L", picture.size).save(stale / f"{path.name}.png")
    (changed / "images" / "photo2.jpg").unlink()  # The step that makes pictures and masks is done again,
    (changed / "depth" / "photo2.jpg.h5").unlink()  # and the one that reads them.
    assert prepare("photos", photos, changed, *OPTIONS).code == 0
    assert not stale.exists()
    name = "photo2.jpg.h5"
    assert (changed / "depth" / name).read_bytes() == (scene / "depth" / name).read_bytes()


@needs_pycolmap
def test_two_processes_at_once(photos: Path, scene: Path, prepare: Prepare) -> None:
    with held(scene / "manifest.json"):
        told = prepare("photos", photos, scene, *OPTIONS)
    assert_refused(told, str(scene), "another process is writing it; wait for that to end")


def test_photos_behind_links_are_surveyed(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "trip").symlink_to(photos)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    names = [path.relative_to(folder).as_posix() for path in find_photos(folder).paths]
    assert "trip/photo0.jpg" in names
    survey = survey_photos(folder, names, tmp_path / "staged", None, None, 0, lambda done, total: None)
    assert len(survey.photos) == 6
    assert (tmp_path / "staged" / "trip" / "photo0.jpg").is_file()
    (broken,) = [line for line in survey.unreadable if "gone.jpg" in line]
    assert "a link to" in broken
    assert "nowhere.jpg, which is not there; mend the link, or remove it" in broken


@needs_pycolmap
def test_too_few_photos(photos: Path, tmp_path: Path, prepare: Prepare) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("photo0.jpg", "photo1.jpg", "photo1 copy.jpg", "empty.jpg"):
        shutil.copyfile(photos / name, few / name)
    told = prepare("photos", few, tmp_path / "scene", *OPTIONS)
    assert_refused(told, "2 usable photos", "empty.jpg", "photo1.jpg is photo1 copy.jpg again", "expected at least 3")


@needs_pycolmap
def test_photos_that_do_not_overlap_are_named(tmp_path: Path, prepare: Prepare) -> None:
    import skimage.data as data

    folder = tmp_path / "apart"
    for name in ("coffee", "chelsea", "astronaut", "gravel"):
        picture = Image.fromarray(getattr(data, name)()).convert("RGB").resize(SIZE)
        write_photo(folder / f"{name}.jpg", np.asarray(picture))
    told = prepare("photos", folder, tmp_path / "scene", *OPTIONS)
    assert_refused(told, "4 photos", "coffee.jpg", "chelsea.jpg", "astronaut.jpg", "gravel.jpg", "overlap")


def test_folders_that_hold_no_photos(tmp_path: Path, prepare: Prepare) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    scene = tmp_path / "scene"
    assert_refused(prepare("photos", tmp_path / "none", scene), "none: ", "folder of photos")
    assert_refused(prepare("photos", tmp_path / "file", scene), "file: ", "folder of photos")
    assert_refused(prepare("photos", tmp_path / "empty", scene), "empty")
    assert not scene.exists()


@needs_pycolmap
def test_targets_that_can_not_be_meant(photos: Path, tmp_path: Path, prepare: Prepare) -> None:
    assert_refused(prepare("photos", photos, photos), "lies in what it is made of", "name a folder outside")
    assert_refused(prepare("photos", photos, photos / "scene"), "lies in what it is made of")
    (tmp_path / "file").write_text("no folder")
    assert_refused(prepare("photos", photos, tmp_path / "file"), "is a file; name a folder")
    assert_refused(prepare("photos", photos, tmp_path / "file" / "scene"), "Not a directory")
    (tmp_path / "thesis" / "work").mkdir(parents=True)
    (tmp_path / "thesis" / "work" / "chapter.txt").write_text("years")
    assert_refused(prepare("photos", photos, tmp_path / "thesis"), "holds other things than a scene")
    assert (tmp_path / "thesis" / "work" / "chapter.txt").exists()
    assert not (photos / "scene").exists()


@needs_pycolmap
def test_a_full_disk_is_seen_beforehand(
    photos: Path, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    told = prepare("photos", photos, tmp_path / "scene", *OPTIONS)
    assert_refused(told, "GB are needed, 0.0 GB are free; make room", "--size")
    assert not (tmp_path / "scene").exists()


def test_what_a_stopped_run_left_counts_towards_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4000))
    with pytest.raises(PreparationError, match="make room"):
        check_room(tmp_path / "scene", 10_000, "ask for less")
    (tmp_path / "scene" / "work").mkdir(parents=True)
    (tmp_path / "scene" / "work" / "features.db").write_bytes(bytes(7000))
    check_room(tmp_path / "scene", 10_000, "ask for less")


def test_pycolmap_missing(photos: Path, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfnet.preparation.from_photos.has_pycolmap", lambda: False)
    assert_refused(prepare("photos", photos, tmp_path / "scene"), "pip install 'lfnet[sfm]'")


@needs_pycolmap
def test_settings_that_do_not_fit_the_photos(photos: Path, tmp_path: Path, prepare: Prepare) -> None:
    told = prepare("photos", photos, tmp_path / "a", *OPTIONS, "--sfm.pairing", "spatial")
    assert_refused(told, "6 of 6 photos have no GPS in their EXIF", "use sequential")
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (50, 50), 255).save(masks / "photo0.png")
    told = prepare("photos", photos, tmp_path / "b", *OPTIONS, "--masks", masks / "photo0.png")
    assert_refused(told, "photo0.png is 50x50", "240x180 upright", "0 usable photos")
    told = prepare("photos", photos, tmp_path / "d", *OPTIONS, "--border", 90)
    assert_refused(told, "240x180, of which a border of 90 px leaves nothing", "0 usable photos")
    told = prepare("photos", photos, tmp_path / "e", *OPTIONS, "--pairs.validation", "nosuch.jpg")
    assert_refused(told, "no usable photo nosuch.jpg", "name photos as")
    told = prepare("photos", photos, tmp_path / "c", "--masks", tmp_path / "none")
    assert told.code in (1, 2)
    assert "there is no folder or file" in told.error
    told = prepare("photos", photos, tmp_path / "c", "--sfm.pairing", "vocabulary")
    assert told.code in (1, 2)
    assert "vocabulary tree" in told.error
    assert "Traceback" not in told.error


# --- models ---


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Three pictures of a point cloud, with their cameras and depth maps."""
    return make_model(tmp_path / "model", 3)


def make_model(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    positions = rng.uniform((-1, -1, 4), (1, 1, 5), (60, 3))
    images = {}
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    for number in range(1, count + 1):
        name = f"{number}.png"
        pose = look(np.array([0.2 * number, 0, 0]), np.array([0, 0, 4.5]))
        points = positions @ pose[:3, :3].T + pose[:3, 3]
        projected = points @ intrinsics(SIZE).T
        places = projected[:, :2] / projected[:, 2:]
        images[number] = RegisteredImage(number, name, 1, pose, places, np.arange(1, 61))
        Image.fromarray(rng.integers(0, 256, (SIZE[1], SIZE[0]), np.uint8)).save(folder / "images" / name)
        with h5py.File(folder / "depth" / f"{name}.h5", "w") as file:
            file["depth"] = np.full((SIZE[1], SIZE[0]), 4.5, np.float32)
    points = Points(np.arange(1, 61), positions, np.zeros((60, 3), np.uint8), np.zeros(60))
    camera = Camera.pinhole(1, SIZE, intrinsics(SIZE))
    write_reconstruction(folder / "sparse", Reconstruction({1: camera}, images, points), binary=False)
    return folder


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_model_with_depth_is_imported(model: Path, tmp_path: Path, prepare: Prepare) -> None:
    told = prepare("colmap", model, tmp_path / "scene", "--pairs.overlap", 0.1, 1, "--pairs.validation-share", 0)
    assert told.code == 0, told.error
    assert len(Scene.open(tmp_path / "scene").frames) == 3


def test_depth_of_another_size(model: Path, tmp_path: Path, prepare: Prepare) -> None:
    """Of the picture's shape it is scaled; of another, only a calibration would tell how it lies in the picture."""
    with h5py.File(model / "depth" / "2.png.h5", "w") as file:
        file["depth"] = np.full((SIZE[1] // 2, SIZE[0] // 2), 4.5, np.float32)
    options = ("--pairs.overlap", 0.1, 1, "--pairs.validation-share", 0)
    assert prepare("colmap", model, tmp_path / "scene", *options).code == 0
    with h5py.File(model / "depth" / "2.png.h5", "w") as file:
        file["depth"] = np.full((100, 100), 4.5, np.float32)
    told = prepare("colmap", model, tmp_path / "other", *options)
    assert_refused(told, "2.png.h5: 100x100 beside a picture of 240x180", "no calibration", "--measure-depth")


def test_model_without_its_pictures(model: Path, tmp_path: Path, prepare: Prepare) -> None:
    (model / "images" / "2.png").unlink()
    told = prepare("colmap", model, tmp_path / "scene")
    assert_refused(told, "1 of 3 pictures are missing (2.png)", "--images")
    (model / "images").rename(model / "elsewhere")
    assert_refused(prepare("colmap", model, tmp_path / "scene"), "3 of 3 pictures are missing")
    assert not (tmp_path / "scene").exists()


def test_model_of_other_pictures(model: Path, tmp_path: Path, prepare: Prepare) -> None:
    Image.new("L", (100, 80)).save(model / "images" / "3.png")
    told = prepare("colmap", model, tmp_path / "scene")
    assert_refused(told, "3.png: 100x80, but its camera has 240x180", "--images")


def test_model_with_impossible_poses(model: Path, tmp_path: Path, prepare: Prepare) -> None:
    lines = (model / "sparse" / "images.txt").read_text().splitlines()
    place = next(place for place, line in enumerate(lines) if line.endswith(" 2.png"))
    words = lines[place].split()
    lines[place] = " ".join([words[0], "nan", *words[2:]])
    (model / "sparse" / "images.txt").write_text("\n".join(lines) + "\n")
    told = prepare("colmap", model, tmp_path / "scene")
    assert_refused(told, "images.txt: 1 of 3 pictures have no pose", "picture 2.png", "leave them out")


def replace_word(path: Path, line_end: str, place: int, word: str) -> None:
    """Change a word of the line of a text file that ends so."""
    lines = path.read_text().splitlines()
    row = next(row for row, line in enumerate(lines) if line.endswith(line_end))
    words = lines[row].split()
    words[place] = word
    path.write_text("\n".join([*lines[:row], " ".join(words), *lines[row + 1 :]]) + "\n")


def test_few_faulty_pictures_of_a_model_are_left_out(tmp_path: Path, prepare: Prepare) -> None:
    """One without a pose, one that is missing, one that is broken; one without a depth map stays, or with a broken one.
    """
    model = make_model(tmp_path / "model", 12)
    replace_word(model / "sparse" / "images.txt", " 2.png", 1, "nan")
    (model / "images" / "4.png").unlink()
    (model / "images" / "6.png").write_bytes(b"no picture")
    (model / "depth" / "8.png.h5").unlink()
    (model / "depth" / "10.png.h5").write_bytes(b"cut short")
    options = ("--pairs.overlap", 0.1, 1, "--pairs.validation-share", 0)
    told = prepare("colmap", model, tmp_path / "scene", *options)
    assert told.code == 0, told.error
    for line in (
        "left out: 1 of 12 pictures have no pose (2.png): the pose of picture 2.png is no rotation",
        "left out: 1 of 11 pictures are missing (4.png)",
        "left out: 1 of 11 pictures can't be read (6.png): ",
        "without a depth map: 8.png",
        "left out: 1 of 9 depth maps can't be used (10.png): ",
    ):
        assert line in told.error
    scene = Scene.open(tmp_path / "scene")
    assert [frame.name for frame in scene.frames] == [f"{number}.png" for number in (1, 3, 5, 7, 8, 9, 10, 11, 12)]
    assert len(scene.manifest["numbers"]["notes"]) == 3
    again = prepare("colmap", model, tmp_path / "scene", *options)
    assert "finished already" in again.error


@needs_pycolmap
def test_what_is_left_out_of_a_model_is_not_undistorted(tmp_path: Path, prepare: Prepare) -> None:
    model = make_model(tmp_path / "model", 6)
    (model / "images" / "4.png").unlink()
    told = prepare("colmap", model, tmp_path / "scene", "--measure-depth", "--size", 128, "--threads", 1)
    assert "left out: 1 of 6 pictures are missing (4.png)" in told.error
    assert sorted(path.name for path in (tmp_path / "scene" / "images").iterdir()) == [
        f"{number}.png" for number in (1, 2, 3, 5, 6)
    ]


@pytest.mark.parametrize("name", ["../../own/photo.png", "{outside}/own/photo.png"])
@pytest.mark.parametrize("binary", [False, True])
def test_a_model_whose_names_lead_outside_is_refused(
    model: Path, tmp_path: Path, prepare: Prepare, name: str, binary: bool
) -> None:
    """By such a name, the user's own photo was once overwritten by a smaller one."""
    own = tmp_path / "own" / "photo.png"
    own.parent.mkdir()
    Image.new("L", SIZE, 7).save(own)
    before = own.read_bytes()
    replace_word(model / "sparse" / "images.txt", " 2.png", -1, "changed.png")
    path = model / "sparse" / "images.txt"
    if binary:
        write_reconstruction(model / "sparse", read_reconstruction(model / "sparse"))
        path = path.with_suffix(".bin")
    name = name.format(outside=tmp_path)
    path.write_bytes(path.read_bytes().replace(b"changed.png", name.encode()))
    for more in ((), ("--measure-depth", "--size", 128)):
        told = prepare("colmap", model, tmp_path / "scene", *more)
        assert_refused(told, path.name, repr(name), "leads out of the folder of pictures", "rename it")
    assert own.read_bytes() == before
    assert not (tmp_path / "scene").exists()


def test_a_recording_whose_names_lead_outside_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match="leads out of"):
        depth_path(tmp_path / "scene", "../../photo")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "scene" / "depth").mkdir(parents=True)
    (tmp_path / "scene" / "depth" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutsideError, match="links to elsewhere"):
        depth_path(tmp_path / "scene", "linked/photo.jpg")
    depth_path(tmp_path / "scene", "a..b/c...jpg")


def test_model_that_distorts_with_depth_maps(model: Path, tmp_path: Path, prepare: Prepare) -> None:
    lines = (model / "sparse" / "cameras.txt").read_text().splitlines()
    place = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    lines[place] = "1 SIMPLE_RADIAL 240 180 240 120 90 0.1"
    (model / "sparse" / "cameras.txt").write_text("\n".join(lines) + "\n")
    told = prepare("colmap", model, tmp_path / "scene")
    assert_refused(told, "has depth maps, but its cameras distort", "--measure-depth")


def test_folders_that_hold_no_model(model: Path, tmp_path: Path, prepare: Prepare) -> None:
    assert_refused(prepare("colmap", tmp_path / "none", tmp_path / "scene"), "none: ", "expected a COLMAP model")
    told = prepare("colmap", model, tmp_path / "scene", "--depth-maps", model / "images")
    assert_refused(told, "no depth map of any picture")
    (model / "sparse" / "points3D.txt").unlink()
    assert_refused(prepare("colmap", model, tmp_path / "scene"), "points3D")


# --- recordings ---


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return make_recording(tmp_path / "recording", 4)


def make_recording(folder: Path, count: int) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    rng = np.random.default_rng(0)
    found = [look(np.array([0.1 * number, 0, 0]), np.array([0, 0, 2.0])) for number in range(count)]
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (48, 64), np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(np.full((48, 64), 2000, np.uint16)).save(folder / "depth" / f"{number}.png")
    np.savetxt(folder / "K.txt", intrinsics((64, 48)))
    np.savetxt(folder / "poses.txt", [np.linalg.inv(pose).ravel() for pose in found])
    return folder


@pytest.mark.parametrize("value", ["nan", "5.0"])
def test_recording_with_impossible_poses(recording: Path, tmp_path: Path, prepare: Prepare, value: str) -> None:
    lines = (recording / "poses.txt").read_text().splitlines()
    lines[2] = " ".join([value, *lines[2].split()[1:]])
    (recording / "poses.txt").write_text("\n".join(lines) + "\n")
    told = prepare("rgbd", recording, tmp_path / "scene")
    assert_refused(told, "poses.txt", "expected rigid 4x4 poses", "leave that frame out")


def test_few_faulty_frames_of_a_recording_are_left_out(tmp_path: Path, prepare: Prepare) -> None:
    """A pose that is none, a depth map that is missing, a picture that is broken; endings in capitals are pictures."""
    folder = make_recording(tmp_path / "recording", 15)
    rows = (folder / "poses.txt").read_text().splitlines()
    rows[3] = " ".join(["nan", *rows[3].split()[1:]])
    (folder / "poses.txt").write_text("\n".join(rows) + "\n")
    (folder / "depth" / "5.png").unlink()
    (folder / "images" / "7.png").write_bytes(b"no picture")
    for kind in ("images", "depth"):
        (folder / kind / "9.png").rename(folder / kind / "9.PNG")
    told = prepare("rgbd", folder, tmp_path / "scene", "--pairs.overlap", 0.1, 1)
    assert told.code == 0, told.error
    assert "left out: 3 of 15 frames can't be used (3, 5, 7): " in told.error
    assert "got one with NaN or infinity" in told.error
    names = [frame.name for frame in Scene.open(tmp_path / "scene").frames]
    assert names == [f"{number}.{'PNG' if number == 9 else 'png'}" for number in range(15) if number not in (3, 5, 7)]
    (folder / "depth" / "11.png").unlink()
    told = prepare("rgbd", folder, tmp_path / "other")
    assert_refused(told, "4 of 15 frames can't be used (3, 5, 7 and 1 more)", "more than 20%")


def test_recording_without_what_it_needs(recording: Path, tmp_path: Path, prepare: Prepare) -> None:
    scene = tmp_path / "scene"
    told = prepare("rgbd", recording, scene, "--every", 4)
    assert_refused(told, "1 of 4 frames are left", "--frames and --every")
    assert_refused(prepare("rgbd", recording, recording / "scene"), "lies in what it is made of")
    assert_refused(prepare("rgbd", recording, scene, "--layout", "other"), "layout 'other': expected one of")
    (recording / "K.txt").unlink()
    assert_refused(prepare("rgbd", recording, scene), "K.txt")
    (tmp_path / "empty").mkdir()
    assert_refused(prepare("rgbd", tmp_path / "empty", scene), "empty")
    assert_refused(prepare("rgbd", tmp_path / "none", scene), "none")


def test_nothing_here_loads_pycolmap() -> None:
    assert "pycolmap" not in sys.modules
