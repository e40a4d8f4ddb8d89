"""Random changes of view and light, each drawn from a generator that is passed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lfnet.data.pair import Pair, View
from lfnet.geometry.filters import gaussian_blur
from lfnet.settings import ConfigError, require_at_least

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class GeometricConfig:
    """How crops are turned and zoomed."""

    rotation: float = 180.0
    """Largest in-plane turn of each view, degrees either way."""
    zoom: float = math.sqrt(2.0)
    """Largest zoom of one view against the other (paper: the reach of the scales, sqrt 2)."""
    resolution: tuple[float, float] = (0.7, 1.2)
    """Range of the zoom common to both views: pixels of the crop per pixel of the source."""
    upright_share: float = 0.0
    """Share of pairs left unturned (of rendered scenes, none)."""
    perspective: float = 0.35
    """Homographies: largest move of a corner, as a share of half the side; from 1 on, corners could change places."""

    def __post_init__(self) -> None:
        require_at_least(self, "data.geometry", {"rotation": 0, "zoom": 1})
        if not 0 < self.resolution[0] <= self.resolution[1]:
            raise ConfigError(f"data.geometry.resolution: expected [low, high] above 0, got {self.resolution}")
        if not (0 <= self.upright_share <= 1 and 0 <= self.perspective < 1):
            raise ConfigError(
                "data.geometry: expected upright_share in [0, 1] and perspective in [0, 1), "
                f"got {self.upright_share}, {self.perspective}"
            )


@dataclass(frozen=True)
class PhotometricConfig:
    """How light and sensor are varied; each change is drawn for each view alone (the paper has none)."""

    enabled: bool = True
    """False gives the paper's training."""
    gain: float = 0.3
    """Largest change of contrast, as a share."""
    bias: float = 0.15
    """Largest change of brightness, in [0, 1]."""
    gamma: float = 0.4
    """Largest change of the logarithm of gamma."""
    blur: float = 1.0
    """Largest deviation of a Gaussian blur, px."""
    noise: float = 0.01
    """Largest deviation of the noise, in [0, 1]."""
    jpeg: float = 0.3
    """Share of views that pass a coarse block transform, as JPEG has it."""
    shadow: float = 0.3
    """Share of views with a soft-edged shadow."""
    tone: float = 0.0
    """Deviation of the logarithm of the slopes of a random rising tone curve: day and night, another sensor."""
    relight: float = 0.0
    """Deviation of the logarithm of a smooth random change of brightness over the view."""
    inverted: float = 0.0
    """Share of views turned into their negative: what is bright in one spectrum can be dark in another."""

    def __post_init__(self) -> None:
        names = ("gain", "bias", "gamma", "blur", "noise", "jpeg", "shadow", "tone", "relight", "inverted")
        require_at_least(self, "data.photometric", dict.fromkeys(names, 0))


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number between `low` and `high`."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def log_uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number between `low` and `high`, spread evenly in log."""
    return math.exp(uniform(generator, math.log(low), math.log(high)))


def random_angle(generator: torch.Generator, config: GeometricConfig) -> float:
    """An in-plane turn in radians."""
    return math.radians(uniform(generator, -config.rotation, config.rotation))


def random_homography(
    generator: torch.Generator, centre: Float[Tensor, "2"], half: float, strength: float
) -> Float[Tensor, "1 3 3"]:
    """A homography that moves each corner of the square of half-side `half` px about `centre` by up to `strength`."""
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    moved = corners + strength * (2 * torch.rand(4, 2, generator=generator).double() - 1)
    unit = homography_from_corners(corners, moved)
    place = torch.tensor(
        [[half, 0.0, float(centre[0])], [0.0, half, float(centre[1])], [0.0, 0.0, 1.0]], dtype=torch.float64
    )
    return (place @ unit @ torch.linalg.inv(place)).float()[None]


