"""Results files, intervals, tables, and two runs compared."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from lfnet.evaluation.intervals import difference_interval, mean_interval, ratio_interval
from lfnet.evaluation.results import Results, Row, Section, describe_environment, read_results, write_results
from lfnet.reports.benchmark.comparison import compare, comparison_text, verdict_of
from lfnet.reports.benchmark.summary import (
    Cell,
    Column,
    champion,
    direction,
    headline,
    make_column,
    section_tables,
    turns,
    with_marks,
    worded,
    zooms,
)
from lfnet.reports.benchmark.tables import full_report, markdown, number, tables
from support.made_results import made_results

METRIC = "matching_score@5"


def example(gain: float = 2.0) -> Results:
    """Two methods on four pairs of two stretches; ours is right `gain` times as often as RootSIFT."""
    rows = []
    for variant, factor in (("turn000", 1.0), ("turn030", 0.5), ("zoom2", 0.25)):
        for group, pair, value in (("A", "1", 0.2), ("A", "2", 0.4), ("B", "3", 0.1), ("B", "4", 0.1)):
            for method, times in (("rootsift", 1.0), ("ours", gain)):
                metrics = {METRIC: times * factor * value, "precision@5": math.nan}
                rows.append(Row(method, pair, group, metrics, variant=variant, budget=512))
    section = Section("sweep", "walk", rows, "stretches of frames", {"reach": 32.0})
    return Results([section], describe_environment(), {"ours": {"seconds": 0.01}}, "lfnet eval run walk")


def upright(results: Results, method: str) -> Section:
    """Rows of a method on untouched pictures."""
    return results.section("sweep").only(method=method, variants=["turn000"])


def line_of(text: str, start: str) -> str:
    """The first line that starts so."""
    return next(line for line in text.splitlines() if line.startswith(start))


def test_interval_resamples_groups_not_pairs() -> None:
    assert mean_interval(upright(example(), "rootsift"), METRIC) == (pytest.approx(0.1), pytest.approx(0.3))
    ratio = ratio_interval(upright(example(), "ours"), upright(example(), "rootsift"), METRIC)
    assert ratio == (pytest.approx(2.0), pytest.approx(2.0))
    old, new = upright(example(), "rootsift").rows, upright(example(), "ours").rows
    assert difference_interval(old, new, METRIC) == (pytest.approx(0.1), pytest.approx(0.3))


def test_one_group_has_no_interval() -> None:
    single = upright(example(), "ours").only(group="A")
    assert mean_interval(single, METRIC) is None


def test_file_round_trip(tmp_path: Path) -> None:
    written = made_results()
    write_results(tmp_path / "results.json", written)
    read = read_results(tmp_path / "results.json")
    assert tables(read) == tables(written)
    errors = [row.metrics["pose_error"] for row in read.section("pose").rows]
    assert errors == pytest.approx([row.metrics["pose_error"] for row in written.section("pose").rows], rel=1e-6)
    assert math.isinf(max(errors))
    assert math.isnan(read.section("structure").only(method="orb").mean("track_length"))
    assert read.section("pose").skipped == written.section("pose").skipped
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for text in ("[1, 2]", "{", '{"version": 2, "sections": [{"rows": 3}]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="no results file"):
            read_results(path)
    path.write_text(json.dumps({"version": 99, "rows": []}))
    with pytest.raises(ValueError, match="version 99"):
        read_results(path)


def test_words() -> None:
    assert worded(METRIC) == "score at 5 px"
    assert worded("pose_auc@10") == "AUC at 10°"
    assert worded("match_share@octave1/2") == "share of correct matches at octave 1/2"
    directions = [direction(metric) for metric in ("mma@3", "localisation_error", "keypoints")]
    assert directions == ["higher", "lower", "neither"]
    assert [direction(f"{name}@octave1") for name in ("match_error_median", "match_share")] == ["lower", "neither"]
    assert (number(math.nan), number(math.inf), number(12345.6, 0)) == ("-", "inf", "12,346")
    assert champion(["sift", "mine", "orb"]) == "mine"
    assert champion(["sift", "orb"]) == "sift"


def test_variants_are_ordered_by_angle_and_factor() -> None:
    section = example().section("sweep")
    assert turns(section) == {"turn000": 0, "turn030": 30}
    assert list(zooms(section).values()) == [1.0, 2.0]


def test_best_and_tied_by_hand() -> None:
    """`close` differs from the best by noise around zero, `far` always lies below it."""
    rows = []
    for index, noise in enumerate((0.02, -0.02, 0.021, -0.019, 0.02, -0.02)):
        for method, value in (("best", 0.5), ("close", 0.499 + noise), ("far", 0.3)):
            rows.append(Row(method, str(index), str(index), {METRIC: value}))
    column = make_column(Section("matching", "hand", rows), "score", METRIC)
    assert {name: cell.mark for name, cell in column.cells.items()} == {"best": "best", "close": "tied", "far": ""}


def test_lower_is_best_where_it_is_and_equal_values_have_no_best() -> None:
    cells = {"a": Cell(2.0), "b": Cell(1.0), "c": Cell(math.nan), "d": Cell(1.0)}
    marked = with_marks(Column("time", "milliseconds", "lower", 1, cells), ["a"]).cells
    assert [marked[name].mark for name in "abcd"] == ["tied", "best", "", "best"]
    same = with_marks(Column("score", METRIC, "higher", 3, {"a": Cell(0.5), "b": Cell(0.5)}), [])
    assert [cell.mark for cell in same.cells.values()] == ["", ""]


def test_sweep_table_shows_ratios_and_the_worst_turn() -> None:
    text = tables(example())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    ours = line_of(text, "| ours")
    assert "**0.400** [0.200, 0.600], 2.00x [2.00, 2.00]" in ours
    assert "**0.200** at 30°, 0.50 of upright" in ours
    assert "**0.100**" in ours
    assert "x" not in line_of(text, "| rootsift").replace("rootsift", "")
    assert "`lfnet eval run walk`" in text
    assert "4 pairs; 2 stretches of frames; K = 512, intervals over stretches of frames." in text


def test_every_protocol_has_its_table() -> None:
    text = tables(made_results())
    for title in ("Matching score: walk", "Rotation and scale: walk", "Relative pose: scannet1500",
                  "Homography: hpatches", "Structure from motion: boruszyn", "Cost: this machine"):  # fmt: skip
        assert f"## {title}\n" in text
    assert "| ratio 0.9, 1 px" in text
    assert "- and 4 more: see results.json" in text
    assert "scene0013_00" not in text
    assert "Nothing could be measured." in text
    assert "gap 20" in text
    assert "illumination" in text


def test_octaves_have_a_table_where_they_were_measured() -> None:
    title = "Median error of correct matches, and their share, by octave of the keypoint, K = 512"
    results = made_results()
    (table,) = [table for table in section_tables(results.section("matching", "walk")) if table.title == title]
    octaves = ("1", "1/2", "1/4")
    assert [column.title for column in table.columns] == [
        part for octave in octaves for part in (f"octave {octave} (px)", f"share at {octave}")
    ], "no match is correct at 1/8"
    error, share = table.columns[2:4]
    assert error.cells["lfnet-cpu"].mark == "best"
    assert (share.better, share.digits, share.cells["orb"].value) == ("neither", 3, pytest.approx(0.3))
    assert math.isnan(error.cells["disk <&\"' (rival)"].value), "the method has no octaves"
    assert title not in [table.title for table in section_tables(results.section("matching", "stereo"))]
    assert f"{title}:" in tables(results)
    assert "median match error (px)" in tables(results)


def test_a_single_octave_has_no_table() -> None:
    metrics = {METRIC: 0.5, "match_error_median@octave1": 1.0, "match_share@octave1": 1.0}
    metrics |= {"match_error_median@octave1/2": math.nan, "match_share@octave1/2": 0.0}
    shown = section_tables(Section("matching", "hand", [Row("orb", "p", "g", metrics, budget=512)]))
    assert [table.title for table in shown] == ["Score at 5 px"]


def test_the_terminal_has_the_same_numbers() -> None:
    plain = full_report(made_results())
    assert "**" not in plain
    assert "##" not in plain
    assert "0.414 [0.383, 0.440], 1.98x [1.92, 2.06] *" in plain


def test_costs_are_tied_where_their_ranges_overlap_and_no_model_is_no_merit() -> None:
    rows = []
    for method, time, size in (("a", 10.0, 0.0), ("b", 10.5, 5.4), ("c", 20.0, 9.0)):
        metrics = {"milliseconds": time, "milliseconds_low": time - 1, "milliseconds_high": time + 1}
        metrics["model_size"] = size
        rows.append(Row(method, "320x240", "320x240", metrics, "320x240"))
    table = section_tables(Section("cost", "here", rows))[0]
    times, sizes = table.columns
    assert [times.cells[name].mark for name in "abc"] == ["best", "tied", ""]
    assert math.isnan(sizes.cells["a"].value)
    assert {cell.mark for cell in sizes.cells.values()} == {""}


def test_headline_of_every_protocol() -> None:
    titles = {section.title: column.title for section in made_results().sections if (column := headline(section))}
    assert titles == {
        "matching on walk": "score at 5 px, K = 512",
        "matching on stereo": "score at 5 px, K = 512",
        "sweep on walk": "score at 5 px, mean of 12 turns",
        "pose on scannet1500": "AUC at 5°",
        "homography on hpatches": "corner AUC at 3 px",
        "structure on boruszyn": "share registered",
        "cost on this machine": "ms a picture",
    }


def test_tables_stay_tables_whatever_methods_are_called() -> None:
    lines = markdown(["method", "a|b"], [["x\ny", "1"]]).splitlines()
    assert len(lines) == 3
    assert "a\\|b" in lines[0]


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
