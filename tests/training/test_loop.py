"""Steps of training: one pair is overfitted, losses are pinned, a NaN stops."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lfnet.data.pair import Pair, View
from lfnet.models.lfnet import LFNet
from lfnet.models.weights import save_weights
from lfnet.settings import ConfigError
from lfnet.training.branches import StrategyConfig
from lfnet.training.config import OptimizerConfig, TrainConfig
from lfnet.training.loop import TrainingError, learning_rate, new_state, start_from, train, train_step
from support.networks import STRATEGY, chances_config, lean_config, tiny_config

pytestmark = pytest.mark.slow


def tiny_training(steps: int = 40) -> TrainConfig:
    optimizer = OptimizerConfig(steps=steps, batch=1, learning_rate=3e-3)
    return TrainConfig(model=tiny_config(), strategy=STRATEGY, optimizer=optimizer)


def test_one_pair_is_overfitted(pair: Pair) -> None:
    config = tiny_training()
    state = new_state(config, torch.device("cpu"))
    history = []
    for _ in range(config.optimizer.steps):
        result = train_step(state, config, pair)
        state.step += 1
        history.append({name: float(value) for name, value in result.losses.items()})
    for name, share in (("image", 0.95), ("triplet", 0.7)):
        before, after = (np.mean([losses[name] for losses in part]) for part in (history[:5], history[-5:]))
        assert after < share * before, (name, before, after)


PINNED = [
    {"image": 1.078, "orientation": 0.072222, "scale": 0.031931, "pair": 0.84714, "triplet": 0.54766},
    {"image": 1.0607, "orientation": 0.067795, "scale": 0.026775, "pair": 0.429, "triplet": 0.16909},
    {"image": 1.0621, "orientation": 0.095135, "scale": 0.027659, "pair": 0.31089, "triplet": 0.1215},
]
"""Losses of the first steps of `tiny_training` on one pair; measured with this code on an x86 CPU."""


def test_losses_of_the_first_steps_are_pinned(pair: Pair) -> None:
    """In float32 on one thread, the same wherever it runs; a change of the method changes them."""
    config = tiny_training()
    state = new_state(config, torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for expected in PINNED:
            result = train_step(state, config, pair)
            state.step += 1
            losses = {name: float(value) for name, value in result.losses.items()}
            assert losses == pytest.approx(expected, rel=1e-2, abs=2e-4)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_takes_the_step_that_the_cpu_takes(pair: Pair) -> None:
    config = tiny_training()
    here, there = (new_state(config, torch.device(device)) for device in ("cpu", "cuda"))
    for _ in range(2):
        on_cpu, on_gpu = (train_step(here, config, pair).losses, train_step(there, config, pair.to("cuda")).losses)
        for name, value in on_cpu.items():
            assert float(on_gpu[name].detach()) == pytest.approx(float(value.detach()), rel=2e-2, abs=1e-3), name


def test_learning_rate() -> None:
    constant = OptimizerConfig()
    assert {learning_rate(constant, step) for step in (0, 10, 49_999)} == {1e-3}
    cosine = OptimizerConfig(steps=1000, schedule="cosine", warmup=10)
    assert learning_rate(cosine, 0) == pytest.approx(1e-4, rel=1e-3)
    assert learning_rate(cosine, 500) == pytest.approx(1e-3 * (0.01 + 0.99 / 2))
    assert learning_rate(cosine, 1000) == pytest.approx(1e-5)


def test_a_nan_stops_training_and_the_batch_is_kept(pair: Pair, tmp_path: Path) -> None:
    config = tiny_training()
    state = new_state(config, torch.device("cpu"))
    before = {name: value.clone() for name, value in state.model.named_parameters()}
    image = pair.a.image.clone()
    image[0, 0, 30, 30] = math.nan
    broken = dataclasses.replace(pair, a=dataclasses.replace(pair.a, image=image))
    with pytest.raises(TrainingError, match=r"step 0: a loss is not finite .*failed_batch\.pt"):
        train_step(state, config, broken, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in state.model.named_parameters())
    saved = torch.load(tmp_path / "failed_batch.pt", weights_only=True)
    torch.testing.assert_close(saved["a"]["image"], image, equal_nan=True)
    torch.testing.assert_close(saved["b"]["image"], pair.b.image)
    assert saved["step"] == 0
    assert set(saved["model"]) == set(state.model.state_dict())


def test_views_without_overlap_give_no_loss_but_the_step_goes_on(pair: Pair) -> None:
    config = tiny_training()
    state = new_state(config, torch.device("cpu"))
    away = torch.tensor([[[1.0, 0.0, 1e4], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    view = View(pair.a.image, pair.a.valid, None, pair.a.intrinsics, pair.a.camera_from_world)
    result = train_step(state, config, Pair(view, pair.b, away))
    assert {name: float(value) for name, value in result.losses.items()} == dict.fromkeys(result.losses, 0.0)
    assert all(bool(torch.isfinite(value).all()) for value in state.model.parameters())


def test_a_second_stage_leaves_the_detector_as_it_is(pair: Pair, tmp_path: Path) -> None:
    """Its batch norm too; what the first stage had is kept, what is new starts anew."""
    first = LFNet(lean_config())
    save_weights(tmp_path / "first.safetensors", first.config, first.state_dict())
    strategy = StrategyConfig(learns="descriptor", keypoints=32, descriptor_loss="dual_softmax")
    config = dataclasses.replace(tiny_training(), model=chances_config(), strategy=strategy)
    state = start_from(config, tmp_path / "first.safetensors", torch.device("cpu"))
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    given = first.state_dict()
    same = [name for name in before if name in given and torch.equal(before[name], given[name])]
    assert set(given) - set(same) == {"descriptor.angles.score.weight"}
    train_step(state, config, pair)
    after = state.model.state_dict()
    assert [name for name in after if name.startswith("detector.") and not torch.equal(after[name], before[name])] == []
    learned = [name for name, _ in state.model.descriptor.named_parameters()]
    assert all(not torch.equal(after[f"descriptor.{name}"], before[f"descriptor.{name}"]) for name in learned)


def test_a_second_stage_refuses_another_detector(tmp_path: Path) -> None:
    first = LFNet(tiny_config())
    save_weights(tmp_path / "first.safetensors", first.config, first.state_dict())
    strategy = StrategyConfig(learns="descriptor")
    config = dataclasses.replace(tiny_training(), model=chances_config(), strategy=strategy)
    with pytest.raises(ConfigError, match="architecture differs"):
        start_from(config, tmp_path / "first.safetensors", torch.device("cpu"))


def test_a_second_stage_refuses_other_settings_of_the_detector(tmp_path: Path) -> None:
    """The same tensors, and other scores."""
    first = LFNet(lean_config())
    save_weights(tmp_path / "first.safetensors", first.config, first.state_dict())
    scale_space = dataclasses.replace(first.config.scale_space, normalize=True)
    model = dataclasses.replace(chances_config(), scale_space=scale_space)
    config = dataclasses.replace(tiny_training(), model=model, strategy=StrategyConfig(learns="descriptor"))
    with pytest.raises(ConfigError, match="architecture differs"):
        start_from(config, tmp_path / "first.safetensors", torch.device("cpu"))


def test_a_second_stage_needs_a_first_one(tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_training(), strategy=StrategyConfig(learns="descriptor"))
    with pytest.raises(ConfigError, match="name trained weights by --init"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
