"""The training loop: batches in, checkpoints out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from lfnet.data.loader import PairLoader, build_sources, describe_sources
from lfnet.data.pair import Pair
from lfnet.errors import UserError
from lfnet.files.atomic import held, remove_leftovers
from lfnet.models.lfnet import LFNet
from lfnet.models.weights import describe_weights, save_weights
from lfnet.settings import ConfigError, config_to_dict
from lfnet.training.branches import StepResult, apply_gradients, two_branch_step
from lfnet.training.checkpoint import (
    CheckpointError,
    TrainingState,
    read_checkpoint,
    restore,
    save_checkpoint,
    save_tensors,
)
from lfnet.training.config import OptimizerConfig, TrainConfig
from lfnet.training.monitor import Monitor
from lfnet.training.validation import validate

LAST, BEST, WEIGHTS = "last.ckpt", "best.safetensors", "last.safetensors"


class TrainingError(UserError):
    """A run that cannot go on."""


@dataclass(frozen=True)
class Progress:
    """What a progress bar may show after a step."""

    step: int
    steps: int
    losses: dict[str, float]
    scores: dict[str, float]
    """Of the last validation."""


def train(
    config: TrainConfig,
    output: Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Run a training, or go on with one.

    Args:
        output: folder for checkpoints, weights, CSV, TensorBoard and pictures.
        resume: go on from `output`'s last checkpoint; [optimizer] and [validation] may have changed, nothing else.
        init: weights (name or path) to start from instead of random ones; they must have the same architecture.
        progress: called after every step.
        say: called with each line of news.

    Returns:
        Path of the best weights by validation score.

    Raises:
        TrainingError: if a loss is no longer finite (the batch is saved), or `output` holds another run.
        CheckpointError, ConfigError, WeightsError: if what to start from does not fit.
        OSError: another process trains in `output`, or the disk is full.
    """
    _refuse_other_run(output, resume)
    place = torch.device(device)
    state = new_state(config, place) if init is None else start_from(config, init, place)
    with held(output / LAST):
        _refuse_other_run(output, resume)  # Which may have ended just now.
        remove_leftovers(output / "*")
        if resume:
            _resume(state, config, output / LAST)
        return _run(state, config, output, place, resume, progress or (lambda news: None), say)


def _refuse_other_run(output: Path, resume: bool) -> None:
    if (output / LAST).exists() and not resume:
        raise TrainingError(f"{output}: holds a run already; go on with it by --resume, or name another folder")
    if resume and not (output / LAST).exists():
        raise CheckpointError(f"checkpoint {output / LAST}: no such file; start without --resume")


