"""What `torchrun` starts in the tests: `worker.py train CONFIGS`, or `worker.py wait`.

CONFIGS is a JSON file of [settings, folder] entries: each is trained, and the losses of its steps go into the folder.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from lfnet.distributed.processes import LostProcessError, Processes, joined
from lfnet.training.config import build_config
from lfnet.training.loop import Progress, train

PATIENCE = 2.0
"""Seconds after which a process that doesn't answer is given up."""


def train_each(entries: list[tuple[dict, str]], processes: Processes) -> None:
    for settings, folder in entries:
        losses: list[dict[str, float]] = []

        def keep(progress: Progress, losses: list[dict[str, float]] = losses) -> None:
            losses.append(progress.losses)

        train(build_config(settings), Path(folder), progress=keep, say=lambda line: None, processes=processes)
        if processes.leads:
            (Path(folder) / "losses.json").write_text(json.dumps(losses), encoding="utf-8")


def main() -> None:
    patience = PATIENCE if sys.argv[1] == "wait" else 600
    with joined(torch.device("cpu"), timedelta(seconds=patience)) as processes:
        if sys.argv[1] == "train":
            train_each(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")), processes)
            return
        processes.total(torch.zeros(1))
        if not processes.leads:
            time.sleep(600)  # Alive, and silent.
        started = time.monotonic()
        try:
            processes.total(torch.zeros(1))
        except LostProcessError as error:
            print(f"gave up after {time.monotonic() - started:.0f} s: {error}", flush=True)
            raise


if __name__ == "__main__":
    main()
