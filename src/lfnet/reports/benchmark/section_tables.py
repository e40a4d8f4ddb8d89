"""Which tables each protocol is reported by, and the one number that stands for a section."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from lfnet.evaluation.results import UNTOUCHED_NAME, Section
from lfnet.matching_score import OCTAVES
from lfnet.reports.benchmark.columns import Cell, Column, Table, cost_column, make_column
from lfnet.reports.benchmark.metric_words import (
    at_budget,
    at_thresholds,
    capital,
    chosen_words,
    main_corner_auc,
    reference_of,
    shown,
    turns,
    widest,
    worded,
    zooms,
)


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
    known = [replace(table, columns=[part for part in table.columns if part.says_something]) for table in tables]
    return [table for table in known if table.columns]


def _columns(section: Section, metrics: Iterable[str], reference: str | None = None) -> list[Column]:
    """Columns of the metrics that the section has; the first has ratios and its interval where there is a reference."""
    columns = []
    for metric in (metric for metric in metrics if metric in section.metrics()):
        base = None if columns else reference
        columns.append(make_column(section, worded(metric), metric, reference=base, brief=base is None))
    return columns


def _subset_table(section: Section, metric: str | None, title: str) -> list[Table]:
    """One metric by subset; nothing where there is but one."""
    if metric not in section.metrics() or len(section.subsets()) < 2:
        return []
    parts = {**{name: section.only(subset=name) for name in section.subsets()}, "all pairs": section}
    columns = [make_column(part, name, metric, brief=True) for name, part in parts.items()]
    return [Table(f"{title}, by part of the data", section.methods(), columns)]


def _plain_tables(section: Section) -> list[Table]:
    return [Table("Every metric", section.methods(), _columns(section, section.metrics()))]


def _matching_tables(section: Section) -> list[Table]:
    upright = section.only(variants=[UNTOUCHED_NAME])
    main = widest(upright, "matching_score")
    if main is None:
        return _plain_tables(upright)
    reference, budgets = reference_of(upright), upright.budgets()
    scores = [make_column(upright.only(budget=k), f"K = {k}", main, reference=reference) for k in budgets]
    smallest = upright.only(budget=budgets[0])
    details = [name for name in at_thresholds(smallest, "matching_score", "repeatability") if name != main]
    details += [widest(smallest, "precision") or "", "localisation_error", "match_error_median"]
    details += ["orientation_agreement", "keypoints", "visible", "matches"]
    at_k = at_budget(budgets[0])
    return [
        Table(capital(worded(main)), upright.methods(), scores),
        Table(f"Other metrics{at_k}", upright.methods(), _columns(smallest, details)),
        *_octave_table(smallest, f"Median error of correct matches, and their share, by octave of the keypoint{at_k}"),
        *_subset_table(smallest, main, f"{capital(worded(main))}{at_k}"),
    ]


def _octave_table(section: Section, title: str) -> list[Table]:
    """Error and share of correct matches of each octave that has any; nothing where that is but one."""
    columns = []
    for octave in OCTAVES:
        name = f"octave {octave}{' and coarser' if octave == OCTAVES[-1] else ''}"
        error = make_column(section, f"{name} (px)", f"match_error_median@octave{octave}", brief=True)
        if error.says_something:
            columns += [error, make_column(section, f"share at {octave}", f"match_share@octave{octave}", brief=True)]
    return [Table(title, section.methods(), columns)] if len(columns) > 2 else []


def _sweep_tables(section: Section) -> list[Table]:
    main = widest(section, "matching_score")
    if main is None:
        return _plain_tables(section)
    turned, reference = turns(section), reference_of(section)
    columns = []
    if UNTOUCHED_NAME in turned:
        columns.append(make_column(section.only(variants=[UNTOUCHED_NAME]), "upright", main, reference=reference))
    if len(turned) > 1:
        over = section.only(variants=turned)
        columns.append(make_column(over, f"mean of {len(turned)} turns", main, reference=reference))
        columns.append(_worst_turn(section, main, turned))
    for name, factor in zooms(section).items():
        if name != UNTOUCHED_NAME:
            columns.append(make_column(section.only(variants=[name]), f"zoom {factor:g}", main, brief=True))
    return [Table(f"{capital(worded(main))}{at_budget(section.budgets()[0])}", section.methods(), columns)]


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
    return Column("worst turn", metric, shown(metric).better, 3, cells).marked()


def _pose_tables(section: Section) -> list[Table]:
    areas = at_thresholds(section, "pose_auc")
    columns = _columns(section, [*areas, "matches", "inliers", "estimation_time"], reference_of(section))
    title = "Pose, area below the recall curve"
    tables = [Table(title, section.methods(), columns, chosen_words(section))]
    return tables + (_subset_table(section, areas[0], f"Pose {worded(areas[0])}") if areas else [])


def _homography_tables(section: Section) -> list[Table]:
    metrics = [
        *at_thresholds(section, "corner_auc"),
        "mma@1",
        "mma@3",
        "mma@5",
        "matches",
        "inliers",
        "estimation_time",
    ]
    columns = _columns(section, metrics, reference_of(section))
    tables = [Table("Corner error and matching accuracy", section.methods(), columns, chosen_words(section))]
    for metric in ("corner_auc@3", "mma@3"):
        tables += _subset_table(section, metric, capital(worded(metric)))
    return tables


def _structure_tables(section: Section) -> list[Table]:
    names = ("registered", "registered_share", "points", "observations", "track_length", "reprojection_error")
    sets = list(dict.fromkeys(row.pair for row in section.rows))
    if len(sets) == 1:
        columns = _columns(section, names)
        return [Table(f"Reconstruction of {sets[0]}", section.methods(), columns, chosen_words(section))]
    tables = [Table(f"Mean of {len(sets)} sets of pictures", section.methods(), _columns(section, names))]
    for name in sets:
        alone = replace(section, rows=[row for row in section.rows if row.pair == name])
        tables.append(Table(f"Reconstruction of {name}", section.methods(), _columns(alone, names)))
    return tables


def cost_cases(section: Section) -> Iterator[tuple[str, Section]]:
    """Rows of each size of picture and budget of the section `cost`, and what these are in words."""
    for subset in section.subsets():
        for budget in section.only(subset=subset).budgets():
            size = subset.replace("x", " x ")
            yield f"{size}{at_budget(budget)}", section.only(subset=subset, budget=budget)


def _cost_tables(section: Section) -> list[Table]:
    names = ("keypoints_per_second", "keypoints", "memory", "model_size", "parameters")
    tables = []
    for case, rows in cost_cases(section):
        columns = [_of_models(column) for column in _columns(rows, names)]
        tables.append(Table(f"Pictures of {case}", rows.methods(), [cost_column(rows), *columns]))
    return tables


def _of_models(column: Column) -> Column:
    """Sizes of models without marks, and a dash for methods that have none: that is no merit."""
    if column.metric not in ("model_size", "parameters"):
        return column
    cells = {name: Cell(cell.value if cell.value > 0 else math.nan) for name, cell in column.cells.items()}
    return replace(column, better="neither", digits=1 if column.metric == "model_size" else 0, cells=cells)


def headline(section: Section) -> Column | None:
    """The one number that stands for a section: the score at the smallest budget, the mean over turns, AUC, ...

    Args:
        section: one protocol on one data set.

    Returns:
        its column, titled with what it is; None if there is nothing to show.
    """
    if not section.rows:
        return None
    rows, metric, over = section, None, ""
    if section.protocol == "cost":
        return cost_column(next(cost_cases(section))[1])
    if section.protocol in ("matching", "sweep"):
        metric, turned, budget = widest(section, "matching_score"), turns(section), section.budgets()[0]
        if section.protocol == "matching":
            rows, over = section.only(variants=[UNTOUCHED_NAME], budget=budget), at_budget(budget)
        else:
            rows, over = section.only(variants=turned), f", mean of {len(turned)} turns"
    elif section.protocol == "pose":
        metric = next(iter(at_thresholds(section, "pose_auc")), None)
    elif section.protocol == "homography":
        metric = main_corner_auc(section)
    elif section.protocol == "structure":
        metric = "registered_share"
    if metric is None or metric not in section.metrics():
        return None
    return make_column(rows, f"{worded(metric)}{over}", metric, reference=reference_of(section))
