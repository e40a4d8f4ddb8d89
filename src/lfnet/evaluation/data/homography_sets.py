"""Sets of pictures related by homographies, image 1 to image N: the layouts of Oxford's affine set and of HPatches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from lfnet.coordinates import resize_matrix
from lfnet.errors import UserError
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
from lfnet.evaluation.data.truth import HomographyTruth
from lfnet.image_files import is_image_name
from lfnet.images import ImageError, image_size, read_image, shrink, shrunk_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float
    from numpy import ndarray as Array

    from lfnet.coordinates import Size
    from lfnet.evaluation.data.data_settings import DataSettings

LEFT_OUT = (
    "i_contruction",
    "i_crownnight",
    "i_dc",
    "i_pencils",
    "i_whitebuilding",
    "v_artisans",
    "v_astronautis",
    "v_talent",
)
"""Sequences of HPatches, spelt as there, with pictures of more than 1600x1200 px, which everybody leaves out. Source:
D2-Net (Dusmanu et al., 2019), hpatches_sequences/download.sh."""
LARGEST_FILE = 1 << 20
"""Bytes of a file with one matrix, with room for comments."""
HPATCHES_SUBSETS = {"i": "illumination", "v": "viewpoint"}


@dataclass(frozen=True)
class Layout:
    """How a set names its files."""

    matrix: re.Pattern[str]
    """Name of the matrix that takes pixels of image 1 to those of image N, with N as its group."""
    picture: str
    """Name of image N without its ending."""


OXFORD = Layout(re.compile(r"H1to(\d+)p(?:\.[xX][mM][lL])?"), "img{}")
"""Mikolajczyk and Schmid (2005): text; OpenCV's samples have it as XML."""
HPATCHES = Layout(re.compile(r"H_1_(\d+)"), "{}")
"""Balntas et al. (2017)."""


def is_homography_sets(folder: Path) -> bool:
    """Whether a folder holds scenes in the layout of Oxford or HPatches, or is such a scene."""
    return folder.is_dir() and next(_scenes(folder), None) is not None


def open_homography_sets(folder: Path, settings: DataSettings) -> Dataset:
    """Image 1 against every other image of each scene.

    Args:
        folder: holds the scenes, or is one.
        settings: size of the pictures.

    Returns:
        the pairs; scenes are groups, subsets are scenes of Oxford, and illumination and viewpoint of HPatches.

    Raises:
        ValueError: no pair can be used.
    """
    scenes = list(_scenes(folder))
    root = scenes[0][0].parent
    pairs: list[EvaluationPair] = []
    skipped: list[str] = []
    left_out = []
    for scene, layout in scenes:
        if layout is HPATCHES and scene.name in LEFT_OUT:
            left_out.append(scene.name)
            continue
        for index, matrix_path in _matrices(scene, layout):
            try:
                pairs.append(_pair(scene, layout, index, matrix_path, settings.long_side))
            except (UserError, OSError) as error:
                skipped.append(f"{scene.name} 1-{index}: {error}")
    if not pairs:
        causes = f"; the first: {skipped[0]}" if skipped else ""
        raise UserError(f"{folder}: none of {len(scenes)} scenes has a pair that can be used{causes}")

    def load(name: str) -> Array:
        return shrink(read_image(root / name), settings.long_side)

    return Dataset(
        name=folder.name,
        kind="homographies",
        pairs=pairs,
        load=load,
        unit="scenes",
        settings={"left_out": left_out} if left_out else {},
        skipped=skipped,
    )


def _scenes(folder: Path) -> Iterator[tuple[Path, Layout]]:
    for scene in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        for layout in (OXFORD, HPATCHES):
            if _matrices(scene, layout):
                yield scene.resolve(), layout
                break


def _matrices(scene: Path, layout: Layout) -> list[tuple[int, Path]]:
    """Number of the other image, and file of its matrix; of text and XML, XML."""
    found: dict[int, Path] = {}
    for path in sorted(scene.iterdir()):
        named = layout.matrix.fullmatch(path.name)
        if named and path.is_file():
            found[int(named[1])] = path
    return sorted(found.items())


