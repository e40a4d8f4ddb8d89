"""Features of two pictures as a file to take away."""

from __future__ import annotations

import csv
import io
from typing import Any

import h5py
import numpy as np

from lfnet.app.requests import DownloadRequest
from lfnet.features import Features
from lfnet.files.containment import stays_inside
from lfnet.files.hdf5_reading import write_text
from lfnet.integrations import hloc
from lfnet.integrations.arrays import to_arrays

LONGEST_NAME = 120
"""Characters of a picture's name that are kept."""


def features_file(request: DownloadRequest, features: list[Features]) -> bytes:
    """The file.

    Args:
        request: its format, the names of the pictures, and how the second was held.
        features: of both pictures.

    Returns:
        `h5`: hloc's layout; `npz`: the fields of `Features`, named `first_…` and `second_…`; `csv`: a row a keypoint.
    """
    if request.format == "h5":
        return _hdf5(request, features)
    if request.format == "npz":
        return _npz(request, features)
    return _csv(features)


def picture_names(names: tuple[str, ...]) -> tuple[str, str]:
    """Two different names that a group of an HDF5 file may have; `first` and `second` in place of others."""
    cleaned = []
    for name, plain in zip((*names, "", "")[:2], ("first", "second"), strict=True):
        last = "".join(letter for letter in name if letter.isprintable()).replace("\\", "/").rpartition("/")[2]
        cleaned.append(last[-LONGEST_NAME:] if stays_inside(last) and last != "." else plain)
    return (cleaned[0], cleaned[1] if cleaned[1] != cleaned[0] else f"second-{cleaned[1]}")


def _hdf5(request: DownloadRequest, features: list[Features]) -> bytes:
    with h5py.File("features", "w", driver="core", backing_store=False) as file:
        hloc.describe_frame(file)
        write_text(file, "frame", "upright")
        write_text(file, "frame_note", "pixels of the picture turned upright by its EXIF orientation; see pose_note")
        write_text(file, "pose_note", _pose_note(request))
        for name, each in zip(picture_names(request.names), features, strict=True):
            hloc.write_features(file, name, each)
        file.flush()
        return file.id.get_file_image()


def _npz(request: DownloadRequest, features: list[Features]) -> bytes:
    arrays: dict[str, Any] = {
        f"{side}_{name}": values
        for side, each in zip(("first", "second"), features, strict=True)
        for name, values in to_arrays(each).items()
    }
    pose = request.match.pose
    arrays["second_turn_and_zoom"] = np.array([pose.turn, pose.zoom])
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _csv(features: list[Features]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    dimension = features[0].descriptors.shape[1]
    values = [f"descriptor_{index}" for index in range(dimension)]
    writer.writerow(["picture", "x", "y", "scale", "orientation", "score", *values])
    for side, each in zip(("first", "second"), features, strict=True):
        columns = (each.keypoints, each.scales, each.orientations, each.scores, each.descriptors)
        for row in np.column_stack(columns).astype(np.float32):
            writer.writerow([side, *(f"{value:.6g}" for value in row)])
    return text.getvalue().encode()


def _pose_note(request: DownloadRequest) -> str:
    pose = request.match.pose
    return f"the second picture was turned by {pose.turn:g} degrees clockwise and zoomed by {pose.zoom:g} in its frame"
