"""Depth maps that other tools made, at the size of the scene's pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size, resize_matrix
from lfnet.data.depth_maps import read_depth_map, read_picture_name
from lfnet.preparation.steps import PreparationError

DEPTH_NAMES = ("{name}.geometric.bin", "{name}.photometric.bin", "{name}.h5", "{stem}.h5", "{stem}.dmap")
"""What the depth map of a picture may be called: COLMAP's, HDF5 by either name, OpenMVS's if it was renamed."""


def find_depth_maps(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The depth maps of pictures in a folder: by the names that tools give them, or for OpenMVS (`depth0000.dmap`) by
    the picture that their header names.

    Args:
        folder: to look in.
        names: of pictures, as in the model.

    Returns:
        The map of each picture that has one. A map in no subfolder counts for a picture in one only where no other
        picture has the same file name.

    Raises:
        SequenceError: the header of a `.dmap` can't be read.
    """
    if not folder.is_dir():
        return {}
    last = Counter(Path(name).stem for name in names)
    by_header = {Path(read_picture_name(path).replace("\\", "/")).stem: path for path in sorted(folder.glob("*.dmap"))}
    found = {}
    for name in names:
        stems = [str(Path(name).with_suffix(""))]
        if last[Path(name).stem] == 1:
            stems.append(Path(name).stem)
        candidates = [folder / pattern.format(name=name, stem=stem) for pattern in DEPTH_NAMES for stem in stems]
        if last[Path(name).stem] == 1 and Path(name).stem in by_header:
            candidates.append(by_header[Path(name).stem])
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is not None:
            found[name] = path
    return found


def import_depth(path: Path | None, size: Size, intrinsics: NDArray[np.float64]) -> NDArray[np.float32]:
    """A depth map of another tool at the size of its picture; empty where there is none.

    Args:
        path: of the map.
        size: (width, height) of the picture.
        intrinsics: of the picture, 3x3.

    Raises:
        PreparationError: the map shows another part of the scene than the picture.
    """
    if path is None:
        return np.zeros((size[1], size[0]), np.float32)
    depth, own = read_depth_map(path)
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
    stored = (depth.shape[1], depth.shape[0])
    if stored == size:
        return depth
    if own is None and abs(stored[0] / stored[1] - size[0] / size[1]) > 0.02 * size[0] / size[1]:
        raise PreparationError(
            f"{path}: {stored[0]}x{stored[1]} beside a picture of {size[0]}x{size[1]}, and no calibration tells how "
            "they fit; make depth maps of the undistorted pictures, or measure depth anew by --measure-depth"
        )
    picture_from_depth = resize_matrix(stored, size) if own is None else intrinsics @ np.linalg.inv(own)
    return cv2.warpPerspective(depth, picture_from_depth, size, flags=cv2.INTER_NEAREST).astype(np.float32)
