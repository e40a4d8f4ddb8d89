"""Structure from motion with each method's features: how many photos register, how many points, seen how often."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lfnet.errors import one_line
from lfnet.evaluation.cache import digest
from lfnet.evaluation.data.pairs import Dataset
from lfnet.evaluation.results import Row, Section
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.image_files import FoundImages, find_images, natural_key
from lfnet.images import ImageError, image_size, read_image, shrink
from lfnet.integrations.colmap import CameraSettings, ColmapDatabase, ColmapModel
from lfnet.integrations.pycolmap_process import PycolmapError, has_pycolmap, run_pycolmap
from lfnet.progress import Say
from lfnet.settings import ConfigError, require_at_least

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8
    from numpy import ndarray as Array

    from lfnet.coordinates import Size
    from lfnet.evaluation.cache import Arrays
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method
    from lfnet.features import Features

RATIOS = (0.8, 0.9, 1.0)
"""Lowe's (2004, section 7.1), which COLMAP has too, a looser one, and no test, as the authors of LF-Net want it. The
first leaves RootSIFT 3 of 13 photos of a statue where the second registers 12; no one of them suits every method."""

WHERE_PICTURES_ARE = ("images", "imgs")
"""Folders of pictures in a prepared scene, beside a COLMAP model, and in MegaDepth."""

COUNTS = ("registered", "points", "observations")
MEANS = ("track_length", "reprojection_error")
"""Undefined where nothing registers."""


@dataclass(frozen=True)
class StructureSettings:
    """How photos become a model; the same for every method but for the ratio of Lowe's test."""

    budget: int = 2048
    """Keypoints of a photo, K."""
    long_side: int = 1024
    """Photos whose longer side is larger are shrunk to this many pixels for the features. COLMAP gets keypoints in
    pixels of the photo as stored, and its thresholds (4 px) count there."""
    max_pictures: int = 60
    """Photos at most, the first ones in natural order: all pairs are matched, 1770 of 60."""
    candidates: tuple[float, ...] = RATIOS
    """Of Lowe's test; 1 = no test. Each method is given the one under which most of its photos register, then most
    keypoints see a point: on the photos that are reported, but for every method alike."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """By method, in place of the candidates."""
    cameras: Literal["auto", "single", "per-picture"] = "auto"
    """Photos that share a camera: those of one size with the same camera and focal length in their EXIF, all, or
    none."""
    threads: int = -1
    """Of COLMAP; -1 takes all cores. With several, figures change a little from run to run."""
    seed: int = 0
    """Of COLMAP's sampling, in versions that have one."""

    def __post_init__(self) -> None:
        require_at_least(self, "structure", {"budget": 16, "long_side": 64, "max_pictures": 3})
        for ratio in (*self.candidates, *self.ratios.values()):
            if not 0 < ratio <= 1:
                raise ConfigError(f"candidates and ratios must be in (0, 1], got {ratio}")
        if not self.candidates:
            raise ConfigError("candidates: at least one ratio, 1 for no test")

    def ratios_of(self, method: Method) -> tuple[float, ...]:
        """What is tried for a method."""
        return (self.ratios[method.name],) if method.name in self.ratios else self.candidates


@dataclass(frozen=True)
class PhotoFolder:
    """Photos of one place."""

    folder: Path
    sizes: dict[str, Size]
    """(width, height) as stored of each that can be read, by name relative to the folder, in natural order."""
    skipped: list[str]
    """Those that are left out, a line each."""

    def dataset(self, name: str, long_side: int) -> Dataset:
        """The photos as what features are asked for: as stored, shrunk, with no pairs of known geometry."""

        def load(picture: str) -> UInt8[Array, "H W 3"]:
            return shrink(read_image(self.folder / picture), long_side)

        return Dataset(name, "photos", [], load, "sets of photos")


