"""Depth of one view from its neighbours: planes of constant depth, compared by normalised correlation.

A plane at inverse depth r takes pixel x of the view to x_n ~ (M + r m [0 0 1]) x in neighbour n, with M = K_n R K^-1
and m = K_n t: the formula of `lfnet.geometry.warp` for a constant inverse depth. Each plane draws every neighbour as
the view would see it; where the plane is right, the two look alike in a small window.

Source: Collins, "A space-sweep approach to true multi-image matching" (1996); zero-mean normalised cross-correlation
and a choice among neighbours as in Goesele et al., "Multi-view stereo for community photo collections" (2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.settings import ConfigError


@dataclass(frozen=True)
class PosedPicture:
    """A grey pinhole picture and its camera."""

    grey: NDArray[np.uint8]
    """(H, W)."""
    intrinsics: NDArray[np.float64]
    """3x3; the centre of the top-left pixel is (0, 0)."""
    camera_from_world: NDArray[np.float64]
    """4x4."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.grey.shape[1], self.grey.shape[0]


@dataclass(frozen=True)
class SweepSettings:
    """How planes are laid and compared."""

    window: int = 7
    """Side of the window that is compared, px, odd."""
    step: float = 1.0
    """Way that a pixel in the middle of those of a view moves in a neighbour from one plane to the next, px."""
    planes: tuple[int, int] = (48, 256)
    """Least and largest number of planes."""
    best: int = 1
    """Neighbours that agree most with a plane, the mean of which is its score; 1 sees round most occlusions."""
    min_deviation: float = 2.0
    """Least standard deviation of grey values (0-255) in a window that can be compared."""
    step_cost: float = 0.05
    """Cost of one plane's difference between pixels beside each other; a correlation of -1 costs 1, of 1 nothing."""
    leap_cost: float = 0.3
    """Cost of any larger difference, where the picture has no edge. Both 0: each pixel by itself."""

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0:
            raise ConfigError(f"depth.sweep.window: expected an odd number of at least 3 px, got {self.window}")
        if not 2 <= self.planes[0] <= self.planes[1]:
            raise ConfigError(f"depth.sweep.planes: expected least and largest number, at least 2, got {self.planes}")


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found for every pixel of the view."""

    inverse_depth: NDArray[np.float32]
    """(H, W); 0 where nothing could be compared."""
    score: NDArray[np.float32]
    """(H, W) correlation in [-1, 1] of the best plane."""

    def depth(self, min_score: float) -> NDArray[np.float32]:
        """(H, W) depth where the score is at least `min_score`, 0 elsewhere."""
        known = (self.inverse_depth > 0) & (self.score >= min_score)
        return np.where(known, 1 / np.maximum(self.inverse_depth, 1e-12), 0).astype(np.float32)


class _Window:
    """Means over a window around every pixel, and the correlation made of them."""

    def __init__(self, grey: NDArray[np.float32], settings: SweepSettings) -> None:
        self._size = (settings.window, settings.window)
        self._noise = np.float32(settings.min_deviation**2)
        self._grey = grey
        self._mean = self.mean(grey)
        self._variance = self.mean(grey * grey) - self._mean * self._mean
        self.flat = self._variance < self._noise

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(values, self._size, borderType=cv2.BORDER_REPLICATE), np.float32)

    def correlation(self, other: NDArray[np.float32]) -> NDArray[np.float32]:
        """Zero-mean normalised cross-correlation of the picture with another; -1 where either is flat."""
        mean = self.mean(other)
        variance = self.mean(other * other) - mean * mean
        covariance = self.mean(self._grey * other) - self._mean * mean
        product = np.maximum(variance, self._noise) * np.maximum(self._variance, self._noise)
        flat = (variance < self._noise) | self.flat
        return np.where(flat, np.float32(-1), covariance / np.sqrt(product)).astype(np.float32, copy=False)


def plane_maps(view: PosedPicture, neighbour: PosedPicture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """M (3x3) and m (3) of the module's formula."""
    relative = neighbour.camera_from_world @ np.linalg.inv(view.camera_from_world)
    rotation_part = neighbour.intrinsics @ relative[:3, :3] @ np.linalg.inv(view.intrinsics)
    return rotation_part, neighbour.intrinsics @ relative[:3, 3]


def plane_depths(
    view: PosedPicture, neighbours: Sequence[PosedPicture], near: float, far: float, settings: SweepSettings
) -> NDArray[np.float64]:
    """Inverse depths of the planes, evenly spaced from 1/far to 1/near, so close that the median pixel moves by no more
    than `settings.step` in any neighbour, within the numbers of planes allowed."""
    width, height = view.size
    x, y = np.meshgrid(np.linspace(0, width - 1, 7), np.linspace(0, height - 1, 7))
    points = np.stack((x.ravel(), y.ravel(), np.ones(x.size)))
    longest = 0.0
    for neighbour in neighbours:
        rotation_part, translation_part = plane_maps(view, neighbour)
        ends = []
        for inverse in (1 / far, 1 / near):
            moved = rotation_part @ points + inverse * translation_part[:, None]
            ends.append(np.where(moved[2] > 1e-6, moved[:2] / np.maximum(moved[2], 1e-6), np.nan))
        ways = np.linalg.norm(ends[1] - ends[0], axis=0)
        if np.isfinite(ways).any():
            longest = max(longest, float(np.nanmedian(ways)))
    count = int(np.clip(np.ceil(longest / settings.step) + 1, *settings.planes))
    return np.linspace(1 / far, 1 / near, count)


