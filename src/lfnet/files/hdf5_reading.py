"""HDF5 files of anybody, read so that damage, locks and references to other files are one line that names the file.

Strings of variable length lie in a heap in which one flipped bit makes HDF5 (2.0 at least) loop for ever, deaf to
Ctrl-C. So texts are written with a fixed length, and those of other programs and earlier versions are read by a process
that can be stopped. Of 6,000 files with one byte changed, with fixed lengths none hung; with HDF5's newest layout and
its checksums alone, two did.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5l  # type: ignore[attr-defined]
from numpy.typing import NDArray

from lfnet.errors import UserError, one_line

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""At byte 0, or at 512, 1024, 2048 and so on. Source: HDF5 File Format Specification 3.0, section II.A."""
AGAIN = "fetch or make it again"
OPEN_MARK = (
    "marked as open: a program is writing it, or ended without closing it; wait until that ends, or, where none writes "
    "it, take the mark away (h5clear -s, a tool of HDF5)"
)
DAMAGE = (OSError, RuntimeError, TypeError, ValueError, KeyError, IndexError, OverflowError, SystemError)
"""What h5py raises, by the place where it finds that a file is damaged."""
MOST_PACKED = 1100
"""Bytes that one stored byte can stand for: deflate reaches 1032. More are a size that is only declared."""
FREE = 1 << 20
"""Bytes that a data set may declare without having stored any."""
PATIENCE = 60.0
"""Seconds for the texts of a file, of which few take one; a hundredth more for each text."""

_READ_TEXTS = """
import sys
sys.path = [place for place in sys.path if place]  # Nothing of the folder that lfnet was started in.
import json
import h5py

path, places = json.load(sys.stdin)
with h5py.File(path, "r") as file:
    found = []
    for place, attribute in places:
        value = file[place][()] if attribute is None else file[place].attrs[attribute]
        value = value.tolist() if hasattr(value, "tolist") else value
        values = value if isinstance(value, list) else [value]
        texts = [each.decode() if isinstance(each, bytes) else each for each in values]
        found.append(texts if isinstance(value, list) else texts[0])
json.dump(found, sys.stdout)
"""


def is_hdf5(path: str | Path) -> bool:
    """Whether a file has HDF5's signature; a pipe or a device is never opened."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        offset, size = 0, os.fstat(file.fileno()).st_size
        while offset < size:
            file.seek(offset)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
            offset = 2 * offset or 512
    return False


@contextmanager
def open_hdf5(path: str | Path, kind: type[UserError] = UserError, remedy: str = AGAIN) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Args:
        path: of the file.
        kind: of the error.
        remedy: for a file that is damaged, or missing.

    Yields:
        The open file.

    Raises:
        UserError: of that kind; the file is missing, no HDF5, damaged, or locked by a process that writes it.
        OSError: the system refuses it, for want of permission or of open files.
    """
    if not Path(path).exists():
        raise kind(f"{path}: no such file; check the path, or {remedy}")
    if not Path(path).is_file():
        raise kind(f"{path}: is {'a folder' if Path(path).is_dir() else 'a device or a pipe'}; name a file")
    try:
        file = h5py.File(path, "r")
    except BlockingIOError as error:
        raise kind(f"{path}: {_holder(Path(path))}; its content is not touched") from error
    except OSError as error:
        if error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        if "already open" in str(error):
            raise kind(f"{path}: {OPEN_MARK}") from error
        raise kind(f"{path}: not an HDF5 file, or damaged ({one_line(error)}); {remedy}") from error
    except DAMAGE as error:
        raise kind(f"{path}: damaged ({one_line(error)}); {remedy}") from error
    with file:
        yield file


def _holder(path: Path) -> str:
    """Who holds the lock of a file, as far as the system tells, and what to do."""
    status = path.stat()
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    who = "another process"
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if wanted in words and "WRITE" in words:
                number = words[words.index("WRITE") + 1]
                who = f"process {number} ({Path('/proc', number, 'comm').read_text().strip()})"
    except OSError:
        pass
    return (
        f"locked: {who} is writing it; wait until that ends or closes the file, and run this again (where none "
        "writes it, and the drive is a network's: set HDF5_USE_FILE_LOCKING=FALSE)"
    )


