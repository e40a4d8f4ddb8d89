"""The training loop: batches in, checkpoints out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lfnet.data.loader import PairLoader, build_sources, describe_sources
from lfnet.data.pair import Pair
from lfnet.distributed.batch_norm import freeze, statistics, synchronise
from lfnet.distributed.processes import ALONE, Processes
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
from lfnet.training.draws import Draws
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
    processes: Processes = ALONE,
) -> Path:
    """Run a training, or go on with one.

    Args:
        output: folder for checkpoints, weights, CSV, TensorBoard and pictures.
        resume: go on from `output`'s last checkpoint; [optimizer] and [validation] may have changed, nothing else.
        init: weights (name or path) to start from instead of random ones; they must have the same architecture, or for
            a second stage (`strategy.learns`), which needs them, the same detector.
        progress: called after every step.
        say: called with each line of news.
        processes: that train together; the one that leads validates, writes and reports.

    Returns:
        Path of the best weights by validation score.

    Raises:
        TrainingError: if a loss is no longer finite (the batch is saved), or `output` holds another run.
        CheckpointError, ConfigError, WeightsError: if what to start from does not fit.
        OSError: another run trains in `output`, or the disk is full.
        LostProcessError: another process of this run ended, or does not answer.
    """
    indices = own_indices(config.optimizer, processes)
    tell = say if processes.leads else lambda line: None
    if resume and processes.launched and not (output / LAST).exists():
        tell(f"{output}: no checkpoint to resume from yet; starting")
        resume = False
    if config.strategy.learns == "descriptor" and init is None and not resume:
        raise ConfigError('strategy.learns: "descriptor" leaves the detector as it is; name trained weights by --init')
    _refuse_other_run(output, resume)
    place = torch.device(device)
    state = new_state(config, place) if init is None else start_from(config, init, place)
    with held(output / LAST) if processes.leads else nullcontext():
        _begin(state, config, output, resume, tell, processes)
        return _run(state, config, output, place, indices, progress or (lambda news: None), say, processes)


def _begin(
    state: TrainingState,
    config: TrainConfig,
    output: Path,
    resume: bool,
    say: Callable[[str], None],
    processes: Processes,
) -> None:
    """Bring the state to where it goes on, the same in each process."""
    _refuse_other_run(output, resume)  # Which may have ended just now.
    if processes.leads:
        remove_leftovers(output / "*")
    if resume:
        _resume(state, config, output / LAST, say)
    if not processes.agree(state.step):
        raise TrainingError(f"{output}: processes would begin at different steps; all machines must see one folder")
    if config.optimizer.batch_norm == "synchronised" and processes.count > 1:
        synchronise(state.model, processes)


def own_indices(config: OptimizerConfig, processes: Processes) -> list[int]:
    """Which of a step's samples a process draws: its part of each batch, one batch after the other.

    Raises:
        ConfigError: the batch has no equal parts.
    """
    size, left = divmod(config.batch, processes.count)
    if left:
        raise ConfigError(
            f"optimizer.batch: {config.batch} pairs cannot be shared by {processes.count} processes equally; "
            f"expected a multiple, as --batch {processes.count}"
        )
    starts = [batch * config.batch + processes.rank * size for batch in range(config.accumulate)]
    return [start + index for start in starts for index in range(size)]


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
    indices: Sequence[int],
    progress: Callable[[Progress], None],
    say: Callable[[str], None],
    processes: Processes,
) -> Path:
    training, held_back = build_sources(config.data, str(place))
    sources = describe_sources(training)
    validated = [f"validation on {line.replace('of steps', 'of pairs')}" for line in describe_sources(held_back)]
    for line in (*sources, *validated) if processes.leads else ():
        say(line)
    optimizer = config.optimizer
    loader = PairLoader(training, config.data.photometric, optimizer.batch, config.seed, place, indices)
    validation = PairLoader(held_back, config.data.photometric, 1, config.seed, place)
    monitor = Monitor(output, state.step) if processes.leads else None
    if monitor is not None and not monitor.has_tensorboard:
        say("no TensorBoard events: pip install 'lfnet[train]' for them; metrics.csv has the same values")
    scores: dict[str, float] = {}
    # A CPU step needs the cores itself; a GPU is fed by as many workers as half the cores.
    workers = 1 if place.type == "cpu" else max(1, (os.cpu_count() or 2) // 2 // processes.here)
    for step, batch in loader.iterate(state.step, optimizer.steps, 2 * workers, workers):
        for line in (*loader.news(), *validation.news()):
            say(line)
        result = train_step(state, config, batch.to(place), output, processes)
        state.step = step + 1
        due = state.step % config.validation.every == 0 or state.step == optimizer.steps
        if due and optimizer.batch_norm == "own":
            processes.average(statistics(state.model))
        if monitor is None:
            continue
        losses = {name: float(value.detach()) for name, value in result.losses.items()}
        progress(Progress(state.step, optimizer.steps, losses, scores))
        monitor.step(state.step, result, losses)
        if due:
            scores = validate(state.model, validation, config.strategy, config.validation, place)
            monitor.validation(state.step, scores)
            monitor.pictures(state.step, batch, result)
            _keep(state, config, scores, sources, output)
            say(f"step {state.step}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    if monitor is not None:
        monitor.close()
    return output / BEST


def train_step(
    state: TrainingState,
    config: TrainConfig,
    batch: Pair,
    output: Path | None = None,
    processes: Processes = ALONE,
) -> StepResult:
    """One step of both optimisers.

    Args:
        batch: this process's pairs, of `optimizer.accumulate` batches one after the other.
        output: folder that a batch which fails is kept in.
        processes: that share the step.

    Returns:
        What is seen in the last batch, and the losses, averaged over batches and processes.

    Raises:
        TrainingError: if a loss or a gradient is not finite; no weight is changed, and the batch is in
            `output`/failed_batch.pt.
        LostProcessError: another process ended, or does not answer.
    """
    _set_modes(state.model, config)
    rate = learning_rate(config.optimizer, state.step)
    for optimizer in (state.detector_optimizer, state.descriptor_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = rate
    state.model.zero_grad()
    draws = Draws(state.generator, processes.rank, processes.count)
    *earlier, last = batch.split(config.optimizer.accumulate)
    losses = [add_gradients(state, config, part, draws, output, processes).losses for part in earlier]
    result = add_gradients(state, config, last, draws, output, processes)
    losses.append(result.losses)
    learning = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
    if processes.count > 1:  # Messages have the same length in each process, whatever its pairs reach.
        for parameter in learning:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    gradients = [parameter.grad for parameter in learning if parameter.grad is not None]
    own_are_finite = _finite(gradients)
    processes.average(gradients)
    if not _finite(gradients):
        _fail("gradient", state, batch, result, None if own_are_finite else output, processes)
    state.detector_optimizer.step()
    state.descriptor_optimizer.step()
    means = {name: torch.stack([each[name] for each in losses]).mean() for name in result.losses}
    return result._replace(losses=means)


def _set_modes(model: LFNet, config: TrainConfig) -> None:
    model.train()
    if config.optimizer.batch_norm == "frozen":
        freeze(model)
    if config.strategy.learns == "descriptor":
        model.detector.eval().requires_grad_(False)


def add_gradients(
    state: TrainingState,
    config: TrainConfig,
    batch: Pair,
    draws: Draws,
    output: Path | None,
    processes: Processes,
) -> StepResult:
    """The two-branch step on one of a step's batches; its share of the mean gradient is added to what is there.

    Returns:
        What this process saw, and the losses, averaged over processes.

    Raises:
        TrainingError, LostProcessError: as `train_step`.
    """
    precision = getattr(torch, config.optimizer.precision)
    result = two_branch_step(state.model, batch, config.strategy, state.step, draws, precision)
    losses = {name: value.detach().clone() for name, value in result.losses.items()}
    own_are_finite = _finite(list(losses.values()))
    processes.average(list(losses.values()))
    result = result._replace(losses=losses)
    # Before the gradients: those of a warp that is not finite read outside the images.
    if not _finite(list(losses.values())):
        _fail("loss", state, batch, result, None if own_are_finite else output, processes)
    before = [parameter.grad for parameter in state.model.parameters()]
    apply_gradients(state.model, result)
    for parameter, sum_before in zip(state.model.parameters(), before, strict=True):
        if parameter.grad is not None:
            parameter.grad = parameter.grad / config.optimizer.accumulate
        if sum_before is not None:
            parameter.grad = sum_before if parameter.grad is None else sum_before + parameter.grad
    return result


def _finite(values: Sequence[Tensor]) -> bool:
    return bool(torch.isfinite(torch.stack([each.abs().sum() for each in values])).all())


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
        # What the same tensors compute is decided by settings too.
        given, wanted = weights.config, config.model
        same &= (given.detector, given.scale_space) == (wanted.detector, wanted.scale_space)
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


def _resume(state: TrainingState, config: TrainConfig, path: Path, say: Callable[[str], None]) -> None:
    values, saved = read_checkpoint(path)
    for name in ("model", "strategy", "data", "seed"):
        if getattr(saved, name) != getattr(config, name):
            raise CheckpointError(f"checkpoint {path}: its settings [{name}] differ from those given; start a new run")
    restore(state, values, path)
    say(f"resuming after step {state.step}")
    if state.step >= config.optimizer.steps:
        say(f"nothing to do: {state.step} steps are done, optimizer.steps is {config.optimizer.steps}")


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


def _fail(
    what: str, state: TrainingState, batch: Pair, result: StepResult, output: Path | None, processes: Processes
) -> None:
    losses = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in result.losses.items())
    where = ""
    if output is not None:
        path = output / ("failed_batch.pt" if processes.leads else f"failed_batch_{processes.rank}.pt")
        tensors = {"a": vars(batch.a), "b": vars(batch.b), "b_from_a": batch.b_from_a, "step": state.step}
        save_tensors(path, {**tensors, "model": state.model.state_dict()})
        where = f"; the batch and the model are in {path}"
    raise TrainingError(f"step {state.step}: a {what} is not finite ({losses}){where}")
