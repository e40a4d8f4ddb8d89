"""The virtual target: what one branch paints for the other to become.

Select K points on the warped score map of the other view, and draw a small sharp Gaussian at each. Nothing here is
differentiable, and nothing needs to be: LF-Net section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lfnet.geometry.filters import grow
from lfnet.geometry.sampling import sample
from lfnet.geometry.warp import Warp, compensate
from lfnet.models.keypoints import climb, fit_peaks, select_peaks, upright

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from lfnet.models.detector import DetectorMaps


class Target(NamedTuple):
    """What view i should look like, painted by view j. All constants."""

    scores: Float[Tensor, "B 1 H W"]
    """The clean, sharp map: 1 at each selected point."""
    visible: Bool[Tensor, "B 1 H W"]
    """Pixels of i that j sees."""
    known: Bool[Tensor, "B 1 H W"]
    """Of these, the pixels where j may paint: elsewhere nothing is known of the target."""
    points: Float[Tensor, "B K 2"]
    """The selected points (x, y) of i; whole pixels unless `subpixel` targets are asked for."""
    present: Bool[Tensor, "B K"]
    scales: Float[Tensor, "B K"]
    """j's scales at the points, carried into i."""
    orientations: Float[Tensor, "B K 2"] | None
    """j's orientations at the points, carried into i; (cos, sin). None where maps have none."""


@torch.no_grad()
def paint_target(
    painter: DetectorMaps,
    j_from_i: Warp,
    usable_j: Bool[Tensor, "B 1 H W"],
    count: int,
    nms_size: int,
    sigma: float,
    pixels_per_point: float = 0.0,
    subpixel: bool = False,
) -> Target:
    """Paint the target of view i from the maps of view j: warp, select, sharpen.

    Args:
        painter: the maps of view j.
        j_from_i: the warp that finds, for each pixel of i, its place in j.
        usable_j: where j may have keypoints.
        count: K, points per picture.
        nms_size: side in pixels of the window of the non-maximum suppression.
        sigma: deviation in pixels of the Gaussian drawn at each point (paper: 0.5).
        pixels_per_point: known pixels for each point at the least (paper: 0, K points however little is seen).
        subpixel: draw each point where j sees its peak, to a fraction of a pixel (paper: at the centre of a pixel).
    """
    height, width = j_from_i.size_a
    warped = j_from_i.grid()
    visible = warped.visible.view(-1, 1, height, width)
    # A slope that is cut off at a rim is no maximum: the whole window must be seen, and j's own mask cuts no slope.
    usable = sample(usable_j.float(), warped.points, mode="nearest")[..., 0] > 0.5
    known = usable.view_as(visible) & ~grow(~visible, nms_size // 2)
    scores = sample(painter.scores, warped.points)[..., 0]
    places, _, present = select_peaks(scores.view(-1, 1, height, width), known, count, nms_size)
    if pixels_per_point > 0:
        room = known.sum((1, 2, 3)) / pixels_per_point
        rank = torch.arange(places.shape[1], device=places.device)
        present = present & (rank < room[:, None])
    points = places.to(scores.dtype)
    i_from_j = safe_inverse(j_from_i.jacobian(points))
    in_j = j_from_i.points(points).points
    scales, orientations = carried(painter, in_j, i_from_j)
    if subpixel:
        corner = points.new_tensor((width - 1, height - 1))
        points = (points + sharpened(painter.scores, in_j, i_from_j)).clamp_min(0).minimum(corner)
    drawn = draw_points(points, present, (height, width), sigma)
    return Target(drawn, visible, known, points, present, scales, orientations)


def sharpened(
    scores_j: Float[Tensor, "B 1 h w"], in_j: Float[Tensor, "B K 2"], i_from_j: Float[Tensor, "B K 2 2"]
) -> Float[Tensor, "B K 2"]:
    """How far (x, y) the points of i lie from the peaks that j sees near them, fitted in j and carried back to i.

    A peak further than a pixel of i away is another one: there it is 0.

    Args:
        scores_j: the painter's map.
        in_j: the points, warped into j.
        i_from_j: inverse Jacobian of the warp there.
    """
    height, width = scores_j.shape[-2:]
    x, y = in_j.round().unbind(-1)
    peaks = climb(scores_j, torch.stack((x.clamp(0, width - 1), y.clamp(0, height - 1)), -1).long())
    moved = peaks + fit_peaks(scores_j, peaks).offsets - in_j
    back = (i_from_j @ moved[..., None])[..., 0]
    return torch.where(back.abs().amax(-1, keepdim=True) <= 1, back, torch.zeros_like(back))


def carried(
    painter: DetectorMaps, in_j: Float[Tensor, "B K 2"], i_from_j: Float[Tensor, "B K 2 2"]
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K 2"] | None]:
    """Scales and orientations that j has at points of i, compensated by the warp so that they hold in i.

    Args:
        painter: the maps of j.
        in_j: the points, warped into j.
        i_from_j: inverse Jacobian of the warp there.
    """
    scales = sample(painter.scales, in_j, mode="nearest")[..., 0]
    if painter.orientations is None:
        return compensate(i_from_j, scales, upright(in_j))[0], None
    orientations = sample(painter.orientations, in_j, mode="nearest")
    return compensate(i_from_j, scales, orientations)


def safe_inverse(matrices: Float[Tensor, "*B 2 2"]) -> Float[Tensor, "*B 2 2"]:
    """Inverse of 2x2 matrices; of a singular one (a plane seen edge-on) a huge but finite matrix."""
    a, b, c, d = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 0], matrices[..., 1, 1]
    determinant = a * d - b * c
    small = determinant.abs() < 1e-6
    determinant = torch.where(small, torch.full_like(determinant, 1e-6), determinant)
    adjugate = torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2)
    return adjugate / determinant[..., None, None]


def draw_points(
    points: Float[Tensor, "B K 2"], present: Bool[Tensor, "B K"], size: tuple[int, int], sigma: float
) -> Float[Tensor, "B 1 H W"]:
    """A map of (height, width) with a Gaussian of peak 1 at each present point; where two meet, the higher counts."""
    height, width = size
    radius = max(1, round(4 * sigma))
    whole = points.round()
    span = torch.arange(-radius, radius + 1, dtype=points.dtype, device=points.device)
    x, y = (whole[..., axis, None] + span for axis in (0, 1))
    falls_x, falls_y = (
        torch.exp(-0.5 * ((at - points[..., axis, None]) / sigma) ** 2) * (at >= 0) * (at < end)
        for axis, (at, end) in enumerate(((x, width), (y, height)))
    )
    drawn = falls_y[..., :, None] * falls_x[..., None, :] * present[..., None, None]
    index = y.clamp(0, height - 1).long()[..., :, None] * width + x.clamp(0, width - 1).long()[..., None, :]
    canvas = points.new_zeros(len(points), height * width)
    canvas.scatter_reduce_(1, index.flatten(1), drawn.flatten(1), reduce="amax")
    return canvas.view(-1, 1, height, width)
