"""A process that does one thing after another for this one, and that is killed where it takes too long or too much."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lfnet.errors import UserError, one_line

START_SECONDS = 600.0
"""Longest that a worker may take to import and load what it needs."""


class WorkerError(UserError):
    """What a worker was asked for was not done in time, or ended it; the next call starts a new one."""


class Worker:
    """Calls methods of an object that lives in another process, one call at a time.

    Args:
        make: a function or class of a module, called there with `arguments`, whose result is the object.
        arguments: of `make`.
        seconds: longest that a call may take before the process is killed.
        megabytes: of address space that the process may take beyond what its libraries have, where the system can hold
            it to that; None: any.
    """

    def __init__(
        self, make: Callable[..., Any], arguments: tuple[Any, ...], seconds: float, megabytes: int | None = None
    ) -> None:
        self.seconds = seconds
        self._task = (make, arguments, megabytes)
        self._lock = threading.Lock()
        self._running: tuple[Any, Connection] | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the process now, and not at the first call.

        Raises:
            UserError: the object can't be made; the message says why.
        """
        with self._lock:
            self._stopped = False
            self._connection()

    def call(self, method: str, *arguments: Any, wanted: Callable[[], None] | None = None) -> Any:
        """What the object's method returns; arguments and result are pickled on the way.

        Args:
            method: of the object.
            arguments: of the method.
            wanted: called once it is this call's turn, and when it is done; raises where nobody wants it any more.

        Raises:
            UserError: as the method raised it, by its message.
            WorkerError: the call took longer than `seconds`, or the process ended.
            RuntimeError: the method failed by a bug; the message has the traceback.
        """
        with self._lock:
            if wanted is not None:
                wanted()
            answer = self._answer(self._connection(), (method, arguments), self.seconds)
        if wanted is not None:
            wanted()
        return answer

    def stop(self) -> None:
        """End the process, whatever it is doing; calls that wait are refused, and start no other."""
        self._stopped = True
        self._end()

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        return None if self._running is None else self._running[0].pid

    def _end(self) -> None:
        if self._running is not None:
            process, connection = self._running
            self._running = None
            process.kill()
            process.join()
            connection.close()

    def _connection(self) -> Connection:
        if self._running is not None and self._running[0].is_alive():
            return self._running[1]
        self._end()
        if self._stopped:
            raise WorkerError("the server is ending; start it again")
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self._running = (process, ours)
        self._answer(ours, self._task, START_SECONDS)
        return ours

    def _answer(self, connection: Connection, request: object, seconds: float) -> Any:
        try:
            connection.send(request)
            if not connection.poll(seconds):
                self._end()
                raise WorkerError(f"took longer than {seconds:g} seconds; try a smaller image")
            kind, answer = connection.recv()
        except (EOFError, OSError) as error:
            self._end()
            raise WorkerError("the process that worked on it ended; try a smaller image") from error
        if kind == "refused":
            raise UserError(answer)
        if kind == "failed":
            raise RuntimeError(answer)
        return answer


def _serve(connection: Connection) -> None:
    """What the process does: make the object, then answer calls until the other end is closed."""
    target: Any = None
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            request = connection.recv()
            try:
                if target is None:
                    make, arguments, megabytes = request
                    _limit(megabytes)
                    target = make(*arguments)
                    answer = None
                else:
                    method, arguments = request
                    answer = getattr(target, method)(*arguments)
                connection.send(("done", answer))
            except UserError as error:
                connection.send(("refused", one_line(error)))
            except MemoryError:
                connection.send(("refused", "needs more memory than it may have; try a smaller image"))
            except Exception:
                connection.send(("failed", traceback.format_exc()))


def _limit(megabytes: int | None) -> None:
    if megabytes is not None:
        # Windows has no such limits, and macOS does not keep this one.
        with suppress(ImportError, ValueError, OSError):
            import resource

            # With many cores, libraries reserve gigabytes of addresses that they never use.
            reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            most = reserved + (megabytes << 20)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
