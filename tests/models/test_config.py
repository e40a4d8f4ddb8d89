"""The settings of the network."""

from __future__ import annotations

import json

import pytest

from lfnet.models.config import (
    LFNetConfig,
    OrientationConfig,
)
from lfnet.settings import ConfigError, config_from_dict, config_to_dict


def test_configuration_round_trips_and_refuses_what_it_does_not_know() -> None:
    config = LFNetConfig(octaves=(1.0, 0.5), orientation=OrientationConfig(mode="gradient"))
    text = json.dumps(config_to_dict(config))
    assert config_from_dict(LFNetConfig, json.loads(text)) == config
    for values, message in (
        ({"detector": {"chanels": 8}}, r"unknown setting detector\.chanels"),
        ({"detector": {"channels": 8.5}}, "expected int"),
        ({"detector": {"channels": True}}, "expected int"),
        ({"detector": 3}, "expected a table"),
        ({"detector": {"stride": 3}}, "expected 1, 2 or 4"),
        ({"orientation": {"mode": "up"}}, "'head', 'gradient'"),
        ({"descriptor": {"channels": [8, 16]}}, "expected 3 values"),
        ({"scale_space": {"window": 14}}, "odd"),
        ({"scale_space": {"window": 16, "window_step": 4}}, "odd number of steps of 4"),
        ({"scale_space": {"window": 4, "window_step": 4}}, "at least 3"),
        ({"scale_space": {"window": -1}}, "at least 1"),
        ({"orientation": {"mode": "shared"}}, "log-polar"),
        ({"patches": {"sampling": "log-polar", "size": 30}}, "multiple of 8"),
        ({"octaves": []}, "at least one"),
        ({"octaves": [0.0]}, "factors"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_from_dict(LFNetConfig, values)
