"""COLMAP with one's own features: keypoints and matches into its database, verified and mapped by pycolmap.

pycolmap (extra `sfm`) runs in a process of its own (`pycolmap_process`); what it is given lies beside the database as
NumPy files.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from lfnet.coordinates import colmap_from_pixel
from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.files.atomic import make_folder, write_bytes
from lfnet.images import image_size, natural_key
from lfnet.integrations.opencv import PATCH_PIXELS
from lfnet.integrations.pycolmap_process import run_pycolmap
from lfnet.progress import Counter

CameraModel = Literal["SIMPLE_RADIAL", "RADIAL", "OPENCV", "PINHOLE", "SIMPLE_PINHOLE"]

LOG = "colmap.log"
"""COLMAP's own messages, beside the database."""

_MAKE, _MODEL, _EXIF, _FOCAL_LENGTH = 0x010F, 0x0110, 0x8769, 0x920A
"""Tags of EXIF 2.32."""


@dataclass(frozen=True)
class CameraSettings:
    """What is known of the cameras of some pictures."""

    sharing: Literal["auto", "single", "per-picture"] = "auto"
    """Pictures that share a camera: those of one size with the same camera and focal length in their EXIF, all, or
    none."""
    model: CameraModel = "SIMPLE_RADIAL"
    """COLMAP's camera model, where the intrinsics are not known; it then takes the focal length of EXIF, or guesses."""
    intrinsics: Mapping[str, ArrayLike] = field(default_factory=dict)
    """(3, 3) of each picture by name, px, the centre of the top-left pixel at (0, 0): PINHOLE cameras that are kept as
    they are. Empty: they are found with the rest."""


@dataclass(frozen=True)
class ColmapModel:
    """What one model of a mapping holds."""

    folder: Path
    """COLMAP's files, for `read_reconstruction`."""
    names: list[str]
    """Pictures registered."""
    points: int
    observations: int
    """Keypoints that see a point."""
    track_length: float
    """Mean number of pictures that see a point."""
    reprojection_error: float
    """Mean distance of points from their keypoints, px of the pictures as stored."""


class ColmapDatabase:
    """A database of COLMAP's that is filled with features and matches of any origin, verified and mapped.

    Args:
        path: of the database; its folder, made where it is missing, also takes COLMAP's messages. What stands there is
            replaced when pictures are added.
        images: folder of pictures, as stored.
    """

    def __init__(self, path: str | Path, images: str | Path) -> None:
        self.path = Path(path)
        self.images = Path(images)
        self.log = self.path.parent / LOG
        self._fixed_cameras = False
        self._counts: dict[str, int] = {}

    def add_pictures(self, names: Sequence[str], cameras: CameraSettings | None = None) -> None:
        """Begin a new database with these pictures and their cameras.

        Args:
            names: relative to the folder of pictures.
            cameras: what is known of them.

        Raises:
            ValueError: intrinsics of some pictures only.
            ImageError: a picture can't be read.
            PycolmapError: pycolmap is missing or failed.
        """
        cameras = cameras or CameraSettings()
        groups = _groups(self.images, names, cameras)
        make_folder(self.path.parent)
        for ending in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        self._fixed_cameras = bool(cameras.intrinsics)
        run_pycolmap(
            "register_pictures",
            self.log,
            database=str(self.path),
            images=str(self.images),
            groups=groups,
            camera_model="PINHOLE" if self._fixed_cameras else cameras.model,
        )
        self._counts = dict.fromkeys(names, 0)

    def add_features(
        self, features: Mapping[str, Features], matches: Iterable[tuple[str, str, NDArray[np.int64]]]
    ) -> None:
        """Add keypoints, and matches of pairs of pictures.

        COLMAP gets positions, moved by its half pixel, sizes and orientations; it never sees descriptors.

        Args:
            features: of each picture, in pixels of the picture as stored.
            matches: two names, and (M, 2) index of a feature in either.

        Raises:
            ValueError: a picture that was not added, or an index that there is not.
            PycolmapError: pycolmap is missing or failed.
        """
        strangers = sorted(set(features) - set(self._counts))
        if strangers:
            raise UserError(f"features of picture {strangers[0]!r}, which was not added to {self.path}")
        names = list(features)
        place = {name: number for number, name in enumerate(names)}
        pairs, indices = [], []
        for name_a, name_b, index in matches:
            _check_matches(name_a, name_b, index, features)
            if len(index):
                pairs.append((place[name_a], place[name_b]))
                indices.append(np.asarray(index, np.uint32))
        content = io.BytesIO()
        keypoints = [_keypoints(features[name]) for name in names]
        # Not compressed: pycolmap's process has a zlib of another make.
        np.savez(
            content,
            keypoints=np.concatenate([np.zeros((0, 4), np.float32), *keypoints]),
            keypoint_counts=np.array([len(rows) for rows in keypoints], np.int64),
            pairs=np.array(pairs, np.int64).reshape(-1, 2),
            matches=np.concatenate([np.zeros((0, 2), np.uint32), *indices]),
            match_counts=np.array([len(rows) for rows in indices], np.int64),
        )
        data = self.path.with_suffix(".npz")
        write_bytes(data, content.getvalue())
        try:
            run_pycolmap("import_features", self.log, database=str(self.path), names=names, data=str(data))
        finally:
            data.unlink(missing_ok=True)

    def verify(self, *, threads: int = -1, seed: int = 0) -> int:
        """Verify all matches by two-view geometry, under COLMAP's defaults.

        Args:
            threads: -1 takes all cores.
            seed: of COLMAP's sampling, in versions that have one.

        Returns:
            number of pairs verified.

        Raises:
            PycolmapError: pycolmap is missing or failed.
        """
        pairs = self.path.with_name(self.path.stem + "-pairs.txt")
        try:
            found = run_pycolmap(
                "verify_matches", self.log, database=str(self.path), pairs=str(pairs), threads=threads, seed=seed
            )
        finally:
            pairs.unlink(missing_ok=True)
        return int(found["verified"])

    def map(
        self,
        output: str | Path,
        *,
        threads: int = -1,
        seed: int = 0,
        least_pictures: int = 3,
        progress: Counter | None = None,
    ) -> list[ColmapModel]:
        """Incremental structure from motion, under COLMAP's defaults.

        Args:
            output: folder for the models.
            threads: -1 takes all cores.
            seed: of COLMAP's sampling, in versions that have one.
            least_pictures: models of fewer are left out.
            progress: called as pictures register.

        Returns:
            models, the one of most pictures first; none where nothing could be mapped.

        Raises:
            PycolmapError: pycolmap is missing or failed.
        """
        make_folder(output)
        found = run_pycolmap(
            "map_pictures",
            self.log,
            progress,
            database=str(self.path),
            images=str(self.images),
            output=str(output),
            threads=threads,
            min_pictures=least_pictures,
            demands={},
            fixed_cameras=self._fixed_cameras,
            seed=seed,
            total=len(self._counts),
        )
        models = [_model(Path(output), values) for values in found["models"]]
        models = [model for model in models if len(model.names) >= least_pictures]
        return sorted(models, key=lambda model: (-len(model.names), -model.points))


