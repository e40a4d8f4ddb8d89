"""Pairs of a scene: candidates, overlap against what geometry says, the split by place, even choice."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.data.frames import Frame, SequenceError
from lfnet.data.scenes.pair_table import PAIR_COLUMNS, PairTable, PairTableError, read_pair_table
from lfnet.geometry.camera import pixel_grid
from lfnet.geometry.warp import warp_by_depth
from lfnet.preparation.candidates import candidate_pairs, voxels
from lfnet.preparation.overlap import Measurements, measure_pairs, read_thumbnails, thumbnail_side
from lfnet.preparation.pairs import (
    PairError,
    PairSettings,
    balancing_weights,
    choose_evenly,
    make_pair_table,
    write_pair_table,
)
from lfnet.preparation.split import nearest_distances, split_by_place
from support.commands import linux_only

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
INTRINSICS = np.array([[FOCAL, 0.0, (WIDTH - 1) / 2], [0.0, FOCAL, (HEIGHT - 1) / 2], [0.0, 0.0, 1.0]])


def no_picture() -> NDArray[np.uint8]:
    raise AssertionError("pairs are measured without pictures")


def plane_frame(
    name: str,
    centre: tuple[float, float, float],
    zoom: float = 1.0,
    rotation: NDArray[np.float64] | None = None,
    unit: float = 1.0,
    far: float = 0.0,
) -> Frame:
    """A camera that looks along z at the plane z = 2, or along z turned by `rotation`."""
    rotation = np.eye(3) if rotation is None else rotation
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = rotation
    world_from_camera[:3, 3] = unit * np.array(centre) + far
    intrinsics = INTRINSICS.copy()
    intrinsics[:2, :2] *= zoom
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack((x, y, np.ones_like(x)), -1) @ np.linalg.inv(intrinsics).T @ rotation.T
    depth = (unit * (2 - centre[2]) / rays[..., 2]).astype(np.float32)
    return Frame(
        name, (WIDTH, HEIGHT), intrinsics, np.linalg.inv(world_from_camera), no_picture, lambda: depth.copy()
    )


def measured(*frames: Frame) -> Measurements:
    return measure_pairs(read_thumbnails(frames), np.array([[0, 1]]))


# --- measurement ---


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_overlap_of_a_plane_shifted_sideways(share: float, unit: float) -> None:
    """At depth 2 the picture is 2 WIDTH / FOCAL wide; in any unit, and however far away the world begins."""
    shift = (1 - share) * 2 * WIDTH / FOCAL
    far = 300 * unit
    frames = [plane_frame(str(x), (x, 0, 0), unit=unit, far=far) for x in (0.0, shift)]
    pair = measured(*frames)
    assert pair.overlap_ab[0] == pytest.approx(share, abs=0.05)
    assert pair.overlap_ba[0] == pytest.approx(share, abs=0.05)
    assert pair.scale_ratio[0] == pytest.approx(1, abs=0.01)
    assert pair.rotation[0] == pytest.approx(0, abs=0.01)
    # A point half way between both cameras sees them under this angle; others under less.
    widest = np.degrees(2 * np.arctan(shift / 4))
    assert 0.75 * widest < pair.angle[0] <= widest + 0.01


def test_overlap_and_scale_of_a_zoom() -> None:
    pair = measured(plane_frame("a", (0, 0, 0)), plane_frame("b", (0, 0, 0), zoom=2))
    assert pair.overlap_ab[0] == pytest.approx(0.25, abs=0.05)
    assert pair.overlap_ba[0] == pytest.approx(1, abs=0.02)
    assert pair.scale_ratio[0] == pytest.approx(2, rel=0.01)
    assert pair.angle[0] == pytest.approx(0, abs=0.05)
    nearer = measured(plane_frame("a", (0, 0, 0)), plane_frame("b", (0, 0, 1)))
    assert nearer.scale_ratio[0] == pytest.approx(2, rel=0.01)
    assert nearer.overlap_ab[0] == pytest.approx(0.25, abs=0.05)


def test_scale_of_a_slanted_view_is_that_of_the_exact_jacobian() -> None:
    turn = np.radians(35)
    rotation = np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
    frames = plane_frame("a", (0, 0, 0)), plane_frame("b", (1.6, 0, 0.4), rotation=rotation)
    pair = measured(*frames)
    assert pair.rotation[0] == pytest.approx(35, abs=0.01)
    views = [
        (torch.from_numpy(frame.read_depth())[None, None], torch.from_numpy(frame.intrinsics).float()[None])
        for frame in frames
        if frame.read_depth is not None
    ]
    b_from_a = torch.from_numpy(frames[1].camera_from_world @ np.linalg.inv(frames[0].camera_from_world)).float()[None]
    (depth_a, camera_a), (depth_b, camera_b) = views
    warp = warp_by_depth(depth_a, depth_b, camera_a, camera_b, b_from_a, torch.ones_like(depth_b, dtype=torch.bool))
    seen = warp.grid().visible[0]
    zoom = torch.linalg.det(warp.jacobian(pixel_grid(HEIGHT, WIDTH)[None]))[0].abs().sqrt()[seen].median()
    assert float(seen.float().mean()) == pytest.approx(float(pair.overlap_ab[0]), abs=0.05)
    assert pair.scale_ratio[0] == pytest.approx(float(zoom), rel=0.04)


def test_pictures_of_several_sizes() -> None:
    """The same view stored at half the size: every pixel is seen, and the zoom is a half."""
    large, small = plane_frame("a", (0, 0, 0)), plane_frame("b", (0, 0, 0))
    half = INTRINSICS.copy()
    half[:2] /= 2
    half[:2, 2] -= 0.25
    depth = np.full((HEIGHT // 2, WIDTH // 2), 2, np.float32)
    small = replace(small, size=(WIDTH // 2, HEIGHT // 2), intrinsics=half, read_depth=lambda: depth)
    turned = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    upright = replace(
        plane_frame("c", (0, 0, 0), rotation=turned),
        size=(HEIGHT, WIDTH),
        intrinsics=np.array([[FOCAL, 0, (HEIGHT - 1) / 2], [0, FOCAL, (WIDTH - 1) / 2], [0, 0, 1]]),
        read_depth=lambda: np.full((WIDTH, HEIGHT), 2, np.float32),
    )
    both = measured(large, small)
    assert both.overlap[0] > 0.97
    assert both.scale_ratio[0] == pytest.approx(0.5, rel=0.01)
    both = measured(large, upright)
    assert both.overlap[0] > 0.97
    assert both.rotation[0] == pytest.approx(90, abs=0.01)
    assert both.scale_ratio[0] == pytest.approx(1, rel=0.01)


def test_overlap_is_of_known_depth_and_of_what_is_not_hidden() -> None:
    frame = plane_frame("a", (0, 0, 0))
    half_known = np.full((HEIGHT, WIDTH), 2, np.float32)
    half_known[:, : WIDTH // 2] = 0
    other = replace(frame, read_depth=lambda: half_known)
    both = measured(frame, other)
    assert both.overlap_ab[0] == pytest.approx(0.5, abs=0.05)
    assert both.overlap_ba[0] == pytest.approx(1, abs=0.01)
    wall = replace(frame, read_depth=lambda: np.full((HEIGHT, WIDTH), 1, np.float32))
    hidden = measured(frame, wall)
    assert hidden.overlap[0] == 0
    assert (hidden.angle[0], hidden.scale_ratio[0]) == (0, 1)
    nothing = measured(frame, replace(frame, read_depth=None))
    assert nothing.overlap[0] == 0


def test_depth_of_another_size_is_refused() -> None:
    wrong = replace(plane_frame("a.jpg", (0, 0, 0)), read_depth=lambda: np.ones((10, 12), np.float32))
    with pytest.raises(SequenceError, match=r"a\.jpg: depth of 12x10 beside a picture of 320x240"):
        read_thumbnails([wrong])


def test_thumbnails_take_bounded_memory() -> None:
    assert thumbnail_side(11) == 160
    assert max(thumbnail_side(count) ** 2 * 2 * count for count in range(1, 10_001, 50)) <= 130e6


# --- candidates ---


def test_candidates_share_what_they_see() -> None:
    sets = [np.array([1, 2, 3, 3]), np.array([2, 3, 4]), np.array([9]), np.array([3]), np.zeros(0, int)]
    pairs, shared = candidate_pairs(sets, 10)
    assert pairs.tolist() == [[0, 1], [0, 3], [1, 3]]
    assert shared.tolist() == [2, 1, 1]
    assert candidate_pairs(sets, 10, min_shared=2)[0].tolist() == [[0, 1]]
    assert candidate_pairs([], 10)[0].shape == (0, 2)


def test_candidates_against_all_pairs() -> None:
    generator = np.random.default_rng(0)
    sets = [np.unique(generator.integers(0, 300, 40)) for _ in range(60)]
    pairs, shared = candidate_pairs(sets, 60, min_shared=4)
    expected = {
        (first, second): len(np.intersect1d(sets[first], sets[second]))
        for first in range(60)
        for second in range(first + 1, 60)
    }
    expected = {pair: count for pair, count in expected.items() if count >= 4}
    assert dict(zip(map(tuple, pairs.tolist()), shared.tolist(), strict=True)) == expected


def test_partners_are_spread_over_the_ranks() -> None:
    """A walk: each picture sees 50 numbers on. The chosen partners are near and far."""
    sets = [np.arange(picture, picture + 50) for picture in range(200)]
    pairs, shared = candidate_pairs(sets, 8)
    of_one = shared[(pairs == 100).any(1)]
    assert of_one.max() >= 48
    assert of_one.min() <= 3
    assert len(pairs) <= 8 * 200


def test_voxels_of_near_points_meet_as_a_rule() -> None:
    generator = np.random.default_rng(0)
    met = 0
    for point in generator.uniform(-3, 3, (200, 3)):
        near, far = point + generator.uniform(-0.05, 0.05, 3), point + np.array([2.5, 0, 0])
        met += len(np.intersect1d(voxels(point[None], 1.0), voxels(near[None], 1.0))) > 0
        assert not len(np.intersect1d(voxels(point[None], 1.0), voxels(far[None], 1.0)))
    assert met > 190


# --- split ---


def test_the_split_is_a_place() -> None:
    """Two rooms and a corridor: the smaller room is held back whole."""
    generator = np.random.default_rng(0)
    rooms = np.repeat([0, 1], [40, 10])
    centres = generator.normal(size=(50, 3)) + 20 * rooms[:, None]
    every = [(first, second) for first in range(50) for second in range(first + 1, 50)]
    pairs = np.array([(a, b) for a, b in every if rooms[a] == rooms[b] or (a, b) == (39, 40)])
    overlaps = np.where(rooms[pairs[:, 0]] == rooms[pairs[:, 1]], 0.5, 0.05)
    split = split_by_place(centres, pairs, overlaps)
    np.testing.assert_array_equal(split.validation, rooms == 1)
    assert split.largest_overlap == pytest.approx(0.05)
    assert split.nearest is not None
    assert split.nearest == pytest.approx(
        np.linalg.norm(centres[:40, None] - centres[None, 40:], axis=-1).min(), rel=1e-6
    )
    assert split.nearest_relative is not None
    assert split.nearest_relative > 10


def test_the_split_of_a_walk_is_a_stretch_of_it() -> None:
    centres = np.stack((np.arange(100.0), np.zeros(100), np.zeros(100)), 1)
    pairs = np.array([(a, b) for a in range(100) for b in range(a + 1, min(a + 6, 100))])
    overlaps = 1 - 0.15 * (pairs[:, 1] - pairs[:, 0])
    held = np.flatnonzero(split_by_place(centres, pairs, overlaps).validation)
    assert 10 <= len(held) <= 23
    assert held[-1] - held[0] == len(held) - 1
    # A stretch at an end has one border, in the middle it would have two.
    assert held[0] == 0 or held[-1] == 99


def test_few_pictures_names_and_none() -> None:
    centres = np.random.default_rng(0).normal(size=(5, 3))
    pairs = np.array([(a, b) for a in range(5) for b in range(a + 1, 5)])
    overlaps = np.full(len(pairs), 0.5)
    few = split_by_place(centres, pairs, overlaps)
    assert not few.validation.any()
    assert "too few" in few.note
    assert split_by_place(centres, pairs, overlaps, chosen=[3, 4]).validation.tolist() == [False] * 3 + [True] * 2
    assert "as asked" in split_by_place(centres, pairs, overlaps, share=0).note
    with pytest.raises(ValueError, match="share"):
        split_by_place(centres, pairs, overlaps, share=1.0)


def test_nearest_distances_in_parts() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(nearest_distances(points, rows=7), distances.min(1))


# --- choice ---


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


def walk(count: int = 30, step: float = 0.12) -> list[Frame]:
    """Along the plane and back, nearer on the way back."""
    frames = []
    for index in range(count):
        forth = index < count // 2
        place = index if forth else count - 1 - index
        frames.append(plane_frame(f"{index:03d}.png", (step * place, 0.0, 0.0 if forth else 0.8)))
    return frames


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


# --- the table on disk ---


def small_table() -> PairTable:
    return make_pair_table(walk(12), range(12))[0]


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.h5"
    table = small_table()
    with pytest.raises(PairTableError, match="no such file"):
        read_pair_table(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(PairTableError, match="can't be read"):
        read_pair_table(path)
    write_pair_table(path, table)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PairTableError, match="can't be read"):
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


# --- many pictures ---

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
