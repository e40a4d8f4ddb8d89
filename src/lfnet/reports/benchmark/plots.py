"""Which charts a section of a benchmark is shown by, from its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lfnet.evaluation.intervals import mean_interval
from lfnet.evaluation.results import UNTOUCHED_NAME, Row
from lfnet.reports.benchmark.charts import (
    Axis,
    Series,
    bar_chart,
    category_chart,
    line_chart,
    linear_axis,
    log_axis,
    scatter_chart,
)
from lfnet.reports.benchmark.columns import cost_column
from lfnet.reports.benchmark.metric_words import (
    capital,
    main_corner_auc,
    reference_of,
    thresholds,
    turns,
    widest,
    worded,
    zooms,
)
from lfnet.reports.benchmark.section_tables import cost_cases, headline

if TYPE_CHECKING:
    from lfnet.evaluation.results import Results, Section
    from lfnet.reports.benchmark.charts import Places

MOST_SUBSETS = 16
"""Parts of the data that one chart has room for."""

MOST_POINTS = 400
"""Pairs of a method in a scatter; of more, every so many."""

STEPS = 41
"""Places that a recall curve is taken at."""


def section_charts(section: Section, places: Places) -> list[str]:
    """The charts of a section.

    Args:
        section: one protocol on one data set.
        places: colours of the methods.

    Returns:
        figures; none where there are no rows, or only what a table says better.
    """
    makers: dict[str, Callable[[Section, Places], list[str]]] = {
        "matching": _matching_charts,
        "sweep": _sweep_charts,
        "pose": _pose_charts,
        "homography": _homography_charts,
        "structure": _structure_charts,
        "cost": _cost_charts,
    }
    make = makers.get(section.protocol)
    return [] if make is None or not section.rows else [chart for chart in make(section, places) if chart]


def _ordered(section: Section, places: Places) -> list[str]:
    return sorted(section.methods(), key=lambda name: places[name])


def _curves(section: Section, metric: str, parts: Sequence[tuple[float, Section]], places: Places) -> list[Series]:
    """Mean and interval of a metric in each part, for every method."""
    series = []
    for method in _ordered(section, places):
        points, band = [], []
        for x, part in parts:
            rows = part.only(method=method)
            points.append((x, rows.mean(metric)))
            interval = mean_interval(rows, metric)
            if interval is not None:
                band.append((x, *interval))
        if any(math.isfinite(value) for _, value in points):
            series.append(Series(method, points, band))
    return series


def _metric_series(section: Section, metrics: Sequence[tuple[float, str]], places: Places) -> list[Series]:
    """Mean and interval of several metrics, each at its x, for every method."""
    series = []
    for method in _ordered(section, places):
        rows = section.only(method=method)
        spread = [(x, mean_interval(rows, metric)) for x, metric in metrics]
        means = [(x, rows.mean(metric)) for x, metric in metrics]
        series.append(Series(method, means, [(x, *ends) for x, ends in spread if ends]))
    return series


def _share_axis(label: str, series: Sequence[Series]) -> Axis:
    """From 0 to just beyond the largest value, at most to 1."""
    ends = [value for one in series for value in [*(y for _, y in one.points), *(high for *_, high in one.band)]]
    highest = max([0.05, *(value for value in ends if math.isfinite(value))])
    axis = linear_axis(label, min(highest, 1.0))
    return axis if axis.high <= 1.0 else linear_axis(label, 1.0)


def _matching_charts(section: Section, places: Places) -> list[str]:
    upright = section.only(variants=[UNTOUCHED_NAME])
    metric = widest(upright, "matching_score")
    if metric is None or not upright.rows:
        return []
    budgets = upright.budgets()
    charts = []
    if len(budgets) > 1:
        series = _curves(upright, metric, [(float(k), upright.only(budget=k)) for k in budgets], places)
        x = log_axis("keypoints of a picture, K", budgets, [(float(k), str(k)) for k in budgets])
        y = _share_axis(worded(metric), series)
        charts.append(line_chart(f"{worded(metric).capitalize()} over the budget of keypoints", series, x, y, places))
    smallest = upright.only(budget=budgets[0])
    charts.append(_threshold_chart(smallest, places))
    charts.append(_subset_chart(smallest, metric, places))
    charts.append(_against_reference(smallest, metric, places))
    return charts


def _threshold_chart(section: Section, places: Places) -> str:
    known = thresholds(section, "matching_score")
    if len(known) < 2:
        return ""
    metrics = [(float(index), f"matching_score@{t:g}") for index, t in enumerate(known)]
    series = _metric_series(section, metrics, places)
    names = [f"{t:g} px" for t in known]
    y = _share_axis("matching score", series)
    return category_chart("Matching score by threshold", series, names, y, "distance from the true place", places)


def _subset_chart(section: Section, metric: str, places: Places) -> str:
    names = section.subsets()
    if not 2 <= len(names) <= MOST_SUBSETS:
        return ""
    parts = [(float(index), section.only(subset=name)) for index, name in enumerate(names)]
    series = _curves(section, metric, parts, places)
    y = _share_axis(worded(metric), series)
    title = f"{capital(worded(metric))} by part of the data"
    return category_chart(title, series, names, y, "part of the data", places)


def _against_reference(section: Section, metric: str, places: Places) -> str:
    """The score of every pair against the reference's."""
    reference = reference_of(section)
    others = [method for method in _ordered(section, places) if method != reference]
    if reference is None or not others or len({row.pair for row in section.rows}) < 5:
        return ""
    base = {row.pair: row.metrics.get(metric, math.nan) for row in section.only(method=reference).rows}
    series = []
    for method in others:
        rows = [row for row in section.only(method=method).rows if row.pair in base]
        pairs = [(base[row.pair], row.metrics.get(metric, math.nan), row.pair) for row in rows]
        known = [pair for pair in pairs if math.isfinite(pair[0]) and math.isfinite(pair[1])]
        known = known[:: max(1, math.ceil(len(known) / MOST_POINTS))]
        series.append(Series(method, [(x, y) for x, y, _ in known], names=[name for *_, name in known]))
    highest = max([0.05, *(value for one in series for point in one.points for value in point)])
    x, y = linear_axis(f"{worded(metric)}, {reference}", highest), linear_axis(worded(metric), highest)
    title = f"Each pair against {reference}: above the line is better"
    return scatter_chart(title, series, x, y, places, diagonal=True)


