"""Reading pictures: whatever the file holds, eight bits a channel come out, or one line says why not."""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, UnidentifiedImageError

from lfnet.coordinates import Size
from lfnet.errors import UserError, one_line

MAX_PIXELS = 100_000_000
"""Largest picture read unless asked otherwise: decoded to RGB it takes 300 MB."""

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".jp2"})
"""What counts as a picture when a folder is searched; a file named outright is always tried."""

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Red, green and blue in grey: ITU-R BT.601, section 2.5.1, as OpenCV and Pillow use it."""

_EXIF_ORIENTATION = 0x0112
_PILLOW_LIMIT = threading.Lock()


class ImageError(UserError):
    """A picture that can't be read: the message is one line with the file, the cause and the remedy."""

    def __init__(self, path: str | Path, cause: str, remedy: str) -> None:
        self.path = Path(path)
        self.cause = cause
        super().__init__(f"{path}: {cause}; {remedy}")


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, exif_rotate: bool = False) -> NDArray[np.uint8]:
    """Read a picture as RGB, eight bits a channel.

    Sixteen bits are scaled by the picture's largest value, 1023 at least; alpha is dropped; palettes, grey and CMYK
    become RGB.

    Args:
        path: file of any format that Pillow reads.
        max_pixels: largest width times height, checked in the header before anything is decoded.
        exif_rotate: turn the picture upright as its EXIF orientation says; otherwise it stays as stored (the
            raw frame, which COLMAP and hloc work in).

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: the file is missing, is no picture, is cut short, or is too large.
    """
    pixels = _decode(path, max_pixels, exif_rotate)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def decode_image(
    content: bytes, name: str, *, max_pixels: int = MAX_PIXELS, formats: Sequence[str] | None = None
) -> NDArray[np.uint8]:
    """A picture that is in memory, upright as its EXIF orientation says; otherwise as `read_image`.

    Args:
        content: of the file.
        name: of the picture, for errors.
        max_pixels: largest width times height, checked in the header before anything is decoded.
        formats: Pillow's names of the formats that may be tried; None: all.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: it is no picture of these formats, is cut short, or is too large.
    """
    pixels = _decode(name, max_pixels, True, content, formats)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def read_grey(path: str | Path, *, max_pixels: int = MAX_PIXELS, exif_rotate: bool = False) -> NDArray[np.uint8]:
    """Read a picture as grey, eight bits: `grey_bytes` of `read_image`.

    Args:
        path: file of any format that Pillow reads.
        max_pixels: largest width times height, checked before decoding.
        exif_rotate: turn the picture upright as its EXIF orientation says.

    Returns:
        (H, W) uint8.

    Raises:
        ImageError: as `read_image`.
    """
    pixels = _decode(path, max_pixels, exif_rotate)
    return grey_bytes(pixels)


def image_size(path: str | Path) -> Size:
    """Width and height of a picture as stored; only its header is read.

    Args:
        path: file of any format that Pillow reads.

    Raises:
        ImageError: the file is missing or is no picture.
    """
    with opened(path) as picture:
        return picture.size


def to_grey(image: ArrayLike) -> NDArray[np.float32]:
    """Grey in [0, 1]: the one definition of it, for training, extraction and evaluation alike.

    What the network makes of tensors (`lfnet.models.inputs.picture_tensor`) has the same weights and the same white.

    Args:
        image: (H, W) or (H, W, 3) RGB; uint8, uint16 (see `white_of_16_bits`), or floating and already in [0, 1].

    Returns:
        (H, W) float32.

    Raises:
        ValueError: another shape or type.

    Source: ITU-R BT.601.
    """
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise UserError(f"image must have shape (H, W) or (H, W, 3), got {pixels.shape}")
    if pixels.dtype == np.uint8:
        unit = np.float32(1 / 255)
    elif pixels.dtype == np.uint16:
        unit = np.float32(1 / white_of_16_bits(int(pixels.max(initial=0))))
    elif np.issubdtype(pixels.dtype, np.floating):
        unit = np.float32(1)
    else:
        raise UserError(f"image must be uint8, uint16 or floating in [0, 1], got {pixels.dtype}")
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


def list_images(paths: str | Path | Iterable[str | Path], broken_links: bool = False) -> list[Path]:
    """The pictures that files and folders stand for, folders searched to any depth, in natural order.

    Args:
        paths: files, taken as they are (a missing one shows when it is read), and folders, of which every
            file with an extension of `EXTENSIONS` is taken; names that start with a dot are passed over. Linked
            folders are searched too, each folder once, and name their pictures by the way through the link.
        broken_links: take links to files that are not there too, which show when they are read.

    Returns:
        Paths without repeats: each argument's pictures in natural order (2 before 10).

    Raises:
        ImageError: a folder holds no picture, or can't be read.
    """
    found: dict[Path, None] = {}
    for path in [Path(paths)] if isinstance(paths, (str, Path)) else map(Path, paths):
        if not path.is_dir():
            found[path] = None
            continue
        pictures = (file for file in _files_below(path) if _is_picture(file.relative_to(path)))
        inside = [file for file in pictures if file.is_file() or (broken_links and file.is_symlink())]
        if not inside:
            raise ImageError(path, "no pictures in this folder", f"expected one of {' '.join(sorted(EXTENSIONS))}")
        found.update(dict.fromkeys(sorted(inside, key=natural_key)))
    return list(found)


