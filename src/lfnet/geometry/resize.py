"""Maps at another size, and maps that are as large as a multiple of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.geometry.sizes import is_tracing

if TYPE_CHECKING:
    from jaxtyping import Float


def resize(maps: Float[Tensor, "B C h w"], size: tuple[Any, Any], antialias: bool = False) -> Float[Tensor, "B C H W"]:
    """Interpolate maps to (height, width), linearly between the centres of pixels.

    Args:
        maps: of any size.
        size: wanted.
        antialias: a smaller map sees all pixels that it covers.
    """
    if is_tracing() and antialias:
        rows, columns = (_weights(maps.shape[axis], size[axis], maps) for axis in (-2, -1))
        return rows @ maps @ columns.T
    if not is_tracing() and tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=antialias)


def _weights(old: Any, new: Any, like: Tensor) -> Float[Tensor, "new old"]:
    """What each pixel takes of those before, antialiased; ONNX has no operator for it that PyTorch exports."""
    step = old.to(like) / new.to(like)
    centres = (torch.arange(new, device=like.device).to(like) + 0.5) * step
    places = torch.arange(old, device=like.device).to(like) + 0.5
    weights = (1 - (places - centres[:, None]).abs() / step.clamp_min(1)).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)


def enlarge(maps: Float[Tensor, "B C h w"], factor: int) -> Float[Tensor, "B C H W"]:
    """Maps at a whole number of times their size, interpolated linearly between the centres of pixels."""
    height, width = maps.shape[-2:]
    return resize(maps, (height * factor, width * factor))


def pad_to_multiple(
    maps: Float[Tensor, "B C h w"], step: int, mode: Literal["constant", "replicate"]
) -> Float[Tensor, "B C H W"]:
    """Maps with rows and columns added at the bottom and the right, so that both sides are multiples of `step`."""
    height, width = maps.shape[-2:]
    below, beside = -height % step, -width % step
    if not is_tracing() and below == beside == 0:
        return maps
    return F.pad(maps, (0, beside, 0, below), mode=mode)
