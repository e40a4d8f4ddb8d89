"""`lfnet colmap`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lfnet.cli.options import Model, check_masks, tell_extraction, tell_passed_over
from lfnet.errors import UsageError, UserError
from lfnet.file_extraction import FileSettings
from lfnet.file_mapping import MappingReport, MappingSettings, photos_to_model
from lfnet.file_matching import MatchSettings
from lfnet.file_pairs import Pairing
from lfnet.integrations.colmap import CameraSettings, Sharing
from lfnet.integrations.pycolmap_process import PycolmapError, has_pycolmap
from lfnet.settings import require_at_least


@dataclass(frozen=True)
class PairOptions:
    """Which photos are matched: one of these; all with all unless given."""

    pairs: Path | None = None
    """Text file with two names of photos a line."""
    exhaustive: bool = False
    """All with all."""
    sequential: int | None = None
    """Each with the next N in natural order of names."""
    gps: float | None = None
    """All that were taken within so many metres, by the GPS in their EXIF."""
    similar: int | None = None
    """Each with the K most alike, by global descriptors made of the local ones."""

    def chosen(self) -> Pairing:
        """As the library has it."""
        given = sum(value is not None for value in (self.pairs, self.sequential, self.gps, self.similar))
        if given + self.exhaustive > 1:
            raise UsageError("expected one of --exhaustive, --sequential, --gps, --similar, --pairs")
        exhaustive = given == 0
        return Pairing(exhaustive, self.sequential, self.gps, similar=self.similar, listed=self.pairs)


@dataclass(frozen=True)
class DatabaseOptions:
    """Of COLMAP's database."""

    features: Path | None = None
    """Features file that is there (hloc's layout); extracted unless given."""
    matches: Path | None = None
    """Matches file that is there, of those features; matched unless given."""
    database: Path | None = None
    """Database to fill; one in the output folder unless given."""
    append: bool = False
    """Add features to a database that is there: those that photos have already stay, with their matches."""
    replace: bool = False
    """Put features in the place of those that the photos have in a database that is there; their matches go."""
    camera_model: str = "SIMPLE_RADIAL"
    """Any of COLMAP's camera models, for photos that the database does not know yet."""
    camera_params: str | None = None
    """Its parameters, with commas between, in COLMAP's order and frame; from EXIF, or guessed, unless given."""
    camera_per: Literal["picture", "folder", "single"] | None = None
    """Photos of one size that share a camera; those of one camera and focal length by their EXIF unless given."""
    descriptors: bool = False
    """Keep descriptors in the database too, as bytes of float32."""

    @property
    def sharing(self) -> Sharing:
        """As the library has it."""
        if self.camera_per == "single":
            return "single"
        return "auto" if self.camera_per is None else "per-picture" if self.camera_per == "picture" else "per-folder"


@dataclass(frozen=True)
class ModelOptions:
    """Of the sparse model."""

    map: bool = False
    """Find cameras and points, by COLMAP's incremental mapper."""
    undistort: bool = False
    """Write the folder that Nerfstudio and trainers of Gaussian splats open; implies --map."""
    undistorted_side: int | None = None
    """Long side of its pictures, in pixels; as large as they are unless given."""
    fix_cameras: bool = False
    """Keep focal lengths and distortion as given."""
    seed: int = 0
    """Of COLMAP's sampling."""


