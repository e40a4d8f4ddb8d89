"""manifest.json of a scene: where it comes from, how it was made, what came out. Written last, so that a scene that has
one is finished."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.data.reconstructions.colmap_model import ReconstructionError
from lfnet.data.scenes.scene import FORMAT, VERSION, depth_path
from lfnet.files.atomic import write_bytes
from lfnet.files.checksum import checksum
from lfnet.preparation.steps import LOG, RECORD, WORK, PreparationError, Record

MANIFEST = "manifest.json"
TOOLS = ("lfnet", "numpy", "opencv-python-headless", "opencv-python", "torch", "h5py", "pycolmap", "pycolmap-cuda12")
"""Packages whose versions are noted, where they are installed."""


def tool_versions() -> dict[str, str]:
    """Versions of what a scene is made with."""
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """Settings in types that JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN.
    return str(value) if isinstance(value, Path) else value


def checked_files(scene: Path) -> list[Path]:
    """The files of a scene that checksums are kept of: all that it owns, pictures and depth maps too."""
    found = [scene / "pairs.h5", *sorted((scene / "model").glob("*"))]
    for name in ("images", "depth"):
        folder = scene / name
        if folder.is_dir() and not folder.is_symlink():
            found += sorted(path for path in folder.rglob("*") if path.is_file())
    return found


def write_manifest(
    scene: Path,
    layout: str,
    source: Path,
    *,
    own_pictures: bool,
    own_depth: bool,
    licence: str,
    settings: Mapping[str, Any],
    numbers: Mapping[str, Any],
    record: Record,
    extra_source: Mapping[str, Any] | None = None,
) -> None:
    """Write the manifest: from here on the scene is finished.

    Raises:
        OSError: it can't be written.
    """
    where = source.resolve()
    values = {
        "format": FORMAT,
        "version": VERSION,
        "source": {
            "layout": layout,
            "folder": str(where),
            "relative": os.path.relpath(where, scene.resolve()),
            **(extra_source or {}),
        },
        "pictures": "own" if own_pictures else "source",
        "depth": "own" if own_depth else "source",
        "licence": licence,
        "tools": tool_versions(),
        "settings": plain(settings),
        "steps": record.seconds(),
        "numbers": plain(numbers),
        "checksums": {path.relative_to(scene).as_posix(): checksum(path) for path in checked_files(scene)},
    }
    write_bytes(scene / MANIFEST, (json.dumps(values, indent=1) + "\n").encode())


def says_already(scene: Path, licence: str, settings: Mapping[str, Any]) -> bool:
    """Whether a scene has a manifest with this licence and these settings."""
    try:
        values = json.loads((scene / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return values.get("licence") == licence and values.get("settings") == json.loads(json.dumps(plain(settings)))


def check_target(scene: Path, source: Path) -> None:
    """Refuse a folder that a scene can't be meant to go to, before any work.

    Raises:
        PreparationError: a file, the source itself or a folder in it, a folder with other things in it, or a scene that
            was made of something else, which is still there.
    """
    if scene.exists() and not scene.is_dir():
        raise PreparationError(f"{scene}: is a file; name a folder for the scene")
    inside = scene.resolve()
    if inside == source.resolve() or source.resolve() in inside.parents:
        raise PreparationError(f"{scene}: lies in what it is made of ({source}); name a folder outside of it")
    if scene.is_dir() and any(scene.iterdir()) and not _is_begun(scene):
        raise PreparationError(f"{scene}: holds other things than a scene; name a new or empty folder")
    made_of = _source_of(scene)
    if made_of is not None and made_of.exists() and made_of.resolve() != source.resolve():
        raise PreparationError(
            f"{scene}: is a scene of {made_of}, not of {source}; name another folder, or delete this one first"
        )


def _source_of(scene: Path) -> Path | None:
    """What a finished scene was made of; None where there is no manifest that says it."""
    try:
        return Path(json.loads((scene / MANIFEST).read_text(encoding="utf-8"))["source"]["folder"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _is_begun(scene: Path) -> bool:
    """Whether a folder is a scene, or one in the making: its record is there, or nothing yet but the folder for it."""
    work = scene / WORK
    if _source_of(scene) is not None:
        return True
    if not work.is_dir() or (work / RECORD).exists():
        return work.is_dir()
    return all(path.name.startswith(".") or path.name == LOG for path in work.iterdir())


def missing_files(scene: Path) -> list[Path]:
    """Files that are gone from a scene: those that its manifest lists, and pictures and depth maps of its model."""
    try:
        listed = json.loads((scene / MANIFEST).read_text(encoding="utf-8"))["checksums"]
    except (FileNotFoundError, ValueError, KeyError):
        listed = {}
    expected = [scene / name for name in listed]
    try:
        model = read_reconstruction(scene / "model", observations=False)
    except ReconstructionError:  # Not made yet, or damaged: its step is told by the record, or by the checksums.
        model = None
    for image in model.images.values() if model is not None else ():
        expected += [scene / "images" / image.name, depth_path(scene, image.name)]
    return [path for path in expected if not path.exists()]


def check_room(scene: Path, wanted: int, advice: str) -> None:
    """Refuse to begin where the disk has too little room.

    Args:
        scene: folder of the scene; it may not be there yet.
        wanted: bytes, an estimate; what a run that was stopped left there counts towards it.
        advice: what would make it less.

    Raises:
        PreparationError: less is free.
    """
    import shutil

    place = next(path for path in (scene, *scene.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    taken = sum(path.lstat().st_size for path in scene.rglob("*") if path.is_file() and not path.is_symlink())
    left = wanted - taken
    if free < left:
        raise PreparationError(
            f"{scene}: about {left / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; make room, name a folder "
            f"on another disk, or {advice}"
        )
