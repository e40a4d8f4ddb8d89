"""Score maps over scales, their differentiable non-maximum suppression, and the merge into one map.

Source: LF-Net section 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.geometry.resize import enlarge, pad_to_multiple, resize
from lfnet.geometry.sizes import exact, rounded
from lfnet.models.config import ScaleSpaceConfig
from lfnet.models.windows import Window, resize_part

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class MapStatistics(NamedTuple):
    """What is known of the score maps of a whole picture where a part of it is worked on."""

    mean: Float[Tensor, "B N 1 1"]
    """Of each map over its valid pixels."""
    variance: Float[Tensor, "B N 1 1"]
    peak: Float[Tensor, "B 1 1 1"]
    """The largest value over all maps, once they are normalised."""


class Part(NamedTuple):
    """A part of a picture that is worked on by itself, as the whole would be."""

    window: Window
    """Where it lies, in pixels; its start is a multiple of `lfnet.models.tiles.alignment`."""
    statistics: MapStatistics | None
    """Of the whole picture; None where score maps are taken as they are."""


class ScaleSpace(nn.Module):
    """One score map per scale, made to compete, merged into a score map and a scale map.

    Args:
        channels: of the feature map.
        stride: pixels of the picture per pixel of the feature map. Above 1, each convolution gives the stride x stride
            scores within a feature pixel, so that a map of half resolution still tells one pixel from the next (Shi et
            al., "Real-time single image and video super-resolution", 2016, section 3.2).
    """

    def __init__(self, channels: int, stride: int, config: ScaleSpaceConfig) -> None:
        super().__init__()
        self.config = config
        self.stride = stride
        size = config.kernel_size
        self.score_convs = nn.ModuleList(
            nn.Conv2d(channels, stride**2, size, padding=size // 2) for _ in config.values()
        )

    def forward(
        self,
        features: Float[Tensor, "B C h w"],
        fine: Float[Tensor, "B 1 fH fW"] | None,
        valid: Bool[Tensor, "B 1 H W"],
        part: Part | None = None,
    ) -> tuple[Float[Tensor, "B 1 H W"], Float[Tensor, "B 1 H W"]]:
        """Score map in [0, 1] and scale map, both of the size of `valid`.

        Args:
            features: of stride x stride pixels each.
            fine: what is added to the score map of every scale; None for nothing. It may reach beyond the picture.
            valid: pixels that show the picture.
            part: which part of a picture this is; None for a whole one.
        """
        config = self.config
        maps = self.maps(features, fine, valid, part.window if part else None)
        with torch.autocast(maps.device.type, enabled=False):
            known = part.statistics if part else None
            if known is not None:
                maps = (maps - known.mean) * (known.variance + EPSILON).rsqrt()
            elif config.normalize:
                maps = normalize_maps(maps, valid)
            peak = known.peak if known else None
            competing = window_softmax(maps, valid, config.window, config.window_strength, config.window_step, peak)
            return merge_scales(competing, config.values(), config.scale_strength)

    def maps(
        self,
        features: Float[Tensor, "B C h w"],
        fine: Float[Tensor, "B 1 fH fW"] | None,
        valid: Bool[Tensor, "B 1 H W"],
        window: Window | None = None,
    ) -> Float[Tensor, "B N H W"]:
        """The score map of each scale, before they are normalised and compete; arguments as of `forward`."""
        height, width = valid.shape[-2:]
        scales = enumerate(self.config.values())
        maps = torch.cat([self._score_map(features, index, scale, window) for index, scale in scales], 1)
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps[..., :height, :width].float()
            return maps if fine is None else maps + fine[..., :height, :width].float()

    def _score_map(self, features: Float[Tensor, "B C h w"], index: int, scale: float, window: Window | None) -> Tensor:
        stride, convolution = self.stride, self.score_convs[index]
        if scale == 1:
            return F.pixel_shuffle(convolution(features), stride)
        if window is not None:
            return self._score_map_of_part(features, index, scale, window)
        height, width = features.shape[-2:]
        small = (rounded(exact(height) / scale), rounded(exact(width) / scale))
        scores = F.pixel_shuffle(convolution(resize(features, small)), stride)
        return resize(scores, (height * stride, width * stride))

    def _score_map_of_part(
        self, features: Float[Tensor, "B C h w"], index: int, scale: float, window: Window
    ) -> Tensor:
        """The same, resized as the features of the whole picture are, of which `window` has these."""
        stride = self.stride
        height, width = (max(1, round(axis.whole / scale)) for axis in window)
        small = window.resized((height, width))
        scores = self.score_convs[index](resize_part(features, window, small))
        return resize_part(F.pixel_shuffle(scores, stride), small.times(stride), window.times(stride))


EPSILON = 1e-5
"""Added to the variance of score maps, so that a flat one stays flat."""


def normalize_maps(
    maps: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B 1 H W"], epsilon: float = EPSILON
) -> Float[Tensor, "B C H W"]:
    """Zero mean and unit deviation of each map over its valid pixels."""
    weight = valid.to(maps)
    count = weight.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = (maps * weight).sum((-2, -1), keepdim=True) / count
    centred = maps - mean
    variance = (centred.square() * weight).sum((-2, -1), keepdim=True) / count
    return centred * (variance + epsilon).rsqrt()


def window_softmax(
    maps: Float[Tensor, "B N H W"],
    valid: Bool[Tensor, "B 1 H W"],
    window: int,
    strength: float,
    step: int = 1,
    peak: Float[Tensor, "B 1 1 1"] | None = None,
) -> Float[Tensor, "B N H W"]:
    """Softmax of each value among all scales within `window` x `window` pixels; 0 outside the valid pixels.

    The sum over the window is separable, so no windowed maximum is needed: the largest value of the picture is taken
    out of the exponent instead, and the exponent is held above -80, where float32 still resolves it.

    Args:
        maps: score maps, of any height.
        valid: pixels that show the picture.
        window: px, an odd number of `step`s.
        strength: of the softmax.
        step: the window moves in blocks of this side, px; its sum is interpolated between their centres.
        peak: the largest value of the picture, where these are maps of a part of it; None: of these maps.
    """
    if peak is None:
        peak = maps.detach().masked_fill(~valid, -torch.inf).amax((1, 2, 3), keepdim=True)
    peak = torch.where(torch.isfinite(peak), peak, 0.0)
    powers = torch.exp((strength * (maps - peak)).clamp(-80, 0)) * valid
    total = powers.sum(1, keepdim=True)
    height, width = total.shape[-2:]
    if step > 1:
        total = F.avg_pool2d(pad_to_multiple(total, step, "constant"), step) * step**2
    side = window // step
    radius = side // 2
    total = F.avg_pool2d(total, (1, side), 1, (0, radius)) * side
    total = F.avg_pool2d(total, (side, 1), 1, (radius, 0)) * side
    if step > 1:
        total = enlarge(total, step)[..., :height, :width]
    return powers / total.clamp_min(1e-37)


def merge_scales(
    maps: Float[Tensor, "B N H W"], scales: list[float], strength: float
) -> tuple[Float[Tensor, "B 1 H W"], Float[Tensor, "B 1 H W"]]:
    """Softmax over scales merges the maps into one, and the scales (in log) into a scale map."""
    if len(scales) == 1:
        return maps, torch.full_like(maps, scales[0])
    weights = torch.softmax(strength * maps, 1)
    logs = torch.log(maps.new_tensor(scales)).view(1, -1, 1, 1)
    return (weights * maps).sum(1, keepdim=True), torch.exp((weights * logs).sum(1, keepdim=True))
