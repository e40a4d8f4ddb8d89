"""What pose and homography share: MAGSAC's model from matches, cached, and an estimator tuned for each method.

Each method is tuned on pairs set aside, then measured on the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from lfnet.evaluation.cache import digest
from lfnet.evaluation.data.measured_frames import evenly
from lfnet.evaluation.data.pairs import Dataset
from lfnet.evaluation.data.transformed_pairs import transformed_pair
from lfnet.evaluation.data.views import UNTOUCHED, Variant
from lfnet.evaluation.protocols.fairness import measure_alike
from lfnet.evaluation.results import Section
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.features import Matches
from lfnet.matching import verify
from lfnet.progress import Say
from lfnet.settings import ConfigError, require_above, require_at_least
from lfnet.similarity_filter import agreeing_matches

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.cache import Arrays, Cache
    from lfnet.evaluation.data.pairs import EvaluationPair
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method
    from lfnet.features import Features
    from lfnet.matching import Neighbours

RATIOS = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Largest distance of a match relative to the second nearest; 1 = no such test. Lowe (2004) has 0.8."""
THRESHOLDS = (1.0, 0.5, 2.0, 3.0)
"""Pixels within which MAGSAC takes a match for right; 1 px is SuperGlue's, 0.5 LoFTR's."""


@dataclass(frozen=True)
class Estimator:
    """How matches become a model; what is tuned for each method alone."""

    ratio: float = RATIOS[0]
    """Of Lowe's test; 1 = no test."""
    threshold: float = THRESHOLDS[0]
    """Of MAGSAC, pixels."""
    filter: bool = False
    """Whether only matches are taken that the matches around them agree with."""

    @property
    def ratio_test(self) -> float | None:
        """As `Neighbours.mutual` takes it."""
        return None if self.ratio >= 1 else self.ratio

    @property
    def words(self) -> str:
        """What it is, in a report's line."""
        ratio = "no ratio test" if self.ratio_test is None else f"a ratio of {self.ratio:g}"
        filtered = ", filtered by similarity," if self.filter else ""
        return f"{ratio}{filtered} and a threshold of {self.threshold:g} px"


@dataclass(frozen=True)
class EstimationSettings:
    """How poses or homographies are estimated from matches; the same for every method but for what is tuned."""

    budget: int = 2048
    """Keypoints of a picture, K."""
    ratio: float | None = None
    """Of Lowe's test, for every method; 1 = no test, None = tuned for each."""
    threshold: float | None = None
    """Of MAGSAC, pixels, for every method; None = tuned for each."""
    filter: bool = False
    """Keep only matches whose turn, scale and shift agree with those of the matches around them
    (`lfnet match --filter`), for every method."""
    turn: int = 0
    """Degrees, clockwise, that the second picture is turned by."""
    zoom: float = 1.0
    """Factor of the second picture's size."""
    every: int = 4
    """Every how many-th group of pairs is set aside to tune on; needs at least as many groups."""
    tuning_pairs: int = 40
    """Pairs at most to tune on, evenly chosen."""
    confidence: float = 0.9999
    """Wanted probability of having drawn one sample without outliers."""
    max_iterations: int = 10_000
    """Samples drawn at most."""
    seed: int = 0
    """Of the samples."""

    def __post_init__(self) -> None:
        require_at_least(self, "estimation", {"budget": 1, "tuning_pairs": 1, "max_iterations": 1, "every": 2})
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ConfigError(f"ratio must be in (0, 1], got {self.ratio}")
        if self.threshold is not None and self.threshold <= 0:
            raise ConfigError(f"threshold must be positive pixels, got {self.threshold}")
        require_above(self, "estimation", {"zoom": 0})
        if not 0 < self.confidence < 1:
            raise ConfigError(f"confidence must be in (0, 1), got {self.confidence}")

    def candidates(self) -> list[Estimator]:
        """What is tried, the default first."""
        ratios = RATIOS if self.ratio is None else (self.ratio,)
        thresholds = THRESHOLDS if self.threshold is None else (self.threshold,)
        return [Estimator(*each, self.filter) for each in product(ratios, thresholds)]

    @property
    def variant(self) -> Variant:
        """What is done to the second picture."""
        return Variant(self.turn % 360, self.zoom)

    def stated(self) -> dict[str, Any]:
        """What two runs must share to be compared: all but the filter, which is stated with what each method has."""
        return {name: value for name, value in asdict(self).items() if name != "filter"}


