"""Published lists of pairs."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.evaluation.data.pair_lists import quarter_turn, read_object_arrays
from lfnet.evaluation.data.truth import apply_matrix
from support.made_sets import write_pictures
from support.rendered_photos import SIZE, RenderedView

pytestmark = pytest.mark.slow


def list_line(view_a: RenderedView, view_b: RenderedView, turns: tuple[int, int] = (0, 0)) -> str:
    """A line in SuperGlue's format, pictures as they are stored turned back by their turns."""
    cameras, poses = [], []
    for view, turn in zip((view_a, view_b), turns, strict=True):
        # Stored, the picture is turned clockwise; np.rot90 puts it upright.
        matrix, _ = quarter_turn(SIZE, -turn)
        rotation = np.eye(4)
        rotation[:2, :2] = matrix[:2, :2]
        cameras.append(matrix @ view.intrinsics @ rotation[:3, :3].T)
        poses.append(rotation @ view.camera_from_world)
    motion = poses[1] @ np.linalg.inv(poses[0])
    numbers = np.concatenate([*(camera.ravel() for camera in cameras), motion.ravel()])
    return f"{view_a.name} {view_b.name} {turns[0]} {turns[1]} {' '.join(f'{number:.17g}' for number in numbers)}"


def write_list(folder: Path, views: list[RenderedView], lines: list[str], turned: dict[str, int] | None = None) -> Path:
    folder.mkdir(parents=True)
    for view in views:
        picture = np.rot90(view.picture, -(turned or {}).get(view.name, 0))
        Image.fromarray(picture).save(folder / view.name, quality=100, subsampling=0)
    path = folder / "pairs.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_pair_lists_and_their_turns(turn: int, tmp_path: Path, views: list[RenderedView]) -> None:
    line = list_line(views[0], views[1], (0, turn))
    path = write_list(tmp_path / "list", views[:2], [line, ""], {views[1].name: turn})
    dataset = open_data(path, DataSettings(long_side=400))
    (pair,) = dataset.pairs
    assert (dataset.name, dataset.kind, pair.group) == ("pairs", "pair list", "photo0.jpg")
    loaded = dataset.load(pair.picture_b)
    assert loaded.shape == views[1].picture.shape
    assert np.abs(loaded.astype(float) - views[1].picture).mean() < 2
    assert pair.pose is not None
    np.testing.assert_allclose(pair.pose.intrinsics_b, views[1].intrinsics, atol=1e-9)
    expected = views[1].camera_from_world @ np.linalg.inv(views[0].camera_from_world)
    np.testing.assert_allclose(pair.pose.b_from_a, expected, atol=1e-9)


def test_turns_are_those_of_numpy() -> None:
    picture = np.arange(12).reshape(3, 4)
    for quarters in range(4):
        matrix, size = quarter_turn((4, 3), quarters)
        turned = np.rot90(picture, quarters)
        assert turned.shape == size[::-1]
        for y, x in np.ndindex(3, 4):
            column, row = np.rint(apply_matrix(matrix, np.array([[x, y]]))[0]).astype(int)
            assert turned[row, column] == picture[y, x]


def test_what_a_list_lacks_is_a_line_each(tmp_path: Path, views: list[RenderedView]) -> None:
    good = list_line(views[0], views[1])
    lines = [
        good,
        good,
        "photo0.jpg photo2.jpg",
        "photo0.jpg photo2.jpg 0 0",
        good.replace("photo1", "nowhere"),
        good + " 1.0",
        list_line(views[0], views[2]).replace(" 0 0 ", " 0 half ", 1),
        list_line(views[0], views[2], (1, 0)),
        list_line(views[0], replace(views[2], intrinsics=np.diag([4.0, 4.0, 1.0]) @ views[2].intrinsics)),
        " ".join([*list_line(views[0], views[2]).split()[:22], *map(str, np.diag([2.0, 2, 2, 1]).ravel())]),
    ]
    dataset = open_data(write_list(tmp_path / "list", views[:3], lines), DataSettings())
    assert [pair.name for pair in dataset.pairs] == ["photo0.jpg - photo1.jpg"]
    expected = (
        "line 3: no cameras and motion",
        "line 4: no cameras and motion",
        "line 6: a broken line: expected 38 words, got 39",
        "line 7: a broken line",
        "more than once in the list",
        "nowhere.jpg: no such file",
        "photo0.jpg is turned by 1 quarters",
        "photo2.jpg: the principal point (798, 598) lies outside of a picture of 400x300",
        "the motion from a to b: expected rigid 4x4 poses",
    )
    assert len(dataset.skipped) == len(expected)
    for line, part in zip(dataset.skipped, expected, strict=True):
        assert part in line
        assert "\n" not in line


