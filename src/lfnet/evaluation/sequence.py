"""Protocol on a walk with depth maps and poses: pairs by frame gap that see enough of each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from lfnet.coordinates import resize_matrix
from lfnet.data.layouts import read_frames
from lfnet.evaluation.protocols import EvaluationPair, resized_grey, run_protocol
from lfnet.evaluation.truth import Camera, DepthTruth, TransformedTruth, visible_share

if TYPE_CHECKING:
    from numpy import ndarray as Array

    from lfnet.evaluation.baselines import Extractor
    from lfnet.evaluation.protocols import Progress, ProtocolSettings
    from lfnet.evaluation.results import Results


@dataclass(frozen=True)
class SequenceSettings:
    """Which pairs of a sequence are measured, and at what size."""

    frames: tuple[int, int] | None = None
    """First frame and the one after the last, counted in file-name order from 0; None = all."""
    gaps: tuple[int, ...] = (4, 8, 12)
    """Frames between the two pictures of a pair."""
    size: tuple[int, int] = (480, 320)
    """Width and height that pictures are resized to before extraction, pixels."""
    min_overlap: float = 0.1
    """Each picture must see at least this share of the other's pixels, measured through depth."""
    max_pairs: int | None = None
    """Keep at most this many pairs, evenly spread over gaps and frames; None = all."""
    stretch: int = 10
    """Frames in a stretch, the unit that the bootstrap resamples."""

    def __post_init__(self) -> None:
        if self.frames is not None and not 0 <= self.frames[0] < self.frames[1]:
            raise ValueError(f"frames must be first and one past the last, ascending, got {self.frames}")
        if not self.gaps or min(self.gaps) < 1:
            raise ValueError(f"gaps must be at least 1, got {self.gaps}")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise ValueError(f"max_pairs must be at least 1, got {self.max_pairs}")


class Sequence:
    """The frames with depth of a folder in any of `lfnet.data.layouts.LAYOUTS`."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self.folder = Path(folder)
        self.size = size
        recording = read_frames(self.folder)
        self.notes = recording.notes
        self._frames = [frame for frame in recording.frames if frame.read_depth is not None]
        stems = [PurePosixPath(frame.name).stem for frame in self._frames]
        # In folders of folders, stems may repeat.
        self._keys = stems if len(set(stems)) == len(stems) else [frame.name for frame in self._frames]
        self._by_key = dict(zip(self._keys, self._frames, strict=True))
        self.camera = lru_cache(maxsize=64)(self._read_camera)

    def __len__(self) -> int:
        return len(self._frames)

    def load(self, key: str) -> Array:
        """The grey picture of a frame, resized."""
        return resized_grey(self._by_key[key].read_grey(), self.size)

    def key(self, frame: int) -> str:
        """Key of a frame: its file's name without the ending."""
        return self._keys[frame]

    def _read_camera(self, number: int) -> Camera:
        """Depth of every pixel of the stored picture, intrinsics and pose of a frame."""
        frame = self._frames[number]
        assert frame.read_depth is not None
        return Camera(frame.read_depth(), frame.intrinsics, frame.camera_from_world)

    def truth(self, frame_a: int, frame_b: int) -> TransformedTruth:
        """Geometry of two frames in the pixels of the resized pictures; depth is not resampled."""
        camera_a, camera_b = self.camera(frame_a), self.camera(frame_b)
        return TransformedTruth(
            DepthTruth(camera_a, camera_b),
            resize_matrix(camera_a.size, self.size),
            resize_matrix(camera_b.size, self.size),
        )


def sequence_pairs(sequence: Sequence, settings: SequenceSettings) -> list[EvaluationPair]:
    """Pairs of a sequence that see enough of each other.

    Args:
        sequence: pictures, depths and poses.
        settings: frames, gaps, overlap.

    Returns:
        pairs, ordered by gap and frame.

    Raises:
        ValueError: if the frames lie outside of the sequence or no pair is left.
    """
    first, end = settings.frames or (0, len(sequence))
    if end > len(sequence):
        raise ValueError(f"frames end at {end}, but {sequence.folder} has {len(sequence)} pictures")
    pairs = []
    for gap in settings.gaps:
        for frame in range(first, end - gap):
            truth = sequence.truth(frame, frame + gap)
            if min(visible_share(truth, sequence.size, sequence.size)) < settings.min_overlap:
                continue
            key_a, key_b = sequence.key(frame), sequence.key(frame + gap)
            group = f"frames {frame // settings.stretch * settings.stretch}+"
            pairs.append(EvaluationPair(f"{key_a}-{key_b}", group, key_a, key_b, truth))
    chosen = _evenly_spread(pairs, settings.max_pairs)
    if not chosen:
        raise ValueError(f"no pair of {sequence.folder} in frames {first} to {end} overlaps by {settings.min_overlap}")
    return chosen


def evaluate_sequence(
    folder: Path,
    extractors: list[Extractor],
    pair_settings: SequenceSettings,
    settings: ProtocolSettings,
    *,
    progress: Progress | None = None,
) -> Results:
    """Measure methods on a sequence in any layout.

    Args:
        folder: of the sequence.
        extractors: the methods.
        pair_settings: which pairs.
        settings: how to measure.
        progress: wraps the rows, given their number.

    Returns:
        the results.
    """
    sequence = Sequence(folder, pair_settings.size)
    pairs = sequence_pairs(sequence, pair_settings)
    described = {"folder": sequence.folder.name, "notes": sequence.notes, **asdict(pair_settings)}
    return run_protocol(
        "sequence", pairs, sequence.load, extractors, settings, pair_settings=described, progress=progress
    )


def _evenly_spread(pairs: list[EvaluationPair], limit: int | None) -> list[EvaluationPair]:
    if limit is None or len(pairs) <= limit:
        return pairs
    positions = np.linspace(0, len(pairs) - 1, limit + 2)[1:-1]
    return [pairs[round(float(position))] for position in positions]
