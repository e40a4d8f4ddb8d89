"""Structure from motion on photos, by pycolmap in its own process: features, matches, models, pinhole pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.data.reconstructions.colmap_model import Reconstruction
from lfnet.files.atomic import replacing
from lfnet.integrations.pycolmap_process import PycolmapError, counting_pairs, run_pycolmap
from lfnet.preparation.joined_models import side_by_side
from lfnet.preparation.steps import LOG, PreparationError, remove, shortened
from lfnet.preparation.survey import Survey, camera_groups
from lfnet.progress import Counter, Say
from lfnet.settings import ConfigError, require_at_least

Pairing = Literal["auto", "exhaustive", "sequential", "spatial", "vocabulary"]


@dataclass(frozen=True)
class SfmSettings:
    """How cameras are found."""

    pairing: Pairing = "auto"
    """Which photos are matched: exhaustive (all with all: the cost grows with the square of their number), sequential
    (each with the next ones in order of names), spatial (with the nearest by EXIF GPS), vocabulary (with the most alike
    by a vocabulary tree), auto (exhaustive up to 200 photos, then spatial where all have GPS, else sequential)."""
    neighbours: int = 30
    """With how many others a photo is matched, unless all are."""
    vocabulary_tree: Path | None = None
    """File of a vocabulary tree of COLMAP's; nothing is downloaded. Sequential pairing closes loops with it."""
    cameras: Literal["auto", "single", "per-folder", "per-picture"] = "auto"
    """Photos that share a camera: auto goes by camera, focal length and size in their EXIF, and
    by folder and size where that is missing; single: one for all of a size. Collections of many people's photos without
    EXIF want per-picture."""
    camera_model: Literal["SIMPLE_RADIAL", "RADIAL", "OPENCV", "PINHOLE", "SIMPLE_PINHOLE"] = "SIMPLE_RADIAL"
    """COLMAP's camera model."""
    focal_length: float | None = None
    """Of all photos, px of the photo as it is; in place of EXIF."""
    max_side: int = 1600
    """Features are found in photos of at most this long side, px."""
    max_features: int = 8192
    """SIFT keypoints in a photo."""
    min_model: int = 3
    """Models of fewer pictures are dropped."""
    models: int = 1
    """How many of the largest models are kept, where the photos fall apart into several."""
    seed: int = 0
    """Of COLMAP's sampling."""

    def __post_init__(self) -> None:
        bounds = {"neighbours": 1, "max_side": 64, "max_features": 16, "min_model": 2, "models": 1}
        require_at_least(self, "sfm", bounds)
        if self.pairing == "vocabulary" and self.vocabulary_tree is None:
            raise ConfigError("pairing vocabulary: name the file of a vocabulary tree (COLMAP's site has some)")
        if self.vocabulary_tree is not None and not self.vocabulary_tree.is_file():
            raise ConfigError(f"vocabulary_tree: there is no file {self.vocabulary_tree}")
        if self.focal_length is not None and not self.focal_length > 0:
            raise ConfigError(f"focal_length: expected px above 0, got {self.focal_length}")


EXHAUSTIVE_UP_TO = 200
"""Photos that `auto` matches all with all: 20,000 pairs, about an hour of two cores at 8,000 features."""
BLOCK = 10
"""Photos in a block of exhaustive matching: what is done is kept block by block."""
STARTS: tuple[dict[str, dict[str, float | bool]], ...] = (
    {},
    {"mapper": {"init_min_tri_angle": 6.0}},
    {
        "mapper": {"init_min_tri_angle": 2.0, "init_max_forward_motion": 1.0, "filter_min_tri_angle": 1.0},
        "triangulation": {"ignore_two_view_tracks": False, "min_angle": 1.0},
    },
)
"""Demands on a model, tried in turn until enough register: COLMAP's own; a nearer first pair; and those under which a
walk along a street, where the camera moves forward and each thing is seen twice, finds a start and enough points."""
ENOUGH = 0.8
"""Share of the photos that, once registered, makes further starts needless."""
PARAMETERS = {"SIMPLE_PINHOLE": (1, 0), "PINHOLE": (2, 0), "SIMPLE_RADIAL": (1, 1), "RADIAL": (1, 2), "OPENCV": (2, 4)}
"""Focal lengths and distortions among the parameters of a camera model."""


