"""From a folder of photos to a scene: survey, structure from motion, depth, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.integrations.pycolmap_process import PycolmapError, has_pycolmap
from lfnet.masks import Masks
from lfnet.preparation.depth import DepthSettings
from lfnet.preparation.manifest import Origin, plain
from lfnet.preparation.pairs import PairSettings
from lfnet.preparation.scene_folder import SceneFolder, replace_folder, scene_to_make
from lfnet.preparation.sfm import SfmSettings, StructureFromMotion
from lfnet.preparation.shared_steps import depth_steps, pair_step
from lfnet.preparation.steps import PreparationError, Step, describe_files, remove, shortened
from lfnet.preparation.survey import Survey, find_photos, survey_photos
from lfnet.preparation.target import BYTES_PER_PIXEL, check_room, check_target
from lfnet.progress import Progress, Say
from lfnet.settings import ConfigError, require_at_least

SIZE = 640
"""Long side of pictures and depth maps unless asked otherwise, px: training cuts crops of 192 px from them."""
BYTES_PER_FEATURE = 160
"""In the database: 128 of the descriptor, 24 of place and shape, and what surrounds them."""


@dataclass(frozen=True)
class PhotoSettings:
    """How photos become a scene."""

    size: int = SIZE
    """Long side of the undistorted pictures and of the depth maps, px."""
    masks: Path | None = None
    """Masks, a folder with `NAME.jpg.png` or `NAME.png` for NAME.jpg, or one image for all: where they are 0 in all
    colours (people, sky), nothing is used. Where a mask has one colour alone, its transparency counts."""
    border: int = 0
    """Pixels at the photos' edges that features are kept off, where a frame or a watermark is."""
    sfm: SfmSettings = field(default_factory=SfmSettings)
    depth: DepthSettings = field(default_factory=DepthSettings)
    pairs: PairSettings = field(default_factory=PairSettings)
    licence: str = "not stated"
    """Of the photos, noted in the manifest."""

    def __post_init__(self) -> None:
        require_at_least(self, "photos", {"size": 64, "border": 0})
        if self.masks is not None and not self.masks.is_dir() and not self.masks.is_file():
            raise ConfigError(f"masks: there is no folder or file {self.masks}")


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
    found = find_photos(photos)
    names = [path.relative_to(photos).as_posix() for path in found.paths]
    check_target(scene, photos)
    if not has_pycolmap():
        raise PycolmapError("photos need structure from motion, which is an extra: pip install 'lfnet[sfm]'")
    picture = 2 * settings.sfm.max_features * BYTES_PER_FEATURE + settings.size**2 * BYTES_PER_PIXEL
    check_room(scene, len(names) * picture, "lower --sfm.max-features or --size")
    with scene_to_make(scene, progress, say) as folder:
        for line in found.passed_over:
            say(line)
        made = _PhotoSteps(photos, names, folder, settings, threads)
        folder.run(made.steps())
        return folder.finish(Origin("photos", photos, True, True, settings.licence, plain(settings)), made.numbers())


