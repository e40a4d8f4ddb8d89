"""Depth by plane sweep and by slanted planes against the exact depth of a rendered world, and what confirms it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("skimage.data")

from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.data.scenes.scene import depth_path, read_depth_file
from lfnet.geometry.depth import DepthView
from lfnet.preparation.consistency import (
    ConsistencySettings,
    confirmations,
    drop_speckles,
)
from lfnet.preparation.depth import DepthMaps, DepthSettings, each_of, write_depth
from lfnet.preparation.depth_agreement import measure_agreement
from lfnet.preparation.plane_refinement import RefinementSettings, refine
from lfnet.preparation.plane_sweep import (
    PosedPicture,
    SweepResult,
    SweepSettings,
    plane_depths,
    plane_maps,
    sweep,
)
from lfnet.preparation.view_selection import BEST_ANGLE, RANGE_MARGIN, SparseGeometry
from support.rendered_photos import BACK_WALL, BOX, GROUND, LEFT_WALL, RenderedView, look, poses, render

pytestmark = pytest.mark.slow

SIZE = (320, 240)
NEAR, FAR = 1.5, 11.0
"""What the world reaches over from its cameras, metres."""
MIDDLE = 2
MIN_SCORE = DepthSettings().min_score


@pytest.fixture(scope="module")
def views() -> list[RenderedView]:
    return [render(pose, f"view{number}.png", SIZE) for number, pose in enumerate(poses(5))]


@pytest.fixture(scope="module")
def pictures(views: list[RenderedView]) -> list[PosedPicture]:
    return [PosedPicture(view.grey, view.intrinsics, view.camera_from_world) for view in views]


@pytest.fixture(scope="module")
def swept(pictures: list[PosedPicture]) -> list[SweepResult]:
    settings = SweepSettings()
    return [sweep(picture, others(pictures, place), NEAR, FAR, settings) for place, picture in enumerate(pictures)]


@pytest.fixture(scope="module")
def refined(pictures: list[PosedPicture], swept: list[SweepResult]) -> list[SweepResult]:
    settings = RefinementSettings()
    return [
        refine(picture, others(pictures, place), found, (NEAR, FAR), settings, np.random.default_rng(place))
        for place, (picture, found) in enumerate(zip(pictures, swept, strict=True))
    ]


def others(pictures: list[PosedPicture], place: int) -> list[PosedPicture]:
    return pictures[:place] + pictures[place + 1 :]


def depth_views(views: list[RenderedView], found: list[SweepResult]) -> list[DepthView]:
    return [
        DepthView(each.depth(MIN_SCORE), view.intrinsics, view.camera_from_world)
        for view, each in zip(views, found, strict=True)
    ]


def confirmed(views: list[RenderedView], found: list[SweepResult]) -> NDArray[np.float32]:
    """Depth of the middle view that two others confirm, without speckles."""
    maps = depth_views(views, found)
    count = confirmations(maps[MIDDLE], maps[:MIDDLE] + maps[MIDDLE + 1 :], ConsistencySettings())
    return drop_speckles(np.where(count >= 2, maps[MIDDLE].depth, 0).astype(np.float32), 60)


def measured(depth: NDArray[np.float32], view: RenderedView, *surfaces: int) -> tuple[float, float, float]:
    """Share of the surfaces' pixels with depth, median relative error there, share of those within 1 %."""
    there = np.isin(view.surface, surfaces)
    known = there & (depth > 0)
    error = np.abs(depth[known] - view.depth[known]) / view.depth[known]
    return float(known.sum() / there.sum()), float(np.median(error)), float((error < 0.01).mean())


ALL = (GROUND, LEFT_WALL, BACK_WALL, BOX)


def test_sweep_finds_the_exact_depth(views: list[RenderedView], swept: list[SweepResult]) -> None:
    """Measured: 75 to 84 % confirmed, median error 0.23 to 0.28 %, 93.5 to 94.7 % within 1 %, by the cost of leaps."""
    share, median, within = measured(confirmed(views, swept), views[MIDDLE], *ALL)
    assert share > 0.70
    assert median < 0.0035
    assert within > 0.91


