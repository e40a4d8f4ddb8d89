"""Candidates for pairs."""

from __future__ import annotations

import numpy as np

from lfnet.preparation.candidates import candidate_pairs, voxels


def test_candidates_share_what_they_see() -> None:
    sets = [np.array([1, 2, 3, 3]), np.array([2, 3, 4]), np.array([9]), np.array([3]), np.zeros(0, int)]
    pairs, shared = candidate_pairs(sets, 10)
    assert pairs.tolist() == [[0, 1], [0, 3], [1, 3]]
    assert shared.tolist() == [2, 1, 1]
    assert candidate_pairs(sets, 10, min_shared=2)[0].tolist() == [[0, 1]]
    assert candidate_pairs([], 10)[0].shape == (0, 2)


def test_candidates_against_all_pairs() -> None:
    generator = np.random.default_rng(0)
    sets = [np.unique(generator.integers(0, 300, 40)) for _ in range(60)]
    pairs, shared = candidate_pairs(sets, 60, min_shared=4)
    expected = {
        (first, second): len(np.intersect1d(sets[first], sets[second]))
        for first in range(60)
        for second in range(first + 1, 60)
    }
    expected = {pair: count for pair, count in expected.items() if count >= 4}
    assert dict(zip(map(tuple, pairs.tolist()), shared.tolist(), strict=True)) == expected


def test_partners_are_spread_over_the_ranks() -> None:
    """A walk: each picture sees 50 numbers on. The chosen partners are near and far."""
    sets = [np.arange(picture, picture + 50) for picture in range(200)]
    pairs, shared = candidate_pairs(sets, 8)
    of_one = shared[(pairs == 100).any(1)]
    assert of_one.max() >= 48
    assert of_one.min() <= 3
    assert len(pairs) <= 8 * 200


def test_voxels_of_near_points_meet_as_a_rule() -> None:
    generator = np.random.default_rng(0)
    met = 0
    for point in generator.uniform(-3, 3, (200, 3)):
        near, far = point + generator.uniform(-0.05, 0.05, 3), point + np.array([2.5, 0, 0])
        met += len(np.intersect1d(voxels(point[None], 1.0), voxels(near[None], 1.0))) > 0
        assert not len(np.intersect1d(voxels(point[None], 1.0), voxels(far[None], 1.0)))
    assert met > 190
