"""Small clips, made by OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def turned_and_zoomed(picture: NDArray[np.uint8], frames: int, degrees: float, zoom: float) -> list[NDArray[np.uint8]]:
    """The picture, turned bit by bit by `degrees` and zoomed by `zoom` on the way."""
    height, width = picture.shape[:2]
    views = []
    for number in range(frames):
        share = number / max(frames - 1, 1)
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees * share, zoom**share)
        views.append(cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT))
    return [np.asarray(view, np.uint8) for view in views]


def write_clip(path: Path, frames: list[NDArray[np.uint8]], rate: float = 25.0) -> Path:
    """RGB frames as MP4."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path
