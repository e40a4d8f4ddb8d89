"""The spatial transformer: patches at keypoints, upright in the keypoint's own frame.

Source: LF-Net section 3.1; Jaderberg et al., "Spatial transformer networks" (2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.geometry.filters import gaussian_blur
from lfnet.geometry.resize import resize
from lfnet.geometry.sizes import at_least, is_tracing, larger, tensor_of
from lfnet.models.config import PatchConfig
from lfnet.models.windows import Stretch, Window, resize_part

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class Mosaic(NamedTuple):
    """What patches are read from: pictures at one or several sizes, laid side by side, so that one read serves all."""

    image: Float[Tensor, "B 1 H W"]
    boxes: Float[Tensor, "L 4"]
    """Left, top, width and height of each size in pixels, from fine to coarse."""
    origins: Float[Tensor, "L 2"]
    """(x, y) in the mosaic of the first pixel that each size of the whole picture has; of a part of one it may lie
    outside."""
    ratios: Float[Tensor, "L 2"]
    """Pixels (x, y) of each size per pixel of the picture."""

    def part(self, chosen: slice) -> Mosaic:
        """The same of some pictures of the batch."""
        return self._replace(image=self.image[chosen])


LEAST_LEVEL = 6
"""A size whose shorter side would be smaller than this is left out."""


def make_mosaic(images: Float[Tensor, "B 1 H W"], config: PatchConfig) -> Mosaic:
    """Pictures as patches read them: blurred as far as square ones read coarsely, or halves for the outer rings."""
    height, width = images.shape[-2:]
    whole = Window(Stretch(0, height, height), Stretch(0, width, width))
    if config.sampling == "square":
        return laid_out([smooth_for_patches(images, config)], [whole])
    levels, windows = [images], [whole]
    while len(levels) <= MOST_HALVES if is_tracing() else min(levels[-1].shape[-2:]) >= 2 * LEAST_LEVEL:
        levels.append(halve(levels[-1]))
        height, width = levels[-1].shape[-2:]
        windows.append(Window(Stretch(0, height, height), Stretch(0, width, width)))
    return laid_out(levels, windows)


def make_mosaic_of_part(
    images: Float[Tensor, "B 1 H W"], window: Window, coarsest: int, config: PatchConfig
) -> Mosaic:
    """The mosaic of a part of a picture, in which patches look as in the whole one's.

    Args:
        images: what the pictures show in `window`.
        window: the part, `part_reach` larger than what patches are read at.
        coarsest: halves that are made at most; `coarsest_level` of the patches that are read.
        config: of the patches.
    """
    if config.sampling == "square":
        return laid_out([smooth_for_patches(images, config)], [window])
    levels, windows = [images], [window]
    while len(levels) <= coarsest and min(axis.whole for axis in windows[-1]) >= 2 * LEAST_LEVEL:
        source = windows[-1]
        half = Window(*(_inner_half(axis) for axis in source))
        levels.append(resize_part(levels[-1], source, half, antialias=True))
        windows.append(half)
    return laid_out(levels, windows)


def _inner_half(axis: Stretch) -> Stretch:
    """Half of an axis, without the pixels that are made of others than those given."""
    first = -(-axis.start // 2) + (1 if axis.start else 0)
    last = axis.stop // 2 - (2 if axis.stop < axis.whole else 0)
    return Stretch(first, max(last, first + 1), axis.whole // 2)


def laid_out(levels: Sequence[Float[Tensor, "B 1 _ _"]], windows: Sequence[Window]) -> Mosaic:
    """One picture at several sizes, from fine to coarse, side by side.

    Args:
        levels: the picture, or a part of it, at each size.
        windows: which part of each whole size these are.
    """
    first, *smaller_ones = levels
    boxes, column, top = [(0, 0, first.shape[-1], first.shape[-2])], [], 0
    for level in smaller_ones:
        # They stand below each other, beside the first one.
        height, width = level.shape[-2:]
        boxes.append((first.shape[-1], top, width, height))
        column.append(F.pad(level, (0, smaller_ones[0].shape[-1] - width)))
        top = top + height
    image = first
    if column:
        height = larger(first.shape[-2], top)
        beside = F.pad(torch.cat(column, -2), (0, 0, 0, height - top))
        image = torch.cat((F.pad(first, (0, 0, 0, height - first.shape[-2])), beside), -1)
    corners = zip(boxes, windows, strict=True)
    origins = [(box[0] - part.columns.start, box[1] - part.rows.start) for box, part in corners]
    wholes = _rows([(part.columns.whole, part.rows.whole) for part in windows], first)
    return Mosaic(image, _large_enough(_rows(boxes, first)), _rows(origins, first), wholes / wholes[0])


def _rows(values: Sequence[tuple[Any, ...]], like: Tensor) -> Float[Tensor, "L N"]:
    return tensor_of([each for row in values for each in row], like).view(len(values), -1)


MOST_HALVES = 8
"""Halves that an exported network makes, whatever the size of the picture: no patch that it reads needs more."""


def _large_enough(boxes: Float[Tensor, "L 4"]) -> Float[Tensor, "M 4"]:
    """The boxes of a size that patches are read from: all but in an exported network, which makes smaller ones too."""
    if not is_tracing():
        return boxes
    return boxes[: (boxes[:, 2:].amin(1) >= LEAST_LEVEL).sum().clamp_min(1)]


def halve(images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 h w"]:
    """Pictures at half their size, rounded down, each pixel from the 4 x 4 around it."""
    height, width = images.shape[-2:]
    return resize(images, (at_least(height // 2, 1), at_least(width // 2, 1)), antialias=True)


def smooth_for_patches(images: Float[Tensor, "B 1 H W"], config: PatchConfig) -> Float[Tensor, "B 1 H W"]:
    """Blur pictures as far as square patches read them more coarsely than their pixels, so that nothing aliases."""
    step = config.extent / config.size
    return images if step <= 1 else gaussian_blur(images, 0.5 * step)


def ring_radii(config: PatchConfig) -> list[float]:
    """Radii of a log-polar patch at scale 1, px, evenly in log."""
    ratio = config.extent / 2 / config.inner
    return [config.inner * ratio ** (ring / (config.rings - 1)) for ring in range(config.rings)]


def ring_levels(scales: Float[Tensor, "*B K"], config: PatchConfig) -> Int[Tensor, "*B K R"]:
    """How often the picture is halved where each ring is read, before it is known whether it is so large."""
    apart = scales.new_tensor(ring_radii(config)) * (2 * math.pi / config.size)
    return (scales[..., None].log2().round() + apart.log2().round().clamp_min(0)).long()


def coarsest_level(scale: float, config: PatchConfig) -> int:
    """How often a picture must be halved for patches up to a scale; 0 for square ones."""
    if config.sampling == "square":
        return 0
    return max(0, int(ring_levels(torch.tensor([scale]), config).max()))


def part_reach(scale: float, config: PatchConfig) -> int:
    """How far, in pixels, patches up to a scale see from their keypoints, with all that is smoothed before."""
    if config.sampling == "square":
        step = config.extent / config.size
        blur = 0 if step <= 1 else max(1, math.ceil(1.5 * step))
        return math.ceil(math.sqrt(0.5) * config.extent * scale) + blur + 2
    # Each halving leaves up to two pixels and a half out at the rim, which all together are five of the coarsest.
    return math.ceil(config.extent / 2 * scale) + 8 * 2 ** coarsest_level(scale, config)


def sample_patches(
    mosaic: Mosaic,
    points: Float[Tensor, "B K 2"],
    scales: Float[Tensor, "B K"],
    orientations: Float[Tensor, "B K 2"],
    config: PatchConfig,
) -> Float[Tensor, "B K R S"]:
    """Crop a patch per keypoint, differentiable in place, scale and orientation; beyond the edge the edge is repeated.

    Args:
        mosaic: of normalised pictures, by `make_mosaic`.
        points: (x, y) in pixels of the picture; the patch is centred there.
        scales: the patch is `config.extent * scale` pixels wide.
        orientations: (cos, sin) of the direction of the patch's x axis, or of its first angle.

    Returns:
        Square patches, or log-polar ones with a ring in each row, from inside to outside, and an angle in each column.
    """
    if config.sampling == "square":
        return _sample_squares(mosaic.image, points + mosaic.origins[0], scales[..., None] * orientations, config)
    return _sample_rings(mosaic, points, scales, orientations, config)


def _sample_squares(
    images: Float[Tensor, "B 1 H W"], points: Tensor, frames: Float[Tensor, "B K 2"], config: PatchConfig
) -> Float[Tensor, "B K S S"]:
    size = config.size
    places = torch.arange(size, device=points.device, dtype=points.dtype) - (size - 1) / 2
    v, u = torch.meshgrid(*2 * (places * (config.extent / size),), indexing="ij")
    u, v = u.reshape(1, 1, -1), v.reshape(1, 1, -1)
    cos, sin = frames.split(1, -1)
    x = points[..., :1] + cos * u - sin * v
    y = points[..., 1:] + sin * u + cos * v
    height, width = images.shape[-2:]
    grid = torch.stack((2 * x / at_least(width - 1, 1) - 1, 2 * y / at_least(height - 1, 1) - 1), -1)
    patches = F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=True)
    return patches[:, 0].unflatten(-1, (size, size))


def _sample_rings(
    mosaic: Mosaic, points: Tensor, scales: Tensor, orientations: Tensor, config: PatchConfig
) -> Float[Tensor, "B K R S"]:
    """Each ring is read at the size of the picture where its samples are about a pixel apart, so that nothing aliases.

    Inner rings, whose samples are closer, are read at the size where a keypoint of this scale would be found: what is
    seen at scale 2 is what half the picture shows at scale 1.
    """
    apart = 2 * math.pi / config.size
    radii = points.new_tensor(ring_radii(config))
    with torch.no_grad():
        level = ring_levels(scales, config).clamp_min(0).clamp_max(mosaic.boxes.shape[0] - 1)
    corner, extent = mosaic.boxes[level].split(2, -1)
    # Places in the mosaic go from -1 to 1. The edges of all sizes lie on each other, whatever rounding did to them.
    unit = 2 / (tensor_of((mosaic.image.shape[-1], mosaic.image.shape[-2]), points) - 1).clamp_min(1)
    ratio = mosaic.ratios[level]
    centre = ((points[:, :, None] + 0.5) * ratio - 0.5 + mosaic.origins[level]) * unit - 1
    step = radii[:, None] * ratio * unit
    lowest, highest = corner * unit - 1, (corner + extent - 1) * unit - 1
    angles = torch.arange(config.size, device=points.device, dtype=points.dtype) * apart
    cos, sin = (scales[..., None] * orientations).split(1, -1)
    circle = torch.stack((cos * angles.cos() - sin * angles.sin(), sin * angles.cos() + cos * angles.sin()), -1)
    grid = torch.addcmul(centre[..., None, :], step[..., None, :], circle[:, :, None])
    grid = grid.clamp(lowest[..., None, :], highest[..., None, :])
    patches = F.grid_sample(mosaic.image, grid.flatten(1, 2).to(mosaic.image.dtype), align_corners=True)
    return patches.view(*points.shape[:2], config.rings, config.size)


def normalize_patches(patches: Float[Tensor, "N R S"], epsilon: float = 1e-2) -> Float[Tensor, "N R S"]:
    """Zero mean and unit deviation of each patch; `epsilon` keeps the noise of a flat patch small."""
    centred = patches - patches.mean((-2, -1), keepdim=True)
    deviation = centred.square().mean((-2, -1), keepdim=True).add(epsilon**2).sqrt()
    return centred / deviation
