"""What every protocol does with its pairs: transform, extract once, match, measure."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lfnet.evaluation import metrics
from lfnet.evaluation.results import PairRow, Results, describe_environment
from lfnet.evaluation.truth import TransformedTruth, carried_orientations
from lfnet.evaluation.views import TransformedImage, Variant, beyond_reach, transform_image
from lfnet.matching import nearest_neighbours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy import ndarray as Array

    from lfnet.evaluation.baselines import Extractor
    from lfnet.evaluation.truth import Truth
    from lfnet.features import Features

    Progress = Callable[[Iterator[PairRow], int], Iterator[PairRow]]
    """Wraps the rows of a run, given their number, e.g. in a progress bar."""

ALL_TURNS = tuple(range(0, 360, 30))


@dataclass(frozen=True)
class ProtocolSettings:
    """How pairs are measured; the same for every method."""

    max_keypoints: int = 512
    """Budget of keypoints of a picture, K."""
    thresholds: tuple[float, ...] = (1.0, 3.0, 5.0)
    """Pixels of the view that the truth is projected into, as it was given to the method."""
    turns: tuple[int, ...] = ALL_TURNS
    """Degrees, clockwise, that the second view is turned by; 0 = upright."""
    zooms: tuple[float, ...] = ()
    """Factors that the second view is resized by."""
    reach: float = 32.0
    """Keypoints within this many pixels of an empty corner of a turned canvas are dropped."""
    min_distance: float = 0.0
    """Keypoints within this many pixels of a stronger one of the same method are dropped, so that a place that is found
    at several sizes or orientations counts once; 0 = all count, as in the paper."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1:
            raise ValueError(f"max_keypoints must be at least 1, got {self.max_keypoints}")
        if not self.thresholds or min(self.thresholds) <= 0:
            raise ValueError(f"thresholds must be positive pixels, got {self.thresholds}")
        if self.min_distance < 0:
            raise ValueError(f"min_distance must not be negative, got {self.min_distance} px")
        if any(zoom <= 0 for zoom in self.zooms):
            raise ValueError(f"zooms must be positive factors, got {self.zooms}")

    def variants(self) -> list[Variant]:
        """Every transformation of the second view that is measured."""
        turned = [Variant(degrees=degrees) for degrees in self.turns]
        return turned + [Variant(zoom=zoom) for zoom in self.zooms if zoom != 1.0]


@dataclass(frozen=True)
class EvaluationPair:
    """Two pictures and what is known of their geometry."""

    name: str
    """Unique in its protocol."""
    group: str
    """Scene or stretch of frames: what the bootstrap resamples, as neighbours are not independent."""
    picture_a: str
    """Key of the first picture; features are cached by it."""
    picture_b: str
    """Key of the second picture."""
    truth: Truth
    """In the pixels of the pictures that `load` gives."""


class FeatureCache:
    """Features of each picture, extracted once for a method and a transformation."""

    def __init__(self, load: Callable[[str], Array], settings: ProtocolSettings) -> None:
        self._load = load
        self._settings = settings
        self._features: dict[tuple[str, str, Variant], Features] = {}
        self._transforms: dict[tuple[str, Variant], Array] = {}
        self.seconds: dict[str, list[float]] = {}

    def features(self, extractor: Extractor, picture: str, variant: Variant) -> Features:
        """Features of a picture after a transformation."""
        key = (extractor.name, picture, variant)
        if key not in self._features:
            view = transform_image(self._load(picture), variant)
            self._transforms[picture, variant] = view.from_base
            start = time.perf_counter()
            self._features[key] = extract_from(extractor, view, self._settings)
            self.seconds.setdefault(extractor.name, []).append(time.perf_counter() - start)
        return self._features[key]

    def transform(self, picture: str, variant: Variant) -> Array:
        """Matrix from the untouched picture to the transformed one; `features` comes first."""
        return self._transforms[picture, variant]

    def forget(self, variant: Variant) -> None:
        """Drop what was kept of a transformation, so that memory stays bounded."""
        self._features = {key: value for key, value in self._features.items() if key[2] != variant}


def extract_from(extractor: Extractor, view: TransformedImage, settings: ProtocolSettings) -> Features:
    """The K strongest keypoints of a method that are out of reach of empty corners.

    More are asked for until K are left or the method has no more, so that no method loses budget to corners, or to
    places that it finds more than once.

    Args:
        extractor: the method.
        view: picture and valid pixels.
        settings: K and the reach.

    Returns:
        at most K features.
    """
    whole = view.valid is None and settings.min_distance == 0
    budget = settings.max_keypoints if whole else 2 * settings.max_keypoints
    while True:
        found = extractor(view.image, max_keypoints=budget, mask=view.valid)
        kept = found.select(np.flatnonzero(beyond_reach(found.keypoints, view.valid, settings.reach)))
        kept = kept.select(strongest_apart(kept, settings.min_distance))
        if len(kept) >= settings.max_keypoints or len(found) < budget:
            return kept.top(settings.max_keypoints)
        budget *= 2


def strongest_apart(features: Features, distance: float) -> Array:
    """Which keypoints are left when each, best first, drops all weaker ones within `distance` px.

    Args:
        features: of one picture.
        distance: pixels; 0 drops nothing.

    Returns:
        their indices, ascending.
    """
    if distance == 0 or not len(features):
        return np.arange(len(features))
    free = np.ones(len(features), bool)
    kept = []
    for index in np.argsort(-features.scores, kind="stable"):
        if free[index]:
            kept.append(index)
            free &= np.linalg.norm(features.keypoints - features.keypoints[index], axis=1) > distance
    return np.sort(np.asarray(kept))


