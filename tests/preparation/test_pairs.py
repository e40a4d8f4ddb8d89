"""Pairs of a scene are chosen evenly, and their table."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from lfnet.data.scenes.pair_table import PAIR_COLUMNS, PairTable, PairTableError, read_pair_table
from lfnet.preparation.pairs import (
    PairError,
    PairSettings,
    balancing_weights,
    choose_evenly,
    make_pair_table,
    write_pair_table,
)
from support.commands import linux_only
from support.plane_frames import FOCAL, HEIGHT, WIDTH, plane_frame, walk


def test_pairs_are_chosen_and_weighted_evenly() -> None:
    kinds = np.repeat([0, 1, 2], [1000, 100, 3])
    chosen = choose_evenly(kinds, 150, np.random.default_rng(0))
    assert np.bincount(kinds[chosen]).tolist() == [74, 73, 3]
    assert (np.diff(chosen) > 0).all()
    weights = balancing_weights(kinds)
    mass = np.bincount(kinds, weights)
    assert mass[0] == pytest.approx(mass[1], rel=1e-5)
    # Three pairs would have to be drawn a hundred times as often as an even draw would: they are not.
    assert mass[2] < 0.1 * mass[0]
    assert weights.mean() == pytest.approx(1)
    assert len(balancing_weights(np.zeros(0, int))) == 0


def test_a_table_from_frames(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    frames = walk()
    ids = list(range(101, 131))
    table, report = make_pair_table(
        frames, ids, PairSettings(max_pairs=60), progress=lambda *arguments: told.append(arguments)
    )
    assert 0 < len(table.of_split("training")) <= 60
    assert 0 < len(table.of_split("validation")) <= 6
    smaller = np.minimum(table.overlap_ab, table.overlap_ba)
    assert smaller.min() >= 0.1
    assert smaller.max() <= 0.9
    assert report.training_pairs + report.validation_pairs == len(table)
    assert report.across_split > 0
    assert report.pictures == 30
    assert report.nearest_cameras is not None
    assert any("apart" in line for line in report.lines())
    assert ("depth", 30, 30) in told
    assert told[-1] == ("pairs", report.candidates, report.candidates)
    # No picture of validation is in a training pair, and the other way round.
    held = set(table.image_ids[table.image_split == 1].tolist())
    for first, second, split in zip(table.image_id_a, table.image_id_b, table.split, strict=True):
        assert (first in held) == (second in held) == bool(split)
    again, _ = make_pair_table(frames, ids, PairSettings(max_pairs=60))
    np.testing.assert_array_equal(again.image_id_a, table.image_id_a)

    write_pair_table(tmp_path / "pairs.h5", table)
    read = read_pair_table(tmp_path / "pairs.h5")
    assert read.names == table.names
    assert read.overlap_range == pytest.approx((0.1, 0.9))
    for name in (*PAIR_COLUMNS, "image_ids", "image_split"):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name))


def test_points_or_voxels_find_the_same_pairs() -> None:
    """Ids of a grid on the plane stand in for sparse points."""
    frames = walk()
    observed = []
    for frame in frames:
        centre = np.linalg.inv(frame.camera_from_world)[:3, 3]
        x, y = np.meshgrid(np.arange(-40, 80), np.arange(-20, 21))
        inside = np.abs(0.1 * x - centre[0]) < (2 - centre[2]) * WIDTH / 2 / FOCAL
        inside &= np.abs(0.1 * y) < (2 - centre[2]) * HEIGHT / 2 / FOCAL
        observed.append((1000 * (x + 40) + y + 20)[inside])
    by_points, _ = make_pair_table(frames, range(30), observed=observed)
    by_voxels, _ = make_pair_table(frames, range(30))
    pairs = [
        set(zip(table.image_id_a.tolist(), table.image_id_b.tolist(), strict=True)) for table in (by_points, by_voxels)
    ]
    assert pairs[0] == pairs[1]


def test_pairs_seen_from_too_far_apart_are_left_out() -> None:
    frames = walk(12)
    every, all_kept = make_pair_table(frames, range(12))
    limit = float(np.median(every.angle))
    table, report = make_pair_table(frames, range(12), PairSettings(max_angle=limit))
    assert every.angle.max() > limit >= table.angle.max()
    assert report.in_range + report.too_wide == all_kept.in_range
    with pytest.raises(PairError, match="allow a larger max_angle"):
        make_pair_table(frames[:4], range(4), PairSettings(max_angle=0.1))


def test_validation_by_name_and_errors() -> None:
    frames = walk(12)
    names = tuple(frame.name for frame in frames[4:7])
    table, report = make_pair_table(frames, range(12), PairSettings(validation=names))
    assert table.image_split.sum() == report.validation_pictures == 3
    with pytest.raises(PairError, match=r"no picture no\.png"):
        make_pair_table(frames, range(12), PairSettings(validation=("no.png",)))
    with pytest.raises(PairError, match="no picture has any depth"):
        make_pair_table([replace(frame, read_depth=None) for frame in frames], range(12))
    apart = [plane_frame(str(index), (20.0 * index, 0, 0)) for index in range(4)]
    with pytest.raises(PairError, match="no two pictures see the same"):
        make_pair_table(apart, range(4))
    with pytest.raises(PairError, match=r"more than 0\.02"):
        make_pair_table(frames, range(12), PairSettings(overlap=(0.01, 0.02)))
    with pytest.raises(PairError, match="hold back fewer"):
        make_pair_table(frames, range(12), PairSettings(validation=tuple(frame.name for frame in frames)))
    for wrong in ({"overlap": (0.9, 0.1)}, {"max_pairs": 0}, {"validation_share": 1.0}, {"max_angle": 0}):
        with pytest.raises(PairError):
            PairSettings(**wrong)
    few, report = make_pair_table(frames[:4], range(4))
    assert not few.image_split.any()
    assert any("too few" in note for note in report.notes)


def small_table() -> PairTable:
    return make_pair_table(walk(12), range(12))[0]


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.h5"
    table = small_table()
    with pytest.raises(PairTableError, match="no such file"):
        read_pair_table(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(PairTableError, match="not an HDF5 file"):
        read_pair_table(path)
    write_pair_table(path, table)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PairTableError, match="not an HDF5 file"):
        read_pair_table(path)

    def spoil(message: str, name: str, value: object) -> None:
        write_pair_table(path, table)
        with h5py.File(path, "r+") as file:
            if name in file:
                del file[name]
                if value is not None:
                    file[name] = value
            else:
                file.attrs[name] = value
        with pytest.raises(PairTableError, match=message) as caught:
            read_pair_table(path)
        assert "\n" not in str(caught.value)

    spoil("no table of pairs", "format", "other")
    spoil("newer", "version", 2)
    spoil("expected a dataset angle", "angle", None)
    spoil("unequal length", "angle", table.angle[:-1])
    spoil("angle has a value", "angle", np.full(len(table), np.nan, np.float32))
    spoil("weight has a value", "weight", -table.weight)
    spoil("names", "images", table.names[:-1])
    spoil("twice", "image_ids", np.zeros(12, np.int32))
    spoil("of which there is no name", "image_id_a", table.image_id_a + 50)
    spoil("across the split", "split", 1 - table.split)
    spoil("split other than", "split", table.split + 2)
    with pytest.raises(PairTableError, match="across"):
        write_pair_table(path, replace(table, split=1 - table.split))


MANY = """
import numpy as np
from lfnet.data.frames import Frame
from lfnet.preparation import pairs
from lfnet.preparation.pairs import make_pair_table
pairs.PARTNERS = (3, 3)
count, size = 10_000, (64, 48)
intrinsics = np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
depth = np.full((48, 64), 2, np.float32)
frames, observed = [], []
for index in range(count):
    pose = np.eye(4)
    pose[:2, 3] = -0.1 * (index % 100), -0.1 * (index // 100)
    frames.append(Frame(f"{index}.png", size, intrinsics, pose, lambda: None, lambda: depth))
    x, y = np.meshgrid(np.arange(index % 100, index % 100 + 20), np.arange(index // 100, index // 100 + 16))
    observed.append((1000 * x + y).ravel())
table, report = make_pair_table(frames, range(count), observed=observed)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(len(table), report.candidates, int(peak) // 1024)
"""


@linux_only
@pytest.mark.slow
def test_ten_thousand_pictures_in_bounded_memory_and_time(user_environment: dict[str, str]) -> None:
    """A lawn of 100 x 100 cameras. PyTorch alone takes 250 MB."""
    words = [sys.executable, "-c", MANY]
    process = subprocess.run(words, env=user_environment, capture_output=True, text=True, check=True, timeout=600)
    pairs, candidates, peak = map(int, process.stdout.split())
    assert 5_000 < pairs <= candidates <= 30_000
    assert peak < 900
