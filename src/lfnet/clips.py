"""Frames of clips and cameras, read one after the other by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.files.atomic import naming, regular
from lfnet.images import ImageError

EXTENSIONS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts"})
"""What counts as a clip."""


def is_clip(path: Path) -> bool:
    """Whether a file's name says that it is a clip."""
    return path.suffix.lower() in EXTENSIONS


@contextmanager
def _opened(source: Path | int) -> Iterator[cv2.VideoCapture]:
    if isinstance(source, Path) and not source.is_file():
        raise ImageError(source, "no such file", "check the path")
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened():
            if isinstance(source, int):
                raise ImageError(
                    f"camera {source}", "can't be opened", "check its number, and that no other program has it"
                )
            raise ImageError(source, "not a clip that OpenCV can decode", "convert it to MP4 (H.264)")
        yield capture
    finally:
        capture.release()


def read_frames(source: Path | int, every: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames of a clip, or of a camera until it ends.

    Args:
        source: a file, or a camera's number.
        every: frames from one to the next that is given; those between are not turned into pictures.

    Yields:
        The frame's number, from 0, and it as RGB (H, W, 3), turned as the file says that it is to be shown.

    Raises:
        ImageError: it can't be opened, or has no frame.
    """
    with _opened(source) as capture:
        number = 0
        while capture.grab():
            if number % every == 0:
                there, frame = capture.retrieve()
                if there:
                    yield number, np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
            number += 1
        if number == 0:
            raise ImageError(str(source), "has no frame that can be read", "check that it plays")


def frames_per_second(source: Path | int) -> float:
    """As the file says, or the camera; 25 where neither does.

    Raises:
        ImageError: it can't be opened.
    """
    with _opened(source) as capture:
        rate = capture.get(cv2.CAP_PROP_FPS)
    return float(rate) if np.isfinite(rate) and 0 < rate <= 1000 else 25.0


def count_frames(path: Path) -> int:
    """How many frames a file says that it has, which may be wrong by some; 0 where it says nothing.

    Raises:
        ImageError: it can't be opened.
    """
    with _opened(path) as capture:
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if np.isfinite(count) and count > 0 else 0


class ClipWriter:
    """A clip that is made frame by frame, MP4; there under its name once it is closed.

    Args:
        path: of the file, ending in .mp4.
        rate: frames a second.

    Raises:
        ImageError: it can't be written.
        OSError: the path is a folder, a device or a pipe.
    """

    def __init__(self, path: Path, rate: float) -> None:
        if path.suffix.lower() != ".mp4":
            raise ImageError(path, "not a name for a clip", "end it in .mp4")
        self._path, self._rate, self._target = path, rate, regular(path)
        self._partial = self._target.with_name(f".{self._target.stem}.partial.mp4")
        self._writer: cv2.VideoWriter | None = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        """One more frame, (H, W, 3) RGB, of the size of the first."""
        height, width = frame.shape[:2]
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._partial), code, self._rate, (width, height))
            if not self._writer.isOpened():
                self._partial.unlink(missing_ok=True)
                raise ImageError(self._path, "can't be written", "check its folder")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def discard(self) -> None:
        """Leave what stood under the name before as it was."""
        if self._writer is not None:
            self._writer.release()
            self._partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            with naming(self._path):
                self._partial.replace(self._target)
