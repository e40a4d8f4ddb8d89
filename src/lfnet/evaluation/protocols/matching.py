"""The paper's measure: how many keypoints find their counterpart by descriptor alone, upright, turned and zoomed.

`measure_matching` takes pictures as they are, at several budgets; `measure_sweep` turns and zooms the second picture.
What the score is stands in `lfnet/matching_score.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lfnet import matching_score as metrics
from lfnet.evaluation.cache import VERSION, digest
from lfnet.evaluation.data.measured_frames import evenly
from lfnet.evaluation.data.truth import CountedTruth, TransformedTruth, carried_orientations
from lfnet.evaluation.data.views import Variant, beyond_reach, valid_pixels
from lfnet.evaluation.protocols.fairness import measure_alike
from lfnet.matching import Neighbours
from lfnet.progress import Say
from lfnet.settings import ConfigError, require_at_least

if TYPE_CHECKING:
    from lfnet.evaluation.cache import Arrays
    from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
    from lfnet.evaluation.data.truth import Truth
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method
    from lfnet.evaluation.results import Section
    from lfnet.features import Features

ALL_TURNS = tuple(range(0, 360, 30))


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
        require_at_least(self, "sweep", {"pairs": 1, "budget": 1})

    def variants(self) -> list[Variant]:
        """Every transformation of the second picture that is measured."""
        turned = [Variant(degrees=degrees % 360) for degrees in self.turns]
        zoomed = [Variant(zoom=zoom) for zoom in self.zooms if zoom != 1.0]
        return list(dict.fromkeys([*turned, *zoomed]))


def measure_matching(
    dataset: Dataset, source: FeatureSource, settings: MatchingSettings, progress: Say
) -> Section:
    """Every method on every pair with known truth at every budget, pictures as they are: the section `matching`."""
    largest = max(settings.budgets)

    def measure(method: Method, pair: EvaluationPair, variant: Variant) -> list[tuple[int, dict[str, float]]]:
        whole = [source.features(method, dataset, name, budget=largest) for name in (pair.picture_a, pair.picture_b)]
        assert pair.truth is not None
        found = []
        for budget in sorted(settings.budgets):
            a, b = (features.top(budget) for features in whole)
            found.append((budget, measure_pair(source, a, b, pair.truth, dataset.thresholds)))
        return found

    about = _about(dataset, asdict(settings))
    return measure_alike("matching", dataset, _with_truth(dataset), source, progress, measure, settings=about)


def measure_sweep(dataset: Dataset, source: FeatureSource, settings: SweepSettings, progress: Say) -> Section:
    """Every method on some pairs with known truth, the second picture turned and zoomed: the section `sweep`."""
    budget = settings.budget

    def measure(method: Method, pair: EvaluationPair, variant: Variant) -> list[tuple[int, dict[str, float]]]:
        features_a = source.features(method, dataset, pair.picture_a, budget=budget)
        features_b = source.features(method, dataset, pair.picture_b, variant, budget=budget)
        assert pair.truth is not None
        moved = source.transform(method, dataset, pair.picture_b, variant, budget=budget)
        height, width = source.picture(dataset, pair.picture_b).shape[:2]
        valid = valid_pixels((width, height), variant)
        counts = partial(beyond_reach, valid=valid, reach=source.rules.reach)
        truth = CountedTruth(TransformedTruth(pair.truth, np.eye(3), moved), counts)
        return [(budget, measure_pair(source, features_a, features_b, truth, dataset.thresholds))]

    pairs = evenly(_with_truth(dataset), settings.pairs)
    about = _about(dataset, asdict(settings))
    return measure_alike(
        "sweep", dataset, pairs, source, progress, measure, variants=settings.variants(), settings=about
    )


def _with_truth(dataset: Dataset) -> list[EvaluationPair]:
    return [pair for pair in dataset.pairs if pair.truth is not None]


def _about(dataset: Dataset, own: dict[str, Any]) -> dict[str, Any]:
    """What decides the rows, so that no two runs are compared that were measured differently."""
    versions = dict.fromkeys(("features", "neighbours", "measures"), VERSION)
    return {"thresholds": dataset.thresholds, **own, "versions": versions}


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
    names = ("keypoints", "orientations", "scales")
    inputs = [getattr(features, name) for features in (features_a, features_b) for name in names]
    inputs += [in_b.points, in_b.visible, in_a.points, in_a.visible, neighbours.b_of_a, neighbours.a_of_b, expected]

    def compute() -> Arrays:
        found = pair_metrics(features_a, features_b, neighbours, (in_b, in_a), expected, thresholds)
        return {"names": np.array(list(found), "S"), "values": np.array(list(found.values()))}

    settings = {"inputs": digest(*inputs), "thresholds": list(thresholds)}
    arrays = source.cache.fetch("measures", settings, compute)
    values = dict(zip((name.decode() for name in arrays["names"]), arrays["values"].tolist(), strict=True))
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
    both = features_a, features_b
    errors, closest, distances = [], [], []
    nearest = neighbours.b_of_a, neighbours.a_of_b
    for projection, other, index in zip(projections, both[::-1], nearest, strict=True):
        errors.append(metrics.match_errors(projection, other.keypoints, index))
        distances.append(metrics.distances_to(projection, other.keypoints))
        closest.append(metrics.nearest_keypoint_errors(distances[-1], projection.visible))
    score, repeated = ([metrics.share_within(each, thresholds) for each in ways] for ways in (errors, closest))
    mutual = neighbours.mutual()
    precision = metrics.share_within(errors[0][mutual[:, 0]], thresholds, of_nothing=float("nan"))
    row: dict[str, float] = {}
    for t in map(float, thresholds):
        row[f"matching_score@{t:g}"] = metrics.mean_of_directions(score[0][t], score[1][t])
        row[f"repeatability@{t:g}"] = metrics.mean_of_directions(repeated[0][t], repeated[1][t])
        row[f"precision@{t:g}"] = precision[t]
    widest = max(thresholds)
    row["localisation_error"] = metrics.mean_of_directions(*(metrics.localisation_error(e, widest) for e in closest))
    forth, back = (_octave_metrics(e, features.scales, widest) for e, features in zip(errors, both, strict=True))
    row |= {name: metrics.mean_of_directions(forth[name], back[name]) for name in forth}
    row["orientation_agreement"] = metrics.orientation_agreement(
        distances[0], expected_orientations, features_b.orientations
    )
    row["keypoints"] = 0.5 * (len(features_a) + len(features_b))
    row["matches"] = float(len(mutual))
    row["visible"] = 0.5 * float(sum(projection.visible.sum() for projection in projections))
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
