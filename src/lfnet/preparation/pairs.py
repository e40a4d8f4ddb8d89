"""The pairs of a scene: found, measured, split by place, chosen evenly, and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lfnet.data.frames import Frame
from lfnet.data.scenes.pair_table import FORMAT, PAIR_COLUMNS, SPLITS, VERSION, PairTable, check_pair_table
from lfnet.errors import UserError
from lfnet.files.hdf5 import replacing_hdf5
from lfnet.files.hdf5_reading import fixed_length, write_text
from lfnet.preparation.candidates import VOXEL, candidate_pairs, voxels
from lfnet.preparation.overlap import Measurements, Thumbnails, measure_pairs, read_thumbnails
from lfnet.preparation.split import Split, split_by_place
from lfnet.progress import Counter, Progress

OVERLAP_BINS = 4
"""Equal parts of the range of overlap."""
ANGLE_EDGES = (5.0, 15.0, 30.0)
"""Degrees between the rays: nearly none, small, wide and very wide baselines."""
ZOOM_EDGES = (1.2, 1.6)
"""Factors of scale, either way."""
LARGEST_BOOST = 10.0
"""A pair of a rare kind is drawn at most this many times as often as an even draw would: few pairs are soon known by
heart."""
VALIDATION_SHARE = 0.1
"""Of `max_pairs`, that validation may have at most."""
SURPLUS = 6
"""Candidates that are looked for per pair wanted: many are out of the range of overlap."""
PARTNERS = (10, 60)
"""Fewest and most partners that a picture chooses."""
SHARED_POINTS = 5
"""Least sparse points that a candidate pair shares: fewer are often wrong ones."""
SHARED_VOXELS = 2
"""Least voxels that a candidate pair shares."""


class PairError(UserError):
    """No pairs can be made; the message says what to change."""


@dataclass(frozen=True)
class PairSettings:
    """Which pairs a scene gets."""

    overlap: tuple[float, float] = (0.1, 0.9)
    """Range of the smaller of both overlaps: a share of the pixels of known depth. A close-up that is all within the
    other picture stays in by how little the other sees in it."""
    max_angle: float = 60.0
    """Largest angle between the rays of both cameras at the points that both see, median, degrees; 180 keeps all. Where
    a camera walks about in a room, a third of its pairs see floor and tables from opposite sides, where nothing looks
    alike; between rays more than 120 degrees apart a part are front and back of one thin surface."""
    max_pairs: int = 20_000
    """Training pairs at most, taken evenly from all kinds; validation gets a tenth of it at most."""
    validation_share: float = 0.15
    """Of the pictures, about, to hold back as one place; 0 holds none back."""
    validation: tuple[str, ...] = ()
    """Names of the pictures to hold back instead."""
    seed: int = 0
    """Decides which pairs are kept where there are too many."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap[0] < self.overlap[1] <= 1:
            raise PairError(f"overlap: expected least and largest within [0, 1], got {self.overlap}")
        if not 0 < self.max_angle <= 180:
            raise PairError(f"max_angle: expected degrees above 0 and up to 180, got {self.max_angle}")
        if self.max_pairs < 1:
            raise PairError(f"max_pairs: expected at least 1, got {self.max_pairs}")
        if not 0 <= self.validation_share < 1:
            raise PairError(f"validation_share: expected a number from 0 to below 1, got {self.validation_share}")


