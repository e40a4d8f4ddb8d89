"""The tables of COLMAP's database that hold features and matches, written by SQLite itself, all of them or none.

Cameras, pictures, rigs, frames and pose priors are only read. pycolmap can't take the features of single pictures out
again, and shares no process with another SQLite; COLMAP documents the tables, and they have not changed since 2016 but
for the column `type` of descriptors (4.0).

Source: COLMAP documentation, "Database format".
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.errors import UserError

Existing = Literal["append", "replace"]
"""What becomes of other features that a picture has: ours go behind them, or take their place."""

PAIR_BASE = 2_147_483_647
"""A pair's number is this times the lower picture's number, plus the higher's."""
NO_EXTRACTOR = -1
"""Descriptors' `type` for what COLMAP knows no extractor of."""
TABLES = ("cameras", "images", "keypoints", "descriptors", "matches", "two_view_geometries")


class ColmapDatabaseError(UserError):
    """A database that can't be used as it is; the message is one line with the remedy."""


class FeatureTables:
    """Features and matches of one open database; see `open_tables`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.ids: dict[str, int] = dict(connection.execute("SELECT name, image_id FROM images ORDER BY image_id"))
        """Number of each picture, by name."""
        columns = [row[1] for row in connection.execute("PRAGMA table_info(descriptors)")]
        self._typed = "type" in columns

    def check_size(self, name: str, size: Size) -> None:
        """Refuse features of a picture that the database knows at another size.

        Raises:
            ColmapDatabaseError: (width, height) is not that of the picture's camera.
        """
        known = self._connection.execute(
            "SELECT width, height FROM cameras JOIN images USING (camera_id) WHERE image_id = ?", (self.ids[name],)
        ).fetchone()
        if known != size:
            raise ColmapDatabaseError(
                f"{name}: {known[0]}x{known[1]} pixels in the database, but the features are of a picture of "
                f"{size[0]}x{size[1]}; extract them from the same photos"
            )

    def keypoints(self, name: str) -> NDArray[np.float32]:
        """(N, 2), (N, 4) or (N, 6) of a picture, in COLMAP's frame."""
        row = self._connection.execute(
            "SELECT rows, cols, data FROM keypoints WHERE image_id = ?", (self.ids[name],)
        ).fetchone()
        return np.zeros((0, 4), np.float32) if row is None else _array(row, np.float32)

    def write_keypoints(self, name: str, keypoints: NDArray[np.float32], existing: Existing) -> tuple[int, bool]:
        """Give keypoints to a picture, unless it has these very ones.

        Args:
            name: of a picture in the database.
            keypoints: (N, 4) x, y, size, orientation.
            existing: other keypoints stay in front of these; or go, with the descriptors and all matches of the
                picture.

        Returns:
            The row at which these keypoints begin, and whether anything was written.
        """
        there = self.keypoints(name)
        place = _find(there[:, :2], keypoints[:, :2])
        if place is not None and len(there) and (existing == "append" or len(there) == len(keypoints)):
            return place, False
        if existing == "replace":
            self._forget(self.ids[name])
            there = there[:0]
        if len(there) and there.shape[1] != keypoints.shape[1]:
            there, keypoints = _with_shapes(there), _with_shapes(keypoints)
        rows = np.concatenate((there, keypoints)) if len(there) else keypoints
        values = (self.ids[name], *rows.shape, _bytes(rows, np.float32))
        self._connection.execute("INSERT OR REPLACE INTO keypoints VALUES (?, ?, ?, ?)", values)
        return len(there), len(keypoints) > 0

    def write_descriptors(self, name: str, descriptors: NDArray[Any]) -> bool:
        """Give descriptors to a picture: bits as they are, floats as the bytes of float32, as COLMAP stores them.

        Args:
            name: of a picture whose keypoints are all of these features.
            descriptors: (N, D), uint8 or floating.

        Returns:
            Whether anything was written: descriptors that are there stay.

        Raises:
            ColmapDatabaseError: the picture has other features too.
        """
        if len(self.keypoints(name)) != len(descriptors):
            raise ColmapDatabaseError(
                f"{name}: has features of another kind in the database, and one picture can't have descriptors of two "
                "kinds; leave --descriptors out, or give --replace"
            )
        rows = np.ascontiguousarray(descriptors if descriptors.dtype == np.uint8 else descriptors.astype("<f4"))
        values = {"image_id": self.ids[name], "rows": len(rows), "cols": rows.shape[1] * rows.itemsize}
        values["data"] = rows.tobytes()
        if self._typed:
            values["type"] = NO_EXTRACTOR
        marks = ", ".join("?" * len(values))
        return 0 < self._connection.execute(
            f"INSERT OR IGNORE INTO descriptors ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
        ).rowcount

    def write_matches(self, name_a: str, name_b: str, index: NDArray[np.integer], existing: Existing) -> bool:
        """Add matches of a pair to those that it has, or put them in their place.

        A pair whose matches change loses its two-view geometry, so that it is verified again.

        Args:
            name_a: of a picture in the database.
            name_b: of another.
            index: (M, 2) row of a keypoint of either.
            existing: whether matches that the pair has stay.

        Returns:
            Whether anything was written.
        """
        a, b = self.ids[name_a], self.ids[name_b]
        rows = np.asarray(index, np.uint32).reshape(-1, 2)
        if a > b:
            a, b, rows = b, a, rows[:, ::-1]
        pair = PAIR_BASE * a + b
        found = self._connection.execute("SELECT rows, cols, data FROM matches WHERE pair_id = ?", (pair,)).fetchone()
        there = np.zeros((0, 2), np.uint32) if found is None else _array(found, np.uint32)
        if existing == "append" and len(there):
            new = ~np.isin(_as_numbers(rows), _as_numbers(there))
            rows = np.concatenate((there, rows[new]))
        if np.array_equal(rows, there):
            return False
        values = (pair, len(rows), 2, _bytes(rows, np.uint32))
        self._connection.execute("INSERT OR REPLACE INTO matches VALUES (?, ?, ?, ?)", values)
        self._connection.execute("DELETE FROM two_view_geometries WHERE pair_id = ?", (pair,))
        return True

    def digest(self) -> str:
        """A digest of what a model is made from: cameras, pictures, keypoints, verified pairs."""
        digest = hashlib.sha256()
        for query in (
            "SELECT * FROM cameras ORDER BY camera_id",
            "SELECT image_id, name, camera_id FROM images ORDER BY image_id",
            "SELECT image_id, rows, cols, data FROM keypoints ORDER BY image_id",
            "SELECT pair_id, rows, config, data FROM two_view_geometries ORDER BY pair_id",
        ):
            for row in self._connection.execute(query):
                digest.update(repr(row).encode())
        return digest.hexdigest()[:16]

    def _forget(self, number: int) -> None:
        """Take away the features of a picture, and what refers to them."""
        for table in ("keypoints", "descriptors"):
            self._connection.execute(f"DELETE FROM {table} WHERE image_id = ?", (number,))
        for table in ("matches", "two_view_geometries"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE pair_id / {PAIR_BASE} = ? OR pair_id % {PAIR_BASE} = ?", (number, number)
            )


