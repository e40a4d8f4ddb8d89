"""Photos to a sparse model with our features, by COLMAP: one call for all, and one for each step.

    photos ─find_features▶ features.h5 ─match_pairs▶ matches.h5 ─fill_database▶ database.db ─map_database▶ sparse/0
                                                                            sparse/0 ─undistort_model▶ undistorted/

Each step keeps what it finished, so that a run that was stopped in any way goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.file_extraction import ExtractionReport, FileSettings, extract_files, find_named
from lfnet.file_matching import MatchSettings, match_in_batches
from lfnet.file_pairs import Pairing, Pairs, choose_pairs
from lfnet.files.atomic import make_folder, write_bytes
from lfnet.files.reading import read_json_file
from lfnet.integrations import hloc
from lfnet.integrations.colmap import CameraSettings, ColmapDatabase, ColmapModel, ImportReport
from lfnet.integrations.colmap_tables import Existing
from lfnet.integrations.pycolmap_process import counting_pairs
from lfnet.progress import Counter, Progress
from lfnet.settings import require_at_least

if TYPE_CHECKING:
    from lfnet.models.lfnet import LFNet

FEATURES, MATCHES, DATABASE, MODELS, UNDISTORTED = "features.h5", "matches.h5", "database.db", "sparse", "undistorted"
"""In the folder of a mapping."""
RECORD = "model.json"
"""In it: what `sparse` and `undistorted` were made from, and what the models hold."""


class MappingError(UserError):
    """Photos that no model comes of, or a folder that can't be gone on with; the message is one line."""


@dataclass(frozen=True)
class MappingSettings:
    """How photos become a database and a model."""

    files: FileSettings = field(default_factory=FileSettings)
    """How features are extracted. Its masks also serve the undistorted pictures."""
    match: MatchSettings = field(default_factory=MatchSettings)
    pairing: Pairing = field(default_factory=lambda: Pairing(exhaustive=True))
    cameras: CameraSettings = field(default_factory=CameraSettings)
    """Of pictures that the database does not know yet."""
    features: Path | None = None
    """Features file that is there; None: features are extracted."""
    matches: Path | None = None
    """Matches file that is there; None: pairs are matched."""
    database: Path | None = None
    """Database to fill; None: one in the output folder."""
    existing: Existing | None = None
    """What becomes of other features in that database; None refuses a database that is there."""
    descriptors: bool = False
    """Keep descriptors in the database."""
    map: bool = False
    """Find cameras and points."""
    undistort: bool = False
    """Write pinhole pictures of the largest model; finds cameras first."""
    undistorted_side: int | None = None
    """Long side of those pictures, px; None: as large as they are."""
    fixed_cameras: bool = False
    """Keep focal lengths and distortion as the database has them."""
    threads: int | None = None
    """Of COLMAP; None takes all cores."""
    seed: int = 0
    """Of COLMAP's sampling."""

    def __post_init__(self) -> None:
        if self.matches is not None and self.features is None:
            raise MappingError("--matches needs the --features that they index")
        if self.existing is not None and self.database is None:
            raise MappingError(f"--{self.existing} is for a --database that is there")
        require_at_least(self, "", {"undistorted_side": 1, "threads": 1})


@dataclass(frozen=True)
class MappingReport:
    """What a run made."""

    photos: list[str]
    passed_over: list[str]
    """A line for each kind of other files in the folder, and on photos that are in no pair since they have no GPS."""
    extraction: ExtractionReport | None
    """None where features were given."""
    pairs: int
    filled: ImportReport
    added: list[str]
    """Pictures that the database did not know."""
    database: Path
    verified: int
    """Pairs."""
    models: list[ColmapModel] | None
    """The largest first; None where none was asked for."""
    undistorted: Path | None


