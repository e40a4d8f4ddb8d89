"""What a table shows of a section, as data: the Markdown and the page are written from the same columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lfnet.evaluation.intervals import Interval, difference_interval, mean_interval, ratio_interval
from lfnet.evaluation.methods.opencv_extractors import OPENCV_METHODS
from lfnet.evaluation.results import UNTOUCHED_NAME, Results, Row, Section
from lfnet.matching_score import OCTAVES

REFERENCE = "rootsift"
"""The method that ratios refer to, where it was run."""

Direction = Literal["higher", "lower", "neither"]
"""Which values of a metric are better."""

Mark = Literal["", "best", "tied"]
"""Of a cell in its column: the best, or not told apart from the best."""

LOWER = (
    "localisation_error",
    "match_error_median",
    "pose_error",
    "rotation_error",
    "translation_error",
    "corner_error",
    "reprojection_error",
    "seconds",
    "milliseconds",
    "milliseconds_low",
    "milliseconds_high",
    "memory",
    "model_size",
)
COUNTS = ("keypoints", "matches", "visible", "inliers", "parameters")
NEITHER = (*COUNTS, "match_share")
WHOLE = (*COUNTS, "registered", "points", "observations", "keypoints_per_second", "seconds", "memory")
"""Metrics that are shown without decimals."""

TITLES = {
    "matching": "Matching score",
    "sweep": "Rotation and scale",
    "pose": "Relative pose",
    "homography": "Homography",
    "structure": "Structure from motion",
    "cost": "Cost",
}

EXPLAINED = {
    "matching": "Matching score: of the keypoints of one view that the other sees, the share whose nearest descriptor "
    "lies within a threshold of the true place; the mean of both directions.",
    "sweep": "The second view is turned in the plane and zoomed; the matching score is taken each time, of keypoints "
    "away from the turned canvas' empty corners.",
    "pose": "The essential matrix by MAGSAC from mutual nearest neighbours. The error is the larger of the angles of "
    "rotation and of the direction of translation; AUC is the area below the recall curve up to an angle.",
    "homography": "The homography by MAGSAC from mutual nearest neighbours, its error at the corners of the picture as "
    "area below the recall curve; mean matching accuracy (MMA) is the share of matches within a threshold.",
    "structure": "Pictures registered by COLMAP's mapping from each method's features and matches.",
    "cost": "Extraction of one picture, [10 - 90 %] over rounds; all methods interleaved in the same run.",
}

WORDS = {
    "matching_score": "score",
    "repeatability": "repeatability",
    "precision": "precision",
    "localisation_error": "localisation error (px)",
    "match_error_median": "median match error (px)",
    "match_share": "share of correct matches",
    "orientation_agreement": "orientation agreement",
    "pose_auc": "AUC",
    "pose_error": "pose error (°)",
    "corner_auc": "corner AUC",
    "corner_error": "corner error (px)",
    "mma": "MMA",
    "registered": "registered pictures",
    "registered_share": "share registered",
    "track_length": "track length",
    "reprojection_error": "reprojection error (px)",
    "seconds": "seconds",
    "milliseconds": "ms a picture",
    "keypoints_per_second": "keypoints a second",
    "memory": "memory (MB)",
    "model_size": "model (MB)",
}
"""How metrics are written in tables, where that isn't their name."""


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    value: float
    """NaN = undefined."""
    interval: Interval | None = None
    """95 % interval over resampled groups; of costs the 10th and 90th percentile over rounds."""
    ratio: float = math.nan
    """To the reference's value; NaN = not shown."""
    ratio_interval: Interval | None = None
    note: str = ""
    """Words after the number."""
    mark: Mark = ""


@dataclass(frozen=True)
class Column:
    """One metric of every method over the same rows."""

    title: str
    metric: str
    better: Direction
    digits: int
    """Decimals that are shown."""
    cells: dict[str, Cell]
    """By method."""
    brief: bool = False
    """Where room is scarce, its intervals are left out."""


@dataclass(frozen=True)
class Table:
    """Columns under a title."""

    title: str
    methods: list[str]
    columns: list[Column]
    chosen: dict[str, str] = field(default_factory=dict)
    """What was tuned for each method, in words."""


def direction(metric: str) -> Direction:
    """Which values of a metric are better: `localisation_error` has it "lower", a plain count "neither"."""
    name = metric.partition("@")[0]
    if name in LOWER:
        return "lower"
    return "neither" if name in NEITHER else "higher"


