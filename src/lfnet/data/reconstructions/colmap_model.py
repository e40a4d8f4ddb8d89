"""COLMAP models, text and binary, read and written without COLMAP.

A model is a folder with three tables: `cameras`, `images` and `points3D`, each ending in `.bin` or `.txt`. Lengths are
in the model's own unit; poses are camera-from-world with quaternions (w, x, y, z). Positions in pixels are in this
package's convention once read; COLMAP's have a half added. `rigs` and `frames`, which COLMAP 3.12 and later put beside
them, repeat what the poses say and are left out.

Source: COLMAP documentation, "Output format" and "Camera models".
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size, colmap_from_pixel, pixel_from_colmap
from lfnet.errors import UserError
from lfnet.files.atomic import write_bytes


class ReconstructionError(UserError):
    """A COLMAP model that is missing files, is cut short, or can't be used; the message names file and remedy."""


@dataclass(frozen=True)
class _Model:
    """How a camera model stores its parameters."""

    number: int
    """In binary files."""
    parameters: int
    """How many."""
    focal_lengths: int
    """1 where one serves both axes, 2 where there are two, 0 where there is none; then the principal point follows."""
    distortion: tuple[int, ...] | None = None
    """Place of OpenCV's (k1, k2, p1, p2, k3) in the parameters, -1 for those that are 0; None: not OpenCV's model."""


MODELS: dict[str, _Model] = {
    "SIMPLE_PINHOLE": _Model(0, 3, 1, ()),
    "PINHOLE": _Model(1, 4, 2, ()),
    "SIMPLE_RADIAL": _Model(2, 4, 1, (3, -1, -1, -1, -1)),
    "RADIAL": _Model(3, 5, 1, (3, 4, -1, -1, -1)),
    "OPENCV": _Model(4, 8, 2, (4, 5, 6, 7, -1)),
    "OPENCV_FISHEYE": _Model(5, 8, 2),
    "FULL_OPENCV": _Model(6, 12, 2, (4, 5, 6, 7, 8)),
    "FOV": _Model(7, 5, 2),
    "SIMPLE_RADIAL_FISHEYE": _Model(8, 4, 1),
    "RADIAL_FISHEYE": _Model(9, 5, 1),
    "THIN_PRISM_FISHEYE": _Model(10, 12, 2),
    "RAD_TAN_THIN_PRISM_FISHEYE": _Model(11, 16, 2),
    "SIMPLE_DIVISION": _Model(12, 4, 1),
    "DIVISION": _Model(13, 5, 2),
    "SIMPLE_FISHEYE": _Model(14, 3, 1),
    "FISHEYE": _Model(15, 4, 2),
    "EUCM": _Model(16, 6, 2),
    "EQUIRECTANGULAR": _Model(17, 2, 0),
}
"""COLMAP's camera models, up to release 4.2."""
NAMES = {model.number: name for name, model in MODELS.items()}
TABLES = ("cameras", "images", "points3D")
NO_POINT = 2**64 - 1
"""In binary files, the point of a keypoint that has none; text has -1."""


