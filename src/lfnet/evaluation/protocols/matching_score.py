"""The paper's measure: how many keypoints find their counterpart by descriptor alone, upright, turned and zoomed.

`measure_matching` takes pictures as they are, at several budgets; `measure_sweep` turns and zooms the second picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lfnet.evaluation.cache import digest
from lfnet.evaluation.data.measured_frames import evenly
from lfnet.evaluation.data.truth import CountedTruth, TransformedTruth, carried_orientations
from lfnet.evaluation.data.views import UNTOUCHED, Variant, beyond_reach, valid_pixels
from lfnet.evaluation.feature_source import FEATURES_VERSION, NEIGHBOURS_VERSION
from lfnet.evaluation.protocols import metrics
from lfnet.evaluation.protocols.fairness import Failures, fair_rows
from lfnet.evaluation.results import Row, Section
from lfnet.matching import Neighbours
from lfnet.progress import Say
from lfnet.settings import ConfigError

if TYPE_CHECKING:
    from lfnet.evaluation.cache import Arrays
    from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
    from lfnet.evaluation.data.truth import Truth
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method
    from lfnet.features import Features


ALL_TURNS = tuple(range(0, 360, 30))

MEASURES_VERSION = 1
"""Raised with every change of what `measure_pair` makes of the same inputs. A metric of a new input renews the cache
without it, and leaves other results comparable."""


@dataclass(frozen=True)
class MatchingSettings:
    """How matching score is measured; the same for every method."""

    budgets: tuple[int, ...] = (512, 1024, 2048)
    """Budgets of keypoints, K. Features are extracted once, at the largest, and cut by score."""

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 1:
            raise ConfigError(f"budgets must be at least 1, got {self.budgets}")


@dataclass(frozen=True)
class SweepSettings:
    """Which turns and zooms of the second picture are measured."""

    turns: tuple[int, ...] = ALL_TURNS
    """Degrees, clockwise; 0 = upright."""
    zooms: tuple[float, ...] = (0.25, 0.5, 0.71, 1.41, 2.0, 4.0)
    """Factors of the second picture's size."""
    pairs: int = 24
    """Pairs of a data set at most, evenly chosen."""
    budget: int = 512
    """Keypoints of a picture, K."""

    def __post_init__(self) -> None:
        if any(zoom <= 0 for zoom in self.zooms):
            raise ConfigError(f"zooms must be positive factors, got {self.zooms}")
        if self.pairs < 1 or self.budget < 1:
            raise ConfigError(f"pairs and budget must be at least 1, got {self.pairs} and {self.budget}")

    def variants(self) -> list[Variant]:
        """Every transformation of the second picture that is measured."""
        turned = [Variant(degrees=degrees % 360) for degrees in self.turns]
        zoomed = [Variant(zoom=zoom) for zoom in self.zooms if zoom != 1.0]
        return list(dict.fromkeys([*turned, *zoomed]))


def measure_matching(
    dataset: Dataset, source: FeatureSource, settings: MatchingSettings, progress: Say
) -> Section:
    """Every method on every pair at every budget, pictures as they are.

    Args:
        dataset: pairs with known truth; those without are passed over.
        source: features of the methods.
        settings: budgets.
        progress: called before each pair.

    Returns:
        the section `matching`.
    """
    pairs = [pair for pair in dataset.pairs if pair.truth is not None]
    largest = max(settings.budgets)
    failures = Failures()
    rows: list[Row] = []
    for pair in pairs:
        progress(f"matching on {dataset.name}: {pair.name}")
        for method in source.methods:

            def measure(pair: EvaluationPair = pair, method: Method = method) -> list[Row]:
                features_a = source.features(method, dataset, pair.picture_a, budget=largest)
                features_b = source.features(method, dataset, pair.picture_b, budget=largest)
                assert pair.truth is not None
                made = []
                for budget in sorted(settings.budgets):
                    cut = features_a.top(budget), features_b.top(budget)
                    values = measure_pair(source, *cut, pair.truth, dataset.thresholds)
                    made.append(_row(method.name, pair, values, UNTOUCHED, budget))
                return made

            rows += failures.attempt(method.name, pair.name, measure) or []
    rows, lines = fair_rows(rows, failures, pairs)
    return Section(
        "matching",
        dataset.name,
        rows,
        dataset.unit,
        _settings(dataset, source, asdict(settings)),
        skipped=[*dataset.skipped, *lines],
    )