def worded(metric: str) -> str:
    """A metric as tables write it: `score at 5 px`, `AUC at 10°`, `share of correct matches at octave 1/2`."""
    name, _, threshold = metric.partition("@")
    word = WORDS.get(name, name.replace("_", " "))
    if not threshold:
        return word
    if threshold.startswith("octave"):
        return f"{word} at octave {threshold.removeprefix('octave')}"
    return f"{word} at {threshold}°" if name == "pose_auc" else f"{word} at {threshold} px"


def thresholds(section: Section, name: str) -> list[float]:
    """Thresholds that a metric was measured at, ascending: of `mma@1`, `mma@3` it is [1.0, 3.0]."""
    split = (metric.partition("@") for metric in section.metrics())
    return sorted(float(threshold) for before, at, threshold in split if before == name and at)


def widest(section: Section, name: str) -> str | None:
    """The metric at its largest threshold, `matching_score@5`; None if the section has none."""
    known = thresholds(section, name)
    return f"{name}@{known[-1]:g}" if known else None


def turns(section: Section) -> dict[str, int]:
    """Variants that only turn, with their degrees, ascending."""
    plain = [name for name in section.variants() if name.startswith("turn") and "-" not in name]
    return dict(sorted(((name, int(name.removeprefix("turn"))) for name in plain), key=lambda item: item[1]))


def zooms(section: Section) -> dict[str, float]:
    """Variants that only zoom, with their factors, ascending; the untouched picture is the factor 1."""
    found = {name: float(name.removeprefix("zoom")) for name in section.variants() if name.startswith("zoom")}
    if UNTOUCHED_NAME in section.variants():
        found[UNTOUCHED_NAME] = 1.0
    return dict(sorted(found.items(), key=lambda item: item[1]))


def reference_of(section: Section) -> str | None:
    """The method that ratios refer to; None if it was not run."""
    return REFERENCE if REFERENCE in section.methods() else None


def champion(methods: Iterable[str]) -> str | None:
    """The method that a reader came for: the first that is none of OpenCV's, else the first."""
    names = list(methods)
    return next((name for name in names if name not in OPENCV_METHODS), names[0] if names else None)


def make_column(
    section: Section, title: str, metric: str, *, reference: str | None = None, brief: bool = False
) -> Column:
    """One metric of every method, with intervals, and marks for the best and those not told apart from it.

    Args:
        section: the rows that go into the column, of all methods.
        title: its header.
        metric: e.g. `matching_score@5`.
        reference: method that ratios refer to; None = no ratios.
        brief: whether its intervals may be left out where room is scarce.

    Returns:
        the column; a method without a defined value has NaN.
    """
    own = {method: section.only(method=method) for method in section.methods()}
    cells = {}
    for method, rows in own.items():
        cell = Cell(rows.mean(metric), mean_interval(rows, metric))
        if reference is not None and method != reference:
            base = own[reference].mean(metric)
            if base > 0 and math.isfinite(base):
                spread = ratio_interval(rows, own[reference], metric)
                cell = replace(cell, ratio=cell.value / base, ratio_interval=spread)
        cells[method] = cell
    whole = metric.partition("@")[0] in WHOLE
    column = Column(title, metric, direction(metric), 0 if whole else 3, cells, brief)
    best = best_method(column)
    if best is None:
        return column
    tied = [method for method in own if method != best and _not_told_apart(own[best], own[method], metric)]
    return with_marks(column, tied)


def best_method(column: Column) -> str | None:
    """The method with the best value; None where all are equal, or no direction is better."""
    known = {method: cell.value for method, cell in column.cells.items() if math.isfinite(cell.value)}
    if column.better == "neither" or len(set(known.values())) < 2:
        return None
    return (min if column.better == "lower" else max)(known, key=lambda method: known[method])


def with_marks(column: Column, tied: Sequence[str]) -> Column:
    """The column with its best value marked, and those of `tied`; methods that share the best value are best."""
    best = best_method(column)
    if best is None:
        return column
    top = column.cells[best].value
    marks: dict[str, Mark] = {
        method: "best" if cell.value == top else "tied" if method in tied else ""
        for method, cell in column.cells.items()
    }
    return replace(column, cells={name: replace(cell, mark=marks[name]) for name, cell in column.cells.items()})