class StructureFromMotion:
    """The steps of structure from motion in a folder of work.

    Args:
        work: folder for the database and the models.
        photos: folder of photos laid out by the survey.
        masks: folder of masks laid out by it; None where there are none.
        threads: of COLMAP; -1 takes all cores.
    """

    def __init__(self, work: Path, photos: Path, masks: Path | None, settings: SfmSettings, threads: int) -> None:
        self._photos = str(photos)
        self._masks = "" if masks is None else str(masks)
        self._settings = settings
        self._threads = threads
        self._log = work / LOG
        self.features = work / "features.db"
        self.matches = work / "matches.db"
        self.models = work / "models"
        self.undistorted = work / "undistorted"

    def find_features(self, survey: Survey, progress: Counter) -> dict[str, Any]:
        """SIFT of every photo; those found before a stop are kept.

        Returns:
            Number of cameras, of keypoints, and names of photos whose focal length was guessed.

        Raises:
            PreparationError: the photos have no keypoints to speak of.
        """
        if not self.features.exists():
            _forget_journals(self.features)
            with replacing(self.features) as temporary:
                run_pycolmap(
                    "register_pictures",
                    self._log,
                    database=str(temporary),
                    images=self._photos,
                    groups=self._groups(survey),
                    camera_model=self._settings.camera_model,
                )
        found = run_pycolmap(
            "extract_features",
            self._log,
            progress,
            database=str(self.features),
            images=self._photos,
            names=[photo.staged for photo in survey.photos],
            masks=self._masks,
            threads=self._threads,
            max_side=self._settings.max_side,
            max_features=self._settings.max_features,
        )
        if not found["keypoints"]:
            raise PreparationError("no keypoints in any photo: are they blank, or masked all over?")
        return {name: found[name] for name in ("cameras", "keypoints", "guessed_focal_lengths")}

    def _groups(self, survey: Survey) -> list[dict[str, Any]]:
        """Groups of photos for the worker, with the parameters of their cameras where the user gives them."""
        groups = camera_groups(survey, self._settings.cameras)
        focal = self._settings.focal_length
        if focal is None:
            return [{**group, "parameters": ""} for group in groups]
        sizes = {photo.staged: photo.size for photo in survey.photos}
        focal_lengths, distortions = PARAMETERS[self._settings.camera_model]
        by_size: list[dict[str, Any]] = []
        for group in groups:
            for size in sorted({sizes[name] for name in group["names"]}):
                names = [name for name in group["names"] if sizes[name] == size]
                values = [focal] * focal_lengths + [size[0] / 2, size[1] / 2] + [0.0] * distortions
                by_size.append({**group, "names": names, "parameters": ",".join(map(str, values))})
        return by_size

    def match(self, survey: Survey, progress: Counter, say: Say) -> dict[str, Any]:
        """Match photos and verify the matches; blocks matched before a stop are kept.

        Returns:
            The pairing, and how many pairs were matched and verified.

        Raises:
            PreparationError: no two photos match, or spatial pairing of photos without GPS.
        """
        names, tree = [photo.name for photo in survey.photos], self._settings.vocabulary_tree
        pairing = _choose_pairing(self._settings, survey, say)
        all_pairs = len(names) * (len(names) - 1) // 2
        limit = all_pairs if pairing == "exhaustive" else min(len(names) * self._settings.neighbours, all_pairs)
        say(f"matching: {pairing}, up to {limit} pairs")
        if not self.matches.exists():
            _forget_journals(self.matches)
            with replacing(self.matches) as temporary:
                shutil.copyfile(self.features, temporary)
        with counting_pairs(self.matches, limit, progress):
            found = run_pycolmap(
                "match_features",
                self._log,
                database=str(self.matches),
                pairing=pairing,
                block=BLOCK,
                neighbours=self._settings.neighbours,
                vocabulary_tree="" if tree is None else str(tree),
                threads=self._threads,
                seed=self._settings.seed,
            )
        if not found["verified"]:
            raise PreparationError(
                f"no two of the {len(names)} photos match ({shortened(names)}): they must overlap, by half or more of "
                "the picture from one to the next, and show something with texture"
            )
        return {"pairing": pairing, "matched": found["matched"], "verified": found["verified"]}

    def map(self, survey: Survey, progress: Counter) -> dict[str, Any]:
        """Find cameras and points. The first way to start that registers enough is taken, else the best.

        Returns:
            Of each model kept: its folder's name, names, points, reprojection error in px, track length; of each
            dropped: its names; and the names that are in none.

        Raises:
            PreparationError: no model came out.
        """
        total, most = len(survey.photos), self._settings.models
        best: tuple[int, int, list[dict[str, Any]]] = (0, 0, [])
        attempts = self.models.with_name(f"{self.models.name}.part")
        remove(attempts)
        for number, demands in enumerate(STARTS):
            models = self._map_once(attempts / str(number), demands, total, progress)
            registered = len({name for model in models[:most] for name in model["names"]})
            if registered > best[0]:
                best = (registered, number, models)
            if registered >= ENOUGH * total:
                break
        registered, number, models = best
        if registered < self._settings.min_model:
            raise PreparationError(
                f"none of the {total} photos could be placed: {shortened([photo.name for photo in survey.photos])}. "
                "They must overlap by half or more and be taken from different places (not turned on the spot); "
                f"without a focal length in EXIF give --sfm.focal-length; COLMAP's messages are in {self._log}"
            )
        remove(self.models)
        (attempts / str(number)).rename(self.models)
        remove(attempts)
        seen = {name for model in models for name in model["names"]}
        return {
            "kept": models[:most],
            "dropped": [model["names"] for model in models[most:]],
            "unregistered": [photo.staged for photo in survey.photos if photo.staged not in seen],
            "demands": STARTS[number],
        }

    def _map_once(self, output: Path, demands: dict[str, Any], total: int, progress: Counter) -> list[dict[str, Any]]:
        """Models of enough pictures, the largest first."""
        output.mkdir(parents=True)
        try:
            found = run_pycolmap(
                "map_pictures",
                self._log,
                progress,
                database=str(self.matches),
                images=self._photos,
                output=str(output),
                threads=self._threads,
                min_pictures=self._settings.min_model,
                demands=demands,
                seed=self._settings.seed,
                total=total,
            )
        except PycolmapError as error:
            raise PreparationError(str(error)) from error
        models = [model for model in found["models"] if len(model["names"]) >= self._settings.min_model]
        return sorted(models, key=lambda model: (-len(model["names"]), model["model"]))

    def undistort(self, kept: Sequence[dict[str, Any]], size: int, progress: Counter) -> Reconstruction:
        """Pinhole pictures of at most `size` px a side in `undistorted`/images, and the model that fits them.

        Several models are set beside each other in one, far enough apart that they share no place; no point and no pair
        joins them.
        """
        remove(self.undistorted)
        models = []
        for model in kept:
            name, pictures = str(model["model"]), len(model["names"])
            output = self.undistorted / name
            models.append(
                undistort_pictures(
                    self.models / name, self._photos, output, size, pictures, self._log, progress, self._masks
                )
            )
            for kind in ("images", "masks"):
                _move_files(output / kind, self.undistorted / kind)
        return side_by_side(models)


