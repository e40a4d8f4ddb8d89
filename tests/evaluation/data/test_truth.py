"""Geometry of evaluation against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lfnet.evaluation.data.truth import (
    DepthTruth,
    DisparityTruth,
    HomographyTruth,
    TransformedTruth,
    apply_matrix,
    carried_orientations,
    right_disparity,
    sample_depth,
    visible_share,
)
from lfnet.evaluation.data.views import Variant, beyond_reach, transform_image
from lfnet.geometry import depth as shared
from lfnet.geometry.depth import DepthView

SIZE = (160, 120)
INTRINSICS = np.array([[150.0, 0, 80], [0, 145.0, 60], [0, 0, 1]])


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def plane_camera(camera_from_world: np.ndarray, normal: np.ndarray, offset: float) -> DepthView:
    """A camera that sees the world's plane normal . X = offset."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(INTRINSICS).T
    world_from_camera = np.linalg.inv(camera_from_world)
    directions = rays @ world_from_camera[:3, :3].T
    depth = (offset - world_from_camera[:3, 3] @ normal) / (directions @ normal)
    return DepthView(depth, INTRINSICS, camera_from_world)


@pytest.fixture(scope="module")
def plane() -> tuple[DepthTruth, np.ndarray]:
    """Two cameras before a slanted plane, and the homography that it induces."""
    normal, offset = np.array([0.2, -0.1, 1.0]) / np.linalg.norm([0.2, -0.1, 1.0]), 2.0
    b_from_a = np.eye(4)
    b_from_a[:3, :3] = rotation(np.array([0.3, 1.0, 0.2]), 0.15)
    b_from_a[:3, 3] = [0.2, -0.1, 0.15]
    truth = DepthTruth(plane_camera(np.eye(4), normal, offset), plane_camera(b_from_a, normal, offset))
    induced = b_from_a[:3, :3] + np.outer(b_from_a[:3, 3], normal) / offset
    return truth, INTRINSICS @ induced @ np.linalg.inv(INTRINSICS)


@pytest.mark.parametrize("variant", [Variant(), Variant(degrees=90), Variant(degrees=30), Variant(zoom=0.5)])
def test_depth_agrees_with_the_planes_homography(plane: tuple[DepthTruth, np.ndarray], variant: Variant) -> None:
    base, homography = plane
    view = transform_image(np.zeros(SIZE[::-1], np.uint8), variant)
    truth = TransformedTruth(base, np.eye(3), view.from_base)
    points = np.random.default_rng(0).uniform(2, 110, (300, 2))
    places, visible = truth.b_from_a(points)
    assert visible.mean() > 0.5
    expected = apply_matrix(view.from_base @ homography, points)
    assert np.abs(places - expected)[visible].max() < 1e-3
    back, seen = truth.a_from_b(places[visible])
    assert seen.mean() > 0.95
    assert np.abs(back - points[visible])[seen].max() < 1e-3


def test_orientations_turn_with_the_picture(plane: tuple[DepthTruth, np.ndarray]) -> None:
    base, _ = plane
    points, angles = np.array([[60.0, 50.0], [80.0, 70.0]]), np.array([0.4, -2.9])
    upright = carried_orientations(base, points, angles)
    for degrees in (30, 90, 210):
        view = transform_image(np.zeros(SIZE[::-1], np.uint8), Variant(degrees=degrees))
        turned = carried_orientations(TransformedTruth(base, np.eye(3), view.from_base), points, angles)
        difference = turned - upright - np.radians(degrees)
        assert np.abs(np.angle(np.exp(1j * difference))).max() < 1e-6


def test_hidden_points_are_invisible() -> None:
    depth_a = np.full(SIZE[::-1], 4.0)
    moved = np.eye(4)
    moved[0, 3] = -0.5
    depth_b = depth_a.copy()
    depth_b[:, 40:60] = 2.0
    truth = DepthTruth(DepthView(depth_a, INTRINSICS, np.eye(4)), DepthView(depth_b, INTRINSICS, moved))
    shift = 150.0 * 0.5 / 4
    points = np.array([[50 + shift, 60.0], [100.0, 60.0], [10.0, 60.0]])
    places, visible = truth.b_from_a(points)
    assert visible.tolist() == [False, True, False]
    assert np.allclose(places[1], [100 - shift, 60.0], atol=1e-9)


def test_points_behind_or_without_depth_are_invisible() -> None:
    depth = np.full(SIZE[::-1], 2.0)
    hole = depth.copy()
    hole[:60] = 0
    behind = np.eye(4)
    behind[2, 3] = -3.0
    camera = DepthView(depth, INTRINSICS, np.eye(4))
    points = np.array([[80.0, 30.0], [80.0, 100.0]])
    assert not DepthTruth(camera, DepthView(depth, INTRINSICS, behind)).b_from_a(points)[1].any()
    with_hole = DepthView(hole, INTRINSICS, np.eye(4))
    assert DepthTruth(camera, with_hole).b_from_a(points)[1].tolist() == [False, True]
    assert DepthTruth(with_hole, camera).b_from_a(points)[1].tolist() == [False, True]
    assert visible_share(DepthTruth(camera, with_hole), SIZE, SIZE) == (0.5, 0.5)