def find_group(file: h5py.File, name: str, kind: type[UserError] = UserError) -> h5py.Group | None:
    """The group of a name, if the file has one that is spelt so.

    HDF5 takes `./a`, `/a` and `a//b` for `a` and `a/b`; here they are names that there are not.

    Args:
        file: open.
        name: of the group, without slashes at its ends.
        kind: of the error.

    Raises:
        UserError: of that kind; the name leads through a link, perhaps into another file.
    """
    if any(part in ("", ".") for part in name.split("/")) or "\0" in name:
        return None
    path = name.encode(errors="surrogateescape")
    ends = [place for place, byte in enumerate(path) if byte == ord("/")] + [len(path)]
    try:
        for end in ends:
            _refuse_link(file, path[:end], name, kind)
        found = file[name]
    except DAMAGE as error:
        if isinstance(error, kind):
            raise
        return None
    return found if isinstance(found, h5py.Group) else None


def has(parent: h5py.Group, name: str, kind: type[UserError] = UserError) -> bool:
    """Whether a group, or a file, has something of a name; links are not followed.

    Raises:
        UserError: of that kind; the group is damaged.
    """
    steps = name.encode().split(b"/")
    try:
        # Each group on the way must be there before HDF5 can be asked for what is in it.
        return all(parent.id.links.exists(b"/".join(steps[: end + 1])) for end in range(len(steps)))
    except DAMAGE as error:
        raise kind(f"{parent.file.filename}: damaged ({one_line(error)}); {AGAIN}") from error


def _refuse_link(parent: h5py.Group, path: bytes, name: str, kind: type[UserError]) -> None:
    link = parent.id.links.get_info(path).type
    if link != h5l.TYPE_HARD:
        where = "another file" if link == h5l.TYPE_EXTERNAL else "elsewhere"
        raise kind(
            f"{parent.file.filename}: {name!r} is a link to {where}, which is not followed; copy what it leads to into "
            "the file"
        )


def read_array(
    parent: h5py.Group, name: str, kind: type[UserError] = UserError, remedy: str = AGAIN, *, texts: bool = False
) -> NDArray[Any]:
    """A data set of numbers, all of which lie in the file itself.

    Args:
        parent: the group, or the file, that has it.
        name: of the data set.
        kind: of the error.
        remedy: for what is missing or damaged.
        texts: texts of a fixed length will do, too.

    Raises:
        UserError: of that kind, with the file's name and the data set's; it is missing, damaged, holds no numbers, or
            lies in other files (links, external storage, virtual data sets).
    """
    place = f"{parent.name}/{name}".strip("/")
    try:
        if not has(parent, name, kind):
            raise kind(f"{parent.file.filename}: no data set {place!r}; {remedy}")
        _refuse_link(parent, name.encode(), place, kind)
        found = parent[name]
        kinds = "biufS" if texts else "biuf"
        if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in kinds:
            raise kind(f"{parent.file.filename}: {place!r} is no data set of numbers; {remedy}")
        _refuse_elsewhere(found, place, kind)
        return np.asarray(found[()])
    except DAMAGE as error:
        if isinstance(error, kind):
            raise
        raise kind(f"{parent.file.filename}: {place!r} can't be read ({one_line(error)}); {remedy}") from error


def read_numbers(item: h5py.Group | h5py.Dataset, name: str, kind: type[UserError] = UserError) -> NDArray[Any]:
    """The numbers of an attribute.

    Raises:
        UserError: of that kind; there is none of that name, or it holds something else.
    """
    place = f"{item.file.filename}: attribute {name!r}"
    try:
        if name not in item.attrs:
            raise kind(f"{place} is missing; {AGAIN}")
        attribute = h5py.h5a.open(item.id, name.encode())
        if attribute.dtype.kind not in "biuf" or attribute.get_storage_size() > FREE:
            raise kind(f"{place} is no number; {AGAIN}")
        return np.asarray(item.attrs[name])
    except DAMAGE as error:
        if isinstance(error, kind):
            raise
        raise kind(f"{place} can't be read ({one_line(error)}); {AGAIN}") from error