def measure_sweep(dataset: Dataset, source: FeatureSource, settings: SweepSettings, progress: Say) -> Section:
    """Every method on some pairs, the second picture turned and zoomed.

    Args:
        dataset: pairs with known truth; those without are passed over.
        source: features of the methods.
        settings: turns, zooms, pairs, budget.
        progress: called before each pair.

    Returns:
        the section `sweep`.
    """
    pairs = evenly([pair for pair in dataset.pairs if pair.truth is not None], settings.pairs)
    failures = Failures()
    rows: list[Row] = []
    for pair in pairs:
        for variant in settings.variants():
            progress(f"sweep on {dataset.name}: {pair.name} {variant.name}")
            for method in source.methods:

                def measure(
                    pair: EvaluationPair = pair, method: Method = method, variant: Variant = variant
                ) -> Row:
                    budget = settings.budget
                    features_a = source.features(method, dataset, pair.picture_a, budget=budget)
                    features_b = source.features(method, dataset, pair.picture_b, variant, budget=budget)
                    assert pair.truth is not None
                    moved = source.transform(method, dataset, pair.picture_b, variant, budget=budget)
                    height, width = source.picture(dataset, pair.picture_b).shape[:2]
                    valid = valid_pixels((width, height), variant)
                    counts = partial(beyond_reach, valid=valid, reach=source.rules.reach)
                    truth = CountedTruth(TransformedTruth(pair.truth, np.eye(3), moved), counts)
                    values = measure_pair(source, features_a, features_b, truth, dataset.thresholds)
                    return _row(method.name, pair, values, variant, budget)

                row = failures.attempt(method.name, pair.name, measure)
                rows += [] if row is None else [row]
    rows, lines = fair_rows(rows, failures, pairs)
    return Section(
        "sweep",
        dataset.name,
        rows,
        dataset.unit,
        _settings(dataset, source, asdict(settings)),
        skipped=[*dataset.skipped, *lines],
    )


