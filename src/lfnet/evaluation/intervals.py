"""How sure a mean is: 95 % intervals by resampling scenes or stretches of frames, as neighbours are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lfnet.evaluation.results import Row, Section

SAMPLES = 1000
"""Resamplings: the ends of an interval then move by a few per cent of its length from seed to seed."""

Interval = tuple[float, float]


def mean_interval(section: Section, metric: str, *, samples: int = SAMPLES, seed: int = 0) -> Interval | None:
    """95 % interval of the mean of a metric over all rows of a section (of one method, `Section.only`).

    Args:
        section: rows; its groups are resampled with replacement.
        metric: e.g. `matching_score@5`.
        samples: number of resamplings.
        seed: of the generator.

    Returns:
        lower and upper end, or None if fewer than two groups have a defined value.
    """
    totals = _totals(section.rows, metric, section.groups())
    return _interval(_resampled(totals, samples, seed))


def ratio_interval(
    section: Section, reference: Section, metric: str, *, samples: int = SAMPLES, seed: int = 0
) -> Interval | None:
    """95 % interval of the ratio of two methods' means, both resampled alike.

    Args:
        section: rows of one method.
        reference: rows of the method to divide by, on the same pairs.
        metric: e.g. `matching_score@5`.
        samples: number of resamplings.
        seed: of the generator.

    Returns:
        lower and upper end, or None if fewer than two groups have a defined value, or the reference may have none.
    """
    groups = list(dict.fromkeys([*section.groups(), *reference.groups()]))
    above = _resampled(_totals(section.rows, metric, groups), samples, seed)
    below = _resampled(_totals(reference.rows, metric, groups), samples, seed)
    if above is None or below is None:
        return None
    if not (below > 0).all():
        return None  # A ratio to nothing: leaving such samples out would make the others look sure.
    return _interval(above / below)


def difference_interval(
    before: Sequence[Row], after: Sequence[Row], metric: str, *, samples: int = SAMPLES, seed: int = 0
) -> Interval | None:
    """95 % interval of the mean difference of a metric, pair by pair.

    Args:
        before: rows.
        after: rows of the same pairs in the same order.
        metric: e.g. `matching_score@5`.
        samples: number of resamplings.
        seed: of the generator.

    Returns:
        lower and upper end of after - before, or None if fewer than two groups have a defined difference.
    """
    differences = [
        Row(old.method, old.pair, old.group, {metric: _value(new, metric) - _value(old, metric)})
        for old, new in zip(before, after, strict=True)
    ]
    groups = list(dict.fromkeys(row.group for row in differences))
    return _interval(_resampled(_totals(differences, metric, groups), samples, seed))


def _value(row: Row, metric: str) -> float:
    return row.metrics.get(metric, math.nan)


def _totals(rows: Sequence[Row], metric: str, groups: Sequence[str]) -> NDArray[np.float64]:
    """Sum and number of defined values of each group, 2 x G."""
    place = {group: index for index, group in enumerate(groups)}
    totals = np.zeros((2, len(groups)))
    for row in rows:
        value = _value(row, metric)
        if math.isfinite(value):
            totals[:, place[row.group]] += value, 1
    return totals


def _resampled(totals: NDArray[np.float64], samples: int, seed: int) -> NDArray[np.float64] | None:
    """Means of resampled groups; None with fewer than two groups to resample."""
    count = totals.shape[1]
    if (totals[1] > 0).sum() < 2:
        return None
    chosen = np.random.default_rng(seed).integers(0, count, (samples, count))
    with np.errstate(divide="ignore", invalid="ignore"):
        return totals[0][chosen].sum(axis=1) / totals[1][chosen].sum(axis=1)


def _interval(means: NDArray[np.float64] | None) -> Interval | None:
    if means is None:
        return None
    known = means[np.isfinite(means)]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
