"""One run of a benchmark: every protocol on every data set that it fits, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lfnet.evaluation.cost import CostSettings, measure_cost
from lfnet.evaluation.datasets import DataSettings, open_data
from lfnet.evaluation.extractors import settings_of
from lfnet.evaluation.homography_estimation import HomographySettings, measure_homography
from lfnet.evaluation.matching_score import MatchingSettings, SweepSettings, measure_matching, measure_sweep
from lfnet.evaluation.pairs import Dataset
from lfnet.evaluation.pose import PoseSettings, measure_pose
from lfnet.evaluation.rendered import rendered_dataset, warped_dataset
from lfnet.evaluation.source import FeatureRules
from lfnet.evaluation.stereo import stereo_dataset
from lfnet.evaluation.structure import StructureSettings, measure_structure
from lfnet.evaluation.truth import HomographyTruth

if TYPE_CHECKING:
    from lfnet.evaluation.matching_score import Progress
    from lfnet.evaluation.results import Section
    from lfnet.evaluation.source import FeatureSource

ProtocolName = Literal["matching", "sweep", "pose", "homography", "structure", "cost"]


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
    """Pairs that ratio and threshold are tuned on; None = some groups of each data set, set aside."""


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
            lines.append(" ".join(str(error).split()))
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
    progress: Progress,
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
    for dataset in material.datasets:
        for protocol in protocols:
            section = _measure_pairs(protocol, dataset, source, settings, progress, material.tuning)
            if section is not None:
                yield section, dataset
    if "structure" in protocols:
        for folder in material.photos:
            yield measure_structure(folder.resolve().name, folder, source, settings.structure, progress), None
    if "cost" in protocols:
        yield measure_cost(source.methods, settings.cost, progress), None


def _measure_pairs(
    protocol: ProtocolName,
    dataset: Dataset,
    source: FeatureSource,
    settings: BenchmarkSettings,
    progress: Progress,
    tuning: Dataset | None,
) -> Section | None:
    """A protocol on a data set; None where it doesn't fit."""
    known = any(pair.truth is not None for pair in dataset.pairs)
    if protocol == "matching" and known:
        return measure_matching(dataset, source, settings.matching, progress)
    if protocol == "sweep" and known:
        return measure_sweep(dataset, source, settings.sweep, progress)
    if protocol == "pose" and any(pair.pose is not None for pair in dataset.pairs):
        return measure_pose(dataset, source, settings.pose, progress, tuning_data=tuning)
    if protocol == "homography" and any(isinstance(pair.truth, HomographyTruth) for pair in dataset.pairs):
        return measure_homography(dataset, source, settings.homography, progress, tuning_data=tuning)
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
