"""Homography sets: as published, as a library has them, and what they lack."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from lfnet.errors import UserError
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.evaluation.data.homography_sets import LARGEST_FILE, LEFT_OUT, read_matrix
from lfnet.evaluation.data.truth import apply_matrix
from support.made_sets import write_set


def test_oxford_as_opencv_has_it(shared_data: Path) -> None:
    dataset = open_data(shared_data / "homography" / "oxford", DataSettings(long_side=320))
    assert (dataset.name, dataset.kind, dataset.unit, len(dataset.pairs)) == ("oxford", "homographies", "scenes", 30)
    assert sorted({pair.subset for pair in dataset.pairs}) == ["bark", "boat", "graf", "leuven", "ubc", "wall"]
    assert dataset.thresholds == (1.0, 3.0, 5.0)
    pair = next(pair for pair in dataset.pairs if pair.name == "graf 1-2")
    image_a, image_b = dataset.load(pair.picture_a), dataset.load(pair.picture_b)
    assert image_a.shape == (256, 320, 3)
    assert pair.truth is not None
    warped = cv2.warpPerspective(image_a, pair.truth.matrix_b_from_a, (320, 256))  # type: ignore[attr-defined]
    covered = cv2.warpPerspective(np.ones((256, 320)), pair.truth.matrix_b_from_a, (320, 256)) > 0.99  # type: ignore[attr-defined]
    difference = np.abs(warped.astype(float) - image_b)[covered].mean()
    assert difference < 0.5 * np.abs(image_a.astype(float) - image_b)[covered].mean()


def test_hpatches_is_split_and_eight_sequences_are_left_out(tmp_path: Path) -> None:
    shift = np.array([[1.0, 0, 8], [0, 1, 4], [0, 0, 1]])
    for name in ("i_light", "v_turn", LEFT_OUT[2]):
        write_set(tmp_path, name, "{}.ppm", {"H_1_2": shift, "H_1_3": 2 * shift})
    dataset = open_data(tmp_path, DataSettings(long_side=64))
    assert [pair.name for pair in dataset.pairs] == ["i_light 1-2", "i_light 1-3", "v_turn 1-2", "v_turn 1-3"]
    assert [pair.subset for pair in dataset.pairs] == ["illumination", "illumination", "viewpoint", "viewpoint"]
    assert [pair.picture_b for pair in dataset.pairs[:2]] == ["i_light/2.ppm", "i_light/3.ppm"]
    assert dataset.settings["left_out"] == ["i_dc"]
    assert dataset.skipped == []
    for pair in dataset.pairs:
        assert pair.truth is not None
        # Half the size: pixel 10 is at 20.5, moved to 28.5, which is at 14.
        np.testing.assert_allclose(pair.truth.b_from_a(np.array([[10.0, 10.0]]))[0], [[14.0, 12.0]])
    assert dataset.load("v_turn/1.ppm").shape == (48, 64, 3)
    only = open_data(tmp_path / "v_turn", DataSettings())
    assert {pair.group for pair in only.pairs} == {"v_turn"}


def test_oxford_as_it_was_published(tmp_path: Path) -> None:
    write_set(tmp_path, "bikes", "img{}.ppm", {"H1to2p": np.eye(3)})
    dataset = open_data(tmp_path, DataSettings())
    assert [(pair.name, pair.subset) for pair in dataset.pairs] == [("bikes 1-2", "bikes")]


def test_matrices_that_are_negative_are_the_same_homography(tmp_path: Path) -> None:
    matrix = np.array([[1.1, 0.1, 3], [0, 0.9, 4], [1e-4, 0, 1]])
    write_set(tmp_path, "v_a", "{}.ppm", {"H_1_2": matrix, "H_1_3": -3e-7 * matrix})
    first, second = (pair.truth for pair in open_data(tmp_path, DataSettings()).pairs)
    assert first is not None
    assert second is not None
    point = np.array([[50.0, 60.0]])
    np.testing.assert_allclose(first.b_from_a(point)[0], apply_matrix(matrix, point))
    np.testing.assert_allclose(second.b_from_a(point)[0], apply_matrix(matrix, point))


def test_what_a_set_lacks_is_a_line_each(tmp_path: Path) -> None:
    scene = write_set(tmp_path, "v_a", "{}.ppm", {f"H_1_{number}": np.eye(3) for number in range(2, 8)})
    np.savetxt(scene / "H_1_3", [[1, 2, 3], [2, 4, 6], [0, 0, 1]])
    (scene / "H_1_4").write_text("1 0 0 zero 1 0 0 0 1")
    (scene / "H_1_5").write_text("1 0 0 0 1 0 0 0")
    (scene / "H_1_6").write_text("nan 0 0 0 1 0 0 0 1")
    (scene / "7.ppm").unlink()
    dataset = open_data(tmp_path, DataSettings())
    assert [pair.name for pair in dataset.pairs] == ["v_a 1-2"]
    expected = (
        "1-3: .*H_1_3: the matrix is singular",
        "1-4: .*as text",
        "1-5: .*got 8 numbers",
        "1-6: .*NaN",
        "1-7: .*no such",
    )
    assert len(dataset.skipped) == len(expected)
    for line, pattern in zip(dataset.skipped, expected, strict=True):
        assert "\n" not in line
        assert re.search(pattern, line), line
    (scene / "1.ppm").unlink()
    with pytest.raises(ValueError, match="none of 1 scenes has a pair that can be used; the first: v_a 1-2"):
        open_data(tmp_path, DataSettings())


def test_matrix_files(tmp_path: Path) -> None:
    storage = cv2.FileStorage(str(tmp_path / "H.xml"), cv2.FILE_STORAGE_WRITE)
    storage.write("H12", np.diag([1.0, 2.0, 3.0]))
    storage.release()
    assert np.array_equal(read_matrix(tmp_path / "H.xml"), np.diag([1.0, 2.0, 3.0]))
    (tmp_path / "text.xml").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.xml"):
        read_matrix(tmp_path / "text.xml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<rows>3</rows><dt>d</dt><data>1. 0. 1. 0. 1. 1. 0. 0. 1.</data>", "rows 3, cols missing and 9 numbers"),
        ("<rows>3</rows><cols>3</cols><dt>d</dt><data>1. 0. 1.</data>", "rows 3, cols 3 and 3 numbers"),
        ("<rows>3</rows><cols>3</cols><dt>d</dt><data>1 0 1 0 1 1 0 0 x</data>", "could not convert"),
        ("<rows>9999999</rows><cols>3</cols><dt>d</dt><data>1.</data>", "no 3x3 matrix"),
    ],
)
def test_a_matrix_in_xml_is_nine_numbers_or_a_line(tmp_path: Path, text: str, message: str) -> None:
    """The first of these made OpenCV's reader write beyond its memory."""
    path = tmp_path / "H1to2p.xml"
    path.write_text(f'<?xml version="1.0"?>\n<opencv_storage>\n<H type_id="opencv-matrix">{text}</H></opencv_storage>')
    with pytest.raises(UserError, match=message) as caught:
        read_matrix(path)
    assert str(path) in str(caught.value)


def test_declarations_and_large_files_are_no_matrices(tmp_path: Path) -> None:
    path = tmp_path / "H.xml"
    path.write_text('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><opencv_storage>&b;</opencv_storage>')
    with pytest.raises(UserError, match="with declarations"):
        read_matrix(path)
    path.write_text(" " * (LARGEST_FILE + 1))
    with pytest.raises(UserError, match="larger file"):
        read_matrix(path)
    path.write_text(
        '<opencv_storage><a type_id="opencv-matrix"><rows>1</rows><cols>2</cols><dt>d</dt><data>5. 6.</data></a>'
        '<b type_id="opencv-matrix"><rows>3</rows><cols>3</cols><dt>f</dt>'
        "<data>1. 0. 1. 0. .5 1. 0. 0. -.Inf</data></b>"
        "</opencv_storage>"
    )
    assert read_matrix(path).tolist() == [[1, 0, 1], [0, 0.5, 1], [0, 0, -np.inf]]
