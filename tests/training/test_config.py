"""Settings and values that can't be meant are refused by name, and a diverged model is never kept."""

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
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet
from lfnet.settings import ConfigError
from lfnet.training.branches import StrategyConfig
from lfnet.training.checkpoint import CheckpointError
from lfnet.training.config import OptimizerConfig, TrainConfig, build_config
from lfnet.training.loop import LAST, TrainingError, _keep, new_state, train, train_step
from support.networks import tiny_config


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
        ("data.geometry.zoom", 0.0, "zoom of at least 1"),
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


@pytest.mark.parametrize(
    "settings", [{"max_keypoints": 0}, {"min_score": 2.0}, {"border": -1}, {"octaves": ()}, {"octaves": (9.0,)}]
)
def test_impossible_extraction_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        ExtractionSettings(**settings)


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


def test_masks_as_one_tensor_are_one_a_picture(camera: NDArray[np.uint8]) -> None:
    model = LFNet(tiny_config()).eval()
    pictures = [camera[:96, :96]] * 3
    masks = torch.ones(3, 96, 96, dtype=torch.uint8)
    masks[1] = 0
    found = model.extract(pictures, mask=masks)
    assert len(found[1]) == 0
    assert len(found[0]) == len(found[2]) > 0


def test_sixteen_bits_are_the_same_as_array_and_tensor(camera: NDArray[np.uint8]) -> None:
    model = LFNet(tiny_config()).eval()
    wide = camera[:96, :96].astype(np.uint16) * 257
    array, tensor, bytes_ = (
        model.extract([picture])[0] for picture in (wide, torch.from_numpy(wide), camera[:96, :96])
    )
    assert np.array_equal(array.keypoints, tensor.keypoints)
    assert np.allclose(array.keypoints, bytes_.keypoints, atol=1e-3)


@pytest.mark.parametrize("name", ["keypoints", "scales", "orientations"])
def test_describe_refuses_nan(camera: NDArray[np.uint8], name: str) -> None:
    values = {"keypoints": np.full((1, 2), 40.0), "scales": np.ones(1), "orientations": np.zeros(1)}
    values[name] = values[name] * np.nan
    with pytest.raises(ValueError, match=name):
        LFNet(tiny_config()).describe(camera[:96, :96], **values)