def sweep(
    view: PosedPicture, neighbours: Sequence[PosedPicture], near: float, far: float, settings: SweepSettings
) -> SweepResult:
    """Depth of a view by a plane sweep.

    Args:
        view: whose depth is wanted.
        neighbours: others that see the same, the best ones first; about four.
        near: least depth, in the unit of the poses.
        far: largest depth.
        settings: of planes and comparison.

    Returns:
        Inverse depth, refined between planes by a parabola through the scores of three.

    Raises:
        ValueError: no neighbours, or an empty range.
    """
    if not neighbours or not 0 < near < far:
        raise ValueError(f"sweep: expected neighbours and 0 < near < far, got {len(neighbours)}, {near} and {far}")
    planes = plane_depths(view, neighbours, near, far, settings)
    window = _Window(view.grey.astype(np.float32), settings)
    drawn = [(neighbour.grey.astype(np.float32), *plane_maps(view, neighbour)) for neighbour in neighbours]
    costs = np.empty((len(planes), *window.flat.shape), np.uint8)
    for place, inverse in enumerate(planes):
        scores = [_draw_and_compare(window, inverse, view.size, *each) for each in drawn]
        costs[place] = (1 - _mean_of_best(scores, settings.best)) * (COST_UNITS / 2)
    return _choose(costs, aggregate(costs, view.grey, settings), planes, window.flat)


COST_UNITS = 250
"""Of a correlation of -1; 1 costs nothing."""


def aggregate(costs: NDArray[np.uint8], grey: NDArray[np.uint8], settings: SweepSettings) -> NDArray[np.uint16]:
    """Costs of planes, smoothed along rows and columns both ways: semi-global matching.

    Args:
        costs: (P, H, W) of each plane at each pixel.
        grey: (H, W); across its edges, leaps are cheaper.

    Returns:
        (P, H, W), the sum over the four directions.

    Source: Hirschmüller, "Stereo processing by semiglobal matching and mutual information" (2008), equations 13 and 14.
    """
    by_row = _aggregate_both_ways(np.ascontiguousarray(costs.transpose(1, 0, 2)), grey, settings)
    total = by_row.transpose(1, 0, 2)
    by_column = _aggregate_both_ways(np.ascontiguousarray(costs.transpose(2, 0, 1)), grey.T, settings)
    total += by_column.transpose(1, 2, 0)
    return total


def _aggregate_both_ways(
    costs: NDArray[np.uint8], grey: NDArray[np.uint8], settings: SweepSettings
) -> NDArray[np.uint16]:
    """Smoothed along the first axis of costs (N, P, M), forwards and backwards; grey is (N, M)."""
    step = np.int16(settings.step_cost * COST_UNITS)
    change = np.abs(np.diff(grey.astype(np.float32), axis=0))
    leaps = np.maximum(settings.leap_cost * COST_UNITS / (1 + change / LEAP_CONTRAST), step + 1).astype(np.int16)
    total = np.zeros(costs.shape, np.uint16)
    count = len(costs)
    for order in (range(count), range(count - 1, -1, -1)):
        path: NDArray[np.int16] | None = None
        before = -1
        for place in order:
            own = costs[place].astype(np.int16)
            if path is not None:
                least = path.min(0)
                reached = np.minimum(path, least + leaps[min(place, before)])
                reached[1:] = np.minimum(reached[1:], path[:-1] + step)
                reached[:-1] = np.minimum(reached[:-1], path[1:] + step)
                own += reached - least
            total[place] += own.astype(np.uint16)
            path, before = own, place
    return total


LEAP_CONTRAST = 10.0
"""Difference of grey values between two pixels at which a leap of depth costs half."""


def _choose(
    costs: NDArray[np.uint8], smoothed: NDArray[np.uint16], planes: NDArray[np.float64], unknown: NDArray[np.bool_]
) -> SweepResult:
    """The cheapest plane of each pixel, refined by a parabola through its cost and those of the planes beside it; not
    known where that is the first or the last."""
    best = smoothed.argmin(0)[None]
    inner = (best > 0) & (best < len(planes) - 1)
    middle = np.clip(best, 1, max(len(planes) - 2, 1))
    before, at, after = (
        np.take_along_axis(smoothed, np.clip(middle + offset, 0, len(planes) - 1), 0)[0].astype(np.float32)
        for offset in (-1, 0, 1)
    )
    bend = before + after - 2 * at
    offset = np.where(bend > 0, 0.5 * (before - after) / np.maximum(bend, 1), 0)
    step = (planes[-1] - planes[0]) / max(len(planes) - 1, 1)
    inverse = planes[best[0]] + np.clip(offset, -0.5, 0.5) * step
    score = 1 - np.take_along_axis(costs, best, 0)[0].astype(np.float32) / (COST_UNITS / 2)
    inverse = np.where(inner[0] & ~unknown, inverse, 0).astype(np.float32)
    return SweepResult(inverse, np.where(unknown, -1, score).astype(np.float32))


def _draw_and_compare(
    window: _Window,
    inverse: float,
    size: tuple[int, int],
    grey: NDArray[np.float32],
    rotation_part: NDArray[np.float64],
    translation_part: NDArray[np.float64],
) -> NDArray[np.float32]:
    homography = rotation_part.copy()
    homography[:, 2] += inverse * translation_part
    drawn = cv2.warpPerspective(grey, homography, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return window.correlation(np.asarray(drawn, np.float32))


def _mean_of_best(scores: list[NDArray[np.float32]], count: int) -> NDArray[np.float32]:
    if len(scores) <= count:
        return np.stack(scores).mean(0).astype(np.float32)
    if count == 1:
        return np.maximum.reduce(scores)
    stacked = np.partition(np.stack(scores), len(scores) - count, axis=0)
    return np.asarray(stacked[len(scores) - count :].mean(0), np.float32)
