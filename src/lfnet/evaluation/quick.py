"""How a first look is taken, at nothing but what is embedded."""

from __future__ import annotations

from lfnet.evaluation.protocols.cost import CostSettings
from lfnet.evaluation.protocols.homography import HomographySettings
from lfnet.evaluation.protocols.matching_score import MatchingSettings, SweepSettings
from lfnet.evaluation.protocols.pose import PoseSettings
from lfnet.evaluation.suite import BenchmarkSettings

BUDGET = 512
"""Keypoints of a picture: the paper's for 320 x 240."""


def quick_settings() -> BenchmarkSettings:
    """Small enough for three minutes of two cores."""
    return BenchmarkSettings(
        matching=MatchingSettings(budgets=(BUDGET,)),
        sweep=SweepSettings(turns=(0, 30, 60, 90, 180, 270), zooms=(0.5, 2.0), pairs=4, budget=BUDGET),
        pose=PoseSettings(budget=BUDGET),
        homography=HomographySettings(budget=BUDGET),
        cost=CostSettings(rounds=3),
    )
