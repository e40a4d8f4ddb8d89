"""The detector: features, scale-space score map, scale map and orientation map, fully convolutional.

Source: LF-Net section 3.1; pre-activation residual blocks after He et al., "Identity mappings" (2016).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.geometry.filters import DERIVATIVE_CHANNELS, derivative_stack
from lfnet.geometry.resize import enlarge, pad_to_multiple
from lfnet.models.config import DetectorConfig, LFNetConfig
from lfnet.models.layers import conv_norm, convolve
from lfnet.models.orientation import GradientOrientation, OrientationHead
from lfnet.models.scale_space import Part, ScaleSpace
from lfnet.models.windows import Stretch, Window

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class DetectorMaps(NamedTuple):
    """What the detector says of every pixel."""

    scores: Float[Tensor, "B 1 H W"]
    """In [0, 1]; 0 outside the valid pixels."""
    scales: Float[Tensor, "B 1 H W"]
    """Between 1/R and R."""
    orientations: Float[Tensor, "B 2 H W"] | None
    """(cos, sin), unit length; None where orientations are read off patches."""


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
        residual = conv_norm(self.conv1, self.norm2, F.leaky_relu(self.norm1(features), self.slope, inplace=True))
        return features + self.conv2(F.leaky_relu(residual, self.slope, inplace=True))


class Context(nn.Module):
    """Residual blocks at half the resolution, whose outcome is added to the features at theirs."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels, size = config.channels, config.kernel_size
        self.narrow = nn.Conv2d(channels, channels, size + 1, stride=2, padding=size // 2)
        self.blocks = nn.Sequential(*(ResidualBlock(config) for _ in range(config.context)))

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Add what is seen around to the features; H and W are even."""
        seen = self.blocks(self.narrow(features))
        return features + enlarge(seen, 2)


class Detector(nn.Module):
    """From normalised pictures to score, scale and orientation maps of the same size."""

    def __init__(self, config: LFNetConfig) -> None:
        super().__init__()
        self.config = config.detector
        channels, size = self.config.channels, self.config.kernel_size
        inputs = 1 + (DERIVATIVE_CHANNELS if self.config.derivatives else 0)
        # With stride 2 an even kernel lies symmetrically about the 2 x 2 pixels of its feature.
        stride = self.config.stride
        self.fine = None
        if stride == 4:
            between = self.config.stem_channels
            self.stem = nn.Conv2d(inputs, between, size + 1, stride=2, padding=size // 2)
            self.narrow = nn.Conv2d(between, channels, size + 1, stride=2, padding=size // 2)
            self.fine = nn.Conv2d(between, 4, size, padding=size // 2)
        else:
            self.stem = nn.Conv2d(inputs, channels, size + stride - 1, stride=stride, padding=size // 2)
        self.context = Context(self.config) if self.config.context > 0 else None
        self.blocks = nn.Sequential(*(ResidualBlock(self.config) for _ in range(self.config.blocks)))
        self.norm = nn.BatchNorm2d(channels)
        self.scale_space = ScaleSpace(channels, stride, config.scale_space)
        self.orientation: OrientationHead | GradientOrientation | None = None
        if config.orientation.mode == "gradient":
            self.orientation = GradientOrientation(channels, stride, config.orientation)
        elif config.orientation.mode == "head":
            self.orientation = OrientationHead(channels, stride)

    def forward(
        self, images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"], part: Part | None = None
    ) -> DetectorMaps:
        """Detect.

        Args:
            images: grey, normalised to zero mean and unit deviation over the valid pixels, 0 elsewhere.
            valid: pixels that show the picture.
            part: which part of a picture these are; None for whole ones.
        """
        features, fine = self.features(images)
        within = part and part._replace(window=self._of_features(part.window))
        scores, scales = self.scale_space(features, fine, valid, within)
        if self.orientation is None:
            return DetectorMaps(scores, scales, None)
        return DetectorMaps(scores, scales, self.orientation(features, images, valid))

    def score_maps(
        self, images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"], window: Window
    ) -> Float[Tensor, "B N H W"]:
        """Score maps of the part of a picture in `window`, before they are normalised and compete."""
        features, fine = self.features(images)
        return self.scale_space.maps(features, fine, valid, self._of_features(window))

    def _of_features(self, window: Window) -> Window:
        """A window of pixels in features, those included that fill up the picture's last block."""
        block = self.block
        filled = (axis._replace(stop=-(-axis.stop // block), whole=-(-axis.whole // block)) for axis in window)
        step = block // self.config.stride
        return Window(*(Stretch(axis.start // block, axis.stop, axis.whole) for axis in filled)).times(step)

    @property
    def block(self) -> int:
        """Side in pixels of what one pixel of the smallest maps stands for."""
        return self.config.stride * (1 if self.context is None else 2)

    def features(
        self, images: Float[Tensor, "B 1 H W"]
    ) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B 1 fH fW"] | None]:
        """Feature map at the resolution of the picture over `stride`, rounded up, and fine scores with stride 4."""
        inputs = images
        if self.config.derivatives:
            # Products of small derivatives need float32, in training under autocast as in use.
            with torch.autocast(images.device.type, enabled=False):
                inputs = torch.cat((images, derivative_stack(images)), 1)
        inputs = pad_to_multiple(inputs, self.block, "replicate")
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        stem = self.stem
        features = stem(inputs) if self.training else convolve(inputs, stem.weight, stem.bias, stem)
        fine = None
        if self.fine is not None:
            features = F.leaky_relu(features, self.config.leaky_slope, inplace=True)
            fine = F.pixel_shuffle(self.fine(features), 2)
            features = self.narrow(features)
        if self.context is not None:
            features = self.context(features)
        features = self.blocks(features)
        return F.leaky_relu(self.norm(features), self.config.leaky_slope, inplace=True), fine
