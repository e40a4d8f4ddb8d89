"""The detector: features, scale-space score map, scale map and orientation map, fully convolutional.

Source: LF-Net section 3.1; pre-activation residual blocks after He et al., "Identity mappings" (2016).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.geometry.filters import DERIVATIVE_CHANNELS, derivative_stack
from lfnet.models.config import DetectorConfig, LFNetConfig
from lfnet.models.orientation import GradientOrientation, OrientationHead
from lfnet.models.scale_space import ScaleSpace

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class DetectorMaps(NamedTuple):
    """What the detector says of every pixel."""

    scores: Float[Tensor, "B 1 H W"]
    """In [0, 1]; 0 outside the valid pixels."""
    scales: Float[Tensor, "B 1 H W"]
    """Between 1/R and R."""
    orientations: Float[Tensor, "B 2 H W"]
    """(cos, sin), unit length."""


class ResidualBlock(nn.Module):
    """Pre-activation block: twice batch norm, leaky ReLU, convolution, added to the input."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels, size = config.channels, config.kernel_size
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, size, padding=size // 2)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, size, padding=size // 2)
        self.slope = config.leaky_slope

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Add the block's residual to the features."""
        residual = self.conv1(F.leaky_relu(self.norm1(features), self.slope))
        residual = self.conv2(F.leaky_relu(self.norm2(residual), self.slope))
        return features + residual


class Detector(nn.Module):
    """From normalised pictures to score, scale and orientation maps of the same size."""

    def __init__(self, config: LFNetConfig) -> None:
        super().__init__()
        self.config = config.detector
        channels, size = self.config.channels, self.config.kernel_size
        inputs = 1 + (DERIVATIVE_CHANNELS if self.config.derivatives else 0)
        # With stride 2 an even kernel lies symmetrically about the 2 x 2 pixels of its feature.
        stride = self.config.stride
        self.stem = nn.Conv2d(inputs, channels, size + stride - 1, stride=stride, padding=size // 2)
        self.blocks = nn.Sequential(*(ResidualBlock(self.config) for _ in range(self.config.blocks)))
        self.norm = nn.BatchNorm2d(channels)
        self.scale_space = ScaleSpace(channels, stride, config.scale_space)
        orientation = GradientOrientation if config.orientation.mode == "gradient" else OrientationHead
        self.orientation = orientation(channels, config.orientation)

    def forward(self, images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]) -> DetectorMaps:
        """Detect.

        Args:
            images: grey, normalised to zero mean and unit deviation over the valid pixels, 0 elsewhere.
            valid: pixels that show the picture.
        """
        features = self.features(images)
        size = (images.shape[-2], images.shape[-1])
        scores, scales = self.scale_space(features, valid, size)
        return DetectorMaps(scores, scales, self.orientation(features, images, valid))

    def features(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B C h w"]:
        """Feature map at the resolution of the picture, or half of it, rounded up, with stride 2."""
        inputs = images
        if self.config.derivatives:
            # Products of small derivatives need float32, in training under autocast as in use.
            with torch.autocast(images.device.type, enabled=False):
                inputs = torch.cat((images, derivative_stack(images)), 1)
        height, width = images.shape[-2:]
        stride = self.config.stride
        if height % stride or width % stride:
            inputs = F.pad(inputs, (0, -width % stride, 0, -height % stride), mode="replicate")
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        features = self.blocks(self.stem(inputs))
        return F.leaky_relu(self.norm(features), self.config.leaky_slope)
