"""What became better or worse from one run to another, pair by pair and beyond the 95 % interval."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from lfnet.errors import UserError
from lfnet.evaluation.intervals import Interval, difference_interval
from lfnet.evaluation.results import UNTOUCHED_NAME, Results, Row, Section
from lfnet.reports.benchmark.columns import matched_rows
from lfnet.reports.benchmark.metric_words import at_budget, at_thresholds, shown, turns, widest, worded, zooms
from lfnet.reports.benchmark.tables import number

Verdict = Literal["better", "worse", "within", "no interval"]
"""`within` the interval: not told apart. `no interval`: a single group of pairs, nothing to resample."""

CHANGES_SHOWN = 3
"""Settings that a refusal names."""


@dataclass(frozen=True)
class Change:
    """One metric of one method, before and after, over the pairs that both runs have."""

    section: str
    """Protocol and data."""
    method: str
    """Its name; `old -> new` where it was renamed."""
    what: str
    """The metric in words, and over which rows: `score at 5 px, K = 512`."""
    metric: str
    before: float
    after: float
    interval: Interval | None
    """95 %, of the mean difference after - before, pair by pair."""
    verdict: Verdict
    rows: int
    """How many were compared."""

    @property
    def difference(self) -> float:
        """after - before."""
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """Two runs held against each other."""

    changes: list[Change] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Sections that were measured differently, a line each."""
    unmatched: list[str] = field(default_factory=list)
    """What only one of the two has, a line each."""

    def of(self, verdict: Verdict) -> list[Change]:
        """The changes of a verdict."""
        return [change for change in self.changes if change.verdict == verdict]


def compare(before: Results, after: Results, *, rename: Mapping[str, str] | None = None) -> Comparison:
    """Hold a run against an earlier one.

    Args:
        before: the earlier run.
        after: the later run.
        rename: methods that have another name in `after`, by their name in `before`.

    Returns:
        changes of the headline metrics of every section and method that both have.

    Raises:
        ValueError: nothing can be compared: no section in common, or all were measured differently.
    """
    names = dict(rename or {})
    comparison = Comparison()
    _check_names(names, before, after)
    later = {section.title: section for section in after.sections}
    for section in before.sections:
        other = later.pop(section.title, None)
        if other is None:
            comparison.unmatched.append(f"{section.title}: only in the first")
            continue
        differing = differing_settings(section, other)
        if differing:
            comparison.refused.append(f"{section.title}: measured differently: {'; '.join(differing)}")
            continue
        _compare_sections(section, other, names, comparison)
    comparison.unmatched.extend(f"{title}: only in the second" for title in later)
    if not comparison.changes:
        reasons = [*comparison.refused, *comparison.unmatched] or ["the runs have no sections"]
        raise UserError(f"nothing can be compared: {reasons[0]}")
    return comparison


def _check_names(names: Mapping[str, str], before: Results, after: Results) -> None:
    sides = ((names.keys(), before, "first"), (names.values(), after, "second"))
    for wanted, results, side in sides:
        known = {method for section in results.sections for method in section.methods()}
        for name in wanted:
            if name not in known:
                raise UserError(f"rename: the {side} run has no method {name!r}, it has {', '.join(sorted(known))}")