@dataclass(frozen=True)
class Camera:
    """A camera of a COLMAP model."""

    camera_id: int
    model: str
    """COLMAP's name of it, as "PINHOLE"."""
    size: Size
    """(width, height) of its pictures, pixels."""
    params: NDArray[np.float64]
    """As COLMAP orders them, principal point in COLMAP's frame."""

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """3x3; the centre of the top-left pixel is (0, 0).

        Raises:
            ReconstructionError: the model has no focal length.
        """
        count = MODELS[self.model].focal_lengths
        if count == 0:
            raise ReconstructionError(f"camera {self.camera_id}: {self.model} has no focal length; cut pinhole views")
        focal_x, focal_y = self.params[0], self.params[count - 1]
        x, y = pixel_from_colmap(self.params[count : count + 2])
        return np.array([[focal_x, 0.0, x], [0.0, focal_y, y], [0.0, 0.0, 1.0]])

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines stay straight: no distortion, or all of it 0."""
        model = MODELS[self.model]
        return model.distortion is not None and not self.params[model.focal_lengths + 2 :].any()

    @property
    def distortion(self) -> tuple[float, ...]:
        """OpenCV's coefficients (k1, k2, p1, p2, k3); empty for a pinhole camera.

        Raises:
            ReconstructionError: the model is not one of OpenCV's, or has a rational part.
        """
        if self.is_pinhole:
            return ()
        places = MODELS[self.model].distortion
        rational = self.model == "FULL_OPENCV" and self.params[9:].any()
        if places is None or rational:
            raise ReconstructionError(
                f"camera {self.camera_id}: the distortion of {self.model}{' with k4 to k6' if rational else ''} can't "
                "be undone here; run COLMAP's image_undistorter and give its output"
            )
        return tuple(0.0 if place < 0 else float(self.params[place]) for place in places)

    @classmethod
    def pinhole(
        cls, camera_id: int, size: Size, intrinsics: NDArray[np.float64], distortion: tuple[float, ...] = ()
    ) -> Camera:
        """A camera of these intrinsics: PINHOLE, or OPENCV or FULL_OPENCV where it is distorted.

        Args:
            camera_id: its number in the model.
            size: (width, height), pixels.
            intrinsics: 3x3 without skew; the centre of the top-left pixel is (0, 0).
            distortion: OpenCV's (k1, k2, p1, p2) or (k1, k2, p1, p2, k3).

        Raises:
            ReconstructionError: skew, or another number of coefficients.
        """
        (focal_x, skew, x), (below, focal_y, y) = intrinsics[:2]
        if skew or below:
            raise ReconstructionError(f"camera {camera_id}: expected intrinsics without skew, got {skew or below:g}")
        if len(distortion) not in (0, 4, 5):
            raise ReconstructionError(f"camera {camera_id}: expected 0, 4 or 5 coefficients, got {len(distortion)}")
        centre = colmap_from_pixel([float(x), float(y)])
        params = [focal_x, focal_y, *centre]
        model = "PINHOLE"
        if any(distortion):
            full = len(distortion) == 5 and distortion[4] != 0
            model = "FULL_OPENCV" if full else "OPENCV"
            params += [*distortion, 0.0, 0.0, 0.0] if full else distortion[:4]
        return cls(camera_id, model, size, np.array(params, np.float64))


@dataclass(frozen=True)
class RegisteredImage:
    """A picture of a COLMAP model, with the points it observes."""

    image_id: int
    name: str
    """Relative to the folder of pictures, with forward slashes."""
    camera_id: int
    camera_from_world: NDArray[np.float64]
    """4x4, rigid."""
    keypoints: NDArray[np.float64]
    """(N, 2) pixels of the points it observes; the centre of the top-left pixel is (0, 0)."""
    point_ids: NDArray[np.int64]
    """(N,), the point that each keypoint observes."""


@dataclass(frozen=True)
class Points:
    """The sparse points of a COLMAP model."""

    ids: NDArray[np.int64]
    """(P,)"""
    positions: NDArray[np.float64]
    """(P, 3), world, in the model's unit."""
    colours: NDArray[np.uint8]
    """(P, 3), red, green, blue."""
    errors: NDArray[np.float64]
    """(P,), mean reprojection error, pixels."""

    @classmethod
    def empty(cls) -> Points:
        """No points."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0))


@dataclass(frozen=True)
class Reconstruction:
    """A COLMAP model."""

    cameras: dict[int, Camera]
    images: dict[int, RegisteredImage]
    points: Points


def read_reconstruction(folder: str | Path, observations: bool = True) -> Reconstruction:
    """Read a COLMAP model; binary where there are both.

    Keypoints that observe no point are left out.

    Args:
        folder: with cameras, images and points3D, .bin or .txt.
        observations: read keypoints and points; without them a model of 10^4 pictures takes a few megabytes.

    Raises:
        ReconstructionError: a file is missing, cut short or no such table, or the tables don't fit together.
    """
    folder = Path(folder)
    ending = find_model(folder)
    cameras_path, images_path, points_path = (folder / f"{table}{ending}" for table in TABLES)
    if ending == ".bin":
        cameras = _read_binary(cameras_path, _binary_cameras)
        images = _read_binary(images_path, partial(_binary_images, observations=observations))
        points = _read_binary(points_path, _binary_points) if observations else Points.empty()
    else:
        cameras = _read_text(cameras_path, _text_cameras)
        images = _read_text(images_path, partial(_text_images, observations=observations))
        points = _read_text(points_path, _text_points) if observations else Points.empty()
    for image in images.values():
        if image.camera_id not in cameras:
            raise ReconstructionError(
                f"{images_path}: picture {image.name} has camera {image.camera_id}, which {cameras_path.name} lacks; "
                "do both belong to one model?"
            )
    return Reconstruction(cameras, images, points)


def find_model(folder: str | Path) -> str:
    """The ending of a model's files: ".bin" or ".txt".

    Raises:
        ReconstructionError: the folder has no complete model.
    """
    for ending in (".bin", ".txt"):
        if all((Path(folder) / f"{table}{ending}").is_file() for table in TABLES):
            return ending
    raise ReconstructionError(
        f"{folder}: expected a COLMAP model: cameras, images and points3D, all .bin or all .txt; "
        "COLMAP writes them to sparse/0 or sparse"
    )


def write_reconstruction(folder: str | Path, reconstruction: Reconstruction, binary: bool = True) -> None:
    """Write a COLMAP model, each file whole or not at all; what an older model in the folder left is removed.

    Args:
        folder: made where it is missing.
        reconstruction: its points' tracks are gathered from the pictures.
        binary: .bin; else .txt.

    Raises:
        ReconstructionError: a picture observes a point that there is not, or a name that text can't hold.
        OSError: the files can't be written.
    """
    folder = Path(folder)
    contents = (_binary_contents if binary else _text_contents)(reconstruction)
    ending, other = (".bin", ".txt") if binary else (".txt", ".bin")
    for table, content in zip(TABLES, contents, strict=True):
        write_bytes(folder / f"{table}{ending}", content)
    # Readers prefer .bin over .txt, and take the poses of newer models from the rigs.
    stale = [folder / f"{table}{other}" for table in TABLES]
    stale += [folder / f"{table}{each}" for table in ("rigs", "frames") for each in (ending, other)]
    for path in stale:
        path.unlink(missing_ok=True)


def rotation_from_quaternion(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 3x3 rotation of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def quaternion_from_rotation(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit quaternion (w, x, y, z), w at least 0, of a 3x3 rotation, or of the rotation nearest to a matrix.

    Source: Bar-Itzhack (2000), "New method for extracting the quaternion from a rotation matrix": the eigenvector of
    the largest eigenvalue.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    return -quaternion if quaternion[0] < 0 else quaternion


def _pose(quaternion: Any, translation: Any, name: str) -> NDArray[np.float64]:
    values = np.array([*quaternion, *translation], np.float64)
    length = np.linalg.norm(values[:4])
    if not np.isfinite(values).all() or length < 1e-9:
        raise ReconstructionError(f"the pose of picture {name} is no rotation and translation; leave that picture out")
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_quaternion(values[:4] / length)
    pose[:3, 3] = values[4:]
    return pose


def _camera(camera_id: int, model: str, size: Size, params: NDArray[np.float64]) -> Camera:
    if model not in MODELS:
        raise ReconstructionError(
            f"camera {camera_id} has the model {model}, which is unknown here; known are {', '.join(MODELS)}"
        )
    expected = MODELS[model].parameters
    if len(params) != expected:
        raise ReconstructionError(f"camera {camera_id}: expected {expected} parameters of {model}, got {len(params)}")
    if not np.isfinite(params).all() or min(size) < 1:
        raise ReconstructionError(f"camera {camera_id}: expected numbers and a size, got {size} and {params}")
    return Camera(camera_id, model, size, params)


T = TypeVar("T")


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


COUNT = struct.Struct("<Q")
CAMERA = struct.Struct("<IiQQ")
"""camera id, model, width, height; the parameters follow as doubles."""
IMAGE = struct.Struct("<I4d3dI")
"""image id, quaternion, translation, camera id; the name follows, then the keypoints."""
POINT = struct.Struct("<Q3d3BdQ")
"""point id, position, colour, error, length of the track, which follows."""
KEYPOINT = np.dtype([("position", "<f8", 2), ("point", "<u8")])
TRACK = np.dtype([("image", "<u4"), ("keypoint", "<u4")])


def _read_binary(path: Path, parse: Any) -> Any:
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


def _binary_cameras(reader: _Bytes) -> dict[int, Camera]:
    cameras = {}
    for _ in range(reader.count(CAMERA.size)):
        camera_id, number, width, height = reader.numbers(CAMERA)
        if number not in NAMES:
            raise ReconstructionError(f"camera {camera_id} has the model number {number}, which is unknown here")
        params = reader.rows(np.dtype("<f8"), MODELS[NAMES[number]].parameters)
        cameras[camera_id] = _camera(camera_id, NAMES[number], (width, height), params)
    return cameras


def _binary_images(reader: _Bytes, observations: bool) -> dict[int, RegisteredImage]:
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
        pose = _pose(values[:4], values[4:], name)
        keypoints = pixel_from_colmap(rows["position"]).astype(np.float64)
        images[image_id] = RegisteredImage(image_id, name, camera_id, pose, keypoints, rows["point"].astype(np.int64))
    return images


def _binary_points(reader: _Bytes) -> Points:
    count = reader.count(POINT.size)
    ids, errors = np.empty(count, np.int64), np.empty(count)
    positions, colours = np.empty((count, 3)), np.empty((count, 3), np.uint8)
    for index in range(count):
        ids[index], x, y, z, red, green, blue, errors[index], length = reader.numbers(POINT)
        positions[index] = x, y, z
        colours[index] = red, green, blue
        reader.skip(length * TRACK.itemsize)
    return Points(ids, positions, colours, errors)


Lines = Iterator[tuple[int, str]]
"""Number, from 1, and text of the lines of a file."""


def _read_text(path: Path, parse: Any) -> Any:
    last = 0

    def numbered() -> Lines:
        nonlocal last
        for last, line in enumerate(file, 1):
            yield last, line.strip()

    with path.open(encoding="utf-8") as file:
        try:
            return parse(numbered())
        except (ValueError, IndexError) as error:
            raise ReconstructionError(
                f"{path}: line {last}: {error}; expected COLMAP's text format: is the file complete?"
            ) from error


def _entries(lines: Lines) -> Iterator[str]:
    """Lines that are neither empty nor comments."""
    return (line for _, line in lines if line and not line.startswith("#"))


def _text_cameras(lines: Lines) -> dict[int, Camera]:
    cameras = {}
    for line in _entries(lines):
        number, model, width, height, *params = line.split()
        cameras[int(number)] = _camera(
            int(number), model, (int(width), int(height)), np.array(params, dtype=np.float64)
        )
    return cameras


def _text_images(lines: Lines, observations: bool) -> dict[int, RegisteredImage]:
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
        pose = _pose([float(value) for value in values[:4]], [float(value) for value in values[4:]], name)
        keypoints = pixel_from_colmap(positions[seen]).astype(np.float64)
        images[int(image_id)] = RegisteredImage(int(image_id), name, int(camera_id), pose, keypoints, points[seen])
    return images


def _text_points(lines: Lines) -> Points:
    ids: list[int] = []
    rows: list[list[float]] = []
    for line in _entries(lines):
        number, *values = line.split(maxsplit=8)[:8]
        if len(values) != 7:
            raise ReconstructionError(f"point {number}: expected position, colour, error, got {len(values)} values")
        ids.append(int(number))
        rows.append([float(value) for value in values])
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Points(np.array(ids, np.int64), table[:, :3], table[:, 3:6].astype(np.uint8), table[:, 6])


def _tracks(reconstruction: Reconstruction) -> list[NDArray[Any]]:
    """The pictures and keypoints that observe each point, in the order of the points."""
    images, ids = list(reconstruction.images.values()), reconstruction.points.ids
    entries = np.zeros(sum(len(image.point_ids) for image in images), TRACK)
    points = np.concatenate([np.zeros(0, np.int64), *(image.point_ids for image in images)])
    start = 0
    for image in images:
        here = entries[start : start + len(image.point_ids)]
        here["image"], here["keypoint"] = image.image_id, np.arange(len(here))
        start += len(here)
    strangers = ~np.isin(points, ids)
    if strangers.any():
        raise ReconstructionError(
            f"picture {entries['image'][strangers][0]} observes point {points[strangers][0]}, which is not in points"
        )
    order = np.argsort(points, kind="stable")
    entries, points = entries[order], points[order]
    starts, ends = np.searchsorted(points, ids), np.searchsorted(points, ids, side="right")
    return [entries[start:end] for start, end in zip(starts, ends, strict=True)]


def _binary_contents(reconstruction: Reconstruction) -> tuple[bytes, bytes, bytes]:
    tracks = _tracks(reconstruction)
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


def _text_contents(reconstruction: Reconstruction) -> tuple[bytes, bytes, bytes]:
    tracks = _tracks(reconstruction)
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
