"""pycolmap (extra `sfm`) in a process of its own, so that neither its zlib nor its crashes reach this one."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lfnet.errors import UserError
from lfnet.progress import Counter, repeated

LAST_LINES = 3
"""Lines of COLMAP's own log that an error repeats."""


class PycolmapError(UserError, RuntimeError):
    """pycolmap is missing, or failed: the message is one line with the cause and the log's place."""


def has_pycolmap() -> bool:
    """Whether pycolmap is installed; it is not imported."""
    return find_spec("pycolmap") is not None


def run_pycolmap(task: str, log: Path, progress: Counter | None = None, **values: Any) -> dict[str, Any]:
    """Do a task of `pycolmap_worker` in a new process, and wait for it.

    Args:
        task: name of a function of the worker.
        log: file that COLMAP's own messages are added to; its folder must be there.
        progress: called as the task advances.
        values: what the task wants, in types that JSON has.

    Returns:
        Everything that the task reported.

    Raises:
        PycolmapError: pycolmap is not installed, or the task failed or crashed.
        OSError: the log can't be written.
    """
    if not has_pycolmap():
        raise PycolmapError("structure from motion needs pycolmap: pip install 'lfnet[sfm]'")
    result: dict[str, Any] = {}
    with log.open("ab") as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "lfnet.integrations.pycolmap_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            text=True,
        )
        with process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps({"task": task, **values}) + "\n")
                process.stdin.flush()  # And left open: the process ends when this end is closed, as by our own end.
                for line in process.stdout:
                    news = json.loads(line)
                    if progress is not None and "progress" in news:
                        progress(news["progress"], news["total"])
                    result.update(news)
            except BaseException:
                process.kill()
                raise
    if "error" in result:
        raise PycolmapError(f"{task}: {result['error']}; COLMAP's messages are in {log}")
    if not result.get("done"):
        raise PycolmapError(f"{task}: pycolmap ended with code {process.returncode}{_last_lines(log)}")
    return result


@contextmanager
def counting_pairs(database: Path, expected: int, progress: Counter, seconds: float = 1.0) -> Iterator[None]:
    """Report how many pairs a database holds again and again while the block lasts.

    From this process, never from pycolmap's: two copies of SQLite in one process take each other's locks on a database
    away, and the one's write-ahead log with it.

    Args:
        database: that another process writes to.
        expected: number of pairs that will be there in the end, at most.
        progress: called with the number so far, and the expected one.
        seconds: between two looks.
    """
    def look() -> None:
        try:
            with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
                (pairs,) = connection.execute("SELECT COUNT(*) FROM two_view_geometries").fetchone()
        except sqlite3.Error:
            return  # Being written to: the next look will tell.
        progress(min(pairs, expected), expected)

    with repeated(look, seconds):
        yield


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
    return f"; the end of {log}: {' | '.join(line.strip() for line in lines)}" if lines else ""
