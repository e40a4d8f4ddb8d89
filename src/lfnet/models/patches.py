"""The spatial transformer: patches at keypoints, upright in the keypoint's own frame.

Source: LF-Net section 3.1; Jaderberg et al., "Spatial transformer networks" (2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.geometry.filters import gaussian_blur
from lfnet.models.config import PatchConfig

if TYPE_CHECKING:
    from jaxtyping import Float


Levels = Sequence[Tensor]
"""What patches of a picture are read from: (B, 1, h, w) each, from fine to coarse, all of the same view."""


def patch_levels(images: Float[Tensor, "B 1 H W"], config: PatchConfig) -> list[Tensor]:
    """Pictures as patches read them: blurred as far as they read coarsely, or halves for the outer rings."""
    if config.sampling == "square":
        return [smooth_for_patches(images, config)]
    levels = [images]
    for _ in range(ring_levels(config)[-1]):
        if min(levels[-1].shape[-2:]) < 2:
            break
        levels.append(halve(levels[-1]))
    return levels


def halve(images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 h w"]:
    """Pictures at half their size, rounded up, each pixel from the 4 x 4 around it."""
    height, width = images.shape[-2:]
    size = ((height + 1) // 2, (width + 1) // 2)
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def smooth_for_patches(images: Float[Tensor, "B 1 H W"], config: PatchConfig) -> Float[Tensor, "B 1 H W"]:
    """Blur pictures as far as square patches read them more coarsely than their pixels, so that nothing aliases."""
    step = config.extent / config.size
    return images if step <= 1 else gaussian_blur(images, 0.5 * step)


def ring_radii(config: PatchConfig) -> list[float]:
    """Radii of a log-polar patch at scale 1, px, evenly in log."""
    ratio = config.extent / 2 / config.inner
    return [config.inner * ratio ** (ring / (config.rings - 1)) for ring in range(config.rings)]


def ring_levels(config: PatchConfig) -> list[int]:
    """The level that each ring is read from: there its samples are about a pixel apart, so that nothing aliases."""
    apart = 2 * math.pi / config.size
    return [max(0, round(math.log2(apart * radius))) for radius in ring_radii(config)]


def sample_patches(
    levels: Levels,
    points: Float[Tensor, "B K 2"],
    scales: Float[Tensor, "B K"],
    orientations: Float[Tensor, "B K 2"],
    config: PatchConfig,
) -> Float[Tensor, "B K R S"]:
    """Crop a patch per keypoint, differentiable in place, scale and orientation; beyond the edge the edge is repeated.

    Args:
        levels: of normalised pictures, by `patch_levels`.
        points: (x, y) in pixels of the first level; the patch is centred there.
        scales: the patch is `config.extent * scale` pixels wide.
        orientations: (cos, sin) of the direction of the patch's x axis, or of its first angle.

    Returns:
        Square patches, or log-polar ones with a ring in each row, from inside to outside, and an angle in each column.
    """
    frames = scales[..., None] * orientations
    if config.sampling == "square":
        return _sample(levels[0], levels[0], points, frames, _square(config, points))
    radii, numbers = ring_radii(config), ring_levels(config)
    angles = torch.arange(config.size, device=points.device, dtype=points.dtype) * (2 * math.pi / config.size)
    circle = torch.stack((angles.cos(), angles.sin()), -1)
    parts = []
    for number in sorted(set(numbers)):
        rings = points.new_tensor([radius for radius, level in zip(radii, numbers, strict=True) if level == number])
        level = levels[min(number, len(levels) - 1)]
        parts.append(_sample(level, levels[0], points, frames, rings[:, None, None] * circle))
    return torch.cat(parts, -2)


def _square(config: PatchConfig, points: Tensor) -> Float[Tensor, "R S 2"]:
    places = torch.arange(config.size, device=points.device, dtype=points.dtype) - (config.size - 1) / 2
    places = places * (config.extent / config.size)
    v, u = torch.meshgrid(places, places, indexing="ij")
    return torch.stack((u, v), -1)


def _sample(
    level: Float[Tensor, "B 1 h w"],
    finest: Float[Tensor, "B 1 H W"],
    points: Float[Tensor, "B K 2"],
    frames: Float[Tensor, "B K 2"],
    places: Float[Tensor, "R S 2"],
) -> Float[Tensor, "B K R S"]:
    """Read a level at `places` in the frame of each keypoint; frames are (cos, sin) times the scale."""
    height, width = finest.shape[-2:]
    # `align_corners=False` holds the edges of all levels together, whatever their sizes.
    half = points.new_tensor((2 / width, 2 / height))
    cos, sin = frames[..., None].unbind(-2)
    axes = torch.cat((torch.stack((cos, sin), -1), torch.stack((-sin, cos), -1)), -2) * half
    # All samples of all keypoints by one product: (samples, 2) @ (2, keypoints * 2).
    steps = places.reshape(-1, 2) @ axes.permute(0, 2, 1, 3).flatten(2)
    grid = steps.unflatten(-1, (-1, 2)) + ((points + 0.5) * half - 1)[:, None]
    samples = F.grid_sample(level, grid.to(level.dtype), padding_mode="border", align_corners=False)
    return samples[:, 0].transpose(1, 2).unflatten(-1, places.shape[:2])
