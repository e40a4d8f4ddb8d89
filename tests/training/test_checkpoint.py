"""Checkpoints that hold together, and folders that one run has for itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lfnet.files.atomic import held
from lfnet.training.checkpoint import CheckpointError, read_checkpoint, restore, save_checkpoint, save_tensors
from lfnet.training.config import OptimizerConfig, TrainConfig
from lfnet.training.loop import new_state, train
from support.networks import tiny_config

CONFIG = TrainConfig(model=tiny_config(), optimizer=OptimizerConfig(steps=5))


def stepped_state():
    """A state whose optimisers have moments."""
    state = new_state(CONFIG, torch.device("cpu"))
    for optimizer in (state.detector_optimizer, state.descriptor_optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    return state


SPOILED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no model": lambda values: values.pop("model"),
    "a list for a model": lambda values: values.update(model=[1]),
    "another shape": lambda values: values["model"].update({next(iter(values["model"])): torch.zeros(1)}),
    "no optimiser": lambda values: values.update(descriptor_optimizer={}),
    "other moments": lambda values: values["detector_optimizer"]["state"][0].update(exp_avg=torch.zeros(1)),
    "a moment too many": lambda values: values["detector_optimizer"]["state"].update(
        {999: values["detector_optimizer"]["state"][0]}
    ),
    "moments of text": lambda values: values["detector_optimizer"]["state"][0].update(exp_avg_sq="x"),
    "a short generator": lambda values: values.update(generator=torch.zeros(3, dtype=torch.uint8)),
    "steps of text": lambda values: values.update(step="many"),
    "steps below 0": lambda values: values.update(step=-1),
    "no score": lambda values: values.update(best_score=None),
    "begun from a number": lambda values: values.update(begun_from=3),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_checkpoint_of_another_structure_is_named(how: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, stepped_state(), CONFIG)
    values, _ = read_checkpoint(path)
    SPOILED[how](values)
    save_tensors(path, values)
    with pytest.raises(CheckpointError) as caught:
        restore(new_state(CONFIG, torch.device("cpu")), read_checkpoint(path)[0], path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_run_began_from_is_kept(tmp_path: Path) -> None:
    """Whether or not --init is repeated, and whatever it names."""
    state = stepped_state()
    state.begun_from = {"name": "first", "steps": 7}
    save_checkpoint(tmp_path / "last.ckpt", state, CONFIG)
    other = new_state(CONFIG, torch.device("cpu"))
    other.begun_from = {"name": "other"}
    values, _ = read_checkpoint(tmp_path / "last.ckpt")
    restore(other, values, tmp_path / "last.ckpt")
    assert other.begun_from == {"name": "first", "steps": 7}
    del values["begun_from"]
    restore(other, values, tmp_path / "last.ckpt")
    assert other.begun_from == {"name": "first", "steps": 7}


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with held(tmp_path / "last.ckpt"), pytest.raises(BlockingIOError, match="another process is writing it"):
        train(CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_resuming_where_no_run_is_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="start without --resume"):
        train(CONFIG, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
