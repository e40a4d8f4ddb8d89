"""Data sets of the benchmark, opened by what a path holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from lfnet.evaluation import homography_sets, pair_lists, posed_folders, prepared_scenes, recordings
from lfnet.evaluation.pairs import Dataset


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
            raise ValueError(f"long_side must be at least 64 pixels, got {self.long_side}")
        if self.max_pairs < 1:
            raise ValueError(f"max_pairs must be at least 1, got {self.max_pairs}")
        if self.frames is not None and not 0 <= self.frames[0] < self.frames[1]:
            raise ValueError(f"frames must be first and one past the last, ascending, got {self.frames}")
        if not self.gaps or min(self.gaps) < 1:
            raise ValueError(f"gaps must be at least 1, got {self.gaps}")
        if not 0 <= self.min_overlap < 1:
            raise ValueError(f"min_overlap must be a share in [0, 1), got {self.min_overlap}")
        if self.stretch < 1:
            raise ValueError(f"stretch must be at least 1 frame, got {self.stretch}")
        if self.split not in ("validation", "training"):
            raise ValueError(f"split must be validation or training, got {self.split!r}")
        if self.thresholds is not None and (not self.thresholds or min(self.thresholds) <= 0):
            raise ValueError(f"thresholds must be positive pixels, got {self.thresholds}")


@dataclass(frozen=True)
class Kind:
    """One kind of data that can be measured on."""

    detect: Callable[[Path], bool]
    """Whether a path looks like it."""
    open: Callable[[Path, DataSettings], Dataset]
    """Its pairs; ValueError or OSError where it can't be used."""
    expects: str
    """What it is, in a few words."""


KINDS: tuple[Kind, ...] = (
    Kind(pair_lists.is_pair_list, pair_lists.open_pair_list, "a pair list of SuperGlue (.txt)"),
    Kind(pair_lists.is_scene_infos, pair_lists.open_scene_infos, "LoFTR's MegaDepth-1500 (.npz, or a folder of them)"),
    Kind(prepared_scenes.is_scene, prepared_scenes.open_scene, "a scene made by `lfnet prepare` (manifest.json)"),
    Kind(
        homography_sets.is_homography_sets,
        homography_sets.open_homography_sets,
        "homography sets (<scene>/H1to2p.xml or H1to2p: Oxford; <scene>/H_1_2: HPatches)",
    ),
    Kind(posed_folders.is_collection, posed_folders.open_collection, "MegaDepth, Image Matching Benchmark"),
    Kind(
        posed_folders.is_camera_folder,
        posed_folders.open_camera_folder,
        "a folder with images/, K.txt and poses.txt",
    ),
    Kind(recordings.is_recording, recordings.open_recording, f"a recording ({', '.join(recordings.RECORDINGS)})"),
    Kind(posed_folders.is_model, posed_folders.open_model, "a COLMAP model (sparse/0, sparse, or itself) with images/"),
)
"""In the order in which they are tried."""


def open_data(path: Path, settings: DataSettings, name: str | None = None) -> Dataset:
    """The data set that a path holds, whatever its kind.

    Args:
        path: a folder, or a list of pairs.
        settings: which pairs, at what size.
        name: of the data set in tables; None = that of the folder or file.

    Returns:
        the data set; what of it can't be used is in its `skipped`.

    Raises:
        ValueError: it is of no known kind, or nothing of it can be used; one line that says what was looked for.
        OSError: it can't be read.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    kind = next((kind for kind in KINDS if kind.detect(path)), None)
    if kind is None:
        looked_for = "; ".join(kind.expects for kind in KINDS)
        raise ValueError(f"{path}: looks like no data that can be measured on; looked for {looked_for}")
    dataset = kind.open(path, settings)
    described = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}
    described.pop("images")  # A place on this machine, which decides nothing.
    described.pop("thresholds")
    return replace(
        dataset,
        name=name or (path.resolve().stem if path.is_file() else path.resolve().name),
        thresholds=settings.thresholds or dataset.thresholds,
        settings={**described, **dataset.settings},
    )