@dataclass(frozen=True)
class PairReport:
    """What became of the pictures and their candidate pairs."""

    pictures: int
    without_depth: int
    """Pictures without any depth; they are in no pair."""
    unpaired: int
    """Pictures with depth that are in no pair all the same."""
    candidates: int
    """Pairs that were measured."""
    too_wide: int
    """Those of them whose overlap is in the range, but whose angle is too large."""
    in_range: int
    """Those of them whose overlap and angle are in the range."""
    training_pictures: int
    validation_pictures: int
    training_pairs: int
    validation_pairs: int
    across_split: int
    """Pairs in range that were dropped because one picture is of training and one of validation."""
    nearest_cameras: float | None
    """Distance between the nearest cameras of training and validation, in the unit of the poses."""
    nearest_cameras_relative: float | None
    """The same in median distances from a camera to the nearest other one."""
    largest_overlap_across: float | None
    """Largest overlap (the smaller of both ways) measured across the split."""
    quartiles: dict[str, list[float]]
    """Of the pairs kept: 25 %, 50 % and 75 % of overlap, angle, rotation and scale_ratio."""
    notes: list[str]
    """What a person should know, a line each."""

    def lines(self) -> list[str]:
        """For a person, a line each."""
        lines = [
            f"{self.pictures} pictures ({self.without_depth} without depth, {self.unpaired} more in no pair)",
            f"{self.candidates} candidate pairs: {self.in_range} in range, {self.too_wide} more but for their angle",
            f"training: {self.training_pictures} pictures, {self.training_pairs} pairs",
            f"validation: {self.validation_pictures} pictures, {self.validation_pairs} pairs",
        ]
        if self.nearest_cameras is not None:
            relative = self.nearest_cameras_relative
            usual = "" if relative is None else f" ({relative:.3g} times the usual distance to the nearest)"
            lines.append(
                f"split: its nearest cameras are {self.nearest_cameras:.3g} apart{usual}; the largest overlap across "
                f"it is {self.largest_overlap_across or 0:.0%}; {self.across_split} pairs across it are dropped"
            )
        for name, (low, middle, high) in self.quartiles.items():
            lines.append(f"{name}: median {middle:.3g}, half of the pairs from {low:.3g} to {high:.3g}")
        return lines + self.notes


def make_pair_table(
    frames: Sequence[Frame],
    image_ids: Sequence[int],
    settings: PairSettings | None = None,
    observed: Sequence[NDArray[np.integer]] | None = None,
    progress: Progress | None = None,
) -> tuple[PairTable, PairReport]:
    """Find, measure, split and choose the pairs of a scene.

    Args:
        frames: all pictures, with depth.
        image_ids: COLMAP's number of each.
        settings: which pairs.
        observed: the sparse points that each picture observes; None finds candidates by voxels of the depth maps.
        progress: told "depth" and "pairs", and how many are done.

    Raises:
        PairError: names that there are not, or no pair is in range.
    """
    settings = settings or PairSettings()
    held = _named(frames, settings.validation)
    thumbnails = read_thumbnails(frames, _step(progress, "depth"))
    pairs = _candidates(thumbnails, observed, settings)
    measured = measure_pairs(thumbnails, pairs, _step(progress, "pairs"))
    low, high = settings.overlap
    overlaps = (measured.overlap >= low) & (measured.overlap <= high)
    fits = overlaps & (measured.angle <= settings.max_angle)
    if not fits.any():
        raise PairError(_why_none(thumbnails, measured, settings))
    split = split_by_place(thumbnails.centres, pairs, measured.overlap, settings.validation_share, held)
    of_pair = _split_of_pairs(pairs, split)
    notes = [*thumbnails.notes, *filter(None, [split.note])]
    if split.validation.any() and not (fits & (of_pair == 1)).any():
        lost = "no pair of the pictures held back is in range"
        if held is None:
            lost += ", so nothing is held back"
            split = Split(np.zeros(len(frames), bool), lost, None, None, None)
            of_pair = _split_of_pairs(pairs, split)
        notes.append(lost)
    if not (fits & (of_pair == 0)).any():
        raise PairError("no pair of the pictures for training is in range of overlap; hold back fewer pictures")
    chosen, weights = _choose(measured, of_pair, fits, settings)
    ids = np.asarray(image_ids, np.int32)
    table = PairTable(
        names=[frame.name for frame in frames],
        image_ids=ids,
        image_split=split.validation.astype(np.uint8),
        overlap_range=settings.overlap,
        image_id_a=ids[pairs[chosen, 0]],
        image_id_b=ids[pairs[chosen, 1]],
        split=of_pair[chosen].astype(np.uint8),
        weight=weights,
        **asdict(measured.rows(chosen)),
    )
    counts = {
        "candidates": len(pairs),
        "too_wide": int((overlaps & ~fits).sum()),
        "in_range": int(fits.sum()),
        "across_split": int((fits & (of_pair < 0)).sum()),
    }
    return table, _report(thumbnails, split, table, counts, notes)


