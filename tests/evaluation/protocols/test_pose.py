"""Relative pose and homographies: metrics worked by hand, and the chain proven by a feature that knows the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.evaluation.cache import Cache
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair, RelativePose
from lfnet.evaluation.data.synthetic import rendered_dataset, warped_dataset
from lfnet.evaluation.data.truth import TransformedTruth
from lfnet.evaluation.data.views import Variant, transform_image
from lfnet.evaluation.feature_source import FeatureSource
from lfnet.evaluation.methods.feature_files import FeatureFile
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.estimation import (
    RATIOS,
    THRESHOLDS,
    EstimationSettings,
    MatchedPair,
    Tuning,
    area_under_recall,
    measure_tuned,
    pooled,
    set_aside,
)
from lfnet.evaluation.protocols.homography import HOMOGRAPHY, corner_error, transfer_errors
from lfnet.evaluation.protocols.matching import MatchingSettings, measure_matching
from lfnet.evaluation.protocols.pose import POSE, pose_errors, recovered_pose, rotation_error
from lfnet.evaluation.results import Section
from lfnet.features import Features, Matches
from lfnet.integrations.hloc import write_features
from lfnet.matching import Neighbours, verify
from lfnet.matching_score import share_within
from support.oracle import Oracle

FIXED = EstimationSettings(ratio=1.0, threshold=1.0)


def quiet(text: str) -> None:
    """No progress shown."""


def turn(degrees: float, axis: int = 2) -> NDArray[np.float64]:
    """Rotation about an axis."""
    angle = math.radians(degrees)
    others = [index for index in range(3) if index != axis]
    matrix = np.eye(3)
    matrix[np.ix_(others, others)] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return matrix


def motion(rotation: NDArray[np.float64], translation: tuple[float, float, float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


@pytest.fixture(scope="module")
def rendered() -> Dataset:
    """Pairs of rendered rooms with exact depth and poses."""
    return rendered_dataset(count=5)


@pytest.fixture(scope="module")
def warped() -> Dataset:
    """Pieces of a photograph, each warped once."""
    pytest.importorskip("skimage")
    return warped_dataset(count=6)


# --- metrics ---


@pytest.mark.parametrize("degrees", [0.0, 1e-7, 0.1, 30.0, 90.0, 179.0, 180.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_error_is_the_angle(degrees: float, axis: int) -> None:
    base = turn(40, 0) @ turn(25, 1)
    assert rotation_error(turn(degrees, axis) @ base, base) == pytest.approx(degrees, rel=1e-6, abs=1e-9)
    assert rotation_error(base, turn(degrees, axis) @ base) == pytest.approx(degrees, rel=1e-6, abs=1e-9)


def test_pose_errors_by_hand() -> None:
    truth = motion(turn(10), (0.0, 0.0, 2.0))
    assert pose_errors(turn(10), np.array([0, 0, 7.0]), truth) == pytest.approx((0, 0), abs=1e-9)
    assert pose_errors(turn(13), np.array([0, 1.0, 1.0]), truth) == pytest.approx((3, 45))
    assert pose_errors(turn(10), np.array([0, 0, -1.0]), truth)[1] == pytest.approx(0), "the sign is not known"
    assert pose_errors(turn(10), np.array([0, 1.0, -1.0]), truth)[1] == pytest.approx(45)
    assert pose_errors(turn(10), np.array([1.0, 0, 0]), truth)[1] == pytest.approx(90)
    still = motion(turn(10), (0.0, 0.0, 0.0))
    assert pose_errors(turn(12), np.array([1.0, 0, 0]), still) == pytest.approx((2, 0)), "no baseline, no direction"


def slow_area(errors: NDArray[np.float64], threshold: float) -> float:
    """Exact integral of the steps of recall: between two errors, as wide as they are apart."""
    stops = sorted({0.0, threshold, *(error for error in errors if error < threshold)})
    area = 0.0
    for low, high in pairwise(stops):
        area += (high - low) * sum(error <= low for error in errors) / len(errors)
    return area / threshold


def slanted_area(errors: NDArray[np.float64], threshold: float) -> float:
    """As SuperGlue takes it: straight lines from step to step."""
    known = np.concatenate([[0.0], np.sort(errors)])
    recall = np.arange(len(known)) / len(errors)
    last = int(np.searchsorted(known, threshold))
    heights = np.concatenate([recall[:last], [recall[last - 1]]])
    places = np.concatenate([known[:last], [threshold]])
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(places)).sum() / threshold)


@pytest.mark.parametrize("count", [1, 7, 200])
@pytest.mark.parametrize("threshold", [5.0, 10.0, 20.0])
def test_area_under_recall_is_the_exact_integral(count: int, threshold: float) -> None:
    generator = np.random.default_rng(count)
    errors = generator.gamma(1.0, 8.0, count)
    errors[generator.random(count) < 0.2] = np.inf
    exact = area_under_recall(errors, threshold)
    assert exact == pytest.approx(slow_area(errors, threshold))
    assert exact <= slanted_area(errors, threshold) <= exact + 1 / (2 * count) + 1e-12


def test_area_under_recall_by_hand() -> None:
    assert area_under_recall([0.0], 5) == 1
    assert area_under_recall([2.5], 5) == 0.5
    assert area_under_recall([1.0, 4.0, 7.0, np.inf], 5) == pytest.approx((0.8 + 0.2) / 4)
    assert slanted_area(np.array([2.5]), 5) == 0.75, "half a step more than the recall of the one error there is"
    assert math.isnan(area_under_recall([], 5))


def test_corner_error_by_hand() -> None:
    size = (101, 51)
    assert corner_error(np.eye(3), np.eye(3), size) == 0
    shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert corner_error(shift, np.eye(3), size) == pytest.approx(5)
    assert corner_error(-2 * shift, np.eye(3), size) == pytest.approx(5), "known up to scale and sign"
    zoom = np.diag([1.1, 1.0, 1.0])
    assert corner_error(zoom, np.eye(3), size) == pytest.approx((0 + 10 + 10 + 0) / 4)
    beyond = np.array([[1.0, 0, 0], [0, 1, 0], [-0.015, 0, 1]])
    assert corner_error(beyond, np.eye(3), size) == math.inf
    assert corner_error(np.zeros((3, 3)), np.eye(3), size) == math.inf


def test_matching_accuracy_by_hand() -> None:
    shift = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
    points_a = np.array([[0.0, 0], [1, 1], [2, 2], [3, 3]])
    points_b = np.array([[10.0, 0], [11, 3], [12, 7], [99, 3]])
    errors = transfer_errors(shift, points_a, points_b)
    np.testing.assert_allclose(errors, [0, 2, 5, 86])
    assert share_within(errors, (1, 2, 5)) == {1.0: 0.25, 2.0: 0.5, 5.0: 0.75}
    assert share_within(np.zeros(0), (1,)) == {1.0: 0.0}
    beyond = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 1]])
    assert transfer_errors(beyond, np.array([[2.0, 0]]), np.array([[0.0, 0]])).tolist() == [math.inf]


# --- the threshold of an essential matrix ---


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


# --- oracle ---


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
    every = np.stack([np.arange(len(features[0]))] * 2, axis=1)
    neighbours = Neighbours.of(*(each.descriptors for each in features))
    matched = MatchedPair(features[0], features[1], neighbours, Cache(None))
    essential, inliers = matched.model(every, 1.0, FIXED, (blank.intrinsics_a, blank.intrinsics_b))
    assert inliers.all()
    found = recovered_pose(essential, *matched.points(every), blank)
    assert found is not None
    assert max(pose_errors(*found, pair.pose.b_from_a)) < 0.1


# --- tuning ---


def test_data_sets_are_tuned_on_groups_of_all_of_them(rendered: Dataset) -> None:
    second = replace(rendered, name="second/part")
    few = replace(rendered, name="few", pairs=rendered.pairs[:3])
    pool, left = pooled([rendered, second, few], POSE, every=4)
    assert pool is not None
    assert pool.name == "rendered, second/part"
    assert len(left[2].pairs) == 3
    assert len(pool.pairs) + sum(len(part.pairs) for part in left) == 2 * len(rendered.pairs) + 3
    names = {f"{part.name}/{pair.name}" for part in left for pair in part.pairs}
    assert not names & {pair.name for pair in pool.pairs}
    last = pool.pairs[-1]
    assert last.picture_a.startswith("second/part/")
    assert np.array_equal(pool.load(last.picture_a), rendered.load(last.picture_a.removeprefix("second/part/")))
    assert pooled([few], POSE, every=4) == (None, [few])


def test_features_files_are_tuned_whatever_folders_they_name(rendered: Dataset, tmp_path: Path) -> None:
    orb, path = OpenCVExtractor("orb"), tmp_path / "theirs.h5"
    with h5py.File(path, "w") as file:
        for picture in (name for pair in rendered.pairs for name in (pair.picture_a, pair.picture_b)):
            write_features(file, f"above/{picture}", orb(rendered.load(picture), max_keypoints=300))
    source = FeatureSource([FeatureFile(path)])
    settings = EstimationSettings(budget=100, threshold=1.0)
    pool, (left, *_) = pooled([rendered], POSE, every=4)
    assert pool is not None
    section = measure_tuned(POSE, left, source, settings, quiet, tuning=Tuning(pool))
    assert section.chosen["theirs"]["tuning_pairs"] == len(pool.pairs)
    assert section.skipped == []


def test_whole_groups_are_set_aside(rendered: Dataset) -> None:
    pairs = [replace(rendered.pairs[0], name=str(number), group=f"g{number // 2}") for number in range(18)]
    aside, reported = set_aside(pairs, 4)
    assert [pair.name for pair in aside] == ["6", "7", "14", "15"]
    assert len(reported) == 14
    assert set_aside(pairs[:6], 4) == ([], pairs[:6])


def test_each_method_is_tuned_on_pairs_that_are_not_reported(rendered: Dataset) -> None:
    methods = [OpenCVExtractor("rootsift"), Oracle(rendered)]
    section = measure_tuned(POSE, rendered, FeatureSource(methods), EstimationSettings(budget=300), quiet)
    assert {row.pair for row in section.rows} == {"scene 00", "scene 01", "scene 02", "scene 04"}
    for method in ("rootsift", "oracle"):
        chosen = section.chosen[method]
        assert chosen["ratio"] in RATIOS
        assert chosen["threshold"] in THRESHOLDS
        assert (chosen["tuned_on"], chosen["tuning_pairs"]) == ("rendered", 1)
    best = section.chosen["rootsift"]
    aside = replace(rendered, pairs=[rendered.pairs[3]])
    scores = {}
    for ratio in RATIOS:
        for threshold in THRESHOLDS:
            settings = EstimationSettings(budget=300, ratio=ratio, threshold=threshold)
            only = measure_tuned(POSE, aside, FeatureSource(methods[:1]), settings, quiet)
            scores[ratio, threshold] = only.mean("pose_auc@10")
    assert scores[best["ratio"], best["threshold"]] == pytest.approx(max(scores.values()), abs=1e-9)


def test_published_pairs_stay_whole_where_others_are_tuned_on(rendered: Dataset) -> None:
    others = rendered_dataset(count=2, seed=5)
    section = measure_tuned(
        POSE, rendered, FeatureSource([OpenCVExtractor("rootsift")]), EstimationSettings(budget=200), quiet,
        tuning=Tuning(replace(others, name="others")),
    )  # fmt: skip
    assert len(section.rows) == 5
    assert section.chosen["rootsift"]["tuned_on"] == "others"
    assert section.chosen["rootsift"]["tuning_pairs"] == 2


def test_what_is_tuned_on_is_said(rendered: Dataset, warped: Dataset) -> None:
    source, settings = FeatureSource([Oracle(rendered)]), EstimationSettings(threshold=1.0)
    section = measure_tuned(POSE, rendered, source, settings, quiet, tuning=Tuning(warped))
    assert section.chosen["oracle"]["tuned_on"] == "rendered"
    assert section.skipped == [
        "pose on rendered: no pair of warped has known cameras, so that it is tuned on its own pairs"
    ]
    section = measure_tuned(POSE, rendered, source, settings, quiet, tuning=Tuning(rendered))
    assert len(section.rows) == 5
    assert section.skipped == ["pose on rendered: 5 of 5 pairs that are reported were also there to tune on"]


def test_few_groups_are_not_tuned_on(rendered: Dataset) -> None:
    few = replace(rendered, pairs=rendered.pairs[:3])
    section = measure_tuned(POSE, few, FeatureSource([Oracle(rendered)]), EstimationSettings(), quiet)
    assert len(section.rows) == 3
    assert section.chosen["oracle"] == {"ratio": 1.0, "threshold": 1.0}
    assert section.skipped == [
        "pose on rendered: nothing is tuned, as there are fewer than 4 groups of pairs: no ratio test and a threshold "
        "of 1 px for every method"
    ]


def test_pairs_without_the_truth_are_passed_over(rendered: Dataset, warped: Dataset) -> None:
    source = FeatureSource([OpenCVExtractor("orb")])
    assert measure_tuned(POSE, warped, source, FIXED, quiet).skipped == ["pose on warped: no pair has known cameras"]
    section = measure_tuned(HOMOGRAPHY, rendered, source, FIXED, quiet)
    assert section.rows == []
    assert section.skipped == ["homography on rendered: no pair has a known homography"]


# --- what goes wrong, and the cache ---


class Failing(OpenCVExtractor):
    """Fails on some pictures."""

    def __init__(self, fails: Callable[[np.ndarray], bool]) -> None:
        super().__init__("rootsift")
        self.name = "failing"
        self._fails = fails

    def __call__(self, image: np.ndarray, **options: object) -> Features:
        if self._fails(image):
            raise RuntimeError("descriptors hold NaN")
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
