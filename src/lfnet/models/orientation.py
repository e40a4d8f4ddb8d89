"""Orientations: the paper's regression head, a field that turns with the picture, and angles read off patches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.geometry.filters import gaussian_blur, gradients, grow
from lfnet.geometry.resize import enlarge
from lfnet.models.config import OrientationConfig
from lfnet.models.layers import conv_norm, wrapped

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def _unit(vectors: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B 2 H W"]:
    # Where there is no direction at all the angle is 0, not undefined.
    vectors = vectors + vectors.new_tensor((1e-6, 0.0)).view(1, 2, 1, 1)
    return vectors * _squared_length(vectors).clamp_min(1e-24).rsqrt()


def _squared_length(vectors: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B 1 H W"]:
    # Of two channels: `Tensor.norm` along a short dimension of large strides is a hundred times slower on a CPU.
    return vectors.square().sum(1, keepdim=True)


def _to_pixels(
    maps: Float[Tensor, "B C h w"], stride: int, images: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, "B C H W"]:
    """Maps over features, resized to the stride x stride pixels that each covers, cut to the picture."""
    height, width = images.shape[-2:]
    if stride > 1:
        maps = enlarge(maps, stride)
    return maps[..., :height, :width]


class OrientationHead(nn.Module):
    """A 5x5 convolution gives (cos, sin), normalised; it starts at angle 0 everywhere (LF-Net section 3.1)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, 2, 5, padding=2)
        nn.init.normal_(self.conv.weight, std=1e-3)
        with torch.no_grad():
            assert self.conv.bias is not None
            self.conv.bias.copy_(torch.tensor([1.0, 0.0]))

    def forward(
        self, features: Float[Tensor, "B C h w"], images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]
    ) -> Float[Tensor, "B 2 H W"]:
        """(cos, sin) of every pixel."""
        return _unit(_to_pixels(self.conv(features).float(), self.stride, images))


class GradientOrientation(nn.Module):
    """Image gradients, weighted by a learned non-negative map, summed over a Gaussian window.

    Turning the picture turns every gradient by the same angle, so the field is covariant as far as the learned map is
    invariant: it need not learn what an angle is.
    """

    def __init__(self, channels: int, stride: int, config: OrientationConfig) -> None:
        super().__init__()
        self.config = config
        self.stride = stride
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
            weights = _to_pixels(F.softplus(weights.float()), self.stride, images)
            field = gradients(images)
            if self.config.compression != 1:
                field = field * (_squared_length(field).sqrt() + 1e-4) ** (self.config.compression - 1)
            # Gradients that touch invalid pixels are edges of the mask, not of the scene.
            inside = ~grow(~valid, 3)
            return _unit(gaussian_blur(field * weights * inside, self.config.window_sigma))


class AngleScores(nn.Module):
    """Scores every angle of features over rings and angles, looking at the angle itself and at its two neighbours.

    Turning the picture shifts the features along their angles, and the scores with them. So only which angle wins is
    learned, never what an angle is.
    """

    def __init__(self, channels: int, rings: int) -> None:
        super().__init__()
        self.score = nn.Linear(channels * rings, 3, bias=False)

    def forward(self, features: Float[Tensor, "N C R A"]) -> Float[Tensor, "N A"]:
        """Scores, as logits, of the angles 2 pi a / A."""
        # All rings at once: a convolution as high as they are, with an output for each of the three angles.
        kernels = self.score.weight.unflatten(1, (features.shape[1], -1))[..., None].to(features.dtype)
        before, here, after = F.conv2d(features, kernels).squeeze(2).float().unbind(1)
        return here + before.roll(1, -1) + after.roll(-1, -1)


class AngleNetwork(nn.Module):
    """Scores every angle as `AngleScores` does, by a small network that also sees its neighbours four angles away."""

    def __init__(self, channels: int, rings: int, hidden: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, hidden, (rings, 3))
        self.look = nn.Conv2d(hidden, hidden, (1, 3), dilation=(1, 2))
        self.norms = nn.ModuleList([nn.BatchNorm2d(hidden), nn.BatchNorm2d(hidden)])
        self.score = nn.Conv2d(hidden, 1, (1, 3))

    def forward(self, features: Float[Tensor, "N C R A"]) -> Float[Tensor, "N A"]:
        """Scores, as logits, of the angles 2 pi a / A."""
        entered, looked = self.norms
        assert isinstance(entered, nn.BatchNorm2d)
        assert isinstance(looked, nn.BatchNorm2d)
        seen = F.relu(conv_norm(self.enter, entered, wrapped(features)), inplace=True)
        seen = seen + F.relu(conv_norm(self.look, looked, wrapped(seen, 2, 2)), inplace=True)
        return self.score(wrapped(seen)).float()[:, 0, 0]


def best_angles(logits: Float[Tensor, "*B A"]) -> Float[Tensor, "*B 2"]:
    """(cos, sin) of the angle of highest score, refined by a parabola through its neighbours; a constant."""
    logits = logits.detach()
    bins = logits.shape[-1]
    best = logits.argmax(-1, keepdim=True)
    before, here, after = (logits.gather(-1, (best + step) % bins) for step in (-1, 0, 1))
    bend = (2 * here - before - after).clamp_min(1e-6)
    offset = (0.5 * (after - before) / bend).clamp(-0.5, 0.5)
    angle = (2 * math.pi / bins) * (best + offset)
    return torch.cat((angle.cos(), angle.sin()), -1)


def surest(logits: Float[Tensor, "*B A"]) -> Float[Tensor, "*B"]:
    """The chance of the angle of highest score and of the two beside it, between which it lies."""
    chances = torch.softmax(logits.detach(), -1)
    best = chances.argmax(-1, keepdim=True)
    near = (best + torch.arange(-1, 2, device=logits.device)) % logits.shape[-1]
    return chances.gather(-1, near).sum(-1)


def angle_weights(orientations: Float[Tensor, "N 2"], bins: int) -> Float[Tensor, "N A"]:
    """How much of each of A angles is read for an orientation (cos, sin): by cubic convolution (Keys, 1981)."""
    position = torch.atan2(orientations[:, 1], orientations[:, 0]) * (bins / (2 * math.pi))
    whole = position.floor()
    near, step = (position - whole)[:, None], torch.arange(-1, 3, device=orientations.device)
    weights = _cubic((near - step).abs())
    columns = (whole.long()[:, None] + step) % bins
    return torch.zeros_like(weights[:, :1]).expand(-1, bins).scatter(1, columns, weights)


def _cubic(distance: Tensor) -> Tensor:
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
