"""Depth at sub-pixel places, and where a surface ends: the one rule of depth edges, for training and preparation.

Inverse depth is interpolated, because a plane is linear in it (exact there). A surface ends between four neighbouring
pixels where their depths differ by more than a share; there interpolation would invent a surface between foreground and
background, and the nearest measurement is taken instead. The rule looks at the measurements alone, so that an edge is
one wherever between them it is asked for.

The evaluation has its own code of the same rule (`lfnet.evaluation.data.truth.sample_depth`), so that what is measured
does not decide what is right; a test holds both to the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

MAX_STEP = 0.05
"""Relative difference of neighbouring depths beyond which a surface ends: that at which a warped point counts as hidden
(`lfnet.geometry.warp.Warp.depth_tolerance`)."""


@dataclass(frozen=True)
class DepthView:
    """A depth map and its camera."""

    depth: NDArray[np.floating]
    """(H, W) z in the camera frame, in the unit of the poses; 0 where unknown."""
    intrinsics: NDArray[np.float64]
    """3x3; the centre of the top-left pixel is (0, 0)."""
    camera_from_world: NDArray[np.float64]
    """4x4, rigid."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.depth.shape[1], self.depth.shape[0]


def sample_inverse_depth(
    depth: Float[Tensor, "B 1 H W"], points: Float[Tensor, "B N 2"], max_step: float = MAX_STEP
) -> Float[Tensor, "B N"]:
    """Inverse depth at pixels (x, y), differentiable in them; 0 where unknown or outside of the picture.

    It is interpolated where all four depths around are known and none is farther than another by more than `max_step`
    (relative); elsewhere it is that of the nearest pixel. Border pixels reach to their outer edge.
    """
    height, width = depth.shape[-2:]
    inverse = torch.where(depth > 0, 1 / depth.clamp_min(1e-6), 0).to(points).flatten()
    x, y = points.unbind(-1)
    inside = (x >= -0.5) & (y >= -0.5) & (x < width - 0.5) & (y < height - 0.5)
    x, y = x.nan_to_num().clamp(0, width - 1), y.nan_to_num().clamp(0, height - 1)
    left, top = (axis.detach().floor().clamp(0, max(size - 2, 0)) for axis, size in ((x, width), (y, height)))
    share_x, share_y = x - left, y - top
    starts = torch.arange(len(depth), device=depth.device)[:, None] * (height * width)
    index = (starts + top.long() * width + left.long()).flatten()
    right, below = min(1, width - 1), width * min(1, height - 1)
    a, b, c, d = (inverse.index_select(0, index + step).view_as(x) for step in (0, right, below, below + right))
    low = torch.minimum(torch.minimum(a, b), torch.minimum(c, d))
    high = torch.maximum(torch.maximum(a, b), torch.maximum(c, d))
    smooth = (low > 0) & (high <= (1 + max_step) * low)
    # The nearest one has all of the share; halfway between two it is the first.
    share_x, share_y = (torch.where(smooth, share, (share > 0.5).to(share)) for share in (share_x, share_y))
    return torch.where(inside, a.lerp(b, share_x).lerp(c.lerp(d, share_x), share_y), 0)


def sample_depth(depth: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Depth at sub-pixel places of one map, by `sample_inverse_depth` in double precision.

    Args:
        depth: (H, W), any unit; 0 where unknown.
        points: (N, 2) pixels (x, y).

    Returns:
        (N,), 0 where unknown or outside of the map.
    """
    maps = torch.from_numpy(np.ascontiguousarray(depth, np.float64))[None, None]
    inverse = sample_inverse_depth(maps, torch.from_numpy(np.ascontiguousarray(points, np.float64))[None])[0].numpy()
    return np.where(inverse > 0, 1 / np.where(inverse > 0, inverse, 1), 0)