def test_sweep_keeps_what_faces_the_camera_best(views: list[RenderedView], swept: list[SweepResult]) -> None:
    """Measured: 98 % within 1 % on wall and box; 67 to 77 % on the ground, at a grazing angle, 60 to 76 % confirmed."""
    depth = confirmed(views, swept)
    assert measured(depth, views[MIDDLE], BACK_WALL)[2] > 0.96
    assert measured(depth, views[MIDDLE], BOX)[2] > 0.96
    share, median, _ = measured(depth, views[MIDDLE], GROUND)
    assert share > 0.5
    assert median < 0.01


def test_slanted_planes_do_better_than_the_sweep(
    views: list[RenderedView], swept: list[SweepResult], refined: list[SweepResult]
) -> None:
    """Measured: 84 % confirmed, median 0.14 %, 98.7 % within 1 %; ground 85 %, 0.22 %, 98 %."""
    fast, high = confirmed(views, swept), confirmed(views, refined)
    share, median, within = measured(high, views[MIDDLE], *ALL)
    assert share > 0.80
    assert median < 0.002
    assert within > 0.97
    for surface in (GROUND, LEFT_WALL):
        before, after = (measured(depth, views[MIDDLE], surface) for depth in (fast, high))
        assert after[0] > 1.05 * before[0]
        assert after[1] < 0.6 * before[1]
        assert after[2] > 0.95


def test_refinement_leaves_unknown_what_the_sweep_did(
    pictures: list[PosedPicture], swept: list[SweepResult], refined: list[SweepResult]
) -> None:
    assert np.all(refined[0].inverse_depth[swept[0].inverse_depth == 0] == 0)


def test_flat_pictures_have_no_depth(pictures: list[PosedPicture]) -> None:
    flat = [replace(picture, grey=np.full_like(picture.grey, 90)) for picture in pictures]
    found = sweep(flat[0], flat[1:3], NEAR, FAR, SweepSettings())
    assert not found.depth(-1).any()
    settings = RefinementSettings(rounds=1)
    again = refine(flat[0], flat[1:3], found, (NEAR, FAR), settings, np.random.default_rng(0))
    assert not again.depth(-1).any()


def test_mean_of_several_neighbours_agrees_too(views: list[RenderedView], pictures: list[PosedPicture]) -> None:
    found = sweep(pictures[MIDDLE], others(pictures, MIDDLE), NEAR, FAR, SweepSettings(best=2))
    assert measured(found.depth(0.6), views[MIDDLE], BACK_WALL)[1] < 0.005


def test_sweep_refuses_what_has_no_depth(pictures: list[PosedPicture]) -> None:
    with pytest.raises(ValueError, match="expected neighbours and 0 < near < far"):
        sweep(pictures[0], [], NEAR, FAR, SweepSettings())
    with pytest.raises(ValueError, match="0 < near < far"):
        sweep(pictures[0], pictures[1:], FAR, NEAR, SweepSettings())
    with pytest.raises(ValueError, match=r"depth\.sweep\.window: expected an odd number"):
        SweepSettings(window=6)
    with pytest.raises(ValueError, match=r"depth\.sweep\.planes"):
        SweepSettings(planes=(50, 10))


def test_planes_lie_about_a_pixel_apart(pictures: list[PosedPicture]) -> None:
    view, neighbours = pictures[MIDDLE], others(pictures, MIDDLE)
    settings = SweepSettings(planes=(2, 10_000))
    planes = plane_depths(view, neighbours, NEAR, FAR, settings)
    assert planes[0] == pytest.approx(1 / FAR)
    assert planes[-1] == pytest.approx(1 / NEAR)
    steps = np.diff(planes)
    np.testing.assert_allclose(steps, steps[0])
    centre = np.array([159.5, 119.5, 1.0])
    longest = 0.0
    for neighbour in neighbours:
        rotation_part, translation_part = plane_maps(view, neighbour)
        points = rotation_part @ centre[:, None] + translation_part[:, None] * planes
        places = points[:2] / points[2]
        longest = max(longest, float(np.linalg.norm(places[:, -1] - places[:, 0])) / len(steps))
    assert 0.8 < longest < 1.2
    assert len(plane_depths(view, neighbours, NEAR, FAR, SweepSettings(planes=(300, 400)))) == 300
    assert len(plane_depths(view, neighbours, NEAR, FAR, SweepSettings(planes=(10, 20)))) == 20