def _pair(scene: Path, layout: Layout, index: int, matrix_path: Path, long_side: int) -> EvaluationPair:
    first, second = (_picture(scene, layout.picture.format(number)) for number in (1, index))
    stored = image_size(first), image_size(second)
    size_a, size_b = (shrunk_size(size, long_side) for size in stored)
    matrix = usable_matrix(read_matrix(matrix_path), stored[0], matrix_path)
    shrunk_b_from_a = resize_matrix(stored[1], size_b) @ matrix @ np.linalg.inv(resize_matrix(stored[0], size_a))
    subset = scene.name
    if layout is HPATCHES:
        subset = HPATCHES_SUBSETS.get(scene.name.partition("_")[0], scene.name)
    return EvaluationPair(
        name=f"{scene.name} 1-{index}",
        group=scene.name,
        picture_a=f"{scene.name}/{first.name}",
        picture_b=f"{scene.name}/{second.name}",
        truth=HomographyTruth(shrunk_b_from_a, size_a, size_b),
        subset=subset,
    )


def _picture(scene: Path, stem: str) -> Path:
    found = sorted(path for path in scene.glob(f"{stem}.*") if is_image_name(path))
    if not found:
        raise ImageError(scene / f"{stem}.*", "no such picture", "fetch the set again")
    return found[0]


def usable_matrix(matrix: Float[Array, "3 3"], size: Size, source: Path | str) -> Float[Array, "3 3"]:
    """A homography, scaled so that the middle of a picture has weight 1.

    Args:
        matrix: b_from_a.
        size: of a, pixels.
        source: named in the error.

    Raises:
        ValueError: it holds NaN or infinity, or is singular.
    """
    if not np.isfinite(matrix).all():
        raise UserError(f"{source}: the matrix holds NaN or infinity; fetch the file again")
    weight = float(matrix[2] @ [(size[0] - 1) / 2, (size[1] - 1) / 2, 1.0])
    largest = float(np.abs(matrix).max())
    if abs(weight) <= 1e-9 * largest or abs(np.linalg.det(matrix / weight)) < 1e-9:
        raise UserError(f"{source}: the matrix is singular, which no picture of a plane is; fetch the file again")
    return matrix / weight


def read_matrix(path: Path) -> Float[Array, "3 3"]:
    """The 3x3 matrix of a text file, or the first of an OpenCV XML file.

    Args:
        path: file; its ending says what it is.

    Raises:
        ValueError: there is no 3x3 matrix in it.
    """
    return _read_xml(path) if path.suffix.lower() == ".xml" else _read_text(path)


def _read_text(path: Path) -> Float[Array, "3 3"]:
    try:
        numbers = [float(word) for word in _small_text(path).split()]
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: expected a 3x3 matrix as text, got something else") from error
    if len(numbers) != 9:
        raise UserError(f"{path}: expected a 3x3 matrix as text, got {len(numbers)} numbers")
    return np.array(numbers).reshape(3, 3)


def _read_xml(path: Path) -> Float[Array, "3 3"]:
    """In Python: OpenCV's own reader writes beyond its memory where a matrix lacks its sizes."""
    try:
        nodes = ElementTree.fromstring(_small_text(path)).iter()
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no OpenCV XML file ({error}); fetch the file again") from error
    for node in nodes:
        sizes = [(node.findtext(name) or "missing").strip() for name in ("rows", "cols")]
        if node.get("type_id") != "opencv-matrix" or (sizes != ["3", "3"] and "missing" not in sizes):
            continue
        words = (node.findtext("data") or "").split()
        if sizes != ["3", "3"] or len(words) != 9:
            found = f"rows {sizes[0]}, cols {sizes[1]} and {len(words)} numbers"
            raise UserError(f"{path}: its matrix {node.tag} has {found}, expected 3, 3 and 9; fetch the file again")
        try:
            return np.array([float(word.replace(".N", "N").replace(".I", "I")) for word in words]).reshape(3, 3)
        except ValueError as error:
            raise UserError(f"{path}: expected 9 numbers in its matrix {node.tag} ({error})") from error
    raise UserError(f"{path} holds no 3x3 matrix")


def _small_text(path: Path) -> str:
    """A text file of a size that a matrix can have.

    Raises:
        UserError: it is larger, is no text, or declares entities, which may stand for gigabytes.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected a 3x3 matrix as text, got something else") from error
    if len(content) > LARGEST_FILE or "<!" in text.replace("<!--", ""):
        raise UserError(f"{path}: expected a 3x3 matrix alone, got a larger file or one with declarations")
    return text
