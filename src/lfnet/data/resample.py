"""Turn, zoom and crop a view, with depth, mask and intrinsics following."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.data.pair import View
from lfnet.geometry.camera import pixel_grid
from lfnet.geometry.filters import gaussian_blur
from lfnet.geometry.transform import apply_homography, similarity

if TYPE_CHECKING:
    from jaxtyping import Float


def resample_view(view: View, target_from_source: Float[Tensor, "B 3 3"], size: int) -> View:
    """Draw a view anew on a square of `size` pixels, as an affine map (or, without depth, a homography) places it.

    Depth is taken from the nearest measurement, never mixed across an edge; pixels that the source does not show become
    invalid; intrinsics are premultiplied by the map, so that pixels keep their rays.
    """
    batch = len(view.image)
    grid = pixel_grid(size, size, device=view.image.device).expand(batch, -1, -1)
    source, weight = apply_homography(torch.linalg.inv(target_from_source), grid)
    height, width = view.size
    extent = source.new_tensor((max(width - 1, 1), max(height - 1, 1)))
    lookup = (2 * source / extent - 1).view(batch, size, size, 2).clamp(-4, 4)

    image = _smooth_for(view.image, target_from_source)
    image = F.grid_sample(image, lookup, mode="bilinear", padding_mode="border", align_corners=True)
    inside = (weight > 0) & (source >= 0).all(-1) & (source <= extent).all(-1)
    shown = F.grid_sample(view.valid.float(), lookup, mode="bilinear", padding_mode="border", align_corners=True)
    valid = inside.view(batch, 1, size, size) & (shown > 0.999)
    depth = None
    if view.depth is not None:
        depth = F.grid_sample(view.depth, lookup, mode="nearest", padding_mode="border", align_corners=True)
        depth = torch.where(valid, depth, torch.zeros_like(depth))
    image = torch.where(valid, image, torch.zeros_like(image))
    return View(image, valid, depth, target_from_source @ view.intrinsics, view.camera_from_world)


def _smooth_for(image: Tensor, target_from_source: Tensor) -> Tensor:
    """Blur a picture that is about to shrink, by the mean zoom of the batch at its centre, so that nothing aliases."""
    height, width = image.shape[-2:]
    centre = image.new_tensor([[(width - 1) / 2, (height - 1) / 2]])
    corners = torch.cat((centre, centre + image.new_tensor([[1.0, 0.0]]), centre + image.new_tensor([[0.0, 1.0]])))
    mapped, _ = apply_homography(target_from_source, corners.expand(len(image), -1, -1))
    edges = mapped[:, 1:] - mapped[:, :1]
    zoom = float(torch.linalg.det(edges).abs().sqrt().mean())
    if zoom >= 0.95 or not math.isfinite(zoom):
        return image
    # The deviation that takes a picture of half a pixel's blur to half a pixel's blur at the coarser sampling.
    return gaussian_blur(image, 0.5 * math.sqrt(1 / max(zoom, 0.1) ** 2 - 1))


def crop_transform(centre: Float[Tensor, "2"], angle: float, zoom: float, size: int) -> Float[Tensor, "1 3 3"]:
    """The map that turns by `angle` radians and enlarges by `zoom` about `centre`, which becomes the crop's centre."""
    middle = torch.full((1, 2), (size - 1) / 2)
    return similarity(torch.tensor([angle]), torch.tensor([zoom]), centre[None], middle)
