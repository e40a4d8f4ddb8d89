"""Folders that a scene can be made in: what is refused before any work."""

from __future__ import annotations

import shutil
from pathlib import Path

from lfnet.preparation.manifest import MANIFEST, read_json
from lfnet.preparation.steps import LOG, RECORD, WORK, PreparationError

BYTES_PER_PIXEL = 16
"""Of a scene's picture: itself, its depth map, and the raw one while it is made."""


def check_target(scene: Path, source: Path) -> None:
    """Refuse a folder that a scene can't be meant to go to.

    Raises:
        PreparationError: a file, the source itself or a folder in it, a folder with other things in it, or a scene that
            was made of something else, which is still there.
    """
    if scene.exists() and not scene.is_dir():
        raise PreparationError(f"{scene}: is a file; name a folder for the scene")
    inside = scene.resolve()
    if inside == source.resolve() or source.resolve() in inside.parents:
        raise PreparationError(f"{scene}: lies in what it is made of ({source}); name a folder outside of it")
    made_of = _source_of(scene)
    if scene.is_dir() and any(scene.iterdir()) and made_of is None and not _is_begun(scene / WORK):
        raise PreparationError(f"{scene}: holds other things than a scene; name a new or empty folder")
    if made_of is not None and made_of.exists() and made_of.resolve() != source.resolve():
        raise PreparationError(
            f"{scene}: is a scene of {made_of}, not of {source}; name another folder, or delete this one first"
        )


def _source_of(scene: Path) -> Path | None:
    """What a finished scene was made of; None where there is no manifest that says it."""
    try:
        return Path(read_json(scene / MANIFEST)["source"]["folder"])
    except (KeyError, TypeError):
        return None


def _is_begun(work: Path) -> bool:
    """Whether a folder of work is that of a scene in the making: with its record, or nothing but what comes before."""
    if not work.is_dir() or (work / RECORD).exists():
        return work.is_dir()
    return all(path.name.startswith(".") or path.name == LOG for path in work.iterdir())


def check_room(scene: Path, wanted: int, advice: str) -> None:
    """Refuse to begin where the disk has too little room; a finished scene needs none.

    Args:
        scene: folder of the scene; it may not be there yet.
        wanted: bytes, an estimate; what a run that was stopped left there counts towards it.
        advice: what would make it less.

    Raises:
        PreparationError: less is free.
    """
    if (scene / MANIFEST).exists():
        return
    place = next(path for path in (scene, *scene.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    taken = sum(path.lstat().st_size for path in scene.rglob("*") if path.is_file() and not path.is_symlink())
    left = wanted - taken
    if free < left:
        raise PreparationError(
            f"{scene}: about {left / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; make room, name a folder "
            f"on another disk, or {advice}"
        )