@dataclass(frozen=True)
class Estimate:
    """What MAGSAC++ made of matches."""

    model: Float[Array, "3 3"]
    """NaN where nothing was found."""
    used: Int[Array, "M 2"]
    """Matches that it was given, after the filter."""
    inliers: Bool[Array, " M"]
    """Which of them agree with it."""
    milliseconds: float
    """Of filter and estimate, as it was when they were made."""


@dataclass(frozen=True)
class MatchedPair:
    """Features of the two pictures of a pair, and their neighbours."""

    features_a: Features
    features_b: Features
    neighbours: Neighbours
    cache: Cache

    def points(self, indices: Int[Array, "M 2"]) -> tuple[Float[Array, "M 2"], Float[Array, "M 2"]]:
        """Matched places in a and in b, pixels."""
        return self.features_a.keypoints[indices[:, 0]], self.features_b.keypoints[indices[:, 1]]

    def estimate(
        self,
        estimator: Estimator,
        settings: EstimationSettings,
        intrinsics: Sequence[Float[Array, "3 3"]] = (),
    ) -> Estimate:
        """What MAGSAC++ makes of mutual matches, from the cache where it met the same before.

        Args:
            estimator: ratio, threshold, filter.
            settings: confidence, iterations, seed.
            intrinsics: of a and b, for the essential matrix of their rays; none for the homography b_from_a.
        """
        indices = self.neighbours.mutual(estimator.ratio_test)
        options = {name: getattr(settings, name) for name in ("confidence", "max_iterations", "seed")}
        geometry = "essential" if intrinsics else "homography"

        def compute() -> Arrays:
            start = time.perf_counter()
            used = Matches(indices, np.zeros(len(indices), np.float32))
            if estimator.filter:
                used = agreeing_matches(self.features_a, self.features_b, used)
            inlying, model = verify(
                self.features_a,
                self.features_b,
                used,
                geometry,
                intrinsics_a=intrinsics[0] if intrinsics else None,
                intrinsics_b=intrinsics[1] if intrinsics else None,
                threshold=estimator.threshold,
                **options,
            )
            seconds = time.perf_counter() - start
            if model is None or not np.isfinite(model).all():
                inlying, model = Matches.empty(), np.full((3, 3), np.nan)
            inliers = np.isin(used.indices[:, 0], inlying.indices[:, 0])
            return {"model": model, "used": used.indices, "inliers": inliers, "seconds": np.asarray(seconds)}

        inputs = [*self.points(indices), *intrinsics]
        if estimator.filter:
            both = zip((self.features_a, self.features_b), indices.T, strict=True)
            inputs += [values[rows] for each, rows in both for values in (each.scales, each.orientations)]
        key = {"geometry": geometry, "inputs": digest(*inputs), "threshold": estimator.threshold, **options}
        arrays = self.cache.fetch("estimates", {**key, "filter": estimator.filter}, compute)
        return Estimate(arrays["model"], arrays["used"], arrays["inliers"], 1000 * float(arrays["seconds"]))


@dataclass(frozen=True)
class Task:
    """One protocol: which pairs it takes, and what it measures of one."""

    protocol: str
    usable: Callable[[EvaluationPair], bool]
    """Whether a pair has the truth that it needs."""
    needs: str
    """That truth in words."""
    measure: Callable[[MatchedPair, EvaluationPair, Estimator, EstimationSettings], dict[str, float]]
    """Metrics of one method on one pair."""
    objective: str
    """Metric whose mean over the pairs set aside is made large."""

    def of_pair(
        self,
        source: FeatureSource,
        method: Method,
        dataset: Dataset,
        pair: EvaluationPair,
        settings: EstimationSettings,
        estimators: Sequence[Estimator],
    ) -> list[dict[str, float]]:
        """Metrics of one method on one pair under each estimator. Raises Unmeasured."""
        sides = ((pair.picture_a, UNTOUCHED), (pair.picture_b, settings.variant))
        a, b = (source.features(method, dataset, *side, budget=settings.budget) for side in sides)
        if settings.variant != UNTOUCHED:
            moved = source.transform(method, dataset, *sides[1], budget=settings.budget)
            pair = transformed_pair(pair, moved, b.image_size)
        matched = MatchedPair(a, b, source.neighbours(a, b), source.cache)
        return [self.measure(matched, pair, each, settings) for each in estimators]


