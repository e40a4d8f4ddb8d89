"""Arrays that were computed once, kept in HDF5 under everything that decides them.

An entry's place is a digest of its settings, of `VERSION` and of OpenCV's version. All of these are in the file: what
was made under others is another entry, so that a changed setting is computed anew and nothing is ever mixed. Each entry
is a file of its own, written beside its place and renamed, so that a process that is killed leaves entries whole or not
at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from lfnet.files.atomic import write_bytes
from lfnet.files.hdf5_reading import DAMAGE, open_hdf5, read_array, read_text, write_text

VERSION = 1
"""Raised with every change of what anything that is cached makes of the same settings."""

Arrays = dict[str, NDArray[Any]]
"""What an entry holds, by name."""


class Cache:
    """Entries in a folder.

    Args:
        folder: is made when the first entry is written; None keeps nothing, and every `fetch` computes.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.found = 0
        """Entries that were read instead of computed."""
        self.computed = 0

    def fetch(self, kind: str, settings: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """The entry of these settings, computed where it isn't there.

        Args:
            kind: folder of the entry: `features`, `neighbours`, `measures`, `models`, `structures`.
            settings: everything else that decides the arrays, in types that JSON has.
            compute: makes the arrays.

        Returns:
            arrays by name.

        Raises:
            OSError: the entry can't be written.
        """
        if self.folder is None:
            self.computed += 1
            return compute()
        text = json.dumps({**settings, "version": VERSION, "opencv": cv2.__version__}, sort_keys=True)
        key = digest(text.encode())
        path = self.folder / kind / key[:2] / f"{key[2:]}.h5"
        arrays = _read(path, text)
        if arrays is not None:
            self.found += 1
            return arrays
        arrays = compute()
        self.computed += 1
        write_bytes(path, _file_of(arrays, text))
        return arrays


def digest(*parts: bytes | NDArray[Any]) -> str:
    """40 hexadecimal digits that stand for bytes and arrays (their type, shape and values)."""
    state = hashlib.blake2b(digest_size=20)
    for part in parts:
        if isinstance(part, bytes):
            state.update(part)
        else:
            state.update(f"{part.dtype.str}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).tobytes())
    return state.hexdigest()


def _read(path: Path, settings: str) -> Arrays | None:
    """The arrays of an entry; None if it is missing, damaged, or another's."""
    if not path.exists():
        return None
    try:
        with open_hdf5(path) as file:
            variable = h5py.check_string_dtype(h5py.h5a.open(file.id, b"settings").dtype)
            # Entries of earlier versions have a text that may make HDF5 loop for ever: they are computed anew.
            if variable is None or variable.length is None or read_text(file, "settings") != settings:
                return None
            return {name: read_array(file, name, texts=True) for name in map(str, file)}
    except DAMAGE:  # UserError is one of them.
        return None


def _file_of(arrays: Arrays, settings: str) -> bytes:
    with h5py.File("entry", "w", driver="core", backing_store=False) as file:
        write_text(file, "settings", settings)
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
        file.flush()
        return file.id.get_file_image()
