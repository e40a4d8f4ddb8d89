"""Settings that cannot be meant are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from lfnet.settings import ConfigError
from lfnet.training.config import build_config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer.steps", -5),
        ("optimizer.batch", 0),
        ("optimizer.learning_rate", -1.0),
        ("strategy.keypoints", 0),
        ("strategy.pair_weight", -0.1),
        ("validation.every", 0),
        ("data.size", 10),
        ("model.detector.channels", 0),
        ("model.scale_space.window_strength", -3.0),
        ("model.orientation.compression", -0.5),
        ("model.keypoints.border", -3),
        ("model.patches.size", 0),
        ("model.descriptor.dimension", 0),
        ("model.octave_preference", -1.0),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name.removeprefix('model.')}: expected at least"):
        build_config({}, {name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.detector.kernel_size", -1, "detector.kernel_size: expected an odd number"),
        ("model.keypoints.nms_size", 4, "keypoints.nms_size: expected an odd number"),
        ("model.keypoints.subpixel", 2, "keypoints.subpixel: expected an odd number"),
        ("model.descriptor.channels", [8, 0, 8], "expected at least 1 each"),
        ("model.norm_momentum", 0.0, "expected a share"),
        ("data.geometry.zoom", 0.0, "zoom: expected at least 1"),
        ("data.geometry.resolution", [0.0, 1.0], "above 0"),
        ("data.geometry.perspective", 1.5, r"perspective in \[0, 1\)"),
        ("data.photometric.noise", -0.1, "photometric.noise: expected at least 0"),
        ("data.picture_share", -1.0, "shares of at least 0"),
        ("data.sequences", [{"folder": "x", "overlap": [0.9, 0.1]}], "sequences.overlap"),
        ("optimizer.steps.x", 1, "steps is a setting, not a table"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config({"optimizer": {"steps": 5}}, {name: value})
