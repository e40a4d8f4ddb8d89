"""Structure from motion on photos, by pycolmap in its own process: features, matches, models, pinhole pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.data.reconstructions.colmap_model import Points, Reconstruction
from lfnet.files.atomic import replacing
from lfnet.integrations.pycolmap_process import PycolmapError, counting_pairs, run_pycolmap
from lfnet.preparation.steps import LOG, PreparationError, remove
from lfnet.preparation.survey import Survey, camera_groups
from lfnet.progress import Counter
from lfnet.settings import ConfigError

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
        for name, least in (("neighbours", 1), ("max_side", 64), ("max_features", 16), ("min_model", 2), ("models", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected at least {least}, got {getattr(self, name)}")
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


def choose_pairing(settings: SfmSettings, survey: Survey) -> Pairing:
    """The pairing that `auto` stands for.

    Raises:
        PreparationError: spatial pairing of photos without GPS.
    """
    if settings.pairing == "auto":
        if len(survey.photos) <= EXHAUSTIVE_UP_TO:
            return "exhaustive"
        return "spatial" if all(photo.has_gps for photo in survey.photos) else "sequential"
    missing = [photo.name for photo in survey.photos if not photo.has_gps]
    if settings.pairing == "spatial" and missing:
        raise PreparationError(
            f"pairing spatial: {len(missing)} of {len(survey.photos)} photos have no GPS in their EXIF "
            f"({shortened(missing)}); use sequential, or a vocabulary tree"
        )
    return settings.pairing


def expected_pairs(pairing: Pairing, count: int, neighbours: int) -> int:
    """How many pairs will be matched, at most."""
    if pairing == "exhaustive":
        return count * (count - 1) // 2
    return min(count * neighbours, count * (count - 1) // 2)


class StructureFromMotion:
    """The steps of structure from motion in a folder of work.

    Args:
        work: folder for the database and the models.
        photos: folder of photos laid out by the survey.
        masks: folder of masks laid out by it; None where there are none.
        threads: of COLMAP; -1 takes all cores.
    """

    def __init__(self, work: Path, photos: Path, masks: Path | None, settings: SfmSettings, threads: int) -> None:
        self.photos = photos
        self.masks = masks
        self.settings = settings
        self.threads = threads
        self.features = work / "features.db"
        self.matches = work / "matches.db"
        self.models = work / "models"
        self.undistorted = work / "undistorted"
        self.log = work / LOG

    def find_features(self, survey: Survey, progress: Counter) -> dict[str, Any]:
        """SIFT of every photo; those found before a stop are kept.

        Returns:
            Number of cameras, of keypoints, and names of photos whose focal length was guessed.

        Raises:
            PreparationError: the photos have no keypoints to speak of.
        """
        names = [photo.staged for photo in survey.photos]
        if not self.features.exists():
            _forget_journals(self.features)
            with replacing(self.features) as temporary:
                run_pycolmap(
                    "register_pictures",
                    self.log,
                    database=str(temporary),
                    images=str(self.photos),
                    groups=self._groups(survey),
                    camera_model=self.settings.camera_model,
                )
        found = run_pycolmap(
            "extract_features",
            self.log,
            progress,
            database=str(self.features),
            images=str(self.photos),
            names=names,
            masks="" if self.masks is None else str(self.masks),
            threads=self.threads,
            max_side=self.settings.max_side,
            max_features=self.settings.max_features,
        )
        if not found["keypoints"]:
            raise PreparationError("no keypoints in any photo: are they blank, or masked all over?")
        return {name: found[name] for name in ("cameras", "keypoints", "guessed_focal_lengths")}

    def _groups(self, survey: Survey) -> list[dict[str, Any]]:
        """Groups of photos for the worker, with the parameters of their cameras where the user gives them."""
        groups = camera_groups(survey, self.settings.cameras)
        focal = self.settings.focal_length
        if focal is None:
            return [{**group, "parameters": ""} for group in groups]
        sizes = {photo.staged: photo.size for photo in survey.photos}
        by_size: list[dict[str, Any]] = []
        for group in groups:
            for size in sorted({sizes[name] for name in group["names"]}):
                names = [name for name in group["names"] if sizes[name] == size]
                by_size.append({**group, "names": names, "parameters": self._parameters(focal, size)})
        return by_size

    def _parameters(self, focal: float, size: tuple[int, int]) -> str:
        focal_lengths, distortions = {
            "SIMPLE_PINHOLE": (1, 0), "PINHOLE": (2, 0), "SIMPLE_RADIAL": (1, 1), "RADIAL": (1, 2), "OPENCV": (2, 4)
        }[self.settings.camera_model]
        values = [focal] * focal_lengths + [size[0] / 2, size[1] / 2] + [0.0] * distortions
        return ",".join(map(str, values))

    def match(self, survey: Survey, progress: Counter) -> dict[str, Any]:
        """Match photos and verify the matches; blocks matched before a stop are kept.

        Returns:
            The pairing, and how many pairs were matched and verified.

        Raises:
            PreparationError: no two photos match.
        """
        pairing = choose_pairing(self.settings, survey)
        if not self.matches.exists():
            _forget_journals(self.matches)
            with replacing(self.matches) as temporary:
                shutil.copyfile(self.features, temporary)
        tree = self.settings.vocabulary_tree
        expected = expected_pairs(pairing, len(survey.photos), self.settings.neighbours)
        with counting_pairs(self.matches, expected, progress):
            found = run_pycolmap(
                "match_features",
                self.log,
                database=str(self.matches),
                pairing=pairing,
                block=BLOCK,
                neighbours=self.settings.neighbours,
                vocabulary_tree="" if tree is None else str(tree),
                threads=self.threads,
                seed=self.settings.seed,
            )
        if not found["verified"]:
            raise PreparationError(
                f"no two of the {len(survey.photos)} photos match "
                f"({shortened([photo.name for photo in survey.photos])}): they must overlap, by half or more of the "
                "picture from one to the next, and show something with texture"
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
        total = len(survey.photos)
        best: tuple[int, int, list[dict[str, Any]]] = (0, 0, [])
        attempts = self.models.with_name(f"{self.models.name}.part")
        remove(attempts)
        for number, demands in enumerate(STARTS):
            output = attempts / str(number)
            output.mkdir(parents=True)
            models = self._map_once(output, demands, total, progress)
            models.sort(key=lambda model: (-len(model["names"]), model["model"]))
            registered = len({name for model in models[: self.settings.models] for name in model["names"]})
            if registered > best[0]:
                best = (registered, number, models)
            if registered >= ENOUGH * total:
                break
        registered, number, models = best
        if registered < self.settings.min_model:
            raise PreparationError(_nothing_registered(survey, self.log))
        remove(self.models)
        (attempts / str(number)).rename(self.models)
        remove(attempts)
        kept, dropped = models[: self.settings.models], models[self.settings.models :]
        seen = {name for model in models for name in model["names"]}
        return {
            "kept": kept,
            "dropped": [model["names"] for model in dropped],
            "unregistered": [photo.staged for photo in survey.photos if photo.staged not in seen],
            "demands": STARTS[number],
        }

    def _map_once(
        self, output: Path, demands: dict[str, Any], total: int, progress: Counter
    ) -> list[dict[str, Any]]:
        try:
            found = run_pycolmap(
                "map_pictures",
                self.log,
                progress,
                database=str(self.matches),
                images=str(self.photos),
                output=str(output),
                threads=self.threads,
                min_pictures=self.settings.min_model,
                demands=demands,
                seed=self.settings.seed,
                total=total,
            )
        except PycolmapError as error:
            raise PreparationError(str(error)) from error
        return [model for model in found["models"] if len(model["names"]) >= self.settings.min_model]

    def undistort(self, kept: Sequence[dict[str, Any]], size: int, progress: Counter) -> Reconstruction:
        """Pinhole pictures of at most `size` px a side in `undistorted`/images, and the model that fits them.

        Several models are set beside each other in one, far enough apart that they share no place; no point and no pair
        joins them.
        """
        remove(self.undistorted)
        models = []
        for model in kept:
            output = self.undistorted / str(model["model"])
            output.mkdir(parents=True)
            run_pycolmap(
                "undistort",
                self.log,
                progress,
                model=str(self.models / str(model["model"])),
                images=str(self.photos),
                output=str(output),
                size=size,
                masks="" if self.masks is None else str(self.masks),
                total=len(model["names"]),
            )
            models.append(read_reconstruction(output / "sparse"))
            for kind in ("images", "masks"):
                _move_files(output / kind, self.undistorted / kind)
        return side_by_side(models)


def side_by_side(models: Sequence[Reconstruction]) -> Reconstruction:
    """Several models as one, each moved along x past the one before; pictures keep their numbers."""
    cameras, images, ids, parts = {}, {}, 0, []
    edge = 0.0
    for model in models:
        poses = [image.camera_from_world for image in model.images.values()]
        centres = np.array([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])
        places = np.concatenate((centres, model.points.positions))
        extent = float(np.ptp(places[:, 0])) if len(places) else 0.0
        shift = np.array([edge - places[:, 0].min(), 0.0, 0.0]) if parts else np.zeros(3)
        edge = float(places[:, 0].max()) + shift[0] + max(extent, 1e-6)
        order = np.argsort(model.points.ids)
        sorted_ids = model.points.ids[order]
        first_camera = max(cameras, default=0)
        for camera in model.cameras.values():
            cameras[first_camera + camera.camera_id] = replace(camera, camera_id=first_camera + camera.camera_id)
        for image in model.images.values():
            if image.image_id in images:  # A picture in two models stays with the larger.
                continue
            pose = image.camera_from_world.copy()
            pose[:3, 3] -= pose[:3, :3] @ shift
            numbers = ids + 1 + np.searchsorted(sorted_ids, image.point_ids)
            images[image.image_id] = replace(
                image, camera_id=first_camera + image.camera_id, camera_from_world=pose, point_ids=numbers
            )
        numbers = ids + 1 + np.arange(len(order))
        places = model.points.positions[order] + shift
        parts.append(Points(numbers, places, model.points.colours[order], model.points.errors[order]))
        ids += len(order)
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Points)]
    return Reconstruction(cameras, images, Points(*map(np.concatenate, columns)))


def _forget_journals(database: Path) -> None:
    """Delete what SQLite keeps beside a database in use: left by one that is gone, it would be laid over a new one."""
    for ending in ("-wal", "-shm", "-journal"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def _move_files(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")) if source.is_dir() else []:
        if path.is_file():
            place = target / path.relative_to(source)
            if not place.exists():  # A picture in two models stays with the larger.
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)


def _nothing_registered(survey: Survey, log: Path) -> str:
    return (
        f"none of the {len(survey.photos)} photos could be placed: {shortened([p.name for p in survey.photos])}. They "
        "must overlap by half or more and be taken from different places (not turned on the spot); without a focal "
        f"length in EXIF give --sfm.focal-length; COLMAP's messages are in {log}"
    )


def shortened(names: Sequence[str], shown: int = 8) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
