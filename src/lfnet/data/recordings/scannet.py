"""ScanNet: recordings as one `.sens` file, read in place, and the folders that its exporter writes."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.data.depth_maps import read_depth_png, scale_raw_depth
from lfnet.data.depth_registration import align_depth
from lfnet.data.frames import Frame, FrameSet, SequenceError, check_pose
from lfnet.data.left_out import made_of_usable
from lfnet.data.recordings.calibration import check_intrinsics, invert_pose, read_matrix
from lfnet.image_decoding import EXTENSIONS
from lfnet.image_files import natural_key
from lfnet.images import ImageError, decode_image, image_size, read_image

EXPORTED_DEPTH_UNIT = 1e-3
"""Metres per step of the 16-bit depth that the exporter writes; 0 is unknown. A `.sens` file names its own steps per
metre (1000). Poses are 4x4 world-from-camera in metres, row by row; a pose of -inf says that tracking was lost.
Intrinsics are 4x4 with the 3x3 ones on top. Extrinsics are camera-from-device, where device is what the poses move;
they are the identity in the released scans, whose colour and depth differ by their intrinsics alone. Source: ScanNet
(Dai et al., 2017), SensReader: sensorData.h and SensorData.py."""
VERSION = 4
"""Of the `.sens` format."""
COLOUR_KINDS = {0: "raw", 1: "png", 2: "jpeg"}
"""How colour is stored in a `.sens` file."""
DEPTH_KINDS = {0: "raw_ushort", 1: "zlib_ushort", 2: "occi_ushort"}
"""How depth is stored in a `.sens` file; the last one can't be read here."""
MATRIX = struct.Struct("<16f")
FRAME = struct.Struct("<16f4Q")
"""Pose, time of colour and of depth in microseconds, bytes of colour and of depth."""


