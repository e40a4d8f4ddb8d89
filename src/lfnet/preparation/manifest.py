"""manifest.json of a scene: where it comes from, how it was made, what came out. Written last, so that a scene that has
one is finished."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.data.reconstructions.colmap_model import ReconstructionError
from lfnet.data.scenes.scene import FORMAT, VERSION, depth_path
from lfnet.files.atomic import write_bytes
from lfnet.files.checksum import checksum

MANIFEST = "manifest.json"
TOOLS = ("lfnet", "numpy", "opencv-python-headless", "opencv-python", "torch", "h5py", "pycolmap", "pycolmap-cuda12")
"""Packages whose versions are noted, where they are installed."""


@dataclass(frozen=True)
class Origin:
    """What a scene is made of, and how."""

    layout: str
    """"photos", "colmap", or a name in `lfnet.data.layouts.LAYOUTS`."""
    source: Path
    own_pictures: bool
    """Whether the scene has pictures of its own; else they stay in its source."""
    own_depth: bool
    licence: str
    settings: Mapping[str, Any]
    """In types that JSON has."""


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


def write_manifest(scene: Path, origin: Origin, numbers: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
    """Write the manifest: from here on the scene is finished.

    Args:
        scene: its folder, with all else in it.
        origin: what it is made of.
        numbers: what came out.
        seconds: that each step took.

    Raises:
        OSError: it can't be written.
    """
    source = origin.source.resolve()
    values = {
        "format": FORMAT,
        "version": VERSION,
        "source": {
            "layout": origin.layout,
            "folder": str(source),
            "relative": os.path.relpath(source, scene.resolve()),
        },
        "pictures": "own" if origin.own_pictures else "source",
        "depth": "own" if origin.own_depth else "source",
        "licence": origin.licence,
        "tools": _tool_versions(),
        "settings": origin.settings,
        "steps": seconds,
        "numbers": plain(numbers),
        "checksums": {path.relative_to(scene).as_posix(): checksum(path) for path in _own_files(scene)},
    }
    write_bytes(scene / MANIFEST, (json.dumps(values, indent=1) + "\n").encode())


def _tool_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _own_files(scene: Path) -> list[Path]:
    """All that a scene owns, pictures and depth maps too."""
    found = [scene / "pairs.h5", *sorted((scene / "model").glob("*"))]
    for name in ("images", "depth"):
        folder = scene / name
        if folder.is_dir() and not folder.is_symlink():
            found += sorted(path for path in folder.rglob("*") if path.is_file())
    return found


def says_already(scene: Path, origin: Origin) -> bool:
    """Whether a scene has a manifest with this licence and these settings."""
    values = read_json(scene / MANIFEST)
    return values.get("licence") == origin.licence and values.get("settings") == origin.settings


def missing_files(scene: Path) -> list[Path]:
    """Files that are gone from a scene: those that its manifest lists, and pictures and depth maps of its model."""
    expected = [scene / name for name in read_json(scene / MANIFEST).get("checksums", {})]
    try:
        model = read_reconstruction(scene / "model", observations=False)
    except ReconstructionError:  # Not made yet, or damaged: its step is told by the record, or by the checksums.
        model = None
    for image in model.images.values() if model is not None else ():
        expected += [scene / "images" / image.name, depth_path(scene, image.name)]
    return [path for path in expected if not path.exists()]


def read_json(path: Path) -> dict[str, Any]:
    """A table in a JSON file; empty where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