def open_photos(folder: str | Path, max_pictures: int) -> PhotoFolder:
    """The photos of a folder.

    Args:
        folder: of photos; or of a prepared scene, or of a COLMAP model with its pictures, which are then taken.
        max_pictures: the first so many in natural order.

    Returns:
        the photos that can be read.

    Raises:
        ImageError: there is none.
    """
    folder = Path(folder)
    root = next((folder / name for name in WHERE_PICTURES_ARE if (folder / name).is_dir()), folder)
    found = find_images(root) if root.is_dir() else FoundImages([], [])
    names = sorted((path.relative_to(root).as_posix() for path in found.paths), key=natural_key)
    skipped = list(found.passed_over)
    if len(names) > max_pictures:
        skipped.append(f"{folder}: {len(names)} photos; the first {max_pictures} are taken (max_pictures)")
    sizes = {}
    for name in names[:max_pictures]:
        try:
            sizes[name] = image_size(root / name)
        except ImageError as error:
            skipped.append(str(error))
    if len(sizes) < 2:
        cause = f"{len(sizes)} photos that can be read"
        raise ImageError(folder, cause, "structure from motion needs some that overlap")
    return PhotoFolder(root, sizes, skipped)


def measure_structure(
    name: str, folder: str | Path, source: FeatureSource, settings: StructureSettings, progress: Say
) -> Section:
    """Structure from motion with every method's features on one folder of photos.

    All pairs are matched by mutual nearest neighbours, verified and mapped incrementally under COLMAP's defaults. The
    model of most photos counts, under the ratio that suits the method best.

    Args:
        name: of the photos, in tables.
        folder: as `open_photos` takes it.
        source: features of the methods.
        settings: budget, size, ratios.
        progress: called with what is being done.

    Returns:
        the section `structure`, a row for each method; what could not be measured is in its `skipped`.
    """
    about = {**asdict(settings), "candidates": list(settings.candidates), "ratios": dict(settings.ratios)}
    if not has_pycolmap():
        return Section("structure", name, [], "sets of photos", about, {}, [_NEEDS_PYCOLMAP])
    try:
        photos = open_photos(folder, settings.max_pictures)
        with tempfile.TemporaryDirectory() as work:
            version = run_pycolmap("versions", Path(work) / "log")["version"]
    except (ImageError, PycolmapError, OSError) as error:
        return Section("structure", name, [], "sets of photos", about, {}, [one_line(error)])
    run = _Run(photos, photos.dataset(name, settings.long_side), source, settings, version, progress)
    rows, chosen, skipped = [], {}, list(photos.skipped)
    for method in source.methods:
        best, lines = run.measure(method)
        skipped += lines
        if best is not None:
            ratio, metrics = best
            chosen[method.name] = {"ratio": ratio}
            rows.append(Row(method.name, name, name, metrics, budget=settings.budget))
    about = {**about, "pycolmap": version, "photos": len(photos.sizes)}
    return Section("structure", name, rows, "sets of photos", about, chosen, skipped)


_NEEDS_PYCOLMAP = "structure from motion needs pycolmap: pip install 'lfnet[sfm]'"


