"""What a benchmark measures on: pairs of pictures, what is known of their geometry, and how to load them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.data.truth import Truth


@dataclass(frozen=True)
class RelativePose:
    """Two calibrated cameras and the motion between them."""

    intrinsics_a: Float[Array, "3 3"]
    """Of the first picture, in pixels of the picture that `Dataset.load` gives."""
    intrinsics_b: Float[Array, "3 3"]
    """Of the second picture, likewise."""
    b_from_a: Float[Array, "4 4"]
    """Rigid; camera coordinates of b from those of a. The length of its translation is not used."""


@dataclass(frozen=True)
class EvaluationPair:
    """Two pictures and what is known of their geometry."""

    name: str
    """Unique in its data set."""
    group: str
    """Scene or stretch of frames: what the bootstrap resamples, as neighbours are not independent."""
    picture_a: str
    """Name of the first picture, relative to the data's pictures, with forward slashes: its key in a features file."""
    picture_b: str
    """Name of the second picture."""
    truth: Truth | None = None
    """Where points lie in the other picture, in the pixels that `Dataset.load` gives; None = unknown."""
    pose: RelativePose | None = None
    """Motion of the calibrated camera; None = unknown."""
    subset: str = "all"
    """What tables are split by: `gap 10`, `viewpoint`, a scene."""


@dataclass(frozen=True)
class Dataset:
    """Pairs of pictures with known geometry, from one place."""

    name: str
    """In tables and pages; unique in a benchmark."""
    kind: str
    """Where it comes from, in a word or two: "homographies", "recording", "scene", "pair list", "rendered"."""
    pairs: list[EvaluationPair]
    load: Callable[[str], UInt8[Array, "H W *C"]]
    """The picture of a name, grey or RGB, at the size it is measured at. Raises ValueError (ImageError is one) or
    OSError where it can't be read."""
    unit: str
    """What the groups of its pairs are, in the plural: "scenes", "stretches of frames"."""
    thresholds: tuple[float, ...] = (1.0, 3.0, 5.0)
    """Pixels at which its truth is good enough to tell right from wrong."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How pairs and sizes were chosen, in types that JSON has."""
    name_in_files: Callable[[str], str] = str
    """A picture's name as a features file has it, from its name here."""
    skipped: list[str] = field(default_factory=list)
    """Pairs that could not be taken, a line each: which, why, and the remedy."""
