"""Square crops of a pair of views, turned and zoomed against each other about a place that both see."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lfnet.data.augment import GeometricConfig, log_uniform, random_angle, uniform
from lfnet.data.pair import Pair
from lfnet.data.resample import crop_transform, resample_view
from lfnet.geometry.warp import Warp

if TYPE_CHECKING:
    from jaxtyping import Float

ATTEMPTS = 8
"""Draws of a centre that both views see, before any centre is taken."""


def crop_pair(
    pair: Pair, geometry: GeometricConfig, size: int, generator: torch.Generator, attempts: int = ATTEMPTS
) -> Pair:
    """Both views of a pair in random roles, turned, zoomed and cropped about a place that both see.

    Args:
        pair: whole views, related by depth.
        geometry: how far they are turned and zoomed.
        size: side of the crops, px.
        generator: decides all of it.
        attempts: draws of a centre that both views see, before the middles of both are taken.
    """
    if uniform(generator, 0, 1) < 0.5:
        pair = pair.swapped()
    centre_a, centre_b = _common_centre(pair, pair.warp(), size / 4, generator, attempts)
    crop_a, crop_b = random_crops(centre_a, centre_b, geometry, size, generator)
    return Pair(resample_view(pair.a, crop_a, size), resample_view(pair.b, crop_b, size))


def _common_centre(
    pair: Pair, warp: Warp, margin: float, generator: torch.Generator, attempts: int
) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
    """A place in a, and where it is in b; the middles of both where no common place was found."""
    height, width = pair.a.size
    tries = torch.rand(attempts, 2, generator=generator)
    places = margin + tries * (torch.tensor([width - 1.0, height - 1.0]) - 2 * margin).clamp_min(1)
    warped = warp.points(places[None])
    seen = torch.nonzero(warped.visible[0])
    if len(seen) == 0:
        other = pair.b.size
        return torch.tensor([(width - 1) / 2, (height - 1) / 2]), torch.tensor([(other[1] - 1) / 2, (other[0] - 1) / 2])
    first = int(seen[0])
    return places[first], warped.points[0, first]


def random_crops(
    centre_a: Float[Tensor, "2"],
    centre_b: Float[Tensor, "2"],
    config: GeometricConfig,
    size: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "1 3 3"], Float[Tensor, "1 3 3"]]:
    """The maps that cut a crop from each view, turned and zoomed against each other."""
    common = log_uniform(generator, *config.resolution)
    relative = math.sqrt(log_uniform(generator, 1 / config.zoom, config.zoom))
    turned = uniform(generator, 0, 1) >= config.upright_share
    angle_a = random_angle(generator, config) if turned else 0.0
    angle_b = random_angle(generator, config) if turned else 0.0
    jitter = (torch.rand(2, generator=generator) - 0.5) * size / 4
    return (
        crop_transform(centre_a, angle_a, common * relative, size),
        crop_transform(centre_b + jitter, angle_b, common / relative, size),
    )