@contextmanager
def open_tables(path: str | Path) -> Iterator[FeatureTables]:
    """Open a database; what the block wrote is kept if it ends well, and is as if it had never been otherwise.

    Args:
        path: of the database. No process with pycolmap may have it open.

    Yields:
        Its tables.

    Raises:
        ColmapDatabaseError: it is missing, no database of COLMAP's, or in use.
    """
    if not Path(path).is_file():
        raise ColmapDatabaseError(f"{path}: no such database; check the path")
    try:
        with closing(sqlite3.connect(path, timeout=5)) as connection, connection:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            if not names.issuperset(TABLES):
                raise ColmapDatabaseError(f"{path}: no database of COLMAP's (no table {_first_missing(names)})")
            yield FeatureTables(connection)
    except sqlite3.OperationalError as error:
        remedy = "close other programs that have it open" if "locked" in str(error) else "check its permissions"
        raise ColmapDatabaseError(f"{path}: {error}; {remedy}") from error
    except sqlite3.DatabaseError as error:
        raise ColmapDatabaseError(f"{path}: no SQLite database, or damaged ({error}); check the path") from error


def _first_missing(names: set[str]) -> str:
    return next(table for table in TABLES if table not in names)


def _find(rows: NDArray[np.float32], wanted: NDArray[np.float32]) -> int | None:
    """Where a run of rows stands among others; None where it doesn't."""
    if not len(wanted) or len(rows) < len(wanted):
        return None if len(wanted) else len(rows)
    starts = np.flatnonzero((rows[: len(rows) - len(wanted) + 1] == wanted[0]).all(1))
    return next((int(start) for start in starts if np.array_equal(rows[start : start + len(wanted)], wanted)), None)


def _with_shapes(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Any of COLMAP's rows of keypoints as those of six columns: x, y, and the four of an affine shape."""
    places, rest = keypoints[:, :2], keypoints[:, 2:]
    if rest.shape[1] == 4:
        return keypoints
    scales, angles = rest.T if rest.shape[1] == 2 else (np.ones(len(rest)), np.zeros(len(rest)))
    cosines, sines = scales * np.cos(angles), scales * np.sin(angles)
    return np.column_stack((places, cosines, -sines, sines, cosines)).astype(np.float32)


def _as_numbers(matches: NDArray[np.uint32]) -> NDArray[np.uint64]:
    first, second = matches.astype(np.uint64).T
    return first << np.uint64(32) | second


def _array(row: tuple[int, int, bytes | None], kind: type) -> NDArray[Any]:
    rows, columns, content = row
    return np.frombuffer(content or b"", np.dtype(kind).newbyteorder("<")).reshape(rows, columns)


def _bytes(rows: NDArray[Any], kind: type) -> bytes:
    return np.ascontiguousarray(rows, np.dtype(kind).newbyteorder("<")).tobytes()
