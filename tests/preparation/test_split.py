"""The split by place."""

from __future__ import annotations

import numpy as np
import pytest

from lfnet.preparation.split import nearest_distances, split_by_place


def test_the_split_is_a_place() -> None:
    """Two rooms and a corridor: the smaller room is held back whole."""
    generator = np.random.default_rng(0)
    rooms = np.repeat([0, 1], [40, 10])
    centres = generator.normal(size=(50, 3)) + 20 * rooms[:, None]
    every = [(first, second) for first in range(50) for second in range(first + 1, 50)]
    pairs = np.array([(a, b) for a, b in every if rooms[a] == rooms[b] or (a, b) == (39, 40)])
    overlaps = np.where(rooms[pairs[:, 0]] == rooms[pairs[:, 1]], 0.5, 0.05)
    split = split_by_place(centres, pairs, overlaps)
    np.testing.assert_array_equal(split.validation, rooms == 1)
    assert split.largest_overlap == pytest.approx(0.05)
    assert split.nearest is not None
    assert split.nearest == pytest.approx(
        np.linalg.norm(centres[:40, None] - centres[None, 40:], axis=-1).min(), rel=1e-6
    )
    assert split.nearest_relative is not None
    assert split.nearest_relative > 10


def test_the_split_of_a_walk_is_a_stretch_of_it() -> None:
    centres = np.stack((np.arange(100.0), np.zeros(100), np.zeros(100)), 1)
    pairs = np.array([(a, b) for a in range(100) for b in range(a + 1, min(a + 6, 100))])
    overlaps = 1 - 0.15 * (pairs[:, 1] - pairs[:, 0])
    held = np.flatnonzero(split_by_place(centres, pairs, overlaps).validation)
    assert 10 <= len(held) <= 23
    assert held[-1] - held[0] == len(held) - 1
    # A stretch at an end has one border, in the middle it would have two.
    assert held[0] == 0 or held[-1] == 99


def test_few_pictures_names_and_none() -> None:
    centres = np.random.default_rng(0).normal(size=(5, 3))
    pairs = np.array([(a, b) for a in range(5) for b in range(a + 1, 5)])
    overlaps = np.full(len(pairs), 0.5)
    few = split_by_place(centres, pairs, overlaps)
    assert not few.validation.any()
    assert "too few" in few.note
    assert split_by_place(centres, pairs, overlaps, chosen=[3, 4]).validation.tolist() == [False] * 3 + [True] * 2
    assert "as asked" in split_by_place(centres, pairs, overlaps, share=0).note
    with pytest.raises(ValueError, match="share"):
        split_by_place(centres, pairs, overlaps, share=1.0)


def test_nearest_distances_in_parts() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(nearest_distances(points, rows=7), distances.min(1))