@dataclass(frozen=True)
class Command:
    """Photos to a COLMAP database with our features, verified; with --map, to a sparse model.

    An interrupted run resumes when you run it again. A database of yours keeps its cameras, pictures, rigs and pose
    priors.
    """

    photos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTOS")]
    """Folder of photos, searched to any depth; names are relative to it."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FOLDER")]
    """Folder that is made, or gone on with."""
    overwrite: bool = False
    """Start again with what is in the output folder."""
    ratio: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Lowe's ratio test, such as 0.9."""
    filter: bool = False
    """Keep only matches whose turn, scale and shift agree with those of the matches around them."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Photos at once; 1 on a CPU and 8 on a GPU unless given."""
    network: Annotated[Model, tyro.conf.arg(name="")] = field(default_factory=Model)
    files: Annotated[FileSettings, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = field(
        default_factory=FileSettings
    )
    choose: Annotated[PairOptions, tyro.conf.arg(name="")] = field(default_factory=PairOptions)
    fill: Annotated[DatabaseOptions, tyro.conf.arg(name="")] = field(default_factory=DatabaseOptions)
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = field(default_factory=ModelOptions)

    def __post_init__(self) -> None:
        require_at_least(self, "", {"batch_size": 1})


def run(command: Command) -> int:
    """Do what is missing, and tell what came out: 0, or 1 where photos failed."""
    from lfnet.cli.prepare import bars

    settings = _settings(command)
    if not has_pycolmap():
        raise PycolmapError("COLMAP is used through pycolmap: pip install 'lfnet[sfm]'")
    network, identity = None, ""
    if settings.features is None:
        network, identity = command.network.load(), command.network.identity()
    with bars() as (progress, _):
        report = photos_to_model(
            command.photos,
            command.output,
            settings,
            model=network,
            weights=identity,
            batch_size=command.batch_size or (8 if network is not None and next(network.parameters()).is_cuda else 1),
            overwrite=command.overwrite,
            progress=progress,
        )
    return _tell(report)


def _settings(command: Command) -> MappingSettings:
    fill, model = command.fill, command.model
    _check_options(command)
    if fill.append and fill.replace:
        raise UsageError("--append keeps other features and --replace takes them away: give one of them")
    check_masks(command.files.masks)
    try:
        parameters = tuple(float(word) for word in (fill.camera_params or "").split(",") if word)
    except ValueError as error:
        raise UsageError(f"--camera-params: expected numbers and commas, got {fill.camera_params!r}") from error
    try:
        return MappingSettings(
            command.files,
            MatchSettings(command.ratio, filter=command.filter),
            command.choose.chosen(),
            CameraSettings(fill.sharing, fill.camera_model, parameters),
            fill.features,
            fill.matches,
            fill.database,
            "append" if fill.append else "replace" if fill.replace else None,
            fill.descriptors,
            model.map,
            model.undistort,
            model.undistorted_side,
            model.fix_cameras,
            command.network.threads,
            model.seed,
        )
    except UserError as error:
        raise UsageError(str(error)) from error


def _check_options(command: Command) -> None:
    """Refuse options that nothing would come of."""
    fill, model = command.fill, command.model
    extracting = (
        command.network != Model(threads=command.network.threads)
        or replace(command.files, masks=None) != FileSettings()
        or command.batch_size is not None
    )
    if fill.features is not None and extracting:
        raise UsageError("--features are taken as they are: leave out --weights, --device and options of extraction")
    if fill.matches is not None and (command.ratio is not None or command.filter):
        raise UsageError("--matches are taken as they are: leave --ratio and --filter out")
    if model.undistorted_side is not None and not model.undistort:
        raise UsageError("--undistorted-side is of --undistort: give that too")
    if model.fix_cameras and not (model.map or model.undistort):
        raise UsageError("--fix-cameras is of --map: give that too")


def _tell(report: MappingReport) -> int:
    found, filled = report.extraction, report.filled
    tell_passed_over(report.passed_over)
    behind = f", of {filled.behind_others} behind other features" if filled.behind_others else ""
    added = f"; {len(report.added)} photos added to it" if report.added else ""
    already = f", {filled.already} had theirs already" if filled.already else ""
    print(f"{report.database}: features of {filled.pictures} photos written{behind}{already}{added}")
    print(f"{report.pairs} pairs chosen; {report.verified} pairs of the database are verified")
    if report.verified > report.pairs:
        print("pairs of earlier runs stay in the database; --overwrite, or a new output folder, is without them")
    for model in report.models or []:
        print(
            f"{model.folder}: {len(model.names)} of {len(report.photos)} photos, {model.points} points, "
            f"{model.track_length:.2f} photos a point, reprojection error {model.reprojection_error:.2f} px"
        )
    if report.undistorted is not None:
        print(f"{report.undistorted}: pinhole pictures, for Nerfstudio and Gaussian splatting")
    left = len(report.photos) - filled.pictures - filled.already if found is None else 0
    if left > 0:
        print(f"{left} photos have no features in the file given")
    return 0 if found is None else tell_extraction(found, "photos")
