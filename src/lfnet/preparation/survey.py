"""The photos of a folder before anything is made of them: which can be used, with what cameras, under what masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lfnet.files.atomic import make_folder, replacing
from lfnet.files.checksum import checksum
from lfnet.image_decoding import read_metadata, stored_size
from lfnet.image_files import FoundImages, find_images
from lfnet.images import MAX_PIXELS, ImageError, read_image, turned_upright
from lfnet.masks import Masks, read_mask
from lfnet.preparation.steps import PreparationError
from lfnet.progress import Counter

FEWEST_PHOTOS = 3
"""Two photos fix no scale that a third could confirm, and leave no depth that another view could check."""
STORED_AS_THEY_ARE = {".jpg", ".jpeg", ".png"}
"""Endings of files that COLMAP reads itself; others are converted."""
JPEG_QUALITY = 98
"""Of photos that are turned upright: their features are those of the photo, to a few grey values."""
_MAKE, _MODEL, _ORIENTATION = 0x010F, 0x0110, 0x0112
_FOCAL_LENGTH, _FOCAL_LENGTH_35 = 0x920A, 0xA405


@dataclass(frozen=True)
class Photo:
    """A usable photo, and what its EXIF tells."""

    name: str
    """Of the file, relative to the folder of photos, with forward slashes."""
    staged: str
    """Its name in the model: the same, with `.png` added where it had to be converted."""
    size: tuple[int, int]
    """(width, height) upright, pixels."""
    camera: str
    """The same for photos of one camera at one focal length; empty where EXIF doesn't tell."""
    has_gps: bool