def test_depth_is_not_blended_across_an_edge() -> None:
    depth = np.full((10, 10), 2.0)
    depth[:, 5:] = 4.0
    points = np.array([[4.4, 5.0], [4.6, 5.0], [2.5, 2.5], [-1.0, 0.0]])
    assert sample_depth(depth, points).tolist() == [2.0, 4.0, 2.0, 0.0]


@pytest.mark.parametrize("step", [0.02, 0.049, 0.051, 0.2, 2.0])
def test_the_truth_and_what_is_measured_have_one_rule_of_depth_edges(step: float) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:50]
    depth = 1 / (0.3 + 0.001 * x + 0.002 * y)
    depth[:, 25:] *= 1 + step
    depth[rng.random(depth.shape) < 0.05] = 0
    special = [[49, 39], [49.4, 20], [20, 39.4], [-0.4, 3.3], [24.5, 7], [8, 9]]
    points = np.concatenate((rng.uniform((-2, -2), (51, 41), (20_000, 2)), special))
    expected = sample_depth(depth, points)
    assert (expected > 0).mean() > 0.8
    np.testing.assert_allclose(shared.sample_depth(depth, points), expected, rtol=1e-12)
    single = torch.from_numpy(depth)[None, None].float(), torch.from_numpy(points)[None].float()
    inverse = shared.sample_inverse_depth(*single)[0].double().numpy()
    found = np.where(inverse > 0, 1 / np.where(inverse > 0, inverse, 1), 0)
    apart = np.abs(found - expected) > 1e-5 * np.maximum(expected, 1)
    assert apart.mean() < 1e-3, "only where rounding decides what is near"


def test_a_map_of_one_pixel_or_row_has_a_depth() -> None:
    points = np.array([[0.0, 0.0], [0.4, -0.4], [0.6, 0.0], [2.0, 0.0]])
    for depth in (np.full((1, 1), 2.0), np.array([[2.0, 4.0, 4.0]]), np.array([[2.0], [4.0]])):
        np.testing.assert_allclose(shared.sample_depth(depth, points), sample_depth(depth, points), rtol=1e-12)


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180, 270, 300])
def test_matrix_of_a_turn_is_where_pixels_went(degrees: int) -> None:
    image = np.zeros((60, 90), np.uint8)
    image[15:18, 70:73] = 255
    view = transform_image(image, Variant(degrees=degrees))
    rows, columns = np.nonzero(view.image > 60)
    weights = view.image[rows, columns].astype(float)
    centre = np.array([np.average(columns, weights=weights), np.average(rows, weights=weights)])
    assert np.abs(centre - apply_matrix(view.from_base, np.array([[71.0, 16.0]]))[0]).max() < 0.05
    corners = apply_matrix(view.from_base, np.array([[0, 0], [89, 0], [0, 59], [89, 59]], float))
    assert corners.min() > -0.6
    assert (corners.max(axis=0) < np.array(view.image.shape[::-1]) - 0.4).all()
    assert (view.valid is None) == (degrees % 90 == 0)


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_matrix_of_a_zoom_is_where_pixels_went(zoom: float) -> None:
    ramp = np.add.outer(np.arange(60) * 2.0, np.arange(60) * 1.0)
    view = transform_image(np.rint(ramp).astype(np.uint8), Variant(zoom=zoom))
    place = np.array([[20.0, 30.0]])
    x, y = np.rint(apply_matrix(view.from_base, place)[0]).astype(int)
    back = apply_matrix(np.linalg.inv(view.from_base), np.array([[x, y]], float))[0]
    assert abs(float(view.image[y, x]) - (2 * back[1] + back[0])) <= 1.0


def test_keypoints_near_empty_corners_are_dropped_but_not_at_the_border() -> None:
    valid = np.ones((100, 100), bool)
    valid[:10, :10] = False
    keypoints = np.array([[12.0, 12.0], [40.0, 5.0], [45.0, 5.0], [99.0, 99.0]])
    assert beyond_reach(keypoints, valid, 32).tolist() == [False, False, True, True]
    assert beyond_reach(keypoints, None, 32).all()


def test_disparity_of_a_slanted_wall_before_a_background() -> None:
    x = np.arange(100, dtype=float)
    left = np.tile(np.where((x >= 40) & (x < 70), 20 + 0.1 * (x - 40), 5.0), (8, 1))
    right = right_disparity(left)
    assert right[3, 70] == pytest.approx(5.0)
    assert right[3, 20] == pytest.approx(20.0)
    assert np.isnan(right[3, [60, 96]]).all(), "behind the wall in the left picture, and beyond its edge"
    truth = DisparityTruth.from_left(left)
    points = np.array([[50.5, 3.0], [10.25, 4.0], [30.0, 4.0], [3.0, 4.0]])
    places, visible = truth.b_from_a(points)
    assert visible.tolist() == [True, True, False, False]
    assert np.allclose(places[:2], [[50.5 - 21.05, 3.0], [5.25, 4.0]], atol=1e-2)
    back, seen = truth.a_from_b(places[:2])
    assert seen.all()
    assert np.allclose(back, points[:2], atol=2e-2)


def test_singular_homographies_are_refused() -> None:
    with pytest.raises(ValueError, match="singular"):
        HomographyTruth(np.zeros((3, 3)), SIZE, SIZE)
    with pytest.raises(ValueError, match="3x3"):
        HomographyTruth(np.eye(2), SIZE, SIZE)
