"""The warp from view a to view b through depth and pose, or through a homography, with visibility and local Jacobian.

Both cases are one formula. With M = K_b R K_a^-1, m = K_b t and the inverse depth r(x) of view a, pixel x of a lands at

    x_b ~ M x + r(x) m,

and a homography is the case m = 0. Where r is locally affine (every plane is), x_b ~ (M + m [g_x, g_y, r - g.x]) x:
each point carries the homography of its own tangent plane, and with it an exact Jacobian.

Source: LF-Net section 3.2 (warp by depth and relative pose). Visibility compares depths of one frame, that of b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lfnet.geometry.camera import pixel_grid
from lfnet.geometry.depth import sample_inverse_depth
from lfnet.geometry.sampling import in_bounds, sample
from lfnet.geometry.transform import homogeneous, homography_jacobian

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SLOPE_REACH = 3
"""Pixels to each side over which the slope of inverse depth is measured: sensors' depth is too noisy for less."""
SLOPE_BEND = 0.02
"""Largest relative second difference of inverse depth taken for a plane; beyond it the slope is held to be zero."""


class Warped(NamedTuple):
    """Where points of view a are in view b."""

    points: Float[Tensor, "B N 2"]
    """Pixels (x, y) in b; meaningless where not visible."""
    visible: Bool[Tensor, "B N"]
    """In bounds, in front, of known depth, inside b's valid pixels, and not hidden behind another surface."""


@dataclass(frozen=True)
class Warp:
    """Map from pixels of view a to pixels of view b."""

    rotation_part: Float[Tensor, "B 3 3"]
    """M = K_b R K_a^-1, or the homography itself."""
    translation_part: Float[Tensor, "B 3"]
    """m = K_b t; zero for a homography."""
    depth_a: Float[Tensor, "B 1 H W"] | None
    depth_b: Float[Tensor, "B 1 h w"] | None
    valid_b: Bool[Tensor, "B 1 h w"]
    size_a: tuple[int, int]
    """(height, width) of view a."""
    depth_tolerance: float = 0.05
    """Largest relative difference between the reprojected depth and the depth measured in b."""

    def points(self, points: Float[Tensor, "B N 2"]) -> Warped:
        """Warp pixels (x, y) of a into b."""
        inverse_depth = self._inverse_depth(points)
        ray = homogeneous(points) @ self.rotation_part.transpose(-1, -2)
        ray = ray + inverse_depth[..., None] * self.translation_part[:, None]
        in_front = ray[..., 2] > 1e-6
        warped = ray[..., :2] / torch.where(in_front, ray[..., 2], torch.ones_like(ray[..., 2]))[..., None]
        visible = in_front & in_bounds(warped, (self.valid_b.shape[-2], self.valid_b.shape[-1]))
        visible = visible & (sample(self.valid_b.float(), warped)[..., 0] > 0.999)
        if self.depth_b is not None:
            measured = sample_inverse_depth(self.depth_b, warped)
            # z_b = ray_z / r, so measured depth agrees with z_b where measured inverse depth * ray_z is near r.
            agrees = (measured * ray[..., 2] - inverse_depth).abs() <= self.depth_tolerance * inverse_depth
            visible = visible & agrees & (inverse_depth > 0) & (measured > 0)
        return Warped(warped, visible)

    def grid(self) -> Warped:
        """Warp every pixel of a, row by row."""
        height, width = self.size_a
        grid = pixel_grid(height, width, device=self.valid_b.device)
        return self.points(grid.expand(self.valid_b.shape[0], -1, -1))

    def jacobian(self, points: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N 2 2"]:
        """Derivative of the warped pixel with respect to the pixel of a, from the tangent plane there."""
        matrix = self.rotation_part[:, None]
        if self.depth_a is not None:
            inverse_depth = self._inverse_depth(points)
            slope = self._slope(points, inverse_depth)
            offset = inverse_depth - (slope * points).sum(-1)
            plane = torch.cat((slope, offset[..., None]), -1)
            matrix = matrix + self.translation_part[:, None, :, None] * plane[..., None, :]
        else:
            matrix = matrix.expand(-1, points.shape[1], -1, -1)
        return homography_jacobian(matrix, points[..., None, :])[..., 0, :, :]

    def _inverse_depth(self, points: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N"]:
        if self.depth_a is None:
            return torch.zeros_like(points[..., 0])
        return sample_inverse_depth(self.depth_a, points)

    def _slope(self, points: Float[Tensor, "B N 2"], inverse_depth: Float[Tensor, "B N"]) -> Float[Tensor, "B N 2"]:
        reach = points.new_tensor(SLOPE_REACH)
        steps = torch.stack((-reach, reach))[:, None, None] * torch.eye(2, dtype=points.dtype, device=points.device)
        around = (points[:, None, None] + steps[:, :, None]).flatten(1, 3)
        before, after = self._inverse_depth(around).unflatten(1, (2, 2, points.shape[1])).unbind(1)
        here = inverse_depth[:, None]
        bend = (before + after - 2 * here).abs()
        flat = (before > 0) & (after > 0) & (bend <= SLOPE_BEND * here)
        slopes = torch.where(flat, (after - before) / (2 * SLOPE_REACH), torch.zeros_like(after))
        return slopes.transpose(1, 2)


def warp_by_homography(
    b_from_a: Float[Tensor, "B 3 3"], valid_b: Bool[Tensor, "B 1 H W"], size_a: tuple[int, int]
) -> Warp:
    """Warp between two pictures of a plane, or from one centre."""
    return Warp(b_from_a, torch.zeros_like(b_from_a[:, 0]), None, None, valid_b, size_a)


def warp_by_depth(
    depth_a: Float[Tensor, "B 1 H W"],
    depth_b: Float[Tensor, "B 1 h w"],
    intrinsics_a: Float[Tensor, "B 3 3"],
    intrinsics_b: Float[Tensor, "B 3 3"],
    b_from_a: Float[Tensor, "B 4 4"],
    valid_b: Bool[Tensor, "B 1 h w"],
    depth_tolerance: float = 0.05,
) -> Warp:
    """Warp through z-depth, intrinsics and the rigid transform from the frame of camera a to that of b.

    Args:
        depth_a: z-depth in a's camera frame, in the unit of the poses; 0 where unknown.
        depth_tolerance: relative difference of depths beyond which a point counts as hidden.
    """
    rotation_part = intrinsics_b @ b_from_a[:, :3, :3] @ torch.linalg.inv(intrinsics_a)
    translation_part = (intrinsics_b @ b_from_a[:, :3, 3:])[..., 0]
    size_a = (depth_a.shape[-2], depth_a.shape[-1])
    return Warp(rotation_part, translation_part, depth_a, depth_b, valid_b, size_a, depth_tolerance)


def compensate(
    jacobian: Float[Tensor, "B N 2 2"], scales: Float[Tensor, "B N"], orientations: Float[Tensor, "B N 2"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N 2"]]:
    """Carry scales and orientations along a warp.

    Args:
        jacobian: of the warp from the view where the keypoints live to the view where they are wanted.
        scales: positive.
        orientations: (cos, sin).

    Returns:
        Scales times the root of the local change of area, and orientations turned with the picture, unit length.
    """
    zoom = torch.linalg.det(jacobian).abs().clamp_min(1e-12).sqrt()
    turned = (jacobian @ orientations[..., None])[..., 0]
    return scales * zoom, torch.nn.functional.normalize(turned, dim=-1)