def test_lists_that_can_not_be_used(tmp_path: Path, views: list[RenderedView]) -> None:
    path = write_list(tmp_path / "list", views[:2], ["photo0.jpg photo1.jpg"])
    with pytest.raises(ValueError, match=r"no pair can be used .*--images.*line 1: no cameras and motion"):
        open_data(path, DataSettings())
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="expected a list of pairs, and it is no text"):
        open_data(path, DataSettings())


def test_a_list_that_is_cut_says_so(tmp_path: Path, views: list[RenderedView]) -> None:
    lines = [list_line(views[0], view) for view in views[1:4]]
    dataset = open_data(write_list(tmp_path / "list", views[:4], lines), DataSettings(max_pairs=1))
    assert len(dataset.pairs) == 1
    assert dataset.skipped[0].startswith("2 of 3 pairs of the list")


def scene_info(views: list[RenderedView], pairs: list[tuple[int, int]]) -> dict[str, NDArray]:
    """What LoFTR's files hold: lists in arrays of objects, and nothing for pictures that are in no pair."""
    infos = np.empty(len(pairs), object)
    for place, pair in enumerate(pairs):
        infos[place] = (pair, 0.25, np.zeros((3, 4)))
    used = {index for pair in pairs for index in pair}
    paths, cameras, poses = (np.empty(len(views), object) for _ in range(3))
    for index in used & set(range(len(views))):
        colmap = views[index].intrinsics.copy()
        colmap[:2, 2] += 0.5
        paths[index], cameras[index], poses[index] = views[index].name, colmap, views[index].camera_from_world
    return {"pair_infos": infos, "image_paths": paths, "intrinsics": cameras, "poses": poses}


def test_scene_infos_of_loftr(tmp_path: Path, views: list[RenderedView]) -> None:
    write_pictures(tmp_path / "pictures", views)
    (tmp_path / "infos").mkdir()
    for name, pairs in (("0015_0.1_0.3", [(0, 1), (1, 2), (0, 9)]), ("0022_0.3_0.5", [(2, 3), (0, 5)])):
        np.savez(tmp_path / "infos" / f"{name}.npz", **scene_info(views, pairs))  # type: ignore[arg-type]
    dataset = open_data(tmp_path / "infos", DataSettings(images=tmp_path / "pictures"), "megadepth-1500")
    assert [pair.subset for pair in dataset.pairs] == ["0015_0.1_0.3"] * 2 + ["0022_0.3_0.5"] * 2
    pose = dataset.pairs[0].pose
    assert pose is not None
    np.testing.assert_allclose(pose.intrinsics_a, views[0].intrinsics)
    np.testing.assert_allclose(pose.b_from_a, views[1].camera_from_world @ np.linalg.inv(views[0].camera_from_world))
    assert dataset.skipped == ["0015_0.1_0.3.npz, pair 2: it can't be used (pictures 0 and 9 of 6)"]


class RunsCode:
    """What a file that means harm holds."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["LFNET_TEST_FOLDER"],)


def test_scene_infos_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: list[RenderedView]) -> None:
    made = tmp_path / "made"
    monkeypatch.setenv("LFNET_TEST_FOLDER", str(made))
    info = scene_info(views, [(0, 1)])
    info["image_paths"] = np.array([RunsCode(), None], object)
    np.savez(tmp_path / "info.npz", **info)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"info\.npz: refused: it holds (posix|nt)\.mkdir, which is no data"):
        open_data(tmp_path / "info.npz", DataSettings())
    assert not made.exists()
    with zipfile.ZipFile(tmp_path / "info.npz") as archive:
        content = archive.read("image_paths.npy")
    pickle.loads(content[content.index(b"\n") + 1 :])
    assert made.exists(), "the file does run code where it is let"


def test_files_that_are_no_scene_infos(tmp_path: Path) -> None:
    path = tmp_path / "info.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no \.npz file of arrays"):
        open_data(path, DataSettings())
    np.savez(path, image_paths=np.zeros(3))
    with pytest.raises(ValueError, match="expected arrays pair_infos, image_paths, intrinsics, poses"):
        open_data(path, DataSettings())
    assert read_object_arrays(path, ("image_paths",))["image_paths"].shape == (3,)
