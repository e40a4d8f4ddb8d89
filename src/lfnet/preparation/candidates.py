"""Pairs of pictures that may see each other, found from what they see, and never by trying all of n²."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 22
"""Entries of the inverted index that are counted at once: 32 MB."""
VOXEL = 0.15
"""Side of a voxel in median depths of the scene. 24 samples across a view of 60 degrees lie 0.048 depths apart: a voxel
of three times that holds several samples of each picture that sees it."""
CELL_BITS = 20
"""Of a voxel's number along each axis: 10^6 voxels are 1.5 * 10^5 median depths."""


def candidate_pairs(
    memberships: Sequence[NDArray[np.integer]], limit: int, min_shared: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of pictures that share what they see, up to `limit` partners chosen by each picture.

    The partners are spread over the ranks from the most to the least that is shared, so that pairs of little overlap
    are among them. A picture may end up in more pairs, where others choose it.

    Args:
        memberships: for each picture the numbers of what it sees: sparse points, or voxels.
        limit: partners that a picture chooses.
        min_shared: least numbers that the pictures of a pair share.

    Returns:
        (C, 2) places of the pictures, the lower first, in ascending order; and (C,) how many numbers they share.
        Memory grows with the memberships and with C, not with the square of the pictures.
    """
    sets = [np.unique(np.asarray(each, np.int64)) for each in memberships]
    lengths = np.array([len(each) for each in sets], np.int64)
    seen, numbers = np.unique(np.concatenate([np.zeros(0, np.int64), *sets]), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    observers = np.repeat(np.arange(len(sets)), lengths)[order]
    ends = np.cumsum(np.bincount(numbers, minlength=len(seen)))
    starts = ends - np.bincount(numbers, minlength=len(seen))
    places = np.cumsum(lengths) - lengths
    rows, counts = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
    for picture in range(len(sets)):
        mine = numbers[places[picture] : places[picture] + lengths[picture]]
        shared = _count_observers(observers, starts[mine], ends[mine], len(sets))
        shared[picture] = 0
        partners = np.flatnonzero(shared >= max(min_shared, 1))
        partners = partners[np.argsort(-shared[partners], kind="stable")]
        if len(partners) > limit:
            partners = partners[np.linspace(0, len(partners) - 1, limit).round().astype(int)]
        rows.append(np.stack((np.minimum(partners, picture), np.maximum(partners, picture)), 1))
        counts.append(shared[partners])
    pairs, first = np.unique(np.concatenate(rows), axis=0, return_index=True)
    return pairs, np.concatenate(counts)[first]


def _count_observers(
    observers: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], pictures: int
) -> NDArray[np.int64]:
    """How often each picture stands in the stretches of the inverted index."""
    shared = np.zeros(pictures, np.int64)
    lengths = ends - starts
    totals = np.cumsum(lengths)
    first = 0
    while first < len(starts):
        before = totals[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(totals, before + CHUNK, side="right")))
        within = lengths[first:last]
        shift = np.repeat(starts[first:last] - (np.cumsum(within) - within), within)
        shared += np.bincount(observers[np.arange(len(shift)) + shift], minlength=pictures)
        first = last
    return shared


def voxels(points: NDArray[np.floating], side: float) -> NDArray[np.int64]:
    """Numbers of the voxels that points lie in, in two grids half a voxel apart.

    Points on both sides of one grid's wall mostly share a voxel of the other, so that neighbours are found.

    Args:
        points: (N, 3), in the unit of `side`.
        side: of a voxel.

    Returns:
        Ascending, without repeats.
    """
    numbers = []
    half = 1 << (CELL_BITS - 1)
    for grid, shift in enumerate((0.0, 0.5)):
        cells = np.clip(np.floor(points / side + shift), -half, half - 1).astype(np.int64) + half
        x, y, z = cells.T
        numbers.append((((grid << CELL_BITS | x) << CELL_BITS | y) << CELL_BITS) | z)
    return np.unique(np.concatenate(numbers))