def write_pair_table(path: str | Path, table: PairTable) -> None:
    """Write a table of pairs, whole or not at all.

    Raises:
        PairTableError: it doesn't hold together.
        OSError: it can't be written.
    """
    check_pair_table(table, path)
    with replacing_hdf5(path) as (file, _):
        write_text(file, "format", FORMAT)
        file.attrs["version"] = VERSION
        file.attrs["overlap_range"] = table.overlap_range
        file.create_dataset("images", data=fixed_length(table.names))
        file.create_dataset("image_ids", data=table.image_ids.astype(np.int32))
        file.create_dataset("image_split", data=table.image_split.astype(np.uint8))
        for name, kind in PAIR_COLUMNS.items():
            file.create_dataset(name, data=getattr(table, name).astype(kind))


def kinds_of_pairs(measured: Measurements, overlap: tuple[float, float]) -> NDArray[np.int64]:
    """The bin of overlap, angle and scale that each pair falls into.

    Args:
        measured: the pairs.
        overlap: range that is cut into `OVERLAP_BINS` parts.
    """
    edges = np.linspace(*overlap, OVERLAP_BINS + 1)[1:-1]
    zoom = np.exp(np.abs(np.log(np.maximum(measured.scale_ratio, 1e-6))))
    by_overlap, by_angle = np.digitize(measured.overlap, edges), np.digitize(measured.angle, ANGLE_EDGES)
    by_zoom = np.digitize(zoom, ZOOM_EDGES)
    return (by_overlap * (len(ANGLE_EDGES) + 1) + by_angle) * (len(ZOOM_EDGES) + 1) + by_zoom


