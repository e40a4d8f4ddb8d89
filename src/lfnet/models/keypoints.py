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
from lfnet.geometry.sizes import is_tracing, smaller, tensor_of
from lfnet.models.config import KeypointConfig
from lfnet.models.inputs import everywhere

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
    sigmas: Float[Tensor, "B K"]
    """How exact each place is: a deviation along an axis in pixels, a constant."""


def usable_pixels(valid: Bool[Tensor, "B 1 H W"], border: int, reach: int) -> Bool[Tensor, "B 1 H W"]:
    """Pixels where keypoints may lie: `border` px from the edges, `reach` px (as a square) from invalid pixels."""
    usable = valid if everywhere(valid) else ~grow(~valid, reach)
    inside = [
        (torch.arange(side, device=valid.device) >= border) & (torch.arange(side, device=valid.device) < side - border)
        for side in valid.shape[-2:]
    ]
    return usable & inside[0][:, None] & inside[1]


def select_peaks(
    scores: Float[Tensor, "B 1 H W"], usable: Bool[Tensor, "B 1 H W"], count: int, nms_size: int
) -> tuple[Tensor, Tensor, Bool[Tensor, "B K"]]:
    """The `count` best strict maxima of each picture.

    A maximum of its window is the largest of its block of (nms_size + 1) / 2 pixels, since windows of one block see all
    of it: so one pixel of each block is compared with its window, and no window slides.

    Returns:
        Their pixel places (B, K, 2) as whole numbers (x, y), their scores (B, K), and which exist. K is `count`, or the
        number of blocks if that is smaller.
    """
    radius = nms_size // 2
    width = scores.shape[-1]
    values, index = F.max_pool2d(scores, radius + 1, radius + 1, ceil_mode=True, return_indices=True)
    values, index = values.flatten(1), index.flatten(1)
    allowed = (values > 0) & usable.flatten(1).gather(1, index)
    values = torch.where(allowed, values, -1.0)
    best, places = _peaks_of_blocks(scores, values, index, count, radius)
    best, order = best.topk(smaller(count, best.shape[1]), dim=1)
    places = places.gather(1, order)
    return torch.stack((places % width, torch.div(places, width, rounding_mode="floor")), -1), best, best > 0


def _peaks_of_blocks(
    scores: Float[Tensor, "B 1 H W"], values: Float[Tensor, "B N"], index: Tensor, count: int, radius: int
) -> tuple[Float[Tensor, "B M"], Tensor]:
    """The largest scores of blocks, -1 where one is no strict maximum, and their places: so many that `count` are.

    Peaks are among the highest blocks: a few times as many as are wanted hold enough of them, mostly. An exported
    network can't go on until there are enough, and looks at all blocks.
    """
    every = values.shape[1]
    tried = every if is_tracing() else min(4 * count, every)
    while True:
        best, places = values, index
        if not is_tracing():
            best, order = values.topk(tried, dim=1)
            places = index.gather(1, order)
        peaks = (best > _largest_around(scores, places, radius)) & (best > 0)
        if tried is every or bool(((peaks.sum(1) >= count) | (best[:, -1] < 0)).all()):
            return torch.where(peaks, best, -1.0), places
        tried = min(4 * tried, every)


def _largest_around(scores: Float[Tensor, "B 1 H W"], places: Tensor, radius: int) -> Float[Tensor, "B N"]:
    """The largest score within `radius` px, as a square, of pixels counted row by row, but for their own."""
    width = scores.shape[-1]
    stride = width + 2 * radius
    padded = F.pad(scores, (radius,) * 4, value=float("-inf")).flatten(1)
    centres = (torch.div(places, width, rounding_mode="floor") + radius) * stride + places % width + radius
    span = range(-radius, radius + 1)
    shifts = [dy * stride + dx for dy in span for dx in span if (dx, dy) != (0, 0)]
    if not shifts:
        return torch.full_like(centres, -torch.inf, dtype=scores.dtype)
    around = centres[..., None] + tensor_of(shifts, centres)
    return padded.gather(1, around.flatten(1)).view(around.shape).amax(-1)