@dataclass(frozen=True)
class Tuning:
    """Pairs to tune on, and what was found on them already: several data sets are reported under one choice."""

    data: Dataset
    found: dict[tuple[str, str, EstimationSettings], tuple[Estimator, int]] = field(default_factory=dict)
    """Best candidate and number of pairs, by protocol, method and settings."""


def measure_tuned(
    task: Task,
    dataset: Dataset,
    source: FeatureSource,
    settings: EstimationSettings,
    progress: Say,
    tuning: Tuning | None = None,
) -> Section:
    """Every method on every pair that isn't set aside, each with its own estimator.

    Args:
        task: what to measure.
        dataset: pairs; those that the task can't use are passed over.
        source: features of the methods.
        settings: how.
        progress: called before each pair.
        tuning: pairs to tune on, so that none of `dataset` is set aside; None = every fourth group of it.

    Returns:
        the section; `chosen` says what was tuned for each method, and on how many pairs.
    """
    pairs = [pair for pair in dataset.pairs if task.usable(pair)]
    title = f"{task.protocol} on {dataset.name}"
    if not pairs:
        return Section(task.protocol, dataset.name, [], dataset.unit, skipped=[f"{title}: no pair has {task.needs}"])
    tuning, reported, said = _pairs_to_tune_on(task, dataset, pairs, settings, tuning)
    estimators: dict[str, Estimator] = {}
    chosen: dict[str, dict[str, Any]] = {}
    for method in source.methods:
        estimators[method.name], count = _tuned(task, method, source, settings, tuning, progress)
        about = {} if count is None else {"tuned_on": tuning.data.name, "tuning_pairs": count}
        chosen[method.name] = {**asdict(estimators[method.name]), **about}
        if count == 0:
            said.append(f"{title}: nothing is tuned for {method.name}, which fails on every pair set aside")

    def measure(method: Method, pair: EvaluationPair, variant: Variant) -> list[tuple[int, dict[str, float]]]:
        (values,) = task.of_pair(source, method, dataset, pair, settings, [estimators[method.name]])
        return [(settings.budget, values)]

    return measure_alike(
        task.protocol,
        dataset,
        reported,
        source,
        progress,
        measure,
        variants=[settings.variant],
        settings=settings.stated(),
        chosen=chosen,
        said=said,
    )


def _pairs_to_tune_on(
    task: Task, dataset: Dataset, pairs: list[EvaluationPair], settings: EstimationSettings, tuning: Tuning | None
) -> tuple[Tuning, list[EvaluationPair], list[str]]:
    """What is tuned on (no pairs: nothing is tuned), the pairs to report, and what there is to say."""
    if len(settings.candidates()) == 1:
        return Tuning(replace(dataset, pairs=[])), pairs, []
    title = f"{task.protocol} on {dataset.name}"
    said = []
    if tuning is not None:
        aside = [pair.name for pair in tuning.data.pairs if task.usable(pair)]
        both = set(aside) & {pair.name for pair in pairs}
        if both:
            said.append(f"{title}: {len(both)} of {len(pairs)} pairs that are reported were also there to tune on")
        if aside:
            return tuning, pairs, said
        said.append(f"{title}: no pair of {tuning.data.name} has {task.needs}, so that it is tuned on its own pairs")
    own, reported = set_aside(pairs, settings.every)
    if not own:
        said.append(
            f"{title}: nothing is tuned, as there are fewer than {settings.every} groups of pairs: "
            f"{settings.candidates()[0].words} for every method"
        )
    return Tuning(replace(dataset, pairs=own)), reported, said


