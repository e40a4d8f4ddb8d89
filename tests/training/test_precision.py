"""Autocast covers the two networks and nothing else: a warp in bfloat16 is wrong by half a pixel."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.data.augment import GeometricConfig
from lfnet.data.pair_sources import PicturePairs
from lfnet.geometry import filters
from lfnet.geometry.warp import Warp
from lfnet.models.config import LFNetConfig
from lfnet.models.descriptor import Descriptor
from lfnet.models.lfnet import LFNet
from lfnet.training.branches import StrategyConfig, two_branch_step
from lfnet.training.draws import Draws
from support.networks import chances_config, lean_config, tiny_config

LEAN = dataclasses.replace(lean_config(), contrast_preference=1.0)
CHANCES = dataclasses.replace(chances_config(), contrast_preference=1.0)
ORIENTED = ["begin", "angle_scores", "finish"]


def autocast_during(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[bool]:
    """Note at each call whether autocast was on."""
    seen: list[bool] = []
    original = getattr(owner, name)

    def noted(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, noted)
    return seen


@pytest.mark.parametrize(("config", "parts"), [(tiny_config(), ["forward"]), (LEAN, ORIENTED), (CHANCES, ORIENTED)])
def test_only_the_networks_run_in_bfloat16(
    camera: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, config: LFNetConfig, parts: list[str]
) -> None:
    generator = torch.Generator().manual_seed(0)
    pair = PicturePairs([camera], GeometricConfig(), 96).sample(generator)
    warps = autocast_during(monkeypatch, Warp, "points")
    jacobians = autocast_during(monkeypatch, Warp, "jacobian")
    blurs = autocast_during(monkeypatch, filters, "separable")
    descriptors = [autocast_during(monkeypatch, Descriptor, part) for part in parts]
    strategy = StrategyConfig(keypoints=16)
    result = two_branch_step(LFNet(config), pair, strategy, 0, Draws(generator), torch.bfloat16)
    assert warps
    assert jacobians
    assert blurs
    assert not any(warps + jacobians + blurs)
    assert descriptors == [[True]] * len(parts)
    assert result.views[0].maps.scores.dtype == torch.float32