def _around(maps: Float[Tensor, "B 1 H W"], places: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Values (B, K, N) in the windows around whole-pixel places, the edge repeated, and their offsets (N, 2)."""
    height, width = maps.shape[-2:]
    span = torch.arange(-radius, radius + 1, device=maps.device)
    offsets = torch.stack(torch.meshgrid(span, span, indexing="xy"), -1).reshape(-1, 2)
    around = places[:, :, None] + offsets
    x, y = around[..., 0].clamp(0, width - 1), around[..., 1].clamp(0, height - 1)
    index = (y * width + x).flatten(1)
    return maps.flatten(1).gather(1, index).view(*places.shape[:2], -1), offsets.to(maps.dtype)


def soft_argmax(
    scores: Float[Tensor, "B 1 H W"], places: Tensor, config: KeypointConfig
) -> Float[Tensor, "B K 2"]:
    """Offsets (x, y) from whole-pixel maxima to the centre of the scores around them; differentiable in the scores."""
    window, offsets = _around(scores, places, config.subpixel // 2)
    weights = torch.softmax(config.subpixel_strength * window, -1)
    return (weights[..., None] * offsets).sum(-2)


class Peaks(NamedTuple):
    """Quadratics fitted to the logarithm of scores around whole-pixel maxima."""

    offsets: Float[Tensor, "B K 2"]
    """(x, y) from the maximum to the peak; 0 where there is none."""
    widths: Float[Tensor, "B K"]
    """Deviation in pixels of the Gaussian whose logarithm it is, the geometric mean of its two axes."""


FARTHEST_PEAK = 0.75
"""Pixels along each axis that a fitted peak may lie from the largest pixel; a true one lies within half a pixel."""
WIDEST_PEAK = 4.0
"""Pixels at which the width of a flat or saddle-shaped score is held."""


SIGMA_PER_WIDTH = 0.3
"""Deviation of a place along an axis, in widths of its peak: a map that is unsure where a point lies is wide there.

Measured on rendered rooms and warped photographs, by fifths of the width: median error of correct matches / 1.18, over
the root of the sum of both widths' squares, is 0.22 to 0.40 for `lfnet-cpu` and 0.18 to 0.36 for `lfnet-lean`; widths
and errors have a rank correlation of 0.51 to 0.57."""


def fit_peaks(scores: Float[Tensor, "B 1 H W"], places: Tensor) -> Peaks:
    """Fit a quadratic to the logarithm of the 3 x 3 scores around whole-pixel maxima, by least squares; a constant.

    The logarithm makes a Gaussian a quadratic, so the peak and the width of one are found exactly however low it is.
    """
    window, _ = _around(scores.detach(), places, 1)
    rows = window.clamp_min(1e-12).log().unflatten(-1, (3, 3))
    columns, lines = rows.sum(-2), rows.sum(-1)
    slope_x = (columns[..., 2] - columns[..., 0]) / 6
    slope_y = (lines[..., 2] - lines[..., 0]) / 6
    bend_x = (columns[..., 0] - 2 * columns[..., 1] + columns[..., 2]) / 3
    bend_y = (lines[..., 0] - 2 * lines[..., 1] + lines[..., 2]) / 3
    twist = (rows[..., 0, 0] + rows[..., 2, 2] - rows[..., 0, 2] - rows[..., 2, 0]) / 4
    determinant = bend_x * bend_y - twist.square()
    peaked = (bend_x < 0) & (bend_y < 0) & (determinant > 1e-12)
    safe = torch.where(peaked, determinant, 1.0)
    offsets = torch.stack((twist * slope_y - bend_y * slope_x, twist * slope_x - bend_x * slope_y), -1)
    offsets = torch.where(peaked[..., None], offsets / safe[..., None], 0.0)
    widths = torch.where(peaked, safe.pow(-0.25), WIDEST_PEAK).clamp_max(WIDEST_PEAK)
    return Peaks(offsets.clamp(-FARTHEST_PEAK, FARTHEST_PEAK), widths)


def climb(scores: Float[Tensor, "B 1 H W"], places: Tensor) -> Tensor:
    """Whole-pixel places (B, K, 2) moved to the largest score of the 3 x 3 pixels around them."""
    window, offsets = _around(scores, places, 1)
    step = offsets[window.argmax(-1)].long()
    height, width = scores.shape[-2:]
    x, y = (places + step).unbind(-1)
    return torch.stack((x.clamp(0, width - 1), y.clamp(0, height - 1)), -1)


def upright(points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K 2"]:
    """The orientation (1, 0) for each point."""
    return torch.cat((torch.ones_like(points[..., :1]), torch.zeros_like(points[..., :1])), -1)


def detect_keypoints(
    maps: DetectorMaps, usable: Bool[Tensor, "B 1 H W"], count: int, config: KeypointConfig
) -> Keypoints:
    """The best `count` keypoints of every picture, with the scale and orientation that the maps have there.

    Where the maps have no orientations, keypoints are upright until `Network.oriented` reads angles off patches.

    Scales and orientations are read at the whole pixel of the maximum and are differentiable in the maps; places are
    differentiable where a soft-argmax refines them.
    """
    places, scores, present = select_peaks(maps.scores.detach(), usable, count, config.nms_size)
    peaks = fit_peaks(maps.scores, places)
    whole = places.to(maps.scores.dtype)
    if config.refinement == "peak-fit":
        points = whole + peaks.offsets
    else:
        points = whole + soft_argmax(maps.scores, places, config)
    scales = sample(maps.scales, whole, mode="nearest")[..., 0]
    orientations = upright(points) if maps.orientations is None else sample(maps.orientations, whole, mode="nearest")
    return Keypoints(points, scores, scales, orientations, present, SIGMA_PER_WIDTH * peaks.widths)