def test_right_depth_is_confirmed_and_wrong_depth_refused(views: list[RenderedView]) -> None:
    exact = [DepthView(view.depth, view.intrinsics, view.camera_from_world) for view in views]
    count = confirmations(exact[MIDDLE], exact[:MIDDLE] + exact[MIDDLE + 1 :], ConsistencySettings())
    known = views[MIDDLE].depth > 0
    assert (count[known] >= 2).mean() > 0.9  # The rest is hidden from the others, or outside of them.
    assert not count[~known].any()
    far_off = replace(exact[MIDDLE], depth=exact[MIDDLE].depth * np.float32(1.04))
    count = confirmations(far_off, exact[:MIDDLE] + exact[MIDDLE + 1 :], ConsistencySettings())
    assert (count[known] >= 2).mean() < 0.02
    slightly = replace(exact[MIDDLE], depth=exact[MIDDLE].depth * np.float32(1.003))
    count = confirmations(slightly, exact[:MIDDLE] + exact[MIDDLE + 1 :], ConsistencySettings())
    assert (count[known] >= 1).mean() > 0.8


def test_depth_behind_the_other_camera_is_not_confirmed(views: list[RenderedView]) -> None:
    exact = DepthView(views[0].depth, views[0].intrinsics, views[0].camera_from_world)
    behind = look(np.array([0, 0, 20.0]), np.array([0, 0, 30.0]))
    other = DepthView(np.full((240, 320), 5, np.float32), views[0].intrinsics, behind)
    assert not confirmations(exact, [other], ConsistencySettings()).any()


def test_speckles_are_dropped_and_slopes_kept() -> None:
    x = np.mgrid[0:60, 0:80].astype(np.float32)[1]
    slope = 2 + 0.05 * x
    lonely = slope.copy()
    lonely[20:25, 30:35] *= 1.5
    kept = drop_speckles(lonely, 26)
    assert not kept[20:25, 30:35].any()
    np.testing.assert_array_equal(kept[kept > 0], lonely[kept > 0])
    assert (kept == 0).sum() == 25
    assert (drop_speckles(lonely, 25) == 0).sum() == 0
    np.testing.assert_array_equal(drop_speckles(lonely, 0), lonely)
    wide = np.where(x < 40, 0.01, 1000).astype(np.float32)
    np.testing.assert_array_equal(drop_speckles(wide, 100), wide)
    assert not drop_speckles(np.zeros((5, 5), np.float32), 10).any()


def sparse_model(views: list[RenderedView], count: int = 400) -> Reconstruction:
    """A model as COLMAP would make it: exact points on what the middle view sees, observed by all that see them."""
    rng = np.random.default_rng(1)
    middle = views[MIDDLE]
    known = np.argwhere(middle.depth > 0)
    pixels = known[rng.choice(len(known), count, replace=False)][:, ::-1].astype(float)
    z = middle.depth[pixels[:, 1].astype(int), pixels[:, 0].astype(int)].astype(float)
    rays = np.c_[pixels, np.ones(count)] @ np.linalg.inv(middle.intrinsics).T
    world_from_camera = np.linalg.inv(middle.camera_from_world)
    positions = (rays * z[:, None]) @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]
    ids = np.arange(count, dtype=np.int64) + 7
    images = {}
    for number, view in enumerate(views, start=1):
        points = positions @ view.camera_from_world[:3, :3].T + view.camera_from_world[:3, 3]
        projected = points @ view.intrinsics.T
        places = projected[:, :2] / projected[:, 2:]
        nearest = np.clip(np.rint(places), 0, (SIZE[0] - 1, SIZE[1] - 1)).astype(int)
        visible = np.abs(view.depth[nearest[:, 1], nearest[:, 0]] - points[:, 2]) < 0.02 * points[:, 2]
        visible &= ((places > 0) & (places < (SIZE[0] - 1, SIZE[1] - 1))).all(1)
        images[number] = RegisteredImage(
            number, view.name, 1, view.camera_from_world, places[visible], ids[visible]
        )
    points = Points(ids, positions, np.zeros((count, 3), np.uint8), np.zeros(count))
    return Reconstruction({1: Camera.pinhole(1, SIZE, views[0].intrinsics)}, images, points)


