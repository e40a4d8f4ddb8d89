"""A plane of its own slant for every pixel: PatchMatch on what a plane sweep found.

A pixel's plane is an inverse depth and its slope over the picture, so inverse depth at (x + dx, y + dy) is
r + g_x dx + g_y dy: exact for every plane in space. Hypotheses come from the planes of pixels nearby, continued to
here, and from small changes; the one whose slanted window looks most alike in a neighbour is kept.

Source: Bleyer et al., "PatchMatch Stereo" (2011), sections 3.1 to 3.3; planes by inverse depth, since that is affine in
the picture where disparity is in a rectified pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.preparation.plane_sweep import PosedPicture, SweepResult, plane_maps
from lfnet.settings import ConfigError


@dataclass(frozen=True)
class RefinementSettings:
    """How long planes are refined, and on what windows."""

    reach: int = 4
    """Half the side of the window, px."""
    stride: int = 2
    """Distance of the samples in it, px."""
    rounds: int = 3
    """Times that planes spread and are changed."""
    distances: tuple[int, ...] = (1, 6)
    """From how far planes spread, px."""
    changes: int = 3
    """Random changes a round, each half as large as the one before."""
    min_deviation: float = 2.0
    """Least standard deviation of grey values (0-255) in a window that can be compared."""


    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.reach:
            raise ConfigError(
                f"depth.refinement.stride and .reach: expected 1 px to the reach, got {self.stride} and {self.reach}"
            )


@dataclass(frozen=True)
class _Planes:
    """Inverse depth and its slopes along x and y, each (H, W)."""

    inverse: NDArray[np.float32]
    slope_x: NDArray[np.float32]
    slope_y: NDArray[np.float32]

    def where(self, choice: NDArray[np.bool_], other: _Planes) -> _Planes:
        """The other's planes where `choice`, these elsewhere."""
        return _Planes(
            np.where(choice, other.inverse, self.inverse),
            np.where(choice, other.slope_x, self.slope_x),
            np.where(choice, other.slope_y, self.slope_y),
        )

    def continued(self, dx: int, dy: int) -> _Planes:
        """For every pixel, the plane of the pixel at (x - dx, y - dy), continued to here."""
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
        moved = []
        for values in (self.inverse, self.slope_x, self.slope_y):
            drawn = cv2.warpAffine(
                values, matrix, values.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
            )
            moved.append(np.asarray(drawn, np.float32))
        inverse, slope_x, slope_y = moved
        return _Planes(inverse + dx * slope_x + dy * slope_y, slope_x, slope_y)


def refine(
    view: PosedPicture,
    neighbours: Sequence[PosedPicture],
    found: SweepResult,
    depth_range: tuple[float, float],
    settings: RefinementSettings,
    rng: np.random.Generator,
) -> SweepResult:
    """Refine what a sweep found.

    Args:
        view: whose depth it is.
        neighbours: those that it was swept with.
        found: by `plane_sweep.sweep`.
        depth_range: nearest and farthest depth, in the unit of the poses.
        settings: of window and search.
        rng: decides the changes tried.

    Returns:
        Inverse depth and correlation; unknown where the sweep had nothing to compare.
    """
    known = found.inverse_depth > 0
    limits = (1 / depth_range[1], 1 / depth_range[0])
    search = _Search(_Comparison(view, neighbours, settings), limits, _fitted_planes(found, settings.reach))
    search.offer(lambda planes: replace(planes, slope_x=planes.slope_x * 0, slope_y=planes.slope_y * 0))
    search.offer(lambda _: _facing_planes(found))
    directions = ((1, 0), (-1, 0), (0, 1), (0, -1))
    for round_number in range(settings.rounds):
        for distance in settings.distances:
            for dx, dy in directions:
                search.offer(lambda planes, dx=dx * distance, dy=dy * distance: planes.continued(dx, dy))
        size = (limits[1] - limits[0]) * FIRST_CHANGE / 2 ** (round_number * settings.changes)
        for _ in range(settings.changes):
            search.offer(lambda planes, size=size: _changed(planes, size, settings.reach, rng))
            size /= 2
    inverse = np.where(known & (search.score > -1), search.planes.inverse, 0)
    return SweepResult(inverse.astype(np.float32), np.where(known, search.score, -1).astype(np.float32))


FIRST_CHANGE = 0.02
"""Of the first random change of inverse depth, as a share of the range: about as far as two planes of the sweep."""


