"""One run of a benchmark: every protocol on every data set that it fits, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lfnet.errors import one_line
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.evaluation.data.pairs import Dataset
from lfnet.evaluation.data.stereo import stereo_dataset
from lfnet.evaluation.data.synthetic import rendered_dataset, warped_dataset
from lfnet.evaluation.data.truth import HomographyTruth
from lfnet.evaluation.feature_source import FeatureRules
from lfnet.evaluation.methods.extractors import settings_of
from lfnet.evaluation.protocols.cost import CostSettings, measure_cost
from lfnet.evaluation.protocols.homography import HomographySettings, homography_task, measure_homography
from lfnet.evaluation.protocols.matching_score import MatchingSettings, SweepSettings, measure_matching, measure_sweep
from lfnet.evaluation.protocols.pose import PoseSettings, measure_pose, pose_task
from lfnet.evaluation.protocols.structure import StructureSettings, measure_structure
from lfnet.evaluation.protocols.tuning import EstimationSettings, Task, Tuning, pooled
from lfnet.evaluation.results import describe_environment
from lfnet.progress import Say

if TYPE_CHECKING:
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.results import Section

ProtocolName = Literal["matching", "sweep", "pose", "homography", "structure", "cost"]


MACHINE = ("processor", "opencv", "torch", "threads_torch", "threads_opencv")
"""Of the environment, what decides a method's cost: costs of two machines are not compared."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """How everything is measured; the same for every method."""

    rules: FeatureRules = field(default_factory=FeatureRules)
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    pose: PoseSettings = field(default_factory=PoseSettings)
    homography: HomographySettings = field(default_factory=HomographySettings)
    structure: StructureSettings = field(default_factory=StructureSettings)
    cost: CostSettings = field(default_factory=CostSettings)


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
        except (ValueError, OSError, ModuleNotFoundError) as error:
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
    tasks = {
        "pose": (pose_task(source, settings.pose), settings.pose),
        "homography": (homography_task(source, settings.homography), settings.homography),
    }
    estimates = {name: _shared_tuning(material, *task) for name, task in tasks.items() if name in protocols}
    for place, dataset in enumerate(material.datasets):
        for protocol in protocols:
            if protocol in estimates:
                tuning, reported = estimates[protocol]
                section = _estimate(protocol, reported[place], source, settings, progress, tuning)
            else:
                section = _match(protocol, dataset, source, settings, progress)
            if section is not None:
                yield section, dataset
    if "structure" in protocols:
        names = [folder.resolve().name for folder in material.photos]
        for name, folder in zip(names, material.photos, strict=True):
            title = name if names.count(name) == 1 else f"{folder.resolve().parent.name}/{name}"
            yield measure_structure(title, folder, source, settings.structure, progress), None
    if "cost" in protocols:
        section = measure_cost(source.methods, settings.cost, progress)
        known = describe_environment()
        yield replace(section, settings={**section.settings, **{name: known[name] for name in MACHINE}}), None


def _shared_tuning(
    material: Material, task: Task, settings: EstimationSettings
) -> tuple[Tuning | None, Sequence[Dataset]]:
    """What ratio and threshold are tuned on, the same for all data sets, and the data sets to report."""
    if len(settings.candidates()) == 1:
        return None, material.datasets
    if material.tuning is not None:
        return Tuning(material.tuning), material.datasets
    pool, reported = pooled(material.datasets, task, settings.every)
    return (None if pool is None else Tuning(pool)), reported


def _match(
    protocol: ProtocolName,
    dataset: Dataset,
    source: FeatureSource,
    settings: BenchmarkSettings,
    progress: Say,
) -> Section | None:
    """A protocol that matches alone; None where it doesn't fit."""
    if all(pair.truth is None for pair in dataset.pairs):
        return None
    if protocol == "matching":
        return measure_matching(dataset, source, settings.matching, progress)
    if protocol == "sweep":
        return measure_sweep(dataset, source, settings.sweep, progress)
    return None


def _estimate(
    protocol: ProtocolName,
    dataset: Dataset,
    source: FeatureSource,
    settings: BenchmarkSettings,
    progress: Say,
    tuning: Tuning | None,
) -> Section | None:
    """A protocol that estimates geometry; None where it doesn't fit."""
    if protocol == "pose" and any(pair.pose is not None for pair in dataset.pairs):
        return measure_pose(dataset, source, settings.pose, progress, tuning=tuning)
    if protocol == "homography" and any(isinstance(pair.truth, HomographyTruth) for pair in dataset.pairs):
        return measure_homography(dataset, source, settings.homography, progress, tuning=tuning)
    return None


def about_methods(source: FeatureSource) -> dict[str, dict[str, Any]]:
    """What each method is, and its median time for a picture (as it was when the features were made)."""
    described = {}
    for method in source.methods:
        seconds = [value for value in source.seconds.get(method.name, []) if np.isfinite(value)]
        described[method.name] = {
            **settings_of(method),
            "seconds": float(np.median(seconds)) if seconds else None,
        }
    return described