@dataclass(frozen=True)
class _Run:
    """One folder of photos under one set of rules."""

    photos: PhotoFolder
    dataset: Dataset
    source: FeatureSource
    settings: StructureSettings
    pycolmap: str
    progress: Say

    def measure(self, method: Method) -> tuple[tuple[float, dict[str, float]] | None, list[str]]:
        """The best ratio of a method and its metrics, None where it has no features; what went wrong, a line each."""
        features, failures = self._features(method)
        if not features:
            first = next(iter(failures.values()), "no photos")
            return None, [f"{method.name} is left out: it has no features of any photo of {self.dataset.name}; {first}"]
        lines = [
            f"{method.name}: photo {picture} of {self.dataset.name} has no features, and can't register: {cause}"
            for picture, cause in failures.items()
        ]
        tried: list[tuple[float, dict[str, float]]] = []
        for ratio in self.settings.ratios_of(method):
            try:
                tried.append((ratio, self._metrics(self._structure(method, features, ratio))))
            except Unmeasured as error:
                return None, [*lines, f"{method.name} is left out of structure on {self.dataset.name}: {error}"]
            except (PycolmapError, OSError) as error:
                # A mapping that breaks down is a result of the features too; it is not kept, so it is tried again.
                tried.append((ratio, self._metrics(_NOTHING)))
                lines.append(f"{method.name} on {self.dataset.name}, ratio {ratio:g}: {one_line(error)}")
        return max(tried, key=lambda each: (each[1]["registered"], each[1]["observations"])), lines

    def _structure(self, method: Method, features: dict[str, Features], ratio: float) -> Arrays:
        matches = list(self._matches(method, features, ratio))
        self.progress(f"{method.name}: structure of {self.dataset.name}, ratio {ratio:g}")
        key = self._key(features, matches)
        return self.source.cache.fetch("structures", key, lambda: self._reconstruct(features, matches))

    def _features(self, method: Method) -> tuple[dict[str, Features], dict[str, str]]:
        """In pixels of the photos as stored; and why there are none, by photo."""
        found, failures = {}, {}
        for picture, size in self.photos.sizes.items():
            self.progress(f"{method.name}: features of {self.dataset.name}/{picture}")
            try:
                features = self.source.features(method, self.dataset, picture, budget=self.settings.budget)
            except Unmeasured as error:
                failures[picture] = str(error)
                continue
            found[picture] = features.resized(size)
        return found, failures

    def _matches(
        self, method: Method, features: dict[str, Features], ratio: float
    ) -> Iterator[tuple[str, str, Int[Array, "M 2"]]]:
        test = None if ratio == 1 else ratio
        for a, b in combinations(features, 2):
            self.progress(f"{method.name}: matches of {a} and {b}, ratio {ratio:g}")
            yield a, b, self.source.neighbours(features[a], features[b]).mutual(test)

    def _key(self, features: dict[str, Features], matches: Sequence[tuple[str, str, Array]]) -> dict[str, object]:
        keypoints = [digest(found.keypoints, found.scales, found.orientations) for found in features.values()]
        return {
            "photos": [[name, *size] for name, size in self.photos.sizes.items()],
            "features": dict(zip(features, keypoints, strict=True)),
            "matches": digest(*(index for _, _, index in matches)),
            "cameras": self.settings.cameras,
            "threads": self.settings.threads,
            "seed": self.settings.seed,
            "pycolmap": self.pycolmap,
        }

    def _reconstruct(self, features: dict[str, Features], matches: list[tuple[str, str, Array]]) -> Arrays:
        with tempfile.TemporaryDirectory() as work:
            database = ColmapDatabase(Path(work) / "database.db", self.photos.folder)
            database.add_pictures(list(self.photos.sizes), CameraSettings(sharing=self.settings.cameras))
            database.add_features(features, matches)
            start = time.perf_counter()
            verified = database.verify(threads=self.settings.threads, seed=self.settings.seed)
            models = []
            if verified:
                models = database.map(Path(work) / "models", threads=self.settings.threads, seed=self.settings.seed)
            return _arrays_of(models, time.perf_counter() - start)

    def _metrics(self, arrays: Arrays) -> dict[str, float]:
        values = {name: float(arrays[name]) for name in (*COUNTS, *MEANS, "seconds")}
        registered = values.pop("registered")
        return {"registered": registered, "registered_share": registered / len(self.photos.sizes), **values}


def _arrays_of(models: Sequence[ColmapModel], seconds: float) -> Arrays:
    """Figures of the largest model."""
    if not models:
        return {**_NOTHING, "seconds": np.asarray(seconds)}
    model = models[0]
    values = {"registered": len(model.names), **{name: getattr(model, name) for name in (*COUNTS[1:], *MEANS)}}
    return {**{name: np.asarray(value, np.float64) for name, value in values.items()}, "seconds": np.asarray(seconds)}


_NOTHING: dict[str, NDArray[np.float64]] = {
    **{name: np.asarray(0.0) for name in COUNTS},
    **{name: np.asarray(math.nan) for name in (*MEANS, "seconds")},
}