def pinhole_parameters(intrinsics: ArrayLike) -> str:
    """Intrinsics as COLMAP takes them for its camera PINHOLE.

    Args:
        intrinsics: (3, 3), px, the centre of the top-left pixel at (0, 0).

    Returns:
        focal lengths and principal point, with a comma between, the centre of the top-left pixel at (0.5, 0.5).

    Raises:
        ValueError: another shape, or skewed axes, which PINHOLE doesn't know.
    """
    matrix = np.asarray(intrinsics, np.float64)
    if matrix.shape != (3, 3) or abs(matrix[0, 1]) > 1e-6 * abs(matrix[0, 0]):
        raise UserError(f"intrinsics must be (3, 3) without skew, got {matrix.tolist()}")
    values = [matrix[0, 0], matrix[1, 1], *colmap_from_pixel(matrix[:2, 2])]
    return ",".join(repr(float(value)) for value in values)


def _groups(images: Path, names: Sequence[str], cameras: CameraSettings) -> list[dict[str, Any]]:
    """Pictures that share a camera, as the worker takes them."""
    if cameras.intrinsics:
        missing = [name for name in names if name not in cameras.intrinsics]
        if missing:
            raise UserError(f"intrinsics of all pictures or none, got none of {missing[0]!r}")
        return [
            {"names": [name], "cameras": "single", "parameters": pinhole_parameters(cameras.intrinsics[name])}
            for name in names
        ]
    if cameras.sharing == "per-picture":
        return [{"names": list(names), "cameras": "per-picture", "parameters": ""}]
    groups: dict[Any, list[str]] = {}
    for name in sorted(names, key=natural_key):
        groups.setdefault(None if cameras.sharing == "single" else _camera_of(images / name), []).append(name)
    return [{"names": group, "cameras": "single", "parameters": ""} for group in groups.values()]


def _camera_of(path: Path) -> tuple[Any, ...]:
    """Size, make, model and focal length of a photo; what its EXIF lacks counts as equal."""
    size = image_size(path)
    try:
        with Image.open(path) as picture:
            exif = picture.getexif()
            return size, exif.get(_MAKE), exif.get(_MODEL), exif.get_ifd(_EXIF).get(_FOCAL_LENGTH)
    except (OSError, SyntaxError, TypeError, ValueError, KeyError):
        return size, None, None, None  # Damaged metadata on a sound picture.


def _keypoints(features: Features) -> NDArray[np.float32]:
    """COLMAP's four columns: x, y, size and orientation."""
    places = colmap_from_pixel(features.keypoints)
    columns = (places, PATCH_PIXELS * features.scales[:, None], features.orientations[:, None])
    return np.concatenate(columns, axis=1).astype(np.float32)


def _check_matches(name_a: str, name_b: str, index: NDArray[Any], features: Mapping[str, Features]) -> None:
    for column, name in enumerate((name_a, name_b)):
        if name not in features:
            raise UserError(f"matches of {name_a!r} and {name_b!r}: no features of {name!r}")
        numbers = np.asarray(index)[:, column]
        last = len(features[name]) - 1
        if len(numbers) and not (0 <= numbers.min() and numbers.max() <= last):
            raise UserError(
                f"matches of {name_a!r} and {name_b!r}: expected indices from 0 to {last} in {name!r}, "
                f"got {numbers.min()} to {numbers.max()}"
            )


def _model(output: Path, values: dict[str, Any]) -> ColmapModel:
    return ColmapModel(
        output / str(values["model"]),
        values["names"],
        values["points"],
        values["observations"],
        values["track_length"],
        values["reprojection_error"],
    )