@dataclass
class Survey:
    """What was found in a folder of photos."""

    photos: list[Photo] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """A line each: the file, why, and what to do."""
    duplicates: list[str] = field(default_factory=list)
    """A line each: "copy.jpg is photo.jpg again"."""
    unmasked: list[str] = field(default_factory=list)
    """Photos without a mask, where masks were given."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Survey:
        """The inverse of `dataclasses.asdict`, after a way through JSON."""
        photos = [Photo(**{**photo, "size": tuple(photo["size"])}) for photo in values["photos"]]
        return cls(photos, values["unreadable"], values["duplicates"], values["unmasked"])


def find_photos(folder: Path) -> FoundImages:
    """The images in a folder, at any depth, in natural order, and what is passed over.

    Raises:
        ImageError: no such folder, no image in it, or it can't be read.
        PreparationError: it is a file.
    """
    if not folder.is_dir():
        raise PreparationError(f"{folder}: expected a folder of photos, and there is none of that name")
    return find_images(folder)


def survey_photos(
    folder: Path,
    names: Sequence[str],
    staged: Path,
    masks: Path | None,
    staged_masks: Path | None,
    border: int,
    progress: Counter,
) -> Survey:
    """Look at every photo, and lay out those that can be used, upright and in formats that COLMAP reads.

    Photos that need no change are linked, or copied where links are not to be had.

    Args:
        folder: of photos.
        names: of photos in it.
        staged: folder to lay them out in.
        masks: as `lfnet.masks.Masks` takes them; 0 keeps features off. As everywhere here, they are for the picture as
            stored, EXIF orientation not applied; upright ones are taken too.
        staged_masks: folder to write masks to, COLMAP's way (NAME.png beside NAME); None where there are none.
        border: pixels at every edge that features are kept off.
        progress: called with how many are done, and how many there are.

    Returns:
        The usable photos, and what is wrong with the others.

    Raises:
        PreparationError: fewer than three are usable.
    """
    survey = Survey()
    seen: dict[str, str] = {}
    found = None if masks is None else Masks(masks)
    for done, name in enumerate(names):
        progress(done, len(names))
        try:
            digest = _content(folder / name)
            if digest in seen:
                survey.duplicates.append(f"{name} is {seen[digest]} again")
                continue
            photo = _stage(folder, name, staged)
            mask = None if found is None else found.of(name)
            if staged_masks is not None:
                _stage_mask(folder / name, photo, mask, staged_masks, border)
        except ImageError as error:
            survey.unreadable.append(str(error))
            continue
        if found is not None and mask is None:
            survey.unmasked.append(name)
        seen[digest] = name
        survey.photos.append(photo)
    progress(len(names), len(names))
    if len(survey.photos) < FEWEST_PHOTOS:
        raise PreparationError(_too_few(folder, survey))
    return survey


def _too_few(folder: Path, survey: Survey) -> str:
    left_out = [*survey.unreadable, *survey.duplicates]
    reasons = f" (left out: {'; '.join(left_out)})" if left_out else ""
    return (
        f"{folder}: {len(survey.photos)} usable photos{reasons}; expected at least {FEWEST_PHOTOS}, "
        "and 10 or more that overlap by half to give much"
    )


def _content(path: Path) -> str:
    stored_size(path)  # Says what is wrong with a file that is no image, such as a link to nothing.
    try:
        return checksum(path)
    except OSError as error:
        raise ImageError(path, f"can't be read ({error.strerror})", "check its permissions") from error


def _stage(folder: Path, name: str, staged: Path) -> Photo:
    source = folder / name
    pixels = read_image(source, exif_rotate=True)
    told = read_metadata(source)
    exif, orientation = told.exif, told.exif.get(_ORIENTATION, 1)
    focal = (told.camera.get(_FOCAL_LENGTH), told.camera.get(_FOCAL_LENGTH_35))
    size = (pixels.shape[1], pixels.shape[0])
    as_it_is = orientation in (None, 0, 1) and source.suffix.lower() in STORED_AS_THEY_ARE
    is_jpeg = source.suffix.lower() in (".jpg", ".jpeg")
    target_name = name if as_it_is or is_jpeg else f"{name}.png"
    target = staged / target_name
    make_folder(target.parent)
    if as_it_is:
        _link(source, target)
    else:
        exif = told.writable
        exif[_ORIENTATION] = 1
        with replacing(target) as temporary:
            if is_jpeg:  # COLMAP before 4 reads no EXIF in PNG.
                Image.fromarray(pixels).save(temporary, "JPEG", exif=exif, quality=JPEG_QUALITY, subsampling=0)
            else:
                Image.fromarray(pixels).save(temporary, "PNG", exif=exif, compress_level=1)
    known = any(value is not None for value in focal)
    camera = "|".join(map(str, (exif.get(_MAKE), exif.get(_MODEL), *focal, *size))) if known else ""
    return Photo(name, target_name, size, camera, bool(told.gps))


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(source.resolve())
    except OSError:  # A file system, or a user on Windows, without links.
        with replacing(target) as temporary:
            temporary.write_bytes(source.read_bytes())


def _stage_mask(source: Path, photo: Photo, mask: Path | None, target: Path, border: int) -> None:
    """Write the mask of a photo as COLMAP reads it.

    Raises:
        ImageError: it can't be read or is of another size, or the border leaves nothing.
    """
    width, height = photo.size
    usable = np.full((height, width), 255, np.uint8)
    if mask is not None:
        given = read_mask(mask, MAX_PIXELS)
        if given.shape == stored_size(source)[::-1]:
            given = turned_upright(given, int(read_metadata(source).exif.get(_ORIENTATION) or 1))
        if given.shape != usable.shape:
            cause = f"its mask {mask} is {given.shape[1]}x{given.shape[0]}, the photo {width}x{height} upright"
            raise ImageError(source, cause, "masks have the size of their photos")
        usable[~given] = 0
    if 2 * border >= min(width, height):
        raise ImageError(source, f"{width}x{height}, of which a border of {border} px leaves nothing", "name fewer px")
    if border > 0:
        inner = np.zeros_like(usable)
        inner[border : height - border, border : width - border] = 255
        usable &= inner
    with replacing(target / f"{photo.staged}.png") as temporary:
        Image.fromarray(usable).save(temporary, "PNG", compress_level=1)


def camera_groups(survey: Survey, cameras: str) -> list[dict[str, Any]]:
    """Which photos share a camera: lists of names with "single", or "per-picture" for those that share none.

    Args:
        survey: the photos.
        cameras: "auto" (one for all with the same camera, focal length and size in their EXIF; where that is missing,
            one for all of a folder and size: with a camera of its own, each photo's focal length would be free to make
            up for wrong geometry), "single" (one a size), "per-folder" (one a folder and size) or "per-picture".
    """
    if cameras == "per-picture":
        return [{"names": [photo.staged for photo in survey.photos], "cameras": "per-picture"}]
    grouped: dict[str, list[str]] = {}
    for photo in survey.photos:
        size = "x".join(map(str, photo.size))
        place = f"{os.path.dirname(photo.name)}|{size}"
        key = {"auto": photo.camera or place, "single": size, "per-folder": place}[cameras]
        grouped.setdefault(key, []).append(photo.staged)
    return [{"names": names, "cameras": "single"} for names in grouped.values()]
