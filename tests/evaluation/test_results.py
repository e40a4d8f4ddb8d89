"""Files of results."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lfnet.evaluation.results import read_results, write_results
from lfnet.reports.benchmark.tables import tables
from support.made_results import made_results


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
        with pytest.raises(ValueError, match="results file of lfnet eval"):
            read_results(path)
    path.write_text(json.dumps({"version": 99, "rows": []}))
    with pytest.raises(ValueError, match="version 99"):
        read_results(path)
