"""Collections of photographs that others have reconstructed: MegaDepth and the Image Matching Benchmark's YFCC.

Both are read where they lie. Poses and depth have the unit of the reconstruction, which is arbitrary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size, pixel_from_colmap, resize_matrix
from lfnet.data.depth_maps import read_arrays, read_depth_map
from lfnet.data.depth_registration import resample_depth
from lfnet.data.frames import Frame, FrameSet, SequenceError, check_pose
from lfnet.data.left_out import made_of_usable
from lfnet.data.reconstructions.colmap_files import PICTURE_PLACES, find_model, find_pictures, read_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, ReconstructionError, RegisteredImage
from lfnet.image_files import list_images, natural_key
from lfnet.images import image_size, read_image

MEGADEPTH_DEPTHS = ("depths", "depth_undistorted")
"""Where a scene has its depth maps, in its own folder: HDF5, z in the unit of its COLMAP model, which is of undistorted
pictures; unknown where it is 0 or below (some files have -1, for an order of depths alone). Sources: Li and Snavely
(2018), MegaDepth, and the undistorted models of D2-Net (Dusmanu et al., 2019), on which its users build."""
MEGADEPTH_ARCHIVES = (
    "depth_undistorted/{scene}",
    "phoenix/S6/zl548/MegaDepth_v1/{scene}/dense*/depths",
    "MegaDepth_v1/{scene}/dense*/depths",
)
"""Where depth maps are beside `Undistorted_SfM/SCENE`, as the data set's archives unpack. The undistorted model is that
of dense0, which comes first where a picture has depth in several."""
BENCHMARK_DEPTHS = "stereo/depth_maps"
"""Of a training scene of the Image Matching Benchmark: COLMAP's dense workspace, with `NAME.geometric.bin` for a
picture NAME; z in the model's unit, 0 unknown. A scene for validation has `calibration/calibration_NAME.h5` with K, R
and T, where a point X of the world is at R X + T in the camera, and `depth_maps/NAME.h5`. K comes from COLMAP, whose
principal point has a half added. Source: Jin et al. (2021) and the benchmark's repository."""
BENCHMARK_VALIDATION = "set_100"
"""Folder of a validation scene below the scene's own."""
SIZE_TOLERANCE = 0.02
"""Relative difference of the two sides' scales that rounding explains in a picture or depth map made smaller."""


def is_megadepth(folder: Path) -> bool:
    """Whether a folder looks like a scene of MegaDepth."""
    return find_pictures(folder) is not None and bool(_find_depths(folder))


def is_benchmark(folder: Path) -> bool:
    """Whether a folder looks like a scene of the Image Matching Benchmark."""
    return _validation(folder) is not None or _dense(folder) is not None


def read_megadepth(folder: Path) -> FrameSet:
    """Frames of a folder with an undistorted COLMAP model, pictures and HDF5 depth maps of the pictures' names.

    Pictures of the model that are not there are left out, and those without a depth map stay without; a note says so.
    Pictures and depth maps may have been made smaller than the model's cameras.

    Raises:
        SequenceError: naming what is missing or does not fit.
        ImageError: a picture can't be read.
    """
    pictures, depths = find_pictures(folder), _find_depths(folder)
    if pictures is None or not depths:
        raise SequenceError(f"sequence {folder}: expected {' or '.join(PICTURE_PLACES)}, and depths beside a model")

    def depth_of(name: str) -> Path | None:
        paths = [root / PurePosixPath(name).with_suffix(".h5") for root in depths]
        return next((path for path in paths if path.is_file()), None)

    frames, notes = _frames_of_model(folder, pictures, depth_of)
    return FrameSet("megadepth", folder, frames, pictures, depths[0], notes)


def read_benchmark(folder: Path) -> FrameSet:
    """Frames of a scene of the Image Matching Benchmark, for training or for validation.

    Args:
        folder: SCENE or SCENE/dense for training, SCENE or SCENE/set_100 for validation.

    Raises:
        SequenceError: naming what is missing or does not fit.
        ImageError: a picture can't be read.
    """
    validation = _validation(folder)
    if validation is not None:
        return _read_validation(validation)
    dense = _dense(folder)
    if dense is None:
        raise SequenceError(f"sequence {folder}: expected a scene of the Image Matching Benchmark")

    def depth_of(name: str) -> Path | None:
        path = dense / BENCHMARK_DEPTHS / f"{name}.geometric.bin"
        return path if path.is_file() else None

    frames, notes = _frames_of_model(dense, dense / "images", depth_of)
    return FrameSet("image-matching-benchmark", folder, frames, dense / "images", dense / BENCHMARK_DEPTHS, notes)


def _find_depths(folder: Path) -> list[Path]:
    """Folders of depth maps, of the first place that has any."""
    scene = folder.resolve()
    places = [(folder, pattern) for pattern in MEGADEPTH_DEPTHS]
    places += [(scene.parent.parent, pattern.format(scene=scene.name)) for pattern in MEGADEPTH_ARCHIVES]
    found = (sorted(path for path in root.glob(pattern) if path.is_dir()) for root, pattern in places)
    return next(filter(None, found), [])


def _dense(folder: Path) -> Path | None:
    return next((each for each in (folder, folder / "dense") if (each / BENCHMARK_DEPTHS).is_dir()), None)


def _validation(folder: Path) -> Path | None:
    places = (folder, folder / BENCHMARK_VALIDATION)
    return next((each for each in places if (each / "calibration").is_dir() and (each / "images").is_dir()), None)


