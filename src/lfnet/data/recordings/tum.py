"""TUM RGB-D sequences: lists of pictures, depth maps and poses, put together by time stamp."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.data.depth_maps import read_depth_png
from lfnet.data.frames import Frame, FrameSet, SequenceError
from lfnet.data.left_out import LeftOut, made_of_usable
from lfnet.data.recordings.calibration import check_intrinsics, invert_pose, read_matrix
from lfnet.files.reading import read_text_file
from lfnet.geometry.quaternion import rotation_from_quaternion
from lfnet.images import image_size, read_image

DEPTH_UNIT = 1 / 5000
"""Metres per step of the 16-bit depth; 0 is unknown. Depth is registered to the picture, pixel by pixel.

`groundtruth.txt` has a line "time tx ty tz qx qy qz qw" a pose: place of the colour camera in metres and its
orientation as a unit quaternion, world-from-camera. Source, also for the calibrations: Sturm et al. (2012) and the data
set's page "File formats"."""
MAX_DIFFERENCE = 0.02
"""Largest difference of two time stamps that belong together, seconds. Source: the data set's tool `associate`."""
QUATERNION_TOLERANCE = 1e-2
"""Largest difference from 1 of the length of a quaternion written with four digits."""


@dataclass(frozen=True)
class Lens:
    """Pinhole camera with OpenCV's distortion."""

    intrinsics: NDArray[np.float64]
    """3x3; the centre of the top-left pixel is (0, 0)."""
    distortion: tuple[float, ...] = ()
    """(k1, k2, p1, p2, k3), or none."""

    @classmethod
    def of(cls, values: tuple[float, ...]) -> Lens:
        """From fx, fy, cx, cy in pixels and the distortion."""
        focal_x, focal_y, x, y = values[:4]
        intrinsics = np.array([[focal_x, 0.0, x], [0.0, focal_y, y], [0.0, 0.0, 1.0]])
        return cls(intrinsics, values[4:] if any(values[4:]) else ())


CAMERAS = {
    "1": (517.306408, 516.469215, 318.643040, 255.313989, 0.262383, -0.953104, -0.005358, 0.002628, 1.163314),
    "2": (520.908620, 521.007327, 325.141442, 249.701764, 0.231222, -0.784899, -0.003257, -0.000105, 0.917205),
    "3": (535.4, 539.2, 320.1, 247.6),
}
"""fx, fy, cx, cy, k1, k2, p1, p2, k3 of freiburg1, 2 and 3, whose pictures are undistorted already."""


def is_tum(folder: Path) -> bool:
    """Whether a folder looks like a TUM RGB-D sequence."""
    return (folder / "rgb.txt").is_file() and (folder / "depth.txt").is_file()


