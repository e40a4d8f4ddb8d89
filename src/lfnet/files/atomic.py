"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, where they are missing.

    Args:
        path: the folder wanted.

    Raises:
        OSError: it can't be made; NotADirectoryError where a file has its name.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path)) from error


def regular(path: str | Path) -> Path:
    """The file that a path stands for, links followed, which may be missing.

    Args:
        path: the file that is going to be written.

    Returns:
        Its own path.

    Raises:
        OSError: it is a folder, a device or a pipe, none of which a file may take the place of.
    """
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file", str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "is a device or a pipe; name a file", str(path))
    return target


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A place to write a file that takes the name `path` once the block ends well.

    However the block ends otherwise, by an exception, a full disk or SIGKILL, what stood at `path` is still there. A
    link stays, and the file that it leads to is replaced; what was there passes its mode on.

    Args:
        path: the file wanted; its folder is made where it is missing.

    Yields:
        A name beside it to write to.

    Raises:
        OSError: the folder can't be made or written to, or `path` is a folder, a device or a pipe.
    """
    target = regular(path)
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with naming(path):
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Args:
        path: the file wanted.
        content: all of it.

    Raises:
        OSError: it can't be written, for example because the disk is full; `path` is then as it was.
    """
    with replacing(path) as temporary, naming(path):
        temporary.write_bytes(content)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of writing in the block name the file: a full disk says nothing of where.

    Args:
        path: the file that is written.

    Raises:
        OSError: as the block raised it, with this file's name.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def held(path: str | Path) -> Iterator[None]:
    """Hold a file to be written against other processes; the system lets go of it however this one ends.

    What a killed process left beside it half-written is removed. Where the system has no such locks (Windows), nothing
    is held.

    Args:
        path: the file that is going to be written; the lock lies beside it while the block lasts.

    Raises:
        OSError: another process holds it, or the lock can't be made.
    """
    if os.name != "posix":
        yield
        return
    target = Path(path).resolve()
    make_folder(target.parent)
    lock = target.with_name(f".{target.name}.lock")
    with _locked(lock, path):
        try:
            remove_leftovers(target)
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(lock: Path, path: str | Path) -> BinaryIO:
    """A lock that is held, and whose file is the one that has its name: another may have removed it meanwhile."""
    import fcntl

    while True:
        with naming(path):
            file = lock.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            file.close()
            cause = "another process is writing it; wait for that to end"
            raise BlockingIOError(error.errno, cause, str(path)) from error
        file.close()


def remove_leftovers(target: Path) -> None:
    """Remove what `replacing` had begun of a file when its process was killed.

    Args:
        target: the file, or a name with `*` for several.
    """
    stars = glob.escape(target.name).replace("[*]", "*")
    for path in target.parent.glob(f".{stars}.*.tmp"):
        number = path.name.split(".")[-2]
        if number.isdecimal() and not _is_running(int(number)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # It is another user's.
        pass
    return True