def _tuned(
    task: Task,
    method: Method,
    source: FeatureSource,
    settings: EstimationSettings,
    tuning: Tuning,
    progress: Say,
) -> tuple[Estimator, int | None]:
    """The candidate of the highest mean, the first of equals, and on how many pairs; None = nothing to tune."""
    candidates = settings.candidates()
    pairs = evenly([pair for pair in tuning.data.pairs if task.usable(pair)], settings.tuning_pairs)
    if len(candidates) == 1 or not pairs:
        return candidates[0], None
    key = (task.protocol, method.name, settings)
    if key in tuning.found:
        return tuning.found[key]
    scores = []
    for pair in pairs:
        progress(f"tuning {method.name} for {task.protocol}: {pair.name}")
        try:
            measured = task.of_pair(source, method, tuning.data, pair, settings, candidates)
        except Unmeasured:
            continue  # It is said again where pairs are reported, if it matters there.
        scores.append([values[task.objective] for values in measured])
    # Rounded, so that the last digit of a sum doesn't decide between equals.
    best = int(np.argmax(np.mean(scores, axis=0).round(9))) if scores else 0
    tuning.found[key] = candidates[best], len(scores)
    return tuning.found[key]


def set_aside(pairs: Sequence[EvaluationPair], every: int) -> tuple[list[EvaluationPair], list[EvaluationPair]]:
    """Pairs to tune on and pairs to report: whole groups, as pairs of one group are alike.

    Args:
        pairs: in their order.
        every: the last of so many groups is set aside.

    Returns:
        pairs set aside, none where there are fewer groups than that; and the others.
    """
    groups = list(dict.fromkeys(pair.group for pair in pairs))
    chosen = set(groups[every - 1 :: every])
    return [pair for pair in pairs if pair.group in chosen], [pair for pair in pairs if pair.group not in chosen]


def pooled(datasets: Sequence[Dataset], task: Task, every: int) -> tuple[Dataset | None, list[Dataset]]:
    """Every fourth group of each data set in one data set to tune on, and each data set without them.

    One choice for all of them rests on more pairs than each has to spare.

    Args:
        datasets: of different names.
        task: only pairs that it can use are set aside.
        every: the last of so many groups of each data set is set aside.

    Returns:
        pairs to tune on, their names and pictures after the name of their data set (None where no data set has enough
        groups); and the data sets to report.
    """
    parts = {dataset.name: dataset for dataset in datasets}
    aside: list[EvaluationPair] = []
    left: list[Dataset] = []
    sources: list[str] = []
    for dataset in datasets:
        chosen, others = set_aside([pair for pair in dataset.pairs if task.usable(pair)], every)
        for pair in chosen:
            names = {key: f"{dataset.name}/{getattr(pair, key)}" for key in ("name", "picture_a", "picture_b")}
            aside.append(replace(pair, **names))
        sources += [dataset.name] if chosen else []
        left.append(replace(dataset, pairs=others))

    def split(picture: str) -> tuple[Dataset, str]:
        name = max((name for name in parts if picture.startswith(f"{name}/")), key=len)
        return parts[name], picture.removeprefix(f"{name}/")

    def load(picture: str) -> UInt8[Array, "H W *C"]:
        dataset, own_name = split(picture)
        return dataset.load(own_name)

    def name_in_files(picture: str) -> str:
        dataset, own_name = split(picture)
        return dataset.name_in_files(own_name)

    if not aside:
        return None, left
    return Dataset(", ".join(sources), "tuning", aside, load, "groups", name_in_files=name_in_files), left


def area_under_recall(errors: Sequence[float] | Float[Array, " N"], threshold: float) -> float:
    """Area under the curve of recall over error, from 0 to a threshold, as a share of the whole: AUC.

    The recall at an error e is the share of errors that are no larger: a curve of steps, whose area is the mean of
    max(0, 1 - error / threshold). SuperGlue and LoFTR join the steps by slanted lines instead, which gives up to
    1 / (2 N) more for N errors: 0.0003 for 1500 pairs.

    Args:
        errors: at least 0; infinity where nothing was estimated.
        threshold: in the errors' unit.

    Returns:
        in [0, 1]; NaN without errors.
    """
    values = np.asarray(errors, np.float64)
    return float(np.maximum(0.0, 1.0 - values / threshold).mean()) if len(values) else float("nan")