def read_tum(folder: Path) -> FrameSet:
    """Frames of a folder with `rgb.txt`, `depth.txt` and `groundtruth.txt`.

    A picture belongs to the depth map next to it in time, at most `MAX_DIFFERENCE` away, nearest pairs first, each used
    once. Its pose is interpolated between those before and after it where both are within `MAX_DIFFERENCE`, and else is
    the nearest within it; pictures without depth or pose are left out.

    Intrinsics: `K.txt` (3x3) or `camera.txt` (fx fy cx cy, and k1 k2 p1 p2 k3 where the lens distorts) of the folder,
    or `CAMERAS` by freiburg1, 2 or 3 (fr1, fr2, fr3) in the folder's name. Distortion is undone where frames are read,
    pictures linearly, depth by the nearest pixel.

    Raises:
        SequenceError: naming the file that is missing or does not fit.
        ImageError: a picture can't be read.
    """
    colour, depth = _read_list(folder / "rgb.txt"), _read_list(folder / "depth.txt")
    times, poses, wrong_poses = _read_trajectory(folder / "groundtruth.txt")
    lens, source = _find_lens(folder)
    pairs = associate(np.array(list(colour)), np.array(list(depth)))
    lenses: dict[Size, _Undistorted] = {}
    colour_times, depth_times = list(colour), list(depth)

    def frame(name: str, pose: NDArray[np.float64], depth_path: Path) -> Frame:
        image = folder / name
        size = image_size(image)
        if not depth_path.is_file():
            raise SequenceError(f"{depth_path}: no such depth map, though depth.txt lists it")
        if size not in lenses:
            lenses[size] = _Undistorted(Lens(check_intrinsics(lens.intrinsics, size, source), lens.distortion), size)
        return Frame(
            name=name,
            size=size,
            intrinsics=lens.intrinsics,
            camera_from_world=invert_pose(pose),
            read_image=partial(lenses[size].read_image, image),
            read_depth=partial(lenses[size].read_depth, depth_path),
            distortion=lens.distortion,
        )

    makers = []
    for colour_index, depth_index in pairs:
        pose = _pose_at(colour_times[colour_index], times, poses)
        if pose is not None:
            name, depth_name = colour[colour_times[colour_index]], depth[depth_times[depth_index]]
            makers.append((name, partial(frame, name, pose, folder / depth_name)))
    frames, unusable = made_of_usable(makers, f"sequence {folder}", SequenceError)
    notes, near = [*wrong_poses, *unusable], f"within {MAX_DIFFERENCE} s"
    if len(pairs) < len(colour):
        notes.append(f"{len(colour) - len(pairs)} of {len(colour)} pictures have no depth map {near}")
    if len(makers) < len(pairs):
        notes.append(f"{len(pairs) - len(makers)} of {len(pairs)} pictures with depth have no pose {near}")
    if not frames:
        raise SequenceError(
            f"sequence {folder}: no picture has both a depth map and a pose {near} ({'; '.join(notes)}); "
            "do the three lists belong to one recording?"
        )
    return FrameSet("tum", folder, frames, folder, folder, notes)


def associate(
    first: NDArray[np.float64], second: NDArray[np.float64], max_difference: float = MAX_DIFFERENCE
) -> list[tuple[int, int]]:
    """Pairs of entries of two lists that belong together: nearest first, each used once.

    Args:
        first: time stamps, seconds.
        second: time stamps, seconds.
        max_difference: pairs must be less apart, seconds.

    Returns:
        (index in first, index in second), ascending by the time of the first.
    """
    order = np.argsort(second, kind="stable")
    candidates = []
    for index, time in enumerate(first):
        low, high = np.searchsorted(second[order], (time - max_difference, time + max_difference))
        candidates += [(abs(second[other] - time), index, int(other)) for other in order[low:high]]
    used_first, used_second, pairs = set(), set(), []
    for difference, index, other in sorted(candidates):
        if difference < max_difference and index not in used_first and other not in used_second:
            used_first.add(index)
            used_second.add(other)
            pairs.append((index, other))
    return sorted(pairs, key=lambda pair: first[pair[0]])


def _read_lines(path: Path, columns: int, expected: str) -> list[list[str]]:
    lines = read_text_file(path, SequenceError, "a table of a TUM sequence").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < columns:
            raise SequenceError(f"{path}, line {number}: expected '{expected}', got '{line.strip()}'")
        rows.append(words)
    return rows


def _read_list(path: Path) -> dict[float, str]:
    """Names of files by time."""
    rows = _read_lines(path, 2, "time file")
    if not rows:
        raise SequenceError(f"{path}: expected a line 'time file' a picture, got none; is the file complete?")
    try:
        return {float(row[0]): row[1] for row in rows}
    except ValueError as error:
        raise SequenceError(f"{path}: expected 'time file' with the time in seconds ({error})") from error


