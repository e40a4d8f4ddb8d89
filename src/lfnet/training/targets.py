"""The virtual target: what one branch paints for the other to become.

Select K points on the warped score map of the other view, and draw a small sharp Gaussian at each. Nothing here is
differentiable, and nothing needs to be: LF-Net section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.geometry.filters import grow
from lfnet.geometry.sampling import sample
from lfnet.geometry.warp import Warp, compensate
from lfnet.models.keypoints import select_peaks

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
    """The selected points, whole pixels (x, y) of i."""
    present: Bool[Tensor, "B K"]
    scales: Float[Tensor, "B K"]
    """j's scales at the points, carried into i."""
    orientations: Float[Tensor, "B K 2"]
    """j's orientations at the points, carried into i; (cos, sin)."""


@torch.no_grad()
def paint_target(
    painter: DetectorMaps,
    j_from_i: Warp,
    usable_j: Bool[Tensor, "B 1 H W"],
    count: int,
    nms_size: int,
    sigma: float,
    pixels_per_point: float = 0.0,
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
    scales, orientations = carried(painter, j_from_i, points)
    drawn = draw_points(places, present, (height, width), sigma)
    return Target(drawn, visible, known, points, present, scales, orientations)


def carried(
    painter: DetectorMaps, j_from_i: Warp, points: Float[Tensor, "B K 2"]
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K 2"]]:
    """Scales and orientations that j has at points of i, compensated by the warp so that they hold in i."""
    in_j = j_from_i.points(points).points
    scales = sample(painter.scales, in_j, mode="nearest")[..., 0]
    orientations = sample(painter.orientations, in_j, mode="nearest")
    i_from_j = safe_inverse(j_from_i.jacobian(points))
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
    places: Tensor, present: Bool[Tensor, "B K"], size: tuple[int, int], sigma: float
) -> Float[Tensor, "B 1 H W"]:
    """A map of (height, width) with a Gaussian of peak 1 at each present whole-pixel place; 0 elsewhere."""
    height, width = size
    points = torch.zeros(places.shape[0], height * width, device=places.device)
    index = places[..., 1] * width + places[..., 0]
    points.scatter_reduce_(1, index, present.to(points), reduce="amax")
    radius = max(1, round(4 * sigma))
    span = torch.arange(-radius, radius + 1, dtype=points.dtype, device=points.device)
    kernel = torch.exp(-0.5 * (span / sigma) ** 2)
    image = points.view(-1, 1, height, width)
    image = F.conv2d(image, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return F.conv2d(image, kernel.view(1, 1, -1, 1), padding=(radius, 0)).clamp(max=1)
