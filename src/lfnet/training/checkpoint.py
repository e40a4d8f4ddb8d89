"""Checkpoints: everything that a run needs to go on as if it had never stopped, written in one step."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lfnet.models.config import config_to_dict
from lfnet.models.lfnet import LFNet
from lfnet.training.config import TrainConfig, build_config


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another run."""


@dataclass
class TrainingState:
    """What changes during a run."""

    model: LFNet
    detector_optimizer: torch.optim.Optimizer
    descriptor_optimizer: torch.optim.Optimizer
    generator: torch.Generator
    """Draws the negatives; on the CPU."""
    step: int = 0
    """Steps done."""
    best_score: float = -1.0
    """Best validation score so far."""


def save_checkpoint(path: Path, state: TrainingState, config: TrainConfig) -> None:
    """Write a checkpoint: complete under its name, or not at all."""
    values = {
        "config": json.dumps(config_to_dict(config)),
        "model": state.model.state_dict(),
        "detector_optimizer": state.detector_optimizer.state_dict(),
        "descriptor_optimizer": state.descriptor_optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "step": state.step,
        "best_score": state.best_score,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        torch.save(values, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], TrainConfig]:
    """Tensors and numbers of a checkpoint, and the settings of its run; nothing in it is executed.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        return values, build_config(json.loads(values["config"]))
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path}: no such file; start without --resume") from error
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint {path}: cannot be read ({first})") from error


def restore(state: TrainingState, values: dict[str, Any]) -> None:
    """Put a checkpoint's contents into a freshly built state of the same configuration."""
    state.model.load_state_dict(values["model"])
    state.detector_optimizer.load_state_dict(values["detector_optimizer"])
    state.descriptor_optimizer.load_state_dict(values["descriptor_optimizer"])
    state.generator.set_state(values["generator"])
    state.step = values["step"]
    state.best_score = values["best_score"]