def measure_pair(
    features_a: Features, features_b: Features, truth: Truth, thresholds: Sequence[float]
) -> dict[str, float]:
    """Every metric of one pair.

    Args:
        features_a: of the first picture.
        features_b: of the second picture.
        truth: geometry in the pixels of these features.
        thresholds: pixels of the view projected into.

    Returns:
        metric name to value: `matching_score@t`, `repeatability@t`, `precision@t`, `localisation_error`,
        `orientation_agreement`, and the numbers of keypoints, visible keypoints and mutual matches.
    """
    in_b = metrics.Projection(*truth.b_from_a(features_a.keypoints))
    in_a = metrics.Projection(*truth.a_from_b(features_b.keypoints))
    nearest_in_b = _nearest(features_a, features_b)
    nearest_in_a = _nearest(features_b, features_a)
    errors_b = metrics.match_errors(in_b, features_b.keypoints, nearest_in_b)
    errors_a = metrics.match_errors(in_a, features_a.keypoints, nearest_in_a)
    distances_b = metrics.distances_to(in_b, features_b.keypoints)
    distances_a = metrics.distances_to(in_a, features_a.keypoints)
    closest_b = metrics.nearest_keypoint_errors(distances_b, in_b.visible)
    closest_a = metrics.nearest_keypoint_errors(distances_a, in_a.visible)

    row: dict[str, float] = {}
    score = [metrics.share_within(errors, thresholds) for errors in (errors_b, errors_a)]
    repeated = [metrics.share_within(errors, thresholds) for errors in (closest_b, closest_a)]
    mutual = metrics.mutual_nearest(nearest_in_b, nearest_in_a)
    precision = metrics.mutual_precision(errors_b, mutual, thresholds)
    for t in map(float, thresholds):
        row[f"matching_score@{t:g}"] = metrics.mean_of_directions(score[0][t], score[1][t])
        row[f"repeatability@{t:g}"] = metrics.mean_of_directions(repeated[0][t], repeated[1][t])
        row[f"precision@{t:g}"] = precision[t]
    widest = max(thresholds)
    row["localisation_error"] = metrics.mean_of_directions(
        metrics.localisation_error(closest_b, widest), metrics.localisation_error(closest_a, widest)
    )
    expected = carried_orientations(truth, features_a.keypoints, features_a.orientations)
    row["orientation_agreement"] = metrics.orientation_agreement(distances_b, expected, features_b.orientations)
    row["keypoints"] = 0.5 * (len(features_a) + len(features_b))
    row["matches"] = float(mutual.sum())
    row["visible"] = 0.5 * float(in_b.visible.sum() + in_a.visible.sum())
    return row


def _nearest(features_a: Features, features_b: Features) -> Array:
    if not len(features_a) or not len(features_b):
        return np.full(len(features_a), -1, np.int64)
    return np.asarray(nearest_neighbours(features_a.descriptors, features_b.descriptors)[0], np.int64)


def measure_pairs(
    pairs: Sequence[EvaluationPair],
    load: Callable[[str], Array],
    extractors: Sequence[Extractor],
    settings: ProtocolSettings,
    *,
    seconds: dict[str, list[float]] | None = None,
) -> Iterator[PairRow]:
    """Every method on every pair under every transformation of the second picture.

    Args:
        pairs: what to measure.
        load: gives the grey picture of a key.
        extractors: the methods.
        settings: how to measure.
        seconds: receives the time of each extraction by method, if given.

    Yields:
        one row per transformation, pair and method.
    """
    untouched = Variant()
    cache = FeatureCache(load, settings)
    if seconds is not None:
        cache.seconds = seconds
    for variant in settings.variants():
        for pair in pairs:
            for extractor in extractors:
                features_a = cache.features(extractor, pair.picture_a, untouched)
                features_b = cache.features(extractor, pair.picture_b, variant)
                moved = TransformedTruth(pair.truth, np.eye(3), cache.transform(pair.picture_b, variant))
                values = measure_pair(features_a, features_b, moved, settings.thresholds)
                yield PairRow(extractor.name, pair.name, pair.group, variant.name, values)
        if variant != untouched:
            cache.forget(variant)


def run_protocol(
    protocol: str,
    pairs: Sequence[EvaluationPair],
    load: Callable[[str], Array],
    extractors: Sequence[Extractor],
    settings: ProtocolSettings,
    *,
    pair_settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Results:
    """Measure every method on every pair and say under which settings and on what machine.

    Args:
        protocol: its name in the results.
        pairs: what to measure.
        load: gives the grey picture of a key.
        extractors: the methods.
        settings: how to measure.
        pair_settings: how the pairs were chosen, for the results file.
        progress: wraps the rows, given their number, e.g. in a progress bar.

    Returns:
        the results.
    """
    seconds: dict[str, list[float]] = {}
    rows = measure_pairs(pairs, load, extractors, settings, seconds=seconds)
    if progress is not None:
        rows = progress(rows, len(pairs) * len(extractors) * len(settings.variants()))
    collected = list(rows)
    return Results(
        protocol=protocol,
        settings={**(pair_settings or {}), **asdict(settings), "pairs": len(pairs)},
        environment=describe_environment(),
        rows=collected,
        seconds={name: float(np.median(values)) for name, values in seconds.items()},
    )


def resized_grey(image: Array, size: tuple[int, int]) -> Array:
    """A picture resized to (width, height): by area where it shrinks, linearly where it grows."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    shrinks = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
