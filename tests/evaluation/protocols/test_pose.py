"""Relative pose and homographies, proven by a feature that knows the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.errors import UserError
from lfnet.evaluation.cache import Cache
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair, RelativePose
from lfnet.evaluation.data.synthetic import warped_dataset
from lfnet.evaluation.data.transformed_pairs import transformed_pair
from lfnet.evaluation.data.truth import TransformedTruth, apply_matrix
from lfnet.evaluation.data.views import Variant, transform_image
from lfnet.evaluation.feature_source import FeatureSource
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.estimation import (
    EstimationSettings,
    Estimator,
    MatchedPair,
    measure_tuned,
)
from lfnet.evaluation.protocols.homography import HOMOGRAPHY
from lfnet.evaluation.protocols.matching import MatchingSettings, measure_matching
from lfnet.evaluation.protocols.pose import POSE, pose_errors, recovered_pose
from lfnet.evaluation.results import Section
from lfnet.features import Features, Matches
from lfnet.matching import Neighbours, verify
from support.geometry import FIXED, motion, quiet, turn
from support.oracle import Oracle

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("focal_a", "focal_b"), [(500.0, 500.0), (500.0, 1500.0), (1500.0, 500.0)])
def test_threshold_is_in_pixels_of_the_mean_focal_length(focal_a: float, focal_b: float) -> None:
    """Points of b moved off their lines stay while their Sampson distance is below threshold / mean focal length."""
    generator = np.random.default_rng(0)
    count, moved, threshold = 600, 100, 2.0
    world = generator.uniform((-2, -1.5, 4), (2, 1.5, 8), (count, 3))
    cameras = [np.array([[focal, 0, focal / 2], [0, focal, focal / 2], [0, 0, 1]]) for focal in (focal_a, focal_b)]
    # Sideways only: lines are level, and both pictures share a move off them alike.
    seen = [world @ cameras[0].T, (world + np.array([-1.0, 0, 0])) @ cameras[1].T]
    points = [each[:, :2] / each[:, 2:] for each in seen]
    limit = math.sqrt(2) * threshold / (0.5 * (focal_a + focal_b)) * focal_b
    for factor, stays in ((0.85, True), (1.15, False)):
        off = points[1].copy()
        off[:moved, 1] += factor * limit
        features = [
            Features(each, np.ones(count), np.zeros(count), np.ones(count), np.zeros((count, 2)), (2000, 2000))
            for each in (points[0], off)
        ]
        every = Matches(np.stack([np.arange(count)] * 2, axis=1), np.zeros(count))
        inliers, _ = verify(
            *features, every, "essential", intrinsics_a=cameras[0], intrinsics_b=cameras[1], threshold=threshold
        )
        share = np.isin(np.arange(moved), inliers.indices[:, 0]).mean()
        assert share > 0.95 if stays else share < 0.05


def test_the_oracle_knows_the_pose(rendered: Dataset) -> None:
    intrinsics = [pair.pose for pair in rendered.pairs]
    assert any(pose is not None and pose.intrinsics_a[0, 0] != pose.intrinsics_b[0, 0] for pose in intrinsics)
    section = measure_tuned(POSE, rendered, FeatureSource([Oracle(rendered)]), FIXED, quiet)
    assert section.protocol == "pose"
    assert len(section.rows) == 5
    for row in section.rows:
        assert row.metrics["pose_error"] < 0.1
        assert row.metrics["inliers"] == row.metrics["matches"] > 150
        assert row.budget == 2048
    assert section.mean("pose_auc@5") > 0.98


def test_shuffled_descriptors_have_no_pose(rendered: Dataset) -> None:
    section = measure_tuned(POSE, rendered, FeatureSource([Oracle(rendered, shuffled=True)]), FIXED, quiet)
    assert section.mean("pose_auc@5") < 0.05
    assert np.median([row.metrics["pose_error"] for row in section.rows]) > 20


def test_shuffled_descriptors_have_no_homography(warped: Dataset) -> None:
    section = measure_tuned(HOMOGRAPHY, warped, FeatureSource([Oracle(warped, shuffled=True)]), FIXED, quiet)
    assert section.mean("corner_auc@5") == 0
    # Chance: the share of the picture within 10 px of a place is pi 100 / (320 * 240).
    assert section.mean("mma@10") < 0.03


def test_the_oracle_knows_the_homography(warped: Dataset) -> None:
    section = measure_tuned(HOMOGRAPHY, warped, FeatureSource([Oracle(warped)]), FIXED, quiet)
    assert section.protocol == "homography"
    assert len(section.rows) == 6
    for row in section.rows:
        assert row.metrics["corner_error"] < 0.01
        assert row.metrics["mma@1"] == row.metrics["mma@10"] == 1
        assert row.metrics["corner_auc@1"] > 0.99


def turned_cameras(dataset: Dataset, degrees: int) -> Dataset:
    """Every picture turned; the cameras turn with them."""
    variant = Variant(degrees=degrees)

    def load(name: str) -> NDArray[np.uint8]:
        return transform_image(dataset.load(name), variant).image

    def moved(pair: EvaluationPair) -> EvaluationPair:
        assert pair.pose is not None
        assert pair.truth is not None
        matrices = [transform_image(dataset.load(name), variant).from_base for name in (pair.picture_a, pair.picture_b)]
        rotation = motion(turn(degrees), (0.0, 0.0, 0.0))
        pose = RelativePose(
            matrices[0] @ pair.pose.intrinsics_a @ turn(-degrees),
            matrices[1] @ pair.pose.intrinsics_b @ turn(-degrees),
            rotation @ pair.pose.b_from_a @ rotation.T,
        )
        return replace(pair, truth=TransformedTruth(pair.truth, *matrices), pose=pose)

    return replace(dataset, name=f"turned {degrees}", load=load, pairs=[moved(pair) for pair in dataset.pairs])


@pytest.mark.parametrize("degrees", [90, 215])
def test_turning_both_cameras_changes_nothing(rendered: Dataset, degrees: int) -> None:
    turned = turned_cameras(rendered, degrees)
    section = measure_tuned(POSE, turned, FeatureSource([Oracle(turned)]), FIXED, quiet)
    assert max(row.metrics["pose_error"] for row in section.rows) < 0.1


@pytest.mark.parametrize(("degrees", "zoom"), [(70, 1.0), (180, 0.5)])
def test_the_second_picture_is_turned_and_zoomed_with_its_camera(
    rendered: Dataset, warped: Dataset, degrees: int, zoom: float
) -> None:
    """RootSIFT finds its way on pictures that are turned: the truth is turned alike."""
    source = FeatureSource([OpenCVExtractor("rootsift")])
    settings = replace(FIXED, turn=degrees, zoom=zoom)
    section = measure_tuned(POSE, rendered, source, settings, quiet)
    assert {row.variant for row in section.rows} == {settings.variant.name}
    assert section.mean("pose_auc@20") > 0.5
    assert measure_tuned(HOMOGRAPHY, warped, source, settings, quiet).mean("corner_auc@5") > 0.5


def test_a_camera_that_is_turned_sees_what_the_turned_picture_shows() -> None:
    generator = np.random.default_rng(0)
    world = generator.uniform((-2, -2, 4), (2, 2, 8), (20, 3))
    intrinsics = np.array([[500.0, 0, 320], [0, 450, 240], [0, 0, 1]])
    pose = RelativePose(intrinsics, intrinsics, motion(turn(20), (0.5, 0.1, 0.0)))
    view = transform_image(np.zeros((480, 640), np.uint8), Variant(degrees=130, zoom=1.5))
    pair = EvaluationPair("pair", "group", "a", "b", pose=pose)
    moved = transformed_pair(pair, view.from_base, (view.image.shape[1], view.image.shape[0])).pose
    assert moved is not None

    def seen(camera: NDArray, b_from_a: NDArray) -> NDArray:
        points = (world @ b_from_a[:3, :3].T + b_from_a[:3, 3]) @ camera.T
        return points[:, :2] / points[:, 2:]

    expected = apply_matrix(view.from_base, seen(intrinsics, pose.b_from_a))
    np.testing.assert_allclose(seen(moved.intrinsics_b, moved.b_from_a), expected, atol=1e-9)
    np.testing.assert_allclose(np.tril(moved.intrinsics_b, -1), 0, atol=1e-9)
    np.testing.assert_allclose(moved.b_from_a[:3, :3] @ moved.b_from_a[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(moved.b_from_a[:3, :3]) == pytest.approx(1)


def test_the_filter_takes_wrong_matches_away_and_runs_are_comparable(rendered: Dataset) -> None:
    source = FeatureSource([OpenCVExtractor("rootsift")])
    plain, filtered = (
        measure_tuned(POSE, rendered, source, replace(FIXED, filter=filtered), quiet) for filtered in (False, True)
    )
    assert filtered.mean("matches") < 0.9 * plain.mean("matches")
    assert filtered.mean("inliers") > 0.8 * plain.mean("inliers")
    assert (plain.chosen["rootsift"]["filter"], filtered.chosen["rootsift"]["filter"]) == (False, True)
    assert plain.settings == filtered.settings
    assert min(row.metrics["estimation_time"] for row in filtered.rows) > 0


def test_too_few_matches_have_no_pose(rendered: Dataset) -> None:
    class Few(Oracle):
        def __call__(self, image: np.ndarray, *, max_keypoints: int, mask: np.ndarray | None = None) -> Features:
            return super().__call__(image, max_keypoints=4)

    class Blind(OpenCVExtractor):
        def __call__(self, image: np.ndarray, **options: object) -> Features:
            return Features.empty((image.shape[1], image.shape[0]))

    few, blind = Few(rendered), Blind("sift")
    few.name, blind.name = "few", "blind"
    section = measure_tuned(POSE, rendered, FeatureSource([few, blind]), FIXED, quiet)
    assert len(section.rows) == 10
    for row in section.rows:
        assert row.metrics["pose_error"] == math.inf
        assert row.metrics["pose_auc@20"] == 0
        assert row.metrics["inliers"] == 0
    homographies = measure_tuned(HOMOGRAPHY, warped_dataset(count=2), FeatureSource([blind]), FIXED, quiet)
    assert homographies.mean("corner_error") == math.inf
    assert homographies.mean("mma@10") == 0


def test_pose_needs_no_more_than_intrinsics(rendered: Dataset) -> None:
    pair = rendered.pairs[0]
    oracle = Oracle(rendered)
    features = [oracle(rendered.load(name), max_keypoints=500) for name in (pair.picture_a, pair.picture_b)]
    assert pair.pose is not None
    blank = replace(pair.pose, b_from_a=np.full((4, 4), np.nan))
    neighbours = Neighbours.of(*(each.descriptors for each in features))
    matched = MatchedPair(features[0], features[1], neighbours, Cache(None))
    estimate = matched.estimate(Estimator(threshold=1.0), FIXED, (blank.intrinsics_a, blank.intrinsics_b))
    assert estimate.inliers.all()
    found = recovered_pose(estimate.model, *matched.points(estimate.used), blank)
    assert found is not None
    assert max(pose_errors(*found, pair.pose.b_from_a)) < 0.1


def test_pairs_without_the_truth_are_passed_over(rendered: Dataset, warped: Dataset) -> None:
    source = FeatureSource([OpenCVExtractor("orb")])
    assert measure_tuned(POSE, warped, source, FIXED, quiet).skipped == ["pose on warped: no pair has known cameras"]
    section = measure_tuned(HOMOGRAPHY, rendered, source, FIXED, quiet)
    assert section.rows == []
    assert section.skipped == ["homography on rendered: no pair has a known homography"]


class Failing(OpenCVExtractor):
    """Fails on some pictures."""

    def __init__(self, fails: Callable[[np.ndarray], bool]) -> None:
        super().__init__("rootsift")
        self.name = "failing"
        self._fails = fails

    def __call__(self, image: np.ndarray, **options: object) -> Features:
        if self._fails(image):
            raise UserError("descriptors hold NaN")
        return super().__call__(image, **options)  # type: ignore[arg-type]


def test_a_method_that_fails_costs_the_pair_or_itself(rendered: Dataset) -> None:
    first = rendered.load("scene00/b")
    once, always = Failing(lambda image: np.array_equal(image, first)), Failing(lambda image: True)
    always.name = "hopeless"
    section = measure_tuned(POSE, rendered, FeatureSource([Oracle(rendered), once, always]), FIXED, quiet)
    assert section.methods() == ["oracle", "failing"]
    assert {row.pair for row in section.rows} == {f"scene 0{number}" for number in range(1, 5)}
    assert len(section.skipped) == 2
    assert section.skipped[0].startswith("hopeless is left out: it fails on 5 of 5 pairs")
    assert (
        "pair scene 00 is left out for every method: failing on rendered/scene00/b: descriptors hold NaN"
        in section.skipped[1]
    )


def test_a_missing_picture_costs_its_pair(rendered: Dataset) -> None:
    def load(name: str) -> NDArray[np.uint8]:
        if name == "scene02/a":
            raise FileNotFoundError(f"{name}: no such file; check the path")
        return rendered.load(name)

    source = FeatureSource([OpenCVExtractor("orb"), OpenCVExtractor("rootsift")])
    section = measure_tuned(POSE, replace(rendered, load=load), source, replace(FIXED, budget=100), quiet)
    assert len(section.rows) == 8
    assert section.skipped == ["pair scene 02 is left out for every method: scene02/a: no such file; check the path"]


def test_descriptors_of_two_kinds_are_a_line(rendered: Dataset) -> None:
    class Mixed(OpenCVExtractor):
        calls = 0

        def __call__(self, image: np.ndarray, **options: object) -> Features:
            found = super().__call__(image, **options)  # type: ignore[arg-type]
            Mixed.calls += 1
            return replace(found, descriptors=found.descriptors[:, : 64 * (Mixed.calls % 2 + 1)])

    section = measure_tuned(POSE, rendered, FeatureSource([Mixed("rootsift")]), replace(FIXED, budget=50), quiet)
    assert section.rows == []
    assert "rootsift is left out: it fails on 5 of 5 pairs" in section.skipped[0]
    assert "\n" not in section.skipped[0]


def test_what_was_estimated_is_read_again_and_never_mixed(rendered: Dataset, warped: Dataset, tmp_path: Path) -> None:
    def measured(settings: EstimationSettings = FIXED) -> tuple[Section, Section, Cache]:
        cache = Cache(tmp_path / "cache")
        source = FeatureSource([OpenCVExtractor("rootsift")], cache)
        pose = EstimationSettings(budget=150, ratio=settings.ratio, threshold=settings.threshold, seed=settings.seed)
        homography = EstimationSettings(budget=150, ratio=settings.ratio, threshold=settings.threshold)
        poses = measure_tuned(POSE, rendered, source, pose, quiet)
        return poses, measure_tuned(HOMOGRAPHY, warped, source, homography, quiet), cache

    first = measured()
    again = measured()
    assert again[2].computed == 0
    assert again[:2] == first[:2]
    assert measured(replace(FIXED, threshold=2.0))[2].computed == 5 + 6
    assert measured(replace(FIXED, seed=1))[2].computed == 5


def test_settings_that_make_no_sense() -> None:
    for wrong, message in (
        ({"budget": 0}, "at least 1"),
        ({"ratio": 1.2}, "ratio must be in"),
        ({"threshold": -1.0}, "threshold must be positive"),
        ({"every": 1}, "every: expected at least 2"),
        ({"confidence": 1.0}, "confidence"),
    ):
        with pytest.raises(ValueError, match=message):
            EstimationSettings(**wrong)  # type: ignore[arg-type]


def test_rootsift_falls_with_the_index_as_in_the_literature(shared_data: Path) -> None:
    dataset = open_data(shared_data / "homography" / "oxford", DataSettings(long_side=320))
    pairs = [pair for pair in dataset.pairs if pair.group in ("graf", "boat")]
    source, settings = FeatureSource([OpenCVExtractor("rootsift")]), replace(FIXED, budget=256)
    chosen = replace(dataset, pairs=pairs)
    accuracy = {row.pair: row.metrics for row in measure_tuned(HOMOGRAPHY, chosen, source, settings, quiet).rows}
    score = {row.pair: row.metrics for row in measure_matching(chosen, source, MatchingSettings((256,)), quiet).rows}
    for measured, metric in ((accuracy, "mma@5"), (score, "matching_score@5")):
        for falling in (("graf 1-2", "graf 1-4", "graf 1-6"), ("boat 1-2", "boat 1-4", "boat 1-6")):
            values = [measured[name][metric] for name in falling]
            assert values == sorted(values, reverse=True), (metric, values)
            assert values[0] > 2 * values[2]
    assert accuracy["graf 1-2"]["corner_error"] < 3
