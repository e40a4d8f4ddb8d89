"""Collections of posed pictures: COLMAP models, photographs with cameras and depth, and folders with cameras alone."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lfnet.data.frames import Frame, SequenceError, check_pose
from lfnet.data.layouts import LAYOUTS, read_frames
from lfnet.data.left_out import made_of_usable
from lfnet.data.reconstructions.colmap_files import find_model, find_pictures, has_model, read_reconstruction
from lfnet.data.recordings.calibration import check_intrinsics, invert_pose, read_matrix
from lfnet.errors import UserError
from lfnet.evaluation.data.measured_frames import MeasuredFrames, evenly
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.image_files import find_images, natural_key
from lfnet.images import image_size, read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Float, Int, UInt8
    from numpy import ndarray as Array

    from lfnet.data.reconstructions.colmap_model import Reconstruction
    from lfnet.evaluation.data.data_settings import DataSettings

COLLECTIONS = ("image-matching-benchmark", "megadepth")
"""Names in `LAYOUTS` of those whose frames are in no order of time."""
MAX_OVERLAP = 0.7
"""Pairs that share more show almost the same view: their motion is short, and its direction hardly known."""
OVERSAMPLING = 5
"""Pairs whose overlap is measured through depth, at most, for each that is wanted."""


def is_collection(path: Path) -> bool:
    """Whether a folder is a collection of photographs with cameras and depth."""
    return path.is_dir() and any(LAYOUTS[name].detect(path) for name in COLLECTIONS)


def is_camera_folder(path: Path) -> bool:
    """Whether a folder has pictures, `K.txt` and `poses.txt`, but no depth."""
    parts = [path / name for name in ("K.txt", "poses.txt")]
    return all(part.is_file() for part in parts) and (path / "images").is_dir() and not (path / "depth").is_dir()


def is_model(path: Path) -> bool:
    """Whether a folder is a COLMAP model, or holds one."""
    return path.is_dir() and has_model(path)


def open_collection(path: Path, settings: DataSettings) -> Dataset:
    """Pairs of MegaDepth or of the Image Matching Benchmark that share enough through depth, and not almost all.

    Args:
        path: folder of the scene.
        settings: overlap, size, number of pairs.

    Raises:
        ValueError: it can't be read, or no pair is left (SequenceError is one).
        OSError: it can't be read.
    """
    collection = read_frames(path)
    deep = [frame for frame in collection.frames if frame.read_depth is not None]
    frames = MeasuredFrames(deep, settings.long_side)
    skipped = [f"{path.name}: {note}" for note in collection.notes]
    seeing = []
    names = list(frames.frames)
    for name_a, name_b in evenly(list(combinations(names, 2)), OVERSAMPLING * settings.max_pairs):
        try:
            overlap = frames.overlap(name_a, name_b)
        except Unmeasured as error:
            skipped.append(f"{name_a} - {name_b}: {error}")
            continue
        if settings.min_overlap <= overlap <= MAX_OVERLAP:
            seeing.append((name_a, name_b))
    return _dataset(path, "posed pictures", frames, seeing, settings, skipped, {"layout": collection.layout})


def open_camera_folder(path: Path, settings: DataSettings) -> Dataset:
    """Pairs by gap of a folder with `images/`, `K.txt` (3x3) and `poses.txt` (world-from-camera, a line a picture).

    Without depth, what two pictures share is not known: pairs whose optical axes are more than a picture's angle apart
    are left out.

    Args:
        path: the folder.
        settings: frames, gaps, size, number of pairs.

    Raises:
        ValueError: files are missing or don't fit together, or no pair is left (SequenceError is one).
        OSError: it can't be read.
    """
    intrinsics = read_matrix(path / "K.txt", (3, 3))
    poses = read_matrix(path / "poses.txt", (-1, 4, 4))
    root = path / "images"
    found = find_images(root)
    images = found.paths
    if len(images) != len(poses):
        raise SequenceError(f"{path}: expected as many pictures as poses, got {len(images)} and {len(poses)}")

    def frame(image: Path, pose: Float[Array, "4 4"]) -> Frame:
        camera_from_world = invert_pose(check_pose(pose, path / "poses.txt"))
        return _frame(image.relative_to(root).as_posix(), image, intrinsics, camera_from_world)

    makers = [(image.name, partial(frame, image, pose)) for image, pose in zip(images, poses, strict=True)]
    posed, unusable = made_of_usable(makers, f"{path}", SequenceError)
    frames = MeasuredFrames(posed, settings.long_side)
    names, skipped = list(frames.frames), [f"{path.name}: {note}" for note in (*found.passed_over, *unusable)]
    first, end = settings.frames or (0, len(names))
    if end > len(names):
        raise UserError(f"{path}: frames end at {end}, but it has {len(names)} pictures")
    chosen = [
        (names[start], names[start + gap])
        for gap in settings.gaps
        for start in range(first, end - gap)
        if _axes_apart(posed[start], posed[start + gap]) <= _angle_of_view(posed[start])
    ]
    described = {"layout": "cameras", "frames": [first, end]}
    return _dataset(path, "posed pictures", frames, chosen, settings, skipped, described)


def open_model(path: Path, settings: DataSettings) -> Dataset:
    """Pairs of a COLMAP model that share 10 % (`min_overlap`) to 70 % of the sparse points of the one that has fewer.

    Distortion is undone where pictures are read.

    Args:
        path: the model, or a folder that holds it.
        settings: overlap, size, number of pairs, and where the pictures are.

    Raises:
        ValueError: there are no pictures, or no pair is left (ReconstructionError is one).
        OSError: it can't be read.
    """
    folder = find_model(path)
    model = read_reconstruction(folder)
    root = settings.images or find_pictures(path)
    if root is None:
        raise UserError(f"{path}: no pictures in images/ beside the model; say where they are (--images FOLDER)")
    posed, skipped = _frames_of_model(model, root, folder)
    frames = MeasuredFrames(posed, settings.long_side)
    skipped += [f"{name}: the model has it more than once; the first counts" for name in frames.twice]
    pairs = pairs_by_points(model, set(frames.frames), settings.min_overlap)
    return _dataset(path, "COLMAP model", frames, pairs, settings, skipped, {"max_overlap": MAX_OVERLAP})


def pairs_by_points(
    model: Reconstruction, names: set[str], least: float, most: float = MAX_OVERLAP
) -> list[tuple[str, str]]:
    """Pairs of pictures by the share of sparse points that the one with fewer has in common with the other.

    Args:
        model: with observations.
        names: pictures to take.
        least: smallest share.
        most: largest share.

    Returns:
        names, in natural order.
    """
    images = sorted((each for each in model.images.values() if each.name in names), key=lambda e: natural_key(e.name))
    seen = [np.unique(image.point_ids) for image in images]
    counts = np.array([len(points) for points in seen])
    pairs = []
    for place, shared in enumerate(_shared_counts(seen)):
        fewer = np.maximum(np.minimum(counts[place], counts), 1)
        share = shared / fewer
        partners = np.flatnonzero((shared > 0) & (share >= least) & (share <= most))
        pairs += [(images[place].name, images[other].name) for other in partners if other > place]
    return pairs


def _shared_counts(seen: Sequence[Int[Array, " P"]]) -> list[Int[Array, " N"]]:
    """For each picture, how many of its points every picture sees."""
    points = np.concatenate([np.zeros(0, np.int64), *seen])
    pictures = np.repeat(np.arange(len(seen)), [len(each) for each in seen])
    order = np.argsort(points, kind="stable")
    points, pictures = points[order], pictures[order]
    counted = []
    for mine in seen:
        starts, ends = np.searchsorted(points, mine, "left"), np.searchsorted(points, mine, "right")
        places = np.repeat(starts - np.cumsum(ends - starts) + (ends - starts), ends - starts)
        places = places + np.arange(len(places))
        counted.append(np.bincount(pictures[places], minlength=len(seen)))
    return counted


def _frames_of_model(model: Reconstruction, root: Path, folder: Path) -> tuple[list[Frame], list[str]]:
    frames, skipped, missing = [], [], []
    for image in sorted(model.images.values(), key=lambda image: natural_key(image.name)):
        path = root / image.name
        if not path.is_file():
            missing.append(image.name)
            continue
        camera = model.cameras[image.camera_id]
        try:
            frame = _frame(image.name, path, camera.intrinsics, image.camera_from_world, camera.distortion)
            if frame.size != camera.size:
                expected = f"{camera.size[0]}x{camera.size[1]}"
                raise UserError(f"{frame.size[0]}x{frame.size[1]} pixels, but its camera has {expected}")
        except UserError as error:
            skipped.append(f"{image.name}: {error}")
            continue
        frames.append(frame)
    if missing:
        of_all = f"{len(missing)} of {len(model.images)} pictures of {folder}"
        skipped.append(f"{of_all} are not in {root}, the first: {missing[0]}")
    if not frames:
        raise UserError(f"{folder}: no picture of its model can be used; {skipped[0]}; is --images right?")
    return frames, skipped


def _frame(
    name: str,
    path: Path,
    intrinsics: Float[Array, "3 3"],
    camera_from_world: Float[Array, "4 4"],
    distortion: tuple[float, ...] = (),
) -> Frame:
    size = image_size(path)
    read: Callable[[], UInt8[Array, "H W *C"]] = partial(read_image, path)
    if distortion:
        read = partial(_undistorted, path, intrinsics, distortion)
    return Frame(
        name=name,
        size=size,
        intrinsics=check_intrinsics(intrinsics, size, path),
        camera_from_world=check_pose(camera_from_world, name),
        read_image=read,
        read_depth=None,
        distortion=distortion,
    )


def _undistorted(path: Path, intrinsics: Float[Array, "3 3"], distortion: tuple[float, ...]) -> UInt8[Array, "H W 3"]:
    image = read_image(path)
    return np.asarray(cv2.undistort(image, intrinsics, np.array(distortion)), np.uint8)


def _axes_apart(frame_a: Frame, frame_b: Frame) -> float:
    """Degrees between the directions that two cameras look in."""
    cosine = float(frame_a.camera_from_world[2, :3] @ frame_b.camera_from_world[2, :3])
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _angle_of_view(frame: Frame) -> float:
    """Degrees that the long side of a picture spans."""
    return float(2 * np.degrees(np.arctan2(0.5 * max(frame.size), frame.intrinsics[0, 0])))


def _dataset(
    path: Path,
    kind: str,
    frames: MeasuredFrames,
    pairs: list[tuple[str, str]],
    settings: DataSettings,
    skipped: list[str],
    described: dict[str, object],
) -> Dataset:
    if not pairs:
        causes = f"; the first of {len(skipped)} that were skipped: {skipped[0]}" if skipped else ""
        raise UserError(f"{path}: no two of {len(frames.frames)} pictures share enough, and not almost all{causes}")
    chosen = [
        EvaluationPair(
            name=f"{name_a} - {name_b}",
            group=name_a,
            picture_a=name_a,
            picture_b=name_b,
            truth=frames.truth(name_a, name_b),
            pose=frames.pose(name_a, name_b),
        )
        for name_a, name_b in evenly(list(dict.fromkeys(pairs)), settings.max_pairs)
    ]
    return Dataset(
        name=path.name,
        kind=kind,
        pairs=chosen,
        load=frames.load,
        unit="first pictures",
        settings={**described, "pairs_found": len(pairs)},
        skipped=skipped,
    )
