"""Protocol on a prepared scene: the pairs of its table, by default those held back from training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lfnet.coordinates import resize_matrix
from lfnet.data.scenes import Scene
from lfnet.evaluation.protocols import EvaluationPair, resized_grey, run_protocol
from lfnet.evaluation.truth import Camera, DepthTruth, TransformedTruth
from lfnet.images import shrunk_size

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray as Array

    from lfnet.coordinates import Size
    from lfnet.evaluation.baselines import Extractor
    from lfnet.evaluation.protocols import Progress, ProtocolSettings
    from lfnet.evaluation.results import Results
    from lfnet.evaluation.truth import Places

CAMERAS_KEPT = 32
"""Depth maps kept in memory: at 1600x1200 px they take 250 MB."""


@dataclass(frozen=True)
class SceneSettings:
    """Which pairs of a scene are measured, and at what size."""

    split: Literal["validation", "training"] = "validation"
    """Pairs held back from training, or those trained on."""
    long_side: int = 640
    """Pictures are shrunk to this long side before extraction, pixels."""
    max_pairs: int = 200
    """Pairs at most, taken evenly from the table, which is in order of its pictures."""

    def __post_init__(self) -> None:
        if self.long_side < 1 or self.max_pairs < 1:
            raise ValueError(f"long_side and max_pairs must be at least 1, got {self.long_side} and {self.max_pairs}")


@dataclass(frozen=True)
class SceneTruth:
    """Geometry of two pictures of a scene, whose depth is read when it is asked for."""

    numbers: tuple[int, int]
    """COLMAP's numbers of both pictures."""
    camera: Callable[[int], Camera]
    """Depth and pose of a number."""
    long_side: int
    """Of the pictures that points are in, pixels."""

    def b_from_a(self, points: Float[Array, "N 2"]) -> Places:
        """Places in b of points of a, and whether b sees them."""
        return self._truth().b_from_a(points)

    def a_from_b(self, points: Float[Array, "N 2"]) -> Places:
        """Places in a of points of b, and whether a sees them."""
        return self._truth().a_from_b(points)

    def _truth(self) -> TransformedTruth:
        camera_a, camera_b = (self.camera(number) for number in self.numbers)
        sizes = camera_a.size, camera_b.size
        matrices = [resize_matrix(size, shrunk_size(size, self.long_side)) for size in sizes]
        return TransformedTruth(DepthTruth(camera_a, camera_b), *matrices)


def scene_pairs(scene: Scene, settings: SceneSettings) -> list[EvaluationPair]:
    """Pairs of a scene's table; those of one picture a are a group.

    Args:
        scene: that `lfnet prepare` made.
        settings: split, size, number.

    Raises:
        ValueError: the split has no pairs.
    """
    table = scene.pairs(settings.split)
    if not len(table):
        raise ValueError(
            f"scene {scene.folder}: no pairs for {settings.split}; prepare it with validation pictures, or measure "
            "those trained on (--split training)"
        )
    rows = table.rows(np.lexsort((table.image_id_b, table.image_id_a)))
    if len(rows) > settings.max_pairs:
        rows = rows.rows(np.linspace(0, len(rows) - 1, settings.max_pairs).round().astype(int))

    @lru_cache(maxsize=CAMERAS_KEPT)
    def camera(number: int) -> Camera:
        frame = scene.frame(number)
        if frame.read_depth is None:
            raise ValueError(f"scene {scene.folder}: picture {frame.name} has no depth")
        return Camera(frame.read_depth(), frame.intrinsics, frame.camera_from_world)

    pairs = []
    for numbers in zip(rows.image_id_a.tolist(), rows.image_id_b.tolist(), strict=True):
        name_a, name_b = (scene.frame(number).name for number in numbers)
        truth = SceneTruth(numbers, camera, settings.long_side)
        pairs.append(EvaluationPair(f"{name_a}-{name_b}", name_a, name_a, name_b, truth))
    return pairs


def evaluate_scene(
    folder: Path,
    extractors: list[Extractor],
    pair_settings: SceneSettings,
    settings: ProtocolSettings,
    *,
    progress: Progress | None = None,
) -> Results:
    """Measure methods on the pairs of a prepared scene.

    Args:
        folder: of the scene.
        extractors: the methods.
        pair_settings: which pairs.
        settings: how to measure.
        progress: wraps the rows, given their number.

    Raises:
        ValueError: it is no scene (SceneError), or the split has no pairs.
    """
    scene = Scene.open(folder)
    pairs = scene_pairs(scene, pair_settings)
    frames = {frame.name: frame for frame in scene.frames}

    def load(name: str) -> Array:
        frame = frames[name]
        size: Size = shrunk_size(frame.size, pair_settings.long_side)
        return resized_grey(frame.read_grey(), size)

    described = {"folder": Path(folder).resolve().name, **asdict(pair_settings)}
    return run_protocol("scene", pairs, load, extractors, settings, pair_settings=described, progress=progress)
