"""A short attack on every reader; `make soak` has a longer one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="bounds memory as Linux does")

COUNT = 30
"""Spoiled inputs of each reader."""


def test_spoiled_inputs_are_read_or_refused_in_a_line(user_environment: dict[str, str]) -> None:
    """No traceback, no hang beyond 10 s, no memory beyond 2 GB, and each refusal names the file."""
    script = Path(__file__).with_name("fuzz.py")
    command = [sys.executable, str(script), "--seed", "7", "--count", str(COUNT)]
    done = subprocess.run(command, env=user_environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f": {COUNT} inputs, 0 failures") >= 20
