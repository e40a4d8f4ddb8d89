"""Keypoints and matches drawn on pictures, with OpenCV alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from lfnet.features import Features, Matches
from lfnet.images import shrink
from lfnet.matching_score import Projection, match_errors

if TYPE_CHECKING:
    from lfnet.evaluation.data.truth import Truth

GREEN = (60, 200, 80)
RED = (225, 60, 50)
YELLOW = (250, 210, 40)

RIGHT_WITHIN = 5.0
"""Pixels from the true place within which a match is drawn as right: the matching score's widest threshold."""

_GAP = 8
"""Pixels between the two pictures."""

_SUBPIXEL_BITS = 4
"""Fractional bits of the positions that OpenCV draws at."""


def draw_matches(
    image_a: NDArray[np.uint8],
    image_b: NDArray[np.uint8],
    features_a: Features,
    features_b: Features,
    matches: Matches,
    correct: ArrayLike | None = None,
    *,
    long_side: int | None = 1280,
) -> NDArray[np.uint8]:
    """Two pictures side by side, with a line for each match.

    Args:
        image_a: (H, W) grey or (H, W, 3) RGB.
        image_b: the same.
        features_a: in pixels of image_a.
        features_b: in pixels of image_b.
        matches: between them.
        correct: (M,) bool, drawn green where true and red, first and thus beneath, where false; None: each
            line has a colour of its own, by its position in a.
        long_side: of each picture, in pixels; None: as large as they are.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        ValueError: `correct` has another length than the matches.
    """
    left, features_a = _prepared(image_a, features_a, long_side)
    right, features_b = _prepared(image_b, features_b, long_side)
    shift = left.shape[1] + _GAP
    canvas = np.zeros((max(len(left), len(right)), shift + right.shape[1], 3), np.uint8)
    canvas[: len(left), : left.shape[1]] = left
    canvas[: len(right), shift:] = right
    starts = features_a.keypoints[matches.indices[:, 0]]
    ends = features_b.keypoints[matches.indices[:, 1]] + np.array([shift, 0], np.float32)
    order, colours = _line_colours(starts, correct, left.shape[1])
    for index in order:
        start, end = _fixed(starts[index]), _fixed(ends[index])
        cv2.line(canvas, start, end, colours[index], 1, cv2.LINE_AA, _SUBPIXEL_BITS)
        for place in (start, end):
            cv2.circle(canvas, place, 3 << _SUBPIXEL_BITS, colours[index], 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def judged(
    truth: Truth, features_a: Features, features_b: Features, indices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Matches whose true place is known, and whether each is right.

    Args:
        truth: geometry in the pixels of the features.
        features_a: of the first picture.
        features_b: of the second.
        indices: (M, 2) matches.

    Returns:
        (K, 2) those of the matches that can be judged, in their order, and (K,) whether they are within
        `RIGHT_WITHIN` of the true place.
    """
    places = Projection(*truth.b_from_a(features_a.keypoints[indices[:, 0]]))
    errors = match_errors(places, features_b.keypoints, indices[:, 1])
    known = ~np.isnan(errors)
    return indices[known], errors[known] <= RIGHT_WITHIN


def jpeg(picture: NDArray[np.uint8] | Image.Image, quality: int) -> bytes:
    """A picture as a JPEG file. Its colours are kept at every pixel: at half of them thin lines turn grey."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, "JPEG", quality=quality, optimize=True, subsampling=0)
    return buffer.getvalue()


def _line_colours(
    starts: NDArray[np.float32], correct: ArrayLike | None, width: int
) -> tuple[NDArray[np.int64], list[tuple[int, ...]]]:
    """The order to draw in, and the colour of each line."""
    if correct is None:
        hues = np.clip(starts[:, 0] / max(width, 1) * 150, 0, 179).astype(np.uint8)
        hsv = np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], axis=1)[None]
        rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0] if len(starts) else np.zeros((0, 3), np.uint8)
        return np.arange(len(starts)), [tuple(map(int, colour)) for colour in rgb]
    right = np.asarray(correct, bool)
    if right.shape != (len(starts),):
        raise ValueError(f"correct must have shape ({len(starts)},), one for each match, got {right.shape}")
    return np.argsort(right, kind="stable"), [GREEN if good else RED for good in right]


def _prepared(
    image: NDArray[np.uint8], features: Features, long_side: int | None
) -> tuple[NDArray[np.uint8], Features]:
    small = shrink(np.asarray(image), long_side)
    colour = np.repeat(small[:, :, None], 3, axis=2) if small.ndim == 2 else small
    return np.array(colour, np.uint8, order="C"), features.resized((small.shape[1], small.shape[0]))


def _fixed(position: NDArray) -> tuple[int, int]:
    x, y = np.rint(np.asarray(position, np.float64) * (1 << _SUBPIXEL_BITS)).astype(int)
    return int(x), int(y)
