"""Score maps over scales, their differentiable non-maximum suppression, and the merge into one map.

Source: LF-Net section 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.models.config import ScaleSpaceConfig

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


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
    ) -> tuple[Float[Tensor, "B 1 H W"], Float[Tensor, "B 1 H W"]]:
        """Score map in [0, 1] and scale map, both of the size of `valid`.

        Args:
            features: of stride x stride pixels each.
            fine: what is added to the score map of every scale; None for nothing. It may reach beyond the picture.
            valid: pixels that show the picture.
        """
        height, width = valid.shape[-2:]
        scales = self.config.values()
        maps = torch.cat([self._score_map(features, index, scale) for index, scale in enumerate(scales)], 1)
        config = self.config
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps[..., :height, :width].float()
            if fine is not None:
                maps = maps + fine[..., :height, :width].float()
            if config.normalize:
                maps = normalize_maps(maps, valid)
            competing = window_softmax(maps, valid, config.window, config.window_strength, config.window_step)
            return merge_scales(competing, scales, config.scale_strength)

    def _score_map(self, features: Float[Tensor, "B C h w"], index: int, scale: float) -> Tensor:
        height, width = features.shape[-2:]
        small = (max(1, round(height / scale)), max(1, round(width / scale)))
        scores = self.score_convs[index](_resize(features, small))
        return _resize(F.pixel_shuffle(scores, self.stride), (height * self.stride, width * self.stride))


def _resize(maps: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def normalize_maps(
    maps: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B 1 H W"], epsilon: float = 1e-5
) -> Float[Tensor, "B C H W"]:
    """Zero mean and unit deviation of each map over its valid pixels."""
    weight = valid.to(maps)
    count = weight.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = (maps * weight).sum((-2, -1), keepdim=True) / count
    centred = maps - mean
    variance = (centred.square() * weight).sum((-2, -1), keepdim=True) / count
    return centred * (variance + epsilon).rsqrt()


def window_softmax(
    maps: Float[Tensor, "B N H W"], valid: Bool[Tensor, "B 1 H W"], window: int, strength: float, step: int = 1
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
    """
    peak = maps.detach().masked_fill(~valid, -torch.inf).amax((1, 2, 3), keepdim=True)
    peak = torch.where(torch.isfinite(peak), peak, torch.zeros_like(peak))
    powers = torch.exp((strength * (maps - peak)).clamp(-80, 0)) * valid
    total = powers.sum(1, keepdim=True)
    height, width = total.shape[-2:]
    if step > 1:
        total = F.avg_pool2d(F.pad(total, (0, -width % step, 0, -height % step)), step) * step**2
    side = window // step
    radius = side // 2
    total = F.avg_pool2d(total, (1, side), 1, (0, radius)) * side
    total = F.avg_pool2d(total, (side, 1), 1, (radius, 0)) * side
    if step > 1:
        total = F.interpolate(total, scale_factor=step, mode="bilinear", align_corners=False)[..., :height, :width]
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
