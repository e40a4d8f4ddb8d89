"""Matches whose similarity agrees with their neighbours' are kept: against a plain reference, and on known warps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet import similarity_filter
from lfnet.features import Features, Matches
from lfnet.similarity_filter import FEWEST, NEIGHBOURS, ROUNDS, agreeing_matches, log_odds

SIZE = (640, 480)


def two_views(
    right: int, wrong: int, turn: float = 1.0, scaling: float = 1.5, seed: int = 0
) -> tuple[Features, Features, Matches]:
    """Features of a plane seen tilted, turned and scaled, with measured scales and orientations, and wrong ones."""
    generator = np.random.default_rng(seed)
    count = right + wrong
    places = generator.uniform((0, 0), SIZE, (count, 2))
    angles, scales = generator.uniform(-np.pi, np.pi, count), np.exp(generator.uniform(-1, 1, count))
    rotation = scaling * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = (places - 320) * (1, 0.8) @ rotation.T + 320 + generator.normal(0, 1, (count, 2))
    turned = angles + turn + generator.normal(0, 0.1, count)
    scaled = scales * scaling * np.exp(generator.normal(0, 0.15, count))
    wrongly = slice(right, count)
    moved[wrongly] = generator.permutation(moved)[wrongly]
    turned[wrongly] = generator.uniform(-np.pi, np.pi, wrong)
    scaled[wrongly] = np.exp(generator.uniform(-1, 1, wrong))
    nothing = np.zeros((count, 1))
    turned = np.angle(np.exp(1j * turned))
    a = Features(places, scales, angles, np.ones(count), nothing, SIZE)
    b = Features(moved, scaled, turned, np.ones(count), nothing, SIZE)
    order = generator.permutation(count)
    return a, b, Matches(np.stack([order, order], 1), np.ones(count))


@pytest.mark.parametrize(("turn", "scaling"), [(0.0, 1.0), (2.5, 0.5), (math.pi, 2.0)])
def test_few_right_matches_among_many_wrong_ones_are_found(turn: float, scaling: float) -> None:
    a, b, matches = two_views(60, 340, turn, scaling)
    kept = agreeing_matches(a, b, matches)
    right = kept.indices[:, 0] < 60
    assert right.sum() > 54
    assert right.mean() > 0.9
    rows = {row: place for place, row in enumerate(matches.indices[:, 0].tolist())}
    assert (np.diff([rows[row] for row in kept.indices[:, 0].tolist()]) > 0).all()  # In their order.


def test_nothing_but_wrong_matches_leaves_little() -> None:
    a, b, matches = two_views(0, 400)
    assert len(agreeing_matches(a, b, matches)) < 40


def test_turning_and_scaling_either_picture_changes_nothing() -> None:
    a, b, matches = two_views(100, 100)
    angle = 2.0
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = replace(
        b,
        keypoints=b.keypoints @ rotation.T,
        orientations=np.angle(np.exp(1j * (b.orientations + angle))),
    )
    # The area that wrong matches spread over is taken along the axes, so that odds change a little, decisions hardly.
    before, after = (set(agreeing_matches(a, each, matches).indices[:, 0].tolist()) for each in (b, turned))
    assert len(before ^ after) <= 4
    larger = replace(b, keypoints=3 * b.keypoints, scales=3 * b.scales)
    np.testing.assert_allclose(log_odds(a, larger, matches), log_odds(a, b, matches), rtol=1e-3, atol=0.05)


def test_features_without_scale_and_orientation_are_held_to_shifts() -> None:
    a, b, matches = two_views(100, 100, turn=0.1, scaling=1.0)
    ones, zeros = np.ones(200), np.zeros(200)
    bare = [replace(each, scales=ones, orientations=zeros) for each in (a, b)]
    right = agreeing_matches(bare[0], bare[1], matches).indices[:, 0] < 100
    assert right.sum() > 90
    assert right.mean() > 0.9


def reference(a: Features, b: Features, matches: Matches) -> NDArray[np.float64]:
    """The odds, one pair of matches after the other."""
    first, second = matches.indices.T
    count = len(matches)
    places, moved = a.keypoints[first].astype(float), b.keypoints[second].astype(float)
    turns = (b.orientations[second] - a.orientations[first]).astype(float)
    scalings = np.log(b.scales[second] / a.scales[first]).astype(float)

    def alike(i: int, j: int) -> bool:
        turn = math.remainder(turns[j] - turns[i], 2 * math.pi)
        return abs(turn) < similarity_filter.TURN and abs(scalings[j] - scalings[i]) < similarity_filter.SCALING

    shifts = np.unique(np.linspace(1, count - 1, 16).astype(int))
    by_chance = np.mean([alike(i, (i + shift) % count) for i in range(count) for shift in shifts])
    area = 12 * moved[:, 0].std() * moved[:, 1].std()
    belief, found = np.full(count, 0.5), np.zeros(count)
    for _ in range(ROUNDS):
        for i in range(count):
            distances = np.linalg.norm(places - places[i], axis=1)
            distances[i] = np.inf
            total = 0.0
            for j in np.argsort(distances)[: min(NEIGHBOURS, count - 1)]:
                turn = turns[i] + math.remainder(turns[j] - turns[i], 2 * math.pi) / 2
                factor = math.exp((scalings[i] + scalings[j]) / 2)
                cos, sin = factor * math.cos(turn), factor * math.sin(turn)
                expected = np.array([[cos, -sin], [sin, cos]]) @ (places[j] - places[i])
                limit = similarity_filter.REACH * np.linalg.norm(expected) + similarity_filter.SLACK * factor
                chance = min(max(min(math.pi * limit**2 / area, 1) * by_chance, 1e-9), 1 - 1e-6)
                p = belief[j] * max(similarity_filter.AGREE, chance) + (1 - belief[j]) * chance
                near = np.linalg.norm(expected - (moved[j] - moved[i])) < limit
                total += math.log(p / chance) if near and alike(i, j) else math.log((1 - p) / (1 - chance))
            found[i] = similarity_filter.TRUST * total
        belief = 1 / (1 + np.exp(-np.clip(found, -50, 50)))
    return found


def test_odds_equal_the_plain_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity_filter, "_BLOCK", 16)
    a, b, matches = two_views(30, 40)
    np.testing.assert_allclose(log_odds(a, b, matches), reference(a, b, matches), rtol=1e-3, atol=1e-2)


def test_too_few_matches_are_all_kept_and_many_in_one_place_do_no_harm() -> None:
    a, b, matches = two_views(FEWEST - 1, 0)
    assert len(agreeing_matches(a, b, matches)) == FEWEST - 1
    assert len(agreeing_matches(a, b, Matches.empty())) == 0
    a, b, matches = two_views(200, 0)
    heaped = [replace(each, keypoints=np.full_like(each.keypoints, 5.0)) for each in (a, b)]
    assert np.isfinite(log_odds(heaped[0], heaped[1], matches)).all()
