"""Validation pictures that form one place of their own, and how far it lies from the rest."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lfnet.errors import UserError

FEWEST = 6
"""Pictures below which none are held back: two places of two pairs each need more."""
SEEDS = 32
"""Pictures from which a place is grown, far apart from one another; the most separated place is taken."""
SLACK = 1.5
"""A place may have this many times fewer or more pictures than asked for, where that separates it better."""


@dataclass(frozen=True)
class Split:
    """Which pictures serve what, and how far apart both are."""

    validation: NDArray[np.bool_]
    """(n,) whether a picture is held back."""
    note: str
    """Why nothing is held back; empty otherwise."""
    nearest: float | None
    """Distance of the nearest cameras of training and validation, in the unit of the poses."""
    nearest_relative: float | None
    """The same in median distances from a camera to the nearest other one."""
    largest_overlap: float | None
    """Of pairs across the split, as far as they were measured: the smaller of both ways."""


def split_by_place(
    centres: NDArray[np.floating],
    pairs: NDArray[np.integer],
    overlaps: NDArray[np.floating],
    share: float = 0.15,
    chosen: Sequence[int] | None = None,
) -> Split:
    """Hold back one place: pictures that see much of each other and little of the rest.

    A place is grown from each of several pictures, next the one that sees most of it in proportion to all it sees;
    of all places on the way that are large enough, the one with the least overlap across its border is taken.

    Args:
        centres: (n, 3) places of the cameras.
        pairs: (C, 2) pairs of pictures that may see each other.
        overlaps: (C,) how much they do.
        share: of the pictures to hold back; 0 holds none back.
        chosen: pictures to hold back instead; empty holds none back.

    Raises:
        ValueError: a share that is no share.
    """
    count = len(centres)
    if not 0 <= share < 1:
        raise UserError(f"validation share: expected a number from 0 to below 1, got {share}")
    if chosen is not None:
        members = np.array(sorted(chosen), np.int64)
        note = "" if len(members) else "nothing is held back, as asked"
    elif share == 0:
        members, note = np.zeros(0, np.int64), "nothing is held back, as asked"
    elif count < FEWEST:
        members, note = np.zeros(0, np.int64), (
            f"nothing is held back: {count} pictures are too few to form two places (at least {FEWEST}); name pictures "
            "to hold back to have some all the same"
        )
    else:
        members, note = _most_separated(centres, pairs, overlaps, share), ""
    validation = np.zeros(count, bool)
    validation[members] = True
    if not 0 < len(members) < count:
        return Split(validation, note, None, None, None)
    nearest = float(nearest_distances(centres[validation], centres[~validation]).min())
    usual = float(np.median(nearest_distances(centres)))
    across = validation[pairs[:, 0]] != validation[pairs[:, 1]]
    largest = float(overlaps[across].max()) if across.any() else 0.0
    return Split(validation, note, nearest, nearest / usual if usual > 0 else None, largest)


def nearest_distances(
    points: NDArray[np.floating], others: NDArray[np.floating] | None = None, rows: int = 256
) -> NDArray[np.float64]:
    """Distance from each point to the nearest of the others, or of the same set but itself, a few rows at once."""
    found = np.empty(len(points))
    targets = points if others is None else others
    for start in range(0, len(points), rows):
        part = points[start : start + rows]
        distances = np.linalg.norm(part[:, None] - targets[None], axis=-1)
        if others is None:
            distances[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        found[start : start + rows] = distances.min(1)
    return found


def _most_separated(
    centres: NDArray[np.floating], pairs: NDArray[np.integer], overlaps: NDArray[np.floating], share: float
) -> NDArray[np.int64]:
    count = len(centres)
    wanted = share * count
    least = max(2, min(3, count // 3), round(wanted / SLACK))
    most = min(max(least, round(wanted * SLACK)), count - 2)
    neighbours: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for (first, second), overlap in zip(pairs.tolist(), overlaps.tolist(), strict=True):
        neighbours[first].append((second, overlap))
        neighbours[second].append((first, overlap))
    degrees = [sum(overlap for _, overlap in each) for each in neighbours]
    best: tuple[float, NDArray[np.int64]] = (np.inf, np.arange(least))
    for seed in _far_apart(centres, min(SEEDS, count)):
        grown, border = _grow(seed, centres, neighbours, degrees, most)
        volumes = np.cumsum([degrees[picture] for picture in grown])
        # Conductance: the overlap across the border in proportion to all overlap of the smaller side.
        smaller = np.minimum(volumes, sum(degrees) - volumes)
        conductance = np.divide(border, smaller, out=np.full(len(grown), np.inf), where=smaller > 1e-9)[least - 1 :]
        size = int(np.argmin(conductance)) + least
        if conductance[size - least] < best[0]:
            best = (float(conductance[size - least]), np.array(grown[:size], np.int64))
    return best[1]


def _grow(
    seed: int, centres: NDArray[np.floating], neighbours: list[list[tuple[int, float]]], degrees: list[float], most: int
) -> tuple[list[int], NDArray[np.float64]]:
    """Pictures in the order in which a place takes them in, and the overlap across its border after each."""
    by_distance = iter(np.argsort(np.linalg.norm(centres - centres[seed], axis=1), kind="stable").tolist())
    inside = [0.0] * len(degrees)
    taken: dict[int, None] = {}
    border, borders = 0.0, []
    waiting: list[tuple[float, int]] = [(-1.0, seed)]
    while len(taken) < most:
        # The heap may hold a picture several times; its latest entry has the largest share and comes first.
        picture = heapq.heappop(waiting)[1] if waiting else next(by_distance)
        if picture in taken:
            continue
        taken[picture] = None
        border += degrees[picture] - 2 * inside[picture]
        borders.append(max(border, 0.0))
        for other, overlap in neighbours[picture]:
            inside[other] += overlap
            if other not in taken and overlap > 0:
                heapq.heappush(waiting, (-inside[other] / degrees[other], other))
    return list(taken), np.array(borders)


def _far_apart(centres: NDArray[np.floating], count: int) -> list[int]:
    """Pictures each of which is the farthest from those before it."""
    chosen = [int(np.argmax(np.linalg.norm(centres - np.median(centres, axis=0), axis=1)))]
    distances = np.linalg.norm(centres - centres[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distances)))
        distances = np.minimum(distances, np.linalg.norm(centres - centres[chosen[-1]], axis=1))
    return chosen
