"""Scenes made by `lfnet prepare`: the pairs of their tables, by default those held back from training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lfnet.data.scenes.scene import Scene
from lfnet.errors import UserError
from lfnet.evaluation.data.measured_frames import MeasuredFrames, evenly
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
from lfnet.evaluation.data.recorded_pairs import RECORDINGS
from lfnet.evaluation.data.recorded_pairs import THRESHOLDS as RECORDING_THRESHOLDS

if TYPE_CHECKING:
    from lfnet.evaluation.data.data_settings import DataSettings

THRESHOLDS = (1.0, 3.0, 5.0)
"""Pixels, for scenes of photographs: their depth and poses come from one reconstruction."""


def is_scene(path: Path) -> bool:
    """Whether a folder looks like a prepared scene."""
    return (path / "manifest.json").is_file()


def open_scene(path: Path, settings: DataSettings) -> Dataset:
    """Pairs of a scene's table; those of one picture a are a group.

    Args:
        path: folder that `lfnet prepare` made.
        settings: split, size, number of pairs.

    Raises:
        ValueError: it is no scene (SceneError is one), isn't finished, or the split has no pairs.
    """
    scene = Scene.open(path)
    table = scene.pairs(settings.split)
    if not len(table):
        other = "training" if settings.split == "validation" else "validation"
        raise UserError(
            f"scene {path}: no pairs for {settings.split}; prepare it with more pictures held back, or measure those "
            f"for {other} (--split {other})"
        )
    table = table.rows(np.lexsort((table.image_id_b, table.image_id_a)))
    frames = MeasuredFrames(scene.frames, settings.long_side)
    pairs = []
    skipped = []
    for row in evenly(range(len(table)), settings.max_pairs):
        numbers = int(table.image_id_a[row]), int(table.image_id_b[row])
        name_a, name_b = (scene.frame(number).name for number in numbers)
        truth = frames.truth(name_a, name_b)
        if truth is None:
            skipped.append(f"{name_a} - {name_b}: no depth map; prepare the scene again")
            continue
        pose = frames.pose(name_a, name_b)
        pairs.append(EvaluationPair(f"{name_a} - {name_b}", name_a, name_a, name_b, truth, pose))
    layout = scene.manifest["source"]["layout"]
    return Dataset(
        name=path.name,
        kind="scene",
        pairs=pairs,
        load=frames.load,
        unit="first pictures",
        thresholds=RECORDING_THRESHOLDS if layout in RECORDINGS else THRESHOLDS,
        settings={"layout": layout},
        skipped=skipped,
    )