@dataclass(frozen=True)
class Rig:
    """Colour and depth camera of a scan."""

    colour_intrinsics: NDArray[np.float64]
    """3x3."""
    depth_intrinsics: NDArray[np.float64]
    """3x3."""
    colour_from_device: NDArray[np.float64]
    """4x4, rigid."""
    depth_from_device: NDArray[np.float64]
    """4x4, rigid."""

    def camera_from_world(self, world_from_device: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pose of the colour camera."""
        return self.colour_from_device @ invert_pose(world_from_device)

    def align(self, depth: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
        """Depth for every pixel of the picture."""
        colour_from_depth = self.colour_from_device @ invert_pose(self.depth_from_device)
        return align_depth(depth, self.depth_intrinsics, self.colour_intrinsics, colour_from_depth, size)


def is_sens(path: Path) -> bool:
    """Whether a path is a `.sens` file, or a folder that has one."""
    return path.suffix == ".sens" if path.is_file() else any(path.glob("*.sens"))


def is_exported(folder: Path) -> bool:
    """Whether a folder looks like an exported scan."""
    return (folder / "color").is_dir() and (folder / "pose").is_dir()


def read_sens(path: Path) -> FrameSet:
    """Frames of a `.sens` file, which is never unpacked: each frame is read from its place in the file.

    Frames are named by their number, "000123.jpg". Those without a pose are left out, with a note.

    Args:
        path: the file, or a folder with one.

    Raises:
        SequenceError: the file is cut short, of another version, or stored in a way that can't be read.
    """
    if path.is_dir():
        found = sorted(path.glob("*.sens"))
        if len(found) != 1:
            raise SequenceError(f"sequence {path}: expected one .sens file, got {len(found)}; name one of them")
        path = found[0]
    recording = _Recording(path)

    def frame(entry: _Entry) -> Frame:
        pose = check_pose(entry.world_from_device, f"{path}, frame {entry.number}")
        return Frame(
            name=f"{entry.number:06d}.{'png' if recording.colour_kind == 'png' else 'jpg'}",
            size=recording.colour_size,
            intrinsics=recording.rig.colour_intrinsics,
            camera_from_world=recording.rig.camera_from_world(pose),
            read_image=partial(recording.read_image, entry),
            read_depth=partial(recording.read_depth, entry),
        )

    tracked = [entry for entry in recording.entries if np.isfinite(entry.world_from_device).all()]
    makers = [(str(entry.number), partial(frame, entry)) for entry in tracked]
    frames, notes = made_of_usable(makers, f"sequence {path}", SequenceError)
    notes += _lost(len(recording.entries) - len(tracked), len(recording.entries))
    if not frames:
        raise SequenceError(f"{path}: none of {len(recording.entries)} frames has a pose; nothing can be warped")
    return FrameSet("scannet-sens", path, frames, notes=notes)


def read_exported(folder: Path) -> FrameSet:
    """Frames of a folder with `color/N.jpg`, `depth/N.png`, `pose/N.txt` and `intrinsic/*.txt`, as SensReader writes.

    Frames without a pose are left out, with a note, and where they are few those that are not complete.

    Raises:
        SequenceError: naming the file that is missing or does not fit.
        ImageError: a picture can't be read.
    """
    rig = _read_rig(folder / "intrinsic")
    image_root, depth_root = folder / "color", folder / "depth"
    images = _by_number(image_root, *EXTENSIONS)
    depths, poses = _by_number(depth_root, ".png"), _by_number(folder / "pose", ".txt")
    numbers = sorted(images.keys() | depths.keys() | poses.keys(), key=natural_key)
    if not numbers:
        raise SequenceError(f"sequence {folder}: no frames in {image_root.name}, {depth_root.name} and pose")

    def frame(stem: str) -> Frame | None:
        if not all(stem in each for each in (images, depths, poses)):
            counts = f"{len(images)}, {len(depths)} and {len(poses)}"
            raise SequenceError(
                f"expected as many pictures as depth maps and poses, of the same numbers, got {counts}; "
                f"frame {stem} is not complete: export the scan again"
            )
        pose = read_matrix(poses[stem], (4, 4))
        if not np.isfinite(pose).all():
            return None
        size = image_size(images[stem])
        check_intrinsics(rig.colour_intrinsics, size, folder / "intrinsic" / "intrinsic_color.txt")
        return Frame(
            name=images[stem].name,
            size=size,
            intrinsics=rig.colour_intrinsics,
            camera_from_world=rig.camera_from_world(check_pose(pose, poses[stem])),
            read_image=partial(read_image, images[stem]),
            read_depth=partial(_read_exported_depth, depths[stem], rig, size),
        )

    makers = [(stem, partial(frame, stem)) for stem in numbers]
    found, notes = made_of_usable(makers, f"sequence {folder}", SequenceError)
    frames = [each for each in found if each is not None]
    if not frames:
        raise SequenceError(f"sequence {folder}: none of {len(numbers)} frames has a pose; nothing can be warped")
    notes += _lost(len(found) - len(frames), len(numbers))
    return FrameSet("scannet", folder, frames, image_root, depth_root, notes)


def _by_number(folder: Path, *endings: str) -> dict[str, Path]:
    """Files by their name without its ending."""
    return {path.stem: path for path in folder.glob("*") if path.suffix.lower() in endings}


def _lost(lost: int, total: int) -> list[str]:
    return [f"{lost} of {total} frames have no pose: tracking was lost there"] if lost else []


def _read_rig(folder: Path) -> Rig:
    intrinsics = [read_matrix(folder / f"intrinsic_{name}.txt", (4, 4))[:3, :3] for name in ("color", "depth")]
    extrinsics = []
    for name in ("color", "depth"):
        path = folder / f"extrinsic_{name}.txt"
        extrinsics.append(check_pose(read_matrix(path, (4, 4)), path) if path.is_file() else np.eye(4))
    return Rig(intrinsics[0], intrinsics[1], extrinsics[0], extrinsics[1])


def _read_exported_depth(path: Path, rig: Rig, size: Size) -> NDArray[np.float32]:
    depth = read_depth_png(path, EXPORTED_DEPTH_UNIT)
    check_intrinsics(rig.depth_intrinsics, depth.shape[::-1], f"{path} with intrinsic_depth.txt")
    return rig.align(depth, size)


@dataclass(frozen=True)
class _Entry:
    """Where a frame lies in a `.sens` file."""

    number: int
    world_from_device: NDArray[np.float64]
    offset: int
    """Of its colour, bytes from the start of the file; depth follows."""
    colour_bytes: int
    depth_bytes: int


class _Recording:
    """A `.sens` file: its header, and the places of its frames, found by one pass that skips what they hold."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._length = path.stat().st_size
        with path.open("rb") as file:
            count = self._read_header(file)
            self.entries = [self._read_entry(file, number, count) for number in range(count)]

    def read_image(self, entry: _Entry) -> NDArray[np.uint8]:
        """Picture of a frame, RGB."""
        content = self._content(entry.offset, entry.colour_bytes)
        if self.colour_kind == "raw":
            pixels = self._numbers(entry, content, np.dtype(np.uint8), (*self.colour_size[::-1], 3), "colour")
        else:
            try:
                pixels = decode_image(content, self._place(entry))
            except ImageError as error:
                raise SequenceError(f"{self._place(entry)}: its picture is damaged ({error.cause})") from error
            if pixels.shape[1::-1] != self.colour_size:
                raise SequenceError(
                    f"{self._place(entry)}: a picture of {pixels.shape[1]}x{pixels.shape[0]}, but the header says "
                    f"{self.colour_size[0]}x{self.colour_size[1]}"
                )
        return pixels

    def read_depth(self, entry: _Entry) -> NDArray[np.float32]:
        """Depth of a frame for every pixel of its picture, metres."""
        content = self._content(entry.offset + entry.colour_bytes, entry.depth_bytes)
        if self._depth_kind == "zlib_ushort":
            expected = 2 * int(np.prod(self._depth_size))
            try:
                # A byte more than expected shows that there are more; a frame may inflate to a thousand times its size.
                content = zlib.decompressobj().decompress(content, expected + 1)
            except zlib.error as error:
                raise SequenceError(f"{self._place(entry)}: its depth is damaged ({error})") from error
        raw = self._numbers(entry, content, np.dtype("<u2"), self._depth_size[::-1], "depth")
        return self.rig.align(scale_raw_depth(raw, 1 / self._depth_steps), self.colour_size)

    def _read_header(self, file: BinaryIO) -> int:
        """Read what stands before the frames; their number."""
        (version,) = struct.unpack("<I", self._take(file, 4))
        if version != VERSION:
            raise SequenceError(f"{self._path}: expected version {VERSION} of the .sens format, got {version}")
        (length,) = struct.unpack("<Q", self._take(file, 8))
        file.seek(min(length, self._length), io.SEEK_CUR)  # The sensor's name.
        matrices = [np.array(MATRIX.unpack(self._take(file, MATRIX.size)), np.float64).reshape(4, 4) for _ in range(4)]
        colour_kind, depth_kind = struct.unpack("<2i", self._take(file, 8))
        if colour_kind not in COLOUR_KINDS or DEPTH_KINDS.get(depth_kind) not in ("raw_ushort", "zlib_ushort"):
            stored = f"{COLOUR_KINDS.get(colour_kind, colour_kind)} and {DEPTH_KINDS.get(depth_kind, depth_kind)}"
            raise SequenceError(
                f"{self._path}: colour and depth are stored as {stored}; readable are jpeg, png or raw with "
                "zlib_ushort or raw_ushort: export the file with ScanNet's SensReader and give the folder"
            )
        self.colour_kind, self._depth_kind = COLOUR_KINDS[colour_kind], DEPTH_KINDS[depth_kind]
        colour_width, colour_height, depth_width, depth_height = struct.unpack("<4I", self._take(file, 16))
        self.colour_size, self._depth_size = (colour_width, colour_height), (depth_width, depth_height)
        (self._depth_steps,) = struct.unpack("<f", self._take(file, 4))
        if not self._depth_steps > 0:
            raise SequenceError(f"{self._path}: expected steps of depth per metre above 0, got {self._depth_steps}")
        colour, colour_from_device, depth, depth_from_device = matrices
        self.rig = Rig(
            check_intrinsics(colour[:3, :3], self.colour_size, f"{self._path}, colour"),
            check_intrinsics(depth[:3, :3], self._depth_size, f"{self._path}, depth"),
            check_pose(colour_from_device, f"{self._path}, colour extrinsics"),
            check_pose(depth_from_device, f"{self._path}, depth extrinsics"),
        )
        (count,) = struct.unpack("<Q", self._take(file, 8))
        return count

    def _read_entry(self, file: BinaryIO, number: int, count: int) -> _Entry:
        start = file.tell()
        header = file.read(FRAME.size)
        if len(header) == FRAME.size:
            *pose, _, _, colour_bytes, depth_bytes = FRAME.unpack(header)
            offset = start + FRAME.size
            if offset + colour_bytes + depth_bytes <= self._length:
                file.seek(offset + colour_bytes + depth_bytes)
                return _Entry(number, np.array(pose, np.float64).reshape(4, 4), offset, colour_bytes, depth_bytes)
        raise SequenceError(
            f"{self._path}: cut short in frame {number} of {count}, which begins at byte {start}; the file has "
            f"{self._length} bytes: fetch it again"
        )

    def _take(self, file: BinaryIO, count: int) -> bytes:
        content = file.read(count)
        if len(content) < count:
            raise SequenceError(f"{self._path}: cut short in its header, at byte {self._length}: fetch it again")
        return content

    def _content(self, offset: int, count: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(count)

    def _numbers(self, entry: _Entry, content: bytes, kind: np.dtype, shape: tuple[int, ...], what: str) -> NDArray:
        expected = int(np.prod(shape)) * kind.itemsize
        if len(content) != expected:
            raise SequenceError(f"{self._place(entry)}: expected {expected} bytes of {what}, got {len(content)}")
        return np.frombuffer(content, kind).reshape(shape)

    def _place(self, entry: _Entry) -> str:
        return f"{self._path}, frame {entry.number} at byte {entry.offset}"