def _refuse_elsewhere(found: h5py.Dataset, place: str, kind: type[UserError]) -> None:
    """Refuse what HDF5 would read from other files, or would only make up."""
    if found.is_virtual or found.external:
        raise kind(f"{found.file.filename}: {place!r} takes its values from other files; copy them into this one")
    stored, length = found.id.get_storage_size(), found.file.id.get_filesize()
    if stored > length or found.nbytes > MOST_PACKED * stored + FREE:
        raise kind(
            f"{found.file.filename}: {place!r} declares {found.nbytes} bytes and has {min(stored, length)}; {AGAIN}"
        )


def write_text(file: h5py.File, name: str, text: str | Sequence[str], place: str = "/") -> None:
    """Keep a text, or a row of texts, as an attribute of fixed length: of the file, or of an object in it."""
    file[place].attrs[name] = fixed_length(text)


def fixed_length(text: str | Sequence[str]) -> NDArray[Any]:
    """A text, or a row of texts, as h5py stores them with a fixed length, in UTF-8."""
    content = text.encode() if isinstance(text, str) else [each.encode() for each in text]
    longest = max([1, len(content)] if isinstance(content, bytes) else [1, *map(len, content)])
    return np.array(content, h5py.string_dtype("utf-8", longest))


def read_text(item: h5py.Group | h5py.Dataset, name: str, kind: type[UserError] = UserError) -> str | None:
    """The text of an attribute; None where there is none, or it is no text.

    Raises:
        UserError: of that kind; it is damaged.
    """
    (found,) = read_texts(item.file, [(str(item.name), name)], kind)
    return found if isinstance(found, str) else None


def read_texts(
    file: h5py.File, places: Sequence[tuple[str, str | None]], kind: type[UserError] = UserError
) -> list[str | list[str] | None]:
    """Texts of attributes and of data sets.

    Args:
        file: open.
        places: the object's name, and its attribute's; None for what a data set holds.
        kind: of the error.

    Returns:
        A text, or a row of texts, for each place; None where there is none, or it is no text.

    Raises:
        UserError: of that kind; they are damaged.
    """
    found: list[str | list[str] | None] = [None] * len(places)
    apart: list[int] = []
    try:
        for index, (place, attribute) in enumerate(places):
            variable, value = _fixed_text(file, place, attribute, kind)
            found[index] = value
            if variable:
                apart.append(index)
        if apart:
            texts = _texts_apart(file, [places[index] for index in apart])
            for index, text in zip(apart, texts, strict=True):
                found[index] = text
    except (*DAMAGE, subprocess.SubprocessError) as error:
        if isinstance(error, kind):
            raise
        raise kind(f"{file.filename}: its texts are damaged ({_told_by(error)}); {AGAIN}") from error
    return found


def _fixed_text(
    file: h5py.File, place: str, attribute: str | None, kind: type[UserError]
) -> tuple[bool, str | list[str] | None]:
    """Whether a text has a variable length, and the text if it has not."""
    if place != "/":
        if not has(file, place, kind):
            return False, None
        _refuse_link(file, place.encode(), place, kind)
    if attribute is not None and attribute not in file[place].attrs:
        return False, None
    item: Any = file[place] if attribute is None else h5py.h5a.open(file[place].id, attribute.encode())
    if attribute is None:
        if not isinstance(item, h5py.Dataset):
            return False, None
        _refuse_elsewhere(item, place, kind)
    text = h5py.check_string_dtype(item.dtype)
    if text is None:
        return False, None
    if text.length is None:
        return True, None
    value = np.asarray(item[()] if attribute is None else file[place].attrs[attribute]).tolist()
    return False, [each.decode() for each in value] if isinstance(value, list) else value.decode()


def _texts_apart(file: h5py.File, places: Sequence[tuple[str, str | None]]) -> list[Any]:
    """Texts of variable length: HDF5 may loop for ever in them, so another process reads them."""
    done = subprocess.run(
        [sys.executable, "-c", _READ_TEXTS],
        input=json.dumps([os.path.abspath(file.filename), places]),
        capture_output=True,
        text=True,
        timeout=PATIENCE + len(places) / 100,
        check=True,
    )
    return json.loads(done.stdout)


def _told_by(error: BaseException) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"they can't be read within {error.timeout:g} seconds"
    if isinstance(error, subprocess.CalledProcessError):
        return one_line((error.stderr or "").strip().splitlines()[-1:][0] if error.stderr else "HDF5 crashed in them")
    return one_line(error)
