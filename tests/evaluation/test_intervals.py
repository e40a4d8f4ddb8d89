"""Intervals of resampled groups."""

from __future__ import annotations

import pytest

from lfnet.evaluation.intervals import difference_interval, mean_interval, ratio_interval
from support.made_results import METRIC, example, upright


def test_interval_resamples_groups_not_pairs() -> None:
    assert mean_interval(upright(example(), "rootsift"), METRIC) == (pytest.approx(0.1), pytest.approx(0.3))
    ratio = ratio_interval(upright(example(), "ours"), upright(example(), "rootsift"), METRIC)
    assert ratio == (pytest.approx(2.0), pytest.approx(2.0))
    old, new = upright(example(), "rootsift").rows, upright(example(), "ours").rows
    assert difference_interval(old, new, METRIC) == (pytest.approx(0.1), pytest.approx(0.3))


def test_one_group_has_no_interval() -> None:
    single = upright(example(), "ours").only(group="A")
    assert mean_interval(single, METRIC) is None
