"""The warp against analytic planes, homographies and a plain loop; its Jacobian and visibility."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lfnet.geometry.camera import pixel_grid
from lfnet.geometry.sampling import in_bounds
from lfnet.geometry.transform import (
    apply_homography,
    homography_jacobian,
    rotation,
)
from lfnet.geometry.warp import compensate, warp_by_depth, warp_by_homography
from support.planes import HEIGHT, WIDTH, PlaneScene, camera_matrix, exact, random_points, rigid


def test_warp_of_a_slanted_plane_is_exact_both_ways() -> None:
    scene = PlaneScene()
    points = random_points(500)
    for warp, homography in (
        (scene.warp(), scene.homography),
        (scene.swapped(), torch.linalg.inv(scene.homography)),
    ):
        warped = warp.points(points)
        expected = exact(homography, points)
        torch.testing.assert_close(warped.points.double(), expected, atol=1e-3, rtol=0)
        inside = in_bounds(expected, (HEIGHT, WIDTH))
        assert 0.3 < float(inside.double().mean()) < 1
        assert torch.equal(warped.visible, inside)


def test_warp_there_and_back_is_the_identity() -> None:
    scene = PlaneScene()
    points = random_points(300)
    there = scene.warp().points(points)
    back = scene.swapped().points(there.points)
    seen = there.visible & back.visible
    assert int(seen.sum()) > 100
    torch.testing.assert_close(back.points[seen], points[seen], atol=1e-3, rtol=0)


def test_warp_by_homography_is_exact_both_ways() -> None:
    homography = torch.tensor([[[0.9, -0.3, 12.0], [0.25, 1.1, -6.0], [1e-3, -5e-4, 1.0]]])
    valid = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    points = random_points(500)
    for matrix in (homography, torch.linalg.inv(homography)):
        warped = warp_by_homography(matrix, valid, (HEIGHT, WIDTH)).points(points)
        expected = exact(matrix, points)
        torch.testing.assert_close(warped.points.double(), expected, atol=1e-3, rtol=0)
        assert torch.equal(warped.visible, in_bounds(expected, (HEIGHT, WIDTH)))


def test_grid_warps_every_pixel_row_by_row() -> None:
    warp = PlaneScene().warp()
    y, x = 17, 41
    one = warp.points(torch.tensor([[[float(x), float(y)]]]))
    torch.testing.assert_close(warp.grid().points[:, y * WIDTH + x], one.points[:, 0])


def test_batches_keep_their_own_geometry() -> None:
    first, second = PlaneScene(0.3), PlaneScene(-0.8)
    both = warp_by_depth(
        torch.cat((first.depth_a, second.depth_a)).float(),
        torch.cat((first.depth_b, second.depth_b)).float(),
        torch.stack((first.intrinsics_a, second.intrinsics_a)).float(),
        torch.stack((first.intrinsics_b, second.intrinsics_b)).float(),
        torch.stack((first.b_from_a, second.b_from_a)).float(),
        torch.ones(2, 1, HEIGHT, WIDTH, dtype=torch.bool),
    )
    points = random_points(50).expand(2, -1, -1)
    together, jacobians = both.points(points), both.jacobian(points)
    for index, scene in enumerate((first, second)):
        alone = scene.warp().points(points[:1])
        torch.testing.assert_close(together.points[index], alone.points[0], atol=1e-4, rtol=0)
        assert torch.equal(together.visible[index], alone.visible[0])
        torch.testing.assert_close(jacobians[index], scene.warp().jacobian(points[:1])[0], atol=1e-4, rtol=0)


def slow_inverse_depth(depth: np.ndarray, x: float, y: float) -> float:
    height, width = depth.shape
    row, column = round(y), round(x)
    if not (0 <= row < height and 0 <= column < width and depth[row, column] > 0):
        return 0.0
    left, top = min(max(math.floor(x), 0), width - 2), min(max(math.floor(y), 0), height - 2)
    around = depth[top : top + 2, left : left + 2]
    if around.min() <= 0 or around.max() > 1.05 * around.min():
        return 1 / depth[row, column]
    share_x, share_y = min(max(x - left, 0), 1), min(max(y - top, 0), 1)
    return float([1 - share_y, share_y] @ (1 / around) @ [1 - share_x, share_x])


def slow_warp(
    scene: PlaneScene, depth_a: np.ndarray, depth_b: np.ndarray, x: float, y: float
) -> tuple[np.ndarray, float]:
    """Place in b, and by what share the depth of b's frame departs from what b measured (inf: not comparable)."""
    inverse = slow_inverse_depth(depth_a, x, y)
    if inverse == 0:
        return np.full(2, np.nan), math.inf
    in_a = np.linalg.inv(scene.intrinsics_a.numpy()) @ [x, y, 1] / inverse
    matrix = scene.b_from_a.numpy()
    in_b = matrix[:3, :3] @ in_a + matrix[:3, 3]
    if in_b[2] <= 0:
        return np.full(2, np.nan), math.inf
    pixel = (scene.intrinsics_b.numpy() @ in_b)[:2] / in_b[2]
    if not (0 <= pixel[0] <= WIDTH - 1 and 0 <= pixel[1] <= HEIGHT - 1):
        return pixel, math.inf
    measured = slow_inverse_depth(depth_b, pixel[0], pixel[1])
    return pixel, math.inf if measured == 0 else abs(in_b[2] * measured - 1)


