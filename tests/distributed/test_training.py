"""Training by several processes: the losses of one, killed and resumed, on another number of processes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lfnet.data.augment import GeometricConfig
from lfnet.data.loader import DataConfig
from lfnet.data.pair_sources import PicturePairs
from lfnet.distributed.processes import Processes
from lfnet.settings import ConfigError, config_to_dict
from lfnet.training.checkpoint import read_checkpoint
from lfnet.training.config import OptimizerConfig, TrainConfig, ValidationConfig
from lfnet.training.loop import Progress, TrainingError, new_state, own_indices, train, train_step
from support.commands import linux_only
from support.networks import STRATEGY, tiny_config
from support.torchrun import start_torchrun

WORKER = Path(__file__).with_name("worker.py")
STEPS = 3
STILL = GeometricConfig(rotation=0.0, zoom=1.0, resolution=(1.0, 1.0), perspective=0.0)
"""Both views are of one place at one size, so that every keypoint of one is seen in the other."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, camera: NDArray[np.uint8]) -> TrainConfig:
    """Two pairs a step; every one of the few keypoints counts, in both pairs."""
    pictures = tmp_path_factory.mktemp("pictures")
    Image.fromarray(camera).save(pictures / "camera.png")
    return TrainConfig(
        model=tiny_config(),
        strategy=dataclasses.replace(STRATEGY, keypoints=8),
        data=DataConfig(pictures=(str(pictures),), render_share=0.0, size=96, geometry=STILL),
        # Adam divides by the size of a gradient, so that noise in a tiny one moves a weight by the whole rate.
        optimizer=OptimizerConfig(steps=STEPS, batch=2, learning_rate=1e-5),
        validation=ValidationConfig(every=STEPS, pairs=1, keypoints=16),
    )


soaked = pytest.mark.skipif(
    "LFNET_SOAK" not in os.environ, reason="restarted processes may wait for each other for ever: make soak"
)


def changed(config: TrainConfig, **optimizer: Any) -> TrainConfig:
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, **optimizer))


def by_one(config: TrainConfig, output: Path) -> list[dict[str, float]]:
    losses: list[dict[str, float]] = []

    def keep(progress: Progress) -> None:
        losses.append(progress.losses)

    train(config, output, progress=keep, say=lambda line: None)
    return losses


def by_two(config: dict[str, TrainConfig], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """The losses of several runs, each by two processes."""
    entries = [[config_to_dict(each), str(folder / name)] for name, each in config.items()]
    (folder / "configs.json").write_text(json.dumps(entries), encoding="utf-8")
    process = start_torchrun(environment, [WORKER, "train", folder / "configs.json"])
    said = finish(process)
    assert process.returncode == 0, said
    return {name: json.loads((folder / name / "losses.json").read_text(encoding="utf-8")) for name in config}


def finish(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=900)[0]
    finally:
        process.kill()


def assert_same_losses(first: list[dict[str, float]], second: list[dict[str, float]]) -> None:
    assert len(first) == len(second) == STEPS
    for mine, theirs in zip(first, second, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def mean_gradients(optimizer: dict[str, Any]) -> torch.Tensor:
    """What Adam keeps of the gradients of all steps."""
    return torch.cat([moments["exp_avg"].flatten() for moments in optimizer["state"].values()])


def test_the_samples_of_a_step_are_dealt_out_once() -> None:
    optimizer = OptimizerConfig(batch=6, accumulate=2)
    dealt = [own_indices(optimizer, Processes(rank, 3)) for rank in range(3)]
    assert dealt == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert own_indices(optimizer, Processes()) == list(range(12))
    with pytest.raises(ConfigError, match=r"6 pairs cannot be shared by 4 processes.*--batch 4"):
        own_indices(optimizer, Processes(0, 4))


class Unlike(Processes):
    """A process whose others have values that are not finite, and begin elsewhere."""

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        for tensor in tensors:
            tensor.fill_(torch.nan)

    def agree(self, number: int) -> bool:
        return False


def test_values_of_another_process_that_are_not_finite_end_this_one(
    config: TrainConfig, tmp_path: Path, camera: NDArray[np.uint8]
) -> None:
    """It keeps no batch: its own is not to blame."""
    state = new_state(config, torch.device("cpu"))
    before = [parameter.clone() for parameter in state.model.parameters()]
    pair = PicturePairs([camera], GeometricConfig(), 96).sample(torch.Generator().manual_seed(0))
    with pytest.raises(TrainingError, match="step 0: a loss is not finite"):
        train_step(state, config, pair, tmp_path, Unlike(0, 2))
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(old, new) for old, new in zip(before, state.model.parameters(), strict=True))


def test_processes_that_begin_at_different_steps_are_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="different steps; all machines must see one folder"):
        train(config, tmp_path, processes=Unlike(0, 2), say=lambda line: None)


