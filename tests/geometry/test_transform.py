"""Cameras and transforms."""

from __future__ import annotations

import math

import pytest
import torch

from lfnet.geometry.camera import project, unproject
from lfnet.geometry.transform import (
    apply_homography,
    relative_transform,
    similarity,
)
from support.planes import camera_matrix, random_points, rigid


def moved(target_from_source: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    whole = torch.cat((points, torch.ones_like(points[..., :1])), -1)
    return (whole @ target_from_source.mT)[..., :3]


def test_project_undoes_unproject_in_another_frame() -> None:
    intrinsics = camera_matrix()[None].float()
    pose = rigid((0.2, -0.1, 0.5), (1.0, -2.0, 0.3))[None].float()
    points = unproject(intrinsics, random_points(40), torch.full((1, 40), 3.0))
    assert points[0, :, 2].tolist() == pytest.approx([3.0] * 40)
    again = moved(torch.linalg.inv(pose), moved(pose, points))
    torch.testing.assert_close(again, points, atol=1e-5, rtol=0)
    pixels, depth = project(intrinsics, again)
    torch.testing.assert_close(pixels, random_points(40), atol=1e-3, rtol=0)
    assert bool((depth > 0).all())


def test_relative_transform_takes_a_to_b() -> None:
    a, b = rigid((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)), rigid((-0.3, 0.1, 0.0), (0.0, -1.0, 0.5))
    world = torch.tensor([[0.4, 0.5, 0.6]]).double()
    through = moved(relative_transform(b, a), moved(a, world))
    torch.testing.assert_close(through, moved(b, world))


def test_similarity_turns_from_x_towards_y() -> None:
    centre, target = torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0, 20.0]])
    matrix = similarity(torch.tensor([math.pi / 2]), torch.tensor([2.0]), centre, target)
    points = torch.tensor([[[3.0, 4.0], [4.0, 4.0], [3.0, 5.0]]])
    mapped, weight = apply_homography(matrix, points)
    torch.testing.assert_close(mapped[0], torch.tensor([[10.0, 20.0], [10.0, 22.0], [8.0, 20.0]]))
    assert bool((weight == 1).all())
