"""What methods cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lfnet.errors import UserError
from lfnet.evaluation.methods.extractors import make_methods
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.cost import CostSettings, measure_cost, time_interleaved
from lfnet.features import Features

pytestmark = pytest.mark.slow


def test_costs_of_methods(tiny_weights: Path, features_file: Path) -> None:
    methods = make_methods(["sift", str(tiny_weights), str(features_file)])
    said: list[str] = []
    settings = CostSettings(cases=((160, 120, 50),), rounds=3, threads=1)
    before = torch.get_num_threads()
    section = measure_cost(methods, settings, said.append)
    assert torch.get_num_threads() == before
    assert section.skipped == ["disk: features from a file can't be timed"]
    assert section.settings["threads"] == {"torch": 1, "opencv": 1}
    assert [(row.method, row.subset, row.budget) for row in section.rows] == [
        ("sift", "160x120", 50), ("tiny", "160x120", 50)
    ]  # fmt: skip
    sift, tiny = (row.metrics for row in section.rows)
    for metrics in (sift, tiny):
        assert 0 < metrics["milliseconds_low"] <= metrics["milliseconds"] <= metrics["milliseconds_high"]
        assert metrics["keypoints_per_second"] == pytest.approx(1000 * metrics["keypoints"] / metrics["milliseconds"])
    assert (sift["parameters"], sift["model_size"]) == (0, 0)
    assert tiny["model_size"] >= 4e-6 * tiny["parameters"] > 0
    # PyTorch is in the one and not in the other.
    assert 20 < sift["memory"] < tiny["memory"] - 50 < 2000
    assert any("memory of tiny" in line for line in said)


def test_a_method_that_fails_is_a_line_in_the_costs() -> None:
    class Broken:
        name = "broken"

        def __call__(self, image: Any, *, max_keypoints: int, mask: Any = None) -> Features:
            raise UserError("no\nluck")

    settings = CostSettings(cases=((80, 60, 10),), rounds=1, memory=False)
    section = measure_cost([Broken(), OpenCVExtractor("orb")], settings, lambda text: None)
    assert section.methods() == ["orb"]
    assert section.skipped == ["broken at 80x60: no luck"]
    with pytest.raises(ValueError, match="rounds and threads"):
        CostSettings(rounds=0)


def test_methods_take_turns() -> None:
    order: list[str] = []
    times = time_interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert "".join(order) == "ababab"
    assert [len(seconds) for seconds in times.values()] == [2, 2]
