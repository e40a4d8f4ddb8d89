"""From a score map to keypoints: strict local maxima, the best K, refined below the pixel.

Source: LF-Net section 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.geometry.filters import grow
from lfnet.geometry.sampling import sample
from lfnet.models.config import KeypointConfig

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from lfnet.models.detector import DetectorMaps


class Keypoints(NamedTuple):
    """K places per picture, some of them empty where the picture has fewer maxima."""

    points: Float[Tensor, "B K 2"]
    """(x, y) in pixels."""
    scores: Float[Tensor, "B K"]
    scales: Float[Tensor, "B K"]
    orientations: Float[Tensor, "B K 2"]
    """(cos, sin)."""
    present: Bool[Tensor, "B K"]
    """False for the places left empty."""


def strict_maxima(scores: Float[Tensor, "B 1 H W"], size: int) -> Bool[Tensor, "B 1 H W"]:
    """True where a score is greater than every other one within the `size` x `size` window around it."""
    radius = size // 2
    if radius == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    low = float("-inf")
    rows = F.max_pool2d(scores, (1, size), 1, (0, radius))
    padded = F.pad(rows, (0, 0, radius, radius), value=low)
    halves = F.max_pool2d(padded, (radius, 1), 1)
    height, width = scores.shape[-2:]
    others = torch.maximum(halves[:, :, :height], halves[:, :, radius + 1 : radius + 1 + height])
    padded = F.pad(scores, (radius, radius, 0, 0), value=low)
    halves = F.max_pool2d(padded, (1, radius), 1)
    others = torch.maximum(others, halves[..., :width])
    others = torch.maximum(others, halves[..., radius + 1 : radius + 1 + width])
    return scores > others


def usable_pixels(valid: Bool[Tensor, "B 1 H W"], border: int, reach: int) -> Bool[Tensor, "B 1 H W"]:
    """Pixels where keypoints may lie: `border` px from the edges, `reach` px (as a square) from invalid pixels."""
    usable = ~grow(~valid, reach)
    inside = torch.zeros_like(usable)
    height, width = valid.shape[-2:]
    inside[..., border : max(border, height - border), border : max(border, width - border)] = True
    return usable & inside


def select_peaks(
    scores: Float[Tensor, "B 1 H W"], usable: Bool[Tensor, "B 1 H W"], count: int, nms_size: int
) -> tuple[Tensor, Tensor, Bool[Tensor, "B K"]]:
    """The `count` best strict maxima of each picture.

    Returns:
        Their pixel places (B, K, 2) as whole numbers (x, y), their scores (B, K), and which exist. K is `count`, or the
        number of pixels if that is smaller.
    """
    peaks = strict_maxima(scores, nms_size) & usable & (scores > 0)
    flat = torch.where(peaks, scores, torch.full_like(scores, -1.0)).flatten(1)
    values, index = flat.topk(min(count, flat.shape[1]), dim=1)
    width = scores.shape[-1]
    places = torch.stack((index % width, torch.div(index, width, rounding_mode="floor")), -1)
    return places, values, values > 0


def refine(
    scores: Float[Tensor, "B 1 H W"], places: Tensor, config: KeypointConfig
) -> Float[Tensor, "B K 2"]:
    """Soft-argmax of the scores around whole-pixel places; differentiable in the scores."""
    radius = config.subpixel // 2
    points = places.to(scores.dtype)
    if radius == 0:
        return points
    height, width = scores.shape[-2:]
    span = torch.arange(-radius, radius + 1, device=scores.device)
    offsets = torch.stack(torch.meshgrid(span, span, indexing="xy"), -1).reshape(-1, 2)
    around = places[:, :, None] + offsets
    x, y = around[..., 0].clamp(0, width - 1), around[..., 1].clamp(0, height - 1)
    batch = torch.arange(scores.shape[0], device=scores.device)[:, None, None]
    window = scores[batch, 0, y, x]
    weights = torch.softmax(config.subpixel_strength * window, -1)
    return points + (weights[..., None] * offsets.to(scores.dtype)).sum(-2)


def detect_keypoints(
    maps: DetectorMaps, usable: Bool[Tensor, "B 1 H W"], count: int, config: KeypointConfig
) -> Keypoints:
    """The best `count` keypoints of every picture, with the scale and orientation that the maps have there.

    Scales and orientations are read at the whole pixel of the maximum and are differentiable in the maps; places are
    differentiable where `config.subpixel_gradient` says so.
    """
    places, scores, present = select_peaks(maps.scores.detach(), usable, count, config.nms_size)
    source = maps.scores if config.subpixel_gradient else maps.scores.detach()
    points = refine(source, places, config)
    whole = places.to(maps.scores.dtype)
    scales = sample(maps.scales, whole, mode="nearest")[..., 0]
    orientations = sample(maps.orientations, whole, mode="nearest")
    return Keypoints(points, scores, scales, orientations, present)