def test_warp_agrees_with_a_plain_loop_on_broken_depth() -> None:
    """Boxes, holes and steps in both depth maps."""
    scene = PlaneScene()
    rng = np.random.default_rng(0)
    maps = []
    for depth in (scene.depth_a, scene.depth_b):
        broken = depth[0, 0].numpy().copy()
        for factor in (0.5, 0.97, 0.93, 0.0, 1.4, 0.0):
            row, column = rng.integers(0, HEIGHT - 20), rng.integers(0, WIDTH - 20)
            broken[row : row + 16, column : column + 18] *= factor
        maps.append(broken)
    depth_a, depth_b = maps
    warp = scene.warp(depth_a=torch.from_numpy(depth_a)[None, None], depth_b=torch.from_numpy(depth_b)[None, None])
    points = random_points(1500, seed=3, margin=0.0)
    warped = warp.points(points)
    compared = seen = 0
    for (x, y), place, visible in zip(
        points[0].tolist(), warped.points[0].tolist(), warped.visible[0].tolist(), strict=True
    ):
        expected, departure = slow_warp(scene, depth_a, depth_b, x, y)
        if abs(departure - 0.05) < 1e-4:
            continue
        compared += 1
        assert visible == (departure <= 0.05), (x, y, departure)
        if visible:
            seen += 1
            assert place == pytest.approx(expected, abs=1e-3)
    assert compared > 1400
    assert 300 < seen < 1200


def test_points_behind_are_not_visible() -> None:
    scene = PlaneScene()
    turned = rigid((0.0, math.pi, 0.0), (0.0, 0.0, 0.0))
    assert not bool(scene.warp(b_from_a=turned[None]).grid().visible.any())
    valid = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    mirrored = warp_by_homography(-torch.eye(3)[None], valid, (HEIGHT, WIDTH))
    assert not bool(mirrored.grid().visible.any())
    straight = warp_by_homography(torch.eye(3)[None], valid, (HEIGHT, WIDTH))
    assert bool(straight.grid().visible.all())


