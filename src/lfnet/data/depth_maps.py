"""Depth maps as files hold them: 16-bit PNG, HDF5, COLMAP's and OpenMVS's own formats."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size, resize_matrix
from lfnet.data.frames import SequenceError
from lfnet.files.hdf5_reading import has, open_hdf5, read_array
from lfnet.files.reading import check_regular
from lfnet.images import MAX_PIXELS, ImageError, image_size

DATASET = "depth"
"""Of a depth map in an HDF5 file, as MegaDepth and the Image Matching Benchmark name it."""
DEPTH_MAP_ENDINGS = (".h5", ".bin", ".dmap")
"""Of files that `read_depth_map` reads."""


def read_depth_png(path: str | Path, unit: float, unknown: tuple[int, ...] = ()) -> NDArray[np.float32]:
    """Depth map of a 16-bit PNG file.

    Args:
        path: of the file.
        unit: length of a step, in the unit of the poses.
        unknown: values besides 0 that stand for no measurement.

    Returns:
        (H, W), 0 where unknown.

    Raises:
        SequenceError: the file is no 16-bit picture of one channel, or declares more than `MAX_PIXELS`.
    """
    check_regular(path, SequenceError, "a 16-bit depth map of one channel")
    expected = f"{path}: expected a 16-bit depth map of one channel; is the file there and complete?"
    try:
        width, height = image_size(path)
    except ImageError as error:
        raise SequenceError(f"{expected} ({error.cause})") from error
    if width * height > MAX_PIXELS:
        raise SequenceError(f"{path}: declares {width}x{height} pixels, more than a depth map has; fetch it again")
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        raise SequenceError(expected)
    return scale_raw_depth(raw.astype(np.uint16, copy=False), unit, unknown)


def scale_raw_depth(raw: NDArray[np.uint16], unit: float, unknown: tuple[int, ...] = ()) -> NDArray[np.float32]:
    """Steps of a sensor in the unit of the poses, 0 where unknown; arguments as `read_depth_png`."""
    depth = raw.astype(np.float32) * np.float32(unit)
    for value in unknown:
        depth[raw == value] = 0
    return depth


def read_depth_map(path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Depth map of an HDF5 file, of COLMAP's dense reconstruction or of OpenMVS, told apart by the ending.

    Args:
        path: `.h5` with a dataset "depth", COLMAP's `.bin`, or OpenMVS's `.dmap`.

    Returns:
        (H, W), z in the camera frame in the unit of the model, 0 where unknown; and the 3x3 intrinsics of the depth
        map, centre of the top-left pixel at (0, 0), where the file has them (`.dmap`), else None.

    Raises:
        SequenceError: the file is missing, cut short or no such depth map.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending == ".h5":
        return _known(read_arrays(path, DATASET)[0], path), None
    readers = {".bin": _read_colmap, ".dmap": _read_openmvs}
    if ending not in readers:
        raise SequenceError(f"{path}: expected a depth map ending in {', '.join(DEPTH_MAP_ENDINGS)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SequenceError(f"{path}: cannot be read ({error.strerror}); is the path right?") from error
    try:
        return readers[ending](path, content)
    except struct.error as error:
        raise SequenceError(
            f"{path}: cut short in its header ({len(content)} bytes); fetch or make it again"
        ) from error


def read_arrays(path: Path, *names: str) -> list[NDArray]:
    """Data sets of an HDF5 file.

    Raises:
        SequenceError: the file can't be read or lacks one.
    """
    with open_hdf5(path, SequenceError) as file:
        missing = [name for name in names if not has(file, name, SequenceError)]
        if missing:
            found = sorted(file)
            raise SequenceError(f"{path}: expected the dataset {missing[0]!r}, got {found}")
        return [read_array(file, name, SequenceError) for name in names]


def _known(depth: NDArray, path: Path) -> NDArray[np.float32]:
    """Depth with 0 wherever it is no length: MegaDepth has -1 and NaN, COLMAP 0."""
    if depth.ndim != 2:
        raise SequenceError(f"{path}: expected a depth map of two dimensions, got {depth.shape}")
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)


def _read_colmap(path: Path, content: bytes) -> tuple[NDArray[np.float32], None]:
    """COLMAP documentation, "Dense reconstruction": "width&height&channels&" in text, then float32, x fastest."""
    fields = content[:64].split(b"&", 3)
    if len(fields) < 4 or not all(field.isdigit() for field in fields[:3]):
        raise SequenceError(f"{path}: expected COLMAP's depth map, which begins with 'width&height&1&'; is it one?")
    width, height, channels = (int(field) for field in fields[:3])
    if channels != 1:
        raise SequenceError(f"{path}: expected one channel, got {channels}; is it a normal map?")
    start = sum(len(field) + 1 for field in fields[:3])
    return _known(_pixels(path, content, start, (width, height), "<f4"), path), None


def _read_openmvs(path: Path, content: bytes) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """OpenMVS, `HeaderDepthDataRaw` of libs/MVS/Interface.h: "DR", or "D2" of release 2.4 and later.

    Both hold: kind of content, sizes of the picture and of the depth map, range of depth, name of the picture, numbers
    of the views, K of the picture, R, C, and depth. DR has float32; D2 has float16 times two to the power of the
    header's exponent, and one more float, the scale of its confidences.
    """
    magic, content_kind, exponent = struct.unpack_from("<2sBb", content)
    if magic not in (b"DR", b"D2") or not content_kind & 1:
        raise SequenceError(f"{path}: expected OpenMVS's depth map, which begins with DR or D2; is it one?")
    picture_width, picture_height, depth_width, depth_height = struct.unpack_from("<4I", content, 4)
    picture_size, depth_size = (picture_width, picture_height), (depth_width, depth_height)
    if min(*picture_size, *depth_size) < 1:
        raise SequenceError(f"{path}: expected sizes of at least 1, got {picture_size} and {depth_size}")
    start = struct.calcsize("<2sBb4I2f") + (4 if magic == b"D2" else 0)
    start += 2 + struct.unpack_from("<H", content, start)[0]
    start += 4 + 4 * struct.unpack_from("<I", content, start)[0]
    intrinsics = np.array(struct.unpack_from("<9d", content, start)).reshape(3, 3)
    start += struct.calcsize("<9d9d3d")
    depth = _pixels(path, content, start, depth_size, "<f4" if magic == b"DR" else "<f2")
    if magic == b"D2":
        depth = np.ldexp(depth.astype(np.float32), exponent)
    return _known(depth, path), resize_matrix(picture_size, depth_size) @ intrinsics


def read_picture_name(path: str | Path) -> str:
    """Name of the picture that a depth map of OpenMVS belongs to, as its header has it: often with folders.

    Raises:
        SequenceError: the file can't be read, or is no depth map of OpenMVS.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(1 << 16)
        magic = content[:2]
        if magic not in (b"DR", b"D2"):
            raise SequenceError(f"{path}: expected OpenMVS's depth map, which begins with DR or D2; is it one?")
        start = struct.calcsize("<2sBb4I2f") + (4 if magic == b"D2" else 0)
        (length,) = struct.unpack_from("<H", content, start)
        return content[start + 2 : start + 2 + length].decode("utf-8", errors="replace")
    except OSError as error:
        raise SequenceError(f"{path}: cannot be read ({error.strerror}); is the path right?") from error
    except struct.error as error:
        raise SequenceError(f"{path}: cut short in its header; fetch or make it again") from error


def _pixels(path: Path, content: bytes, start: int, size: Size, kind: str) -> NDArray:
    count, item = size[0] * size[1], np.dtype(kind).itemsize
    if len(content) < start + count * item:
        raise SequenceError(
            f"{path}: cut short: {size[0]}x{size[1]} pixels take {start + count * item} bytes, the file has "
            f"{len(content)}; fetch or make it again"
        )
    return np.frombuffer(content, kind, count, start).reshape(size[1], size[0])
