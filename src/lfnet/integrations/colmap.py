"""COLMAP with one's own features: into its database, new or one that is there, verified, mapped and undistorted.

pycolmap (extra `sfm`) runs in a process of its own (`pycolmap_process`); features and matches are written beside it
(`colmap_tables`). Nothing that a database held before is taken away unless asked.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfnet.coordinates import colmap_from_pixel
from lfnet.data.reconstructions.colmap_model import MODELS
from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.files.atomic import make_folder, replacing
from lfnet.image_decoding import read_metadata
from lfnet.image_files import natural_key
from lfnet.images import image_size
from lfnet.integrations.colmap_keypoints import to_colmap
from lfnet.integrations.colmap_tables import ColmapDatabaseError, Existing, open_tables
from lfnet.integrations.pycolmap_process import run_pycolmap
from lfnet.progress import Counter

Sharing = Literal["auto", "single", "per-folder", "per-picture"]

LOG = "colmap.log"
"""COLMAP's own messages, beside the database."""

_MAKE, _MODEL, _FOCAL_LENGTH = 0x010F, 0x0110, 0x920A
"""Tags of EXIF 2.32."""


@dataclass(frozen=True)
class CameraSettings:
    """What is known of the cameras of some pictures."""

    sharing: Sharing = "auto"
    """Pictures of one size that share a camera: those with the same camera and focal length in their EXIF, all, those
    of a folder, or none."""
    model: str = "SIMPLE_RADIAL"
    """COLMAP's camera model, any of `MODELS`, where the intrinsics are not known."""
    parameters: tuple[float, ...] = ()
    """Of that model, in COLMAP's order and frame (the centre of the top-left pixel at (0.5, 0.5)). Empty: from the
    focal length of EXIF, or guessed."""
    intrinsics: Mapping[str, ArrayLike] = field(default_factory=dict)
    """(3, 3) of each picture by name, px, the centre of the top-left pixel at (0, 0): PINHOLE cameras that are kept as
    they are. Empty: they are found with the rest."""

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise UserError(f"camera model {self.model!r}: expected one of COLMAP's, {', '.join(MODELS)}")
        wanted = MODELS[self.model].parameters
        if self.parameters and len(self.parameters) != wanted:
            raise UserError(f"camera parameters: {self.model} has {wanted}, got {len(self.parameters)}")