def homography_from_corners(source: Float[Tensor, "4 2"], target: Float[Tensor, "4 2"]) -> Float[Tensor, "3 3"]:
    """The homography through four correspondences, solved exactly."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source.tolist(), target.tolist(), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    solution = torch.linalg.solve(torch.tensor(rows, dtype=source.dtype), torch.tensor(right, dtype=source.dtype))
    return torch.cat((solution, solution.new_ones(1))).view(3, 3)


def augment_light(pair: Pair, config: PhotometricConfig, generators: Sequence[torch.Generator]) -> Pair:
    """Vary light and sensor of both views, each on its own; a generator for each pair of the batch."""
    if not config.enabled:
        return pair
    return replace(pair, a=_vary(pair.a, config, generators), b=_vary(pair.b, config, generators))


def _vary(view: View, config: PhotometricConfig, generators: Sequence[torch.Generator]) -> View:
    drawn = zip(view.image, generators, strict=True)
    images = [_vary_picture(image[None], config, generator) for image, generator in drawn]
    image = torch.cat(images).clamp(0, 1)
    return replace(view, image=torch.where(view.valid, image, torch.zeros_like(image)))


def _vary_picture(image: Tensor, config: PhotometricConfig, generator: torch.Generator) -> Tensor:
    if uniform(generator, 0, 1) < config.shadow:
        image = image * _shadow(image, generator)
    if config.relight > 0:
        image = image * _relighting(image, config.relight, generator)
    image = image.clamp(0, 1) ** math.exp(uniform(generator, -config.gamma, config.gamma))
    if config.tone > 0:
        image = tone_curve(image, config.tone * torch.randn(TONE_STEPS, generator=generator))
    if config.inverted > 0 and uniform(generator, 0, 1) < config.inverted:
        image = 1 - image
    gain = 1 + uniform(generator, -config.gain, config.gain)
    image = (image - 0.5) * gain + 0.5 + uniform(generator, -config.bias, config.bias)
    sigma = uniform(generator, -config.blur, config.blur)
    if sigma > 0.3:
        image = gaussian_blur(image, sigma)
    noise = uniform(generator, 0, config.noise)
    image = image + noise * torch.randn(image.shape, generator=generator).to(image)
    if uniform(generator, 0, 1) < config.jpeg:
        image = coarsen_blocks(image.clamp(0, 1), uniform(generator, 0.01, 0.06))
    return image


TONE_STEPS = 6
"""Straight pieces of a tone curve."""


def tone_curve(image: Float[Tensor, "1 1 H W"], log_slopes: Float[Tensor, "N"]) -> Float[Tensor, "1 1 H W"]:
    """Grey values in [0, 1] bent by a rising curve of N straight pieces that keeps 0 and 1."""
    slopes = log_slopes.to(image).exp()
    heights = torch.cat((slopes.new_zeros(1), slopes.cumsum(0))) / slopes.sum()
    place = image.clamp(0, 1) * len(slopes)
    piece = place.long().clamp_max(len(slopes) - 1)
    return heights[piece] + (place - piece) * (heights[piece + 1] - heights[piece])


def _relighting(image: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """A smooth field of factors, a few bumps over the picture."""
    logs = (deviation * torch.randn(1, 1, 4, 4, generator=generator)).to(image)
    return F.interpolate(logs, image.shape[-2:], mode="bicubic", align_corners=True).exp()


def _shadow(image: Tensor, generator: torch.Generator) -> Tensor:
    """A half-plane darkened to 40-80 %, with a soft edge."""
    height, width = image.shape[-2:]
    angle = uniform(generator, -math.pi, math.pi)
    softness = log_uniform(generator, 2.0, 40.0)
    x = torch.arange(width, device=image.device) - uniform(generator, 0.2, 0.8) * width
    y = torch.arange(height, device=image.device) - uniform(generator, 0.2, 0.8) * height
    side = (math.cos(angle) * x[None] + math.sin(angle) * y[:, None]) / softness
    return 1 - uniform(generator, 0.2, 0.6) * torch.sigmoid(side)


def coarsen_blocks(image: Float[Tensor, "1 1 H W"], step: float) -> Float[Tensor, "1 1 H W"]:
    """Round the cosine transform of 8x8 blocks to multiples that grow with frequency: the loss in JPEG.

    Args:
        step: rounding of the lowest frequency, in grey values of [0, 1].
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
    rows, columns = padded.shape[-2] // 8, padded.shape[-1] // 8
    blocks = padded.view(rows, 8, columns, 8).permute(0, 2, 1, 3)
    index = torch.arange(8, dtype=image.dtype, device=image.device)
    basis = torch.cos(math.pi / 8 * (index[None] + 0.5) * index[:, None]) * 0.5
    basis[0] = math.sqrt(1 / 8)
    steps = step * (1 + 0.5 * (index[:, None] + index[None]))
    coefficients = basis @ blocks @ basis.T
    rounded = torch.round(coefficients / steps) * steps
    restored = (basis.T @ rounded @ basis).permute(0, 2, 1, 3).reshape(1, 1, rows * 8, columns * 8)
    return restored[..., :height, :width]
