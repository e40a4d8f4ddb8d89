"""RGB-D sequences as folders of pictures: the plain layout and that of 7-Scenes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.data.depth_maps import read_depth_png
from lfnet.data.depth_registration import align_depth
from lfnet.data.frames import Frame, FrameSet, SequenceError, check_pose
from lfnet.data.left_out import made_of_usable
from lfnet.data.recordings.calibration import check_intrinsics, invert_pose, read_matrix
from lfnet.image_files import list_images, natural_key
from lfnet.images import image_size, read_image

DEPTH_UNIT = 1e-3
"""Metres per step of the 16-bit depth of both layouts; 0 is unknown, and `poses.txt` and `*.pose.txt` are 4x4
world-from-camera matrices in metres, row by row. Sources: the test sequence of DeepVideoMVS (Duzceker et al., 2021) for
the plain layout; the page of the 7-Scenes data set (Shotton et al., 2013) for the other."""
DEPTH_UNKNOWN = (65535,)
"""Besides 0, the value of pixels without depth. Source: the page of 7-Scenes; no sensor of these layouts sees 65 m."""
SEVEN_SCENES_INTRINSICS = np.array([[585.0, 0.0, 320.0], [0.0, 585.0, 240.0], [0.0, 0.0, 1.0]])
"""Of the depth camera, for pictures of 640x480. The distribution of 7-Scenes has no calibration file; this is what its
page names. The colour camera has a focal length of about 525 and stands some centimetres beside it."""
SEVEN_SCENES_SIZE = (640, 480)
"""(width, height) that `SEVEN_SCENES_INTRINSICS` is for, pixels."""
COLOUR_CALIBRATION, DEPTH_CALIBRATION = "colour.K.txt", "depth.K.txt"
"""3x3 intrinsics of each camera, where they differ. One file `*K.txt` alone is for both, as for registered depth."""
DISPLACEMENT = "colour_from_depth.txt"
"""4x4 rigid transform in metres, where the depth camera is not in the colour camera's place."""
DEFAULT_NOTE = (
    f"no {COLOUR_CALIBRATION} and {DEPTH_CALIBRATION}: both cameras are taken for the depth camera that the page of "
    "7-Scenes describes, and depth is some pixels beside the picture; write both files to have it registered"
)


def is_plain(folder: Path) -> bool:
    """Whether a folder looks like the plain layout."""
    return (folder / "poses.txt").is_file()


def is_seven_scenes(folder: Path) -> bool:
    """Whether a folder looks like a sequence of 7-Scenes."""
    return any(folder.glob("*.pose.txt"))


def read_plain(folder: Path) -> FrameSet:
    """Frames of a folder with `images/*`, `depth/*.png` of the same names, `K.txt` and `poses.txt` (a line a frame).

    Depth may have a camera of its own: see `DEPTH_CALIBRATION` and `DISPLACEMENT`. Frames that lack a picture, a depth
    map or a rigid pose are left out with a note, where they are few.

    Raises:
        SequenceError: naming the file that is missing or does not fit.
        ImageError: a picture can't be read.
    """
    intrinsics = read_matrix(folder / "K.txt", (3, 3))
    poses = read_matrix(folder / "poses.txt", (-1, 4, 4))
    image_root, depth_root = folder / "images", folder / "depth"
    images, depths = list_images([image_root]), _depth_pictures(depth_root)
    # A row of poses belongs to each picture, or to each depth map where pictures are missing.
    stems = [path.stem for path in max(images, list(depths.values()), key=len)]
    if len(stems) != len(poses):
        raise SequenceError(
            f"sequence {folder}: expected as many pictures as depth maps and poses, "
            f"got {len(images)}, {len(depths)} and {len(poses)}"
        )
    strangers = [stem for stem in depths if stem not in set(stems)]
    if strangers:
        raise SequenceError(
            f"sequence {folder}: expected each depth map to have the name of its picture, and there is none for "
            f"{depths[strangers[0]].name}"
        )
    cameras = _Cameras(folder, intrinsics, folder / "K.txt")
    by_stem = {image.stem: image for image in images}

    def frame(stem: str, pose: NDArray[np.float64]) -> Frame:
        image = by_stem.get(stem)
        if image is None or stem not in depths:
            raise SequenceError(f"{folder}: {'no picture' if image is None else 'no depth map'} of the name {stem}")
        name = image.relative_to(image_root).as_posix()
        return cameras.frame(name, image, depths[stem], check_pose(pose, folder / "poses.txt"))

    makers = [(stem, partial(frame, stem, pose)) for stem, pose in zip(stems, poses, strict=True)]
    frames, notes = made_of_usable(makers, f"sequence {folder}", SequenceError)
    return FrameSet("plain", folder, frames, image_root, depth_root, notes)


def _depth_pictures(folder: Path) -> dict[str, Path]:
    """Depth maps by their name without its ending, in natural order."""
    paths = (path for path in folder.glob("*") if path.suffix.lower() == ".png")
    return {path.stem: path for path in sorted(paths, key=natural_key)}


