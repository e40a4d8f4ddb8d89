"""Numbers that come in text files beside a recording: matrices and intrinsics, checked."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.data.frames import SequenceError
from lfnet.files.reading import read_text_file


def read_matrix(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers of a text file; lines may break anywhere.

    Args:
        path: numbers separated by white space.
        shape: expected; -1 in the first place stands for any number of rows.

    Raises:
        SequenceError: the file can't be read, or holds another number of numbers.
    """
    text = read_text_file(path, SequenceError, f"numbers of shape {shape}")
    try:
        with warnings.catch_warnings():
            # NumPy warns of an empty file; here that is an error of its own.
            warnings.simplefilter("ignore", UserWarning)
            values = np.loadtxt(io.StringIO(text), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise SequenceError(f"{path}: expected numbers of shape {shape}, cannot be read ({error})") from error
    entries = int(np.prod(np.abs(shape)))
    if values.size == 0 or (values.size % entries if -1 in shape else values.size != entries):
        raise SequenceError(f"{path}: expected {shape}, got {values.shape}")
    return values.reshape(shape)


def check_intrinsics(intrinsics: NDArray[np.float64], size: Size, source: Path | str) -> NDArray[np.float64]:
    """The intrinsics themselves, if they can belong to a picture of this size.

    Args:
        intrinsics: 3x3.
        size: (width, height), pixels.
        source: named in the error.

    Raises:
        SequenceError: no numbers, no focal length, or a principal point outside of the picture.
    """
    if not np.isfinite(intrinsics).all() or min(intrinsics[0, 0], intrinsics[1, 1]) <= 0:
        raise SequenceError(f"{source}: expected 3x3 intrinsics with focal lengths above 0, got {intrinsics.tolist()}")
    x, y = intrinsics[0, 2], intrinsics[1, 2]
    if not (0 < x < size[0] and 0 < y < size[1]):
        raise SequenceError(
            f"{source}: the principal point ({x:g}, {y:g}) lies outside of a picture of {size[0]}x{size[1]}; are these "
            "the intrinsics of pictures of another size? Scale them to these pictures"
        )
    return intrinsics


def invert_pose(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera-from-world of world-from-camera, 4x4, and the other way round."""
    return np.linalg.inv(pose).astype(np.float64)
