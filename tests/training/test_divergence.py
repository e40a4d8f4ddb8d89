"""A model that diverged is never kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.data.augment import GeometricConfig
from lfnet.data.pair_sources import PicturePairs
from lfnet.models.lfnet import LFNet
from lfnet.training.branches import StrategyConfig
from lfnet.training.checkpoint import CheckpointError
from lfnet.training.config import OptimizerConfig, TrainConfig
from lfnet.training.loop import LAST, TrainingError, _keep, new_state, train, train_step
from support.networks import tiny_config


def tiny_run() -> TrainConfig:
    return TrainConfig(tiny_config(), StrategyConfig(keypoints=16), optimizer=OptimizerConfig(steps=4, batch=1))


def test_a_gradient_that_is_not_finite_changes_nothing(
    camera: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = new_state(tiny_run(), torch.device("cpu"))
    pair = PicturePairs([camera], GeometricConfig(), 96).sample(torch.Generator().manual_seed(0))
    before = [parameter.clone() for parameter in state.model.parameters()]

    def spoiled(model: LFNet, result: Any) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        first = next(model.parameters())
        first.grad = torch.full_like(first, math.nan)

    monkeypatch.setattr("lfnet.training.loop.apply_gradients", spoiled)
    with pytest.raises(TrainingError, match="step 0: a gradient is not finite"):
        train_step(state, tiny_run(), pair, tmp_path)
    assert all(torch.equal(old, new) for old, new in zip(before, state.model.parameters(), strict=True))
    assert (tmp_path / "failed_batch.pt").exists()


def test_a_diverged_model_is_not_kept(tmp_path: Path) -> None:
    state = new_state(tiny_run(), torch.device("cpu"))
    _keep(state, tiny_run(), {"matching_score": 0.5}, [], tmp_path)
    kept = (tmp_path / LAST).read_bytes()
    with torch.no_grad():
        next(state.model.parameters()).fill_(math.inf)
    with pytest.raises(TrainingError, match="diverged"):
        _keep(state, tiny_run(), {"matching_score": 0.9}, [], tmp_path)
    assert (tmp_path / LAST).read_bytes() == kept


def test_resume_without_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        train(tiny_run(), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()
