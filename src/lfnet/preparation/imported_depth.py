"""Depth maps that other tools made, at the size of the scene's pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size, resize_matrix
from lfnet.data.depth_maps import read_depth_map
from lfnet.preparation.steps import PreparationError

DEPTH_NAMES = ("{name}.geometric.bin", "{name}.photometric.bin", "{name}.h5", "{stem}.h5", "{stem}.dmap", "{name}.dmap")
"""What the depth map of a picture may be called: COLMAP's, HDF5 by either name, OpenMVS's."""


def find_depth_map(folder: Path, name: str) -> Path | None:
    """The depth map of a picture, by the names that tools give them."""
    path = Path(name)
    for pattern in DEPTH_NAMES:
        for stem in (str(path.with_suffix("")), path.stem):
            candidate = folder / pattern.format(name=name, stem=stem)
            if candidate.is_file():
                return candidate
    return None


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
