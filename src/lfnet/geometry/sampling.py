"""Reading maps at sub-pixel places, in the project's pixel convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def sample(
    maps: Float[Tensor, "B C H W"], points: Float[Tensor, "B N 2"], mode: str = "bilinear", padding: str = "zeros"
) -> Float[Tensor, "B N C"]:
    """Values of `maps` at pixels (x, y), differentiable in both for `mode="bilinear"`."""
    height, width = maps.shape[-2:]
    extent = points.new_tensor((max(width - 1, 1), max(height - 1, 1)))
    grid = (2 * points / extent - 1)[:, :, None]
    values = F.grid_sample(maps, grid.to(maps.dtype), mode=mode, padding_mode=padding, align_corners=True)
    return values[..., 0].transpose(1, 2)


def in_bounds(points: Float[Tensor, "*B N 2"], size: tuple[int, int], border: float = 0.0) -> Tensor:
    """True for points at least `border` px inside the outermost pixel centres of a picture of (height, width)."""
    height, width = size
    x, y = points.unbind(-1)
    return (x >= border) & (y >= border) & (x <= width - 1 - border) & (y <= height - 1 - border)


def sample_inverse_depth(
    depth: Float[Tensor, "B 1 H W"], points: Float[Tensor, "B N 2"], max_step: float = 0.05
) -> Float[Tensor, "B N"]:
    """Inverse depth at pixels (x, y); 0 where one of the four depths around is unknown or a surface ends.

    Inverse depth is interpolated because a plane is linear in it (exact there). Where the depths around differ by more
    than `max_step` (relative), interpolation would invent a surface between foreground and background, so the nearest
    measurement is taken instead.
    """
    known = depth > 0
    inverse = torch.where(known, 1.0 / depth.clamp_min(1e-6), torch.zeros_like(depth))
    smooth, share_known = sample(torch.cat((inverse, known.to(inverse)), 1), points).unbind(-1)
    nearest = sample(inverse, points, mode="nearest")[..., 0]
    agree = (smooth - nearest).abs() <= max_step * nearest
    return torch.where((share_known > 0.999) & agree, smooth, nearest)