def _sweep_charts(section: Section, places: Places) -> list[str]:
    metric = widest(section, "matching_score")
    if metric is None:
        return []
    charts = [turn_chart(section, places)]
    zoomed = zooms(section)
    if len(zoomed) > 1:
        parts = [(factor, section.only(variants=[name])) for name, factor in zoomed.items()]
        series = _curves(section, metric, parts, places)
        x = log_axis("zoom of the second view", list(zoomed.values()), [(v, _factor(v)) for v in zoomed.values()])
        y = _share_axis(worded(metric), series)
        charts.append(line_chart(f"{capital(worded(metric))} as the second view is zoomed", series, x, y, places))
    return charts


def turn_chart(section: Section, places: Places, *, data: str = "") -> str:
    """The score as the second view turns; `data` is added to the title. Nothing where only one turn was measured."""
    metric, turned = widest(section, "matching_score"), turns(section)
    if metric is None or len(turned) < 2:
        return ""
    parts = [(float(degrees), section.only(variants=[name])) for name, degrees in turned.items()]
    series = _curves(section, metric, parts, places)
    last = max(turned.values())
    step = 30 if last <= 180 else 90 if last % 90 == 0 else 60
    x = Axis("turn of the second view, clockwise", 0, last, [(v, f"{v}°") for v in range(0, last + 1, step)])
    title = f"{capital(worded(metric))} as the second view turns{f': {data}' if data else ''}"
    return line_chart(title, series, x, _share_axis(worded(metric), series), places)


def _factor(value: float) -> str:
    return f"1/{1 / value:g}" if value < 1 and (1 / value).is_integer() else f"{value:g}"


def recall_series(section: Section, metric: str, last: float, places: Places) -> list[Series]:
    """Share of pairs whose error lies below x, for x from 0 to `last`; undefined errors are left out."""
    steps = np.linspace(0, last, STEPS)
    series = []
    for method in _ordered(section, places):
        rows = [row for row in section.only(method=method).rows if not math.isnan(row.metrics.get(metric, math.nan))]
        if not rows:
            continue
        points, band = [], []
        for x in steps.tolist():
            below = [Row(row.method, row.pair, row.group, {"below": float(row.metrics[metric] <= x)}) for row in rows]
            part = replace(section, rows=below)
            points.append((x, part.mean("below")))
            interval = mean_interval(part, "below", samples=300)
            if interval is not None:
                band.append((x, *interval))
        series.append(Series(method, points, band))
    return series


