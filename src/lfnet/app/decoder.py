"""Files of strangers into pixels: what the decoding process does."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.errors import UserError
from lfnet.images import ImageError, decode_image, shrink

LONGEST = 1280
"""Long side in pixels at which pictures are kept: the page shows and works on no more."""
SHORTEST = 32
"""Short side in pixels below which a picture has no room for keypoints."""


@dataclass(frozen=True)
class Decoded:
    """A picture, upright and at most `LONGEST` long."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    size: Size
    """(width, height) of the picture in the file, upright, in pixels."""


class Decoder:
    """Decodes pictures of at most so many pixels.

    Args:
        max_pixels: largest width times height.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        cv2.setNumThreads(1)

    def decode(self, content: bytes) -> Decoded:
        """The picture of a file.

        Args:
            content: the whole file.

        Raises:
            UserError: the message says why not, without the file's name, which is not known here.
        """
        try:
            pixels = decode_image(content, "picture", max_pixels=self.max_pixels, exif_rotate=True)
        except ImageError as error:
            raise UserError(error.cause) from error
        height, width = pixels.shape[:2]
        if min(width, height) < SHORTEST:
            raise UserError(f"{width} x {height} pixels are too few, expected at least {SHORTEST} each way")
        return Decoded(np.ascontiguousarray(shrink(pixels, LONGEST)), (width, height))
