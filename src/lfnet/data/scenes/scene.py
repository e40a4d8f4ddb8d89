"""A prepared scene on disk: pictures with cameras and depth, and the pairs among them.

scene/manifest.json     where it comes from, and how it was made
scene/model/            COLMAP model
scene/images/           pictures; a link to those of the source, or absent where they stay in it
scene/depth/            NAME.h5 for a picture NAME, dataset "depth": z in the unit of the poses, 0 where unknown
scene/pairs.h5          table of pairs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.data.frames import Frame
from lfnet.data.layouts import read_frames
from lfnet.data.reconstructions.colmap_files import has_model, read_reconstruction
from lfnet.data.reconstructions.colmap_model import Reconstruction, ReconstructionError
from lfnet.data.scenes.pair_table import PairTable, PairTableError, read_pair_table
from lfnet.errors import UserError
from lfnet.files.containment import inside, stays_inside
from lfnet.files.hdf5_reading import open_hdf5, read_array
from lfnet.files.reading import read_json_file
from lfnet.images import read_image

FORMAT = "lfnet-scene"
VERSION = 1
AGAIN = "run the same `lfnet prepare` command again"


class SceneError(UserError):
    """A folder that is no scene, or one that isn't finished or has lost its source; the message says the remedy."""


@dataclass(frozen=True)
class Scene:
    """A scene that `lfnet prepare` made, by reference: pictures and depth are read when they are asked for."""

    folder: Path
    manifest: dict[str, Any]
    frames: list[Frame]
    """In the order of the model."""
    image_ids: list[int]
    """COLMAP's number of each frame."""

    @classmethod
    def open(cls, folder: str | Path) -> Scene:
        """Open a scene.

        Args:
            folder: that `lfnet prepare` wrote.

        Raises:
            SceneError: it is no scene, isn't finished, or its source isn't where it was.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        model = _read_model(folder)
        if not (folder / "pairs.h5").is_file():
            raise SceneError(f"scene {folder} isn't finished: its pairs are missing; {AGAIN}")
        frames = _scene_frames(folder, manifest, model)
        return cls(folder, manifest, frames, list(model.images))

    @cached_property
    def pair_table(self) -> PairTable:
        """All pairs.

        Raises:
            SceneError: the table can't be read, or names other pictures than the model.
        """
        path = self.folder / "pairs.h5"
        try:
            table = read_pair_table(path)
        except PairTableError as error:
            raise SceneError(str(error)) from error
        names = {number: frame.name for number, frame in zip(self.image_ids, self.frames, strict=True)}
        for number, name in zip(table.image_ids.tolist(), table.names, strict=True):
            if names.get(number) != name:
                there = names.get(number, "missing")
                raise SceneError(f"{path}: picture {number} is {name}, in the model {there}; delete it, and {AGAIN}")
        return table

    def pairs(self, split: str = "training") -> PairTable:
        """The pairs of "training" or "validation"."""
        return self.pair_table.of_split(split)

    def frame(self, image_id: int) -> Frame:
        """The frame of COLMAP's number."""
        return self.frames[self._places[image_id]]

    @cached_property
    def _places(self) -> dict[int, int]:
        return {number: place for place, number in enumerate(self.image_ids)}


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What manifest.json of a scene says.

    Raises:
        SceneError: there is none, it is no JSON, or it is of something else.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise SceneError(f"{folder}: no scene (no manifest.json in it); make one with `lfnet prepare`")
    manifest = read_json_file(path, SceneError, "the manifest of a scene")
    try:
        known = manifest["format"] == FORMAT
        version = manifest["version"]
        places = [manifest["pictures"], manifest["depth"]]
        source = manifest["source"]
        fits = all(place in ("own", "source") for place in places) and {"layout", "folder"} <= source.keys()
        outside = [name for name in manifest.get("checksums", {}) if not stays_inside(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise SceneError(f"{path}: no manifest of a scene ({cause}); {AGAIN}") from error
    if not known or not fits:
        raise SceneError(f"{path}: no manifest of a scene; expected format {FORMAT}, pictures and depth own or source")
    if outside:
        raise SceneError(f"{path}: lists {outside[0]!r}, which leads out of the scene; {AGAIN}")
    if version != VERSION:
        raise SceneError(f"{path}: version {version} is unknown; a newer lfnet wrote it")
    return manifest


def depth_path(folder: str | Path, name: str) -> Path:
    """Where a scene keeps its own depth map of a picture.

    Raises:
        OutsideError: the name leads out of the scene.
    """
    return inside(Path(folder) / "depth", f"{name}.h5")


def read_depth_file(path: str | Path, size: Size) -> NDArray[np.float32]:
    """A depth map of a scene, or of MegaDepth: dataset "depth" of an HDF5 file.

    Args:
        path: of the file.
        size: (width, height) that it must have.

    Returns:
        (H, W), 0 where unknown.

    Raises:
        SceneError: the file is missing, can't be read, or is of another size.
    """
    remedy = f"delete it if it is there, and {AGAIN}"
    with open_hdf5(path, SceneError, remedy) as file:
        depth = read_array(file, "depth", SceneError, remedy).astype(np.float32)
    if depth.shape != (size[1], size[0]):
        expected = f"{size[0]}x{size[1]}"
        raise SceneError(f"{path}: depth of shape {depth.shape} for a picture of {expected}; delete it, and {AGAIN}")
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _read_model(folder: Path) -> Reconstruction:
    if not has_model(folder / "model"):
        raise SceneError(f"scene {folder} isn't finished: its COLMAP model is missing; {AGAIN}")
    try:
        return read_reconstruction(folder / "model", observations=False)
    except ReconstructionError as error:
        raise SceneError(str(error)) from error


def _scene_frames(folder: Path, manifest: dict[str, Any], model: Reconstruction) -> list[Frame]:
    where = (manifest["pictures"], manifest["depth"])
    sources = _source_frames(folder, manifest) if "source" in where else {}
    frames = []
    for image in model.images.values():
        source = sources.get(image.name)
        if source is None and sources:
            raise SceneError(
                f"scene {folder}: picture {image.name} isn't in {manifest['source']['folder']} any more; "
                "put it back, or prepare the scene anew"
            )
        if source is None or where[0] == "own":
            camera = model.cameras[image.camera_id]
            if not camera.is_pinhole:
                raise SceneError(f"scene {folder}: camera {camera.camera_id} of its model is no pinhole; {AGAIN}")
            path = folder / "images" / image.name
            frame = Frame(
                name=image.name,
                size=camera.size,
                intrinsics=camera.intrinsics,
                camera_from_world=image.camera_from_world,
                read_image=partial(_read_picture, path, camera.size),
                read_depth=source.read_depth if source is not None else None,
            )
        else:
            frame = source
        if where[1] == "own":
            frame = replace(frame, read_depth=partial(read_depth_file, depth_path(folder, image.name), frame.size))
        frames.append(frame)
    _check_files(folder, where, frames)
    return frames


def _check_files(folder: Path, where: tuple[str, str], frames: list[Frame]) -> None:
    kinds: list[tuple[str, str, Callable[[str], Path]]] = [
        ("pictures", where[0], lambda name: folder / "images" / name),
        ("depth maps", where[1], lambda name: depth_path(folder, name)),
    ]
    for kind, place, path_of in kinds:
        if place != "own":
            continue
        missing = [frame.name for frame in frames if not path_of(frame.name).is_file()]
        if missing:
            raise SceneError(
                f"scene {folder} isn't finished: {len(missing)} of {len(frames)} {kind} are missing, the first of "
                f"{missing[0]}; {AGAIN}"
            )


def _read_picture(path: Path, size: Size) -> NDArray[np.uint8]:
    image = read_image(path)
    if image.shape[:2] != (size[1], size[0]):
        raise SceneError(
            f"{path}: {image.shape[1]}x{image.shape[0]}, but its camera has {size[0]}x{size[1]}; was it replaced? put "
            "the old one back, or prepare the scene anew"
        )
    return image


def _source_frames(folder: Path, manifest: dict[str, Any]) -> dict[str, Frame]:
    source = manifest["source"]
    places = [Path(source["folder"])]
    if source.get("relative"):
        places.append(folder / source["relative"])
    found = next((place for place in places if place.exists()), None)
    if found is None:
        expected = " or ".join(str(place) for place in places)
        raise SceneError(
            f"scene {folder}: its pictures stay in its source, which isn't at {expected}; put it back, or write its "
            'new place into "folder" under "source" in manifest.json'
        )
    return {frame.name: frame for frame in read_frames(found, source["layout"]).frames}
