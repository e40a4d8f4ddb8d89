"""Data sets of the benchmark, opened by what a path holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lfnet.errors import UserError
from lfnet.evaluation.data import homography_sets, pair_lists, posed_folders, prepared_scenes, recorded_pairs
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.pairs import Dataset


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
    Kind(
        recorded_pairs.is_recording,
        recorded_pairs.open_recording,
        f"a recording ({', '.join(recorded_pairs.RECORDINGS)})",
    ),
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
        raise UserError(f"{path}: no such file or folder")
    kind = next((kind for kind in KINDS if kind.detect(path)), None)
    if kind is None:
        looked_for = "; ".join(kind.expects for kind in KINDS)
        raise UserError(f"{path}: looks like no data that can be measured on; looked for {looked_for}")
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
