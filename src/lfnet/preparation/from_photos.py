"""From a folder of photos to a scene: survey, structure from motion, depth, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.integrations.pycolmap_process import PycolmapError, has_pycolmap
from lfnet.preparation.depth import DepthSettings
from lfnet.preparation.manifest import check_room, check_target, plain
from lfnet.preparation.pairs import PairSettings
from lfnet.preparation.scene_steps import SceneMaker, replace_folder
from lfnet.preparation.sfm import SfmSettings, StructureFromMotion, choose_pairing, expected_pairs, shortened
from lfnet.preparation.steps import PreparationError, Step, describe_tree, remove
from lfnet.preparation.survey import Survey, photo_names, survey_photos
from lfnet.progress import Progress, Say
from lfnet.settings import ConfigError

SIZE = 640
"""Long side of pictures and depth maps unless asked otherwise, px: training cuts crops of 192 px from them."""
BYTES_PER_FEATURE = 160
"""In the database: 128 of the descriptor, 24 of place and shape, and what surrounds them."""
BYTES_PER_PIXEL = 16
"""Of a scene's picture: itself, its depth map, and the raw one while it is made."""


@dataclass(frozen=True)
class PhotoSettings:
    """How photos become a scene."""

    size: int = SIZE
    """Long side of the undistorted pictures and of the depth maps, px."""
    masks: Path | None = None
    """Folder of masks, `NAME.jpg.png` or `NAME.png` for NAME.jpg: where they are 0 (people, sky), nothing is used."""
    border: int = 0
    """Pixels at the photos' edges that features are kept off, where a frame or a watermark is."""
    sfm: SfmSettings = field(default_factory=SfmSettings)
    depth: DepthSettings = field(default_factory=DepthSettings)
    pairs: PairSettings = field(default_factory=PairSettings)
    licence: str = "not stated"
    """Of the photos, noted in the manifest."""

    def __post_init__(self) -> None:
        if self.size < 64:
            raise ConfigError(f"size: expected at least 64 px, got {self.size}")
        if self.border < 0:
            raise ConfigError(f"border: expected px of at least 0, got {self.border}")
        if self.masks is not None and not self.masks.is_dir():
            raise ConfigError(f"masks: there is no folder {self.masks}")


def prepare_photos(
    photos: Path, scene: Path, settings: PhotoSettings, threads: int, progress: Progress, say: Say
) -> dict[str, Any]:
    """Make a scene of photos, or resume one.

    Args:
        photos: folder of pictures, searched to any depth.
        scene: folder to make.
        settings: how.
        threads: of COLMAP and of the depth maps.
        progress: told how far each step is.
        say: told what a person should know.

    Returns:
        The numbers of the manifest.

    Raises:
        PreparationError, PycolmapError, ImageError, PairError, OSError: with the remedy in a line.
    """
    names = photo_names(photos)
    check_target(scene, photos)
    if not has_pycolmap():
        raise PycolmapError("photos need structure from motion, which is an extra: pip install 'lfnet[sfm]'")
    _check_room(scene, len(names), settings)
    return _Photos(photos, names, scene, settings, threads, progress, say).make()


def _check_room(scene: Path, count: int, settings: PhotoSettings) -> None:
    database = 2 * settings.sfm.max_features * BYTES_PER_FEATURE
    pictures = settings.size**2 * BYTES_PER_PIXEL
    if not (scene / "manifest.json").exists():
        check_room(scene, count * (database + pictures), "lower --sfm.max-features or --size")