def undistort_pictures(
    model: Path, images: str, output: Path, size: int, total: int, log: Path, progress: Counter, masks: str = ""
) -> Reconstruction:
    """Write the pictures of a model as pinhole pictures of at most `size` px a side to a new folder.

    Returns:
        The model that fits them.
    """
    output.mkdir(parents=True)
    places = {"model": str(model), "images": images, "output": str(output), "masks": masks}
    run_pycolmap("undistort", log, progress, **places, size=size, total=total)
    return read_reconstruction(output / "sparse")


def _choose_pairing(settings: SfmSettings, survey: Survey, say: Say) -> Pairing:
    """The pairing that `auto` stands for."""
    pairing = settings.pairing
    without_gps = [photo.name for photo in survey.photos if not photo.has_gps]
    if pairing == "auto" and len(survey.photos) <= EXHAUSTIVE_UP_TO:
        pairing = "exhaustive"
    elif pairing == "auto":
        pairing = "sequential" if without_gps else "spatial"
    if pairing == "spatial" and without_gps:
        raise PreparationError(
            f"pairing spatial: {len(without_gps)} of {len(survey.photos)} photos have no GPS in their EXIF "
            f"({shortened(without_gps)}); use sequential, or a vocabulary tree"
        )
    staged = [photo.staged for photo in survey.photos]
    if pairing == "sequential" and sorted(staged) != staged:
        say(
            "COLMAP takes photos in the order of their letters (img10 before img2), which is not that of their "
            "numbers: pad the numbers with zeros, or the next photos in time are not matched"
        )
    return pairing


def _forget_journals(database: Path) -> None:
    """Delete what SQLite keeps beside a database in use: left by one that is gone, it would be laid over a new one."""
    for ending in ("-wal", "-shm", "-journal"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def _move_files(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")) if source.is_dir() else []:
        place = target / path.relative_to(source)
        if path.is_file() and not place.exists():  # A picture in two models stays with the larger.
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