class _Search:
    """The best plane so far of every pixel."""

    def __init__(self, compare: _Comparison, limits: tuple[float, float], planes: _Planes) -> None:
        self._compare = compare
        self._limits = limits
        self.planes = planes
        self.score = compare.score(planes)

    def offer(self, change: Callable[[_Planes], _Planes]) -> None:
        """Try the planes that `change` makes of the best ones, and keep those that score higher."""
        tried = change(self.planes)
        score = self._compare.score(tried)
        low, high = self._limits
        better = (score > self.score) & (tried.inverse >= low) & (tried.inverse <= high)
        self.planes = self.planes.where(better, tried)
        self.score = np.where(better, score, self.score)


def _changed(planes: _Planes, size: float, reach: int, rng: np.random.Generator) -> _Planes:
    """Planes moved by up to `size` of inverse depth, in their middle and at the edge of the window."""
    shape = planes.inverse.shape
    moves = (size * rng.uniform(-1, 1, (3, *shape))).astype(np.float32)
    return _Planes(planes.inverse + moves[0], planes.slope_x + moves[1] / reach, planes.slope_y + moves[2] / reach)


def _facing_planes(found: SweepResult) -> _Planes:
    zero = np.zeros_like(found.inverse_depth)
    return _Planes(found.inverse_depth, zero, zero)


def _fitted_planes(found: SweepResult, reach: int) -> _Planes:
    """Planes through what the sweep found around each pixel, by least squares over a window, after a median."""
    median = np.asarray(cv2.medianBlur(found.inverse_depth, 5), np.float32)
    side = 2 * reach + 1
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    ones = np.ones(side, np.float32)
    norm = float((offsets**2).sum() * side)
    slope_x = cv2.sepFilter2D(median, cv2.CV_32F, offsets / norm, ones)
    slope_y = cv2.sepFilter2D(median, cv2.CV_32F, ones, offsets / norm)
    mean = cv2.blur(median, (side, side))
    return _Planes(*(np.asarray(values, np.float32) for values in (mean, slope_x, slope_y)))


class _Comparison:
    """How alike slanted windows look in the view and in its neighbours."""

    def __init__(
        self, view: PosedPicture, neighbours: Sequence[PosedPicture], settings: RefinementSettings
    ) -> None:
        width, height = view.size
        self._noise = np.float32(settings.min_deviation**2)
        steps = range(-settings.reach, settings.reach + 1, settings.stride)
        self._offsets = [(dx, dy) for dy in steps for dx in steps]
        grey = view.grey.astype(np.float32)
        edge = settings.reach
        padded = cv2.copyMakeBorder(grey, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
        self._samples = [padded[edge + dy :, edge + dx :][:height, :width] for dx, dy in self._offsets]
        self._mean = np.mean(self._samples, axis=0, dtype=np.float32)
        squares = np.mean([sample * sample for sample in self._samples], axis=0, dtype=np.float32)
        self._variance = squares - self._mean**2
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        self._neighbours = []
        for neighbour in neighbours:
            rotation_part, translation_part = (part.astype(np.float32) for part in plane_maps(view, neighbour))
            rays = [row[0] * x + row[1] * y + row[2] for row in rotation_part]
            self._neighbours.append((neighbour.grey.astype(np.float32), rotation_part, translation_part, rays))

    def score(self, planes: _Planes) -> NDArray[np.float32]:
        """Correlation of each pixel's window with the neighbour that it agrees with most; -1 where flat."""
        return np.maximum.reduce([self._correlation(planes, *neighbour) for neighbour in self._neighbours])

    def _correlation(
        self,
        planes: _Planes,
        grey: NDArray[np.float32],
        rotation_part: NDArray[np.float32],
        translation_part: NDArray[np.float32],
        rays: list[NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        shape = planes.inverse.shape
        total, squares, products = (np.zeros(shape, np.float32) for _ in range(3))
        base = [ray + planes.inverse * part for ray, part in zip(rays, translation_part, strict=True)]
        for (dx, dy), sample in zip(self._offsets, self._samples, strict=True):
            rise = planes.slope_x * np.float32(dx) + planes.slope_y * np.float32(dy)
            turned = rotation_part[:, 0] * dx + rotation_part[:, 1] * dy
            x, y, weight = (
                start + part * rise + shift for start, part, shift in zip(base, translation_part, turned, strict=True)
            )
            weight = 1 / np.maximum(weight, np.float32(1e-6))
            drawn = cv2.remap(grey, x * weight, y * weight, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            total += drawn
            squares += drawn * drawn
            products += drawn * sample
        count = np.float32(len(self._offsets))
        mean = total / count
        variance = squares / count - mean * mean
        covariance = products / count - mean * self._mean
        score = covariance / np.sqrt(np.maximum(variance, self._noise) * np.maximum(self._variance, self._noise))
        flat = (variance < self._noise) | (self._variance < self._noise)
        return np.where(flat, np.float32(-1), score).astype(np.float32, copy=False)