def _settings(dataset: Dataset, source: FeatureSource, own: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the rows, so that no two runs are compared that were measured differently."""
    versions = {"features": FEATURES_VERSION, "neighbours": NEIGHBOURS_VERSION, "measures": MEASURES_VERSION}
    rules = asdict(source.rules)
    return {"data": dataset.settings, "thresholds": dataset.thresholds, "rules": rules, **own, "versions": versions}


def measure_pair(
    source: FeatureSource, features_a: Features, features_b: Features, truth: Truth, thresholds: Sequence[float]
) -> dict[str, float]:
    """Every metric of one pair, from the cache where the same features met the same truth before.

    Args:
        source: neighbours and cache.
        features_a: of the first picture.
        features_b: of the second picture.
        truth: geometry in the pixels of these features.
        thresholds: pixels of the view projected into.

    Returns:
        metric name to value: see `pair_metrics`.
    """
    neighbours = source.neighbours(features_a, features_b)
    in_b = metrics.Projection(*truth.b_from_a(features_a.keypoints))
    in_a = metrics.Projection(*truth.a_from_b(features_b.keypoints))
    expected = carried_orientations(truth, features_a.keypoints, features_a.orientations)
    inputs = (
        *(
            array
            for features in (features_a, features_b)
            for array in (features.keypoints, features.orientations, features.scales)
        ),
        *(array for projection in (in_b, in_a) for array in (projection.points, projection.visible)),
        *(neighbours.b_of_a, neighbours.a_of_b, expected),
    )
    settings = {"inputs": digest(*inputs), "thresholds": list(thresholds), "version": MEASURES_VERSION}

    def compute() -> Arrays:
        found = pair_metrics(features_a, features_b, neighbours, (in_b, in_a), expected, thresholds)
        return {"names": np.array(list(found), "S"), "values": np.array(list(found.values()))}

    arrays = source.cache.fetch("measures", settings, compute)
    names = (name.decode() for name in arrays["names"])
    values = dict(zip(names, arrays["values"].tolist(), strict=True))
    if not (features_a.orientations.any() and features_b.orientations.any()):
        values["orientation_agreement"] = float("nan")  # A feature without orientation has zeros.
    return values


def pair_metrics(
    features_a: Features,
    features_b: Features,
    neighbours: Neighbours,
    projections: tuple[metrics.Projection, metrics.Projection],
    expected_orientations: np.ndarray,
    thresholds: Sequence[float],
) -> dict[str, float]:
    """Every metric of one pair: a pure function of features, neighbours and true places.

    Args:
        features_a: of the first picture.
        features_b: of the second picture.
        neighbours: of their descriptors.
        projections: true places of the keypoints of a in b, and of those of b in a.
        expected_orientations: (Na,) radians, those of a as b would see them; NaN = unknown.
        thresholds: pixels of the view projected into.

    Returns:
        metric name to value: `matching_score@t`, `repeatability@t`, `precision@t`, `localisation_error`,
        `match_error_median`, of all and `@octave` of each octave, `match_share@octave`, `orientation_agreement`, and
        the numbers of keypoints, visible keypoints and mutual matches.
    """
    in_b, in_a = projections
    errors_b = metrics.match_errors(in_b, features_b.keypoints, neighbours.b_of_a)
    errors_a = metrics.match_errors(in_a, features_a.keypoints, neighbours.a_of_b)
    distances_b = metrics.distances_to(in_b, features_b.keypoints)
    distances_a = metrics.distances_to(in_a, features_a.keypoints)
    closest_b = metrics.nearest_keypoint_errors(distances_b, in_b.visible)
    closest_a = metrics.nearest_keypoint_errors(distances_a, in_a.visible)

    row: dict[str, float] = {}
    score = [metrics.share_within(errors, thresholds) for errors in (errors_b, errors_a)]
    repeated = [metrics.share_within(errors, thresholds) for errors in (closest_b, closest_a)]
    mutual = metrics.mutual_nearest(neighbours.b_of_a, neighbours.a_of_b)
    precision = metrics.mutual_precision(errors_b, mutual, thresholds)
    for t in map(float, thresholds):
        row[f"matching_score@{t:g}"] = metrics.mean_of_directions(score[0][t], score[1][t])
        row[f"repeatability@{t:g}"] = metrics.mean_of_directions(repeated[0][t], repeated[1][t])
        row[f"precision@{t:g}"] = precision[t]
    widest = max(thresholds)
    row["localisation_error"] = metrics.mean_of_directions(
        metrics.localisation_error(closest_b, widest), metrics.localisation_error(closest_a, widest)
    )
    by_octave = [
        _octave_metrics(errors, features.scales, widest)
        for errors, features in ((errors_b, features_a), (errors_a, features_b))
    ]
    row |= {name: metrics.mean_of_directions(by_octave[0][name], by_octave[1][name]) for name in by_octave[0]}
    row["orientation_agreement"] = metrics.orientation_agreement(
        distances_b, expected_orientations, features_b.orientations
    )
    row["keypoints"] = 0.5 * (len(features_a) + len(features_b))
    row["matches"] = float(mutual.sum())
    row["visible"] = 0.5 * float(in_b.visible.sum() + in_a.visible.sum())
    return row


def _octave_metrics(errors: np.ndarray, scales: np.ndarray, threshold: float) -> dict[str, float]:
    """How far off the correct matches of one direction are, all of them and those of each octave."""
    octaves = metrics.octave_indices(scales)
    shares = metrics.octave_shares(errors, octaves, threshold)
    row = {"match_error_median": metrics.correct_match_error(errors, threshold)}
    for index, name in enumerate(metrics.OCTAVES):
        here = errors[octaves == index]
        row[f"match_error_median@octave{name}"] = metrics.correct_match_error(here, threshold)
        row[f"match_share@octave{name}"] = float(shares[index])
    return row


def _row(method: str, pair: EvaluationPair, values: dict[str, float], variant: Variant, budget: int) -> Row:
    return Row(method, pair.name, pair.group, values, pair.subset, variant.name, budget)
