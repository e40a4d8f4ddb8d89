"""Parts of a map, resized exactly as the whole map is: what tiles of one picture need to agree with each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


class Stretch(NamedTuple):
    """Pixels `start` to `stop` of an axis that has `whole` pixels."""

    start: int
    stop: int
    whole: int

    @property
    def length(self) -> int:
        """Pixels in it."""
        return self.stop - self.start

    def grown(self, reach: int, step: int = 1) -> Stretch:
        """With `reach` pixels more on each side, and further to multiples of `step`, as far as the axis goes."""
        start = (self.start - reach) // step * step
        stop = -(-(self.stop + reach) // step) * step
        return Stretch(max(start, 0), min(stop, self.whole), self.whole)

    def resized(self, whole: int) -> Stretch:
        """What it covers, rounded outwards, where the axis is resized to `whole` pixels."""
        start = self.start * whole // self.whole
        return Stretch(start, -(-self.stop * whole // self.whole), whole)

    def taps(self, source: int, *, antialias: bool = False) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What each of its pixels is made of where an axis of `source` pixels is resized to this one.

        Edges go to edges, as in `torch.nn.functional.interpolate` with mode "bilinear" and `align_corners=False`.

        Args:
            source: pixels of the axis before.
            antialias: widen the triangles where the axis shrinks.

        Returns:
            (N, T) places on the whole axis before, in order and within it, and their weights, which sum to 1.
        """
        ratio = source / self.whole
        centres = (np.arange(self.start, self.stop) + 0.5) * ratio - 0.5
        reach = max(ratio, 1.0) if antialias else 1.0
        first = np.ceil(centres - reach).astype(np.int64)
        places = first[:, None] + np.arange(math.floor(2 * reach) + 1)
        weights = np.maximum(1 - np.abs(places - centres[:, None]) / reach, 0)
        if antialias:
            # Beyond the edge there is nothing; without antialiasing the edge is repeated.
            weights *= (places >= 0) & (places < source)
        weights /= weights.sum(1, keepdims=True)
        return places.clip(0, source - 1), weights.astype(np.float32)


class Window(NamedTuple):
    """A part of a map: some rows and some columns of it."""

    rows: Stretch
    columns: Stretch

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the part."""
        return self.rows.length, self.columns.length

    def grown(self, reach: int, step: int = 1) -> Window:
        """With `reach` pixels more on each side; see `Stretch.grown`."""
        return Window(self.rows.grown(reach, step), self.columns.grown(reach, step))

    def resized(self, shape: tuple[int, int]) -> Window:
        """What it covers where the map is resized to (height, width)."""
        return Window(self.rows.resized(shape[0]), self.columns.resized(shape[1]))

    def times(self, factor: int) -> Window:
        """The same part of a map with `factor` pixels for each pixel of this one."""
        return Window(*(Stretch(*(factor * each for each in axis)) for axis in self))


def resize_part(
    maps: Float[Tensor, "B C h w"], source: Window, target: Window, *, antialias: bool = False
) -> Float[Tensor, "B C H W"]:
    """A part of maps as it would be if the whole maps were resized.

    Args:
        maps: what the maps hold in `source`.
        source: the part that is given.
        target: the part of the resized maps that is wanted. Where it takes pixels that are not given, the nearest
            that are given stand in for them.
        antialias: see `Stretch.taps`.
    """
    wide = resize_axis(maps, -1, source.columns, target.columns, antialias=antialias)
    return resize_axis(wide, -2, source.rows, target.rows, antialias=antialias)


def resize_axis(
    maps: Float[Tensor, "B C h w"], dim: int, source: Stretch, target: Stretch, *, antialias: bool = False
) -> Float[Tensor, "B C H W"]:
    """`resize_part` along one axis alone, -1 for columns and -2 for rows."""
    if source.whole == target.whole and source == target:
        return maps
    places, weights = target.taps(source.whole, antialias=antialias)
    index = torch.from_numpy(places - source.start).clamp(0, source.length - 1).to(maps.device)
    shares = torch.from_numpy(weights).to(maps)
    shape = (-1, 1) if dim == -2 else (-1,)
    total = maps.index_select(dim, index[:, 0]) * shares[:, 0].view(shape)
    for tap in range(1, index.shape[1]):
        total.addcmul_(maps.index_select(dim, index[:, tap]), shares[:, tap].view(shape))
    return total