def _run(
    state: TrainingState,
    config: TrainConfig,
    output: Path,
    place: torch.device,
    resume: bool,
    progress: Callable[[Progress], None],
    say: Callable[[str], None],
) -> Path:
    if resume:
        say(f"resuming after step {state.step}")
        if state.step >= config.optimizer.steps:
            say(f"nothing to do: {state.step} steps are done, optimizer.steps is {config.optimizer.steps}")
    training, held_back = build_sources(config.data, str(place))
    sources = describe_sources(training)
    for line in sources:
        say(line)
    for line in describe_sources(held_back):
        say(f"validation on {line.replace('of steps', 'of pairs')}")
    loader = PairLoader(training, config.data.photometric, config.optimizer.batch, config.seed, place)
    validation = PairLoader(held_back, config.data.photometric, 1, config.seed, place)
    monitor = Monitor(output, state.step)
    if not monitor.has_tensorboard:
        say("no TensorBoard events: pip install 'lfnet[train]' for them; metrics.csv has the same values")
    scores: dict[str, float] = {}
    # A CPU step needs the cores itself; a GPU is fed by as many workers as half the cores.
    workers = 1 if place.type == "cpu" else max(1, (os.cpu_count() or 2) // 2)
    for step, batch in loader.iterate(state.step, config.optimizer.steps, 2 * workers, workers):
        for line in (*loader.news(), *validation.news()):
            say(line)
        result = train_step(state, config, batch.to(place), output)
        state.step = step + 1
        losses = {name: float(value.detach()) for name, value in result.losses.items()}
        progress(Progress(state.step, config.optimizer.steps, losses, scores))
        monitor.step(state.step, result, losses)
        if state.step % config.validation.every == 0 or state.step == config.optimizer.steps:
            scores = validate(state.model, validation, config.strategy, config.validation, place)
            monitor.validation(state.step, scores)
            monitor.pictures(state.step, batch, result)
            _keep(state, config, scores, sources, output)
            say(f"step {state.step}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    monitor.close()
    return output / BEST


def train_step(state: TrainingState, config: TrainConfig, batch: Pair, output: Path | None = None) -> StepResult:
    """One step of both optimisers on a batch.

    Raises:
        TrainingError: if a loss or a gradient is not finite; no weight is changed, and the batch is in
            `output`/failed_batch.pt.
    """
    state.model.train()
    if config.strategy.learns == "descriptor":
        state.model.detector.eval().requires_grad_(False)
    rate = learning_rate(config.optimizer, state.step)
    for optimizer in (state.detector_optimizer, state.descriptor_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = rate
    precision = getattr(torch, config.optimizer.precision)
    result = two_branch_step(state.model, batch, config.strategy, state.step, state.generator, precision)
    if not all(bool(torch.isfinite(value)) for value in result.losses.values()):
        _fail("loss", state, batch, result, output)
    apply_gradients(state.model, result)
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    if not bool(torch.isfinite(torch.stack([gradient.abs().sum() for gradient in gradients])).all()):
        _fail("gradient", state, batch, result, output)
    state.detector_optimizer.step()
    state.descriptor_optimizer.step()
    return result


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """The rate of a step, counted from 0."""
    rate = config.learning_rate
    if step < config.warmup:
        rate *= (step + 1) / config.warmup
    if config.schedule == "cosine":
        rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(step / max(config.steps, 1), 1)))
    return rate


def new_state(config: TrainConfig, device: torch.device) -> TrainingState:
    """A model with initial weights from the seed, and its optimisers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LFNet(config.model)
    model = model.to(device)
    return TrainingState(
        model,
        torch.optim.Adam(model.detector.parameters(), lr=config.optimizer.learning_rate),
        torch.optim.Adam(model.descriptor.parameters(), lr=config.optimizer.learning_rate),
        torch.Generator().manual_seed(config.seed),
    )


def start_from(config: TrainConfig, init: str | Path, device: torch.device) -> TrainingState:
    """A state with given weights; in a second stage, what these have not is as `new_state` makes it.

    Raises:
        ConfigError: if the weights are of another architecture; in a second stage, of another detector.
        WeightsError: if there are none.
    """
    state = new_state(config, device)
    weights = LFNet.from_pretrained(init)
    theirs, mine = weights.state_dict(), state.model.state_dict()
    if config.strategy.learns == "descriptor":
        fits = {name: tensor for name, tensor in theirs.items() if name in mine and tensor.shape == mine[name].shape}
        same = all(name in fits for name in mine if name.startswith("detector."))
    else:
        fits, same = theirs, weights.config == config.model
    if not same:
        raise ConfigError(
            f"init {init}: its architecture differs from the configuration's; "
            "leave the [model] table to the weights, or train from scratch"
        )
    state.model.load_state_dict({**mine, **fits})
    card = describe_weights(init)["card"]
    state.begun_from = {name: card[name] for name in ("name", "steps") if name in card}
    return state


def _resume(state: TrainingState, config: TrainConfig, path: Path) -> None:
    values, saved = read_checkpoint(path)
    for name in ("model", "strategy", "data", "seed"):
        if getattr(saved, name) != getattr(config, name):
            raise CheckpointError(f"checkpoint {path}: its settings [{name}] differ from those given; start a new run")
    restore(state, values, path)


def _keep(
    state: TrainingState, config: TrainConfig, scores: dict[str, float], sources: list[str], output: Path
) -> None:
    """Write the checkpoint last, so that what it counts as done is done.

    Raises:
        TrainingError: if the model has diverged; the checkpoint before stays as it is.
    """
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.model.state_dict().values()):
        raise TrainingError(
            f"step {state.step}: the model has diverged (weights or statistics are not finite); "
            "nothing of it is kept: resume with a lower optimizer.learning_rate"
        )
    validation = {name: round(value, 4) for name, value in scores.items()}
    data = list(config.card.data) or sources
    card = {**config_to_dict(config.card), "data": data, "steps": state.step, "validation": validation}
    if state.begun_from:
        card["begun_from"] = state.begun_from
    save_weights(output / WEIGHTS, state.model.config, state.model.state_dict(), card)
    score = scores.get("matching_score", 0.0)
    if score > state.best_score:
        state.best_score = score
        save_weights(output / BEST, state.model.config, state.model.state_dict(), card)
    save_checkpoint(output / LAST, state, config)


def _fail(what: str, state: TrainingState, batch: Pair, result: StepResult, output: Path | None) -> None:
    losses = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in result.losses.items())
    where = ""
    if output is not None:
        path = output / "failed_batch.pt"
        tensors = {"a": vars(batch.a), "b": vars(batch.b), "b_from_a": batch.b_from_a, "step": state.step}
        save_tensors(path, {**tensors, "model": state.model.state_dict()})
        where = f"; the batch and the model are in {path}"
    raise TrainingError(f"step {state.step}: a {what} is not finite ({losses}){where}")