def test_unknown_depth_on_either_side_is_not_visible() -> None:
    scene = PlaneScene()
    visible = scene.warp().grid().visible.view(HEIGHT, WIDTH)
    holed = scene.depth_a.clone()
    holed[..., 20:30, 30:50] = 0
    without = scene.warp(depth_a=holed).grid().visible.view(HEIGHT, WIDTH)
    assert bool(visible[20:30, 30:50].any())
    assert not bool(without[20:30, 30:50].any())
    without[20:30, 30:50] = visible[20:30, 30:50]
    assert torch.equal(without, visible)

    holed = scene.depth_b.clone()
    holed[..., 20:30, 30:50] = 0
    warped = scene.warp(depth_b=holed).grid()
    x, y = exact(scene.homography, pixel_grid(HEIGHT, WIDTH)[None])[0].round().unbind(-1)
    hidden = (x >= 30) & (x < 50) & (y >= 20) & (y < 30)
    assert bool(hidden.any())
    assert not bool(warped.visible[0, hidden].any())
    assert torch.equal(warped.visible[0, ~hidden], visible.flatten()[~hidden])


def test_invalid_corner_of_b_is_not_visible() -> None:
    valid = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    valid[..., :10, :15] = False
    for warp in (
        warp_by_homography(torch.eye(3)[None], valid, (HEIGHT, WIDTH)),
        PlaneScene().warp(
            b_from_a=torch.eye(4)[None],
            intrinsics_b=PlaneScene().intrinsics_a[None],
            depth_b=PlaneScene().depth_a,
            valid_b=valid,
        ),
    ):
        points = torch.tensor([[[5.0, 5.0], [14.5, 5.0], [15.5, 5.0], [5.0, 9.5], [5.0, 10.5], [40.0, 30.0]]])
        assert warp.points(points).visible[0].tolist() == [False, False, True, False, True, True]


def test_what_a_nearer_box_hides_is_not_visible() -> None:
    """A wall at 4 m, a box's face at 2 m before it; camera b stands half a metre to the side."""
    intrinsics = camera_matrix()
    shift = torch.tensor([-0.5, 0.0, 0.0]).double()
    rays = (pixel_grid(HEIGHT, WIDTH).double() - intrinsics[:2, 2]) / 70.0

    def on_box(points: Tensor) -> Tensor:
        return (points[:, 0].abs() < 0.4) & (points[:, 1].abs() < 0.3)

    depth_a = torch.where(on_box(2 * rays), 2.0, 4.0).view(1, 1, HEIGHT, WIDTH)
    depth_b = torch.where(on_box(2 * rays - shift[:2]), 2.0, 4.0).view(1, 1, HEIGHT, WIDTH)
    pose = torch.eye(4).double()
    pose[:3, 3] = shift
    valid = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    camera = intrinsics[None].float()
    warped = warp_by_depth(depth_a.float(), depth_b.float(), camera, camera, pose[None].float(), valid).grid()

    depth = depth_a.flatten()
    points = rays * depth[:, None]
    # Where the sight line from b (at x = 0.5) to a point of the wall meets the plane of the box.
    through = torch.where(depth[:, None] == 4, (points + torch.tensor([0.5, 0.0]).double()) / 2, points)
    hidden = (depth == 4) & on_box(through)
    # Discrete depth decides within a pixel of the box's outline.
    unsure = ((through.abs() - torch.tensor([0.4, 0.3]).double()).abs() < 2 * 1.5 / 70).any(-1)
    expected = in_bounds(warped.points[0], (HEIGHT, WIDTH)) & ~hidden
    assert int((hidden & ~unsure).sum()) > 100
    assert int((expected & ~unsure).sum()) > 2000
    assert torch.equal(warped.visible[0][~unsure], expected[~unsure])


@pytest.mark.parametrize(("factor", "seen"), [(1.04, True), (1.06, False), (0.965, True), (0.94, False)])
def test_depths_may_differ_by_five_percent(factor: float, seen: bool) -> None:
    scene = PlaneScene()
    usual = scene.warp().grid().visible
    visible = scene.warp(depth_b=scene.depth_b * factor).grid().visible
    assert torch.equal(visible, usual & seen)


