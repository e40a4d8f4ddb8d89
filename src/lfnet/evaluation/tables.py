"""Markdown tables from results; nothing is typed by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lfnet.evaluation.results import bootstrap_interval, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lfnet.evaluation.results import Results

REFERENCE = "rootsift"
"""The method that ratios refer to."""


def score_table(results: Results, metric: str, *, reference: str = REFERENCE) -> str:
    """One metric of every method: upright, over turns, the worst turn, zooms, and ratios to a reference.

    Args:
        results: a run.
        metric: e.g. `matching_score@5`.
        reference: method that ratios refer to; left out if it was not run.

    Returns:
        Markdown.
    """
    turns = [name for name in results.variants() if name.startswith("turn") and "-" not in name]
    others = [name for name in results.variants() if name not in turns]
    compare = reference if reference in results.methods() else None
    header = ["method"] + (["upright"] if "turn000" in turns else [])
    if len(turns) > 1:
        header += [f"mean of {len(turns)} turns", "worst turn"]
    rows = []
    for method in results.methods():
        summary = summarise(results, method, metric)
        base = summarise(results, compare, metric) if compare and method != compare else None
        cells = [method]
        if "turn000" in turns:
            ratio = _ratio(results, method, compare, metric, ["turn000"]) if base else ""
            cells.append(_cell(summary.upright, summary.upright_interval, ratio))
        if len(turns) > 1:
            ratio = _ratio(results, method, compare, metric, turns) if base else ""
            cells.append(_cell(summary.turned, summary.turned_interval, ratio))
            degrees = int(summary.worst_name.removeprefix("turn"))
            share = f", {summary.worst_turn / summary.upright:.2f} of upright" if summary.upright > 0 else ""
            cells.append(f"{number(summary.worst_turn)} at {degrees}°{share}")
        for name in others:
            value = summary.zooms[name]
            times = f", {value / base.zooms[name]:.2f}x" if base and base.zooms[name] > 0 else ""
            cells.append(number(value) + times)
        rows.append(cells)
    return markdown(header + others, rows)


def detail_table(results: Results, thresholds: Sequence[float]) -> str:
    """The other metrics of every method, means over pairs and turns, and its cost.

    Args:
        results: a run.
        thresholds: pixels that were measured, ascending.

    Returns:
        Markdown.
    """
    turns = [name for name in results.variants() if name.startswith("turn") and "-" not in name]
    metrics = [f"matching_score@{t:g}" for t in thresholds] + [f"repeatability@{t:g}" for t in thresholds]
    metrics += [f"precision@{thresholds[-1]:g}", "localisation_error", "orientation_agreement"]
    metrics += ["keypoints", "visible"]
    rows = []
    for method in results.methods():
        cells = [method]
        for metric in metrics:
            known = [value for value in (results.mean(metric, method, name) for name in turns) if value == value]
            mean = sum(known) / len(known) if known else math.nan
            cells.append(f"{mean:.0f}" if metric in ("keypoints", "visible") else number(mean))
        seconds = results.seconds.get(method)
        cells.append(f"{1000 * seconds:.0f}" if seconds else "")
        rows.append(cells)
    return markdown(["method", *(name.replace("_", " ") for name in metrics), "ms a picture"], rows)


def group_table(results: Results, metric: str, variant: str = "turn000") -> str:
    """One metric of every method by scene.

    Args:
        results: a run.
        metric: e.g. `matching_score@5`.
        variant: transformation of the second picture.

    Returns:
        Markdown.
    """
    groups = results.groups()
    rows = []
    for method in results.methods():
        values = [results.mean(metric, method, variant, group) for group in groups]
        rows.append([method, *map(number, values), number(results.mean(metric, method, variant))])
    return markdown(["method", *groups, "all pairs"], rows)


def full_report(results: Results) -> str:
    """Every table of a run, with its settings and machine in words.

    Args:
        results: a run.

    Returns:
        Markdown.
    """
    thresholds = sorted(float(t) for t in results.settings["thresholds"])
    main = f"matching_score@{thresholds[-1]:g}"
    environment = results.environment
    parts = [
        f"Protocol {results.protocol}: {results.settings['pairs']} pairs, "
        f"K = {results.settings['max_keypoints']}; "
        f"commit {environment['commit']}, {environment['date']}, {environment['processor']}, "
        f"{environment['threads_torch']} threads.",
        score_title(results, thresholds[-1]),
        score_table(results, main),
        "Means over turns:",
        detail_table(results, thresholds),
    ]
    if results.protocol == "homographies" and "turn000" in results.variants():
        parts += [f"Matching score at {thresholds[-1]:g} px, upright, by scene:", group_table(results, main)]
    return "\n\n".join(parts)


def score_title(results: Results, threshold: float) -> str:
    """What the table of matching scores shows, over it."""
    units = {"homographies": "scenes", "scene": "first pictures"}.get(results.protocol, "stretches of frames")
    ratios = f"ratio to {REFERENCE}" if REFERENCE in results.methods() else f"no ratios, as {REFERENCE} is not measured"
    return f"Matching score at {threshold:g} px, [95 % interval over resampled {units}], {ratios}:"


def number(value: float) -> str:
    """Three decimals, or a dash where undefined."""
    return f"{value:.3f}" if value == value else "-"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    rule = "| " + " | ".join("-" * max(width, 3) for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cell(value: float, interval: tuple[float, float] | None, ratio: str) -> str:
    spread = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return number(value) + spread + (f", {ratio}" if ratio else "")


def _ratio(results: Results, method: str, reference: str | None, metric: str, variants: Sequence[str]) -> str:
    if reference is None:
        return ""
    own = sum(results.mean(metric, method, name) for name in variants)
    base = sum(results.mean(metric, reference, name) for name in variants)
    if not base > 0:
        return ""
    interval = bootstrap_interval(results, method, metric, variants, reference=reference)
    spread = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    return f"{own / base:.2f}x{spread}"
