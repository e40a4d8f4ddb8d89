"""Crops, rolls and zooms are in the intrinsics."""

from __future__ import annotations

import math

import pytest
import torch

from lfnet.data.pair import View
from lfnet.data.resample import crop_transform, resample_view
from lfnet.geometry.camera import pixel_grid, project, unproject
from lfnet.geometry.transform import (
    apply_homography,
)
from support.planes import HEIGHT, WIDTH, PlaneScene, exact, random_points


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