def matched_rows(first: Iterable[Row], second: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Rows of the same pair, variant, budget and subset, in the same order."""
    by_key = {_key(row): row for row in second}
    both = [(row, by_key[_key(row)]) for row in first if _key(row) in by_key]
    return [row for row, _ in both], [row for _, row in both]


def _key(row: Row) -> tuple[str, str, int, str]:
    return row.pair, row.variant, row.budget, row.subset


def _not_told_apart(best: Section, other: Section, metric: str) -> bool:
    interval = difference_interval(*matched_rows(best.rows, other.rows), metric)
    return interval is not None and interval[0] <= 0 <= interval[1]


def section_tables(section: Section) -> list[Table]:
    """The tables that a protocol is reported by.

    Args:
        section: one protocol on one data set.

    Returns:
        tables, the most telling first; none if the section has no rows.
    """
    if not section.rows:
        return []
    makers = {
        "matching": _matching_tables,
        "sweep": _sweep_tables,
        "pose": _pose_tables,
        "homography": _homography_tables,
        "structure": _structure_tables,
        "cost": _cost_tables,
    }
    tables = makers.get(section.protocol, _plain_tables)(section)
    known = [replace(table, columns=[part for part in table.columns if _says_something(part)]) for table in tables]
    return [table for table in known if table.columns]


def _says_something(column: Column) -> bool:
    return any(not math.isnan(cell.value) for cell in column.cells.values())


def _columns(section: Section, metrics: Iterable[str], reference: str | None = None) -> list[Column]:
    """Columns of the metrics that the section has; the first has ratios and its interval where there is a reference."""
    columns = []
    for metric in (metric for metric in metrics if metric in section.metrics()):
        base = None if columns else reference
        columns.append(make_column(section, worded(metric), metric, reference=base, brief=base is None))
    return columns


def _at(section: Section, *names: str) -> list[str]:
    return [f"{name}@{threshold:g}" for name in names for threshold in thresholds(section, name)]


def _subset_table(section: Section, metric: str, title: str) -> list[Table]:
    """One metric by subset; nothing where there is but one."""
    if len(section.subsets()) < 2:
        return []
    columns = [make_column(section.only(subset=name), name, metric, brief=True) for name in section.subsets()]
    return [Table(title, section.methods(), [*columns, make_column(section, "all pairs", metric, brief=True)])]


def _matching_tables(section: Section) -> list[Table]:
    upright = section.only(variants=[UNTOUCHED_NAME])
    main = widest(upright, "matching_score")
    if main is None:
        return _plain_tables(upright)
    reference = reference_of(upright)
    budgets = upright.budgets()
    scores = [
        make_column(upright.only(budget=budget), f"K = {budget}", main, reference=reference) for budget in budgets
    ]
    smallest = upright.only(budget=budgets[0])
    narrower = [name for name in _at(smallest, "matching_score") if name != main]
    details = [*narrower, *_at(smallest, "repeatability"), widest(smallest, "precision") or "", "localisation_error"]
    details += ["match_error_median", "orientation_agreement", "keypoints", "visible", "matches"]
    at_k = f", K = {budgets[0]}" if budgets[0] else ""
    return [
        Table(_capital(worded(main)), upright.methods(), scores),
        Table(f"Other metrics{at_k}", upright.methods(), _columns(smallest, details)),
        *_octave_table(smallest, f"Median error of correct matches, and their share, by octave of the keypoint{at_k}"),
        *_subset_table(smallest, main, f"{_capital(worded(main))}{at_k}, by part of the data"),
    ]


def _octave_table(section: Section, title: str) -> list[Table]:
    """Error and share of correct matches of each octave that has any; nothing where that is but one."""
    columns = []
    for octave in OCTAVES:
        name = f"octave {octave} and coarser" if octave == OCTAVES[-1] else f"octave {octave}"
        error = make_column(section, f"{name} (px)", f"match_error_median@octave{octave}", brief=True)
        if _says_something(error):
            columns += [error, make_column(section, f"share at {octave}", f"match_share@octave{octave}", brief=True)]
    return [Table(title, section.methods(), columns)] if len(columns) > 2 else []


def _sweep_tables(section: Section) -> list[Table]:
    main = widest(section, "matching_score")
    if main is None:
        return _plain_tables(section)
    turned = turns(section)
    reference = reference_of(section)
    columns = []
    if UNTOUCHED_NAME in turned:
        columns.append(make_column(section.only(variants=[UNTOUCHED_NAME]), "upright", main, reference=reference))
    if len(turned) > 1:
        over = section.only(variants=turned)
        columns.append(make_column(over, f"mean of {len(turned)} turns", main, reference=reference))
        columns.append(_worst_turn(section, main, turned))
    zoomed = {name: factor for name, factor in zooms(section).items() if name != UNTOUCHED_NAME}
    for name, factor in zoomed.items():
        columns.append(make_column(section.only(variants=[name]), f"zoom {factor:g}", main, brief=True))
    budget = section.budgets()[0]
    at_k = f", K = {budget}" if budget else ""
    return [Table(f"{_capital(worded(main))}{at_k}", section.methods(), columns)]


def _worst_turn(section: Section, metric: str, turned: dict[str, int]) -> Column:
    cells = {}
    for method in section.methods():
        rows = section.only(method=method)
        means = {name: rows.only(variants=[name]).mean(metric) for name in turned}
        known = {name: value for name, value in means.items() if not math.isnan(value)}
        if not known:
            cells[method] = Cell(math.nan)
            continue
        worst = min(known, key=lambda name: known[name])
        upright = means.get(UNTOUCHED_NAME, math.nan)
        share = f", {known[worst] / upright:.2f} of upright" if upright > 0 else ""
        cells[method] = Cell(known[worst], note=f"at {turned[worst]}°{share}")
    return with_marks(Column("worst turn", metric, direction(metric), 3, cells), [])


def _pose_tables(section: Section) -> list[Table]:
    metrics = [*_at(section, "pose_auc"), "matches", "inliers"]
    chosen = chosen_words(section)
    title = "Pose, area below the recall curve"
    tables = [Table(title, section.methods(), _columns(section, metrics, reference_of(section)), chosen)]
    known = thresholds(section, "pose_auc")
    if known:
        tables += _subset_table(section, f"pose_auc@{known[0]:g}", f"Pose AUC at {known[0]:g}°, by part of the data")
    return tables


def _homography_tables(section: Section) -> list[Table]:
    accuracies = [name for name in ("mma@1", "mma@3", "mma@5") if name in section.metrics()]
    metrics = [*_at(section, "corner_auc"), *accuracies, "matches", "inliers"]
    columns = _columns(section, metrics, reference_of(section))
    tables = [Table("Corner error and matching accuracy", section.methods(), columns, chosen_words(section))]
    for metric in ("corner_auc@3", "mma@3"):
        if metric in section.metrics():
            tables += _subset_table(section, metric, f"{_capital(worded(metric))}, by part of the data")
    return tables


def _structure_tables(section: Section) -> list[Table]:
    names = ["registered", "registered_share", "points", "observations"]
    names += ["track_length", "reprojection_error"]
    sets = list(dict.fromkeys(row.pair for row in section.rows))
    if len(sets) == 1:
        title = f"Reconstruction of {sets[0]}"
        return [Table(title, section.methods(), _columns(section, names), chosen_words(section))]
    tables = [Table(f"Mean of {len(sets)} sets of pictures", section.methods(), _columns(section, names))]
    for name in sets:
        alone = replace(section, rows=[row for row in section.rows if row.pair == name])
        tables.append(Table(f"Reconstruction of {name}", section.methods(), _columns(alone, names)))
    return tables


def _cost_tables(section: Section) -> list[Table]:
    names = ("keypoints_per_second", "keypoints", "memory", "model_size", "parameters")
    tables = []
    for subset in section.subsets():
        for budget in section.only(subset=subset).budgets():
            rows = section.only(subset=subset, budget=budget)
            at_k = f", K = {budget}" if budget else ""
            title = f"Pictures of {subset.replace('x', ' x ')}{at_k}"
            columns = [_of_models(column) for column in _columns(rows, names)]
            tables.append(Table(title, rows.methods(), [cost_column(rows), *columns]))
    return tables


def _of_models(column: Column) -> Column:
    """Sizes of models without marks, and a dash for methods that have none: that is no merit."""
    if column.metric not in ("model_size", "parameters"):
        return column
    cells = {name: Cell(cell.value if cell.value > 0 else math.nan) for name, cell in column.cells.items()}
    return replace(column, better="neither", digits=1 if column.metric == "model_size" else 0, cells=cells)


def cost_column(section: Section) -> Column:
    """Milliseconds of a picture with the 10th to 90th percentile over rounds; overlapping ones are tied."""
    cells = {}
    for method in section.methods():
        rows = section.only(method=method)
        low, high = rows.mean("milliseconds_low"), rows.mean("milliseconds_high")
        cells[method] = Cell(rows.mean("milliseconds"), None if math.isnan(low + high) else (low, high))
    column = Column(WORDS["milliseconds"], "milliseconds", "lower", 1, cells)
    best = best_method(column)
    spread = cells[best].interval if best else None
    tied = [name for name, cell in cells.items() if spread and cell.interval and cell.interval[0] <= spread[1]]
    return with_marks(column, tied)


def _plain_tables(section: Section) -> list[Table]:
    return [Table("Every metric", section.methods(), _columns(section, section.metrics()))]


def chosen_words(section: Section) -> dict[str, str]:
    """What was tuned for each method, in words: `ratio 0.9, 1 px`; on what it was tuned is left to `tuning_words`."""
    words = {}
    for method, values in section.chosen.items():
        parts = [_ratio_words(values["ratio"])] if "ratio" in values else []
        parts += [f"{_setting(values['threshold'])} px"] if "threshold" in values else []
        words[method] = ", ".join(parts or [f"{name} {_setting(value)}" for name, value in values.items()])
    return words


def tuning_words(section: Section) -> str:
    """On what ratios and thresholds were tuned, as a sentence; nothing where that isn't said."""
    places = {str(values["tuned_on"]) for values in section.chosen.values() if "tuned_on" in values}
    counts = {int(values["tuning_pairs"]) for values in section.chosen.values() if "tuning_pairs" in values}
    pairs = f", {min(counts)} pairs that don't count here" if len(counts) == 1 else ""
    return f"Ratio and threshold were tuned for each method on {', '.join(sorted(places))}{pairs}." if places else ""


def _ratio_words(ratio: object) -> str:
    return "no ratio test" if ratio in (None, 1) else f"ratio {_setting(ratio)}"


def _setting(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def headline(section: Section) -> Column | None:
    """The one number that stands for a section: the score at the smallest budget, the mean over turns, AUC, ...

    Args:
        section: one protocol on one data set.

    Returns:
        its column, titled with what it is; None if there is nothing to show.
    """
    if not section.rows:
        return None
    if section.protocol == "cost":
        first = section.only(subset=section.subsets()[0])
        return cost_column(first.only(budget=first.budgets()[0]))
    title, metric, rows = _headline_of(section)
    if metric is None or metric not in section.metrics():
        return None
    return make_column(rows, title, metric, reference=reference_of(section))


def _headline_of(section: Section) -> tuple[str, str | None, Section]:
    budgets = section.budgets()
    main = widest(section, "matching_score")
    if section.protocol == "matching" and main:
        at_k = f", K = {budgets[0]}" if budgets[0] else ""
        return f"{worded(main)}{at_k}", main, section.only(variants=[UNTOUCHED_NAME], budget=budgets[0])
    if section.protocol == "sweep" and main:
        turned = turns(section)
        return f"{worded(main)}, mean of {len(turned)} turns", main, section.only(variants=turned)
    if section.protocol == "pose":
        known = thresholds(section, "pose_auc")
        metric = f"pose_auc@{known[0]:g}" if known else None
        return worded(metric) if metric else "", metric, section
    if section.protocol == "homography":
        known = [name for name in ("corner_auc@3", widest(section, "corner_auc")) if name in section.metrics()]
        return worded(known[0]) if known else "", known[0] if known else None, section
    if section.protocol == "structure":
        return worded("registered_share"), "registered_share", section
    return "", None, section


def described(section: Section) -> str:
    """What a section was measured on, in words: pairs, groups, budgets."""
    pairs = len({row.pair for row in section.rows})
    noun = {"structure": ("set of pictures", "sets of pictures"), "cost": ("size", "sizes")}.get(
        section.protocol, ("pair", "pairs")
    )
    parts = [f"{pairs:,} {noun[pairs != 1]}"]
    groups = len(section.groups())
    if section.protocol not in ("structure", "cost") and groups > 1:
        parts.append(f"{groups:,} {section.unit}")
    budgets = [budget for budget in section.budgets() if budget]
    if budgets:
        parts.append("K = " + ", ".join(map(str, budgets)))
    return "; ".join(parts)


def all_methods(results: Results) -> list[str]:
    """Every method of a run, in the order of their first mention."""
    return list(dict.fromkeys([*results.methods, *(name for part in results.sections for name in part.methods())]))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
