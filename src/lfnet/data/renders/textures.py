"""Textures of rendered scenes: photographs or procedural patterns, with a mip pyramid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from lfnet.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

_SMALLEST_LEVEL = 4


class TextureAtlas:
    """Square grey textures with their mip pyramids, sampled trilinearly at any texture per pixel.

    Coordinates are in textures: (0, 0) to (1, 1) is the picture once, and it is mirrored beyond.
    """

    def __init__(self, textures: Sequence[np.ndarray], size: int, device: torch.device | str = "cpu") -> None:
        """Stack the textures.

        Args:
            textures: grey uint8 pictures (H, W) of any size; the central square of each is used.
            size: side of the finest level in texels, a power of two.
            device: where the textures are kept.
        """
        if size < _SMALLEST_LEVEL or size & (size - 1):
            raise UserError(f"size must be a power of two of at least {_SMALLEST_LEVEL}, not {size}")
        if not textures:
            raise UserError("textures is empty: an atlas needs at least one")
        level = torch.from_numpy(np.stack([_square(texture, size) for texture in textures]))
        levels = [level]
        while level.shape[-1] > _SMALLEST_LEVEL:
            level = _halved(level)
            levels.append(level)
        self.size = size
        self.count = len(textures)
        self._texels = torch.cat([level.reshape(-1) for level in levels]).to(device)
        sides = torch.tensor([level.shape[-1] for level in levels])
        starts = torch.cumsum(sides**2 * self.count, 0) - sides**2 * self.count
        self._sides = sides.to(device)
        self._starts = starts.to(device)

    def sample(
        self,
        texture: Int[Tensor, "*N"],
        s: Float[Tensor, "*N"],
        t: Float[Tensor, "*N"],
        footprint: Float[Tensor, "*N"],
    ) -> Float[Tensor, "*N"]:
        """Look textures up.

        Args:
            texture: index of the texture at each place.
            s: coordinate along the texture's rows, in textures.
            t: coordinate along the texture's columns, in textures.
            footprint: width of the place that is averaged, in texels of the finest level.

        Returns:
            Brightness in [0, 1].
        """
        level = footprint.clamp(min=1.0).log2_().clamp_(max=len(self._sides) - 1.001)
        blend = level.frac()
        fine = level.long()
        s, t = _mirrored(s), _mirrored(t)
        value = self._bilinear(texture, s, t, fine)
        return value.lerp(self._bilinear(texture, s, t, fine + 1), blend) / 255.0

    def _bilinear(self, texture: Tensor, s: Tensor, t: Tensor, level: Tensor) -> Tensor:
        side = self._sides.index_select(0, level.flatten()).reshape(level.shape)
        last = side - 1
        x = torch.minimum((s * side - 0.5).clamp_(min=0.0), last)
        y = torch.minimum((t * side - 0.5).clamp_(min=0.0), last)
        left, above = x.floor(), y.floor()
        x -= left
        y -= above
        x0, y0 = left.long(), above.long()
        right = torch.minimum(x0 + 1, last) - x0
        below = (torch.minimum(y0 + 1, last) - y0) * side
        start = self._starts.index_select(0, level.flatten()).reshape(level.shape)
        first = start + (texture * side + y0) * side + x0
        top = self._take(first).lerp_(self._take(first + right), x)
        first += below
        bottom = self._take(first).lerp_(self._take(first + right), x)
        return top.lerp_(bottom, y)

    def _take(self, index: Tensor) -> Tensor:
        return self._texels.index_select(0, index.flatten()).reshape(index.shape).float()


def _mirrored(coordinate: Tensor) -> Tensor:
    """Fold the line onto [0, 1], to and fro."""
    return (coordinate - 2.0 * torch.floor(0.5 * coordinate + 0.5)).abs_()


def procedural_textures(count: int, size: int, seed: int) -> list[np.ndarray]:
    """Draw textures without any photograph: noise, checkers, stripes, strokes like text, blobs.

    Args:
        count: how many.
        size: side in pixels.
        seed: of the random patterns; the same seed gives the same textures.

    Returns:
        Grey uint8 pictures (size, size).
    """
    random = np.random.default_rng(seed)
    kinds: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
        _noise,
        _checker,
        _stripes,
        _strokes,
        _blobs,
        _bricks,
    )
    pictures = []
    for index in range(count):
        picture = kinds[index % len(kinds)](random, size)
        if index % len(kinds):
            picture = picture + random.uniform(0.1, 0.5) * (_noise(random, size) - 0.5)
        low, high = picture.min(), picture.max()
        pictures.append(((picture - low) / max(high - low, 1e-6) * 255.0).round().astype(np.uint8))
    return pictures


def _square(texture: np.ndarray, size: int) -> np.ndarray:
    if texture.ndim != 2 or texture.dtype != np.uint8 or min(texture.shape) < 1:
        raise ValueError(f"a texture must be a grey uint8 picture (H, W), not {texture.dtype} {texture.shape}")
    side = min(texture.shape)
    top, left = (texture.shape[0] - side) // 2, (texture.shape[1] - side) // 2
    square = np.ascontiguousarray(texture[top : top + side, left : left + side])
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def _halved(level: Tensor) -> Tensor:
    wide = level.to(torch.int16)
    total = wide[:, ::2, ::2] + wide[:, 1::2, ::2] + wide[:, ::2, 1::2] + wide[:, 1::2, 1::2]
    return ((total + 2) // 4).to(torch.uint8)


def _noise(random: np.random.Generator, size: int) -> np.ndarray:
    roughness = random.uniform(0.6, 1.0)
    total = np.zeros((size, size), np.float32)
    cells, weight = 4, 1.0
    while cells <= size // 2:
        grid = random.random((cells, cells), dtype=np.float32) - 0.5
        total += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * roughness
    return 0.5 + total / (2.0 * np.abs(total).max())


def _coordinates(random: np.random.Generator, size: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Turned coordinates of all pixels, gently bent."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    bend = random.uniform(0.0, 0.03)
    x, y = x + bend * np.sin(5.0 * y), y + bend * np.sin(4.0 * x)
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _checker(random: np.random.Generator, size: int) -> np.ndarray:
    cells = int(random.integers(5, 16))
    x, y = _coordinates(random, size, random.uniform(-0.5, 0.5))
    column, row = np.floor(x * cells).astype(int), np.floor(y * cells).astype(int)
    shades = random.random((4 * cells, 4 * cells), dtype=np.float32) * random.uniform(0.2, 1.0)
    return ((column + row) % 2) + shades[row % (4 * cells), column % (4 * cells)]


def _stripes(random: np.random.Generator, size: int) -> np.ndarray:
    x, _ = _coordinates(random, size, random.uniform(0.0, np.pi))
    edges = np.sort(random.uniform(-1.5, 1.5, int(random.integers(20, 90))))
    shades = random.random(len(edges) + 1, dtype=np.float32)
    return shades[np.searchsorted(edges, x)]


def _strokes(random: np.random.Generator, size: int) -> np.ndarray:
    """Lines of letters and of short random strokes, in some sizes."""
    page = np.full((size, size), 255, np.uint8)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHKLMNRSTXYZ0123456789.,:;()&?"
    y = size * 0.03
    while y < size:
        height = size * random.choice([0.03, 0.045, 0.07, 0.12])
        y += height * 1.5
        if random.random() < 0.7:
            text = "".join(random.choice(list(letters + "    "), int(1.5 * size / height)))
            place = (int(size * random.uniform(0.0, 0.1)), int(y))
            thickness = max(1, int(height / 12))
            ink = int(random.integers(0, 120))
            cv2.putText(page, text, place, cv2.FONT_HERSHEY_SIMPLEX, height / 22, ink, thickness, cv2.LINE_AA)
            continue
        for x in np.arange(0.0, size, height * 0.6):
            points = (random.random((3, 2)) * height + (x, y - height)).astype(np.int32)
            cv2.polylines(page, [points], False, int(random.integers(0, 150)), max(1, int(height / 10)), cv2.LINE_AA)
    return page.astype(np.float32) / 255.0


def _blobs(random: np.random.Generator, size: int) -> np.ndarray:
    page = np.full((size, size), int(random.integers(0, 256)), np.uint8)
    for radius in np.sort(size * 0.15 * random.random(int(random.integers(60, 250))) ** 2)[::-1]:
        centre = tuple(int(value) for value in random.integers(0, size, 2))
        axes = (int(radius) + 2, int(radius * random.uniform(0.4, 1.0)) + 2)
        shade = int(random.integers(0, 256))
        if random.random() < 0.5:
            cv2.ellipse(page, centre, axes, random.uniform(0.0, 180.0), 0.0, 360.0, shade, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((centre, axes, random.uniform(0.0, 90.0))).astype(np.int32)
            cv2.fillConvexPoly(page, corners, shade, cv2.LINE_AA)
    return page.astype(np.float32) / 255.0


def _bricks(random: np.random.Generator, size: int) -> np.ndarray:
    rows = int(random.integers(6, 18))
    x, y = _coordinates(random, size, random.uniform(-0.1, 0.1))
    row = np.floor(y * rows).astype(int)
    x = x * rows * random.uniform(0.3, 0.7) + 0.5 * (row % 2)
    column = np.floor(x).astype(int)
    shades = 0.4 + 0.6 * random.random((64, 64), dtype=np.float32)
    joint = (x - column < 0.06) | (y * rows - row < 0.12)
    return np.where(joint, random.uniform(0.0, 0.3), shades[row % 64, column % 64])
