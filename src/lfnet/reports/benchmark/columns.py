"""Columns of a table: one metric of every method, with its interval, its ratio and a mark for the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lfnet.evaluation.intervals import Interval, difference_interval, mean_interval, ratio_interval
from lfnet.evaluation.results import Row, Section
from lfnet.reports.benchmark.metric_words import Direction, shown

Mark = Literal["", "best", "tied"]
"""Of a cell in its column: the best, or not told apart from the best."""


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

    @property
    def says_something(self) -> bool:
        """Whether any method has a value."""
        return any(not math.isnan(cell.value) for cell in self.cells.values())

    @property
    def best(self) -> str | None:
        """The method with the best value; None where all are equal, or no direction is better."""
        known = {method: cell.value for method, cell in self.cells.items() if math.isfinite(cell.value)}
        if self.better == "neither" or len(set(known.values())) < 2:
            return None
        return (min if self.better == "lower" else max)(known, key=lambda method: known[method])

    def marked(self, tied: Sequence[str] = ()) -> Column:
        """The column with its best value marked, and those of `tied`; methods that share the best value are best."""
        if self.best is None:
            return self
        top = self.cells[self.best].value
        marks: dict[str, Mark] = {
            method: "best" if cell.value == top else "tied" if method in tied else ""
            for method, cell in self.cells.items()
        }
        return replace(self, cells={name: replace(cell, mark=marks[name]) for name, cell in self.cells.items()})


@dataclass(frozen=True)
class Table:
    """Columns under a title."""

    title: str
    methods: list[str]
    columns: list[Column]
    chosen: dict[str, str] = field(default_factory=dict)
    """What was tuned for each method, in words."""


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
    base = math.nan if reference is None else own[reference].mean(metric)
    cells = {}
    for method, rows in own.items():
        cells[method] = Cell(rows.mean(metric), mean_interval(rows, metric))
        if reference is not None and method != reference and 0 < base < math.inf:
            spread = ratio_interval(rows, own[reference], metric)
            cells[method] = replace(cells[method], ratio=cells[method].value / base, ratio_interval=spread)
    column = Column(title, metric, shown(metric).better, shown(metric).digits, cells, brief)
    best = column.best
    if best is None:
        return column
    return column.marked([name for name in own if name != best and _not_told_apart(own[best], own[name], metric)])


def cost_column(section: Section) -> Column:
    """Milliseconds of a picture with the 10th to 90th percentile over rounds; overlapping ones are tied."""
    cells = {}
    for method in section.methods():
        rows = section.only(method=method)
        low, high = rows.mean("milliseconds_low"), rows.mean("milliseconds_high")
        cells[method] = Cell(rows.mean("milliseconds"), None if math.isnan(low + high) else (low, high))
    column = Column(shown("milliseconds").word, "milliseconds", "lower", 1, cells)
    spread = cells[column.best].interval if column.best else None
    return column.marked(
        [name for name, cell in cells.items() if spread and cell.interval and cell.interval[0] <= spread[1]]
    )


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
