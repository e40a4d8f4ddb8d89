"""Recordings with depth and poses: pairs by frame gap that see enough of each other, as the paper measures ScanNet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lfnet.data.layouts import LAYOUTS, read_frames
from lfnet.errors import UserError
from lfnet.evaluation.data.measured_frames import MeasuredFrames, evenly
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
from lfnet.evaluation.unmeasured import Unmeasured

if TYPE_CHECKING:
    from lfnet.evaluation.data.data_settings import DataSettings

RECORDINGS = ("plain", "7-scenes", "tum", "scannet-sens", "scannet")
"""Names in `LAYOUTS` of those whose frames are in order of time; the others are collections of photographs."""
THRESHOLDS = (5.0,)
"""Pixels: depth and poses of an RGB-D sensor put points some pixels off."""
OVERSAMPLING = 4
"""Pairs whose overlap is measured, at most, for each that is wanted: it takes two depth maps."""


def is_recording(path: Path) -> bool:
    """Whether a path is a recording in any layout of `RECORDINGS`."""
    if path.is_file():
        return path.suffix == ".sens"
    return any(LAYOUTS[name].detect(path) for name in RECORDINGS)


def open_recording(path: Path, settings: DataSettings) -> Dataset:
    """Pairs of a recording by gap; a stretch of frames is a group, a gap a subset.

    Args:
        path: its folder, or a `.sens` file.
        settings: frames, gaps, overlap, size, number of pairs, which is shared out among the gaps.

    Raises:
        ValueError: the frames lie outside of the recording, or no pair is left (SequenceError is one).
        OSError: it can't be read.
    """
    recording = read_frames(path)
    posed = [frame for frame in recording.frames if frame.read_depth is not None]
    first, end = settings.frames or (0, len(posed))
    if end > len(posed):
        raise UserError(f"{path}: frames end at {end}, but it has {len(posed)} pictures")
    frames = MeasuredFrames(posed, settings.long_side)
    names = [frame.name for frame in posed]
    pairs: list[EvaluationPair] = []
    skipped = [f"{path.name}: {note}" for note in recording.notes]
    for place, gap in enumerate(settings.gaps):
        limit = settings.max_pairs // len(settings.gaps) + (place < settings.max_pairs % len(settings.gaps))
        starts = _seeing_each_other(frames, names, range(first, end - gap), gap, settings, limit, skipped)
        pairs += [_pair(frames, names, start, gap, settings.stretch) for start in evenly(starts, limit)]
    if not pairs:
        causes = f"; the first of {len(skipped)} that were skipped: {skipped[0]}" if skipped else ""
        raise UserError(
            f"{path}: no pair of frames {first} to {end} with gaps {', '.join(map(str, settings.gaps))} overlaps by "
            f"{settings.min_overlap}; try smaller gaps{causes}"
        )
    return Dataset(
        name=path.name,
        kind="recording",
        pairs=pairs,
        load=frames.load,
        unit="stretches of frames",
        thresholds=THRESHOLDS,
        settings={"layout": recording.layout, "frames": [first, end]},
        skipped=list(dict.fromkeys(skipped)),
    )


def _seeing_each_other(
    frames: MeasuredFrames,
    names: list[str],
    starts: range,
    gap: int,
    settings: DataSettings,
    limit: int,
    skipped: list[str],
) -> list[int]:
    """First frames of the pairs that overlap enough; what can't be read goes to `skipped`."""
    seeing = []
    for start in evenly(starts, OVERSAMPLING * limit):
        try:
            overlap = frames.overlap(names[start], names[start + gap])
        except Unmeasured as error:
            skipped.append(f"{names[start]} - {names[start + gap]}: {error}")
            continue
        if overlap >= settings.min_overlap:
            seeing.append(start)
    return seeing


def _pair(frames: MeasuredFrames, names: list[str], start: int, gap: int, stretch: int) -> EvaluationPair:
    name_a, name_b = names[start], names[start + gap]
    return EvaluationPair(
        name=f"{name_a} - {name_b}",
        group=f"frames {start // stretch * stretch}+",
        picture_a=name_a,
        picture_b=name_b,
        truth=frames.truth(name_a, name_b),
        pose=frames.pose(name_a, name_b),
        subset=f"gap {gap}",
    )
