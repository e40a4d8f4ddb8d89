"""A benchmark on nothing but what is embedded: rendered rooms, warped photographs, the bundled stereo pair."""

from __future__ import annotations

from lfnet.evaluation.benchmark import BenchmarkSettings
from lfnet.evaluation.cost import CostSettings
from lfnet.evaluation.homography_estimation import HomographySettings
from lfnet.evaluation.matching_score import MatchingSettings, SweepSettings
from lfnet.evaluation.pairs import Dataset
from lfnet.evaluation.pose import PoseSettings
from lfnet.evaluation.rendered import rendered_dataset, warped_dataset
from lfnet.evaluation.stereo import stereo_dataset

BUDGET = 512
"""Keypoints of a picture: the paper's for 320 x 240."""


def quick_datasets() -> tuple[list[Dataset], list[str]]:
    """What is embedded, and a line for what needs scikit-image (extra `demo`) where it is missing."""
    datasets = [rendered_dataset()]
    try:
        datasets += [warped_dataset(), stereo_dataset()]
    except ModuleNotFoundError as error:
        return datasets, [str(error)]
    return datasets, []


def quick_settings() -> BenchmarkSettings:
    """Small enough for three minutes of two cores."""
    return BenchmarkSettings(
        matching=MatchingSettings(budgets=(BUDGET,)),
        sweep=SweepSettings(turns=(0, 30, 60, 90, 180, 270), zooms=(0.5, 2.0), pairs=4, budget=BUDGET),
        pose=PoseSettings(budget=BUDGET),
        homography=HomographySettings(budget=BUDGET),
        cost=CostSettings(rounds=3),
    )
