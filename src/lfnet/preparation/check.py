"""Whether a prepared scene can be trusted: its files, its numbers, and matches reprojected through depth and poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.data.reconstructions.colmap_model import Reconstruction
from lfnet.data.scenes.pair_table import SPLITS, PairTable
from lfnet.data.scenes.scene import Scene
from lfnet.errors import UserError
from lfnet.files.checksum import checksum
from lfnet.preparation.depth_agreement import Agreement, measure_agreement
from lfnet.preparation.manifest import plain
from lfnet.preparation.reprojection import REFERENCE_SIDE, MatchedPicture, Reprojection, compare, matched_picture
from lfnet.progress import Progress

MOST_MAPS = 500
"""Depth maps that are read at most, evenly spread: a recording of 10^4 takes no longer than one of 500."""
PICTURES_KEPT = 16
"""Pictures in memory at once; pairs come in order of their first picture."""
FEWEST_MATCHES = 30
"""Visible matches below which nothing is said of the warp."""
OWN_DEPTH_LIMIT = 1.5
"""Largest sound median error at 640 px where depth was measured in the pictures themselves, px."""
SENSOR_LIMIT = 5.0
"""Largest sound median error at 640 px of a recording, px: its poses drift. An indoor walk has 2.6 px at a gap of 8
frames; poses that are a degree off are worth 9 px."""
TELLING = 2.0
"""Parallax, in limits of the error, from which on a match tells of depth: five times too much of it leaves four fifths
of the parallax as error."""
LEAST_AGREEMENT = 0.5
"""Share of matches of known depth at which the depths of both pictures agree, below which a scene is not sound."""
LEAST_DEPTH = 0.05
"""Share of pixels with depth below which little of a scene can be trained on."""
DEPTH_LIMIT = 0.02
"""Largest sound median of the relative difference of depth and sparse points."""


@dataclass(frozen=True)
class SplitReport:
    """The pairs of one split."""

    name: str
    pictures: int
    pairs: int
    overlap: tuple[float, float, float]
    """Least, median and largest of the smaller overlap of a pair; 0 without pairs."""
    angle: tuple[float, float, float]
    """Degrees."""
    scale_ratio: tuple[float, float, float]


@dataclass(frozen=True)
class CheckedPair:
    """A pair whose matches were reprojected."""

    image_id_a: int
    image_id_b: int
    overlap: float
    """The smaller of both ways."""
    error: Reprojection

    @property
    def median(self) -> float:
        """Of the scaled errors, px; NaN without visible matches."""
        errors = self.error.scaled_errors
        return float(np.median(errors)) if len(errors) else float("nan")


@dataclass(frozen=True)
class WarpReport:
    """Matches of all checked pairs together. Distances are scaled to pictures of long side 640."""

    split: str
    pairs: int
    """That were matched."""
    pairs_with_matches: int
    """Of these, with matches that are kept and visible."""
    matches: int
    """Visible ones, which the figures are of."""
    kept: int
    """Matches that the pictures alone confirm, visible or not."""
    agreement: float
    """Share of the kept matches of known depth at which both depths agree: the visible ones."""
    median: float
    """px; NaN without matches."""
    median_own_size: float
    """The same in pixels of the pictures as they are."""
    within_1_5: float
    """Share below 1.5 px."""
    within_5: float
    telling: int
    """Matches with parallax enough to tell of depth and of the way between the cameras."""
    telling_median: float
    """Of these, px; NaN without any."""

    @property
    def is_telling(self) -> bool:
        """Whether depth and poses can be judged by them."""
        return min(self.matches, self.telling) >= FEWEST_MATCHES


@dataclass(frozen=True)
class SceneReport:
    """What the check of a scene found."""

    scene: str
    layout: str
    licence: str
    pictures: int
    cameras: int
    points: int
    """Sparse points of the model; recordings have none."""
    files: int
    """That the manifest has checksums of."""
    changed: list[str]
    """Files that are not what the manifest says."""
    missing: list[str]
    depth: Agreement
    depth_maps: int
    """That were read."""
    splits: list[SplitReport]
    nearest_cameras: float | None
    """Distance of the nearest cameras of the two splits, in the unit of the poses; None where nothing is held back."""
    nearest_cameras_relative: float | None
    """The same in usual distances from a camera to the nearest."""
    largest_overlap_across: float | None
    """Of pairs across the split, the smaller of both ways."""
    warp: WarpReport
    pairs: list[CheckedPair]
    notes: list[str]
    """What a reader should know and nothing is wrong with."""
    problems: list[str]
    """What is wrong, a line each, with the remedy."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def damaged(self) -> set[str]:
        """Names of pictures that can't be relied on, for their file or their depth isn't what the manifest says."""
        return _damaged([*self.changed, *self.missing])

    def as_dict(self) -> dict[str, Any]:
        """In types that JSON has; of each pair only its figures."""
        left_out = ("pairs", "depth", "splits", "warp")
        values = {name: value for name, value in vars(self).items() if name not in left_out}
        values |= {"depth": asdict(self.depth), "warp": asdict(self.warp), "is_sound": self.is_sound}
        values["splits"] = [asdict(split) for split in self.splits]
        values["pairs"] = [
            {
                "image_id_a": pair.image_id_a,
                "image_id_b": pair.image_id_b,
                "overlap": pair.overlap,
                "matches": len(pair.error.errors),
                "median": pair.median,
            }
            for pair in self.pairs
        ]
        return plain(values)

    def lines(self) -> list[str]:
        """The report, a line a finding."""
        return [
            f"{self.scene}: {self.pictures} pictures, {_count(self.cameras, 'camera')}, {self.points} sparse points "
            f"(from {self.layout}; licence: {self.licence})",
            f"files: {self.files} with checksums, {len(self.changed)} changed, {len(self.missing)} missing",
            *_depth_lines(self.depth, self.depth_maps),
            *[_split_line(split) for split in self.splits],
            *self._distance_lines(),
            *_warp_lines(self.warp),
            *[f"note: {note}" for note in self.notes],
            *[f"problem: {problem}" for problem in self.problems],
            self._verdict(),
        ]

    def _verdict(self) -> str:
        if not self.is_sound:
            return f"not sound: {_count(len(self.problems), 'problem')}"
        return "sound" if self.warp.is_telling else "sound as far as it could be judged"

    def _distance_lines(self) -> list[str]:
        if self.nearest_cameras is None:
            return []
        usual = f" ({self.nearest_cameras_relative:.2f} usual distances)" if self.nearest_cameras_relative else ""
        across = ""
        if self.largest_overlap_across is not None:
            across = f"; the largest overlap across it is {self.largest_overlap_across:.0%}, and no pair crosses it"
        return [f"split: its nearest cameras are {self.nearest_cameras:.3g} units apart{usual}{across}"]


