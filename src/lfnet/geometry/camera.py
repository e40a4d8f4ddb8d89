"""The pinhole camera with a general upper 2x3 block, so that augmentation can turn the picture plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lfnet.geometry.transform import homogeneous

if TYPE_CHECKING:
    from jaxtyping import Float


def unproject(
    intrinsics: Float[Tensor, "*B 3 3"], pixels: Float[Tensor, "*B N 2"], depth: Float[Tensor, "*B N"]
) -> Float[Tensor, "*B N 3"]:
    """Points in the camera frame at z-depth `depth` behind pixels (x, y)."""
    rays = homogeneous(pixels) @ torch.linalg.inv(intrinsics).transpose(-1, -2)
    return rays * depth[..., None]


def project(
    intrinsics: Float[Tensor, "*B 3 3"], points: Float[Tensor, "*B N 3"]
) -> tuple[Float[Tensor, "*B N 2"], Float[Tensor, "*B N"]]:
    """Pixels (x, y) of points in the camera frame, and their z-depth; a point is in front where z is positive."""
    depth = points[..., 2]
    safe = torch.where(depth.abs() < 1e-8, torch.full_like(depth, 1e-8), depth)
    image = points @ intrinsics.transpose(-1, -2)
    return image[..., :2] / safe[..., None], depth


def pixel_grid(height: int, width: int, device: torch.device | str | None = None) -> Float[Tensor, "N 2"]:
    """(x, y) of every pixel centre, row by row; the centre of the top-left pixel is (0, 0)."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack((x, y), -1).reshape(-1, 2)
