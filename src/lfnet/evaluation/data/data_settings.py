"""Settings of every data set of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lfnet.settings import ConfigError


@dataclass(frozen=True)
class DataSettings:
    """Which pairs of a data set are measured, at what size, and how far its truth is trusted."""

    long_side: int = 640
    """Pictures whose longer side is larger are shrunk to this many pixels."""
    max_pairs: int = 200
    """Pairs at most, taken evenly; of a recording, evenly from every gap. Homography sets are taken whole."""
    frames: tuple[int, int] | None = None
    """Recordings: first frame and the one after the last, counted in their order from 0; None = all."""
    gaps: tuple[int, ...] = (10, 20, 30, 60)
    """Recordings: frames between the two pictures of a pair (LF-Net, section 4.1)."""
    min_overlap: float = 0.1
    """Share of its pixels, or of its sparse points, that each picture of a pair must share with the other."""
    stretch: int = 10
    """Recordings: frames in a stretch, the unit that the bootstrap resamples."""
    split: Literal["validation", "training"] = "validation"
    """Prepared scenes: pairs held back from training, or those trained on."""
    images: Path | None = None
    """Folder that the names of a pair list, or of a COLMAP model, are relative to; None = beside it."""
    thresholds: tuple[float, ...] | None = None
    """Pixels at which the truth tells right from wrong; None = 5 for recordings and scenes made of them, whose depth
    and poses are no better, and 1, 3, 5 for everything else."""

    def __post_init__(self) -> None:
        if self.long_side < 64:
            raise ConfigError(f"long_side must be at least 64 pixels, got {self.long_side}")
        if self.max_pairs < 1:
            raise ConfigError(f"max_pairs must be at least 1, got {self.max_pairs}")
        if self.frames is not None and not 0 <= self.frames[0] < self.frames[1]:
            raise ConfigError(f"frames must be first and one past the last, ascending, got {self.frames}")
        if not self.gaps or min(self.gaps) < 1:
            raise ConfigError(f"gaps must be at least 1, got {self.gaps}")
        if not 0 <= self.min_overlap < 1:
            raise ConfigError(f"min_overlap must be a share in [0, 1), got {self.min_overlap}")
        if self.stretch < 1:
            raise ConfigError(f"stretch must be at least 1 frame, got {self.stretch}")
        if self.split not in ("validation", "training"):
            raise ConfigError(f"split must be validation or training, got {self.split!r}")
        if self.thresholds is not None and (not self.thresholds or min(self.thresholds) <= 0):
            raise ConfigError(f"thresholds must be positive pixels, got {self.thresholds}")