def test_depths_are_compared_in_the_frame_of_b() -> None:
    """A camera that goes a metre forward sees all depths change by far more than 5 %, and hides nothing."""
    camera = camera_matrix()[None]
    depth = torch.full((1, 1, HEIGHT, WIDTH), 3.0)
    scene = PlaneScene()
    forward = rigid((0.0, 0.0, 0.0), (0.0, 0.0, -1.0))[None]
    warp = scene.warp(depth_a=depth, depth_b=depth - 1, intrinsics_a=camera, intrinsics_b=camera, b_from_a=forward)
    warped = warp.grid()
    assert torch.equal(warped.visible, in_bounds(warped.points, (HEIGHT, WIDTH)))
    warp = scene.warp(depth_a=depth, depth_b=depth, intrinsics_a=camera, intrinsics_b=camera, b_from_a=forward)
    assert not bool(warp.grid().visible.any())


def finite_differences(function: Callable[[Tensor], Tensor], points: Tensor, step: float) -> Tensor:
    columns = []
    for offset in (torch.tensor([step, 0.0]), torch.tensor([0.0, step])):
        offset = offset.to(points)
        columns.append((function(points + offset) - function(points - offset)) / (2 * step))
    return torch.stack(columns, -1)


def test_jacobian_of_a_slanted_plane() -> None:
    scene = PlaneScene()
    points = random_points(200)
    for warp, homography in (
        (scene.warp(), scene.homography),
        (scene.swapped(), torch.linalg.inv(scene.homography)),
    ):
        measured = finite_differences(lambda p, warp=warp: warp.points(p).points, points, 0.5)
        jacobian = warp.jacobian(points)
        torch.testing.assert_close(jacobian, measured, atol=2e-3, rtol=0)
        exactly = homography_jacobian(homography, points.double())
        torch.testing.assert_close(jacobian.double(), exactly, atol=1e-3, rtol=0)
    # The slant matters: without it the Jacobian would be another.
    flat = homography_jacobian(scene.warp().rotation_part.double(), points.double())
    assert float((flat - homography_jacobian(scene.homography, points.double())).abs().max()) > 0.05


def test_jacobian_of_a_homography() -> None:
    homography = torch.tensor([[0.9, -0.3, 12.0], [0.25, 1.1, -6.0], [1e-3, -5e-4, 1.0]]).double()
    points = random_points(100).double()
    measured = finite_differences(lambda p: apply_homography(homography, p)[0], points, 1e-3)
    torch.testing.assert_close(homography_jacobian(homography, points), measured, atol=1e-6, rtol=0)
    valid = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    warp = warp_by_homography(homography[None].float(), valid, (HEIGHT, WIDTH))
    torch.testing.assert_close(warp.jacobian(points.float()).double(), measured, atol=1e-4, rtol=0)


def test_jacobian_beside_a_step_in_depth_is_that_of_the_flat_surface() -> None:
    """Slopes are not measured across the edge between two walls of one depth each."""
    scene = PlaneScene()
    depth = torch.full((1, 1, HEIGHT, WIDTH), 4.0)
    depth[..., 40:] = 2.0
    points = torch.tensor([[[39.0, 30.0], [40.0, 30.0]]])
    jacobian = scene.warp(depth_a=depth).jacobian(points)
    for index, value in enumerate((4.0, 2.0)):
        alone = scene.warp(depth_a=torch.full_like(depth, value)).jacobian(points)
        torch.testing.assert_close(jacobian[:, index], alone[:, index], atol=1e-4, rtol=0)


@pytest.mark.parametrize("degrees", [0.0, 37.0, 120.0, -170.0])
def test_compensation_of_a_turn_and_a_zoom(degrees: float) -> None:
    angle = math.radians(degrees)
    jacobian = 1.3 * rotation(torch.tensor([[angle]]))
    before = torch.tensor([[[math.cos(0.4), math.sin(0.4)]]])
    scales, orientations = compensate(jacobian, torch.tensor([[0.9]]), before)
    expected = torch.tensor([[[math.cos(0.4 + angle), math.sin(0.4 + angle)]]])
    torch.testing.assert_close(scales, torch.tensor([[1.17]]))
    torch.testing.assert_close(orientations, expected, atol=1e-6, rtol=0)
