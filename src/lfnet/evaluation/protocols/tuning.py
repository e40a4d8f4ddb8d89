"""What protocols of estimated geometry share: each method is tuned on pairs set aside, then measured on the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from lfnet.evaluation.data.measured_frames import evenly
from lfnet.evaluation.data.pairs import Dataset
from lfnet.evaluation.protocols.fairness import Failures, fair_rows
from lfnet.evaluation.results import Row, Section
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.progress import Say
from lfnet.settings import ConfigError

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.data.pairs import EvaluationPair
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method

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

    @property
    def ratio_test(self) -> float | None:
        """As `Neighbours.mutual` takes it."""
        return None if self.ratio >= 1 else self.ratio


@dataclass(frozen=True)
class EstimationSettings:
    """How geometry is estimated from matches; the same for every method but for what is tuned."""

    budget: int = 2048
    """Keypoints of a picture, K."""
    ratio: float | None = None
    """Of Lowe's test, for every method; 1 = no test, None = tuned for each."""
    threshold: float | None = None
    """Of MAGSAC, pixels, for every method; None = tuned for each."""
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
        if self.budget < 1 or self.tuning_pairs < 1 or self.max_iterations < 1:
            raise ConfigError("budget, tuning_pairs and max_iterations must be at least 1")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ConfigError(f"ratio must be in (0, 1], got {self.ratio}")
        if self.threshold is not None and self.threshold <= 0:
            raise ConfigError(f"threshold must be positive pixels, got {self.threshold}")
        if self.every < 2:
            raise ConfigError(f"every must be at least 2, or no pair is left to report, got {self.every}")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"confidence must be in (0, 1), got {self.confidence}")

    def candidates(self) -> list[Estimator]:
        """What is tried, the default first."""
        ratios = RATIOS if self.ratio is None else (self.ratio,)
        thresholds = THRESHOLDS if self.threshold is None else (self.threshold,)
        return [Estimator(*each) for each in product(ratios, thresholds)]


@dataclass(frozen=True)
class Task:
    """One protocol: which pairs it takes, and what it measures of one."""

    protocol: str
    usable: Callable[[EvaluationPair], bool]
    """Whether a pair has the truth that it needs."""
    needs: str
    """That truth in words."""
    measure: Callable[[Method, Dataset, EvaluationPair, Estimator], dict[str, float]]
    """Metrics of one method on one pair. Raises Unmeasured."""
    objective: str
    """Metric whose mean over the pairs set aside is made large."""


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
        dataset: pairs.
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
    lines: list[str] = []
    chosen, reported = _tuned(task, dataset, pairs, source, settings, progress, tuning, lines)
    failures = Failures()
    rows: list[Row] = []
    for pair in reported:
        progress(f"{title}: {pair.name}")
        for method in source.methods:
            estimator = Estimator(chosen[method.name]["ratio"], chosen[method.name]["threshold"])

            def measure(
                pair: EvaluationPair = pair, method: Method = method, estimator: Estimator = estimator
            ) -> dict[str, float]:
                return task.measure(method, dataset, pair, estimator)

            values = failures.attempt(method.name, pair.name, measure)
            if values is not None:
                rows.append(Row(method.name, pair.name, pair.group, values, subset=pair.subset, budget=settings.budget))
    rows, left_out = fair_rows(rows, failures, reported)
    return Section(
        task.protocol,
        dataset.name,
        rows,
        dataset.unit,
        settings={"data": dataset.settings, "rules": asdict(source.rules), **asdict(settings)},
        chosen=chosen,
        skipped=[*dataset.skipped, *lines, *left_out],
    )


def _tuned(
    task: Task,
    dataset: Dataset,
    pairs: list[EvaluationPair],
    source: FeatureSource,
    settings: EstimationSettings,
    progress: Say,
    tuning: Tuning | None,
    lines: list[str],
) -> tuple[dict[str, dict[str, Any]], list[EvaluationPair]]:
    """What was chosen for each method, and the pairs to report; what there is to say goes to `lines`."""
    candidates = settings.candidates()
    if len(candidates) == 1:
        return {method.name: asdict(candidates[0]) for method in source.methods}, pairs
    title = f"{task.protocol} on {dataset.name}"
    aside = [] if tuning is None else [pair for pair in tuning.data.pairs if task.usable(pair)]
    if tuning is not None and aside:
        reported = pairs
        both = {pair.name for pair in aside} & {pair.name for pair in pairs}
        if both:
            lines.append(f"{title}: {len(both)} of {len(pairs)} pairs that are reported were also there to tune on")
    else:
        if tuning is not None:
            lines.append(
                f"{title}: no pair of {tuning.data.name} has {task.needs}, so that it is tuned on its own pairs"
            )
        tuning = Tuning(dataset)
        aside, reported = set_aside(pairs, settings.every)
        if not aside:
            lines.append(
                f"{title}: nothing is tuned, as there are fewer than {settings.every} groups of pairs: "
                f"{_words(candidates[0])} for every method"
            )
            return {method.name: asdict(candidates[0]) for method in source.methods}, pairs
    aside = evenly(aside, settings.tuning_pairs)
    chosen = {}
    for method in source.methods:
        key = (task.protocol, method.name, settings)
        if key not in tuning.found:
            tuning.found[key] = _best(task, method, tuning.data, aside, candidates, progress)
        best, count = tuning.found[key]
        if count == 0:
            lines.append(f"{title}: nothing is tuned for {method.name}, which fails on every pair set aside")
        chosen[method.name] = {**asdict(best), "tuned_on": tuning.data.name, "tuning_pairs": count}
    return chosen, reported


def _words(estimator: Estimator) -> str:
    ratio = "no ratio test" if estimator.ratio_test is None else f"a ratio of {estimator.ratio:g}"
    return f"{ratio} and a threshold of {estimator.threshold:g} px"


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
        usable = [pair for pair in dataset.pairs if task.usable(pair)]
        chosen, others = set_aside(usable, every)
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


def _best(
    task: Task,
    method: Method,
    data: Dataset,
    pairs: Sequence[EvaluationPair],
    candidates: Sequence[Estimator],
    progress: Say,
) -> tuple[Estimator, int]:
    """The candidate of the highest mean, the first of equals, and on how many pairs."""
    scores = []
    for pair in pairs:
        progress(f"tuning {method.name} for {task.protocol}: {pair.name}")
        try:
            scores.append([task.measure(method, data, pair, each)[task.objective] for each in candidates])
        except Unmeasured:
            continue  # It is said again where pairs are reported, if it matters there.
    if not scores:
        return candidates[0], 0
    # Rounded, so that the last digit of a sum doesn't decide between equals.
    return candidates[int(np.argmax(np.mean(scores, axis=0).round(9)))], len(scores)
