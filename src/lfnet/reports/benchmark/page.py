"""One self-contained page of a benchmark: tables that sort, charts, drawn pairs, what was skipped and how measured."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from PIL import Image

from lfnet.evaluation.methods.opencv_extractors import OPENCV_METHODS
from lfnet.reports.benchmark.charts import ForestRow, classes, forest_chart, key, legend
from lfnet.reports.benchmark.columns import Cell, Column, Table
from lfnet.reports.benchmark.examples import RANKS
from lfnet.reports.benchmark.metric_words import EXPLAINED, REFERENCE, all_methods, described, title_of, tuning_words
from lfnet.reports.benchmark.plots import section_charts, turn_chart, value_against_cost
from lfnet.reports.benchmark.section_tables import headline, section_tables
from lfnet.reports.benchmark.tables import interval_text, number, ratio_text, run_line
from lfnet.reports.drawing import jpeg

if TYPE_CHECKING:
    from lfnet.evaluation.results import Results, Section
    from lfnet.reports.benchmark.charts import Places
    from lfnet.reports.benchmark.examples import Example

PICTURE_BYTES = 3_400_000
"""Of all drawings together, so that a page stays below 5 MB with its Base64, tables and charts."""

SMALLER = ((1000, 80), (800, 72), (640, 66), (520, 60))
"""Width and JPEG quality that drawings are reduced to, one after the other, until they fit."""

LINES_SHOWN = 30
"""Of what was skipped, for a section."""


def benchmark_page(results: Results, examples: Sequence[Example] = ()) -> str:
    """The page; nothing in it comes from elsewhere.

    Args:
        results: a run.
        examples: drawn pairs, from `benchmark_examples.read_examples`.

    Returns:
        HTML.

    Raises:
        OSError: a drawing can't be read.
    """
    places = method_places(results)
    data = list(dict.fromkeys(section.data for section in results.sections if section.protocol != "cost"))
    pictures = embedded(examples)
    sections = [
        _section(index, section, results, places, [pair for pair in pictures if pair[0].section == section.title])
        for index, section in enumerate(results.sections)
    ]
    contents = "".join(
        f'<li><a href="#part{index}">{escape(title_of(section.protocol))}: {escape(section.data)}</a></li>'
        for index, section in enumerate(results.sections)
    )
    left_out = len(examples) - len(pictures)
    note = f"<p>{left_out} drawings are left out, to keep the page small: see pictures/.</p>" if left_out else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Local features, measured: {escape(", ".join(data) or "benchmark")}</title>
<link rel="icon" href="data:,">
<style>
{packed("page.css")}</style>
</head>
<body>
<main>
<header>
<h1>Local features, measured</h1>
<p>{_lede(results, data)}</p>
<p class="note">{_meta(results)}</p>
</header>
<nav class="methods" aria-label="Methods">{legend(list(places), places, buttons=True)}</nav>
<ul class="contents">{contents}</ul>
{_skipped("Data that could not be used", results.skipped)}
{_glance(results, places)}
{"".join(sections)}
<section id="run">
<h2>How it was measured</h2>
<p>Bars, bands and brackets are 95 % intervals of the mean over resampled groups of pairs (scenes, stretches of
frames), since neighbouring pairs are not independent; times have the 10th and 90th percentile over rounds. A single
group has no interval. Factors (1.00x) are ratios to {REFERENCE}. A shaded cell is the best of the methods; ≈ marks what
is not told apart from it: the interval of the paired difference includes zero.</p>
{note}
{_details("Machine and versions", results.environment)}
{_details("Methods", results.methods)}
</section>
</main>
<script>
{packed("page.js")}</script>
</body>
</html>
"""


def method_places(results: Results) -> dict[str, int]:
    """Place of each method in the order of colours: OpenCV's come after the others."""
    methods = all_methods(results)
    ordered = [name for name in methods if name not in OPENCV_METHODS] + [m for m in methods if m in OPENCV_METHODS]
    return {name: index for index, name in enumerate(ordered)}


def embedded(examples: Iterable[Example], most: int = PICTURE_BYTES) -> list[tuple[Example, bytes]]:
    """Drawings as JPEG, smaller where they would not fit together; the last are left out if nothing else helps.

    Args:
        examples: drawings.
        most: bytes of all together.

    Returns:
        drawings with their files.
    """
    found = [(example, example.picture.read_bytes()) for example in examples]
    for width, quality in SMALLER[1:]:
        if sum(len(content) for _, content in found) <= most:
            return found
        found = [(example, _reduced(content, width, quality)) for example, content in found]
    kept, total = [], 0
    for example, content in found:
        total += len(content)
        if total <= most:
            kept.append((example, content))
    return kept


