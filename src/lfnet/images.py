"""Reading images: whatever the file or the caller holds, known values come out, or one line says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from lfnet.coordinates import Size
from lfnet.errors import UserError
from lfnet.image_decoding import ImageError as ImageError  # A name of this module too.
from lfnet.image_decoding import Stored, read_stored, stored_size

MAX_PIXELS = 100_000_000
"""Largest picture read unless asked otherwise: decoded to RGB it takes 300 MB."""

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Red, green and blue in grey: ITU-R BT.601, section 2.5.1, as OpenCV and Pillow use it."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, exif_rotate: bool = False) -> NDArray[np.uint8]:
    """Read an image as RGB, eight bits a channel.

    Sixteen bits are scaled by the image's largest value, 1023 at least; alpha is dropped; palettes, grey and CMYK
    become RGB.

    Args:
        path: file of one of the formats in `lfnet.image_decoding.ENDINGS`.
        max_pixels: largest width times height, checked in the header before anything is decoded.
        exif_rotate: turn the image upright as its EXIF orientation says; otherwise it stays as stored (the
            raw frame, which COLMAP and hloc work in). HEIC comes upright either way.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: the file is missing, is no image, is cut short, or is too large.
    """
    pixels = _eight_bits(path, read_stored(path, max_pixels), exif_rotate)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def decode_image(
    content: bytes, name: str, *, max_pixels: int = MAX_PIXELS, exif_rotate: bool = False
) -> NDArray[np.uint8]:
    """`read_image` of what a file holds.

    Args:
        content: of the file.
        name: of the image, for errors.
        max_pixels: as for `read_image`.
        exif_rotate: as for `read_image`.

    Raises:
        ImageError: as `read_image`.
    """
    pixels = _eight_bits(name, read_stored(name, max_pixels, content=content), exif_rotate)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def read_grey(path: str | Path, *, max_pixels: int = MAX_PIXELS, exif_rotate: bool = False) -> NDArray[np.uint8]:
    """Read an image as grey, eight bits: `grey_bytes` of `read_image`.

    Args:
        path: file, as for `read_image`.
        max_pixels: largest width times height, checked before decoding.
        exif_rotate: turn the image upright as its EXIF orientation says.

    Returns:
        (H, W) uint8.

    Raises:
        ImageError: as `read_image`.
    """
    return grey_bytes(_eight_bits(path, read_stored(path, max_pixels), exif_rotate))


def image_size(path: str | Path) -> Size:
    """Width and height of an image as stored; only its header is read.

    Args:
        path: file, as for `read_image`.

    Raises:
        ImageError: the file is missing or is no image.
    """
    return stored_size(path)


def held_pixels(image: Any) -> NDArray:
    """An image that a caller holds, as an array that every library here works on.

    Args:
        image: array (H, W), (H, W, 1) or (H, W, 3) RGB of uint8, uint16 or floats in [0, 1], of any strides and byte
            order, read-only or not; or an image of Pillow's.

    Returns:
        (H, W) or (H, W, 3), contiguous and writable, in the machine's byte order; uint8, uint16 or float32. Of an
        array that is so already, the array itself.

    Raises:
        UserError: anything else.
    """
    if image is None:
        raise UserError("image: got None, which is what cv2.imread gives where it can't read a file; check its path")
    if isinstance(image, Image.Image):
        image = _of_pillow(image)
    if not isinstance(image, np.ndarray):
        raise UserError(f"image: expected an array or a tensor, got {type(image).__name__}; see lfnet.read_image")
    pixels = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
        hint = "; leave its alpha out: image[..., :3]" if pixels.ndim == 3 and pixels.shape[2] == 4 else ""
        raise UserError(f"image: expected shape (H, W) or (H, W, 3), got {image.shape}{hint}")
    floating = np.issubdtype(pixels.dtype, np.floating)
    if not floating and (pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2):
        raise UserError(f"image: expected uint8, uint16 or floating in [0, 1], got {pixels.dtype}")
    kind = np.dtype(np.float32) if floating else pixels.dtype.newbyteorder("=")
    return np.require(np.asarray(pixels), kind, ("C", "W"))


def _of_pillow(picture: Image.Image) -> NDArray:
    if picture.mode[0] in "IF":
        raise UserError(f"image: Pillow's mode {picture.mode} has no known range; give the file, or 8 bits")
    return np.array(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))


def to_grey(image: ArrayLike) -> NDArray[np.float32]:
    """Grey in [0, 1]: the one definition of it, for training, extraction and evaluation alike.

    What the network makes of tensors (`lfnet.models.inputs.picture_tensor`) has the same weights and the same white.

    Args:
        image: (H, W) or (H, W, 3) RGB; uint8, uint16 (see `white_of_16_bits`), or floating and already in [0, 1]; as
            `held_pixels` takes it.

    Returns:
        (H, W) float32.

    Raises:
        ValueError: another shape or type.

    Source: ITU-R BT.601.
    """
    pixels = held_pixels(image if image is None or isinstance(image, Image.Image) else np.asarray(image))
    whole = pixels.dtype != np.float32
    white = 1 if not whole else 255 if pixels.dtype == np.uint8 else white_of_16_bits(int(pixels.max()))
    unit = np.float32(1 / white)
    if pixels.ndim == 2:
        return pixels.astype(np.float32) * unit
    red, green, blue = (np.float32(weight) * unit for weight in GREY_WEIGHTS)
    grey = pixels[:, :, 0] * red
    grey += pixels[:, :, 1] * green
    grey += pixels[:, :, 2] * blue
    return grey.astype(np.float32, copy=False)


def grey_bytes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey, eight bits: a grey picture as it is, of an RGB one `to_grey`, rounded."""
    return image if image.ndim == 2 else np.rint(to_grey(image) * 255).astype(np.uint8)


