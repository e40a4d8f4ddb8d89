"""Matches that the matches around them agree with.

A match of two features with scale and orientation says how its surroundings are turned, scaled and moved: it is a whole
similarity transform. Right matches near each other say about the same. A wrong one seldom agrees with its neighbours by
chance, and how seldom is known: the nearer the neighbour, the smaller the place that it leaves. So each neighbour that
agrees speaks for a match and each that does not speaks against it, as strongly as it is itself believed:

    p = b * AGREE + (1 - b) * chance      probability that a right match and a neighbour of belief b agree
    log odds = TRUST * sum of log(p / chance) where they agree, of log((1 - p) / (1 - chance)) where not

Beliefs start at 1/2 and are found in a few rounds.

Source: the idea is that of AdaLAM (Cavalli et al., "Handcrafted Outlier Detection Revisited", ECCV 2020), which fits
affine transforms around seeds; the odds, without seeds and without sampling, are this package's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.features import Features, Matches

NEIGHBOURS = 64
"""Nearest matches in picture a that each match is held against; of few right ones, some must be among them."""
TURN = np.radians(30.0)
"""Largest difference of the turns of two matches that agree."""
SCALING = np.log(2.0)
"""Largest difference of the logarithms of their scale factors."""
REACH = 0.5
"""Largest error of a neighbour's place, in terms of its distance: perspective and depth bend what lies between."""
SLACK = 2.0
"""Pixels of picture a that are added to that error."""
AGREE = 0.5
"""Probability that two right matches near each other agree."""
TRUST = 0.5
"""Weight of each neighbour, as neighbours are not independent of each other."""
ROUNDS = 4
FEWEST = 8
"""Matches below which nothing can be told, and all are kept."""
_SHIFTS = 16
"""Arrangements by which the chance to agree in turn and scale is counted."""
_BLOCK = 1 << 14
"""Matches that are compared at once: 8 MB an array."""


def agreeing_matches(features_a: Features, features_b: Features, matches: Matches) -> Matches:
    """Keep the matches whose similarity transform agrees with that of the matches around them.

    Features without scales and orientations (all equal) are held to shifts alone.

    Args:
        features_a: of picture a.
        features_b: of picture b.
        matches: between them.

    Returns:
        those of log odds above 0, in their order; all where they are fewer than `FEWEST`.
    """
    return matches.select(log_odds(features_a, features_b, matches) > 0)


def log_odds(features_a: Features, features_b: Features, matches: Matches) -> NDArray[np.float64]:
    """How much more the matches around it speak for than against each match.

    Args:
        features_a: of picture a.
        features_b: of picture b.
        matches: between them.

    Returns:
        (M,) natural logarithms of odds, even odds before any neighbour is asked; infinite where matches are fewer than
        `FEWEST`.
    """
    if len(matches) < FEWEST:
        return np.full(len(matches), np.inf)
    similarities = _Similarities(features_a, features_b, matches)
    neighbours = _nearest(similarities.a)
    agree, chance = similarities.compare(neighbours)
    agreeing = np.maximum(AGREE, chance)
    odds = np.zeros(len(matches))
    for _ in range(ROUNDS):
        belief = (1 / (1 + np.exp(-np.clip(odds, -50, 50)))).astype(np.float32)[neighbours]
        right = belief * agreeing + (1 - belief) * chance
        evidence = np.where(agree, np.log(right / chance), np.log((1 - right) / (1 - chance)))
        odds = TRUST * evidence.sum(1, dtype=np.float64)
    return odds


class _Similarities:
    """The similarity transforms of matches; places and shifts are complex numbers, x + iy."""

    def __init__(self, features_a: Features, features_b: Features, matches: Matches) -> None:
        rows_a, rows_b = matches.indices.T
        self.a = features_a.keypoints[rows_a]
        self.places_a = _complex(self.a)
        self.places_b = _complex(features_b.keypoints[rows_b])
        self.turns = features_b.orientations[rows_b] - features_a.orientations[rows_a]
        self.scalings = np.log(features_b.scales[rows_b] / features_a.scales[rows_a])

    def compare(self, neighbours: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which neighbours agree, and the probability that a wrong match would: both (M, K)."""
        parts = [
            self._compare(np.arange(start, min(start + _BLOCK, len(neighbours))), neighbours[start : start + _BLOCK])
            for start in range(0, len(neighbours), _BLOCK)
        ]
        agree, limits = (np.concatenate(part) for part in zip(*parts, strict=True))
        area = max(12 * float(self.places_b.real.std() * self.places_b.imag.std()), 1.0)  # Of an even spread.
        place = np.minimum(np.pi * np.square(limits) / area, 1)
        return agree, np.clip(place * self._chance_of_turn_and_scale(), 1e-9, 1 - 1e-6).astype(np.float32)

    def _compare(
        self, rows: NDArray[np.int64], neighbours: NDArray[np.int32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which neighbours of some matches agree, and the largest error in pixels of b by which they might."""
        turn, scaling = self._differences(rows[:, None], neighbours)
        # The transform half-way between the two serves both ways alike.
        factor = np.exp(self.scalings[rows, None] + scaling / 2)
        moved = (self.places_a[neighbours] - self.places_a[rows, None]) * factor
        moved = moved * np.exp(1j * (self.turns[rows, None] + turn / 2))
        error = np.abs(moved - (self.places_b[neighbours] - self.places_b[rows, None]))
        limit = REACH * np.abs(moved) + SLACK * factor
        return (error < limit) & _alike(turn, scaling), limit.astype(np.float32)

    def _differences(self, rows: NDArray, others: NDArray) -> tuple[NDArray, NDArray]:
        """Of turns, in [-pi, pi], and of the logarithms of scale factors."""
        turn = self.turns[others] - self.turns[rows]
        turn = turn - np.float32(2 * np.pi) * np.rint(turn / np.float32(2 * np.pi))
        return turn, self.scalings[others] - self.scalings[rows]

    def _chance_of_turn_and_scale(self) -> float:
        """Share of matches anywhere that agree in both: wrong matches have favourite turns, upright ones say."""
        rows = np.arange(len(self.turns))
        shifts = np.unique(np.linspace(1, len(rows) - 1, _SHIFTS).astype(np.int64))
        others = (rows[:, None] + shifts) % len(rows)
        return float(_alike(*self._differences(rows[:, None], others)).mean())


def _alike(turn: NDArray, scaling: NDArray) -> NDArray[np.bool_]:
    return (np.abs(turn) < TURN) & (np.abs(scaling) < SCALING)


def _complex(places: NDArray[np.float32]) -> NDArray[np.complex64]:
    return (places[:, 0] + 1j * places[:, 1]).astype(np.complex64)


def _nearest(places: NDArray[np.float32]) -> NDArray[np.int32]:
    """The nearest places of each, itself left out: (M, K), exact."""
    count = min(NEIGHBOURS + 1, len(places))
    tree = cv2.flann.Index(np.ascontiguousarray(places), {"algorithm": 4, "leaf_max_size": 16})  # One k-d tree.
    found, _ = tree.knnSearch(np.ascontiguousarray(places), count, params={"checks": -1})
    itself = found == np.arange(len(places))[:, None]
    itself[~itself.any(1), -1] = True  # Where many share one place, it may not be among its nearest.
    return np.asarray(found)[~itself].reshape(len(places), count - 1).astype(np.int32)
