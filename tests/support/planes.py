"""Cameras before a plane, whose warp is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from lfnet.geometry.camera import pixel_grid
from lfnet.geometry.transform import (
    apply_homography,
)
from lfnet.geometry.warp import Warp, warp_by_depth

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

    def __init__(self, roll: float = 0.3, b_from_a: Tensor | None = None) -> None:
        self.intrinsics_a, self.intrinsics_b = camera_matrix(70.0), camera_matrix(84.0)
        self.b_from_a = rigid((0.05, -0.12, roll), (0.35, -0.1, 0.6)) if b_from_a is None else b_from_a
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
