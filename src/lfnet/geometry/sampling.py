"""Reading maps at sub-pixel places, in the project's pixel convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from lfnet.geometry.sizes import at_least, tensor_of

if TYPE_CHECKING:
    from jaxtyping import Float


def sample(
    maps: Float[Tensor, "B C H W"], points: Float[Tensor, "B N 2"], mode: str = "bilinear", padding: str = "zeros"
) -> Float[Tensor, "B N C"]:
    """Values of `maps` at pixels (x, y), differentiable in both for `mode="bilinear"`."""
    height, width = maps.shape[-2:]
    extent = tensor_of((at_least(width - 1, 1), at_least(height - 1, 1)), points)
    grid = (2 * points / extent - 1)[:, :, None]
    values = F.grid_sample(maps, grid.to(maps.dtype), mode=mode, padding_mode=padding, align_corners=True)
    return values[..., 0].transpose(1, 2)


def in_bounds(points: Float[Tensor, "*B N 2"], size: tuple[int, int], border: float = 0.0) -> Tensor:
    """True for points at least `border` px inside the outermost pixel centres of a picture of (height, width)."""
    height, width = size
    x, y = points.unbind(-1)
    return (x >= border) & (y >= border) & (x <= width - 1 - border) & (y <= height - 1 - border)
