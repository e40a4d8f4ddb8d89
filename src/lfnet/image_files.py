"""Finding images: what files and folders stand for, and what is passed over and why."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lfnet.image_decoding import EXTENSIONS, REFUSED, ImageError

SHOWN = 3
"""Names in a line on what is passed over."""


@dataclass(frozen=True)
class FoundImages:
    """What a search came upon."""

    paths: list[Path]
    """Of images, without repeats; links whose target is missing too, which show when they are read."""
    passed_over: list[str]
    """A line for each cause: how many files, some of their names, why, and what to do."""


def is_image_name(name: str | Path) -> bool:
    """Whether a file's name ends as that of an image that can be read, in capitals or not."""
    return Path(name).suffix.lower() in EXTENSIONS


def list_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The images that files and folders stand for: the paths of `find_images`.

    Args:
        paths: files and folders.

    Returns:
        Paths without repeats: each argument's images in natural order (2 before 10).

    Raises:
        ImageError: a folder holds no image, or can't be read.
    """
    return find_images(paths).paths


def find_images(paths: str | Path | Iterable[str | Path]) -> FoundImages:
    """The images that files and folders stand for, folders searched to any depth.

    Args:
        paths: files, taken as they are (a missing one shows when it is read), and folders, of which every file with an
            ending of `EXTENSIONS` is taken; names that start with a dot are passed over. Linked folders are searched
            too, each folder once, and name their images by the way through the link.

    Returns:
        Each argument's images in natural order (2 before 10), and what was passed over.

    Raises:
        ImageError: a folder holds no image, or can't be read.
    """
    found: dict[Path, None] = {}
    notes: list[str] = []
    for path in [Path(paths)] if isinstance(paths, (str, Path)) else map(Path, paths):
        if not path.is_dir():
            found[path] = None
            continue
        inside: list[Path] = []
        others: dict[str, list[str]] = defaultdict(list)
        for file in _files_below(path):
            why = _why_not(file, file.relative_to(path))
            if why is None:
                inside.append(file)
            elif why:
                others[why].append(file.relative_to(path).as_posix())
        lines = [_line(why, names) for why, names in sorted(others.items())]
        if not inside:
            causes = f" ({'; '.join(lines)})" if lines else ""
            remedy = f"expected one of {' '.join(sorted(EXTENSIONS))}"
            raise ImageError(path, f"no images in this folder{causes}", remedy)
        found.update(dict.fromkeys(sorted(inside, key=natural_key)))
        notes += [f"in {path}: {line}" for line in lines]
    return FoundImages(list(found), notes)


def natural_key(path: str | Path) -> list[tuple[int, int | str]]:
    """Sorting key under which frame2 comes before frame10.

    Args:
        path: file or name.

    Returns:
        A key for `sorted`.
    """
    pieces = re.split(r"(\d+)", Path(path).as_posix())
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces if piece]


def _why_not(file: Path, name: Path) -> str | None:
    """Why a file in a folder is not taken; None for an image, empty for what nobody would miss."""
    ending = file.suffix.lower()
    if any(part.startswith(".") for part in name.parts):
        return "hidden by a dot in front of a name" if ending in EXTENSIONS else ""
    if file.is_symlink() and not file.exists():
        return None if ending in EXTENSIONS else "links to what is not there"
    if not file.is_file():
        return "devices or pipes"
    if ending in REFUSED:
        return ", ".join(REFUSED[ending])
    return None if ending in EXTENSIONS else "no ending of an image"


def _line(why: str, names: list[str]) -> str:
    names = sorted(names, key=natural_key)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} file{'s' * (len(names) > 1)} passed over: {', '.join(names[:SHOWN])}{more}: {why}"


def _files_below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        place = error.filename or folder
        raise ImageError(place, f"can't be read ({error.strerror})", "check its permissions") from error

    # Linked folders come after all others, and no folder comes twice: circles end, and names are the shortest way.
    waiting, seen = [folder], set()
    while waiting:
        links: list[Path] = []
        for top in waiting:
            for place, folders, names in os.walk(top, onerror=fail):
                real = os.path.realpath(place)
                if real in seen:
                    folders.clear()
                    continue
                seen.add(real)
                links += sorted(path for name in folders if (path := Path(place, name)).is_symlink())
                yield from (Path(place, name) for name in names)
        waiting = links