def check_scene(scene: Path, pairs: int, progress: Progress) -> SceneReport:
    """Check a scene that `lfnet prepare` made; nothing in it is changed.

    Pictures whose files are damaged are found by their checksums, and left out of all that is measured.

    Args:
        scene: its folder.
        pairs: validation pairs that matches are reprojected in, evenly taken from the table; training pairs where
            nothing is held back, or too little to judge by.
        progress: told how far each step is.

    Raises:
        SceneError: it is no scene, or one that can't be read at all.
        ValueError: `pairs` is below 1.
    """
    if pairs < 1:
        raise UserError(f"pairs: expected at least 1, got {pairs}")
    opened = Scene.open(scene)
    model = read_reconstruction(scene / "model")
    table, manifest = opened.pair_table, opened.manifest
    changed, missing = _compare_files(scene, manifest, progress)
    damaged = _damaged([*changed, *missing])
    depth = _measure_depth(opened, model, damaged, progress)
    limit = OWN_DEPTH_LIMIT if manifest["depth"] == "own" else SENSOR_LIMIT
    warp, checked = _check_warp(opened, damaged, pairs, limit, progress)
    numbers = manifest.get("numbers", {}).get("pairs", {})
    report = SceneReport(
        scene=scene.resolve().name,
        layout=str(manifest["source"]["layout"]),
        licence=str(manifest.get("licence", "not stated")),
        pictures=len(opened.frames),
        cameras=len(model.cameras),
        points=len(model.points.ids),
        files=len(manifest.get("checksums", {})),
        changed=changed,
        missing=missing,
        depth=depth,
        depth_maps=depth.maps,
        splits=[_split_report(table, name) for name in SPLITS],
        nearest_cameras=numbers.get("nearest_cameras"),
        nearest_cameras_relative=numbers.get("nearest_cameras_relative"),
        largest_overlap_across=numbers.get("largest_overlap_across"),
        warp=warp,
        pairs=checked,
        notes=[],
        problems=[],
    )
    own = manifest["pictures"] == "own", manifest["depth"] == "own"
    return replace(report, notes=_notes(report, all(own)), problems=_problems(report, own[1]))


def _compare_files(scene: Path, manifest: dict[str, Any], progress: Progress) -> tuple[list[str], list[str]]:
    changed, missing = [], []
    expected = manifest.get("checksums", {})
    for done, (name, digest) in enumerate(expected.items()):
        progress("checksums", done, len(expected))
        if not (scene / name).is_file():
            missing.append(name)
        elif checksum(scene / name) != digest:
            changed.append(name)
    progress("checksums", len(expected), len(expected))
    return changed, missing


def _damaged(files: Sequence[str]) -> set[str]:
    pictures = {name.removeprefix("images/") for name in files if name.startswith("images/")}
    return pictures | {name.removeprefix("depth/").removesuffix(".h5") for name in files if name.startswith("depth/")}