def choose_evenly(kinds: NDArray[np.integer], limit: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """At most `limit` pairs, as evenly from all kinds as there are.

    Args:
        kinds: (P,) of each pair.
        limit: how many.
        generator: decides which of a kind.

    Returns:
        Their places, ascending.
    """
    order = generator.permutation(len(kinds))
    by_kind = order[np.argsort(kinds[order], kind="stable")]
    _, counts = np.unique(kinds, return_counts=True)
    rank = np.arange(len(kinds)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_kind[np.argsort(rank, kind="stable")[:limit]])


def balancing_weights(kinds: NDArray[np.integer]) -> NDArray[np.float32]:
    """How often to draw each pair, 1 on average, so that kinds come equally often, rare ones within `LARGEST_BOOST`."""
    _, inverse, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    even = len(kinds) / (len(counts) * np.maximum(counts, 1))
    weights = np.minimum(even, LARGEST_BOOST)[inverse]
    return (weights / weights.mean()).astype(np.float32) if len(weights) else weights.astype(np.float32)


def _step(progress: Progress | None, name: str) -> Counter | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _named(frames: Sequence[Frame], names: Sequence[str]) -> list[int] | None:
    if not names:
        return None
    places = {frame.name: place for place, frame in enumerate(frames)}
    unknown = [name for name in names if name not in places]
    if unknown:
        raise PairError(
            f"validation: no picture {unknown[0]} among the {len(frames)} of the scene, as "
            f"{next(iter(places), 'none')}; give names as in its COLMAP model"
        )
    return [places[name] for name in names]


def _candidates(
    thumbnails: Thumbnails, observed: Sequence[NDArray[np.integer]] | None, settings: PairSettings
) -> NDArray[np.int64]:
    least, most = PARTNERS
    limit = int(np.clip(-(-SURPLUS * settings.max_pairs // max(len(thumbnails), 1)), least, most))
    if observed is not None:
        return candidate_pairs(observed, limit, SHARED_POINTS)[0]
    known = thumbnails.unit[thumbnails.unit > 0]
    side = VOXEL * float(np.median(known)) if len(known) else 1.0
    origin = np.median(thumbnails.centres, axis=0) if len(thumbnails) else np.zeros(3)
    memberships = [voxels(thumbnails.points(index) - origin, side) for index in range(len(thumbnails))]
    return candidate_pairs(memberships, limit, SHARED_VOXELS)[0]


def _split_of_pairs(pairs: NDArray[np.integer], split: Split) -> NDArray[np.int64]:
    """0 for training, 1 for validation, -1 across."""
    first, second = split.validation[pairs[:, 0]], split.validation[pairs[:, 1]]
    return np.where(first == second, first.astype(np.int64), -1)


def _choose(
    measured: Measurements, of_pair: NDArray[np.int64], fits: NDArray[np.bool_], settings: PairSettings
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places of the pairs that are kept, and their weights."""
    kinds = kinds_of_pairs(measured, settings.overlap)
    generator = np.random.default_rng(settings.seed)
    limits = (settings.max_pairs, max(1, round(VALIDATION_SHARE * settings.max_pairs)))
    rows, weights = [], []
    for split, limit in enumerate(limits):
        places = np.flatnonzero(fits & (of_pair == split))
        places = places[choose_evenly(kinds[places], limit, generator)]
        rows.append(places)
        weights.append(balancing_weights(kinds[places]))
    return np.concatenate(rows), np.concatenate(weights)


def _why_none(thumbnails: Thumbnails, measured: Measurements, settings: PairSettings) -> str:
    if not (thumbnails.unit > 0).any():
        return "no picture has any depth; check the depth maps"
    if not len(measured):
        return "no two pictures see the same place; take pictures that overlap, or check the poses"
    low, high = settings.overlap
    if ((measured.overlap >= low) & (measured.overlap <= high)).any():
        return f"all pairs in range of overlap are over {settings.max_angle:g} degrees apart; allow a larger max_angle"
    if measured.overlap.min() > high:
        return (
            f"all {len(measured)} candidate pairs overlap by more than {high:g}: pictures are nearly the same; raise "
            "the upper end of the range (--pairs.overlap 0.1 1.0), or take them farther apart"
        )
    return (
        f"none of {len(measured)} candidate pairs has an overlap between {low:g} and {high:g}: they have "
        f"{measured.overlap.min():.2g} to {measured.overlap.max():.2g}; change the range, or check that poses and "
        "depth have one unit and poses the right direction"
    )


def _report(
    thumbnails: Thumbnails, split: Split, table: PairTable, counts: dict[str, int], notes: list[str]
) -> PairReport:
    with_depth = thumbnails.unit > 0
    paired = np.isin(table.image_ids, np.concatenate((table.image_id_a, table.image_id_b)))
    values = {
        "overlap": np.minimum(table.overlap_ab, table.overlap_ba),
        "angle": table.angle,
        "rotation": table.rotation,
        "scale_ratio": table.scale_ratio,
    }
    quartiles = {name: np.quantile(each, (0.25, 0.5, 0.75)).round(4).tolist() for name, each in values.items()}
    return PairReport(
        pictures=len(thumbnails),
        without_depth=int((~with_depth).sum()),
        unpaired=int((with_depth & ~paired).sum()),
        training_pictures=int((~split.validation).sum()),
        validation_pictures=int(split.validation.sum()),
        training_pairs=len(table.of_split(SPLITS[0])),
        validation_pairs=len(table.of_split(SPLITS[1])),
        nearest_cameras=split.nearest,
        nearest_cameras_relative=split.nearest_relative,
        largest_overlap_across=split.largest_overlap,
        quartiles=quartiles,
        notes=notes,
        **counts,
    )
