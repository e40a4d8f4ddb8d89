"""The same pairs for every method: what one fails on is taken from all, and said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lfnet.evaluation.data.pairs import EvaluationPair
from lfnet.evaluation.results import Row
from lfnet.evaluation.unmeasured import Unmeasured

Measured = TypeVar("Measured")


@dataclass
class Failures:
    """What could not be measured, by method and pair."""

    causes: dict[tuple[str, str], str] = field(default_factory=dict)
    """One line for each method and pair (or pair under a variant)."""

    def attempt(self, method: str, pair: str, measure: Callable[[], Measured]) -> Measured | None:
        """What `measure` gives, or None, and the cause is kept, where it can't."""
        try:
            return measure()
        except Unmeasured as error:
            self.causes[method, pair] = str(error)
            return None


def fair_rows(rows: Sequence[Row], failures: Failures, pairs: Sequence[EvaluationPair]) -> tuple[list[Row], list[str]]:
    """Rows of the pairs that every method was measured on.

    A method that failed on more than half of the pairs is left out instead of taking the pairs from the others.

    Args:
        rows: of every method; several of a pair (variants, budgets) count as one.
        failures: what went wrong.
        pairs: all that were to be measured.

    Returns:
        the rows that are left, and what was left out and why, a line each.
    """
    failed: dict[str, set[str]] = {}
    for method, pair in failures.causes:
        failed.setdefault(method, set()).add(pair)
    left_out = {method for method, names in failed.items() if 2 * len(names) > len(pairs)}
    dropped = {name for method, names in failed.items() if method not in left_out for name in names}
    lines = []
    for method in sorted(left_out):
        first = next(cause for (name, _), cause in failures.causes.items() if name == method)
        share = f"{len(failed[method])} of {len(pairs)} pairs"
        lines.append(f"{method} is left out: it fails on {share}; the first: {first}")
    causes: dict[str, set[str]] = {}
    for (method, pair), cause in failures.causes.items():
        if method not in left_out:
            causes.setdefault(cause, set()).add(pair)
    for cause, names in causes.items():
        count = f"pair {min(names)} is" if len(names) == 1 else f"{len(names)} pairs are"
        lines.append(f"{count} left out for every method: {cause}")
    kept = [row for row in rows if row.method not in left_out and row.pair not in dropped]
    return kept, lines