def _recall_chart(section: Section, metric: str, last: float, label: str, title: str, places: Places) -> str:
    series = recall_series(section, metric, last, places)
    if not series:
        return ""
    return line_chart(title, series, linear_axis(label, last), linear_axis("share of pairs below", 1.0), places)


def _pose_charts(section: Section, places: Places) -> list[str]:
    last = max(thresholds(section, "pose_auc"), default=20.0)
    known = thresholds(section, "pose_auc")
    title = "Share of pairs whose pose error is below x"
    return [
        _recall_chart(section, "pose_error", last, "pose error (°)", title, places),
        _subset_chart(section, f"pose_auc@{known[0]:g}", places) if known else "",
    ]


def _homography_charts(section: Section, places: Places) -> list[str]:
    last = max(thresholds(section, "corner_auc"), default=5.0)
    title = "Share of pairs whose corner error is below x"
    charts = [_recall_chart(section, "corner_error", last, "corner error (px)", title, places)]
    known = thresholds(section, "mma")
    if len(known) > 1:
        series = _metric_series(section, [(t, f"mma@{t:g}") for t in known], places)
        x = Axis("threshold (px)", known[0], known[-1], [(t, f"{t:g}") for t in known])
        y = linear_axis("mean matching accuracy", 1.0)
        charts.append(line_chart("Mean matching accuracy over its threshold", series, x, y, places))
    metric = main_corner_auc(section)
    if metric is not None:
        charts.append(_subset_chart(section, metric, places))
    return charts


def _structure_charts(section: Section, places: Places) -> list[str]:
    charts = []
    for metric, digits in (("registered_share", 2), ("points", 0), ("track_length", 2), ("reprojection_error", 2)):
        values = {method: section.only(method=method).mean(metric) for method in _ordered(section, places)}
        known = [value for value in values.values() if math.isfinite(value)]
        if known:
            x = linear_axis(worded(metric), max([*known, 1e-9]), count=4)
            bars = {method: (value, None) for method, value in values.items()}
            charts.append(bar_chart(capital(worded(metric).partition(" (")[0]), bars, x, places, digits))
    return charts


def _cost_charts(section: Section, places: Places) -> list[str]:
    charts = []
    for case, rows in cost_cases(section):
        cells = cost_column(rows).cells
        bars = {name: (cells[name].value, cells[name].interval) for name in _ordered(rows, places)}
        ends = [end for value, spread in bars.values() for end in (value, *(spread or ()))]
        known = [end for end in ends if math.isfinite(end)]
        if known:
            x = linear_axis("milliseconds, 10 - 90 % as a line", max(known), count=4)
            title = f"Time for a picture of {case}"
            charts.append(bar_chart(title, bars, x, places, 1 if max(known) < 100 else 0))
    return charts


def value_against_cost(results: Results, places: Places) -> str:
    """The first section's headline number against the time for a picture; nothing where either is missing."""
    cost = next((section for section in results.sections if section.protocol == "cost" and section.rows), None)
    first = next((part for part in results.sections if part.protocol in ("matching", "sweep") and part.rows), None)
    column = None if first is None else headline(first)
    if cost is None or first is None or column is None:
        return ""
    subset = cost.subsets()[0]
    times = cost_column(next(cost_cases(cost))[1]).cells
    series = []
    for method in sorted(times, key=lambda name: places[name]):
        cell = column.cells.get(method)
        if cell is None or not (math.isfinite(cell.value) and times[method].value > 0):
            continue
        x = times[method].value
        series.append(Series(method, [(x, cell.value)], [(x, *cell.interval)] if cell.interval else [], [first.data]))
    if len(series) < 2:
        return ""
    x = log_axis(f"milliseconds a picture of {subset.replace('x', ' x ')}", [one.points[0][0] for one in series])
    y = _share_axis(f"{column.title}", series)
    return scatter_chart(f"Quality against time: {first.data}", series, x, y, places)
