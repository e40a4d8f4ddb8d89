"""Markdown tables from results; nothing is typed by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lfnet.reports.benchmark.columns import Cell
from lfnet.reports.benchmark.metric_words import EXPLAINED, REFERENCE, all_methods, described, title_of, tuning_words
from lfnet.reports.benchmark.section_tables import headline, section_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lfnet.evaluation.intervals import Interval
    from lfnet.evaluation.results import Results, Section
    from lfnet.reports.benchmark.columns import Column, Table

    Mark = Callable[[str, Cell], str]
    """Puts a cell's mark on its text."""

SHOWN_SKIPPED = 10
"""Lines of what was skipped that a report lists for a section; the rest is counted."""

SHOWN_COLUMNS = 14
"""A wider table is not printed: the page has it."""


def tables(results: Results) -> str:
    """Every table of a run as Markdown, with its command and machine.

    Args:
        results: a run.

    Returns:
        Markdown; the best of a column is bold, what is not told apart from it has the sign ≈.
    """
    return _report(results, _markdown_mark, "## ")


def full_report(results: Results) -> str:
    """Every table of a run for a terminal: as `tables`, the best of a column with a star.

    Args:
        results: a run.

    Returns:
        text.
    """
    return _report(results, _plain_mark, "")


def _report(results: Results, mark: Mark, heading: str) -> str:
    parts = [run_line(results), marks_line(mark, REFERENCE in all_methods(results)), *skipped_text(results.skipped)]
    if len(results.sections) > 1:
        parts.append(glance_table(results, mark))
    for section in results.sections:
        parts += section_report(section, results, mark, heading)
    return "\n\n".join(parts)


def glance_table(results: Results, mark: Mark) -> str:
    """The one number that stands for each section, of every method, a section a row."""
    methods = all_methods(results)
    rows = []
    for section in results.sections:
        column = headline(section)
        if column is None:
            continue
        cells = [column.cells.get(method) for method in methods]
        name = f"{title_of(section.protocol)}: {section.data}, {column.title}"
        texts = ("-" if cell is None else mark(cell_text(cell, column, spread=False), cell) for cell in cells)
        rows.append([name, *texts])
    return markdown(["measured", *methods], rows)


def run_line(results: Results) -> str:
    """Command, commit, date and machine of a run, in a sentence or two."""
    known = results.environment
    threads = {known.get("threads_torch"), known.get("threads_opencv")} - {None}
    parts = [
        f"commit {known['commit']}" if known.get("commit") else "",
        known.get("date", ""),
        known.get("processor", ""),
        f"{' and '.join(sorted(map(str, threads)))} thread{'' if threads == {'1'} else 's'}" if threads else "",
    ]
    machine = ", ".join(part for part in parts if part)
    command = f"`{results.command}`: " if results.command else ""
    return f"{command}{machine}." if machine else command.rstrip(": ")


def marks_line(mark: Mark, ratios: bool) -> str:
    """What brackets, factors (where there are any) and marks mean."""
    factor = f", 1.00x = ratio to {REFERENCE}" if ratios else ""
    best = mark("best", Cell(math.nan, mark="best"))
    return (
        f"[95 % interval over resampled groups of pairs]{factor}; {best} of the methods; ≈ not "
        "told apart from the best, the interval of the paired difference includes zero."
    )


def section_report(
    section: Section, results: Results, mark: Mark, heading: str = "## "
) -> list[str]:
    """Title, tables and skipped lines of a section, as paragraphs."""
    parts = [f"{heading}{title_of(section.protocol)}: {section.data}"]
    if section.protocol in EXPLAINED:
        sentences = [EXPLAINED[section.protocol], tuning_words(section), described(section)]
        parts.append(" ".join(sentence for sentence in sentences if sentence))
    for table in section_tables(section):
        parts.append(f"{table.title}:")
        if len(table.columns) <= SHOWN_COLUMNS:
            parts.append(table_text(table, mark))
        else:
            parts.append(f"{len(table.columns) - 1} parts: see the page.")
    if not section.rows:
        parts.append("Nothing could be measured.")
    return [*parts, *skipped_text(section.skipped)]


def table_text(table: Table, mark: Mark) -> str:
    """A table as aligned Markdown, a column for what was tuned last."""
    header = ["method", *(column.title for column in table.columns)]
    rows = [
        [method, *(mark(cell_text(column.cells[method], column), column.cells[method]) for column in table.columns)]
        for method in table.methods
    ]
    if table.chosen:
        header.append("tuned")
        rows = [[*row, table.chosen.get(method, "")] for row, method in zip(rows, table.methods, strict=True)]
    return markdown(header, rows)


def cell_text(cell: Cell, column: Column, *, spread: bool = True) -> str:
    """A number with its interval, ratio and note: `0.467 [0.419, 0.520], 2.11x [1.89, 2.44]`."""
    interval = cell.interval if spread and not column.brief else None
    text = number(cell.value, column.digits) + interval_text(interval, column.digits, before=" ")
    ratio = "" if math.isnan(cell.ratio) else f", {ratio_text(cell)}"
    return f"{text}{ratio} {cell.note}".rstrip()


def ratio_text(cell: Cell) -> str:
    """`2.11x [1.89, 2.44]`."""
    return f"{cell.ratio:.2f}x{interval_text(cell.ratio_interval, 2, before=' ')}"


def interval_text(interval: Interval | None, digits: int, *, before: str = "") -> str:
    """`[0.419, 0.520]`, or nothing."""
    return f"{before}[{number(interval[0], digits)}, {number(interval[1], digits)}]" if interval else ""


def skipped_text(lines: Sequence[str]) -> list[str]:
    """What was skipped, as a paragraph with a list; the first ones, then a count."""
    if not lines:
        return []
    shown = [f"- {line}" for line in lines[:SHOWN_SKIPPED]]
    if len(lines) > SHOWN_SKIPPED:
        shown.append(f"- and {len(lines) - SHOWN_SKIPPED} more: see results.json")
    return ["Skipped:", "\n".join(shown)]


def number(value: float, digits: int = 3) -> str:
    """A value with so many decimals, or a dash where undefined."""
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    table = [list(map(_cell, header)), *([*map(_cell, row)] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    rule = "| " + " | ".join("-" * max(width, 3) for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _markdown_mark(text: str, cell: Cell) -> str:
    if cell.mark == "best":
        first, _, rest = text.partition(" ")
        return f"**{first.rstrip(',')}**{',' * first.endswith(',')}{' ' + rest if rest else ''}"
    return f"{text} ≈" if cell.mark == "tied" else text


def _plain_mark(text: str, cell: Cell) -> str:
    return f"{text} *" if cell.mark == "best" else f"{text} ≈" if cell.mark == "tied" else text