def test_range_of_depths_holds_all_points_with_room(views: list[RenderedView]) -> None:
    model = sparse_model(views)
    geometry = SparseGeometry(model)
    _, depths = geometry.points(MIDDLE + 1)
    near, far = geometry.depth_range(MIDDLE + 1) or (0, 0)
    low, high = np.quantile(depths, (0.01, 0.99))
    assert near == pytest.approx(low / RANGE_MARGIN)
    assert far == pytest.approx(high * RANGE_MARGIN)
    few = replace(model.images[1], keypoints=model.images[1].keypoints[:9], point_ids=model.images[1].point_ids[:9])
    lonely = SparseGeometry(replace(model, images={**model.images, 1: few}))
    assert lonely.depth_range(1) is None
    assert lonely.neighbours(1, 4) == []


def test_neighbours_at_the_best_angle_come_first() -> None:
    """Five cameras that look at one far point cloud, 0, 1, 5, 12 and 60 degrees to the side."""
    rng = np.random.default_rng(0)
    positions = rng.normal(0, 0.05, (50, 3))
    images = {}
    for number, degrees in enumerate((0.0, 1.0, BEST_ANGLE, 12.0, 60.0), start=1):
        angle = np.deg2rad(degrees)
        pose = look(np.array([10 * np.sin(angle), 0, -10 * np.cos(angle)]), np.zeros(3))
        images[number] = RegisteredImage(number, f"{number}.png", 1, pose, np.zeros((50, 2)), np.arange(50))
    points = Points(np.arange(50), positions, np.zeros((50, 3), np.uint8), np.zeros(50))
    geometry = SparseGeometry(
        Reconstruction({1: Camera.pinhole(1, SIZE, np.diag((300, 300, 1.0)))}, images, points)
    )
    found = geometry.neighbours(1, 4)
    assert [neighbour.image_id for neighbour in found] == [3, 4, 2, 5]
    assert [neighbour.shared for neighbour in found] == [50] * 4
    assert found[0].worth == pytest.approx(50, rel=0.01)
    assert [neighbour.image_id for neighbour in geometry.neighbours(1, 2)] == [3, 4]


