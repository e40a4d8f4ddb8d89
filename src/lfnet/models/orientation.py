"""The orientation of every pixel: the paper's regression head, and a field that turns with the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.geometry.filters import gaussian_blur, gradients
from lfnet.models.config import OrientationConfig

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def _unit(vectors: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B 2 H W"]:
    # Where there is no direction at all the angle is 0, not undefined.
    towards_x = torch.zeros_like(vectors)
    towards_x[:, 0] = 1e-6
    return F.normalize(vectors + towards_x, dim=1, eps=1e-12)


class OrientationHead(nn.Module):
    """A 5x5 convolution gives (cos, sin), normalised; it starts at angle 0 everywhere (LF-Net section 3.1)."""

    def __init__(self, channels: int, config: OrientationConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 5, padding=2)
        nn.init.normal_(self.conv.weight, std=1e-3)
        with torch.no_grad():
            assert self.conv.bias is not None
            self.conv.bias.copy_(torch.tensor([1.0, 0.0]))

    def forward(
        self, features: Float[Tensor, "B C h w"], images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]
    ) -> Float[Tensor, "B 2 H W"]:
        """(cos, sin) of every pixel."""
        vectors = self.conv(features).float()
        if vectors.shape[-2:] != images.shape[-2:]:
            vectors = F.interpolate(vectors, images.shape[-2:], mode="bilinear", align_corners=False)
        return _unit(vectors)


class GradientOrientation(nn.Module):
    """Image gradients, magnitude compressed, weighted by a learned non-negative map, summed over a Gaussian window.

    Turning the picture turns every gradient by the same angle, so the field is covariant as far as the learned map is
    invariant: it need not learn what an angle is.
    """

    def __init__(self, channels: int, config: OrientationConfig) -> None:
        super().__init__()
        self.config = config
        self.weight_conv = nn.Conv2d(channels, 1, 5, padding=2)
        nn.init.zeros_(self.weight_conv.weight)
        assert self.weight_conv.bias is not None
        nn.init.zeros_(self.weight_conv.bias)

    def forward(
        self, features: Float[Tensor, "B C h w"], images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]
    ) -> Float[Tensor, "B 2 H W"]:
        """(cos, sin) of every pixel."""
        weights = self.weight_conv(features)
        with torch.autocast(images.device.type, enabled=False):
            weights = F.softplus(weights.float())
            if weights.shape[-2:] != images.shape[-2:]:
                weights = F.interpolate(weights, images.shape[-2:], mode="bilinear", align_corners=False)
            field = gradients(images)
            length = field.norm(dim=1, keepdim=True)
            field = field * (length + 1e-4) ** (self.config.compression - 1)
            # Gradients that touch invalid pixels are edges of the mask, not of the scene.
            inside = -F.max_pool2d(-valid.to(images), 7, 1, 3)
            return _unit(gaussian_blur(field * weights * inside, self.config.window_sigma))
