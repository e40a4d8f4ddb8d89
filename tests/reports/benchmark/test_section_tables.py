"""Tables and headlines of results."""

from __future__ import annotations

import math

import pytest

from lfnet.evaluation.results import Row, Section
from lfnet.reports.benchmark.columns import Cell, Column, make_column
from lfnet.reports.benchmark.metric_words import champion, shown, turns, worded, zooms
from lfnet.reports.benchmark.section_tables import headline, section_tables
from lfnet.reports.benchmark.tables import full_report, markdown, number, tables
from support.made_results import METRIC, example, made_results


def line_of(text: str, start: str) -> str:
    """The first line that starts so."""
    return next(line for line in text.splitlines() if line.startswith(start))


def test_words() -> None:
    assert worded(METRIC) == "score at 5 px"
    assert worded("pose_auc@10") == "AUC at 10°"
    assert worded("match_share@octave1/2") == "share of correct matches at octave 1/2"
    directions = [shown(metric).better for metric in ("mma@3", "localisation_error", "keypoints")]
    assert directions == ["higher", "lower", "neither"]
    assert [shown(f"{name}@octave1").better for name in ("match_error_median", "match_share")] == ["lower", "neither"]
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
    marked = Column("time", "milliseconds", "lower", 1, cells).marked(["a"]).cells
    assert [marked[name].mark for name in "abcd"] == ["tied", "best", "", "best"]
    same = Column("score", METRIC, "higher", 3, {"a": Cell(0.5), "b": Cell(0.5)}).marked()
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