class _Photos(SceneMaker):
    """The steps of a scene of photos."""

    def __init__(
        self,
        photos: Path,
        names: Sequence[str],
        scene: Path,
        settings: PhotoSettings,
        threads: int,
        progress: Progress,
        say: Say,
    ) -> None:
        super().__init__(scene, settings.depth, settings.pairs, threads, progress, say)
        self._photos = photos
        self._names = list(names)
        self._settings = settings
        self._staged = self.work / "photos"
        masked = settings.masks is not None or settings.border > 0
        self._staged_masks = self.work / "masks" if masked else None
        self._sfm = StructureFromMotion(self.work, self._staged, self._staged_masks, settings.sfm, threads)

    def _make(self) -> dict[str, Any]:
        if any(path.is_symlink() and not path.exists() for path in self._staged.rglob("*")):
            remove(self._staged)  # The photos have moved since they were laid out.
        self.run(self._steps())
        return self.finish(
            "photos",
            self._photos,
            own_pictures=True,
            own_depth=True,
            licence=self._settings.licence,
            settings=plain(self._settings),
            numbers=self._numbers(),
        )

    def _steps(self) -> list[Step]:
        settings, sfm = self._settings, self._sfm
        masks = None if settings.masks is None else self._mask_digest(settings.masks)
        looked_at = {"photos": describe_tree(self._photos, self._names), "masks": masks, "border": settings.border}
        staged = (self._staged, *((self._staged_masks,) if self._staged_masks else ()))
        found = {name: getattr(settings.sfm, name) for name in ("cameras", "camera_model", "focal_length")}
        found.update(max_side=settings.sfm.max_side, max_features=settings.sfm.max_features)
        tree = settings.sfm.vocabulary_tree
        pairing = {"pairing": settings.sfm.pairing, "neighbours": settings.sfm.neighbours, "tree": str(tree)}
        mapping = {name: getattr(settings.sfm, name) for name in ("min_model", "models", "seed")}
        return [
            Step("survey", looked_at, staged, self._survey),
            Step("features", found, (sfm.features,), self._find_features, ("survey",)),
            Step("matches", {**pairing, "seed": settings.sfm.seed}, (sfm.matches,), self._match, ("features",)),
            Step("mapping", mapping, (sfm.models,), self._map, ("matches", "survey")),
            Step("pictures", {"size": settings.size}, self.picture_outputs, self._undistort, ("mapping", "survey")),
            *self.depth_steps("pictures"),
            self.pair_step("depth"),
        ]

    def _mask_digest(self, masks: Path) -> str:
        names = sorted(path.relative_to(masks).as_posix() for path in masks.rglob("*.png"))
        return describe_tree(masks, names)

    @cached_property
    def _surveyed(self) -> Survey:
        return Survey.from_dict(self.record.result("survey"))

    def _survey(self) -> dict[str, Any]:
        survey = survey_photos(
            self._photos,
            self._names,
            self._staged,
            self._settings.masks,
            self._staged_masks,
            self._settings.border,
            self.counter("survey"),
        )
        staged = {photo.staged for photo in survey.photos}
        unknown = [name for name in self._settings.pairs.validation if name not in staged]
        if unknown:
            raise PreparationError(
                f"pairs.validation: no usable photo {unknown[0]} in {self._photos}; name photos as "
                f"{survey.photos[0].staged}"
            )
        for line in survey.unreadable:
            self.say(f"left out: {line}")
        for line in survey.duplicates:
            self.say(f"left out: {line}")
        if survey.unmasked:
            self.say(f"without a mask: {shortened(survey.unmasked)}")
        return survey.as_dict()

    def _find_features(self) -> dict[str, Any]:
        found = self._sfm.find_features(self._surveyed, self.counter("features"))
        guessed = found["guessed_focal_lengths"]
        if guessed:
            self.say(
                f"no focal length in the EXIF of {len(guessed)} of {len(self._surveyed.photos)} photos "
                f"({shortened(guessed)}): 1.2 times the long side is assumed and refined; --sfm.focal-length gives it, "
                "--sfm.cameras single shares one camera, which makes it surer"
            )
        return found

    def _match(self) -> dict[str, Any]:
        pairing = choose_pairing(self._settings.sfm, self._surveyed)
        pairs = expected_pairs(pairing, len(self._surveyed.photos), self._settings.sfm.neighbours)
        self.say(f"matching: {pairing}, up to {pairs} pairs")
        staged = [photo.staged for photo in self._surveyed.photos]
        if pairing == "sequential" and sorted(staged) != staged:
            self.say(
                "COLMAP takes photos in the order of their letters (img10 before img2), which is not that of their "
                "numbers: pad the numbers with zeros, or the next photos in time are not matched"
            )
        return self._sfm.match(self._surveyed, self.counter("matches"))

    def _map(self) -> dict[str, Any]:
        found = self._sfm.map(self._surveyed, self.counter("mapping"))
        kept = {name for model in found["kept"] for name in model["names"]}
        self.say(f"placed {len(kept)} of {len(self._surveyed.photos)} photos")
        if found["demands"]:
            self.say(f"with looser demands than COLMAP's own, which place fewer: {found['demands']}")
        for names in found["dropped"]:
            self.say(f"dropped a model of its own of {len(names)} photos ({shortened(names)}); --sfm.models keeps more")
        if found["unregistered"]:
            self.say(
                f"not placed: {shortened(found['unregistered'])}; photos between these and the others would join them"
            )
        return found

    def _undistort(self) -> dict[str, Any]:
        mapped = self.record.result("mapping")
        model = self._sfm.undistort(mapped["kept"], self._settings.size, self.counter("pictures"))
        replace_folder(self._sfm.undistorted / "images", self.images)
        replace_folder(self._sfm.undistorted / "masks", self.masks)  # Without masks, those of earlier settings go.
        write_reconstruction(self.model, model)
        return {}

    def _numbers(self) -> dict[str, Any]:
        mapped, survey = self.record.result("mapping"), self._surveyed
        kept = mapped["kept"]
        points = sum(model["points"] for model in kept)
        return {
            "photos": len(self._names),
            "usable": len(survey.photos),
            "unreadable": survey.unreadable,
            "duplicates": survey.duplicates,
            "registered": len({name for model in kept for name in model["names"]}),
            "models": len(kept),
            "mapping_demands": mapped["demands"],
            "unregistered": mapped["unregistered"],
            "dropped_models": mapped["dropped"],
            "points": points,
            "reprojection_error": sum(model["reprojection_error"] * model["points"] for model in kept) / max(points, 1),
            "track_length": sum(model["track_length"] * model["points"] for model in kept) / max(points, 1),
            "cameras": self.record.result("features")["cameras"],
            "pairing": self.record.result("matches")["pairing"],
            **self.measured(),
        }
