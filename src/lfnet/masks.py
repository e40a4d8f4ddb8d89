"""Masks: one reading of them for all commands, of files and of arrays. Where a mask is not 0, keypoints may be."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfnet.errors import UserError
from lfnet.image_decoding import EXTENSIONS, ImageError, read_stored
from lfnet.image_files import is_image_name, list_images

_RANKS = {".png": 0}
"""Of several masks of one image, the one with this ending counts."""


class Masks:
    """The masks of a set of images.

    Args:
        place: a folder laid out as the folder of images, or one file that serves every image.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = Path(place)
        self._listed: dict[Path, dict[tuple[str, str], Path]] = {}

    def of(self, name: str) -> Path | None:
        """The mask of an image: of its name, of its name with another ending added (a.jpg.png), or instead (a.png).

        Args:
            name: of the image, relative to the folder of images. Endings count in capitals as well.

        Returns:
            Its file; None where there is none.
        """
        if self._is_one:
            return self.place
        plain = self.place / name
        files = self._files(plain.parent)
        stem, ending = plain.stem, plain.suffix.lower()
        endings = sorted(EXTENSIONS, key=lambda each: (_RANKS.get(each, 1), each))
        wanted = [(stem, ending), *((plain.name, each) for each in endings), *((stem, each) for each in endings)]
        return next((files[key] for key in wanted if key in files), None)

    def read(self, name: str, max_pixels: int) -> NDArray[np.bool_]:
        """The mask of an image, as `read_mask`.

        Raises:
            ImageError: there is none, or it can't be read.
        """
        return read_mask(self.file(name), max_pixels)

    def file(self, name: str) -> Path:
        """The mask of an image, as `of`.

        Raises:
            ImageError: there is none.
        """
        path = self.of(name)
        if path is None:
            raise ImageError(self.place / name, f"no mask for image {name!r}", "add one, or leave --masks out")
        return path

    def files(self) -> list[Path]:
        """All of them."""
        return list_images(self.place)

    @cached_property
    def _is_one(self) -> bool:
        return self.place.is_file()

    def _files(self, folder: Path) -> dict[tuple[str, str], Path]:
        """Files of a folder by stem and ending in small letters."""
        if folder not in self._listed:
            listed = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
            images = (path for path in listed if is_image_name(path) and path.is_file())
            self._listed[folder] = {(path.stem, path.suffix.lower()): path for path in images}
        return self._listed[folder]


def read_mask(path: str | Path, max_pixels: int) -> NDArray[np.bool_]:
    """A mask: true where any colour is not 0; where colour is the same everywhere, where it is not transparent.

    Args:
        path: file of any format that images are read from.
        max_pixels: largest mask decoded.

    Returns:
        (H, W), as stored.

    Raises:
        ImageError: it can't be read, or holds NaN.
    """
    stored = read_stored(path, max_pixels, alpha=True)

    def fail(cause: str) -> ImageError:
        return ImageError(path, cause, "store 0 where no keypoints may be, and another number elsewhere")

    return _usable(stored.values, stored.alpha, fail)


def held_mask(mask: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask that a caller holds.

    Args:
        mask: array (H, W), (H, W, 1), (1, H, W) or (H, W, 3) of any type, strides and byte order; or an image of
            Pillow's.
        size: (height, width) of its image.

    Returns:
        (H, W), true where the mask is not 0.

    Raises:
        UserError: another size, NaN, or no mask.
    """
    alpha = None
    if isinstance(mask, Image.Image):
        if mask.has_transparency_data:
            bands = np.asarray(mask.convert("RGBA"))
            mask, alpha = bands[:, :, :3], bands[:, :, 3]
        elif mask.mode not in ("1", "L", "F") and mask.mode[0] != "I":
            mask = mask.convert("RGB")  # A palette's values are numbers of colours; no ink is white.
    values = np.asarray(mask)
    if values.dtype.kind not in "biuf":
        raise UserError(f"mask: expected an array of numbers or booleans, got {type(mask).__name__} of {values.dtype}")
    if values.ndim == 3 and values.shape[0] == 1 and values.shape[1:] == size:
        values = values[0]
    if values.shape[:2] != size or values.ndim not in (2, 3):
        raise UserError(f"mask: expected the size of its image {size}, got {values.shape}")
    return _usable(values, alpha, lambda cause: UserError(f"mask: {cause}; put False there, or True"))


def _usable(values: NDArray, alpha: NDArray | None, fail: Callable[[str], UserError]) -> NDArray[np.bool_]:
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise fail("holds NaN, which says neither yes nor no")
    coloured = values.reshape(*values.shape[:2], -1)
    drawn = (coloured != 0).any(2)
    if alpha is None or (coloured != coloured[:1, :1]).any():
        return drawn
    opaque = alpha != 0
    return opaque & drawn if (alpha == alpha[0, 0]).all() else opaque
