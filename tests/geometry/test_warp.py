"""The warp between two views against analytic planes, homographies and a plain loop; its Jacobian and visibility."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lfnet.data.pair import View
from lfnet.data.resample import crop_transform, resample_view
from lfnet.geometry.camera import pixel_grid, project, transform_points, unproject
from lfnet.geometry.filters import DERIVATIVE_GAIN, derivative_stack, gaussian_blur, gradients, grow, separable
from lfnet.geometry.sampling import in_bounds, sample, sample_inverse_depth
from lfnet.geometry.transform import (
    apply_homography,
    homography_jacobian,
    relative_transform,
    rotation,
    similarity,
)
from lfnet.geometry.warp import Warp, compensate, warp_by_depth, warp_by_homography

HEIGHT, WIDTH = 60, 80


def camera_matrix(focal: float = 70.0) -> Tensor:
    return torch.tensor([[focal, 0.0, WIDTH / 2 - 0.5], [0.0, focal, HEIGHT / 2 - 0.5], [0.0, 0.0, 1.0]]).double()


def rigid(axis: tuple[float, float, float], shift: tuple[float, float, float]) -> Tensor:
    """4x4 transform that turns by the length of `axis` in radians about it, then shifts."""
    x, y, z = axis
    generator = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]).double()
    matrix = torch.eye(4).double()
    matrix[:3, :3] = torch.linalg.matrix_exp(generator)
    matrix[:3, 3] = torch.tensor(shift)
    return matrix


class PlaneScene:
    """A slanted plane seen by two cameras: exact depth in both, and the exact homography between them."""

    def __init__(self, roll: float = 0.3) -> None:
        self.intrinsics_a, self.intrinsics_b = camera_matrix(70.0), camera_matrix(84.0)
        self.b_from_a = rigid((0.05, -0.12, roll), (0.35, -0.1, 0.6))
        self.normal = torch.tensor([0.25, -0.15, 1.0]).double()
        self.distance = 3.0
        turn, shift = self.b_from_a[:3, :3], self.b_from_a[:3, 3]
        self.depth_a = self._depth(self.intrinsics_a, self.normal, self.distance)
        normal_b = turn @ self.normal
        self.depth_b = self._depth(self.intrinsics_b, normal_b, self.distance + float(normal_b @ shift))
        induced = turn + shift[:, None] * self.normal[None] / self.distance
        self.homography = self.intrinsics_b @ induced @ torch.linalg.inv(self.intrinsics_a)

    @staticmethod
    def _depth(intrinsics: Tensor, normal: Tensor, distance: float) -> Tensor:
        grid = pixel_grid(HEIGHT, WIDTH).double()
        rays = torch.cat((grid, torch.ones(len(grid), 1).double()), 1) @ torch.linalg.inv(intrinsics).T
        return (distance / (rays @ normal)).view(1, 1, HEIGHT, WIDTH)

    def warp(self, **changes: Tensor) -> Warp:
        values = {
            "depth_a": self.depth_a,
            "depth_b": self.depth_b,
            "intrinsics_a": self.intrinsics_a[None],
            "intrinsics_b": self.intrinsics_b[None],
            "b_from_a": self.b_from_a[None],
            "valid_b": torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool),
        }
        values.update(changes)
        return warp_by_depth(**{k: v if v.dtype == torch.bool else v.float() for k, v in values.items()})

    def swapped(self) -> Warp:
        return self.warp(
            depth_a=self.depth_b,
            depth_b=self.depth_a,
            intrinsics_a=self.intrinsics_b[None],
            intrinsics_b=self.intrinsics_a[None],
            b_from_a=torch.linalg.inv(self.b_from_a)[None],
        )


def random_points(count: int, seed: int = 0, margin: float = 4.0) -> Tensor:
    spread = torch.tensor([WIDTH - 1 - 2 * margin, HEIGHT - 1 - 2 * margin])
    return margin + torch.rand(1, count, 2, generator=torch.Generator().manual_seed(seed)) * spread


def exact(homography: Tensor, points: Tensor) -> Tensor:
    return apply_homography(homography.double(), points.double())[0]


# --- the warp is exact ---


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


# --- a plain loop as reference ---


def slow_inverse_depth(depth: np.ndarray, x: float, y: float) -> float:
    height, width = depth.shape
    left, top = math.floor(x), math.floor(y)
    smooth = known = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - abs(x - column)) * (1 - abs(y - row))
            if weight > 0 and 0 <= row < height and 0 <= column < width and depth[row, column] > 0:
                smooth += weight / depth[row, column]
                known += weight
    row, column = round(y), round(x)
    inside = 0 <= row < height and 0 <= column < width
    nearest = 1 / depth[row, column] if inside and depth[row, column] > 0 else 0.0
    return smooth if known > 0.999 and abs(smooth - nearest) <= 0.05 * nearest else nearest


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


# --- visibility ---


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


# --- the local Jacobian ---


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


# --- augmentation through the intrinsics ---


def test_roll_and_crop_are_in_the_intrinsics() -> None:
    """Premultiplied intrinsics move the pixels by exactly that affine map, in either view."""
    scene = PlaneScene()
    affine = crop_transform(torch.tensor([40.0, 25.0]), math.radians(130.0), 1.25, 64)[0].double()
    points = random_points(200)
    turned = scene.warp(intrinsics_b=(affine @ scene.intrinsics_b)[None])
    plain = scene.warp()
    expected = exact(affine, plain.points(points).points)
    torch.testing.assert_close(turned.points(points).points.double(), expected, atol=1e-3, rtol=0)
    chain = affine[:2, :2] @ plain.jacobian(points).double()
    torch.testing.assert_close(turned.jacobian(points).double(), chain, atol=1e-3, rtol=0)

    induced = scene.homography @ torch.linalg.inv(affine)
    view = View(torch.zeros_like(scene.depth_a).float(), torch.ones_like(scene.depth_a, dtype=torch.bool),
                scene.depth_a.float(), scene.intrinsics_a[None].float(), torch.eye(4)[None])  # fmt: skip
    crop = resample_view(view, affine[None].float(), 64)
    assert crop.depth is not None
    rolled = scene.warp(intrinsics_a=crop.intrinsics, depth_a=crop.depth)
    inside = torch.tensor([[[20.0, 30.0], [31.5, 31.5], [40.0, 22.0]]])
    # Depth is the nearest measurement, up to half a pixel away: that is all the difference.
    torch.testing.assert_close(rolled.points(inside).points.double(), exact(induced, inside), atol=0.3, rtol=0)


def test_resampled_view_keeps_rays_depths_and_empty_corners() -> None:
    scene = PlaneScene()
    ramp = (pixel_grid(HEIGHT, WIDTH) @ torch.tensor([0.006, 0.004])).view(1, 1, HEIGHT, WIDTH)
    valid = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    valid[..., 30:34, 50:54] = False
    view = View(ramp, valid, scene.depth_a.float(), scene.intrinsics_a[None].float(), torch.eye(4)[None])
    size = 72
    target_from_source = crop_transform(torch.tensor([38.0, 27.0]), 0.7, 1.1, size)
    crop = resample_view(view, target_from_source, size)
    assert crop.depth is not None
    assert crop.size == (size, size)

    points = random_points(50)
    moved, _ = apply_homography(target_from_source, points)
    depth = torch.full((1, 50), 2.5)
    torch.testing.assert_close(
        unproject(crop.intrinsics, moved, depth), unproject(view.intrinsics, points, depth), atol=1e-4, rtol=0
    )
    back, z = project(crop.intrinsics, unproject(view.intrinsics, points, depth))
    torch.testing.assert_close(back, moved, atol=1e-3, rtol=0)
    torch.testing.assert_close(z, depth)

    source = exact(torch.linalg.inv(target_from_source.double()), pixel_grid(size, size)[None])[0].numpy()
    checked = 0
    for index, (x, y) in enumerate(source):
        row, column = divmod(index, size)
        distance = min(x, y, WIDTH - 1 - x, HEIGHT - 1 - y)
        in_hole = 49 < x < 54 and 29 < y < 34
        if abs(distance) < 1e-3:
            continue
        expected = distance > 0 and not in_hole
        assert bool(crop.valid[0, 0, row, column]) == expected, (x, y)
        if not expected:
            assert float(crop.image[0, 0, row, column]) == 0
            assert float(crop.depth[0, 0, row, column]) == 0
            continue
        assert float(crop.image[0, 0, row, column]) == pytest.approx(0.006 * x + 0.004 * y, abs=1e-4)
        if max(abs(x % 1 - 0.5), abs(y % 1 - 0.5)) > 1e-3 and min(abs(x % 1 - 0.5), abs(y % 1 - 0.5)) > 1e-3:
            nearest = float(view.depth[0, 0, round(y), round(x)])  # type: ignore[index]
            assert float(crop.depth[0, 0, row, column]) == nearest
            checked += 1
    assert checked > 2000
    assert 0.1 < float((~crop.valid).float().mean()) < 0.6


# --- sampling, transforms, filters ---


def test_sampling_convention() -> None:
    """The centre of the top-left pixel is (0, 0), x goes along a row; half-way is the mean; outside is 0."""
    maps = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[0.0, 0.0], [8.0, 6.0], [3.0, 5.0], [2.5, 4.0], [-2.0, 3.0]]).expand(2, -1, -1)
    values = sample(maps, points)
    assert values.shape == (2, 5, 3)
    torch.testing.assert_close(values[:, 0], maps[..., 0, 0])
    torch.testing.assert_close(values[:, 1], maps[..., 6, 8], atol=1e-5, rtol=0)
    torch.testing.assert_close(values[:, 2], maps[..., 5, 3], atol=1e-5, rtol=0)
    torch.testing.assert_close(values[:, 3], (maps[..., 4, 2] + maps[..., 4, 3]) / 2, atol=1e-5, rtol=0)
    assert bool((values[:, 4] == 0).all())
    torch.testing.assert_close(sample(maps, points + 0.3, mode="nearest")[:, 2], maps[..., 5, 3])


def test_in_bounds_counts_the_outermost_pixel_centres() -> None:
    points = torch.tensor([[[0.0, 0.0], [8.0, 6.0], [8.1, 3.0], [3.0, -0.1], [1.9, 3.0], [2.0, 2.0]]])
    assert in_bounds(points, (7, 9))[0].tolist() == [True, True, False, False, True, True]
    assert in_bounds(points, (7, 9), border=2.0)[0].tolist() == [False, False, False, False, False, True]


def test_inverse_depth_is_not_mixed_across_an_edge() -> None:
    depth = torch.full((1, 1, 10, 10), 2.0)
    depth[..., 5:] = 4.0
    depth[..., 8:, :] = 0
    points = torch.tensor([[[4.4, 3.0], [4.6, 3.0], [2.0, 7.4], [2.0, 7.6]]])
    assert sample_inverse_depth(depth, points)[0].tolist() == pytest.approx([0.5, 0.25, 0.5, 0.0])


def test_project_undoes_unproject_in_another_frame() -> None:
    intrinsics = camera_matrix()[None].float()
    pose = rigid((0.2, -0.1, 0.5), (1.0, -2.0, 0.3))[None].float()
    points = unproject(intrinsics, random_points(40), torch.full((1, 40), 3.0))
    assert points[0, :, 2].tolist() == pytest.approx([3.0] * 40)
    again = transform_points(torch.linalg.inv(pose), transform_points(pose, points))
    torch.testing.assert_close(again, points, atol=1e-5, rtol=0)
    pixels, depth = project(intrinsics, again)
    torch.testing.assert_close(pixels, random_points(40), atol=1e-3, rtol=0)
    assert bool((depth > 0).all())


def test_relative_transform_takes_a_to_b() -> None:
    a, b = rigid((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)), rigid((-0.3, 0.1, 0.0), (0.0, -1.0, 0.5))
    world = torch.tensor([[0.4, 0.5, 0.6]]).double()
    through = transform_points(relative_transform(b, a), transform_points(a, world))
    torch.testing.assert_close(through, transform_points(b, world))


def test_similarity_turns_from_x_towards_y() -> None:
    centre, target = torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0, 20.0]])
    matrix = similarity(torch.tensor([math.pi / 2]), torch.tensor([2.0]), centre, target)
    points = torch.tensor([[[3.0, 4.0], [4.0, 4.0], [3.0, 5.0]]])
    mapped, weight = apply_homography(matrix, points)
    torch.testing.assert_close(mapped[0], torch.tensor([[10.0, 20.0], [10.0, 22.0], [8.0, 20.0]]))
    assert bool((weight == 1).all())


def test_derivatives_of_a_polynomial_are_exact() -> None:
    """a x^2 + b xy + c y^2 + d x + e y + f, away from the edges."""
    a, b, c, d, e, f = 0.02, -0.03, 0.015, 0.4, -0.2, 1.5
    x, y = pixel_grid(24, 30).double().unbind(-1)
    image = (a * x * x + b * x * y + c * y * y + d * x + e * y + f).view(1, 1, 24, 30)
    expected_x, expected_y = 2 * a * x + b * y + d, b * x + 2 * c * y + e
    inner = (slice(None), slice(8, -8), slice(8, -8))
    for sigma in (1.0, 2.0):
        slopes = gradients(image, sigma)[0]
        expected = torch.stack((expected_x, expected_y)).view(2, 24, 30)
        torch.testing.assert_close(slopes[inner], expected[inner], atol=1e-6, rtol=1e-5)
    first = DERIVATIVE_GAIN * torch.stack((expected_x, expected_y)).view(2, 24, 30)
    second = DERIVATIVE_GAIN * torch.tensor([2 * a, 2 * c, b]).double().view(3, 1, 1).expand(3, 24, 30)
    products = torch.stack(
        (
            first[0] ** 2,
            first[1] ** 2,
            first[0] * first[1],
            second[0] * second[1],
            second[2] ** 2,
        )
    )
    stack = derivative_stack(image)[0]
    torch.testing.assert_close(stack[inner], torch.cat((first, second, products))[inner], atol=2e-5, rtol=1e-4)


def test_separable_filters_are_the_convolution_they_stand_for() -> None:
    maps, along_x, along_y = random_points(15 * 4).view(2, 3, 4, 5), torch.tensor([0.2, -0.5, 1.0]), torch.rand(5)
    padded = torch.nn.functional.pad(maps, (1, 1, 2, 2), mode="replicate")
    kernel = (along_y[:, None] * along_x).expand(3, 1, 5, 3)
    expected = torch.nn.functional.conv2d(padded, kernel, groups=3)
    torch.testing.assert_close(separable(maps, along_x, along_y), expected, atol=1e-3, rtol=1e-5)


def test_a_mask_grows_as_a_square() -> None:
    mask = torch.zeros(2, 1, 9, 11, dtype=torch.bool)
    mask[0, 0, 4, 1] = True
    expected = torch.zeros_like(mask)
    expected[0, 0, 2:7, :4] = True
    assert torch.equal(grow(mask, 2), expected)
    assert torch.equal(grow(mask, 0), mask)


def test_blur_keeps_the_mean_and_has_its_deviation() -> None:
    image = torch.zeros(1, 1, 41, 41)
    image[..., 20, 20] = 1
    blurred = gaussian_blur(image, 2.0)[0, 0]
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    offsets = torch.arange(41.0) - 20
    assert float((blurred.sum(0) * offsets**2).sum()) == pytest.approx(4.0, rel=0.05)
    torch.testing.assert_close(blurred, blurred.T)
    flat = torch.full((1, 2, 9, 12), 0.7)
    torch.testing.assert_close(gaussian_blur(flat, 3.0), flat)
