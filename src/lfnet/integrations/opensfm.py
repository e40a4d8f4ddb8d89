"""OpenSfM's feature files: `features/<picture>.features.npz` in the folder of a data set.

A file holds `points` (N, 4): x, y and size over the long side, and angle in degrees; `descriptors` (N, D); `colors`
(N, 3), red, green and blue in [0, 255]; three empty arrays where nothing is segmented; and the version, 3.

Source: github.com/mapillary/OpenSfM, opensfm/features.py.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size, opensfm_from_pixel, pixel_from_opensfm
from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.files.atomic import write_bytes
from lfnet.integrations.opencv import PATCH_PIXELS

VERSION = 3
"""Of the file; OpenSfM writes it since it stores no pickles any more."""

SIZE_PIXELS = PATCH_PIXELS / 6
"""Size in pixels of a keypoint of scale 1. OpenSfM takes a keypoint's size for the deviation of its place, and its own
are those of SIFT and HAHOG, whose descriptors cover some 6 times the size (Lowe 2004, section 6.1)."""


def write_opensfm(path: str | Path, features: Features, image: NDArray) -> None:
    """Write the features of one picture.

    Args:
        path: `features/<picture>.features.npz`, where `<picture>` has its extension; replaced in one step.
        features: in pixels of the picture.
        image: (H, W) grey or (H, W, 3) RGB, uint8, that keypoints take their colours from.

    Raises:
        ValueError: the picture has another size than the features say.
        OSError: the file can't be written.
    """
    width, height = features.image_size
    if image.shape[:2] != (height, width):
        raise UserError(f"image: expected {width}x{height} px, got {image.shape[1]}x{image.shape[0]}")
    column, row = np.clip(np.rint(features.keypoints), 0, (width - 1, height - 1)).astype(int).T
    colours = image[row, column]
    points = np.empty((len(features), 4), np.float32)
    points[:, :2] = opensfm_from_pixel(features.keypoints, features.image_size)
    points[:, 2] = SIZE_PIXELS * features.scales / max(features.image_size)
    points[:, 3] = np.degrees(features.orientations) % 360
    content = io.BytesIO()
    np.savez_compressed(
        content,
        points=points,
        descriptors=features.descriptors,
        colors=np.repeat(colours[:, None], 3, axis=1) if colours.ndim == 1 else colours,
        segmentations=[],
        instances=[],
        segmentation_labels=[],
        OPENSFM_FEATURES_VERSION=VERSION,
    )
    write_bytes(path, content.getvalue())


def read_opensfm(path: str | Path, image_size: Size) -> Features:
    """Read the features of one picture, by any of OpenSfM's detectors.

    Args:
        path: of the file.
        image_size: (width, height) of the picture, in pixels, which the file does not say.

    Returns:
        Features with score 0, which the file does not say either.

    Raises:
        UserError: the file is missing or is none of OpenSfM's.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; expected features/<picture>.features.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            points, descriptors = np.asarray(file["points"], np.float64), file["descriptors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a features file of OpenSfM ({type(error).__name__})") from error
    angles = np.radians(points[:, 3])
    return Features(
        pixel_from_opensfm(points[:, :2], image_size).astype(np.float32),
        (points[:, 2] * max(image_size) / SIZE_PIXELS).astype(np.float32),
        np.arctan2(np.sin(angles), np.cos(angles)).astype(np.float32),
        np.zeros(len(points), np.float32),
        descriptors,
        image_size,
    )