@dataclass
class ImportReport:
    """What became of features and matches that were given to a database."""

    pictures: int = 0
    """Pictures whose features were written."""
    already: int = 0
    """Pictures that had these very features."""
    behind_others: int = 0
    """Of those written, pictures that had other features, which stay in front of these."""
    keypoints: int = 0
    """Written."""
    pairs: int = 0
    """Pairs whose matches were written."""


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
        path: of the database, which may be there already; its folder, made where it is missing, also takes COLMAP's
            messages.
        images: folder of pictures, as stored.
    """

    def __init__(self, path: str | Path, images: str | Path) -> None:
        self.path = Path(path)
        self.images = Path(images)
        self.log = self.path.parent / LOG
        self._fixed_cameras = False

    def names(self) -> list[str]:
        """Names of the pictures in the database; none where there is no database yet.

        Raises:
            ColmapDatabaseError: it is not one of COLMAP's.
        """
        if not self.path.exists():
            return []
        with open_tables(self.path) as tables:
            return list(tables.ids)

    def digest(self) -> str:
        """A digest of all that a model is made from, which is equal where nothing changed."""
        with open_tables(self.path) as tables:
            return tables.digest()

    def add_pictures(self, names: Sequence[str], cameras: CameraSettings | None = None) -> list[str]:
        """Add those pictures that the database lacks, with new cameras; it is made where it is missing.

        Args:
            names: relative to the folder of pictures, by which those in the database are known.
            cameras: what is known of the cameras of those that are added.

        Returns:
            Names of those added.

        Raises:
            ColmapDatabaseError: not a database of COLMAP's, or it has pictures and none of them is among these; or
                COLMAP refuses a picture.
            ValueError: intrinsics of some pictures only.
            ImageError: a picture can't be read.
            PycolmapError: pycolmap is missing or failed.
        """
        cameras = cameras or CameraSettings()
        known = self.names()
        if known and not set(known) & set(names):
            example = next(iter(names), "none")
            raise ColmapDatabaseError(
                f"{self.path}: has pictures as {known[0]!r}, and none of those given, as {example!r}; give the "
                "folder that the names in the database start from"
            )
        new = sorted(set(names) - set(known), key=natural_key)
        if not new and self.path.exists():
            return []
        groups = _groups(self.images, new, cameras)
        self._fixed_cameras = bool(cameras.intrinsics)
        model = "PINHOLE" if cameras.intrinsics else cameras.model
        values = {"images": str(self.images), "groups": groups, "camera_model": model}
        make_folder(self.path.parent)
        if self.path.exists():
            run_pycolmap("register_pictures", self.log, database=str(self.path), **values)
        else:
            for ending in ("-wal", "-shm"):  # Journals of a database that is gone.
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
            with replacing(self.path) as temporary:
                run_pycolmap("register_pictures", self.log, database=str(temporary), **values)
        refused = sorted(set(new) - set(self.names()))
        if refused:
            raise ColmapDatabaseError(f"{self.images / refused[0]}: COLMAP refused it; its messages are in {self.log}")
        return new

    def add_features(
        self,
        features: Mapping[str, Features],
        matches: Iterable[tuple[str, str, NDArray[np.int64]]],
        *,
        existing: Existing = "append",
        descriptors: bool = False,
    ) -> ImportReport:
        """Add keypoints, and matches of pairs of pictures: all of them, or none if anything is wrong.

        COLMAP gets positions, moved by its half pixel, sizes and orientations. Features that a picture has already are
        not added again, so that the same call may be repeated.

        Args:
            features: of each picture, in pixels of the picture as stored; each is asked for once.
            matches: two names, and (M, 2) index of a feature in either.
            existing: other features of these pictures stay, in front of these, and so do their matches; or they go,
                with all matches of these pictures.
            descriptors: whether they are kept in the database too, as bytes of float32; COLMAP has no use for them.

        Raises:
            ColmapDatabaseError: a picture that the database lacks or knows at another size, or descriptors of two
                kinds for one picture.
            ValueError: an index that there is not.
        """
        report = ImportReport()
        with open_tables(self.path) as tables:
            strangers = sorted(set(features) - set(tables.ids))
            if strangers:
                raise ColmapDatabaseError(f"features of picture {strangers[0]!r}, which was not added to {self.path}")
            first, counts = {}, {}
            for name in features:
                found = features[name]
                tables.check_size(name, found.image_size)
                counts[name] = len(found)
                first[name], written = tables.write_keypoints(name, to_colmap(found), existing)
                report.pictures += written
                report.already += not written and len(found) > 0
                report.behind_others += written and first[name] > 0
                report.keypoints += written * len(found)
                if descriptors:
                    tables.write_descriptors(name, found.descriptors)
            for name_a, name_b, index in matches:
                _check_matches(name_a, name_b, index, counts)
                if len(index):
                    rows = np.asarray(index) + np.array((first[name_a], first[name_b]))
                    report.pairs += tables.write_matches(name_a, name_b, rows, existing)
        return report

    def verify(self, *, threads: int = -1, seed: int = 0) -> int:
        """Verify those matches that have not been yet by two-view geometry, under COLMAP's defaults.

        Args:
            threads: -1 takes all cores.
            seed: of COLMAP's sampling, in versions that have one.

        Returns:
            number of pairs that are verified now.

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
        fixed_cameras: bool = False,
        progress: Counter | None = None,
    ) -> list[ColmapModel]:
        """Incremental structure from motion, under COLMAP's defaults.

        Args:
            output: folder for the models.
            threads: -1 takes all cores.
            seed: of COLMAP's sampling, in versions that have one.
            least_pictures: models of fewer are left out.
            fixed_cameras: focal lengths and distortion stay as the database has them, as they do where pictures were
                added with their intrinsics.
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
            fixed_cameras=fixed_cameras or self._fixed_cameras,
            seed=seed,
            total=len(self.names()),
        )
        models = [_model(Path(output), values) for values in found["models"]]
        models = [model for model in models if len(model.names) >= least_pictures]
        return sorted(models, key=lambda model: (-len(model.names), -model.points))

    def undistort(
        self,
        model: ColmapModel,
        output: str | Path,
        *,
        long_side: int = -1,
        masks: str | Path | None = None,
        progress: Counter | None = None,
    ) -> None:
        """Pinhole pictures and their model, laid out as trainers of radiance fields and splats open them.

        The folder gets `images`, `sparse/0` (Gaussian splatting and its kin), `colmap/sparse/0` (the same files, where
        Nerfstudio looks), and `masks` where there are some.

        Args:
            model: of the pictures.
            output: folder that is made.
            long_side: largest side of the pictures, px; -1 leaves them as large as they are.
            masks: folder of masks of the pictures as stored, NAME.png beside NAME.
            progress: called as pictures are written.

        Raises:
            PycolmapError: pycolmap is missing or failed.
        """
        folder = Path(output)
        make_folder(folder)
        run_pycolmap(
            "undistort",
            self.log,
            progress,
            model=str(model.folder),
            images=str(self.images),
            output=str(folder),
            size=long_side,
            masks="" if masks is None else str(masks),
            total=len(model.names),
        )
        made = list((folder / "sparse").iterdir())
        make_folder(folder / "sparse" / "0")
        for file in made:
            file.rename(folder / "sparse" / "0" / file.name)
        shutil.copytree(folder / "sparse", folder / "colmap" / "sparse")
        shutil.rmtree(folder / "stereo")
        for script in folder.glob("run-colmap-*.sh"):  # Of PatchMatch, with a model at another place.
            script.unlink()


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
    if not names:
        return []
    if cameras.intrinsics:
        missing = [name for name in names if name not in cameras.intrinsics]
        if missing:
            raise UserError(f"intrinsics of all pictures or none, got none of {missing[0]!r}")
        return [
            {"names": [name], "cameras": "single", "parameters": pinhole_parameters(cameras.intrinsics[name])}
            for name in names
        ]
    parameters = ",".join(map(repr, cameras.parameters))
    if cameras.sharing == "per-picture":
        return [{"names": list(names), "cameras": "per-picture", "parameters": parameters}]
    groups: dict[Any, list[str]] = {}
    for name in names:
        groups.setdefault(_shared_by(images, name, cameras.sharing), []).append(name)
    return [{"names": group, "cameras": "single", "parameters": parameters} for group in groups.values()]


def _shared_by(images: Path, name: str, sharing: str) -> Any:
    """What pictures of one camera have in common."""
    if sharing == "auto":
        return _camera_of(images / name)
    return image_size(images / name), PurePosixPath(name).parent if sharing == "per-folder" else None


def _camera_of(path: Path) -> tuple[Any, ...]:
    """Size, make, model and focal length of a photo; what its EXIF lacks counts as equal."""
    told = read_metadata(path)
    return image_size(path), told.exif.get(_MAKE), told.exif.get(_MODEL), told.camera.get(_FOCAL_LENGTH)


def _check_matches(name_a: str, name_b: str, index: NDArray[Any], counts: Mapping[str, int]) -> None:
    for column, name in enumerate((name_a, name_b)):
        if name not in counts:
            raise UserError(f"matches of {name_a!r} and {name_b!r}: no features of {name!r}")
        numbers = np.asarray(index)[:, column]
        last = counts[name] - 1
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