def _measure_depth(scene: Scene, model: Reconstruction, damaged: set[str], progress: Progress) -> Agreement:
    usable = [number for number in sorted(scene.image_ids) if scene.frame(number).name not in damaged]
    places = np.linspace(0, len(usable) - 1, min(len(usable), MOST_MAPS)).round().astype(int)
    asked = {usable[place] for place in places}

    def read(number: int) -> Any:
        read_depth = scene.frame(number).read_depth
        return read_depth() if number in asked and read_depth is not None else None

    measured = measure_agreement(model, read, lambda done, total: progress("depth maps", done, total))
    progress("depth maps", len(model.images), len(model.images))
    return measured


def _check_warp(
    scene: Scene, damaged: set[str], count: int, limit: float, progress: Progress
) -> tuple[WarpReport, list[CheckedPair]]:
    """Pairs held back, and those trained on too where the former can't tell of depth and poses."""
    broken = [number for number in scene.image_ids if scene.frame(number).name in damaged]
    held_back = _reproject(scene, _chosen_pairs(scene.pairs("validation"), broken, count), progress)
    warp = _summarize("validation", held_back, limit)
    if warp.is_telling:
        return warp, held_back
    checked = [*held_back, *_reproject(scene, _chosen_pairs(scene.pairs("training"), broken, count), progress)]
    return _summarize("validation and training" if held_back else "training", checked, limit), checked


def _chosen_pairs(rows: PairTable, broken: Sequence[int], count: int) -> PairTable:
    """Up to `count` pairs, evenly taken, in order of their first pictures, without pictures that are broken."""
    rows = rows.rows(~(np.isin(rows.image_id_a, broken) | np.isin(rows.image_id_b, broken)))
    rows = rows.rows(np.lexsort((rows.image_id_b, rows.image_id_a)))
    return rows.rows(np.linspace(0, len(rows) - 1, min(len(rows), count)).round().astype(int))


def _reproject(scene: Scene, rows: PairTable, progress: Progress) -> list[CheckedPair]:
    @lru_cache(maxsize=PICTURES_KEPT)
    def picture(number: int) -> MatchedPicture:
        return matched_picture(scene.frame(number))

    checked = []
    for row in range(len(rows)):
        progress("matches", row, len(rows))
        first, second = int(rows.image_id_a[row]), int(rows.image_id_b[row])
        overlap = float(min(rows.overlap_ab[row], rows.overlap_ba[row]))
        checked.append(CheckedPair(first, second, overlap, compare(picture(first), picture(second))))
    progress("matches", len(rows), len(rows))
    return checked


def _summarize(split: str, checked: Sequence[CheckedPair], limit: float) -> WarpReport:
    """Medians are of all matches together: pairs count by how much of them can be matched."""
    scaled = np.concatenate([np.zeros(0), *(pair.error.scaled_errors for pair in checked)])
    own = np.concatenate([np.zeros(0), *(pair.error.errors for pair in checked)])
    telling = scaled[np.concatenate([np.zeros(0), *(pair.error.parallax for pair in checked)]) >= TELLING * limit]
    known = sum(pair.error.known for pair in checked)
    some = len(scaled) > 0
    return WarpReport(
        split=split,
        pairs=len(checked),
        pairs_with_matches=sum(len(pair.error.errors) > 0 for pair in checked),
        matches=len(scaled),
        kept=sum(pair.error.matches for pair in checked),
        agreement=len(scaled) / known if known else 0.0,
        median=float(np.median(scaled)) if some else float("nan"),
        median_own_size=float(np.median(own)) if some else float("nan"),
        within_1_5=float((scaled < 1.5).mean()) if some else 0.0,
        within_5=float((scaled < 5).mean()) if some else 0.0,
        telling=len(telling),
        telling_median=float(np.median(telling)) if len(telling) else float("nan"),
    )


def _split_report(table: PairTable, name: str) -> SplitReport:
    rows = table.of_split(name)
    columns = (np.minimum(rows.overlap_ab, rows.overlap_ba), rows.angle, rows.scale_ratio)
    ranges = [
        tuple(map(float, np.quantile(column, (0, 0.5, 1)))) if len(rows) else (0.0, 0.0, 0.0) for column in columns
    ]
    pictures = int((table.image_split == SPLITS.index(name)).sum())
    return SplitReport(name, pictures, len(rows), *ranges)  # type: ignore[arg-type]


