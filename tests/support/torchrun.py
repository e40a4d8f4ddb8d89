"""Processes that `torchrun` starts, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from support.commands import REPOSITORY


def start_torchrun(
    environment: dict[str, str], words: Sequence[object], count: int = 2, restarts: int = 0
) -> subprocess.Popen[str]:
    """`torchrun` with so many processes of a script, or of a module (-m); stderr is with stdout."""
    options = ["--standalone", "--nproc-per-node", count, "--max-restarts", restarts, *words]
    paths = [environment["PYTHONPATH"], str(REPOSITORY / "tests")]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, options)],
        env={**environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