def photos_to_model(
    photos: str | Path,
    output: str | Path,
    settings: MappingSettings | None = None,
    *,
    model: LFNet | None = None,
    weights: str = "",
    batch_size: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> MappingReport:
    """Extract, match, fill and verify a COLMAP database, and where asked find cameras and undistort.

    Args:
        photos: folder of pictures, searched to any depth; names are relative to it.
        output: folder that is made, or gone on with.
        settings: how.
        model: the network that extracts; not needed where features are given.
        weights: what identifies its weights.
        batch_size: pictures given to the network at once.
        overwrite: start again with what is in the output folder.
        progress: told how each step goes on.

    Returns:
        What was made.

    Raises:
        MappingError: no pair fits, or no model comes of them; a database is there and was not meant.
        ImageError, FeatureFileError, PairingError, ColmapDatabaseError, PycolmapError, OSError: in one line.
    """
    settings = settings or MappingSettings()
    photos, output = Path(photos), Path(output)
    if not photos.is_dir():
        raise MappingError(f"{photos}: expected a folder of photos, and there is none of that name")
    # Where the output lies among the photos, what it holds is none of them.
    ours = (output / UNDISTORTED, output / f"{UNDISTORTED}.part", *filter(None, [settings.files.masks]))
    found, passed_over = find_named(photos)
    images = {
        name: path
        for name, path in found.items()
        if not any(path.resolve().is_relative_to(folder.resolve()) for folder in ours)
    }
    database = ColmapDatabase(settings.database or output / DATABASE, photos)
    _check_database(database, settings, _read_record(output))
    make_folder(output)
    if overwrite:
        _start_again(output)
    if settings.database is None:
        _check_cameras(output, settings.cameras)
    features, extraction = settings.features, None
    if features is None:
        if model is None:
            raise MappingError("features: give a model to extract them, or a features file")
        features = output / FEATURES
        extraction = find_features(model, images, features, settings.files, weights, batch_size, overwrite, progress)
    names = names_with_features(features, list(images))
    pairs = choose_pairs(settings.pairing, photos, names, features, passed_over.append)
    matches = settings.matches or output / MATCHES
    if settings.matches is None:
        match_pairs(features, pairs, matches, settings.match, overwrite, progress)
    added = database.add_pictures(names, settings.cameras)
    kind = settings.existing or "append"
    filled = fill_database(database, features, matches, pairs, names, existing=kind, descriptors=settings.descriptors)
    verified = verify_database(database, len(pairs), settings.threads, settings.seed, progress)
    models = map_database(database, output, settings, progress) if settings.map or settings.undistort else None
    made = undistort_model(database, output, settings, progress) if settings.undistort else None
    return MappingReport(
        list(images), passed_over, extraction, len(pairs), filled, added, database.path, verified, models, made
    )


def find_features(
    model: LFNet,
    images: Mapping[str, Path],
    output: Path,
    settings: FileSettings,
    weights: str = "",
    batch_size: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExtractionReport:
    """Extract the features of photos into a file; as `extract_files`.

    Raises:
        MappingError: no photo could be read.
    """
    count = _counter(progress, "features", len(images))
    report = extract_files(
        model, images, output, settings, weights=weights, batch_size=batch_size, overwrite=overwrite, progress=count
    )
    if report.failures and len(report.failures) == len(images):
        raise MappingError(f"no photo could be used; the first: {report.failures[0][1]}")
    return report


def match_pairs(
    features: Path,
    pairs: Pairs,
    output: Path,
    settings: MatchSettings,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Match pairs of pictures of a features file into a matches file; as `match_in_batches`."""
    count = _counter(progress, "matches", len(pairs))
    return match_in_batches(features, pairs, output, settings, overwrite=overwrite, progress=count)


def names_with_features(features: Path, names: Sequence[str]) -> list[str]:
    """Those names that a features file has.

    Raises:
        MappingError: it has none of them.
    """
    with hloc.open_file(features) as file:
        known = [name for name in names if hloc.has_features(file, name)]
        if not known:
            example = next(iter(hloc.list_names(file)), "none")
            raise MappingError(
                f"{features}: has no features of the photos, as {names[0]!r}, but of {example!r}; give the folder that "
                "its names start from"
            )
    return known


def fill_database(
    database: ColmapDatabase,
    features: Path,
    matches: Path,
    pairs: Pairs,
    names: Sequence[str],
    *,
    existing: Existing = "append",
    descriptors: bool = False,
) -> ImportReport:
    """Put the features and matches of files into a database that knows the pictures.

    Args:
        database: whose other content stays as it is.
        features: features file.
        matches: matches file.
        pairs: of these names.
        names: of pictures in the features file.
        existing: other features of these pictures stay in front, or go.
        descriptors: whether they are kept too.

    Raises:
        FeatureFileError, ColmapDatabaseError: files and database don't go together.
    """
    with hloc.open_file(features) as feature_file, hloc.open_file(matches) as match_file:
        found = ((a, b, hloc.read_matches(match_file, a, b).indices) for a, b in pairs)
        return database.add_features(
            _FileFeatures(feature_file, names), found, existing=existing, descriptors=descriptors
        )


def verify_database(
    database: ColmapDatabase,
    pairs: int,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Verify matches that have not been yet; returns how many pairs of the database are verified.

    Raises:
        MappingError: none is.
    """
    with counting_pairs(database.path, pairs, _step(progress, "verification")):
        verified = database.verify(threads=threads or -1, seed=seed)
    if not verified:
        raise MappingError(
            f"no two of the {len(database.names())} photos match; they must overlap, by half or more of the picture "
            "from one to the next, and show something with texture"
        )
    return verified


def map_database(
    database: ColmapDatabase, output: Path, settings: MappingSettings, progress: Progress | None = None
) -> list[ColmapModel]:
    """Find cameras and points: models `sparse/0`, `sparse/1`, ..., the one of most pictures first.

    Models of an equal database, made with equal settings, are left as they are.

    Raises:
        MappingError: no model came out, or `sparse` holds what this did not make.
    """
    key = f"{database.digest()} {settings.fixed_cameras} {settings.seed}"
    made, folder = _read_record(output).get(MODELS, {}), output / MODELS
    if made.get("key") == key and folder.is_dir():
        return [ColmapModel(folder / str(number), **values) for number, values in enumerate(made["models"])]
    _check_ours(folder, made)
    part = output / f"{MODELS}.part"
    shutil.rmtree(part, ignore_errors=True)
    found = database.map(
        part / "found",
        threads=settings.threads or -1,
        seed=settings.seed,
        fixed_cameras=settings.fixed_cameras,
        progress=_step(progress, "mapping"),
    )
    if not found:
        raise MappingError(f"no model came of the matches; COLMAP's messages are in {database.log}")
    for number, model in enumerate(found):
        model.folder.rename(part / str(number))
    shutil.rmtree(part / "found")
    values = [{name: value for name, value in asdict(model).items() if name != "folder"} for model in found]
    _note(output, MODELS, {"key": None})
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    _note(output, MODELS, {"key": key, "models": values})
    return [replace(model, folder=folder / str(number)) for number, model in enumerate(found)]


def undistort_model(
    database: ColmapDatabase, output: Path, settings: MappingSettings, progress: Progress | None = None
) -> Path:
    """Pinhole pictures of the largest model in `undistorted`, as `ColmapDatabase.undistort` lays them out.

    Returns:
        The folder; one of the same model and settings is left as it is.
    """
    record, folder, masks = _read_record(output), output / UNDISTORTED, settings.files.masks
    made, mapped = record.get(UNDISTORTED, {}), record[MODELS]
    key = f"{mapped['key']} {settings.undistorted_side} {masks}"
    if made.get("key") == key and folder.is_dir():
        return folder
    _check_ours(folder, made)
    part = output / f"{UNDISTORTED}.part"
    shutil.rmtree(part, ignore_errors=True)
    model = ColmapModel(output / MODELS / "0", **mapped["models"][0])
    side = settings.undistorted_side or -1
    database.undistort(model, part, long_side=side, masks=masks, progress=_step(progress, "undistortion"))
    _note(output, UNDISTORTED, {"key": None})
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    _note(output, UNDISTORTED, {"key": key})
    return folder


class _FileFeatures(Mapping[str, Features]):
    """Features of a file, read when they are asked for."""

    def __init__(self, file: h5py.File, names: Sequence[str]) -> None:
        self._file = file
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Features:
        return hloc.read_features(self._file, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _read_record(output: Path) -> dict[str, Any]:
    if output.exists() and not output.is_dir():
        raise MappingError(f"{output}: is no folder; name another output")
    if not (output / RECORD).exists():
        return {}
    record = read_json_file(output / RECORD, MappingError, "a record of models")
    if not isinstance(record, dict) or not all(isinstance(made, dict) for made in record.values()):
        raise MappingError(f"{output / RECORD}: damaged; name another output")
    return record


def _note(output: Path, name: str, value: Any) -> None:
    record = {**_read_record(output), name: value}
    write_bytes(output / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def _check_database(database: ColmapDatabase, settings: MappingSettings, record: Mapping[str, Any]) -> None:
    """Refuse to touch a database that is there and was not meant."""
    path = database.path
    if settings.database is None:
        if path.exists() and DATABASE not in record:
            raise MappingError(
                f"{path}: is there, and was not made by this command; name another output, or add to it by "
                f"--database {path} --append"
            )
    elif path.exists() and settings.existing is None:
        raise MappingError(
            f"{path}: is there already; --append adds features to it, --replace takes others of these photos away"
        )
    elif not path.exists() and settings.existing is not None:
        raise MappingError(f"{path}: no such database; check the path, or leave --{settings.existing} out to make it")


def _check_cameras(output: Path, cameras: CameraSettings) -> None:
    """Note what cameras the output's own database is made with; refuse to go on with others."""
    wanted = {"sharing": cameras.sharing, "model": cameras.model, "parameters": list(cameras.parameters)}
    made = _read_record(output).get(DATABASE, wanted) if (output / DATABASE).exists() else wanted
    if made != wanted:
        changed = [f"{name} {made[name]} (now {value})" for name, value in wanted.items() if made[name] != value]
        raise MappingError(
            f"{output / DATABASE}: was made with cameras of {', '.join(changed)}; name another output, or start again "
            "with --overwrite"
        )
    _note(output, DATABASE, wanted)


def _check_ours(folder: Path, made: Mapping[str, Any]) -> None:
    if folder.exists() and not made:
        raise MappingError(f"{folder}: is there, and was not made by this command; name another output")


def _start_again(output: Path) -> None:
    """Forget what an earlier run made, but for features and matches, which are replaced once the new ones are whole."""
    record = _read_record(output)
    for name in (MODELS, UNDISTORTED):
        if name in record:
            shutil.rmtree(output / name, ignore_errors=True)
    if DATABASE in record:
        for ending in ("", "-wal", "-shm"):
            (output / f"{DATABASE}{ending}").unlink(missing_ok=True)
    (output / RECORD).unlink(missing_ok=True)


def _step(progress: Progress | None, name: str) -> Counter:
    """Progress of one step of several."""
    return lambda done, total: progress(name, done, total) if progress is not None else None


def _counter(progress: Progress | None, name: str, total: int) -> Callable[[int], object]:
    """Progress of one step, from how many were done just now."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(name, done, total)

    return advance
