"""Checkpoints: everything that a run needs to go on as if it had never stopped, written in one step."""

from __future__ import annotations

import io
import json
import operator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lfnet.errors import UserError, one_line
from lfnet.files.atomic import write_bytes
from lfnet.models.lfnet import LFNet
from lfnet.settings import config_to_dict
from lfnet.training.config import TrainConfig, build_config


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or of another run."""


@dataclass
class TrainingState:
    """What changes during a run."""

    model: LFNet
    detector_optimizer: torch.optim.Optimizer
    descriptor_optimizer: torch.optim.Optimizer
    generator: torch.Generator
    """Draws negatives, and how positives are disturbed; on the CPU."""
    step: int = 0
    """Steps done."""
    best_score: float = -1.0
    """Best validation score so far."""
    begun_from: dict[str, Any] = field(default_factory=dict)
    """Name and steps of the weights that the run began with, for the card."""


def save_checkpoint(path: Path, state: TrainingState, config: TrainConfig) -> None:
    """Write a checkpoint: complete under its name, or not at all.

    Raises:
        OSError: if it can't be written, for example because the disk is full.
    """
    values = {
        "config": json.dumps(config_to_dict(config)),
        "model": state.model.state_dict(),
        "detector_optimizer": state.detector_optimizer.state_dict(),
        "descriptor_optimizer": state.descriptor_optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "step": state.step,
        "best_score": state.best_score,
        "begun_from": state.begun_from,
    }
    save_tensors(path, values)


def save_tensors(path: Path, values: dict[str, Any]) -> None:
    """Write what `torch.load(path, weights_only=True)` reads, whole or not at all.

    Raises:
        OSError: if it can't be written; `torch.save` into a file would hide a full disk in a RuntimeError.
    """
    content = io.BytesIO()
    torch.save(values, content)
    write_bytes(path, content.getvalue())


def read_checkpoint(path: Path) -> tuple[dict[str, Any], TrainConfig]:
    """Tensors and numbers of a checkpoint, and the settings of its run; nothing in it is executed.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "no such file"
        raise CheckpointError(f"checkpoint {path}: {what}; start without --resume")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        return values, build_config(json.loads(values["config"]))
    except Exception as error:  # By the damage, whatever the unpickler and the parser have.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint {path}: cannot be read ({first})") from error


def restore(state: TrainingState, values: dict[str, Any], path: Path) -> None:
    """Put a checkpoint's contents into a freshly built state of the same configuration.

    Args:
        state: is filled; of no use where that fails.
        values: as read.
        path: of the checkpoint, named in the error.

    Raises:
        CheckpointError: they are not what a state of this configuration has.
    """
    try:
        state.model.load_state_dict(values["model"])
        for name in ("detector_optimizer", "descriptor_optimizer"):
            _check_moments(getattr(state, name), values[name])
            getattr(state, name).load_state_dict(values[name])
        state.generator.set_state(values["generator"])
        state.step, state.best_score = operator.index(values["step"]), float(values["best_score"])
        state.begun_from = dict(values.get("begun_from", state.begun_from))  # Earlier versions kept none.
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"checkpoint {path}: not what a run of these settings keeps ({one_line(error)[:200]}); start a new run"
        ) from error
    if state.step < 0:
        raise CheckpointError(f"checkpoint {path}: expected a number of steps, got {state.step}; start a new run")


def _check_moments(optimizer: torch.optim.Optimizer, values: dict[str, Any]) -> None:
    """PyTorch takes moments of any shape, and fails at the first step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in values["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            if moments[name].shape != parameters[index].shape:
                raise ValueError(f"{name} of parameter {index} has shape {tuple(moments[name].shape)}")