def _frames_of_model(
    folder: Path, pictures: Path, depth_of: Callable[[str], Path | None]
) -> tuple[list[Frame], list[str]]:
    """Frames of a COLMAP model, in natural order of their names, and what was left out."""
    try:
        model_folder = find_model(folder)
    except ReconstructionError as error:
        hint = "MegaDepth's own pictures need the undistorted model (Undistorted_SfM/SCENE)"
        raise SequenceError(f"sequence {error}; {hint}") from error
    model = read_reconstruction(model_folder, observations=False)
    makers: list[tuple[str, Callable[[], Frame]]] = []

    def frame(image: RegisteredImage, camera: Camera, path: Path) -> Frame:
        pose = check_pose(image.camera_from_world, f"{model_folder}, {image.name}")
        return _frame(image.name, path, *_intrinsics(camera, path), pose, depth_of(image.name))

    for image in sorted(model.images.values(), key=lambda image: natural_key(image.name)):
        path = pictures / image.name
        if not path.is_file():
            continue
        camera = model.cameras[image.camera_id]
        if not camera.is_pinhole:
            raise SequenceError(
                f"{model_folder}: camera {camera.camera_id} ({camera.model}) distorts, but depth maps belong to "
                "undistorted pictures; run COLMAP's image_undistorter on the model, and give its output"
            )
        makers.append((image.name, partial(frame, image, camera, path)))
    if not makers:
        raise SequenceError(
            f"sequence {folder}: none of the {len(model.images)} pictures of its model is in {pictures}"
        )
    frames, unusable = made_of_usable(makers, f"sequence {folder}", SequenceError)
    notes = [*model.notes, *unusable]
    if len(makers) < len(model.images):
        notes.append(f"{len(model.images) - len(makers)} of {len(model.images)} pictures of the model are not there")
    return frames, notes + _without_depth(frames)


def _without_depth(frames: list[Frame]) -> list[str]:
    missing = sum(frame.read_depth is None for frame in frames)
    return [f"{missing} of {len(frames)} pictures have no depth map"] if missing else []


def _intrinsics(camera: Camera, path: Path) -> tuple[NDArray[np.float64], Size]:
    """Of the stored picture, which may be smaller than the model's, and its size."""
    size = image_size(path)
    return _resized(camera.size, size, path, "the model's camera") @ camera.intrinsics, size


def _resized(from_size: Size, to_size: Size, path: Path, what: str) -> NDArray[np.float64]:
    """`resize_matrix`, if both sizes are of one shape."""
    scales = to_size[0] / from_size[0], to_size[1] / from_size[1]
    if abs(scales[0] / scales[1] - 1) > SIZE_TOLERANCE:
        raise SequenceError(
            f"{path}: {to_size[0]}x{to_size[1]} pixels are of another shape than {what}, "
            f"{from_size[0]}x{from_size[1]}; does it belong to the undistorted picture?"
        )
    return resize_matrix(from_size, to_size)


def _frame(
    name: str,
    image: Path,
    intrinsics: NDArray[np.float64],
    size: Size,
    camera_from_world: NDArray[np.float64],
    depth: Path | None,
) -> Frame:
    return Frame(
        name=name,
        size=size,
        intrinsics=intrinsics,
        camera_from_world=camera_from_world,
        read_image=partial(read_image, image),
        read_depth=None if depth is None else partial(_read_depth, depth, intrinsics, size),
    )


def _read_depth(path: Path, intrinsics: NDArray[np.float64], size: Size) -> NDArray[np.float32]:
    """Depth for every pixel of the picture."""
    depth, _ = read_depth_map(path)
    depth_size = (depth.shape[1], depth.shape[0])
    if depth_size == size:
        return depth
    return resample_depth(depth, _resized(size, depth_size, path, "its picture") @ intrinsics, intrinsics, size)


def _read_validation(folder: Path) -> FrameSet:
    image_root, depth_root = folder / "images", folder / "depth_maps"
    images = list_images(image_root)
    calibrations = {image: folder / "calibration" / f"calibration_{image.stem}.h5" for image in images}

    def frame(image: Path, calibration: Path) -> Frame:
        intrinsics, rotation, translation = read_arrays(calibration, "K", "R", "T")
        if intrinsics.shape != (3, 3) or rotation.shape != (3, 3) or translation.size != 3:
            raise SequenceError(f"{calibration}: expected K and R of 3x3 and T of 3 numbers")
        intrinsics = intrinsics.astype(np.float64)
        intrinsics[:2, 2] = pixel_from_colmap(intrinsics[:2, 2])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, translation.ravel()
        depth = depth_root / f"{image.stem}.h5"
        name = image.relative_to(image_root).as_posix()
        known = depth if depth.is_file() else None
        return _frame(name, image, intrinsics, image_size(image), check_pose(pose, calibration), known)

    calibrated = [(image.name, partial(frame, image, path)) for image, path in calibrations.items() if path.is_file()]
    frames, unusable = made_of_usable(calibrated, f"sequence {folder}", SequenceError)
    if not frames:
        raise SequenceError(f"sequence {folder}: no picture has a calibration/calibration_NAME.h5")
    total, known = len(images), len(calibrated)
    notes = [f"{total - known} of {total} pictures have no calibration"] if known < total else []
    notes += [*unusable, *_without_depth(frames)]
    return FrameSet("image-matching-benchmark", folder, frames, image_root, depth_root, notes)
