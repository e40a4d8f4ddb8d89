"""A file of features or matches that grows batch by batch and is never half-written.

While a run lasts, each batch becomes a small file of its own in `<output>.parts/`, written under another name
and then renamed, so that a batch is either there whole or not there. At the end the parts are joined to the
output, which is replaced in one step too. HDF5 itself has no such safety: a process that is killed while it
writes may leave a file that can't be opened again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import h5py

from lfnet.features import Features
from lfnet.files.atomic import make_folder, write_bytes
from lfnet.files.hdf5 import replacing_hdf5
from lfnet.files.hdf5_reading import is_hdf5, read_text, write_text
from lfnet.integrations import hloc


class FeatureStore:
    """A features or matches file in hloc's layout, and the parts that are to join it.

    Args:
        output: the file.
        fingerprint: JSON of what decides its content; only files with an equal one are continued.
        overwrite: pass over what is there, and replace it at the end; one that was stopped is gone on with.
        describe: adds what the file says of itself.

    Raises:
        FeatureFileError: the file or its parts are there, with another fingerprint or none.
        OSError: the folder can't be made.
    """

    def __init__(
        self,
        output: Path,
        fingerprint: str,
        overwrite: bool = False,
        describe: Callable[[h5py.File], None] = hloc.describe_frame,
    ) -> None:
        self.output = output
        self.fingerprint = fingerprint
        target = output.resolve()
        self.folder = target.with_name(target.name + ".parts")
        self._describe = describe
        self._seen: set[Path] = set()
        self._note = self.folder / "settings.json"
        self._replacement = self.folder / "replaces"
        if overwrite:
            self._start_again()
        # A replacement that was stopped resumes, whether or not it is asked for again.
        self._replaces = overwrite or self._replacement.exists()
        self._base = None if self._replaces or not output.exists() else output
        make_folder(target.parent)
        self._check_same_settings()

    def names(self) -> set[str]:
        """Every picture, or pair, that is in the output or in a part."""
        present: set[str] = set()
        for path in [self._base, *self._parts()]:
            if path is not None:
                with hloc.open_file(path) as file:
                    present.update(hloc.list_names(file))
        self._seen.update(self._parts())
        return present

    def add(self, rows: list[tuple[str, Features, float]], *, half: bool = False) -> None:
        """Keep the features of some pictures, all of them or none.

        Args:
            rows: name, features and uncertainty of each picture, as `hloc.write_features` takes them.
            half: store descriptors and scores in 16 bits.

        Raises:
            OSError: they can't be written, for example because the disk is full.
        """
        if rows:
            self.add_part(lambda file: _write_rows(file, rows, half))

    def add_part(self, write: Callable[[h5py.File], object]) -> None:
        """Keep some groups, all of them or none.

        Args:
            write: adds them to an open file.

        Raises:
            OSError: they can't be written, for example because the disk is full.
        """
        # Built in memory, so that a full disk shows in a plain write and nowhere within HDF5.
        with h5py.File("part", "w", driver="core", backing_store=False) as file:
            write(file)
            file.flush()
            content = file.id.get_file_image()
        if not self._note.exists():
            if self._replaces:
                write_bytes(self._replacement, b"")
            write_bytes(self._note, self.fingerprint.encode())
        part = self.folder / f"{time.time_ns():020d}.h5"
        write_bytes(part, content)
        self._seen.add(part)

    def join(self) -> None:
        """Bring all parts into the output, in one step, and take them away.

        Raises:
            FeatureFileError: parts were removed meanwhile; what they held is missing.
            OSError: the output can't be written; the parts then stay, and what stood at the output too.
        """
        parts = self._parts()
        lost = self._seen.difference(parts)
        if lost:
            raise hloc.FeatureFileError(
                f"{self.folder}: {len(lost)} of {len(self._seen)} parts were removed while this ran; run the same "
                "command again, and leave this folder alone until it ends"
            )
        if parts:
            with replacing_hdf5(self.output, self._base) as (file, beneath):
                self._describe(file)
                write_text(file, "settings", self.fingerprint)
                for part in parts:
                    _copy_pictures(part, file)
                    beneath.check()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.h5"))

    def _start_again(self) -> None:
        """Forget parts that are no replacement with these settings."""
        if self.output.exists() and not is_hdf5(self.output):
            raise hloc.FeatureFileError(f"{self.output}: not an HDF5 file, so it is not overwritten; name another file")
        ours = self._note.exists() and self._note.read_bytes() == self.fingerprint.encode()
        if not (ours and self._replacement.exists()):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _check_same_settings(self) -> None:
        if self._base is not None:
            with hloc.open_file(self._base) as file:
                self._check(self._base, read_text(file, "settings", hloc.FeatureFileError))
        if self._note.exists():
            self._check(self.folder, self._note.read_text(encoding="utf-8", errors="replace"))

    def _check(self, path: Path, found: object) -> None:
        if found != self.fingerprint:
            difference = _difference(found, self.fingerprint)
            raise hloc.FeatureFileError(
                f"{path}: was made {difference}; write to another file, or start again with --overwrite"
            )


def _write_rows(file: h5py.File, rows: list[tuple[str, Features, float]], half: bool) -> None:
    for name, features, uncertainty in rows:
        hloc.write_features(file, name, features, half=half, uncertainty=uncertainty)


def _copy_pictures(part: Path, target: h5py.File) -> None:
    with hloc.open_file(part) as source:
        for name in hloc.list_names(source):
            if name not in target:
                source.copy(name, target, name)


def _difference(found: object, wanted: str) -> str:
    if not isinstance(found, str):
        return "by another program"
    try:
        old, new = json.loads(found), json.loads(wanted)
    except (ValueError, RecursionError):
        return "with settings that can't be read"
    if not isinstance(old, dict) or not isinstance(old.get("extraction", {}), dict):
        return "by another program"
    old.update(old.pop("extraction", {}))
    new.update(new.pop("extraction", {}))
    keys = sorted(set(old) | set(new))
    changed = [f"{key} {old.get(key)} (now {new.get(key)})" for key in keys if old.get(key) != new.get(key)]
    return "with " + ", ".join(changed)
