"""Lists of pairs, from real files: EXIF, COLMAP models, features and global descriptors."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.features import Features
from lfnet.file_pairs import Pairing, PairingError, choose_pairs, gps_position, similar_pairs, vlad
from lfnet.integrations import hloc
from support.rendered_photos import look

NAMES = [f"photo{number}.jpg" for number in range(12)]
GPS = 0x8825


def write_photo(path: Path, latitude: float, longitude: float) -> None:
    """A picture whose EXIF has GPS, in degrees, minutes and seconds."""
    exif = Image.Exif()
    gps = exif.get_ifd(GPS)
    for tag, value, letters in ((1, latitude, "NS"), (3, longitude, "EW")):
        minutes, seconds = divmod(abs(value) * 3600, 60)
        gps[tag] = letters[value < 0]
        gps[tag + 1] = (*divmod(minutes, 60), seconds)
    Image.new("L", (16, 16)).save(path, exif=exif)


def test_next_ones_in_natural_order(tmp_path: Path) -> None:
    shuffled = sorted(NAMES)
    assert shuffled[2] == "photo10.jpg"
    pairs = choose_pairs(Pairing(sequential=2), tmp_path, shuffled)
    assert pairs[:2] == [("photo0.jpg", "photo1.jpg"), ("photo0.jpg", "photo2.jpg")]
    assert len(pairs) == 11 + 10
    assert choose_pairs(Pairing(exhaustive=True), tmp_path, NAMES) == list(combinations(NAMES, 2))


def test_gps_is_read_and_measured_in_metres(tmp_path: Path) -> None:
    south_west = (-33.8568, -70.2153)
    degree = 111_195.08  # Of a meridian, on a sphere of the mean radius.
    for name, metres in zip(NAMES[:3], (0, 30, 75), strict=True):
        write_photo(tmp_path / name, south_west[0] + metres / degree, south_west[1])
    write_photo(tmp_path / NAMES[3], south_west[0], south_west[1] + 60 / degree)  # Less in metres, so far south: 49.8.
    assert gps_position(tmp_path / NAMES[0]) == pytest.approx(south_west, abs=1e-7)
    near = {metres: choose_pairs(Pairing(gps=metres), tmp_path, NAMES[:4]) for metres in (46, 49, 51)}
    assert near[46] == [(NAMES[0], NAMES[1]), (NAMES[1], NAMES[2])]
    assert near[49] == near[46]
    assert near[51] == [(NAMES[0], NAMES[1]), (NAMES[0], NAMES[3]), (NAMES[1], NAMES[2])]
    with pytest.raises(PairingError, match="no pairs of its 4 pictures"):
        choose_pairs(Pairing(gps=1), tmp_path, NAMES[:4])
    Image.new("L", (16, 16)).save(tmp_path / NAMES[4])
    said: list[str] = []
    assert choose_pairs(Pairing(gps=51), tmp_path, NAMES[:5], say=said.append) == near[51]
    assert said == ["left out: 1 of 5 pictures have no GPS in their EXIF (photo4.jpg)"]
    with pytest.raises(PairingError, match=r"2 of 6 pictures have no GPS .*choose pairs another way"):
        choose_pairs(Pairing(gps=50), tmp_path, NAMES[:6])


def test_poses_pair_near_cameras_that_look_the_same_way(tmp_path: Path) -> None:
    positions = [np.array([float(x), 0.0, 0.0]) for x in range(5)]
    poses = [look(place, place + np.array([0, 0, 1.0])) for place in positions]
    poses.append(look(np.array([0.1, 0, 0]), np.array([0.1, 0, -5.0])))  # Beside the first, and looks back.
    camera = Camera(1, "PINHOLE", (16, 16), np.array([10.0, 10, 8, 8]))
    images = {
        number: RegisteredImage(number, NAMES[number - 1], 1, pose, np.zeros((0, 2)), np.zeros(0, np.int64))
        for number, pose in enumerate(poses, start=1)
    }
    write_reconstruction(tmp_path / "sparse" / "0", Reconstruction({1: camera}, images, Points.empty()))
    pairs = choose_pairs(Pairing(poses=tmp_path, nearest=1), tmp_path, NAMES)
    assert pairs == [(NAMES[0], NAMES[1]), (NAMES[1], NAMES[2]), (NAMES[2], NAMES[3]), (NAMES[3], NAMES[4])]
    assert len(choose_pairs(Pairing(poses=tmp_path), tmp_path, NAMES)) == 10
    with pytest.raises(PairingError, match=r"has 0 of the 1 pictures; its names are as 'photo0\.jpg'"):
        choose_pairs(Pairing(poses=tmp_path), tmp_path, ["other.jpg"])


def write_places(path: Path, count: int, binary: bool) -> None:
    """Features of pictures 0, 2, 4, ... of one place and 1, 3, 5, ... of another: local descriptors about two sets."""
    generator = np.random.default_rng(0)
    places = generator.normal(size=(2, 200, 32))
    with h5py.File(path, "w") as file:
        for number in range(count):
            local = places[number % 2] + 0.5 * generator.normal(size=(200, 32))
            rows = np.packbits(local > 0, axis=1) if binary else local / np.linalg.norm(local, axis=1, keepdims=True)
            ones = np.ones(200)
            hloc.write_features(file, NAMES[number], Features(np.zeros((200, 2)), ones, ones, ones, rows, (16, 16)))
        hloc.write_features(file, "blank.jpg", Features.empty((16, 16), rows.shape[1]))


@pytest.mark.parametrize("binary", [False, True])
def test_alike_pictures_are_found_by_their_own_local_descriptors(tmp_path: Path, binary: bool) -> None:
    write_places(tmp_path / "features.h5", 12, binary)
    pairs = choose_pairs(Pairing(similar=3), tmp_path, NAMES, tmp_path / "features.h5")
    numbers = [(NAMES.index(a), NAMES.index(b)) for a, b in pairs]
    assert len(pairs) >= 12 * 3 / 2
    assert all(a < b and (a - b) % 2 == 0 for a, b in numbers)
    rows = vlad(tmp_path / "features.h5", [*NAMES, "blank.jpg"])
    assert np.isfinite(rows).all()
    assert not rows[-1].any()
    assert np.array_equal(rows, vlad(tmp_path / "features.h5", [*NAMES, "blank.jpg"]))


def test_global_descriptors_of_the_user(tmp_path: Path) -> None:
    angles = np.radians([0, 10, 90, 100])
    rows = np.stack((np.cos(angles), np.sin(angles)), 1) * [[1], [5], [2], [3]]
    expected = [(NAMES[0], NAMES[1]), (NAMES[2], NAMES[3])]
    assert similar_pairs(rows, NAMES[:4], 1) == expected
    np.save(tmp_path / "global.npy", rows)
    with h5py.File(tmp_path / "global.h5", "w") as file:
        for name, row in zip(NAMES, rows, strict=False):
            file[f"{name}/global_descriptor"] = row
    for name in ("global.npy", "global.h5"):
        pairing = Pairing(similar=1, descriptors=tmp_path / name)
        assert choose_pairs(pairing, tmp_path, NAMES[:4]) == expected
        with pytest.raises(PairingError, match=r"expected \(5, D\)|no 'global_descriptor' of 'photo4.jpg'"):
            choose_pairs(pairing, tmp_path, NAMES[:5])


def test_a_list_has_names_with_blanks_and_none_that_is_unknown(tmp_path: Path) -> None:
    pairs = [("a walk/1.jpg", "2.jpg"), ("2.jpg", "3.jpg")]
    hloc.write_pairs(tmp_path / "pairs.txt", pairs)
    assert (tmp_path / "pairs.txt").read_text() == "a walk/1.jpg\t2.jpg\n2.jpg 3.jpg\n"
    names = ["2.jpg", "3.jpg", "a walk/1.jpg"]
    assert choose_pairs(Pairing(listed=tmp_path / "pairs.txt"), tmp_path, names) == pairs
    with pytest.raises(PairingError, match=r"1 names are of no picture, as 'a walk/1\.jpg'"):
        choose_pairs(Pairing(listed=tmp_path / "pairs.txt"), tmp_path, names[:2])


def test_one_way_is_chosen_and_makes_sense(tmp_path: Path) -> None:
    for wrong in ({}, {"sequential": 3, "gps": 5.0}):
        with pytest.raises(PairingError, match="expected one of --exhaustive, --sequential"):
            Pairing(**wrong)
    with pytest.raises(PairingError, match="--sequential: expected a number above 0, got 0"):
        Pairing(sequential=0)
    with pytest.raises(PairingError, match="--similar needs --features"):
        choose_pairs(Pairing(similar=2), tmp_path, NAMES)
