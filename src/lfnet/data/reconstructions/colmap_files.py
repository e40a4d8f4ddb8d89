"""COLMAP models in folders: found, read and written without COLMAP.

A model is a folder with three tables: `cameras`, `images` and `points3D`, each ending in `.bin` or `.txt`. `rigs` and
`frames`, which COLMAP 3.12 and later put beside them, repeat what the poses say and are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lfnet.data.left_out import LeftOut
from lfnet.data.reconstructions import colmap_binary, colmap_text
from lfnet.data.reconstructions.colmap_model import Points, Reconstruction, ReconstructionError, RegisteredImage
from lfnet.files.atomic import write_bytes
from lfnet.files.containment import stays_inside

TABLES = ("cameras", "images", "points3D")
FORMATS = {".bin": colmap_binary, ".txt": colmap_text}
"""By the ending of the tables; the first is read where there are both."""
WHOLE = "cameras, images and points3D, all .bin or all .txt"
MODEL_PLACES = (".", "sparse", "sparse/0", "0", "model", "colmap", "sparse-txt", "sparse-txt/0")
"""Where a folder has its COLMAP model: the first of these that is whole."""
PICTURE_PLACES = ("images", "imgs", "../images", "../../images")
"""Where the pictures of a model are: in the folder that was named, or beside the model in it."""


def find_model(folder: str | Path) -> Path:
    """The folder of a COLMAP model: the one given, or the first of `MODEL_PLACES` in it.

    Raises:
        ReconstructionError: none has a whole one.
    """
    found = next((place for name in MODEL_PLACES if _ending(place := Path(folder) / name)), None)
    if found is None:
        raise ReconstructionError(
            f"{folder}: expected a COLMAP model ({WHOLE}) in it, or in {', '.join(MODEL_PLACES[1:])}"
        )
    return found


def has_model(folder: str | Path) -> bool:
    """Whether `find_model` finds one."""
    return any(_ending(Path(folder) / name) for name in MODEL_PLACES)


def find_pictures(folder: str | Path) -> Path | None:
    """The folder of a model's pictures, the first of `PICTURE_PLACES`."""
    return next((place for name in PICTURE_PLACES if (place := Path(folder) / name).is_dir()), None)


def _ending(folder: Path) -> str | None:
    """Of a whole model's tables."""
    whole = (ending for ending in FORMATS if all((folder / f"{table}{ending}").is_file() for table in TABLES))
    return next(whole, None)


def read_reconstruction(folder: str | Path, observations: bool = True) -> Reconstruction:
    """Read a COLMAP model; binary where there are both.

    Keypoints that observe no point are left out, and with a note the pictures without a pose, where they are few.

    Args:
        folder: with cameras, images and points3D, .bin or .txt.
        observations: read keypoints and points; without them a model of 10^4 pictures takes a few megabytes.

    Raises:
        ReconstructionError: a file is missing, cut short or no such table, the tables don't fit together, a name leads
            out of the folder of pictures, or many pictures have no pose.
    """
    folder = Path(folder)
    ending = _ending(folder)
    if ending is None:
        raise ReconstructionError(
            f"{folder}: expected a COLMAP model: {WHOLE}; COLMAP writes them to sparse/0 or sparse"
        )
    cameras_path, images_path, points_path = (folder / f"{table}{ending}" for table in TABLES)
    tables = FORMATS[ending]
    cameras = tables.read_cameras(cameras_path)
    unposed = LeftOut("pictures have no pose", "leave them out of the model, or export it again")
    images = tables.read_images(images_path, observations, unposed)
    points = tables.read_points(points_path) if observations else Points.empty()
    for image in images.values():
        _check_name(image.name, images_path)
        if image.camera_id not in cameras:
            raise ReconstructionError(
                f"{images_path}: picture {image.name} has camera {image.camera_id}, which {cameras_path.name} lacks; "
                "do both belong to one model?"
            )
    if observations:
        _check_observed(images, points, points_path)
    notes = unposed.notes(len(images) + len(unposed.names), str(images_path), ReconstructionError)
    return Reconstruction(cameras, images, points, notes)


def _check_observed(images: dict[int, RegisteredImage], points: Points, source: Path) -> None:
    observed = [image.point_ids for image in images.values()]
    if not observed or np.isin(np.concatenate(observed), points.ids).all():  # At once: each call sorts all points.
        return
    for image in images.values():
        strangers = image.point_ids[~np.isin(image.point_ids, points.ids)]
        if len(strangers):
            raise ReconstructionError(
                f"{source}: has no point {strangers[0]}, which picture {image.name} observes; do both tables belong to "
                "one model?"
            )


def _check_name(name: str, source: Path) -> None:
    if not stays_inside(name):
        raise ReconstructionError(
            f"{source}: picture {name!r} leads out of the folder of pictures; names are relative, without '..': rename "
            "it in the model"
        )


def write_reconstruction(folder: str | Path, reconstruction: Reconstruction, binary: bool = True) -> None:
    """Write a COLMAP model, each file whole or not at all; what an older model in the folder left is removed.

    Args:
        folder: made where it is missing.
        reconstruction: its points' tracks are gathered from the pictures.
        binary: .bin; else .txt.

    Raises:
        ReconstructionError: a picture observes a point that there is not, or a name that text can't hold or that leads
            out of the folder of pictures.
        OSError: the files can't be written.
    """
    folder = Path(folder)
    ending, other = (".bin", ".txt") if binary else (".txt", ".bin")
    for image in reconstruction.images.values():
        _check_name(image.name, folder)
    contents = FORMATS[ending].contents(reconstruction, reconstruction.tracks())
    for table, content in zip(TABLES, contents, strict=True):
        write_bytes(folder / f"{table}{ending}", content)
    # Readers prefer .bin over .txt, and take the poses of newer models from the rigs.
    stale = [folder / f"{table}{other}" for table in TABLES]
    stale += [folder / f"{table}{each}" for table in ("rigs", "frames") for each in (ending, other)]
    for path in stale:
        path.unlink(missing_ok=True)
