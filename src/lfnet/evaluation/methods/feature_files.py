"""Features that somebody else has made, from a file in hloc's layout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from lfnet.features import Features
from lfnet.files.checksum import checksum
from lfnet.files.hdf5_reading import find_group
from lfnet.integrations.hloc import FeatureFileError, count_keypoints, list_names, open_file, read_features

if TYPE_CHECKING:

    from lfnet.coordinates import Size

class FeatureFile:
    """Features of pictures, read from an HDF5 file that any program has made.

    Pictures are named in it relative to some folder, which may lie above or below the data's own: of a picture's name
    here and there, the one may end with the whole of the other, as long as no second picture's does.

    Args:
        path: of the file: a group for each picture, with keypoints (N, 2) in pixels as stored, descriptors (D, N),
            image_size (2,) and, where there are any, scores, scales and orientations.

    Raises:
        FeatureFileError: it is missing, damaged, or holds no features.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        """In tables; `make_methods` puts the folder before it where two files have one name."""
        with open_file(self.path) as file:
            self._names = {name: None for name in list_names(file) if "keypoints" in _group(file, name)}
            counts = [count_keypoints(file, name) for name in self._names]
            scored = any("scores" in _group(file, name) for name in self._names)
        if not self._names:
            raise FeatureFileError(f"{path}: holds no keypoints; expected a group for each picture, as hloc writes it")
        self.most_keypoints = max(counts)
        """Keypoints of the picture that has most: a larger budget can't be measured fairly."""
        self.settings: dict[str, Any] = {
            "kind": "file",
            "sha256": checksum(self.path),
            "order": "by score" if scored else "as in the file, which has no scores",
            "most_keypoints": self.most_keypoints,
        }
        self._by_ending = _endings(self._names)
        self._found: dict[str, str] = {}
        """Pictures that were asked for, by their name in the file."""

    def features(self, picture: str, size: Size, max_keypoints: int) -> Features:
        """The strongest features of one picture; those without scores in the file's order.

        Args:
            picture: its name in the data set.
            size: (width, height) at which the benchmark looks at it, in pixels.
            max_keypoints: the budget.

        Returns:
            at most that many features, in pixels of the picture at that size.

        Raises:
            FeatureFileError: the file has no such picture, or not all of its arrays.
        """
        name = self.find(picture)
        with open_file(self.path) as file:
            found = read_features(file, name)
            scored = "scores" in _group(file, name)
        if not _alike(found.image_size, size):
            there = f"picture {name!r} is {found.image_size} there"
            raise FeatureFileError(f"{self.path}: {there}, {picture!r} is {size} here: another, or turned, picture")
        kept = found.top(max_keypoints) if scored else found.select(np.arange(len(found))[:max_keypoints])
        return kept.resized(size)

    def find(self, picture: str) -> str:
        """The name that the file has for a picture.

        Raises:
            FeatureFileError: none, or several that end alike, or one that another picture has already.
        """
        fitting = [picture] if picture in self._names else self._by_ending.get(picture, [])
        if not fitting:
            parts = picture.split("/")
            endings = ("/".join(parts[start:]) for start in range(1, len(parts)))
            fitting = [name for name in endings if name in self._names][:1]
        if not fitting:
            example = next(iter(self._names))
            raise FeatureFileError(f"{self.path}: no features of picture {picture!r}; it has {example!r} and so on")
        if len(fitting) > 1:
            some = ", ".join(fitting[:3])
            raise FeatureFileError(f"{self.path}: {picture!r} could be any of {some}; name folders alike")
        other = self._found.setdefault(fitting[0], picture)
        if not (f"/{other}".endswith(f"/{picture}") or f"/{picture}".endswith(f"/{other}")):
            raise FeatureFileError(
                f"{self.path}: {fitting[0]!r} could be {other!r} or {picture!r}; name pictures with their folders"
            )
        return fitting[0]


def _group(file: h5py.File, name: str) -> h5py.Group:
    group = find_group(file, name, FeatureFileError)
    assert group is not None, "names are those of groups that hold arrays"
    return group


def _endings(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by each of their endings: `a/b/c`, `b/c` and `c`."""
    found: dict[str, list[str]] = {}
    for name in names:
        parts = name.split("/")
        for start in range(len(parts)):
            found.setdefault("/".join(parts[start:]), []).append(name)
    return found


def _alike(one: Size, other: Size) -> bool:
    """Whether two sizes are of one picture, resized: up to a pixel of the smaller, as sides are whole numbers."""
    small, large = sorted((one, other))
    factor = small[0] / large[0]
    return abs(small[1] - factor * large[1]) <= 1 + large[1] / large[0]
