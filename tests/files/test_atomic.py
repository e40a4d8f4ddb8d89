"""Locks that hold, and what killed processes left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lfnet.files.atomic import held, write_bytes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs locks of POSIX")

KILLED = """
import os, signal, sys
from lfnet.files.atomic import held, replacing

with held(sys.argv[1]), replacing(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lock_whose_file_was_removed_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the lock's file and locking it, its holder may end and remove it."""
    import fcntl

    path, lock = tmp_path / "f", tmp_path / ".f.lock"
    flock, tries = fcntl.flock, []

    def late(file: int, how: int) -> None:
        if not tries:
            lock.unlink()
        tries.append(file)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with held(path):
        assert len(tries) == 2
        assert lock.exists()
        with pytest.raises(BlockingIOError, match="another process is writing it"), held(path):
            pass
        assert lock.exists()
    assert not lock.exists()


def test_what_a_killed_process_left_goes_with_the_next_run(tmp_path: Path, user_environment: dict[str, str]) -> None:
    path = tmp_path / "f"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=user_environment)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    others = [tmp_path / f".f.{os.getppid()}.tmp", tmp_path / ".g.999999999.tmp", tmp_path / ".f.notes.tmp"]
    for other in others:
        other.touch()  # Of a process that runs, of another file, and of somebody else.
    with held(path):
        write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])