def _notes(report: SceneReport, all_own: bool) -> list[str]:
    notes = []
    if not report.files:
        notes.append("the manifest has no checksums: whether files changed can't be told")
    elif not all_own:
        notes.append("what stays in the source of the scene has no checksums")
    if report.warp.split == "training":
        notes.append("no pairs are held back: the matches are those of training pairs")
    elif report.warp.split != "validation":
        notes.append("pairs held back can't tell of depth and poses: training pairs are taken too")
    if report.warp.matches < FEWEST_MATCHES:
        notes.append(f"{report.warp.matches} visible matches are too few to judge depth and poses by")
    elif not report.warp.is_telling:
        notes.append(
            f"depth and the way between cameras could not be judged: {report.warp.telling} of {report.warp.matches} "
            "matches have the parallax that shows them; pictures from places farther apart would"
        )
    if report.depth_maps < report.pictures:
        notes.append(f"depth was measured in {report.depth_maps} of {report.pictures} pictures")
    return notes


def _problems(report: SceneReport, own_depth: bool) -> list[str]:
    problems = []
    for name, files in (("changed", report.changed), ("missing", report.missing)):
        if files:
            shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
            first = "delete it and " if name == "changed" else ""  # What is there isn't made again.
            again = f"{first}run the same `lfnet prepare` command again"
            problems.append(f"{name} since the scene was made: {shown}; put back what was there, or {again}")
    if not any(split.pairs for split in report.splits):
        problems.append("no pairs: nothing can be trained on; prepare it anew with a wider range of overlap")
    if report.depth.completeness < LEAST_DEPTH:
        problems.append(
            f"depth is known at {report.depth.completeness:.1%} of the pixels (sound is {LEAST_DEPTH:.0%}): take more "
            "photos that overlap, from places apart from one another, or check the depth maps of the source"
        )
    if report.depth.points and report.depth.median_error > DEPTH_LIMIT:
        problems.append(
            f"depth is {report.depth.median_error:.1%} off the sparse points (median; sound is {DEPTH_LIMIT:.0%}): are "
            "the depth maps in the unit of the model?"
        )
    warp, limit = report.warp, OWN_DEPTH_LIMIT if own_depth else SENSOR_LIMIT
    if warp.is_telling and warp.median <= limit < warp.telling_median:
        problems.append(
            f"matches with parallax land {warp.telling_median:.1f} px from where depth and poses send them (median at "
            f"{REFERENCE_SIDE} px; sound is {limit:g} px): check the unit of depth, and axes and direction of the poses"
        )
    if warp.matches >= FEWEST_MATCHES and warp.median > limit:
        problems.append(
            f"matches land {warp.median:.1f} px from where depth and poses send them (median at {REFERENCE_SIDE} px; "
            f"sound is {limit:g} px): check the direction of the poses, the intrinsics, and the unit of depth"
        )
    known = warp.matches / warp.agreement if warp.agreement else sum(pair.error.known for pair in report.pairs)
    if known >= FEWEST_MATCHES and warp.agreement < LEAST_AGREEMENT:
        problems.append(
            f"at {1 - warp.agreement:.0%} of the matches the depths of both pictures disagree: check the unit of depth "
            "and the direction of the poses"
        )
    return problems


def _depth_lines(depth: Agreement, maps: int) -> list[str]:
    lines = [f"depth: {depth.completeness:.0%} of the pixels of {maps} maps"]
    if depth.points:
        lines.append(
            f"depth at {depth.points} sparse points ({depth.coverage:.0%} of them): off by {depth.median_error:.2%} "
            f"(median), {depth.within_1_percent:.1%} within 1 %, {depth.within_5_percent:.1%} within 5 %"
        )
    return lines


def _split_line(split: SplitReport) -> str:
    line = f"{split.name}: {_count(split.pictures, 'picture')}, {_count(split.pairs, 'pair')}"
    if not split.pairs:
        return line
    low, middle, high = split.overlap
    return (
        f"{line}; overlap {low:.0%} to {high:.0%} (median {middle:.0%}), angle {split.angle[0]:.0f} to "
        f"{split.angle[2]:.0f} degrees ({split.angle[1]:.0f}), scale ratio {split.scale_ratio[0]:.2f} to "
        f"{split.scale_ratio[2]:.2f} ({split.scale_ratio[1]:.2f})"
    )


def _warp_lines(warp: WarpReport) -> list[str]:
    where = f"{warp.matches} matches in {warp.pairs_with_matches} of {warp.pairs} {warp.split} pairs"
    if not warp.matches:
        return [f"warp: {where}"]
    return [
        f"warp: {where} land {warp.median:.2f} px (median) from where depth and poses send them, {warp.within_1_5:.1%} "
        f"within 1.5 px, {warp.within_5:.1%} within 5 px, of {REFERENCE_SIDE} px of long side "
        f"({warp.median_own_size:.2f} px at the pictures' own size)",
        f"warp: of {warp.kept} matches that the pictures alone confirm (SIFT, mutual, ratio test, one fundamental "
        f"matrix); where both depths are known, they agree at {warp.agreement:.1%}",
    ]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
