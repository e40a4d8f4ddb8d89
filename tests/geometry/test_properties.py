"""What holds for every warp, whatever the plane and the motion."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lfnet.geometry.warp import warp_by_homography
from support.planes import HEIGHT, WIDTH, PlaneScene, camera_matrix, exact, random_points, rigid

small = st.floats(-0.2, 0.2)
turns = st.tuples(small, small, st.floats(-3.1, 3.1))
shifts = st.tuples(small, small, small)


def slanted_plane(axis: tuple[float, float, float], shift: tuple[float, float, float]) -> PlaneScene:
    return PlaneScene(b_from_a=rigid(axis, shift))


@given(turns, shifts)
def test_depth_and_the_homography_of_its_plane_are_one_warp(
    axis: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    scene, points = slanted_plane(axis, shift), random_points(40)
    warped = scene.warp().points(points)
    landed = exact(scene.homography, points)
    torch.testing.assert_close(warped.points.double(), landed, atol=0.02, rtol=0)
    inside = ((landed > 1) & (landed < torch.tensor([WIDTH - 2, HEIGHT - 2]))).all(-1)
    assert bool(warped.visible[inside].all())
    outside = ((landed < -1) | (landed > torch.tensor([WIDTH, HEIGHT]))).any(-1)
    assert not bool(warped.visible[outside].any())


@given(turns, shifts)
def test_the_way_back_undoes_the_warp_and_its_jacobian(
    axis: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    scene, points = slanted_plane(axis, shift), random_points(40)
    there = scene.warp().points(points)
    back = scene.swapped().points(there.points)
    seen = there.visible & back.visible
    torch.testing.assert_close(back.points[seen], points[seen], atol=0.02, rtol=0)
    inner = seen & ((there.points > 4) & (there.points < torch.tensor([WIDTH - 5, HEIGHT - 5]))).all(-1)
    both = scene.swapped().jacobian(there.points) @ scene.warp().jacobian(points)
    torch.testing.assert_close(both[inner], torch.eye(2).expand_as(both[inner]), atol=0.01, rtol=0)


@given(turns, turns)
def test_homographies_of_pure_turns_chain(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> None:
    intrinsics, points = camera_matrix(), random_points(20)
    everywhere = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    b_from_a, c_from_b = (
        (intrinsics @ rigid(axis, (0, 0, 0))[:3, :3] @ torch.linalg.inv(intrinsics))[None] for axis in (first, second)
    )
    whole = warp_by_homography((c_from_b @ b_from_a).float(), everywhere, (HEIGHT, WIDTH)).points(points)
    steps = exact(c_from_b, exact(b_from_a, points))
    torch.testing.assert_close(whole.points.double(), steps, atol=0.01, rtol=1e-3)
