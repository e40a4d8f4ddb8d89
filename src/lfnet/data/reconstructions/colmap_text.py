"""The tables of a COLMAP model as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import colmap_from_pixel, pixel_from_colmap
from lfnet.data.left_out import LeftOut
from lfnet.data.reconstructions.colmap_model import (
    Camera,
    Points,
    Reconstruction,
    ReconstructionError,
    RegisteredImage,
    pose_from,
)
from lfnet.geometry.quaternion import quaternion_from_rotation

T = TypeVar("T")
Lines = Iterator[tuple[int, str]]
"""Number, from 1, and text of the lines of a file."""


def read_cameras(path: Path) -> dict[int, Camera]:
    """The table of cameras."""
    return _read(path, _cameras)


def read_images(path: Path, observations: bool, left_out: LeftOut) -> dict[int, RegisteredImage]:
    """The table of pictures, with or without what they observe; those without a pose are left out."""
    return _read(path, partial(_images, observations=observations, left_out=left_out))


def read_points(path: Path) -> Points:
    """The table of points."""
    return _read(path, _points)


def _read(path: Path, parse: Callable[[Lines], T]) -> T:
    last = 0

    def numbered() -> Lines:
        nonlocal last
        for last, line in enumerate(file, 1):
            yield last, line.strip()

    with path.open(encoding="utf-8") as file:
        try:
            return parse(numbered())
        except (ValueError, IndexError, OverflowError) as error:
            raise ReconstructionError(
                f"{path}: line {last}: {error}; expected COLMAP's text format: is the file complete?"
            ) from error


def _entries(lines: Lines) -> Iterator[str]:
    """Lines that are neither empty nor comments."""
    return (line for _, line in lines if line and not line.startswith("#"))


def _cameras(lines: Lines) -> dict[int, Camera]:
    cameras = {}
    for line in _entries(lines):
        number, model, width, height, *params = line.split()
        cameras[int(number)] = Camera.checked(
            int(number), model, (int(width), int(height)), np.array(params, dtype=np.float64)
        )
    return cameras


def _images(lines: Lines, observations: bool, left_out: LeftOut) -> dict[int, RegisteredImage]:
    images = {}
    for line in _entries(lines):
        image_id, *values, camera_id, name = line.split(maxsplit=9)
        # The keypoints are the next line, even where it is empty.
        number, row = next(lines, (0, ""))
        if not number:
            raise ReconstructionError(f"ends before the keypoints of picture {name}")
        entries = row.split() if observations else []
        if len(entries) % 3:
            raise ReconstructionError(f"expected x, y and point for each keypoint, got {len(entries)} values")
        points = np.array(entries[2::3], dtype=np.int64)
        positions = np.array([entries[0::3], entries[1::3]], dtype=np.float64).T.reshape(-1, 2)
        seen = points >= 0
        try:
            pose = pose_from([float(value) for value in values[:4]], [float(value) for value in values[4:]], name)
        except ReconstructionError as error:
            left_out.add(name, error)
            continue
        keypoints = pixel_from_colmap(positions[seen]).astype(np.float64)
        images[int(image_id)] = RegisteredImage(int(image_id), name, int(camera_id), pose, keypoints, points[seen])
    return images


def _points(lines: Lines) -> Points:
    ids: list[int] = []
    rows: list[list[float]] = []
    for line in _entries(lines):
        number, *values = line.split(maxsplit=8)[:8]
        if len(values) != 7:
            raise ReconstructionError(f"point {number}: expected position, colour, error, got {len(values)} values")
        ids.append(int(number))
        rows.append([float(value) for value in values])
    table = np.array(rows, np.float64).reshape(-1, 7)
    colours = table[:, 3:6]
    if not ((colours >= 0) & (colours <= 255)).all():
        raise ReconstructionError("expected colours from 0 to 255")
    return Points(np.array(ids, np.int64), table[:, :3], colours.astype(np.uint8), table[:, 6])


def contents(reconstruction: Reconstruction, tracks: Sequence[NDArray[Any]]) -> tuple[bytes, bytes, bytes]:
    """The three tables as files hold them.

    Args:
        reconstruction: the model.
        tracks: rows of `TRACK` of each point.

    Raises:
        ReconstructionError: a name that text can't hold.
    """
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for camera in reconstruction.cameras.values():
        cameras.append(f"{camera.camera_id} {camera.model} {camera.size[0]} {camera.size[1]} {_words(camera.params)}")
    images = [
        "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        "# POINTS2D[] as (X, Y, POINT3D_ID)",
    ]
    for image in reconstruction.images.values():
        if len(image.name.split()) != 1:
            raise ReconstructionError(f"picture {image.name!r}: COLMAP's text holds no name with blanks; write binary")
        pose = image.camera_from_world
        numbers = _words(np.concatenate((quaternion_from_rotation(pose[:3, :3]), pose[:3, 3])))
        images.append(f"{image.image_id} {numbers} {image.camera_id} {image.name}")
        observed = zip(colmap_from_pixel(image.keypoints), image.point_ids, strict=True)
        images.append(" ".join(f"{_words(position)} {point}" for position, point in observed))
    points = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    table = reconstruction.points
    for index, track in enumerate(tracks):
        colour = " ".join(map(str, table.colours[index]))
        words = [str(table.ids[index]), _words(table.positions[index]), colour, _words(table.errors[index : index + 1])]
        points.append(" ".join([*words, *(f"{image} {keypoint}" for image, keypoint in track.tolist())]))
    return tuple(("\n".join(lines) + "\n").encode() for lines in (cameras, images, points))  # type: ignore[return-value]


def _words(values: NDArray[np.float64]) -> str:
    """Digits enough to give back the very same numbers."""
    return " ".join(repr(float(value)) for value in values)