@pytest.fixture(scope="module")
def images(views: list[RenderedView], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for view in views:
        Image.fromarray(view.picture).save(folder / view.name)
    return folder


def test_depth_maps_of_a_model_with_a_mask(views: list[RenderedView], images: Path, tmp_path: Path) -> None:
    """All the steps on files, and again from where they were stopped; masked pixels get no depth."""
    model = sparse_model(views)
    masks, raw, scene = (tmp_path / name for name in ("masks", "raw", "scene"))
    for folder in (masks, raw, scene):
        folder.mkdir()
    usable = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
    usable[:, 100:180] = 0
    Image.fromarray(usable).save(masks / f"{views[MIDDLE].name}.png")
    maps = DepthMaps(model, images, masks, raw, scene, DepthSettings(neighbours=3), 1)
    counted: list[tuple[int, int]] = []
    assert maps.sweep(lambda done, total: counted.append((done, total))) == 5
    assert counted[-1] == (5, 5)
    maps.confirm(lambda done, total: None)
    depth = read_depth_file(depth_path(scene, views[MIDDLE].name), SIZE)
    assert not depth[:, 100:180].any()
    share, median, _ = measured(np.where(usable > 0, depth, 0), views[MIDDLE], *ALL)
    assert share > 0.45
    assert median < 0.005
    before = depth_path(scene, views[0].name).read_bytes()
    depth_path(scene, views[0].name).unlink()
    (raw / "3.npy").unlink()
    counted.clear()
    maps = DepthMaps(model, images, masks, raw, scene, DepthSettings(neighbours=3), 1)
    maps.sweep(lambda done, total: counted.append((done, total)))
    assert counted == [(4, 5), (5, 5)]
    maps.confirm(lambda done, total: None)
    assert depth_path(scene, views[0].name).read_bytes() == before


def test_view_without_points_gets_an_empty_map(views: list[RenderedView], images: Path, tmp_path: Path) -> None:
    model = sparse_model(views[:4])
    lost = replace(model.images[1], keypoints=np.zeros((0, 2)), point_ids=np.zeros(0, np.int64))
    raw = tmp_path / "raw"
    raw.mkdir()
    maps = DepthMaps(replace(model, images={**model.images, 1: lost}), images, None, raw, tmp_path, DepthSettings(), 1)
    assert maps.sweep(lambda done, total: None) == 3
    maps.confirm(lambda done, total: None)
    assert not read_depth_file(depth_path(tmp_path, views[0].name), SIZE).any()
    assert read_depth_file(depth_path(tmp_path, views[1].name), SIZE).any()


def test_agreement_of_a_case_made_by_hand(tmp_path: Path) -> None:
    """Four points straight ahead at 2 m: depth 2, 2.01, 2.2 and unknown at their pixels."""
    matrix = np.array([[100, 0, 10], [0, 100, 10], [0, 0, 1.0]])
    positions = np.array([[-0.1, 0, 2], [0, 0, 2], [0.1, 0, 2], [0, 0.1, 2]])
    image = RegisteredImage(1, "a.png", 1, np.eye(4), np.zeros((4, 2)), np.arange(4))
    other = replace(image, image_id=2, name="b.png")
    points = Points(np.arange(4), positions, np.zeros((4, 3), np.uint8), np.zeros(4))
    model = Reconstruction({1: Camera.pinhole(1, (20, 20), matrix)}, {1: image, 2: other}, points)
    depth = np.zeros((20, 20), np.float32)
    depth[10, 5], depth[10, 10], depth[10, 15] = 2, 2.01, 2.2
    found = measure_agreement(model, lambda number: depth if number == 1 else None)
    assert (found.maps, found.points) == (1, 3)
    assert found.completeness == pytest.approx(3 / 400)
    assert found.coverage == pytest.approx(3 / 4)
    assert found.median_error == pytest.approx(0.005, rel=1e-3)
    assert found.within_1_percent == pytest.approx(2 / 3)
    assert found.within_5_percent == pytest.approx(2 / 3)
    empty = measure_agreement(model, lambda number: np.zeros((20, 20), np.float32))
    assert (empty.maps, empty.points, empty.completeness) == (2, 0, 0.0)
    assert np.isnan(empty.median_error)
    write_depth(tmp_path / "deep" / "a.h5", depth)
    np.testing.assert_array_equal(read_depth_file(tmp_path / "deep" / "a.h5", (20, 20)), depth)


def test_a_failure_among_many_is_raised_and_threads_are_given_back() -> None:
    before = cv2.getNumThreads()

    def fail(item: int) -> None:
        if item == 3:
            raise ValueError("the third")

    with pytest.raises(ValueError, match="the third"):
        each_of(range(50), fail, 2, lambda done, total: None)
    assert cv2.getNumThreads() == before
    counted: list[tuple[int, int]] = []
    each_of([], fail, 2, lambda done, total: counted.append((done, total)))
    assert counted == [(0, 0)]


def test_an_interruption_leaves_what_is_not_begun() -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.02)

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        each_of(range(50), work, 2, interrupted)
    assert len(begun) < 10