class _PhotoSteps:
    """The steps of a scene of photos, in their order."""

    def __init__(
        self, photos: Path, names: Sequence[str], folder: SceneFolder, settings: PhotoSettings, threads: int
    ) -> None:
        self._photos = photos
        self._names = names
        self._folder = folder
        self._settings = settings
        self._threads = threads
        self._staged = folder.work / "photos"
        masked = settings.masks is not None or settings.border > 0
        self._staged_masks = folder.work / "masks" if masked else None
        self._sfm = StructureFromMotion(folder.work, self._staged, self._staged_masks, settings.sfm, threads)
        if any(path.is_symlink() and not path.exists() for path in self._staged.rglob("*")):
            remove(self._staged)  # The photos have moved since they were laid out.

    def steps(self) -> list[Step]:
        settings, sfm, folder = self._settings, self._sfm, self._folder
        masks = None if settings.masks is None else _describe_masks(settings.masks)
        looked_at = {"photos": describe_files(self._photos, self._names), "masks": masks, "border": settings.border}
        staged = (self._staged, *((self._staged_masks,) if self._staged_masks else ()))
        asked = {**asdict(settings.sfm), "tree": str(settings.sfm.vocabulary_tree)}

        def of_sfm(*names: str) -> dict[str, Any]:
            return {name: asked[name] for name in names}

        features = of_sfm("cameras", "camera_model", "focal_length", "max_side", "max_features")
        matches = of_sfm("pairing", "neighbours", "tree", "seed")
        mapping, size = of_sfm("min_model", "models", "seed"), {"size": settings.size}
        pictures = (folder.images, folder.model)
        return [
            Step("survey", looked_at, staged, self._survey),
            Step("features", features, (sfm.features,), self._find_features, ("survey",)),
            Step("matches", matches, (sfm.matches,), self._match, ("features",)),
            Step("mapping", mapping, (sfm.models,), self._map, ("matches", "survey")),
            Step("pictures", size, pictures, self._undistort, ("mapping", "survey")),
            *depth_steps(folder, settings.depth, self._threads, "pictures"),
            pair_step(folder, settings.pairs, "depth"),
        ]

    def _survey(self) -> dict[str, Any]:
        settings, say = self._settings, self._folder.say
        survey = survey_photos(
            self._photos,
            self._names,
            self._staged,
            settings.masks,
            self._staged_masks,
            settings.border,
            self._folder.counter("survey"),
        )
        staged = {photo.staged for photo in survey.photos}
        unknown = [name for name in settings.pairs.validation if name not in staged]
        if unknown:
            raise PreparationError(
                f"pairs.validation: no usable photo {unknown[0]} in {self._photos}; name photos as "
                f"{survey.photos[0].staged}"
            )
        for line in (*survey.unreadable, *survey.duplicates):
            say(f"left out: {line}")
        if survey.unmasked:
            say(f"without a mask: {shortened(survey.unmasked)}")
        return asdict(survey)

    @cached_property
    def _surveyed(self) -> Survey:
        return Survey.from_dict(self._folder.record.result("survey"))

    def _find_features(self) -> dict[str, Any]:
        found = self._sfm.find_features(self._surveyed, self._folder.counter("features"))
        guessed = found["guessed_focal_lengths"]
        if guessed:
            self._folder.say(
                f"no focal length in the EXIF of {len(guessed)} of {len(self._surveyed.photos)} photos "
                f"({shortened(guessed)}): 1.2 times the long side is assumed and refined; --sfm.focal-length gives it, "
                "--sfm.cameras single shares one camera, which makes it surer"
            )
        return found

    def _match(self) -> dict[str, Any]:
        return self._sfm.match(self._surveyed, self._folder.counter("matches"), self._folder.say)

    def _map(self) -> dict[str, Any]:
        say = self._folder.say
        found = self._sfm.map(self._surveyed, self._folder.counter("mapping"))
        say(f"placed {len(_placed(found))} of {len(self._surveyed.photos)} photos")
        if found["demands"]:
            say(f"with looser demands than COLMAP's own, which place fewer: {found['demands']}")
        for names in found["dropped"]:
            say(f"dropped a model of its own of {len(names)} photos ({shortened(names)}); --sfm.models keeps more")
        if found["unregistered"]:
            say(f"not placed: {shortened(found['unregistered'])}; photos between these and the others would join them")
        return found

    def _undistort(self) -> dict[str, Any]:
        folder, kept = self._folder, self._folder.record.result("mapping")["kept"]
        model = self._sfm.undistort(kept, self._settings.size, folder.counter("pictures"))
        replace_folder(self._sfm.undistorted / "images", folder.images)
        # Without masks, those of earlier settings go.
        replace_folder(self._sfm.undistorted / "masks", folder.work / "scene_masks")
        write_reconstruction(folder.model, model)
        return {}

    def numbers(self) -> dict[str, Any]:
        result, survey = self._folder.record.result, self._surveyed
        mapped = result("mapping")
        kept = mapped["kept"]
        points = sum(model["points"] for model in kept)

        def mean(name: str) -> float:
            return sum(model[name] * model["points"] for model in kept) / max(points, 1)

        return {
            "photos": len(self._names),
            "usable": len(survey.photos),
            "unreadable": survey.unreadable,
            "duplicates": survey.duplicates,
            "registered": len(_placed(mapped)),
            "models": len(kept),
            "mapping_demands": mapped["demands"],
            "unregistered": mapped["unregistered"],
            "dropped_models": mapped["dropped"],
            "points": points,
            "reprojection_error": mean("reprojection_error"),
            "track_length": mean("track_length"),
            "cameras": result("features")["cameras"],
            "pairing": result("matches")["pairing"],
        }


def _placed(mapped: dict[str, Any]) -> set[str]:
    """Names of the photos in the models that are kept."""
    return {name for model in mapped["kept"] for name in model["names"]}


def _describe_masks(masks: Path) -> str:
    folder = masks if masks.is_dir() else masks.parent
    return describe_files(folder, sorted(path.relative_to(folder).as_posix() for path in Masks(masks).files()))