def _files_below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        place = error.filename or folder
        raise ImageError(place, f"can't be read ({error.strerror})", "check its permissions") from error

    # Linked folders come after all others, and no folder comes twice: circles end, and names are the shortest way.
    waiting, seen = [folder], set()
    while waiting:
        links: list[Path] = []
        for top in waiting:
            for place, folders, names in os.walk(top, onerror=fail):
                real = os.path.realpath(place)
                if real in seen:
                    folders.clear()
                    continue
                seen.add(real)
                links += sorted(path for name in folders if (path := Path(place, name)).is_symlink())
                yield from (Path(place, name) for name in names)
        waiting = links


def natural_key(path: str | Path) -> list[tuple[int, int | str]]:
    """Sorting key under which frame2 comes before frame10.

    Args:
        path: file or name.

    Returns:
        A key for `sorted`.
    """
    pieces = re.split(r"(\d+)", Path(path).as_posix())
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces if piece]


def _is_picture(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix.lower() in EXTENSIONS and not hidden


def _decode(
    path: str | Path,
    max_pixels: int,
    exif_rotate: bool,
    content: bytes | None = None,
    formats: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) uint8, as stored or turned upright, of a file or of the content of one."""
    with opened(path, content, formats) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise ImageError(
                path,
                f"{width}x{height} pixels are more than the limit of {max_pixels / 1e6:g} megapixels",
                "work in tiles (--tile 1024), or raise the limit (--max-megapixels, max_pixels)",
            )
        try:
            picture.load()
            pixels = _eight_bits(path, picture)
            turn = _orientation(picture) if exif_rotate else 1
        except (OSError, SyntaxError, EOFError, IndexError, ValueError) as error:
            if isinstance(error, ImageError):
                raise
            raise ImageError(path, f"damaged or cut short ({one_line(error)})", "fetch the file again") from error
    return turned_upright(pixels, turn)


@contextmanager
def opened(
    path: str | Path, content: bytes | None = None, formats: Sequence[str] | None = None
) -> Iterator[Image.Image]:
    try:
        picture = _open_any_size(path if content is None else io.BytesIO(content), formats)
    except FileNotFoundError as error:
        raise ImageError(path, "no such file", "check the path") from error
    except IsADirectoryError as error:
        raise ImageError(path, "is a folder", "name a picture in it") from error
    except UnidentifiedImageError as error:
        if (Path(path).stat().st_size if content is None else len(content)) == 0:
            raise ImageError(path, "the file is empty", "fetch it again") from error
        raise ImageError(path, "not a picture in any known format", "check what the file holds") from error
    except (SyntaxError, EOFError, ValueError) as error:
        raise ImageError(path, f"damaged header ({one_line(error)})", "fetch the file again") from error
    except OSError as error:
        if error.errno is None:
            raise ImageError(path, f"damaged header ({one_line(error)})", "fetch the file again") from error
        raise ImageError(path, f"can't be read ({error.strerror})", "check its permissions") from error
    with picture:
        yield picture


def _open_any_size(source: str | Path | io.BytesIO, formats: Sequence[str] | None) -> Image.Image:
    """Open without Pillow's own limit on pixels, which `max_pixels` stands in for; reads the header alone."""
    with _PILLOW_LIMIT:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _eight_bits(path: str | Path, picture: Image.Image) -> NDArray[np.uint8]:
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        return _scaled_to_bytes(path, np.asarray(picture))
    if mode in ("L", "LA", "1"):
        return np.array(picture.convert("L"))
    with warnings.catch_warnings():
        # Pillow warns that transparency is lost with a palette: that is what is wanted.
        warnings.simplefilter("ignore", UserWarning)
        return np.array(picture.convert("RGB"))


def _scaled_to_bytes(path: str | Path, values: NDArray) -> NDArray[np.uint8]:
    """Wide grey values to a byte: whole numbers by the largest; floating ones must be within [0, 1] or [0, 255]."""
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            raise ImageError(path, "holds NaN or infinity", "fill those pixels, or mask them and store a number")
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 255:
            cause = f"floating values from {low:g} to {high:g}, expected 0 to 1 or 0 to 255"
            raise ImageError(path, cause, "scale them")
        return np.rint(values * (255.0 if high <= 1 else 1.0)).astype(np.uint8)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(path, f"integers from {low} to {high}, expected 16 bits", "store it as 16 bits")
    high = white_of_16_bits(high)
    return ((values.astype(np.uint32) * 255 + high // 2) // high).astype(np.uint8)


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except (OSError, SyntaxError, TypeError, ValueError, KeyError):
        return 1  # Damaged metadata on a sound picture: shown as stored, as viewers do.


def turned_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
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
