"""The layouts on disk that posed pictures with depth are read from, told apart by what a folder holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lfnet.data.frames import FrameSet, SequenceError
from lfnet.data.reconstructions.photo_collections import is_benchmark, is_megadepth, read_benchmark, read_megadepth
from lfnet.data.recordings.picture_folders import is_plain, is_seven_scenes, read_plain, read_seven_scenes
from lfnet.data.recordings.scannet import is_exported, is_sens, read_exported, read_sens
from lfnet.data.recordings.tum import is_tum, read_tum


@dataclass(frozen=True)
class Layout:
    """One way to store posed pictures with depth."""

    detect: Callable[[Path], bool]
    """Whether a folder looks like it."""
    read: Callable[[Path], FrameSet]
    """Its frames; SequenceError where something is missing or does not fit."""
    expects: str
    """What it is, in a line."""


LAYOUTS: dict[str, Layout] = {
    "plain": Layout(is_plain, read_plain, "images/, depth/*.png, K.txt, poses.txt"),
    "7-scenes": Layout(is_seven_scenes, read_seven_scenes, "NAME.color.png, NAME.depth.png, NAME.pose.txt"),
    "tum": Layout(is_tum, read_tum, "rgb.txt, depth.txt, groundtruth.txt (TUM RGB-D)"),
    "scannet-sens": Layout(is_sens, read_sens, "SCAN.sens (ScanNet), or that file itself"),
    "scannet": Layout(is_exported, read_exported, "color/, depth/, pose/, intrinsic/ (ScanNet, exported)"),
    "image-matching-benchmark": Layout(
        is_benchmark,
        read_benchmark,
        "dense/{images,sparse,stereo/depth_maps}, or set_100/{images,calibration,depth_maps}",
    ),
    "megadepth": Layout(is_megadepth, read_megadepth, "images/ or imgs/, sparse/, depths/*.h5 (MegaDepth)"),
}
"""By name, in the order in which they are tried."""


def detect_layout(folder: str | Path) -> str:
    """Name in `LAYOUTS` of the layout that a folder has.

    Args:
        folder: of one recording or scene; a `.sens` file by itself is one too.

    Raises:
        SequenceError: it is not there, or looks like none of them; the message says what each expects.
    """
    folder = Path(folder)
    if not folder.is_dir() and not (folder.is_file() and is_sens(folder)):
        raise SequenceError(f"sequence {folder}: no such folder")
    for name, layout in LAYOUTS.items():
        if layout.detect(folder):
            return name
    below = sorted(each.name for each in folder.iterdir() if each.is_dir() and is_seven_scenes(each))
    if below:
        raise SequenceError(
            f"sequence {folder}: holds {len(below)} sequences; name one of them, as {folder / below[0]}"
        )
    expected = "; ".join(f"{name}: {layout.expects}" for name, layout in LAYOUTS.items())
    raise SequenceError(f"sequence {folder}: looks like no known layout; expected one of: {expected}")


def read_frames(folder: str | Path, layout: str | None = None) -> FrameSet:
    """Frames of a recording or scene in any of `LAYOUTS`.

    Args:
        folder: of one recording or scene, or a `.sens` file.
        layout: name in `LAYOUTS`; None looks which it is.

    Raises:
        SequenceError: naming the file that is missing or does not fit, or an unknown layout.
        ReconstructionError: a COLMAP model of it can't be read.
        ImageError: a picture can't be read.
    """
    name = detect_layout(folder) if layout is None else layout
    if name not in LAYOUTS:
        raise SequenceError(f"layout {name!r}: expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name].read(Path(folder))