def read_seven_scenes(folder: Path) -> FrameSet:
    """Frames of a folder with `NAME.color.png` or `.jpg`, `NAME.depth.png` and `NAME.pose.txt`.

    Intrinsics: `COLOUR_CALIBRATION` and `DEPTH_CALIBRATION` with `DISPLACEMENT`, by which depth is registered to the
    picture; or one file `*K.txt`, for depth that is registered already; or else `SEVEN_SCENES_INTRINSICS`, with a note.
    Frames that can't be used are left out with a note, where they are few.

    Raises:
        SequenceError: naming the file that is missing or does not fit.
        ImageError: a picture can't be read.
    """
    intrinsics, source, default_notes = _seven_scenes_intrinsics(folder)
    cameras = _Cameras(folder, intrinsics, source)
    files = {f"{path.stem}{path.suffix.lower()}": path for path in folder.iterdir()}

    def frame(pose_path: Path) -> Frame:
        stem = pose_path.name.removesuffix(".pose.txt")
        image = files.get(f"{stem}.color.jpg", files.get(f"{stem}.color.png"))
        depth = files.get(f"{stem}.depth.png")
        if image is None or depth is None:
            raise SequenceError(f"{pose_path}: expected {stem}.color.jpg or .png and {stem}.depth.png beside it")
        if default_notes and (size := image_size(image)) != SEVEN_SCENES_SIZE:
            raise SequenceError(
                f"sequence {folder}: expected a file *K.txt with the 3x3 intrinsics: those of 7-Scenes are known for "
                f"pictures of 640x480, {image.name} has {size[0]}x{size[1]}"
            )
        return cameras.frame(image.name, image, depth, check_pose(read_matrix(pose_path, (4, 4)), pose_path))

    poses = sorted(folder.glob("*.pose.txt"), key=natural_key)
    makers = [(pose.name.removesuffix(".pose.txt"), partial(frame, pose)) for pose in poses]
    frames, notes = made_of_usable(makers, f"sequence {folder}", SequenceError)
    return FrameSet("7-scenes", folder, frames, folder, folder, [*default_notes, *notes])


def _seven_scenes_intrinsics(folder: Path) -> tuple[NDArray[np.float64], Path, list[str]]:
    """Of the colour camera, the file that names them, and what is to be said of them."""
    if (folder / COLOUR_CALIBRATION).is_file():
        path = folder / COLOUR_CALIBRATION
        return read_matrix(path, (3, 3)), path, []
    candidates = sorted(folder.glob("*K.txt"))
    if len(candidates) > 1:
        raise SequenceError(
            f"sequence {folder}: expected one file *K.txt, or {COLOUR_CALIBRATION} and {DEPTH_CALIBRATION}, "
            f"got {', '.join(path.name for path in candidates)}"
        )
    if candidates:
        return read_matrix(candidates[0], (3, 3)), candidates[0], []
    return SEVEN_SCENES_INTRINSICS, folder, [DEFAULT_NOTE]


class _Cameras:
    """Colour and depth camera of a folder.

    Args:
        folder: with `DEPTH_CALIBRATION` and `DISPLACEMENT`, where depth has a camera of its own.
        intrinsics: of the colour camera.
        source: of the intrinsics, named in errors.
    """

    def __init__(self, folder: Path, intrinsics: NDArray[np.float64], source: Path) -> None:
        self._intrinsics = intrinsics
        self._source = source
        self._depth_intrinsics = None
        self._colour_from_depth = np.eye(4)
        calibration, displacement = folder / DEPTH_CALIBRATION, folder / DISPLACEMENT
        if calibration.is_file() and calibration != source:
            self._depth_intrinsics = read_matrix(calibration, (3, 3))
            if displacement.is_file():
                self._colour_from_depth = check_pose(read_matrix(displacement, (4, 4)), displacement)
        elif displacement.is_file():
            raise SequenceError(f"{displacement}: expected {DEPTH_CALIBRATION} with the depth camera's intrinsics too")

    def frame(self, name: str, image: Path, depth: Path, world_from_camera: NDArray[np.float64]) -> Frame:
        size = image_size(image)
        return Frame(
            name=name,
            size=size,
            intrinsics=check_intrinsics(self._intrinsics, size, self._source),
            camera_from_world=invert_pose(world_from_camera),
            read_image=partial(read_image, image),
            read_depth=partial(self._read_depth, depth, size),
        )

    def _read_depth(self, path: Path, size: Size) -> NDArray[np.float32]:
        depth = read_depth_png(path, DEPTH_UNIT, DEPTH_UNKNOWN)
        if self._depth_intrinsics is not None:
            return align_depth(depth, self._depth_intrinsics, self._intrinsics, self._colour_from_depth, size)
        if depth.shape != size[::-1]:
            raise SequenceError(
                f"{path}: depth of {depth.shape[1]}x{depth.shape[0]} beside a picture of {size[0]}x{size[1]}; register "
                f"the depth to the picture first, or give the depth camera's intrinsics in {DEPTH_CALIBRATION}"
            )
        return depth
