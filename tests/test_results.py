"""Results files, intervals and tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from lfnet.evaluation.results import (
    PairRow,
    Results,
    bootstrap_interval,
    describe_environment,
    read_results,
    summarise,
    write_results,
)
from lfnet.evaluation.tables import full_report, score_table, score_title

METRIC = "matching_score@5"


def example() -> Results:
    """Two methods on four pairs of two stretches; ours is right twice as often as RootSIFT."""
    rows = []
    for variant, factor in (("turn000", 1.0), ("turn030", 0.5), ("zoom2", 0.25)):
        for group, pair, value in (("A", "1", 0.2), ("A", "2", 0.4), ("B", "3", 0.1), ("B", "4", 0.1)):
            for method, gain in (("rootsift", 1.0), ("ours", 2.0)):
                metrics = {METRIC: gain * factor * value, "precision@5": float("nan")}
                rows.append(PairRow(method, pair, group, variant, metrics))
    settings = {"thresholds": (5.0,), "pairs": 4, "max_keypoints": 512}
    return Results("sequence", settings, describe_environment(), rows, {"ours": 0.01})


def test_summary_by_hand() -> None:
    summary = summarise(example(), "ours", METRIC)
    assert summary.upright == pytest.approx(0.4)
    assert summary.turned == pytest.approx(0.3)
    assert summary.worst_name == "turn030"
    assert summary.worst_turn == pytest.approx(0.2)
    assert summary.zooms == {"zoom2": pytest.approx(0.1)}


def test_interval_resamples_groups_not_pairs() -> None:
    low, high = bootstrap_interval(example(), "rootsift", METRIC, ["turn000"]) or (0, 0)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.3))
    ratio = bootstrap_interval(example(), "ours", METRIC, ["turn000"], reference="rootsift")
    assert ratio == (pytest.approx(2.0), pytest.approx(2.0))


def test_one_group_has_no_interval() -> None:
    whole = example()
    single = Results("stereo", {}, {}, [row for row in whole.rows if row.group == "A"])
    assert bootstrap_interval(single, "ours", METRIC, ["turn000"]) is None


def test_file_round_trip(tmp_path: Path) -> None:
    written = example()
    write_results(tmp_path / "results.json", written)
    read = read_results(tmp_path / "results.json")
    assert [row.method for row in read.rows] == [row.method for row in written.rows]
    assert read.rows[3].metrics[METRIC] == written.rows[3].metrics[METRIC]
    assert np.isnan(read.rows[0].metrics["precision@5"])
    assert read.environment["torch"] == written.environment["torch"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="no results file"):
        read_results(path)
    path.write_text(json.dumps({"version": 99, "rows": []}))
    with pytest.raises(ValueError, match="version 99"):
        read_results(path)


def test_table_shows_ratios_and_the_worst_turn() -> None:
    lines = score_table(example(), METRIC).splitlines()
    assert len({len(line) for line in lines}) == 1
    ours = next(line for line in lines if line.startswith("| ours"))
    assert "0.400" in ours
    assert "2.00x [2.00, 2.00]" in ours
    assert "0.200 at 30°, 0.50 of upright" in ours
    base = next(line for line in lines if line.startswith("| rootsift"))
    assert "x" not in base.replace("rootsift", "")


def test_title_says_what_ratios_are_to() -> None:
    results = example()
    assert score_title(results, 5.0).endswith("[95 % interval over resampled stretches of frames], ratio to rootsift:")
    alone = dataclasses.replace(results, rows=[row for row in results.rows if row.method == "ours"])
    assert score_title(alone, 5.0).startswith("Matching score at 5 px, [95 % interval")
    assert "no ratios, as rootsift is not measured" in score_title(alone, 5.0)


def test_report_needs_every_metric_that_it_shows() -> None:
    with pytest.raises(KeyError):
        full_report(example())
