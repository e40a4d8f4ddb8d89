"""Large pictures, read some rows at a time: the whole is never in memory where the file's format allows it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfnet.coordinates import Size
from lfnet.errors import UserError, one_line
from lfnet.image_decoding import DAMAGED, FloatTiff, ImageError, blaming, opened, wide_mode
from lfnet.images import MAX_PIXELS, read_grey, to_grey, white_of_16_bits

_BLOCK_ROWS = 256
"""Rows that are looked through at a time."""
_FORMATS = {False: ("TIFF", "PNG", "JPEG2000"), True: ("TIFF", "PNG", "JPEG2000", "JPEG", "MPO")}
"""Pillow's names of formats that are read by rows, for pictures that fit into memory and for larger ones."""
_CACHE_MEGABYTES = 64
"""What GDAL may keep of blocks that it has decoded."""


class Rows(Protocol):
    """A picture, or a mask, that is read some rows at a time."""

    @property
    def size(self) -> Size:
        """(width, height) in pixels."""
        ...

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, (stop - start, width): grey in [0, 1]; of a mask, above 0 where keypoints may be."""
        ...


class ArrayRows:
    """An array as rows.

    Args:
        array: (H, W) or (H, W, 3) RGB, in any type that `to_grey` takes, or (H, W) bool.

    Raises:
        UserError: another shape or type.
    """

    def __init__(self, array: NDArray) -> None:
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
            raise UserError(f"image: expected (H, W) or (H, W, 3), got shape {array.shape}")
        self._array = array
        self._white = white_of_16_bits(int(array.max())) if array.dtype == np.uint16 else None

    @property
    def size(self) -> Size:
        """(width, height) in pixels."""
        return self._array.shape[1], self._array.shape[0]

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """See `Rows`."""
        return _grey(self._array[start:stop], self._white)


class _PillowRows:
    """A file that Pillow has decoded, turned into grey some rows at a time."""

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture

    @property
    def size(self) -> Size:
        return self._picture.size

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        part = self._picture.crop((0, start, self._picture.width, stop))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Transparency is lost with a palette, as is wanted.
            return to_grey(np.asarray(part.convert("L" if part.mode in ("L", "LA", "1") else "RGB")))


class _RasterRows:
    """A file whose rows GDAL decodes as they are asked for."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self._path, self._dataset = path, dataset
        self._bands = [1, 2, 3] if dataset.count >= 3 else [1]
        self._white: int | None = None
        if dataset.dtypes[0] == "uint16":
            starts = range(0, dataset.height, _BLOCK_ROWS)
            largest = max(int(self._read(start, min(start + _BLOCK_ROWS, dataset.height)).max()) for start in starts)
            self._white = white_of_16_bits(largest)

    @property
    def size(self) -> Size:
        return self._dataset.width, self._dataset.height

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return _grey(self._read(start, stop), self._white)

    def _read(self, start: int, stop: int) -> NDArray:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        try:
            values = self._dataset.read(self._bands, window=Window(0, start, self._dataset.width, stop - start))  # pyright: ignore[reportCallIssue]
        except RasterioError as error:
            cause = f"damaged or cut short ({one_line(error.__cause__ or error)})"
            raise ImageError(self._path, cause, "fetch the file again") from error
        return values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)


def _grey(pixels: NDArray, white: int | None) -> NDArray[np.float32]:
    if pixels.dtype == bool:
        return pixels.astype(np.float32)
    return to_grey(pixels if white is None else pixels.astype(np.float32) / np.float32(white))


@contextmanager
def open_rows(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Rows]:
    """A file as rows.

    Files that GDAL reads by rows (GeoTIFF and other TIFF, PNG, JPEG 2000) are never whole in memory, and may have any
    size; this needs rasterio (extra `large`). Without it, and for all other files, Pillow decodes the whole, in one to
    four bytes a pixel. JPEG beyond `max_pixels` is read by rows too: GDAL's decoder rounds otherwise than Pillow's.

    Args:
        path: a picture, as stored: EXIF orientation is not applied.
        max_pixels: largest width times height that is decoded as a whole.

    Yields:
        The picture; grey as `read_image` and `to_grey` give it.

    Raises:
        ImageError: the file is missing, is no picture, is damaged, or too large to be decoded as a whole.
    """
    with opened(path) as picture:
        raster = _by_rows(path, picture, max_pixels)
        if raster is None:
            _check_size(path, picture.size, max_pixels)
            yield _whole(path, picture, max_pixels)
            return
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MEGABYTES), raster:
        yield _RasterRows(Path(path), raster)


def _by_rows(path: str | Path, picture: Image.Image | FloatTiff, max_pixels: int) -> Any | None:
    """The file as GDAL opens it; None where it is for Pillow: palettes, inks, bits, floating values, smaller JPEG."""
    large = picture.size[0] * picture.size[1] > max_pixels
    if find_spec("rasterio") is None or picture.format not in _FORMATS[large]:
        return None
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            raster = rasterio.open(path)
        except RasterioError:
            return None
    if picture.mode in ("L", "LA", "RGB", "RGBA", "RGBX") or picture.mode.startswith("I;16"):
        inverted = raster.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        bits = raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
        if raster.dtypes[0] in ("uint8", "uint16") and not inverted and bits is None:
            return raster
    raster.close()
    return None


def _check_size(path: str | Path, size: Size, max_pixels: int) -> None:
    width, height = size
    if width * height <= max_pixels:
        return
    remedy = "raise the limit (--max-megapixels, max_pixels)"
    if find_spec("rasterio") is None:
        remedy += ", or have TIFF, JPEG and PNG read by rows: pip install 'lfnet[large]'"
    cause = f"{width}x{height} pixels are more than the {max_pixels / 1e6:g} megapixels that are decoded as a whole"
    raise ImageError(path, cause, remedy)


def _whole(path: str | Path, picture: Image.Image | FloatTiff, max_pixels: int) -> Rows:
    if isinstance(picture, FloatTiff) or picture.mode[0] in "FI" or wide_mode(path, None, picture):
        return ArrayRows(read_grey(path, max_pixels=max_pixels))
    with blaming(path, DAMAGED):
        picture.load()
    return _PillowRows(picture)