@soaked
def test_two_processes_with_a_pair_each_have_the_losses_of_one_with_two(
    config: TrainConfig, tmp_path: Path, user_environment: dict[str, str]
) -> None:
    """With statistics of all pairs, and with frozen ones; with statistics of its own each process has others."""
    kinds = {kind: changed(config, batch_norm=kind) for kind in ("synchronised", "frozen", "own")}
    two = by_two(kinds, tmp_path, user_environment)
    one = {kind: by_one(kinds[kind], tmp_path / f"{kind}_by_one") for kind in ("synchronised", "frozen")}
    assert_same_losses(two["frozen"], one["frozen"])
    assert_same_losses(two["synchronised"], one["synchronised"])
    assert two["own"][0] != pytest.approx(one["synchronised"][0], rel=1e-3, abs=1e-5)
    for kind in one:
        mine, theirs = (read_checkpoint(tmp_path / name / "last.ckpt")[0] for name in (kind, f"{kind}_by_one"))
        assert torch.equal(mine["generator"], theirs["generator"])
        for name in ("detector_optimizer", "descriptor_optimizer"):
            first, second = (mean_gradients(each[name]) for each in (mine, theirs))
            torch.testing.assert_close(first, second, rtol=0, atol=1e-3 * float(second.abs().max()))


@soaked
def test_batches_one_after_the_other_are_batches_side_by_side(
    config: TrainConfig, tmp_path: Path, user_environment: dict[str, str]
) -> None:
    """Also where pairs have different numbers of correspondences, since both take the mean of means."""
    turned = dataclasses.replace(
        changed(config, batch_norm="frozen"),
        strategy=dataclasses.replace(STRATEGY, anneal_negatives=False),
        data=dataclasses.replace(config.data, geometry=GeometricConfig()),
    )
    two = by_two({"side_by_side": turned}, tmp_path, user_environment)["side_by_side"]
    one = by_one(changed(turned, batch=1, accumulate=2), tmp_path / "in_turn")
    assert_same_losses(two, one)
    whole = by_one(turned, tmp_path / "whole")
    assert whole[0]["image"] == pytest.approx(one[0]["image"], rel=1e-4)


def worker_with_rank(parent: int, rank: int) -> int | None:
    """The number of the child of `torchrun` that has a rank."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and f"\nPPid:\t{parent}\n" in (folder / "status").read_text():
                if f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    return int(folder.name)
        except OSError:
            continue
    return None


def command(config: TrainConfig, output: Path) -> list[object]:
    data, strategy, model = config.data, config.strategy, config_to_dict(config.model)
    tables = {"model": model, "strategy": {"keypoints": strategy.keypoints, "mask_reach": strategy.mask_reach}}
    settings = [f"{table}.{name}={json.dumps(value)}" for table in tables for name, value in tables[table].items()]
    settings += ["data.render_share=0", "validation.every=10", "validation.pairs=1", "optimizer.precision=float32"]
    words = ["-m", "lfnet", "train", "--pictures", *data.pictures, "--size", data.size, "--batch", 2, "-o", output]
    return [*words, "--steps", 30, "--threads", 1, "--device", "cpu", "--resume", "--set", *settings]


def kill_one_after_the_first_checkpoint(process: subprocess.Popen[str], output: Path) -> int:
    """Kill rank 1.

    Returns:
        The number of the other process, rank 0.
    """
    deadline = time.monotonic() + 600
    while not (output / "last.ckpt").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no checkpoint to kill after: {process.communicate()[0]}")
        time.sleep(0.02)
    other, number = (worker_with_rank(process.pid, rank) for rank in (0, 1))
    assert other is not None
    assert number is not None
    os.kill(number, signal.SIGKILL)
    return other


@linux_only
@soaked
def test_a_killed_process_ends_the_run_and_the_next_start_goes_on(
    config: TrainConfig, tmp_path: Path, user_environment: dict[str, str]
) -> None:
    """First by the restart of `torchrun`, then, from the same checkpoint, by one process alone."""
    output = tmp_path / "run"
    process = start_torchrun(user_environment, command(config, output), restarts=1)
    kill_one_after_the_first_checkpoint(process, output)
    said = finish(process)
    assert process.returncode == 0, said
    assert said.count("no checkpoint to resume from yet; starting") == 1, said
    assert said.count("resuming after step") == 1, said
    assert said.count("best weights") == 1, said
    whole = tmp_path / "whole"
    undisturbed = start_torchrun(user_environment, command(config, whole))
    assert "resuming" not in finish(undisturbed)
    assert (output / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in whole.iterdir())
    mine, theirs = (read_checkpoint(folder / "last.ckpt")[0] for folder in (output, whole))
    assert mine["step"] == 30
    assert all(torch.equal(values, theirs["model"][name]) for name, values in mine["model"].items())

    saved = read_checkpoint(output / "last.ckpt")[1]
    news: list[str] = []
    train(changed(saved, steps=31), output, resume=True, say=news.append)
    assert news[0] == "resuming after step 30"
    assert read_checkpoint(output / "last.ckpt")[0]["step"] == 31


@linux_only
@soaked
def test_without_restarts_a_killed_process_ends_the_run(
    config: TrainConfig, tmp_path: Path, user_environment: dict[str, str]
) -> None:
    output = tmp_path / "run"
    process = start_torchrun(user_environment, command(config, output))
    other = kill_one_after_the_first_checkpoint(process, output)
    said = finish(process)
    assert process.returncode != 0
    assert "best weights" not in said
    assert not Path(f"/proc/{other}").exists()
    assert read_checkpoint(output / "last.ckpt")[0]["step"] in (10, 20)
