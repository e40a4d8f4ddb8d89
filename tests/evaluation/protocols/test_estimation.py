"""Ratios and thresholds are tuned on pairs that are not reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from lfnet.evaluation.data.pairs import Dataset
from lfnet.evaluation.data.synthetic import rendered_dataset
from lfnet.evaluation.feature_source import FeatureSource
from lfnet.evaluation.methods.feature_files import FeatureFile
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.estimation import (
    RATIOS,
    THRESHOLDS,
    EstimationSettings,
    Tuning,
    measure_tuned,
    pooled,
    set_aside,
)
from lfnet.evaluation.protocols.pose import POSE
from lfnet.integrations.hloc import write_features
from support.geometry import quiet
from support.oracle import Oracle

pytestmark = pytest.mark.slow


def test_data_sets_are_tuned_on_groups_of_all_of_them(rendered: Dataset) -> None:
    second = replace(rendered, name="second/part")
    few = replace(rendered, name="few", pairs=rendered.pairs[:3])
    pool, left = pooled([rendered, second, few], POSE, every=4)
    assert pool is not None
    assert pool.name == "rendered, second/part"
    assert len(left[2].pairs) == 3
    assert len(pool.pairs) + sum(len(part.pairs) for part in left) == 2 * len(rendered.pairs) + 3
    names = {f"{part.name}/{pair.name}" for part in left for pair in part.pairs}
    assert not names & {pair.name for pair in pool.pairs}
    last = pool.pairs[-1]
    assert last.picture_a.startswith("second/part/")
    assert np.array_equal(pool.load(last.picture_a), rendered.load(last.picture_a.removeprefix("second/part/")))
    assert pooled([few], POSE, every=4) == (None, [few])


def test_features_files_are_tuned_whatever_folders_they_name(rendered: Dataset, tmp_path: Path) -> None:
    orb, path = OpenCVExtractor("orb"), tmp_path / "theirs.h5"
    with h5py.File(path, "w") as file:
        for picture in (name for pair in rendered.pairs for name in (pair.picture_a, pair.picture_b)):
            write_features(file, f"above/{picture}", orb(rendered.load(picture), max_keypoints=300))
    source = FeatureSource([FeatureFile(path)])
    settings = EstimationSettings(budget=100, threshold=1.0)
    pool, (left, *_) = pooled([rendered], POSE, every=4)
    assert pool is not None
    section = measure_tuned(POSE, left, source, settings, quiet, tuning=Tuning(pool))
    assert section.chosen["theirs"]["tuning_pairs"] == len(pool.pairs)
    assert section.skipped == []


def test_whole_groups_are_set_aside(rendered: Dataset) -> None:
    pairs = [replace(rendered.pairs[0], name=str(number), group=f"g{number // 2}") for number in range(18)]
    aside, reported = set_aside(pairs, 4)
    assert [pair.name for pair in aside] == ["6", "7", "14", "15"]
    assert len(reported) == 14
    assert set_aside(pairs[:6], 4) == ([], pairs[:6])


def test_each_method_is_tuned_on_pairs_that_are_not_reported(rendered: Dataset) -> None:
    methods = [OpenCVExtractor("rootsift"), Oracle(rendered)]
    section = measure_tuned(POSE, rendered, FeatureSource(methods), EstimationSettings(budget=300), quiet)
    assert {row.pair for row in section.rows} == {"scene 00", "scene 01", "scene 02", "scene 04"}
    for method in ("rootsift", "oracle"):
        chosen = section.chosen[method]
        assert chosen["ratio"] in RATIOS
        assert chosen["threshold"] in THRESHOLDS
        assert (chosen["tuned_on"], chosen["tuning_pairs"]) == ("rendered", 1)
    best = section.chosen["rootsift"]
    aside = replace(rendered, pairs=[rendered.pairs[3]])
    scores = {}
    for ratio in RATIOS:
        for threshold in THRESHOLDS:
            settings = EstimationSettings(budget=300, ratio=ratio, threshold=threshold)
            only = measure_tuned(POSE, aside, FeatureSource(methods[:1]), settings, quiet)
            scores[ratio, threshold] = only.mean("pose_auc@10")
    assert scores[best["ratio"], best["threshold"]] == pytest.approx(max(scores.values()), abs=1e-9)


def test_published_pairs_stay_whole_where_others_are_tuned_on(rendered: Dataset) -> None:
    others = rendered_dataset(count=2, seed=5)
    section = measure_tuned(
        POSE, rendered, FeatureSource([OpenCVExtractor("rootsift")]), EstimationSettings(budget=200), quiet,
        tuning=Tuning(replace(others, name="others")),
    )  # fmt: skip
    assert len(section.rows) == 5
    assert section.chosen["rootsift"]["tuned_on"] == "others"
    assert section.chosen["rootsift"]["tuning_pairs"] == 2


def test_what_is_tuned_on_is_said(rendered: Dataset, warped: Dataset) -> None:
    source, settings = FeatureSource([Oracle(rendered)]), EstimationSettings(threshold=1.0)
    section = measure_tuned(POSE, rendered, source, settings, quiet, tuning=Tuning(warped))
    assert section.chosen["oracle"]["tuned_on"] == "rendered"
    assert section.skipped == [
        "pose on rendered: no pair of warped has known cameras, so that it is tuned on its own pairs"
    ]
    section = measure_tuned(POSE, rendered, source, settings, quiet, tuning=Tuning(rendered))
    assert len(section.rows) == 5
    assert section.skipped == ["pose on rendered: 5 of 5 pairs that are reported were also there to tune on"]


def test_few_groups_are_not_tuned_on(rendered: Dataset) -> None:
    few = replace(rendered, pairs=rendered.pairs[:3])
    section = measure_tuned(POSE, few, FeatureSource([Oracle(rendered)]), EstimationSettings(), quiet)
    assert len(section.rows) == 3
    assert section.chosen["oracle"] == {"ratio": 1.0, "threshold": 1.0, "filter": False}
    assert section.skipped == [
        "pose on rendered: nothing is tuned, as there are fewer than 4 groups of pairs: no ratio test and a threshold "
        "of 1 px for every method"
    ]
