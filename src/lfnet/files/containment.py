"""Names that come in files of others stay inside the folder that they are for."""

from __future__ import annotations

from pathlib import Path, PurePath

from lfnet.errors import UserError


class OutsideError(UserError):
    """A name that leads out of its folder; the message has both."""


def stays_inside(name: str) -> bool:
    """Whether a name, joined to any folder, means something in it: relative, not empty, without `..`."""
    path = PurePath(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in name


def inside(folder: str | Path, name: str) -> Path:
    """The place of a name in a folder, to be written to.

    Raises:
        OutsideError: the name leads out of the folder, by itself or by a link on the way.
    """
    path = Path(folder) / name
    if not stays_inside(name) or not path.parent.resolve().is_relative_to(Path(folder).resolve()):
        raise OutsideError(f"{name!r}: leads out of {folder}; names are relative, without '..' and links to elsewhere")
    return path
