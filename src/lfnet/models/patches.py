"""The spatial transformer: patches at keypoints, upright in the keypoint's own frame.

Source: LF-Net section 3.1; Jaderberg et al., "Spatial transformer networks" (2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.geometry.filters import gaussian_blur
from lfnet.models.config import PatchConfig

if TYPE_CHECKING:
    from jaxtyping import Float


def smooth_for_patches(images: Float[Tensor, "B 1 H W"], config: PatchConfig) -> Float[Tensor, "B 1 H W"]:
    """Blur pictures as far as patches read them more coarsely than their pixels, so that nothing aliases."""
    step = config.extent / config.size
    return images if step <= 1 else gaussian_blur(images, 0.5 * step)


def sample_patches(
    images: Float[Tensor, "B 1 H W"],
    points: Float[Tensor, "B K 2"],
    scales: Float[Tensor, "B K"],
    orientations: Float[Tensor, "B K 2"],
    config: PatchConfig,
) -> Float[Tensor, "B K S S"]:
    """Crop a patch per keypoint, differentiable in place, scale and orientation; beyond the edge the edge is repeated.

    Args:
        images: normalised pictures, after `smooth_for_patches`.
        points: (x, y) in pixels; the patch is centred there.
        scales: the patch is `config.extent * scale` pixels wide.
        orientations: (cos, sin) of the direction of the patch's x axis.
    """
    batch, count = points.shape[:2]
    size = config.size
    step = config.extent / size
    places = (torch.arange(size, device=points.device, dtype=points.dtype) - (size - 1) / 2) * step
    v, u = torch.meshgrid(places, places, indexing="ij")
    u, v = u.reshape(1, 1, -1), v.reshape(1, 1, -1)
    cos, sin = (scales[..., None] * orientations).split(1, -1)
    x = points[..., :1] + cos * u - sin * v
    y = points[..., 1:] + sin * u + cos * v
    height, width = images.shape[-2:]
    grid = torch.stack((2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1), -1)
    patches = F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=True)
    return patches.view(batch, count, size, size)