def _reduced(content: bytes, width: int, quality: int) -> bytes:
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
    if picture.width > width:
        size = (width, max(1, round(picture.height * width / picture.width)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return min(content, jpeg(picture, quality), key=len)


def packed(name: str) -> str:
    """A file that comes with the page: its style or its script."""
    return files("lfnet.reports.benchmark").joinpath(name).read_text(encoding="utf-8")


def _lede(results: Results, data: Sequence[str]) -> str:
    count = len(all_methods(results))
    on = f" on {escape(_enumerated(data))}" if data else ""
    matched = [section for section in results.sections if section.protocol == "matching"]
    pairs = sum(len({row.pair for row in section.rows}) for section in matched)
    known = f", {pairs:,} pairs of pictures with known geometry" if pairs else ""
    return (
        f"{count} method{'s' * (count != 1)}{on}{known}. Every method gets the same pictures at the same size with the "
        "same budget of keypoints, in the same run."
    )


def _enumerated(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _meta(results: Results) -> str:
    line = run_line(results)
    command, tick, rest = line.removeprefix("`").partition("`: ")
    return f"<code>{escape(command)}</code><br>{escape(rest)}" if tick and line.startswith("`") else escape(line)


def _glance(results: Results, places: Places) -> str:
    """The headline numbers of all sections, drawn and as a table."""
    rows = []
    for section in results.sections:
        column = headline(section) if section.protocol != "cost" else None
        if column is not None:
            rows.append((f"{title_of(section.protocol)}: {section.data}", column))
    if not rows:
        return ""
    ordered = sorted(places, key=lambda name: places[name])
    drawn = []
    for name, column in rows:
        cells = {method: column.cells[method] for method in ordered if method in column.cells}
        values = {method: (cell.value, cell.interval) for method, cell in cells.items()}
        drawn.append(ForestRow(name, column.title, values))
    header = _header("measured", "text") + "".join(_header(method, "higher") for method in ordered)
    body = "".join(_glance_row(name, column, ordered) for name, column in rows)
    forest = forest_chart("Headline numbers, higher is better", drawn, places, "score, area or share, in [0, 1]")
    sweep = next((section for section in results.sections if section.protocol == "sweep" and section.rows), None)
    turning = turn_chart(sweep, places, data=sweep.data) if sweep else ""
    charts = value_against_cost(results, places) + turning
    return (
        f'<section id="glance"><h2>At a glance</h2><div class="charts">{forest}</div>'
        + (f'<div class="charts">{charts}</div>' if charts else "")
        + f'<h3>In numbers</h3><div class="card"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'
        "</div></section>"
    )


def _glance_row(name: str, column: Column, methods: Sequence[str]) -> str:
    cells = "".join(_cell(column.cells.get(method, Cell(math.nan)), column, None) for method in methods)
    label = f'{escape(name)}<span class="spread">{escape(column.title)}</span>'
    return f'<tr><th scope="row" data-value="{escape(name)}">{label}</th>{cells}</tr>'


def _section(
    index: int, section: Section, results: Results, places: Places, pictures: Sequence[tuple[Example, bytes]]
) -> str:
    tables = "".join(_table(table, places) for table in section_tables(section))
    charts = "".join(section_charts(section, places))
    explained = f"<p>{escape(EXPLAINED[section.protocol])}</p>" if section.protocol in EXPLAINED else ""
    said = f"{described(section)} {tuning_words(section)}" if section.rows else "Nothing could be measured."
    settings = {**section.settings, **{f"tuned, {method}": values for method, values in section.chosen.items()}}
    title = f"{escape(title_of(section.protocol))} <small>{escape(section.data)}</small>"
    return (
        f'<section id="part{index}"><h2>{title}</h2>{explained}'
        f'<p class="note">{escape(said)}</p>{tables}'
        + (f'<div class="charts">{charts}</div>' if charts else "")
        + _examples(sorted(pictures, key=lambda pair: places.get(pair[0].method, len(places))))
        + _skipped("Skipped", section.skipped)
        + (_details("Settings", settings) if settings else "")
        + "</section>\n"
    )


def _table(table: Table, places: Places) -> str:
    header = _header("method", "text") + "".join(_header(column.title, column.better) for column in table.columns)
    header += _header("tuned", "text") if table.chosen else ""
    rows = []
    for method in table.methods:
        cells = "".join(_cell(column.cells[method], column, _reach(column)) for column in table.columns)
        if table.chosen:
            words = escape(table.chosen.get(method, ""))
            cells += f'<td class="text" data-value="{words}">{words}</td>'
        thick = key(method, places, '<line class="line" style="stroke-width:5" x1="0" y1="6" x2="22" y2="6"/>')
        name = f'<th scope="row" data-value="{escape(method)}">{thick}{escape(method)}</th>'
        rows.append(f'<tr class="{classes(method, places)}">{name}{cells}</tr>')
    return (
        f'<h3>{escape(table.title)}</h3><div class="card"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _header(text: str, better: str) -> str:
    kind = "text" if better == "text" else "number"
    first = "descending" if better in ("higher", "neither") else "ascending"
    unbroken = escape(text).replace(" px", "&nbsp;px").replace("K = ", "K&nbsp;=&nbsp;")
    return f'<th scope="col" data-kind="{kind}" data-first="{first}"><button type="button">{unbroken}</button></th>'


def _cell(cell: Cell, column: Column, reach: float | None) -> str:
    """A number, marked, with its interval in words and drawn."""
    value = "" if math.isnan(cell.value) else "Infinity" if math.isinf(cell.value) else f"{cell.value:.6g}"
    best = ' class="best"' if cell.mark == "best" else ""
    tie = '<span class="tie" title="not told apart from the best">≈</span>' if cell.mark == "tied" else ""
    inside = f'<span class="value">{number(cell.value, column.digits)}</span>{tie}'
    spread = interval_text(cell.interval, column.digits) if column.better != "neither" else ""
    hint = f' title="{spread}"' if spread and column.brief else ""
    if spread and not column.brief:
        inside += f'<span class="spread">{spread}</span>'
    if not math.isnan(cell.ratio):
        inside += f'<span class="ratio">{ratio_text(cell)}</span>'
    if cell.note:
        inside += f'<span class="spread">{escape(cell.note)}</span>'
    if spread and reach and math.isfinite(cell.value):
        inside += _strip(cell, reach)
    return f'<td{best} data-value="{value}"{hint}>{inside}</td>'


def _reach(column: Column) -> float:
    """End of the scale that a column's intervals are drawn on."""
    ends = [end for cell in column.cells.values() for end in (cell.value, *(cell.interval or ())) if math.isfinite(end)]
    return max(ends, default=0.0)


def _strip(cell: Cell, reach: float) -> str:
    """Value and interval between 0 and the largest of the column."""
    low, high = cell.interval or (cell.value, cell.value)
    a, b, at = (100 * max(edge, 0) / reach for edge in (low, high, cell.value))
    return (
        '<svg class="strip" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<line class="ground" x1="0" y1="4" x2="100" y2="4"/>'
        f'<line class="reach" x1="{a:.1f}" y1="4" x2="{b:.1f}" y2="4"/>'
        f'<line class="spot" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="8"/></svg>'
    )


def _examples(pictures: Sequence[tuple[Example, bytes]]) -> str:
    if not pictures:
        return ""
    first = pictures[0][0]
    parts = [
        f"<h3>Pairs, best to worst for {escape(first.chosen_by)}, K = {first.budget}</h3>"
        '<p class="note"><span class="dot right"></span> mutual match at the true place, within 5 px; '
        '<span class="dot wrong"></span> elsewhere. Matches whose true place is hidden or unknown are left out.</p>'
    ]
    found = dict.fromkeys((example.rank, example.pair) for example, _ in pictures)
    groups = sorted(found, key=lambda group: RANKS.index(group[0]))
    for rank, pair in groups:
        shown = [item for item in pictures if (item[0].rank, item[0].pair) == (rank, pair)]
        figures = "".join(_example(example, content) for example, content in shown)
        kind = "examples three" if len(shown) % 3 == 0 else "examples"
        parts.append(f'<h3>{rank.capitalize()}: {escape(pair)}</h3><div class="{kind}">{figures}</div>')
    return "".join(parts)


def _example(example: Example, content: bytes) -> str:
    source = base64.b64encode(content).decode("ascii")
    text = escape(example.caption)
    alternative = escape(f"Matches on {example.pair}, {example.caption}")
    return (
        f'<figure><img alt="{alternative}" width="{example.width}" height="{example.height}" loading="lazy" '
        f'src="data:image/jpeg;base64,{source}"><figcaption>{text}</figcaption></figure>'
    )


def _skipped(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[:LINES_SHOWN])
    if len(lines) > LINES_SHOWN:
        items += f"<li>and {len(lines) - LINES_SHOWN} more: see results.json</li>"
    return f'<div class="skipped"><strong>{escape(title)}</strong> ({len(lines)})<ul>{items}</ul></div>'


def _details(title: str, values: Mapping[str, Any]) -> str:
    items = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(_said(value))}</dd>" for name, value in values.items())
    return f"<details><summary>{escape(title)}</summary><dl>{items}</dl></details>"


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
