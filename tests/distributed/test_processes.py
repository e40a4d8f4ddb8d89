"""Who joins, who is refused, and that nobody waits for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from lfnet.distributed.processes import ALONE, joined
from lfnet.errors import UserError
from support.torchrun import start_torchrun

WORKER = Path(__file__).with_name("worker.py")


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined(torch.device("cpu")) as processes:
        assert (processes.rank, processes.count, processes.leads, processes.launched) == (0, 1, True, False)
    values = torch.arange(3.0)
    ALONE.average([values])
    assert ALONE.total(values).tolist() == [0, 1, 2]
    assert ALONE.agree(7)


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [("cuda", 1, r"2 processes on 1 GPUs; --nproc-per-node 1"), ("cuda:1", 4, r"cuda:1: one GPU for 2 processes")],
)
def test_each_process_needs_a_gpu_of_its_own(
    device: str, gpus: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with pytest.raises(UserError, match=message), joined(torch.device(device)):
        pass


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_given_up(user_environment: dict[str, str]) -> None:
    started = time.monotonic()
    process = start_torchrun(user_environment, [WORKER, "wait"])
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "process 0 of 2: another process has ended, or did not answer in time" in said, said
    assert time.monotonic() - started < 300
