"""Plane affine maps and homographies as 3x3 matrices, named `target_from_source`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def homogeneous(points: Float[Tensor, "*#B N 2"]) -> Float[Tensor, "*B N 3"]:
    """Append a 1 to every point."""
    return torch.cat((points, torch.ones_like(points[..., :1])), dim=-1)


def apply_homography(
    target_from_source: Float[Tensor, "*#B 3 3"], points: Float[Tensor, "*#B N 2"]
) -> tuple[Float[Tensor, "*B N 2"], Float[Tensor, "*B N"]]:
    """Map points by a homography.

    Returns:
        The mapped points, and the projective weight of each: a point is in front where it is positive.
    """
    projected = homogeneous(points) @ target_from_source.transpose(-1, -2)
    weight = projected[..., 2]
    safe = torch.where(weight.abs() < 1e-8, torch.full_like(weight, 1e-8), weight)
    return projected[..., :2] / safe[..., None], weight


def homography_jacobian(
    target_from_source: Float[Tensor, "*#B 3 3"], points: Float[Tensor, "*#B N 2"]
) -> Float[Tensor, "*B N 2 2"]:
    """Derivative of the mapped point with respect to the point, exact."""
    mapped, weight = apply_homography(target_from_source, points)
    linear = target_from_source[..., None, :2, :2]
    bottom = target_from_source[..., None, 2:, :2]
    safe = torch.where(weight.abs() < 1e-8, torch.full_like(weight, 1e-8), weight)
    return (linear - mapped[..., :, None] * bottom) / safe[..., None, None]


def rotation(angle: Float[Tensor, "*B"]) -> Float[Tensor, "*B 2 2"]:
    """Rotation by an angle in radians, from +x towards +y."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)


def similarity(
    angle: Float[Tensor, "*B"], scale: Float[Tensor, "*B"], centre: Float[Tensor, "*B 2"], target: Float[Tensor, "*B 2"]
) -> Float[Tensor, "*#B 3 3"]:
    """Turn by `angle` radians and enlarge by `scale` about `centre`, which lands on `target` (pixels)."""
    linear = scale[..., None, None] * rotation(angle)
    matrix = torch.zeros(*angle.shape, 3, 3, dtype=angle.dtype, device=angle.device)
    matrix[..., :2, :2] = linear
    matrix[..., :2, 2] = target - (linear @ centre[..., None])[..., 0]
    matrix[..., 2, 2] = 1
    return matrix


def relative_transform(
    b_from_world: Float[Tensor, "*B 4 4"], a_from_world: Float[Tensor, "*B 4 4"]
) -> Float[Tensor, "*B 4 4"]:
    """Rigid transform from the frame of camera a to that of camera b."""
    return b_from_world @ torch.linalg.inv(a_from_world)
