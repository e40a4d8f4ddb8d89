"""Which files of a folder are images, by what names, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from lfnet.image_files import find_images, list_images
from lfnet.images import ImageError


def test_pictures_of_a_folder_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10.JPG", "b9.jpg", "a.png", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.tif").touch()
    names = [path.relative_to(tmp_path).as_posix() for path in list_images([tmp_path, tmp_path / "a.png"])]
    assert names == ["a.png", "b9.jpg", "b10.JPG", "sub/c.tif"]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images in this folder"):
        list_images([tmp_path])


def test_linked_folders_are_searched_once_and_broken_links_told(folder: Path, tmp_path: Path) -> None:
    """A circle ends, a folder linked twice counts once, and names go by the path as given."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "camera.png").rename(elsewhere / "linked.png")
    (folder / "far").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder / "inside")
    (elsewhere / "circle").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "lost").symlink_to(tmp_path / "nowhere")
    found = find_images(folder)
    names = [path.relative_to(folder).as_posix() for path in found.paths]
    assert names == ["coffee.jpg", "far/linked.png", "gone.jpg", "inside/turned.png"]
    assert found.passed_over == [f"in {folder}: 1 file passed over: lost: links to what is not there"]


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path) -> None:
    for name in "a.avif b.TGA c.jfif d.heic e.JPE f.pnm g.mpo h.dng i.NEF .hidden.jpg .x".split():
        (tmp_path / name).touch()
    for number in range(12):
        (tmp_path / f"{number}.txt").touch()
    found = find_images(tmp_path)
    assert [path.name[0] for path in found.paths] == list("abcdefg")
    assert found.passed_over == [
        f"in {tmp_path}: 2 files passed over: h.dng, i.NEF: a camera's raw file, develop it to JPEG, PNG or TIFF",
        f"in {tmp_path}: 1 file passed over: .hidden.jpg: hidden by a dot in front of a name",
        f"in {tmp_path}: 12 files passed over: 0.txt, 1.txt, 2.txt and 9 more: no ending of an image",
    ]


def test_a_folder_of_raw_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.CR3").touch()
    with pytest.raises(ImageError, match=r"no images in this folder \(1 file passed over: a\.CR3: a camera's raw"):
        find_images(tmp_path)
