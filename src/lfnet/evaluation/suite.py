"""One run of a benchmark: every protocol on every data set that it fits, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lfnet.errors import UserError, one_line
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.evaluation.data.pairs import Dataset
from lfnet.evaluation.data.stereo import stereo_dataset
from lfnet.evaluation.data.synthetic import rendered_dataset, warped_dataset
from lfnet.evaluation.feature_source import FeatureRules
from lfnet.evaluation.methods.extractors import settings_of
from lfnet.evaluation.protocols.cost import CostSettings, measure_cost
from lfnet.evaluation.protocols.estimation import EstimationSettings, Tuning, measure_tuned, pooled
from lfnet.evaluation.protocols.homography import HOMOGRAPHY
from lfnet.evaluation.protocols.matching import MatchingSettings, SweepSettings, measure_matching, measure_sweep
from lfnet.evaluation.protocols.pose import POSE
from lfnet.evaluation.protocols.structure import StructureSettings, measure_structure
from lfnet.evaluation.results import describe_environment
from lfnet.progress import Say

if TYPE_CHECKING:
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.results import Section

ProtocolName = Literal["matching", "sweep", "pose", "homography", "structure", "cost"]

QUICK_BUDGET = 512
"""Keypoints of a picture in a first look: the paper's for 320 x 240."""
MACHINE = ("processor", "opencv", "torch", "threads_torch", "threads_opencv")
"""Of the environment, what decides a method's cost: costs of two machines are not compared."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """How everything is measured; the same for every method."""

    rules: FeatureRules = field(default_factory=FeatureRules)
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    pose: EstimationSettings = field(default_factory=EstimationSettings)
    homography: EstimationSettings = field(default_factory=EstimationSettings)
    structure: StructureSettings = field(default_factory=StructureSettings)
    cost: CostSettings = field(default_factory=CostSettings)

    @classmethod
    def quick(cls) -> BenchmarkSettings:
        """Small enough for a minute or two of two cores."""
        return cls(
            matching=MatchingSettings(budgets=(QUICK_BUDGET,)),
            sweep=SweepSettings((0, 30, 60, 90, 180, 270), (0.5, 2.0), pairs=4, budget=QUICK_BUDGET),
            pose=EstimationSettings(budget=QUICK_BUDGET),
            homography=EstimationSettings(budget=QUICK_BUDGET),
            cost=CostSettings(rounds=3),
        )


@dataclass(frozen=True)
class Material:
    """What a benchmark is run on."""

    datasets: Sequence[Dataset] = ()
    """Pairs with known geometry."""
    photos: Sequence[Path] = ()
    """Folders of photos for structure from motion."""
    tuning: Dataset | None = None
    """Pairs that ratio and threshold are tuned on; None = every fourth group of each data set, set aside, together."""


def open_all(paths: Sequence[str], settings: DataSettings) -> tuple[list[Dataset], list[str]]:
    """Data sets of several paths; one that can't be used doesn't stop the others.

    Args:
        paths: each a path, the name of what is embedded (`rendered`, `warped`, `stereo`), or `name=path`.
        settings: which pairs, at what size.

    Returns:
        the data sets, of different names, and a line for each path that can't be used.
    """
    opened: list[Dataset] = []
    lines: list[str] = []
    for text in paths:
        name, path = _named(text)
        try:
            dataset = _open(name, path, settings)
        except (UserError, OSError, ModuleNotFoundError) as error:
            lines.append(one_line(error))
            continue
        if any(dataset.name == other.name for other in opened):
            folder = path.resolve().parent.name
            dataset = replace(dataset, name=f"{folder}/{dataset.name}")
        if any(dataset.name == other.name for other in opened):
            lines.append(f"{text}: is there twice as {dataset.name}; give it another name: NAME={path}")
            continue
        opened.append(dataset)
    return opened, lines


EMBEDDED: dict[str, Callable[[], Dataset]] = {
    "rendered": rendered_dataset,
    "warped": warped_dataset,
    "stereo": stereo_dataset,
}
"""Data that come with the package (the last two with scikit-image, extra `demo`), by name."""


def _open(name: str | None, path: Path, settings: DataSettings) -> Dataset:
    if str(path) in EMBEDDED and not path.exists():
        dataset = EMBEDDED[str(path)]()
        return replace(dataset, name=name or dataset.name)
    return open_data(path, settings, name)


def _named(text: str) -> tuple[str | None, Path]:
    name, equals, path = text.partition("=")
    if equals and name and path and "/" not in name and not Path(text).exists():
        return name, Path(path)
    return None, Path(text)


def measure(
    material: Material,
    source: FeatureSource,
    protocols: Sequence[ProtocolName],
    settings: BenchmarkSettings,
    progress: Say,
) -> Iterator[tuple[Section, Dataset | None]]:
    """Every protocol on all that it fits.

    Args:
        material: data sets and photos.
        source: features of the methods.
        protocols: which, in their order.
        settings: how to measure.
        progress: called with what is being measured.

    Yields:
        each section as it is done, and the data set it is of, if it is of one.
    """
    tasks = {task.protocol: task for task in (POSE, HOMOGRAPHY)}
    matchers = {"matching": (measure_matching, settings.matching), "sweep": (measure_sweep, settings.sweep)}
    tuned = {}
    for name in tasks.keys() & set(protocols):
        own: EstimationSettings = getattr(settings, name)
        pool, reported = material.tuning, material.datasets
        if pool is None and len(own.candidates()) > 1:
            pool, reported = pooled(material.datasets, tasks[name], own.every)
        tuned[name] = None if pool is None else Tuning(pool), reported
    for place, dataset in enumerate(material.datasets):
        for name in protocols:
            if name in tuned:
                tuning, reported = tuned[name]
                if any(map(tasks[name].usable, reported[place].pairs)):
                    own = getattr(settings, name)
                    yield measure_tuned(tasks[name], reported[place], source, own, progress, tuning), dataset
            elif name in matchers and any(pair.truth is not None for pair in dataset.pairs):
                measure_one, own = matchers[name]
                yield measure_one(dataset, source, own, progress), dataset
    if "structure" in protocols:
        names = [folder.resolve().name for folder in material.photos]
        for name, folder in zip(names, material.photos, strict=True):
            title = name if names.count(name) == 1 else f"{folder.resolve().parent.name}/{name}"
            yield measure_structure(title, folder, source, settings.structure, progress), None
    if "cost" in protocols:
        section = measure_cost(source.methods, settings.cost, progress)
        known = describe_environment()
        yield replace(section, settings={**section.settings, **{name: known[name] for name in MACHINE}}), None


def about_methods(source: FeatureSource) -> dict[str, dict[str, Any]]:
    """What each method is, and its median time for a picture (as it was when the features were made)."""
    described = {}
    for method in source.methods:
        seconds = [value for value in source.seconds.get(method.name, []) if np.isfinite(value)]
        described[method.name] = {**settings_of(method), "seconds": float(np.median(seconds)) if seconds else None}
    return described