def white_of_16_bits(largest: int) -> int:
    """The value that is white in a picture of 16 bits whose largest value this is.

    Sensors of 10 to 14 bits leave the upper range of 16 bits empty: by that range, few grey levels would be left. Below
    10 bits it is a dark picture, whose noise is not to be blown up.
    """
    return max(largest, 1023)


def shrink(image: NDArray, long_side: int | None) -> NDArray:
    """The picture with its long side at most `long_side`, by area averaging; never enlarged.

    Args:
        image: (H, W) or (H, W, 3).
        long_side: in pixels; None or 0 keeps the size.

    Returns:
        The picture itself, or a smaller one of the same type.
    """
    height, width = image.shape[:2]
    size = shrunk_size((width, height), long_side)
    return image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def shrunk_size(size: Size, long_side: int | None) -> Size:
    """The size of a picture once its long side is at most `long_side`.

    Args:
        size: (width, height) in pixels.
        long_side: in pixels; None or 0 keeps the size.

    Returns:
        (width, height), each at least 1.
    """
    if not long_side or max(size) <= long_side:
        return size
    factor = long_side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def turned_upright(pixels: NDArray, orientation: int) -> NDArray:
    """A stored picture as it is meant to be seen.

    Args:
        pixels: (H, W) or (H, W, 3), as stored.
        orientation: EXIF's, 1 to 8; any other number leaves the picture as it is.

    Returns:
        The picture turned and flipped, in its own memory.

    Source: TIFF 6.0 and Exif 2.32, tag 0x0112.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _eight_bits(path: str | Path, stored: Stored, exif_rotate: bool) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3): whole numbers by the largest; floating ones must be within [0, 1] or [0, 255]."""
    values = stored.values
    if values.dtype != np.uint8:
        low, high = values.min(), values.max()
        if np.issubdtype(values.dtype, np.floating):
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ImageError(path, "holds NaN or infinity", "fill those pixels, or mask them and store a number")
            if low < 0 or high > 255:
                cause = f"floating values from {low:g} to {high:g}, expected 0 to 1 or 0 to 255"
                raise ImageError(path, cause, "scale them")
            values = np.rint(values * (255.0 if high <= 1 else 1.0)).astype(np.uint8)
        else:
            if low < 0 or high > 65535:
                raise ImageError(path, f"integers from {low} to {high}, expected 16 bits", "store it as 16 bits")
            white = white_of_16_bits(int(high))
            values = ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    return turned_upright(values, stored.orientation if exif_rotate else 1)
