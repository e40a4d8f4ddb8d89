"""Sample images for the page: those that scikit-image comes with, encoded when they are first asked for."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image

NAMES = ("motorcycle-left", "motorcycle-right", "coffee", "cat")
QUALITY = 92
"""Of the JPEG."""


@functools.cache
def sample_jpeg(name: str) -> bytes:
    """A sample as JPEG.

    Args:
        name: one of `NAMES`. The motorcycle is a stereo pair (Scharstein et al., "High-resolution stereo datasets",
            2014).

    Raises:
        KeyError: there is no such sample.
    """
    from skimage import data

    if name.startswith("motorcycle"):
        pixels = data.stereo_motorcycle()[NAMES.index(name)]
    else:
        pixels = {"coffee": data.coffee, "cat": data.chelsea}[name]()
    content = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