def differing_settings(before: Section, after: Section) -> list[str]:
    """Settings that two sections of one title don't share, as `size: 480 and 640`; the first few."""
    old, new = _plain(before.settings), _plain(after.settings)
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    lines = [f"{key} is {old.get(key, 'unset')} in the first, {new.get(key, 'unset')} in the second" for key in keys]
    return lines if len(lines) <= CHANGES_SHOWN else [*lines[:CHANGES_SHOWN], f"{len(lines) - CHANGES_SHOWN} more"]


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As a file has them, where tuples have become lists."""
    return json.loads(json.dumps(dict(settings)))


def _compare_sections(before: Section, after: Section, names: Mapping[str, str], comparison: Comparison) -> None:
    new_methods = after.methods()
    matched = set()
    for method in before.methods():
        new_name = names.get(method, method)
        if new_name not in new_methods:
            comparison.unmatched.append(f"{before.title}: {method}: only in the first")
            continue
        matched.add(new_name)
        label = method if method == new_name else f"{method} -> {new_name}"
        old, new = before.only(method=method), after.only(method=new_name)
        old_rows, new_rows = matched_rows(old.rows, new.rows)
        lonely = len(old.rows) - len(old_rows), len(new.rows) - len(old_rows)
        if any(lonely):
            line = f"{before.title}: {label}: {lonely[0]} rows only in the first, {lonely[1]} only in the second"
            comparison.unmatched.append(line)
        comparison.changes.extend(_changes(replace(old, rows=old_rows), replace(new, rows=new_rows), label))
    lonely_methods = [method for method in new_methods if method not in matched]
    comparison.unmatched.extend(f"{before.title}: {method}: only in the second" for method in lonely_methods)


def _changes(before: Section, after: Section, label: str) -> Iterator[Change]:
    """Every headline metric over its rows; `after` has the rows of `before` in the same order."""
    partner = {id(old): new for old, new in zip(before.rows, after.rows, strict=True)}
    for what, metric, rows in headlines(before):
        both = [(row, partner[id(row)]) for row in rows if _defined(row, metric) and _defined(partner[id(row)], metric)]
        if not both:
            continue
        old, new = [row for row, _ in both], [row for _, row in both]
        means = [float(np.mean([row.metrics[metric] for row in side])) for side in (old, new)]
        interval = difference_interval(old, new, metric)
        if before.protocol == "cost":
            verdict = _cost_verdict(old, new, metric)
        else:
            verdict = verdict_of(means[1] - means[0], interval, metric)
        yield Change(before.title, label, what, metric, means[0], means[1], interval, verdict, len(both))


def _defined(row: Row, metric: str) -> bool:
    return math.isfinite(row.metrics.get(metric, math.nan))


def headlines(section: Section) -> Iterator[tuple[str, str, list[Row]]]:
    """Each metric that is compared, in words, by name, and its rows.

    Args:
        section: one protocol on one data set, of one method.

    Yields:
        words, name, rows.
    """
    if section.protocol == "matching":
        yield from _matching_headlines(section.only(variants=[UNTOUCHED_NAME]))
    elif section.protocol == "sweep":
        yield from _sweep_headlines(section)
    elif section.protocol == "cost":
        for subset in section.subsets():
            rows = section.only(subset=subset).rows
            for metric in ("milliseconds", "memory", "model_size"):
                yield f"{worded(metric)}, {subset}", metric, rows
    else:
        names = {
            "pose": at_thresholds(section, "pose_auc"),
            "homography": [*at_thresholds(section, "corner_auc"), "mma@1", "mma@3", "mma@5"],
            "structure": ["registered_share", "points", "track_length", "reprojection_error"],
        }.get(section.protocol, section.metrics())
        for metric in names:
            if metric in section.metrics():
                yield worded(metric), metric, section.rows


def _matching_headlines(section: Section) -> Iterator[tuple[str, str, list[Row]]]:
    for budget in section.budgets():
        part = section.only(budget=budget)
        metrics = [*at_thresholds(part, "matching_score"), widest(part, "repeatability"), widest(part, "precision")]
        for metric in [*metrics, "localisation_error", "match_error_median"]:
            if metric in part.metrics():
                yield f"{worded(metric)}{at_budget(budget)}", metric, part.rows


def _sweep_headlines(section: Section) -> Iterator[tuple[str, str, list[Row]]]:
    metric = widest(section, "matching_score")
    if metric is None:
        return
    turned = turns(section)
    yield f"{worded(metric)}, mean of {len(turned)} turns", metric, section.only(variants=turned).rows
    for name, factor in zooms(section).items():
        if name != UNTOUCHED_NAME:
            yield f"{worded(metric)}, zoom {factor:g}", metric, section.only(variants=[name]).rows


def verdict_of(difference: float, interval: Interval | None, metric: str) -> Verdict:
    """Whether a difference is for the better, and beyond its interval.

    Args:
        difference: after - before.
        interval: of it; None = no groups to resample.
        metric: decides which sign is better.

    Returns:
        the verdict; metrics of which neither direction is better are `within`.
    """
    if interval is None:
        return "within" if difference == 0 else "no interval"
    if interval[0] <= 0 <= interval[1] or shown(metric).better == "neither":
        return "within"
    return "better" if (difference > 0) == (shown(metric).better == "higher") else "worse"


def _cost_verdict(before: list[Row], after: list[Row], metric: str) -> Verdict:
    """Times differ where their 10 - 90 % ranges don't overlap; sizes where they differ at all."""
    old, new = (float(np.mean([row.metrics[metric] for row in side])) for side in (before, after))
    if metric == "memory":
        return "no interval" if old != new else "within"
    if metric == "milliseconds":
        low, high = _spread(before)
        new_low, new_high = _spread(after)
        if math.isnan(low + high + new_low + new_high):
            return "no interval"
        if new_low <= high and low <= new_high:
            return "within"
    return "within" if old == new else "better" if new < old else "worse"


def _spread(rows: list[Row]) -> Interval:
    """Mean 10th and 90th percentile of the time."""
    names = ("milliseconds_low", "milliseconds_high")
    low, high = (float(np.mean([row.metrics.get(name, math.nan) for row in rows])) for name in names)
    return low, high


def comparison_text(comparison: Comparison) -> str:
    """A comparison in lines: what became better, what worse, what stayed, what can't be told.

    Args:
        comparison: from `compare`.

    Returns:
        text.
    """
    parts = []
    titles: dict[Verdict, str] = {
        "better": "Better",
        "worse": "Worse",
        "within": "Within the interval",
        "no interval": "Single values, no interval to judge by",
    }
    for verdict, title in titles.items():
        found = comparison.of(verdict)
        if found or verdict in ("better", "worse"):
            lines = [change_line(change) for change in found] or ["  nothing"]
            parts.append("\n".join([f"{title} ({len(found)}):", *lines]))
    for title, lines in (("Not compared", comparison.refused), ("In one run only", comparison.unmatched)):
        if lines:
            parts.append("\n".join([f"{title}:", *(f"  {line}" for line in lines)]))
    judged = sum(change.interval is not None for change in comparison.changes)
    if judged:
        parts.append(f"Of {judged} comparisons with an interval about {judged / 20:.0f} would lie beyond it by chance.")
    return "\n\n".join(parts)


def change_line(change: Change) -> str:
    """`  matching on walk: lfnet-cpu: score at 5 px, K = 512: 0.414 -> 0.467, +0.053 [+0.041, +0.066] over 60 rows`."""
    digits = 3 if max(abs(change.before), abs(change.after)) < 100 else 1
    spread = ""
    if change.interval is not None:
        spread = f" [{change.interval[0]:+.{digits}f}, {change.interval[1]:+.{digits}f}]"
    return (
        f"  {change.section}: {change.method}: {change.what}: {number(change.before, digits)} -> "
        f"{number(change.after, digits)}, {change.difference:+.{digits}f}{spread} over {change.rows} "
        f"row{'s' * (change.rows != 1)}"
    )
