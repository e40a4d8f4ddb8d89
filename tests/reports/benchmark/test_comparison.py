"""Two runs compared."""

from __future__ import annotations

import dataclasses

import pytest

from lfnet.evaluation.results import Results, Row, Section
from lfnet.reports.benchmark.comparison import compare, comparison_text, verdict_of
from support.made_results import METRIC, example, made_results


def test_a_run_against_itself_stays() -> None:
    comparison = compare(made_results(), made_results())
    assert {change.verdict for change in comparison.changes} == {"within"}
    assert not comparison.unmatched
    assert not comparison.refused


def test_a_run_from_before_a_metric_is_compared_by_the_others() -> None:
    new, old = made_results(), made_results()
    for section in old.sections:
        for row in section.rows:
            for name in [name for name in row.metrics if name.startswith("match_")]:
                del row.metrics[name]
    for before, after in ((old, new), (new, old)):
        compared = {change.metric for change in compare(before, after).changes}
        assert "localisation_error" in compared
        assert "match_error_median" not in compared
    assert "match_error_median" in {change.metric for change in compare(new, new).changes}


def test_what_became_better_and_worse_is_told() -> None:
    comparison = compare(example(2.0), example(3.0))
    assert {(change.method, change.verdict) for change in comparison.changes} == {
        ("rootsift", "within"), ("ours", "better")}  # fmt: skip
    change = comparison.of("better")[0]
    assert (change.before, change.after, change.rows) == (pytest.approx(0.3), pytest.approx(0.45), 8)
    assert change.difference == pytest.approx(0.15)
    text = comparison_text(comparison)
    assert "sweep on walk: ours: score at 5 px, mean of 2 turns: 0.300 -> 0.450, +0.150 [+0.075, +0.225]" in text
    assert comparison_text(compare(example(3.0), example(2.0))).count("Worse (2):") == 1


@pytest.mark.parametrize(
    ("difference", "interval", "metric", "verdict"),
    [
        (0.1, (0.05, 0.2), METRIC, "better"),
        (0.1, (0.05, 0.2), "localisation_error", "worse"),
        (-0.1, (-0.2, -0.05), "reprojection_error", "better"),
        (0.1, (-0.01, 0.2), METRIC, "within"),
        (0.1, None, METRIC, "no interval"),
        (0.0, None, METRIC, "within"),
    ],
)
def test_verdicts(difference: float, interval: tuple[float, float] | None, metric: str, verdict: str) -> None:
    assert verdict_of(difference, interval, metric) == verdict


def test_what_was_measured_differently_is_not_compared() -> None:
    other = example()
    other.sections[0] = dataclasses.replace(other.sections[0], settings={"reach": 16.0})
    with pytest.raises(ValueError, match=r"sweep on walk: measured differently: reach is 32.0 in the first, 16.0 in"):
        compare(example(), other)
    before, after = made_results(), made_results()
    after.sections[2] = dataclasses.replace(after.sections[2], settings={"zooms": [2.0]})
    comparison = compare(before, after)
    assert len(comparison.refused) == 1
    assert "Not compared:" in comparison_text(comparison)
    assert "sweep on walk" not in {change.section for change in comparison.changes}


def test_rows_of_one_run_only_are_counted() -> None:
    after = example(3.0)
    rows = [row for row in after.sections[0].rows if row.pair != "4"]
    after.sections[0] = dataclasses.replace(after.sections[0], rows=rows)
    comparison = compare(example(), after)
    assert "sweep on walk: ours: 3 rows only in the first, 0 only in the second" in comparison.unmatched
    assert {change.rows for change in comparison.changes} == {6, 3}


def test_methods_are_matched_by_other_names_where_asked() -> None:
    after = example(3.0)
    renamed = [dataclasses.replace(row, method=row.method.replace("ours", "new")) for row in after.sections[0].rows]
    after.sections[0] = dataclasses.replace(after.sections[0], rows=renamed)
    assert "sweep on walk: new: only in the second" in compare(example(), after).unmatched
    comparison = compare(example(), after, rename={"ours": "new"})
    assert {change.method for change in comparison.of("better")} == {"ours -> new"}
    with pytest.raises(ValueError, match="the second run has no method 'newer'"):
        compare(example(), after, rename={"ours": "newer"})


def test_times_that_overlap_are_within() -> None:
    def run(time: float) -> Results:
        metrics = {"milliseconds": time, "milliseconds_low": time - 2, "milliseconds_high": time + 2, "model_size": 5.0}
        row = Row("ours", "320x240", "320x240", metrics, "320x240")
        return Results([Section("cost", "here", [row])], {})

    assert {change.verdict for change in compare(run(10.0), run(13.0)).changes} == {"within"}
    assert compare(run(10.0), run(20.0)).of("worse")[0].metric == "milliseconds"
    assert compare(run(20.0), run(10.0)).of("better")[0].metric == "milliseconds"
