"""What holds for every reader: what was written is read again, and whatever else a file holds is refused by name."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from lfnet.data.reconstructions.colmap_files import read_reconstruction, write_reconstruction
from lfnet.data.reconstructions.colmap_model import (
    Camera,
    Points,
    Reconstruction,
    ReconstructionError,
    RegisteredImage,
)
from lfnet.data.recordings.tum import MAX_DIFFERENCE, associate, read_tum
from lfnet.errors import UserError
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.pair_lists import open_pair_list
from lfnet.geometry.quaternion import rotation_from_quaternion
from support.refusals import complaint
from support.rendered_photos import write_photo

numbers = st.floats(-1e6, 1e6)
words = st.one_of(
    st.sampled_from(["", "#", "1", "0", "-1", "256", "nan", "inf", "1e400", "OPENCV", "99999999999999999999"]),
    st.integers(-3, 2**33).map(str),
    st.text(max_size=4),
)


@st.composite
def spoiled(draw: st.DrawFn, text: str) -> str:
    """The text with some of its words replaced."""
    parts = text.split(" ")
    for _ in range(draw(st.integers(1, 3))):
        parts[draw(st.integers(0, len(parts) - 1))] = draw(words)
    return " ".join(parts)


TABLES = {
    "cameras": "1 PINHOLE 64 48 50 50 31.5 23.5",
    "images": "1 1 0 0 0 0 0 0 1 a.jpg \n 1.5 2.5 5",
    "points3D": "5 1 2 3 10 20 30 0.5 1 0",
}
LISTS = {
    "rgb": "1.0 1.png \n 2.0 1.png",
    "depth": "1.0 1.png \n 2.0 1.png",
    "groundtruth": "1.0 0 0 0 0 0 0 1 \n 2.0 0 0 0 0 0 0 1",
    "camera": "50 50 31.5 23.5",
}


def one_spoiled(texts: dict[str, str]) -> st.SearchStrategy[dict[str, str]]:
    return st.sampled_from(sorted(texts)).flatmap(
        lambda name: spoiled(texts[name]).map(lambda text: {**texts, name: text})
    )


@st.composite
def models(draw: st.DrawFn) -> Reconstruction:
    count = draw(st.integers(0, 4))
    ids = draw(st.lists(st.integers(1, 2**40), min_size=count, max_size=count, unique=True))
    positions = np.array(draw(st.lists(numbers, min_size=3 * count, max_size=3 * count))).reshape(-1, 3)
    points = Points(np.array(ids, np.int64), positions, np.full((count, 3), 7, np.uint8), np.abs(positions[:, 0]))
    images = {}
    for image_id in draw(st.sets(st.integers(1, 2**31 - 1), max_size=3)):
        seen = draw(st.lists(st.sampled_from(ids), max_size=5)) if ids else []
        quaternion = np.array(draw(st.tuples(numbers, numbers, numbers, st.floats(1, 9))))
        pose = np.eye(4)
        pose[:3, :3] = rotation_from_quaternion(quaternion / np.linalg.norm(quaternion))
        pose[:3, 3] = draw(st.tuples(numbers, numbers, numbers))
        keypoints = np.array(draw(st.lists(numbers, min_size=2 * len(seen), max_size=2 * len(seen)))).reshape(-1, 2)
        folder = draw(st.text("abcäß-_.", min_size=1, max_size=6).filter(lambda text: text not in (".", "..")))
        name = f"{folder}/{image_id}.jpg"
        images[image_id] = RegisteredImage(image_id, name, 3, pose, keypoints, np.array(seen, np.int64))
    focal = draw(st.floats(1, 1e4))
    intrinsics = np.array([[focal, 0.0, 31.5], [0.0, 2 * focal, 23.5], [0.0, 0.0, 1.0]])
    return Reconstruction({3: Camera.pinhole(3, (64, 48), intrinsics)}, images, points)


@given(models(), st.booleans())
def test_every_model_comes_back(model: Reconstruction, binary: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_reconstruction(folder, model, binary)
        found = read_reconstruction(folder)
    assert found.images.keys() == model.images.keys()
    np.testing.assert_array_equal(found.points.ids, model.points.ids)
    np.testing.assert_array_equal(found.points.positions, model.points.positions)
    np.testing.assert_allclose(found.cameras[3].intrinsics, model.cameras[3].intrinsics, atol=1e-12)
    for image_id, image in model.images.items():
        read = found.images[image_id]
        assert read.name == image.name
        np.testing.assert_array_equal(read.point_ids, image.point_ids)
        np.testing.assert_allclose(read.camera_from_world, image.camera_from_world, atol=1e-9)
        np.testing.assert_allclose(read.keypoints, image.keypoints, atol=1e-9)


@given(one_spoiled(TABLES))
def test_a_model_of_spoiled_tables_is_read_or_refused_by_name(tables: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in tables.items():
            (Path(folder) / f"{name}.txt").write_text(text, encoding="utf-8")
        said = complaint(ReconstructionError, read_reconstruction, folder)
    assert said is None or folder in said


@given(one_spoiled(LISTS))
def test_a_recording_of_spoiled_lists_is_read_or_refused_by_name(lists: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in lists.items():
            (Path(folder) / f"{name}.txt").write_text(text, encoding="utf-8")
        write_photo(Path(folder) / "1.png", np.zeros((48, 64, 3), np.uint8))
        said = complaint(UserError, read_tum, Path(folder))
    assert said is None or folder in said


times = st.lists(st.integers(0, 400), unique=True, max_size=30).map(lambda found: np.sort(found) / 400)


@given(times, times)
def test_time_stamps_meet_once_and_nearest_first(first: np.ndarray, second: np.ndarray) -> None:
    pairs = associate(first, second)
    for side in (0, 1):
        chosen = [pair[side] for pair in pairs]
        assert len(set(chosen)) == len(chosen)
    assert all(abs(first[i] - second[j]) < MAX_DIFFERENCE for i, j in pairs)
    gap = np.abs(first[:, None] - second[None])
    used_first, used_second = dict(pairs), {j: i for i, j in pairs}
    for i, j in np.argwhere(gap < MAX_DIFFERENCE):
        of_i = gap[i, used_first[i]] if i in used_first else np.inf
        of_j = gap[used_second[j], j] if j in used_second else np.inf
        assert min(of_i, of_j) <= gap[i, j]


RIGHT_PAIR = "a.png b.png 0 1 50 0 31.5 0 50 23.5 0 0 1 50 0 31.5 0 50 23.5 0 0 1 1 0 0 0.5 0 1 0 0 0 0 1 0 0 0 0 1"


@given(st.lists(spoiled(RIGHT_PAIR), max_size=4))
def test_every_line_of_a_list_of_pairs_is_a_pair_or_is_named(wrong: list[str]) -> None:
    assume("\0" not in "".join(wrong))  # No text: the whole file is refused.
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.png", "b.png"):
            write_photo(Path(folder) / name, np.zeros((48, 64, 3), np.uint8))
        path = Path(folder) / "pairs.txt"
        path.write_text("\n".join([RIGHT_PAIR, *wrong]), encoding="utf-8")
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        dataset = open_pair_list(path, DataSettings())
    told = [line for line in lines if line and not line[0].startswith("#")]
    assert len(dataset.pairs) + len(dataset.skipped) == len(told)
    assert dataset.pairs[0].picture_a == "a.png"
