"""Metrics on cases worked out by hand, and against an oracle and chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lfnet import matching_score as metrics
from lfnet.evaluation.cache import Cache
from lfnet.evaluation.data.truth import HomographyTruth
from lfnet.evaluation.feature_source import FeatureSource
from lfnet.evaluation.protocols.matching import measure_pair
from lfnet.features import Features

SIZE = (200, 160)


def features(keypoints: np.ndarray, descriptors: np.ndarray, orientations: np.ndarray | None = None) -> Features:
    """Features with unit scales and falling scores."""
    count = len(keypoints)
    return Features(
        keypoints=np.asarray(keypoints, np.float32).reshape(-1, 2),
        scales=np.ones(count, np.float32),
        orientations=np.zeros(count, np.float32) if orientations is None else orientations.astype(np.float32),
        scores=np.linspace(1, 0.5, count, dtype=np.float32),
        descriptors=np.asarray(descriptors, np.float32),
        image_size=SIZE,
    )


def test_match_errors_by_hand() -> None:
    projection = metrics.Projection(
        points=np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 10.0], [0.0, 0.0]]),
        visible=np.array([True, True, True, False]),
    )
    keypoints = np.array([[13.0, 14.0], [50.0, 51.0]])
    errors = metrics.match_errors(projection, keypoints, np.array([0, 1, -1, 0]))
    assert errors[:3].tolist() == [5.0, 1.0, np.inf]
    assert np.isnan(errors[3])
    assert metrics.share_within(errors, (1, 3, 5)) == {1.0: 1 / 3, 3.0: 1 / 3, 5.0: 2 / 3}


def test_share_of_nothing_is_zero() -> None:
    assert metrics.share_within(np.array([np.nan, np.nan]), (5.0,)) == {5.0: 0.0}
    assert metrics.share_within(np.zeros(0), (5.0,)) == {5.0: 0.0}


def test_repeatability_and_localisation_by_hand() -> None:
    projection = metrics.Projection(np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 90.0]]), np.array([True, True, False]))
    keypoints = np.array([[10.0, 12.0], [10.0, 11.0], [80.0, 50.0], [90.0, 90.0]])
    distances = metrics.distances_to(projection, keypoints)
    errors = metrics.nearest_keypoint_errors(distances, projection.visible)
    assert errors[:2].tolist() == [1.0, 30.0]
    assert np.isnan(errors[2])
    assert metrics.share_within(errors, (3,)) == {3.0: 0.5}
    assert metrics.localisation_error(errors, 3.0) == 1.0
    assert np.isnan(metrics.localisation_error(errors, 0.5))


def test_octaves_by_hand() -> None:
    scales = [0.1, 1.0, 1.19, 1.4, 1.5, 2.0, 2.7, 4.0, 8.0, 100.0]
    assert metrics.octave_indices(np.array(scales)).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 3, 3]
    half_octaves = np.array([1 / 0.7071, 480 / 339, 480 / 340, 1 / 0.3536], np.float32)
    assert metrics.octave_indices(half_octaves).tolist() == [0, 0, 0, 1], "half-way is the finer, however it is rounded"


def test_correct_match_error_and_shares_by_hand() -> None:
    errors = np.array([1.0, np.nan, 4.0, 5.0, 5.1, np.inf])
    octaves = np.array([0, 0, 0, 3, 3, 1])
    assert metrics.correct_match_error(errors, 5.0) == 4.0
    assert metrics.correct_match_error(errors, 4.5) == 2.5
    assert np.isnan(metrics.correct_match_error(errors, 0.5))
    assert metrics.octave_shares(errors, octaves, 5.0).tolist() == [2 / 3, 0, 0, 1 / 3]
    assert np.isnan(metrics.octave_shares(errors, octaves, 0.5)).all()


def shifted_pair(scales_a: Sequence[float], scales_b: Sequence[float]) -> tuple[Features, Features, HomographyTruth]:
    """Six keypoints, 1, 2, 3, 1, 4 and 9 px off in the second view."""
    places = np.stack([np.arange(6) * 25.0 + 20, np.full(6, 50.0)], axis=1)
    found = places + np.array([[0, 1], [0, 2], [0, 3], [0, 1], [0, 4], [0, 9]])
    a, b = (
        replace(features(keypoints, np.eye(6)), scales=np.array(scales, np.float32))
        for keypoints, scales in ((places, scales_a), (found, scales_b))
    )
    return a, b, HomographyTruth(np.eye(3), SIZE, SIZE)


def test_match_error_of_a_pair_by_hand() -> None:
    """The last is wrong at 5 px; octaves are those of the keypoint that is matched, so directions differ."""
    row = measure_pair(FeatureSource([]), *shifted_pair([1, 1, 1, 2, 2, 8], [1, 1, 1, 4, 4, 8]), (1.0, 3.0, 5.0))
    assert row["match_error_median"] == 2.0
    errors = [row[f"match_error_median@octave{octave}"] for octave in metrics.OCTAVES]
    assert errors[:3] == [2.0, 2.5, 2.5]
    assert np.isnan(errors[3])
    assert [row[f"match_share@octave{octave}"] for octave in metrics.OCTAVES] == [0.6, 0.2, 0.2, 0.0]


def test_other_scales_are_measured_anew(tmp_path: Path) -> None:
    source = FeatureSource([], Cache(tmp_path))
    fine = measure_pair(source, *shifted_pair([1] * 6, [1] * 6), (5.0,))
    coarse = measure_pair(source, *shifted_pair([4] * 6, [4] * 6), (5.0,))
    assert (fine["match_share@octave1"], coarse["match_share@octave1"]) == (1.0, 0.0)
    assert fine["match_error_median"] == coarse["match_error_median"] == 2.0


def test_precision_of_nothing_is_undefined() -> None:
    assert metrics.share_within(np.array([2.0, 9.0]), (1, 5), of_nothing=np.nan) == {1.0: 0.0, 5.0: 0.5}
    assert np.isnan(metrics.share_within(np.full(4, np.nan), (5,), of_nothing=np.nan)[5.0])


def test_orientation_agreement_wraps_and_takes_the_best_at_one_place() -> None:
    projection = metrics.Projection(np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 90.0]]), np.array([True, True, True]))
    keypoints = np.array([[10.0, 10.0], [50.0, 50.0], [50.0, 50.0], [90.0, 99.0]])
    distances = metrics.distances_to(projection, keypoints)
    expected = np.array([np.pi - 0.1, 0.0, 0.0])
    orientations = np.array([-np.pi + 0.1, 2.0, 0.3, 0.0])
    assert metrics.orientation_agreement(distances, expected, orientations) == 1.0
    orientations[2] = 1.0
    assert metrics.orientation_agreement(distances, expected, orientations) == 0.5


@pytest.mark.parametrize("turned", [False, True])
def test_oracle_is_perfect_and_shuffled_is_chance(turned: bool) -> None:
    generator = np.random.default_rng(3)
    count = 150
    points = np.stack(np.meshgrid(np.arange(15) * 13.0 + 5, np.arange(10) * 15.0 + 5), -1).reshape(-1, 2)
    descriptors = generator.normal(size=(count, 16))
    angle = 0.7 if turned else 0.0
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine, -sine, 100.0], [sine, cosine, 3.0], [0, 0, 1]])
    truth = HomographyTruth(matrix, SIZE, (400, 400))
    places, visible = truth.b_from_a(points)
    assert visible.sum() > 100
    order = generator.permutation(count)
    a = features(points, descriptors, np.full(count, 0.2))
    b = features(places[order], descriptors[order], np.full(count, 0.2 + angle))
    perfect = measure_pair(FeatureSource([]), a, b, truth, (1.0, 3.0, 5.0))
    for name in ("matching_score@1", "repeatability@1", "precision@1", "orientation_agreement"):
        assert perfect[name] == 1.0, name
    assert perfect["localisation_error"] < 1e-4
    shuffled = features(places[order], descriptors[generator.permutation(count)])
    chance = measure_pair(FeatureSource([]), a, shuffled, truth, (5.0,))
    assert chance["matching_score@5"] < 6 / count
    assert chance["repeatability@5"] == 1.0


def test_score_is_the_same_whichever_view_is_first() -> None:
    generator = np.random.default_rng(5)
    matrix = np.array([[1.0, 0, 12], [0, 1.0, -7], [0, 0, 1]])
    a = features(generator.uniform(0, 150, (40, 2)), generator.normal(size=(40, 8)))
    b = features(generator.uniform(0, 150, (50, 2)), generator.normal(size=(50, 8)))
    forth = measure_pair(FeatureSource([]), a, b, HomographyTruth(matrix, SIZE, SIZE), (20.0,))
    back = measure_pair(FeatureSource([]), b, a, HomographyTruth(np.linalg.inv(matrix), SIZE, SIZE), (20.0,))
    errors = ("localisation_error", "match_error_median")
    for name in ("matching_score@20", "repeatability@20", *errors, "matches", "visible"):
        assert forth[name] == pytest.approx(back[name], abs=1e-6), name


def test_no_keypoints_score_nothing() -> None:
    a = features(np.array([[10.0, 10.0]]), np.ones((1, 8)))
    empty = Features.empty(SIZE, dim=8)
    truth = HomographyTruth(np.eye(3), SIZE, SIZE)
    for first, second in ((a, empty), (empty, a), (empty, empty)):
        row = measure_pair(FeatureSource([]), first, second, truth, (5.0,))
        assert row["matching_score@5"] == 0.0
        assert row["matches"] == 0.0
        for name in ("precision@5", "match_error_median", "match_error_median@octave1", "match_share@octave1"):
            assert np.isnan(row[name]), name
