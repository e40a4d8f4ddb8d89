"""A clip or a camera, matched frame by frame against one frame that was frozen, and drawn."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.features import Features
from lfnet.images import shrink
from lfnet.matching import mutual_nearest_neighbours, verify
from lfnet.models.config import ExtractionSettings
from lfnet.reports.drawing import GREEN, YELLOW, draw_matches

if TYPE_CHECKING:
    from lfnet.models.lfnet import LFNet

_MOMENTUM = 0.8
"""Share of what the frames before say in the seconds a frame takes that are shown."""


@dataclass(frozen=True)
class LiveSettings:
    """What is found and drawn."""

    max_keypoints: int = 512
    """Keypoints of a frame."""
    long_side: int = 640
    """Long side in pixels that frames are worked at and drawn at."""
    threshold: float = 4.0
    """Largest error, in pixels, of a match on the homography that is drawn."""


class LiveCounts(NamedTuple):
    """What was found in one frame."""

    keypoints: int
    matches: int
    """With the frozen frame."""
    inliers: int
    """Of the matches, those on one homography."""
    seconds: float
    """That finding and matching took."""


class LiveFrame(NamedTuple):
    """One frame, done."""

    image: NDArray[np.uint8]
    """The frozen frame and this one, with matches and numbers, (H, W, 3) RGB."""
    counts: LiveCounts


class Live:
    """Matches each frame against the frozen one.

    Args:
        model: the network.
        settings: what is found and drawn.
    """

    def __init__(self, model: LFNet, settings: LiveSettings | None = None) -> None:
        self._model, self._settings = model, settings or LiveSettings()
        self._frozen: tuple[NDArray[np.uint8], Features] | None = None
        self._seconds: float | None = None

    def freeze_next(self) -> None:
        """Match against the next frame from now on."""
        self._frozen = None

    def frames(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[LiveFrame]:
        """Each frame, matched against the first, or the first after `freeze_next`.

        Args:
            frames: (H, W, 3) RGB.
        """
        for frame in frames:
            began = time.perf_counter()
            small = shrink(frame, self._settings.long_side)
            wanted = ExtractionSettings(max_keypoints=self._settings.max_keypoints)
            features = self._model.extract([small], settings=wanted)[0]
            if self._frozen is None:
                self._frozen = small, features
            reference, known = self._frozen
            matches = mutual_nearest_neighbours(known, features)
            inliers, _ = verify(known, features, matches, "homography", threshold=self._settings.threshold)
            took = time.perf_counter() - began
            self._seconds = took if self._seconds is None else _MOMENTUM * self._seconds + (1 - _MOMENTUM) * took
            right = np.ones(len(inliers), bool)
            drawn = draw_matches(reference, small, known, features, inliers, right, long_side=None)
            shift = drawn.shape[1] - small.shape[1]
            _draw_keypoints(drawn, known, 0)
            _draw_keypoints(drawn, features, shift)
            said = f"{len(features)} keypoints, {len(inliers)} of {len(matches)} matches on one homography"
            _write(drawn, f"{1 / self._seconds:.1f} frames/s   {said}")
            yield LiveFrame(drawn, LiveCounts(len(features), len(matches), len(inliers), took))


def _draw_keypoints(canvas: NDArray[np.uint8], features: Features, shift: int) -> None:
    for x, y in np.rint(features.keypoints).astype(int):
        cv2.circle(canvas, (int(x) + shift, int(y)), 1, YELLOW, -1, cv2.LINE_AA)


def _write(canvas: NDArray[np.uint8], text: str) -> None:
    size = max(0.3, min(0.5, canvas.shape[1] / 1600))
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    cv2.rectangle(canvas, (0, 0), (width + 12, height + base + 8), (0, 0, 0), -1)
    cv2.putText(canvas, text, (6, height + 4), cv2.FONT_HERSHEY_SIMPLEX, size, GREEN, 1, cv2.LINE_AA)
