"""A worker does as it is told, outlives what its process does not, and is killed where it takes too long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lfnet.app.worker import Worker, WorkerError
from lfnet.errors import UserError
from support.commands import linux_only


class Helper:
    """What the process runs."""

    def __init__(self, name: str) -> None:
        if name == "nobody":
            raise UserError("nobody: no such helper")
        self.name, self.calls = name, 0

    def greet(self, whom: str) -> str:
        self.calls += 1
        return f"{self.name} greets {whom}, call {self.calls}"

    def refuse(self) -> None:
        raise UserError("not today")

    def fail(self) -> None:
        raise KeyError("a bug")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def end(self) -> None:
        os._exit(3)

    def eat(self, megabytes: int) -> int:
        return len(bytearray(megabytes << 20))


@pytest.fixture(scope="module")
def helper() -> Iterator[Worker]:
    worker = Worker(Helper, ("Ada",), seconds=30, megabytes=2048)
    yield worker
    worker.stop()


def test_calls_keep_the_object_and_errors_come_through(helper: Worker) -> None:
    assert helper.call("greet", "you") == "Ada greets you, call 1"
    with pytest.raises(UserError, match=r"^not today$"):
        helper.call("refuse")
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        helper.call("fail")
    assert helper.call("greet", "us") == "Ada greets us, call 2", "the same process"


def test_what_nobody_wants_any_more_is_not_done(helper: Worker) -> None:
    def unwanted() -> None:
        raise UserError("not wanted")

    before = int(helper.call("greet", "a").rpartition(" ")[2])
    with pytest.raises(UserError, match="not wanted"):
        helper.call("greet", "b", wanted=unwanted)
    assert helper.call("greet", "c").endswith(f"call {before + 1}")


def test_a_process_that_ends_or_eats_too_much_is_replaced(helper: Worker) -> None:
    helper.call("greet", "you")
    before = helper.pid
    with pytest.raises(UserError, match="memory"):
        helper.call("eat", 4096)
    with pytest.raises(WorkerError, match="ended"):
        helper.call("end")
    assert helper.call("greet", "you").endswith("call 1")
    assert helper.pid != before


def test_a_call_that_takes_too_long_is_killed(helper: Worker) -> None:
    helper.call("greet", "you")
    helper.seconds = 0.2
    started, before = time.monotonic(), helper.pid
    with pytest.raises(WorkerError, match=r"longer than 0\.2 seconds"):
        helper.call("sleep", 3600)
    assert time.monotonic() - started < 60
    with pytest.raises(ProcessLookupError):
        os.kill(before or 0, 0)
    helper.seconds = 30


def test_what_cannot_be_made_says_why() -> None:
    worker = Worker(Helper, ("nobody",), seconds=30)
    with pytest.raises(UserError, match="nobody: no such helper"):
        worker.start()
    worker.stop()


def test_a_worker_that_was_stopped_starts_no_process_for_calls_that_waited() -> None:
    worker = Worker(Helper, ("Ada",), seconds=30)
    worker.stop()
    with pytest.raises(WorkerError, match="the server is ending"):
        worker.call("greet", "you")
    assert worker.pid is None


RESERVES = """
import mmap
from lfnet.app.worker import _limit
held = mmap.mmap(-1, 3 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
_limit(1024)
content = bytearray(256 << 20)
try:
    bytearray(2048 << 20)
except MemoryError:
    print("refused")
"""


@linux_only
def test_addresses_that_libraries_have_reserved_are_not_counted(user_environment: dict[str, str]) -> None:
    """They reserve some for each core: with many cores, more than a worker may have."""
    done = subprocess.run([sys.executable, "-c", RESERVES], env=user_environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")