def _read_trajectory(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Times, ascending, rows of tx ty tz qx qy qz qw with unit quaternions, and notes on rows that have none."""
    rows = _read_lines(path, 8, "time tx ty tz qx qy qz qw")
    try:
        values = np.array([row[:8] for row in rows], np.float64).reshape(-1, 8)
    except ValueError as error:
        raise SequenceError(f"{path}: expected lines 'time tx ty tz qx qy qz qw' ({error})") from error
    lengths = np.linalg.norm(values[:, 4:], axis=1)
    wrong = ~np.isfinite(values).all(axis=1) | ~(np.abs(lengths - 1) <= QUATERNION_TOLERANCE)
    left_out = LeftOut(
        "poses have no unit quaternion and finite place", "check the order of their numbers: tx ty tz qx qy qz qw"
    )
    for row in values[wrong]:
        left_out.add(f"{row[1:].tolist()} at time {row[0]:.6f}")
    notes = left_out.notes(len(values), str(path), SequenceError)
    values, lengths = values[~wrong], lengths[~wrong]
    values[:, 4:] /= lengths[:, None]
    values = values[np.argsort(values[:, 0], kind="stable")]
    return values[:, 0], values[:, 1:], notes


def _pose_at(time: float, times: NDArray[np.float64], poses: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """4x4 world-from-camera, or None where no pose is near enough."""
    after = int(np.searchsorted(times, time))
    near = [index for index in (after - 1, after) if 0 <= index < len(times)]
    near = [index for index in near if abs(times[index] - time) <= MAX_DIFFERENCE]
    if not near:
        return None
    first, last = near[0], near[-1]
    gap = times[last] - times[first]
    share = (time - times[first]) / gap if gap > 0 else 0.0
    pose = np.eye(4)
    pose[:3, 3] = (1 - share) * poses[first, :3] + share * poses[last, :3]
    x, y, z, w = _interpolate_rotation(poses[first, 3:], poses[last, 3:], share)
    pose[:3, :3] = rotation_from_quaternion(np.array([w, x, y, z]))
    return pose


def _interpolate_rotation(first: NDArray[np.float64], last: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Unit quaternion on the shorter arc. Source: Shoemake (1985), slerp."""
    cosine = float(first @ last)
    last, cosine = (last, cosine) if cosine >= 0 else (-last, -cosine)
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:
        return first
    return (np.sin((1 - share) * angle) * first + np.sin(share * angle) * last) / np.sin(angle)


def _find_lens(folder: Path) -> tuple[Lens, Path]:
    """The camera, and where it is from."""
    matrix, numbers = folder / "K.txt", folder / "camera.txt"
    if matrix.is_file():
        return Lens(read_matrix(matrix, (3, 3))), matrix
    if numbers.is_file():
        values = read_matrix(numbers, (-1, 1)).ravel()
        if len(values) not in (4, 9):
            raise SequenceError(
                f"{numbers}: expected fx fy cx cy or fx fy cx cy k1 k2 p1 p2 k3, got {len(values)} numbers"
            )
        return Lens.of(tuple(values.tolist())), numbers
    named = re.search(r"(?:freiburg|fr)([123])(?!\d)", folder.resolve().name)
    if named is None:
        raise SequenceError(
            f"sequence {folder}: its name says none of freiburg1, freiburg2 and freiburg3, whose cameras are known; "
            "write the intrinsics to K.txt (3x3) or camera.txt (fx fy cx cy, then k1 k2 p1 p2 k3 if the lens distorts)"
        )
    return Lens.of(CAMERAS[named[1]]), folder


class _Undistorted:
    """Pictures and depth maps of one size, read as a pinhole camera of the same intrinsics sees them."""

    def __init__(self, lens: Lens, size: Size) -> None:
        self._lens = lens
        self._size = size

    def read_image(self, path: Path) -> NDArray[np.uint8]:
        # Beyond the stored picture its border is repeated: black would be an edge that is not in the scene.
        return self._pinhole(read_image(path), cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)

    def read_depth(self, path: Path) -> NDArray[np.float32]:
        depth = read_depth_png(path, DEPTH_UNIT)
        if depth.shape != self._size[::-1]:
            raise SequenceError(
                f"{path}: depth of {depth.shape[1]}x{depth.shape[0]} beside a picture of "
                f"{self._size[0]}x{self._size[1]}; a TUM sequence has both registered, of one size"
            )
        return self._pinhole(depth, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)

    def _pinhole(self, stored: NDArray, interpolation: int, border: int) -> NDArray:
        if not self._lens.distortion:
            return stored
        return cv2.remap(stored, *self._maps, interpolation, borderMode=border, borderValue=0)

    @cached_property
    def _maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where in the stored picture each pixel is."""
        intrinsics, distortion = self._lens.intrinsics, np.array(self._lens.distortion)
        return cv2.initUndistortRectifyMap(intrinsics, distortion, None, intrinsics, self._size, cv2.CV_32FC1)  # type: ignore[return-value, call-overload, arg-type]
