"""The same pairs for every method: what one fails on is taken from all, and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lfnet.evaluation.data.views import UNTOUCHED, Variant
from lfnet.evaluation.results import Row, Section
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.progress import Say

if TYPE_CHECKING:
    from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method


def measure_alike(
    protocol: str,
    dataset: Dataset,
    pairs: Sequence[EvaluationPair],
    source: FeatureSource,
    progress: Say,
    measure: Callable[[Method, EvaluationPair, Variant], Sequence[tuple[int, dict[str, float]]]],
    *,
    variants: Sequence[Variant] = (UNTOUCHED,),
    settings: Mapping[str, Any],
    chosen: dict[str, dict[str, Any]] | None = None,
    said: Sequence[str] = (),
) -> Section:
    """The section of a protocol: every method on every pair, methods in turn.

    Args:
        protocol: its name.
        dataset: that the pairs are of.
        pairs: what to measure on.
        source: features of the methods.
        progress: called before each pair.
        measure: budgets of a method on a pair under a variant, and its metrics at each. Raises Unmeasured.
        variants: of the second picture.
        settings: of the protocol; those of the data and the rules are added.
        chosen: what was tuned for each method.
        said: what the protocol has to say, a line each.
    """
    rows: list[Row] = []
    causes: dict[tuple[str, str], str] = {}
    for pair in pairs:
        for variant in variants:
            progress(f"{protocol} on {dataset.name}: {pair.name}{f' {variant.name}' if len(variants) > 1 else ''}")
            for method in source.methods:
                try:
                    rows += [
                        Row(method.name, pair.name, pair.group, metrics, pair.subset, variant.name, budget)
                        for budget, metrics in measure(method, pair, variant)
                    ]
                except Unmeasured as error:
                    causes[method.name, pair.name] = str(error)
    rows, left_out = _fair(rows, causes, len(pairs))
    about = {"data": dataset.settings, "rules": asdict(source.rules), **settings}
    skipped = [*dataset.skipped, *said, *left_out]
    return Section(protocol, dataset.name, rows, dataset.unit, about, chosen or {}, skipped)


def _fair(rows: Sequence[Row], causes: Mapping[tuple[str, str], str], pairs: int) -> tuple[list[Row], list[str]]:
    """Rows of the pairs that every method was measured on, and what was left out and why, a line each.

    A method that failed on more than half of the pairs is left out instead of taking the pairs from the others.
    """
    failed: dict[str, set[str]] = {}
    for method, pair in causes:
        failed.setdefault(method, set()).add(pair)
    left_out = {method for method, names in failed.items() if 2 * len(names) > pairs}
    dropped = {name for method, names in failed.items() if method not in left_out for name in names}
    lines = []
    for method in sorted(left_out):
        first = next(cause for (name, _), cause in causes.items() if name == method)
        lines.append(
            f"{method} is left out: it fails on {len(failed[method])} of {pairs} pairs; the first: {first}"
        )
    by_cause: dict[str, set[str]] = {}
    for (method, pair), cause in causes.items():
        if method not in left_out:
            by_cause.setdefault(cause, set()).add(pair)
    for cause, names in by_cause.items():
        count = f"pair {min(names)} is" if len(names) == 1 else f"{len(names)} pairs are"
        lines.append(f"{count} left out for every method: {cause}")
    return [row for row in rows if row.method not in left_out and row.pair not in dropped], lines
