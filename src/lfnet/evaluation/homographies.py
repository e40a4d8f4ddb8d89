"""Protocol on sets of pictures related by homographies: the Oxford affine set's layout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lfnet.coordinates import resize_matrix
from lfnet.evaluation.protocols import EvaluationPair, run_protocol
from lfnet.evaluation.truth import HomographyTruth
from lfnet.images import read_grey, shrink, shrunk_size

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray as Array

    from lfnet.evaluation.baselines import Extractor
    from lfnet.evaluation.protocols import Progress, ProtocolSettings
    from lfnet.evaluation.results import Results


@dataclass(frozen=True)
class HomographySettings:
    """At what size homography sets are measured."""

    long_side: int = 640
    """Pictures whose longer side is larger are shrunk to this many pixels."""

    def __post_init__(self) -> None:
        if self.long_side < 64:
            raise ValueError(f"long_side must be at least 64 pixels, got {self.long_side}")


class HomographySets:
    """Folders with `img1.png` ... and `H1toNp.xml` (OpenCV) each, image 1 to image N."""

    def __init__(self, folder: Path, settings: HomographySettings) -> None:
        self.folder = Path(folder)
        self.settings = settings
        self.scenes = sorted(path.parent.name for path in self.folder.glob("*/H1to2p.xml"))
        if not self.scenes:
            raise ValueError(f"no <scene>/H1to2p.xml below {self.folder}: give the folder that holds the scenes")

    def load(self, key: str) -> Array:
        """The grey picture of a key `scene/N`, shrunk to the long side."""
        return shrink(self._original(key), self.settings.long_side)

    def pairs(self) -> list[EvaluationPair]:
        """Image 1 against every other image of each scene."""
        return [pair for scene in self.scenes for pair in self._scene_pairs(scene)]

    def _scene_pairs(self, scene: str) -> list[EvaluationPair]:
        first = f"{scene}/1"
        pairs = []
        for path in sorted((self.folder / scene).glob("H1to*p.xml")):
            index = path.stem.removeprefix("H1to").removesuffix("p")
            other = f"{scene}/{index}"
            matrix = read_matrix(path)
            size_a, size_b = self._sizes(first), self._sizes(other)
            resized_b_from_a = (
                resize_matrix(size_b[0], size_b[1]) @ matrix @ np.linalg.inv(resize_matrix(size_a[0], size_a[1]))
            )
            truth = HomographyTruth(resized_b_from_a, size_a[1], size_b[1])
            pairs.append(EvaluationPair(f"{scene} 1-{index}", scene, first, other, truth))
        return pairs

    def _original(self, key: str) -> Array:
        scene, index = key.split("/")
        return read_grey(self.folder / scene / f"img{index}.png")

    def _sizes(self, key: str) -> tuple[tuple[int, int], tuple[int, int]]:
        image = self._original(key)
        size = (image.shape[1], image.shape[0])
        return size, shrunk_size(size, self.settings.long_side)


def evaluate_homographies(
    folder: Path,
    extractors: list[Extractor],
    pair_settings: HomographySettings,
    settings: ProtocolSettings,
    *,
    progress: Progress | None = None,
) -> Results:
    """Measure methods on homography sets in the Oxford layout.

    Args:
        folder: holds the scenes.
        extractors: the methods.
        pair_settings: size of the pictures.
        settings: how to measure.
        progress: wraps the rows, given their number.

    Returns:
        the results.
    """
    sets = HomographySets(folder, pair_settings)
    described = {"folder": sets.folder.name, **asdict(pair_settings)}
    return run_protocol(
        "homographies",
        sets.pairs(),
        sets.load,
        extractors,
        settings,
        pair_settings=described,
        progress=progress,
    )


def read_matrix(path: Path) -> Float[Array, "3 3"]:
    """The first 3x3 matrix of an OpenCV XML file.

    Args:
        path: file.

    Returns:
        the matrix.

    Raises:
        ValueError: if there is no 3x3 matrix in it.
    """
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        node = storage.root()
        matrices = [node.getNode(key).mat() for key in node.keys()]
        storage.release()
    except (cv2.error, SystemError) as error:  # OpenCV 5 hides its own error in a SystemError.
        raise ValueError(f"{path} is no OpenCV XML file") from error
    for matrix in matrices:
        if matrix is not None and matrix.shape == (3, 3):
            return matrix.astype(np.float64)
    raise ValueError(f"{path} holds no 3x3 matrix")
