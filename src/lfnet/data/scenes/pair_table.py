"""The table of a scene's pairs: which pictures see each other, how much, from how far apart, and for what they serve.

It is an HDF5 file, `pairs.h5`, with the attributes `format` ("lfnet-pairs"), `version` (1) and `overlap_range`; a row a
picture in `images` (names, UTF-8), `image_ids` and `image_split`; and a row a pair in the datasets of `PAIR_COLUMNS`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lfnet.errors import UserError
from lfnet.files.containment import stays_inside
from lfnet.files.hdf5_reading import has, open_hdf5, read_array, read_numbers, read_texts

FORMAT = "lfnet-pairs"
VERSION = 1
SPLITS = ("training", "validation")
"""What 0 and 1 stand for in `split` and `image_split`."""
PICTURE_COLUMNS: dict[str, type[np.generic]] = {"image_ids": np.int32, "image_split": np.uint8}
PAIR_COLUMNS: dict[str, type[np.generic]] = {
    "image_id_a": np.int32,
    "image_id_b": np.int32,
    "overlap_ab": np.float32,
    "overlap_ba": np.float32,
    "angle": np.float32,
    "rotation": np.float32,
    "scale_ratio": np.float32,
    "split": np.uint8,
    "weight": np.float32,
}


class PairTableError(UserError):
    """A pair table that can't be read or doesn't hold together; the message names file and remedy."""


@dataclass(frozen=True)
class PairTable:
    """Pairs of the pictures of one scene, a row a pair."""

    names: list[str]
    """Of the pictures, as in the COLMAP model."""
    image_ids: NDArray[np.int32]
    """COLMAP's number of each picture, in like order."""
    image_split: NDArray[np.uint8]
    """0 for training, 1 for validation, in like order."""
    overlap_range: tuple[float, float]
    """Within which the smaller overlap of a pair lies."""
    image_id_a: NDArray[np.int32]
    image_id_b: NDArray[np.int32]
    overlap_ab: NDArray[np.float32]
    """Share of a's pixels of known depth that b sees."""
    overlap_ba: NDArray[np.float32]
    """Share of b's pixels of known depth that a sees."""
    angle: NDArray[np.float32]
    """Degrees between the rays of both cameras at the points that both see, median."""
    rotation: NDArray[np.float32]
    """Degrees of the rotation from a's camera to b's."""
    scale_ratio: NDArray[np.float32]
    """Zoom from a to b, pixels: root of the change of area of the warp, median."""
    split: NDArray[np.uint8]
    """0 for training, 1 for validation."""
    weight: NDArray[np.float32]
    """How often a pair is drawn, relative to the others of its split: balances overlap, angle and scale."""

    def __len__(self) -> int:
        return len(self.image_id_a)

    def of_split(self, split: str) -> PairTable:
        """The pairs of "training" or "validation"; the pictures stay.

        Raises:
            ValueError: another split.
        """
        if split not in SPLITS:
            raise UserError(f"split: expected one of {', '.join(SPLITS)}, got {split}")
        return self.rows(self.split == SPLITS.index(split))

    def rows(self, chosen: NDArray[Any]) -> PairTable:
        """The pairs of a mask or of indices; the pictures stay."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in PAIR_COLUMNS})


def read_pair_table(path: str | Path) -> PairTable:
    """Read and check a table of pairs.

    Raises:
        PairTableError: the file is missing, cut short, of another format, or doesn't hold together.
    """
    path = Path(path)
    if not path.is_file():
        raise PairTableError(f"{path}: no such file; `lfnet prepare` writes it as its last step: run it again")
    remedy = "delete it and run `lfnet prepare` again"
    with open_hdf5(path, PairTableError, remedy) as file:
        format_, names = read_texts(file, [("/", "format"), ("images", None)], PairTableError)
        if format_ != FORMAT:
            raise PairTableError(f"{path}: no table of pairs (its format is not {FORMAT})")
        version, limits = (read_numbers(file, name, PairTableError).tolist() for name in ("version", "overlap_range"))
        if version != VERSION:
            raise PairTableError(f"{path}: version {version} is unknown; a newer lfnet wrote it")
        if not isinstance(limits, list) or len(limits) != 2:
            raise PairTableError(f"{path}: expected two numbers as overlap_range, got {limits}; {remedy}")
        if not isinstance(names, list):
            raise PairTableError(f"{path}: expected a dataset images of one dimension; {remedy}")
        columns = {name: _column(file, name, kind, remedy) for name, kind in (PICTURE_COLUMNS | PAIR_COLUMNS).items()}
    table = PairTable(names=names, overlap_range=(float(limits[0]), float(limits[1])), **columns)  # type: ignore[arg-type]
    check_pair_table(table, path)
    return table


def check_pair_table(table: PairTable, source: str | Path) -> None:
    """Raise what is wrong with a table.

    Args:
        table: to be checked.
        source: named in the error.

    Raises:
        PairTableError: columns of unequal length, unknown pictures, values that can't be, or pairs across the split.
    """

    def fail(cause: str) -> None:
        raise PairTableError(f"{source}: {cause}; delete it and run `lfnet prepare` again")

    lengths = {name: len(getattr(table, name)) for name in PAIR_COLUMNS}
    if len(set(lengths.values())) > 1:
        fail(f"columns of unequal length ({', '.join(f'{name} {count}' for name, count in lengths.items())})")
    if not len(table.names) == len(table.image_ids) == len(table.image_split):
        fail(f"{len(table.names)} names, {len(table.image_ids)} ids and {len(table.image_split)} splits of pictures")
    outside = [name for name in table.names if not stays_inside(name)]
    if outside:
        fail(f"the picture {outside[0]!r} leads out of the scene")
    if len(np.unique(table.image_ids)) < len(table.image_ids):
        fail("an id of a picture is there twice")
    if (table.image_split > 1).any() or (table.split > 1).any():
        fail("a split other than 0 (training) and 1 (validation)")
    for name in ("overlap_ab", "overlap_ba", "angle", "rotation", "scale_ratio", "weight"):
        values = getattr(table, name)
        if not np.isfinite(values).all() or (values < 0).any():
            fail(f"{name} has a value that is negative or no number")
    split_of = dict(zip(table.image_ids.tolist(), table.image_split.tolist(), strict=True))
    for first, second, split in zip(
        table.image_id_a.tolist(), table.image_id_b.tolist(), table.split.tolist(), strict=True
    ):
        if first not in split_of or second not in split_of:
            fail(f"a pair of pictures {first} and {second}, of which there is no name")
        if not split_of[first] == split_of[second] == split:
            fail(f"the pair of pictures {first} and {second} lies across the split")


def _column(file: h5py.File, name: str, kind: type[np.generic], remedy: str) -> NDArray[Any]:
    column = read_array(file, name, PairTableError, remedy) if has(file, name, PairTableError) else None
    if column is None or column.ndim != 1:
        raise PairTableError(f"{file.filename}: expected a dataset {name} of one dimension; {remedy}")
    with np.errstate(invalid="ignore"):
        return column.astype(kind)
