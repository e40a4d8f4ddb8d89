"""The binary tables of a COLMAP model."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import colmap_from_pixel, pixel_from_colmap
from lfnet.data.left_out import LeftOut
from lfnet.data.reconstructions.colmap_model import (
    MODELS,
    TRACK,
    Camera,
    Points,
    Reconstruction,
    ReconstructionError,
    RegisteredImage,
    pose_from,
)
from lfnet.geometry.quaternion import quaternion_from_rotation

COUNT = struct.Struct("<Q")
CAMERA = struct.Struct("<IiQQ")
"""camera id, model, width, height; the parameters follow as doubles."""
IMAGE = struct.Struct("<I4d3dI")
"""image id, quaternion, translation, camera id; the name follows, then the keypoints."""
POINT = struct.Struct("<Q3d3BdQ")
"""point id, position, colour, error, length of the track, which follows."""
NO_POINT = 2**64 - 1
"""The point of a keypoint that has none."""
KEYPOINT = np.dtype([("position", "<f8", 2), ("point", "<u8")])
NAMES = {model.number: name for name, model in MODELS.items()}

T = TypeVar("T")


def read_cameras(path: Path) -> dict[int, Camera]:
    """The table of cameras."""
    return _read(path, _cameras)


def read_images(path: Path, observations: bool, left_out: LeftOut) -> dict[int, RegisteredImage]:
    """The table of pictures, with or without what they observe; those without a pose are left out."""
    return _read(path, partial(_images, observations=observations, left_out=left_out))


def read_points(path: Path) -> Points:
    """The table of points."""
    return _read(path, _points)


class _Bytes:
    """A binary file, read from its start; what it lacks is an error."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self.position = 0

    def numbers(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next values of a packed layout."""
        self._need(layout.size)
        values = layout.unpack_from(self._content, self.position)
        self.position += layout.size
        return values

    def count(self, smallest: int) -> int:
        """How many entries of at least `smallest` bytes follow."""
        (count,) = self.numbers(COUNT)
        self._need(count * smallest)
        return count

    def rows(self, row: np.dtype, count: int) -> NDArray[Any]:
        """Copies of `count` rows."""
        self._need(count * row.itemsize)
        rows = np.frombuffer(self._content, row, count, self.position).copy()
        self.position += count * row.itemsize
        return rows

    def text(self) -> str:
        """Up to the next zero byte."""
        end = self._content.find(b"\0", self.position)
        if end < 0:
            raise ReconstructionError("is cut short in a name")
        text = self._content[self.position : end].decode("utf-8")
        self.position = end + 1
        return text

    def skip(self, size: int) -> None:
        """Go on behind the next bytes."""
        self._need(size)
        self.position += size

    def finish(self) -> None:
        """The file must end here."""
        left = len(self._content) - self.position
        if left:
            raise ReconstructionError(f"has {left} bytes more than it announces")

    def _need(self, size: int) -> None:
        left = len(self._content) - self.position
        if size > left:
            raise ReconstructionError(f"announces {size} more bytes, and has {left}")


def _read(path: Path, parse: Callable[[_Bytes], T]) -> T:
    if path.stat().st_size < COUNT.size:
        raise ReconstructionError(f"{path}: expected a table of a COLMAP model, got {path.stat().st_size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        reader = _Bytes(content)
        try:
            table = parse(reader)
            reader.finish()
        except (ReconstructionError, UnicodeDecodeError) as error:
            raise ReconstructionError(
                f"{path}: at byte {reader.position}: {error}; is the file complete? copy or export it again"
            ) from error
        return table


def _cameras(reader: _Bytes) -> dict[int, Camera]:
    cameras = {}
    for _ in range(reader.count(CAMERA.size)):
        camera_id, number, width, height = reader.numbers(CAMERA)
        if number not in NAMES:
            raise ReconstructionError(f"camera {camera_id} has the model number {number}, which is unknown here")
        params = reader.rows(np.dtype("<f8"), MODELS[NAMES[number]].parameters)
        cameras[camera_id] = Camera.checked(camera_id, NAMES[number], (width, height), params)
    return cameras


def _images(reader: _Bytes, observations: bool, left_out: LeftOut) -> dict[int, RegisteredImage]:
    images = {}
    for _ in range(reader.count(IMAGE.size + 1 + COUNT.size)):
        image_id, *values, camera_id = reader.numbers(IMAGE)
        name = reader.text()
        count = reader.count(KEYPOINT.itemsize)
        if observations:
            rows = reader.rows(KEYPOINT, count)
            rows = rows[rows["point"] != NO_POINT]
        else:
            reader.skip(count * KEYPOINT.itemsize)
            rows = np.zeros(0, KEYPOINT)
        try:
            pose = pose_from(values[:4], values[4:], name)
        except ReconstructionError as error:
            left_out.add(name, error)
            continue
        keypoints = pixel_from_colmap(rows["position"]).astype(np.float64)
        images[image_id] = RegisteredImage(image_id, name, camera_id, pose, keypoints, rows["point"].astype(np.int64))
    return images


def _points(reader: _Bytes) -> Points:
    count = reader.count(POINT.size)
    ids, errors = np.empty(count, np.int64), np.empty(count)
    positions, colours = np.empty((count, 3)), np.empty((count, 3), np.uint8)
    for index in range(count):
        ids[index], x, y, z, red, green, blue, errors[index], length = reader.numbers(POINT)
        positions[index] = x, y, z
        colours[index] = red, green, blue
        reader.skip(length * TRACK.itemsize)
    return Points(ids, positions, colours, errors)


def contents(reconstruction: Reconstruction, tracks: Sequence[NDArray[Any]]) -> tuple[bytes, bytes, bytes]:
    """The three tables as files hold them.

    Args:
        reconstruction: the model.
        tracks: rows of `TRACK` of each point.
    """
    cameras = bytearray(COUNT.pack(len(reconstruction.cameras)))
    for camera in reconstruction.cameras.values():
        cameras += CAMERA.pack(camera.camera_id, MODELS[camera.model].number, *camera.size)
        cameras += camera.params.astype("<f8").tobytes()
    images = bytearray(COUNT.pack(len(reconstruction.images)))
    for image in reconstruction.images.values():
        pose = image.camera_from_world
        images += IMAGE.pack(image.image_id, *quaternion_from_rotation(pose[:3, :3]), *pose[:3, 3], image.camera_id)
        images += image.name.encode() + b"\0" + COUNT.pack(len(image.point_ids))
        rows = np.zeros(len(image.point_ids), KEYPOINT)
        rows["position"], rows["point"] = colmap_from_pixel(image.keypoints), image.point_ids
        images += rows.tobytes()
    points = bytearray(COUNT.pack(len(tracks)))
    table = reconstruction.points
    for index, track in enumerate(tracks):
        position, colour = table.positions[index], table.colours[index]
        points += POINT.pack(int(table.ids[index]), *position, *map(int, colour), table.errors[index], len(track))
        points += track.tobytes()
    return bytes(cameras), bytes(images), bytes(points)
