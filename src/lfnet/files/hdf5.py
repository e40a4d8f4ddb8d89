"""HDF5 files that are there whole or not at all."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from lfnet.files.atomic import replacing


@contextmanager
def replacing_hdf5(path: str | Path, start_from: Path | None = None) -> Iterator[tuple[h5py.File, PatientFile]]:
    """An HDF5 file to write that takes the name `path` once the block ends well, as `replacing`.

    Args:
        path: the file wanted.
        start_from: an HDF5 file whose content it starts with.

    Yields:
        The open HDF5 file, and the file beneath, whose `check` tells early that a disk is full.

    Raises:
        OSError: it can't be written, for example because the disk is full; `path` is then as it was.
    """
    with replacing(path) as temporary:
        if start_from is not None:
            shutil.copyfile(start_from, temporary)
        mode = "w" if start_from is None else "r+"
        with PatientFile(temporary, Path(path)) as beneath:
            with h5py.File(beneath, mode) as file:
                yield file, beneath
            beneath.check()


class PatientFile:
    """A file for HDF5 to write to that takes a failure to write in silence, and reports it when asked.

    HDF5 (1.14 at least) crashes the process when it is closed after a write has failed. So once one fails,
    the rest is kept in memory, where HDF5 finds it again, until the caller has learnt of it by `check`.

    Args:
        path: file to make, or to add to.
        shown: name of the file in errors.
    """

    def __init__(self, path: Path, shown: Path) -> None:
        self._file = open(path, "r+b" if path.exists() else "w+b", buffering=0)
        self._shown = shown
        self._position = 0
        self._error: OSError | None = None
        self._unwritten: list[tuple[int, bytes]] = []

    def __enter__(self) -> PatientFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def check(self) -> None:
        """Raise the failure to write, if there was one.

        Raises:
            OSError: with the name of the file wanted.
        """
        if self._error is not None:
            raise OSError(self._error.errno, self._error.strerror, str(self._shown)) from self._error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as any file does."""
        if whence == io.SEEK_END:
            offset += max([self._file.seek(0, io.SEEK_END), *(at + len(data) for at, data in self._unwritten)])
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        """Where the next byte is read or written."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill a buffer, with what could not be written as if it had been."""
        view = memoryview(buffer).cast("B")
        start, end = self._position, self._position + len(view)
        self._file.seek(start)
        count = self._file.readinto(view) or 0
        for at, data in self._unwritten:
            low, high = max(start, at), min(end, at + len(data))
            if low < high:
                view[low - start : high - start] = data[low - at : high - at]
                count = max(count, high - start)
        self._position += count
        return count

    def read(self, size: int) -> bytes:
        """As many bytes as there are, up to `size`."""
        content = bytearray(size)
        return bytes(content[: self.readinto(content)])

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it; never fails."""
        view = memoryview(data).cast("B")
        self._attempt(lambda: self._write_all(view))
        if self._error is not None:
            self._unwritten.append((self._position, bytes(view)))
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length; never fails."""
        length = self._position if size is None else size
        self._attempt(lambda: self._file.truncate(length))
        return length

    def flush(self) -> None:
        """Nothing is held back."""

    def _write_all(self, view: memoryview) -> None:
        self._file.seek(self._position)
        while len(view):
            view = view[self._file.write(view) :]

    def _attempt(self, step: Callable[[], object]) -> None:
        if self._error is None:
            try:
                step()
            except OSError as error:
                self._error = error
