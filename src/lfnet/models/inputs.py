"""Pictures as the network wants them: grey, normalised, resized to an octave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lfnet.errors import UserError
from lfnet.geometry.filters import gaussian_blur
from lfnet.geometry.resize import enlarge, pad_to_multiple, resize
from lfnet.geometry.sizes import exact, is_tracing, rounded
from lfnet.images import GREY_WEIGHTS, held_pixels, white_of_16_bits
from lfnet.masks import held_mask

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

BLANK = 1e-3
"""Deviation of grey values, in [0, 1], below which a picture counts as blank: a quarter of a level of 255."""


def normalize_pictures(
    images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]
) -> Float[Tensor, "B 1 H W"]:
    """Zero mean and unit deviation of each picture over its valid pixels, and 0 elsewhere; a blank one stays near 0."""
    weight = valid.to(images)
    count = weight.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = (images * weight).sum((-2, -1), keepdim=True) / count
    centred = (images - mean) * weight
    deviation = (centred.square().sum((-2, -1), keepdim=True) / count).sqrt()
    return centred / deviation.clamp_min(BLANK)


def everywhere(valid: Bool[Tensor, "B 1 H W"]) -> bool:
    """Whether all pixels are valid. An exported network takes pictures without a mask, so there they are."""
    return is_tracing() or bool(valid.all())


CONTRAST_BLOCK, CONTRAST_SIGMA = 4, 5.0
"""Side in pixels of the blocks that local contrast is made of, and the deviation of the Gaussian that weighs them."""


def local_contrast(
    normalized: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]
) -> Float[Tensor, "B 1 H W"]:
    """Deviation of the picture within a Gaussian window of `CONTRAST_SIGMA` px, where the whole one's is 1; at most 1.

    Args:
        normalized: pictures, by `normalize_pictures`.
        valid: pixels that count: the edge of a mask is no contrast.
    """
    height, width = normalized.shape[-2:]
    block = CONTRAST_BLOCK
    moments = [normalized, normalized.square()]
    if not everywhere(valid):
        moments.append(valid.to(normalized))
    padded = pad_to_multiple(torch.cat(moments, 1), block, "replicate")
    mean, square, *cover = gaussian_blur(F.avg_pool2d(padded, block), CONTRAST_SIGMA / block).split(1, 1)
    for share in cover:
        mean, square = mean / share.clamp_min(1e-3), square / share.clamp_min(1e-3)
    contrast = (square - mean.square()).clamp_min(0).sqrt().clamp_max(1)
    return enlarge(contrast, block)[..., :height, :width]


def is_blank(normalized: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]) -> Bool[Tensor, "B"]:
    """Which of the pictures that `normalize_pictures` made show nothing: they did not reach unit deviation."""
    energy = normalized.square().sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp_min(1)
    return energy < 0.9


def picture_tensor(
    image: Tensor | np.ndarray | Image.Image, mask: Tensor | np.ndarray | Image.Image | None
) -> tuple[Float[Tensor, "1 H W"], Bool[Tensor, "1 H W"]]:
    """Grey float picture in [0, 1], as `lfnet.images.to_grey` defines it, and its mask from what a user has.

    Raises:
        UserError: on another shape or type, on NaN or infinity, on a mask of another size.
    """
    if not isinstance(image, Tensor):
        pixels = held_pixels(image)
        image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if pixels.ndim == 3 else pixels)
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise UserError(f"image: expected (H, W), (H, W, 3) or (1 or 3, H, W), got shape {tuple(image.shape)}")
    if image.dtype == torch.uint8:
        grey = image.float() / 255
    elif image.dtype == torch.uint16:
        grey = image.float()
        grey = grey / white_of_16_bits(int(grey.max()))
    elif image.is_floating_point():
        grey = image.float()
    else:
        raise UserError(f"image: expected uint8, uint16 or floats in [0, 1], got {image.dtype}")
    if not bool(torch.isfinite(grey).all()):
        raise UserError("image: has NaN or infinite values; replace them, and hide those pixels with mask=")
    if grey.shape[0] == 3:
        grey = (grey * grey.new_tensor(GREY_WEIGHTS).view(3, 1, 1)).sum(0, keepdim=True)
    if mask is None:
        return grey, torch.ones_like(grey, dtype=torch.bool)
    held = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else mask
    usable = held_mask(held, (grey.shape[1], grey.shape[2]))
    return grey, torch.from_numpy(usable)[None].to(grey.device)


def resize_to_octave(
    images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"], octave: float
) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """Pictures and masks at `octave` times their size, antialiased, and the exact ratio (x, y) of the sizes."""
    if octave == 1:
        return images, valid, (1.0, 1.0)
    height, width = (exact(side) for side in images.shape[-2:])
    size = (rounded(height * octave), rounded(width * octave))
    ratio = (size[1] / width, size[0] / height)
    small = resize(images, size, antialias=octave < 1)
    if everywhere(valid):
        return small, valid.new_ones(valid.shape[0], 1, *size), ratio
    return small, resize(valid.float(), size, antialias=octave < 1) > 0.999, ratio


def pictures_by_size(
    images: Any, masks: Any, device: torch.device
) -> Iterator[tuple[list[int], Float[Tensor, "B 1 H W"], Bool[Tensor, "B 1 H W"]]]:
    """Batches of pictures of one size: which of the pictures these are, they as grey tensors, and where they are valid.

    Args:
        images: one picture or several, in any of the ways that `LFNet.extract` takes.
        masks: one per picture, or None.
        device: where the batches are put.

    Raises:
        UserError: on a picture or mask that can't be one.
    """
    pictures = _split(images)
    each_mask: Sequence[Any] = [None] * len(pictures) if masks is None else _split_masks(masks, len(pictures))
    if len(each_mask) != len(pictures):
        raise UserError(f"mask: expected one per picture ({len(pictures)}), got {len(each_mask)}")
    prepared = [picture_tensor(picture, mask) for picture, mask in zip(pictures, each_mask, strict=True)]
    groups: dict[torch.Size, list[int]] = defaultdict(list)
    for index, (picture, _) in enumerate(prepared):
        groups[picture.shape].append(index)
    for members in groups.values():
        grey, valid = (torch.stack([prepared[index][part].to(device) for index in members]) for part in (0, 1))
        yield members, grey, valid


def check_places(
    keypoints: Any, scales: Any, orientations: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints (N, 2), scales (N,) and orientations (N,) as arrays; scales are 1 and orientations 0 where None.

    Raises:
        UserError: on other shapes, NaN, infinity, or a scale that is not above 0.
    """
    keypoints = np.asarray(keypoints, np.float32)
    keypoints = keypoints.reshape(-1, 2) if keypoints.size == 0 else keypoints
    count = len(keypoints)
    scales = np.ones(count, np.float32) if scales is None else np.asarray(scales, np.float32)
    orientations = np.zeros(count, np.float32) if orientations is None else np.asarray(orientations, np.float32)
    if not (keypoints.shape == (count, 2) and scales.shape == orientations.shape == (count,)):
        raise UserError(
            "describe: expected keypoints (N, 2), scales (N,) and orientations (N,), got "
            f"{keypoints.shape}, {scales.shape} and {orientations.shape}"
        )
    for name, values in (("keypoints", keypoints), ("scales", scales), ("orientations", orientations)):
        if not np.isfinite(values).all():
            raise UserError(f"describe: {name} has NaN or infinite values; leave those keypoints out")
    if (scales <= 0).any():
        raise UserError(f"describe: expected scales above 0, got {scales.min():g}")
    return keypoints, scales, orientations


def _split(images: Any) -> list[Any]:
    """Two or three axes are one image, whatever their lengths; four are several."""
    if isinstance(images, (Tensor, np.ndarray)):
        if images.ndim == 3 and not (_is_colour_tensor(images) if isinstance(images, Tensor) else _is_colour(images)):
            raise UserError(
                f"images: three axes are one image, an array (H, W, 1 or 3) or a tensor (1 or 3, H, W), got "
                f"{tuple(images.shape)}; give several as a list, or with four axes: a tensor (B, C, H, W)"
            )
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, (str, bytes, Image.Image)) or not isinstance(images, Iterable):
        return [images]
    return list(images)


def _split_masks(masks: Any, count: int) -> list[Any]:
    """Masks have no colours: the first of three axes counts images, where there are several."""
    is_array = isinstance(masks, (Tensor, np.ndarray))
    if isinstance(masks, Image.Image) or (is_array and (masks.ndim == 2 or (masks.ndim == 3 and count == 1))):
        return [masks]
    return list(masks)


def _is_colour(image: np.ndarray) -> bool:
    return image.shape[-1] in (1, 3)


def _is_colour_tensor(image: Tensor) -> bool:
    return image.shape[0] in (1, 3)
