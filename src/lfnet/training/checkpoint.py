"""Checkpoints: everything that a run needs to go on as if it had never stopped, written in one step."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lfnet.errors import UserError
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
    """Draws the negatives; on the CPU."""
    step: int = 0
    """Steps done."""
    best_score: float = -1.0
    """Best validation score so far."""


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
