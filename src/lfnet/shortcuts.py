"""One call each: `lfnet.extract` a picture, and `lfnet.match` two."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lfnet.errors import UserError
from lfnet.features import Features, Matches
from lfnet.file_matching import MatchSettings, match_features
from lfnet.image_rows import open_rows
from lfnet.images import MAX_PIXELS, held_pixels, read_image, shrink
from lfnet.masks import held_mask
from lfnet.matching import Geometry
from lfnet.models.config import ExtractionSettings, TileSettings
from lfnet.models.lfnet import LFNet
from lfnet.models.weights import resolve_weights

Picture: TypeAlias = Union[str, "os.PathLike[str]", NDArray, Image.Image]
"""A file, an array (H, W) or (H, W, 3) RGB of uint8 or of floats in [0, 1], or a picture of Pillow's."""


def extract(
    picture: Picture,
    weights: str | Path | LFNet = "lfnet-cpu",
    *,
    max_keypoints: int = 1024,
    mask: NDArray | Image.Image | None = None,
    resize: int | None = 1600,
    device: str = "cpu",
    exif_rotate: bool = False,
    tile: int | None = None,
) -> Features:
    """The local features of one picture.

    The network of a weights file stays in memory between calls: the two used last, known by the file's content (size
    and time of change), so a file that is written again is read again. Nobody else holds it, and it never changes.

    Args:
        picture: a file, an array or a picture of Pillow's.
        weights: name of packaged weights, a file, a folder by `LFNet.save_pretrained`, or a network of your own, which
            is used where it is and as it is.
        max_keypoints: most keypoints, the best by score.
        mask: (H, W), not 0 where keypoints may be; None: everywhere.
        resize: long side that larger pictures are worked at, in pixels; None: as they are. Not used with `tile`.
        device: "cpu", "cuda" or "cuda:N"; not used with a network of your own.
        exif_rotate: turn a file upright as its EXIF orientation says. Otherwise it stays as stored, as in COLMAP and in
            features files; OpenCV's `imread` turns, Pillow's `open` does not.
        tile: side of tiles, in pixels, that a picture too large for memory is worked in, at full size; a file is read
            by rows where its format allows it (see `lfnet.image_rows.open_rows`). The features are those of the whole.

    Returns:
        Features in pixels of the picture given, best score first.

    Raises:
        ImageError: the file can't be read.
        WeightsError: there are no such weights.
        ValueError: an array of another shape or type, or a mask of another size.
        TypeError: none of these.
    """
    if tile is not None:
        model = weights if isinstance(weights, LFNet) else _network(weights, device)
        return _extract_in_tiles(picture, model, max_keypoints, mask, exif_rotate, tile)
    image = _pixels(picture, exif_rotate)
    given = None if mask is None else held_mask(mask, image.shape[:2])
    model = weights if isinstance(weights, LFNet) else _network(weights, device)
    small = shrink(image, resize)
    # Area averaging: a pixel of the smaller picture is usable where everything under it is.
    usable = None if given is None else shrink(given.astype(np.uint8) * 255, resize) == 255
    settings = ExtractionSettings(max_keypoints=max_keypoints)
    features = model.extract([small], mask=None if usable is None else [usable], settings=settings)[0]
    return features.resized((image.shape[1], image.shape[0]))


def _extract_in_tiles(
    picture: Picture, model: LFNet, max_keypoints: int, mask: NDArray | Image.Image | None, exif_rotate: bool, tile: int
) -> Features:
    settings, tiles = ExtractionSettings(max_keypoints=max_keypoints), TileSettings(tile)
    if not isinstance(picture, (str, os.PathLike)):
        image = _pixels(picture, exif_rotate)
        usable = None if mask is None else held_mask(mask, image.shape[:2])
        return model.extract_in_tiles(image, mask=usable, settings=settings, tiles=tiles)
    if exif_rotate:
        raise UserError("exif_rotate: tiles are read as the file stores them; leave exif_rotate or tile out")
    with open_rows(Path(picture)) as rows:
        usable = None if mask is None else held_mask(mask, (rows.size[1], rows.size[0]))
        return model.extract_in_tiles(rows, mask=usable, settings=settings, tiles=tiles)


def match(
    a: Features | Picture,
    b: Features | Picture,
    *,
    geometry: Geometry | None = None,
    threshold: float = 3.0,
    ratio: float | None = None,
    max_distance: float | None = None,
    filter: bool = False,
) -> Matches:
    """Matches of two pictures: features that are each the other's nearest.

    Args:
        a: features, or a picture, which is extracted by `extract` as it stands.
        b: the same.
        geometry: keep only matches that one "homography" or "fundamental" matrix explains; `lfnet.verify` gives the
            matrix too, and knows "essential".
        threshold: largest error of such a match, in pixels.
        ratio: Lowe's ratio test, such as 0.9; the authors of LF-Net warn against it.
        max_distance: largest distance of descriptors, in [0, 2].
        filter: keep only matches whose turn, scale and shift agree with those of the matches around them
            (`lfnet.similarity_filter`).

    Returns:
        Matches, whose `indices` are rows of the features of a and of b.

    Raises:
        ValueError: as `lfnet.mutual_nearest_neighbours` and `lfnet.verify`.
    """
    features_a, features_b = (side if isinstance(side, Features) else extract(side) for side in (a, b))
    settings = MatchSettings(ratio, max_distance, filter, geometry, threshold)
    return match_features(features_a, features_b, settings)[2]


def _pixels(picture: Picture, exif_rotate: bool) -> NDArray:
    if isinstance(picture, (str, os.PathLike)):
        return read_image(Path(picture), max_pixels=MAX_PIXELS, exif_rotate=exif_rotate)
    if picture is None or isinstance(picture, (np.ndarray, Image.Image)):
        return held_pixels(picture)
    raise TypeError(
        f"picture: expected a path, an array or a picture of Pillow's, got {type(picture).__name__}; "
        "several pictures: LFNet.extract takes a list of arrays, extract_files a list of files"
    )


def _network(weights: str | Path, device: str) -> LFNet:
    path = resolve_weights(weights)
    state = path.stat()
    return _loaded(path.resolve(), state.st_size, state.st_mtime_ns, device)


@lru_cache(maxsize=2)
def _loaded(path: Path, size: int, changed: int, device: str) -> LFNet:
    """Size and time are part of what is remembered: other contents, other network."""
    return LFNet.from_pretrained(path).to(device).requires_grad_(False)
