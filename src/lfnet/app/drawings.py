"""Maps as pictures that the page lays over pictures or shows beside them."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

UNSEEN = (44, 70, 120)
"""Red, green and blue of pixels of which nothing is known."""


def shown_scores(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """A score map in [0, 1] whose low values can be told apart by eye; its few highest are 1."""
    top = max(float(np.quantile(scores, 0.999)), 1e-9)
    return np.sqrt(np.clip(scores / top, 0, 1))


def heat(scores: NDArray[np.float32]) -> str:
    """A score map as a coloured WebP in a data URL, the clearer the lower the score."""
    shown = shown_scores(scores)
    colours = cv2.applyColorMap((90 + shown * 165).astype(np.uint8), cv2.COLORMAP_INFERNO)
    clear = np.dstack([colours, (np.clip(1.3 * shown, 0, 1) * 255).astype(np.uint8)])
    return data_url(np.asarray(clear, np.uint8), "webp", (cv2.IMWRITE_WEBP_QUALITY, 80))


def grey(plane: NDArray[np.float32], known: NDArray[np.bool_] | None = None) -> str:
    """A map in [0, 1] as a grey PNG in a data URL, blue where it is not known."""
    levels = (np.clip(plane, 0, 1) * 255).astype(np.uint8)
    colours = np.repeat(levels[:, :, None], 3, axis=2)
    if known is not None:
        colours[~known] = UNSEEN[::-1]
    return data_url(colours)


def data_url(picture: NDArray[np.uint8], kind: str = "png", options: tuple[int, ...] = ()) -> str:
    """A picture, in OpenCV's order of channels, as a file in a data URL."""
    _, content = cv2.imencode(f".{kind}", picture, options)
    return f"data:image/{kind};base64," + base64.b64encode(content.tobytes()).decode("ascii")
