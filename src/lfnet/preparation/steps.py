"""A scene in the making: each step is done once, resumes when it was stopped, and is repeated on other settings.

What each step was asked is kept in `work/steps.json` as a key: its settings, its inputs, and the keys of the steps it
needs. A step is fresh where its key is the one recorded as done and its outputs are there. Files of a step are written
whole or not at all, so that the process may be killed anywhere.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfnet.errors import UserError
from lfnet.files.atomic import write_bytes
from lfnet.files.reading import read_json_file
from lfnet.progress import Say

WORK = "work"
"""Folder of a scene for what only its making needs."""
RECORD = "steps.json"
"""In it: what was done."""
LOG = "colmap.log"
"""In it: what COLMAP says."""


class PreparationError(UserError):
    """Data that no scene can be made of; the message is one line with the remedy."""


@dataclass(frozen=True)
class Step:
    """One step of a preparation."""

    name: str
    settings: Mapping[str, Any]
    """All that decides what it makes beside what it needs, in types that JSON has."""
    outputs: tuple[Path, ...]
    """Files and folders that are there once it is done."""
    run: Callable[[], dict[str, Any]]
    """Does it, or resumes it, and returns what is worth keeping of it, in types that JSON has."""
    needs: tuple[str, ...] = ()
    """Names of earlier steps whose outputs it reads."""


class Record:
    """What is known of the steps of one scene, kept on disk.

    Args:
        scene: its folder.
    """

    def __init__(self, scene: Path) -> None:
        self._path = scene / WORK / RECORD
        found = read_json_file(self._path, PreparationError, "a record of steps") if self._path.exists() else {}
        if not isinstance(found, dict) or not all(isinstance(step, dict) for step in found.values()):
            raise PreparationError(f"{self._path}: damaged (no table of steps); remove {scene} and start again")
        self._steps: dict[str, Any] = found

    def knows(self, name: str) -> bool:
        """Whether a step was ever begun."""
        return name in self._steps

    def is_begun(self, name: str, key: str) -> bool:
        """Whether a step was begun with this key, and perhaps finished."""
        return self._steps.get(name, {}).get("key") == key

    def is_done(self, name: str, key: str) -> bool:
        """Whether a step was finished with this key."""
        return self.is_begun(name, key) and bool(self._steps[name].get("done"))

    def reopen(self, names: Collection[str]) -> None:
        """Note that steps are to be gone on with, so that a kill before their turn comes doesn't leave them done."""
        for name in names:
            if name in self._steps:
                self._steps[name]["done"] = False
        self._write()

    def begin(self, step: Step, key: str) -> None:
        """Note that a step is under way, and clear away what other settings made; an interrupted one resumes."""
        if not (self.is_begun(step.name, key) and self._steps[step.name]["cleared"]):
            self._steps[step.name] = {"key": key, "done": False, "cleared": False, "seconds": 0.0}
            self._write()
            for path in step.outputs:
                remove(path)
        self._steps[step.name].update(done=False, cleared=True)
        self._write()

    def finish(self, name: str, result: dict[str, Any]) -> None:
        """Note that a step is done."""
        self._steps[name].update(done=True, result=result)
        self._write()

    def add_time(self, name: str, seconds: float) -> None:
        """Note time spent in a step, for good once the record is next written."""
        self._steps[name]["seconds"] = round(self._steps[name]["seconds"] + seconds, 2)

    def result(self, name: str) -> dict[str, Any]:
        """What a finished step returned."""
        return self._steps[name]["result"]

    def seconds(self) -> dict[str, float]:
        """Seconds that each step took."""
        return {name: entry["seconds"] for name, entry in self._steps.items()}

    def _write(self) -> None:
        write_bytes(self._path, (json.dumps(self._steps, indent=1) + "\n").encode())


def run_steps(
    scene: Path,
    steps: Sequence[Step],
    record: Record,
    say: Say,
    stale: Callable[[], None],
    missing: Sequence[Path] = (),
) -> bool:
    """Do the steps that are not fresh, and those that they need the outputs of.

    Args:
        scene: folder of the scene.
        steps: in order; a step needs only earlier ones.
        record: of this scene.
        say: told what is done again, and why.
        stale: called before anything is changed, to take back the claim that the scene is finished.
        missing: files known to be gone from folders that steps made; these steps go on.

    Returns:
        Whether anything was done.

    Raises:
        Exception: whatever a step raises; what it finished is kept.
    """
    keys = _keys(steps)
    due = _due(steps, keys, record, scene / WORK, missing)
    if due:
        record.reopen(due)  # First: `missing` is known from what `stale` takes away.
        stale()
    for step in steps:
        if step.name in due:
            _run_step(step, keys[step.name], record, say)
    return bool(due)


def _run_step(step: Step, key: str, record: Record, say: Say) -> None:
    if record.knows(step.name) and not record.is_begun(step.name, key):
        say(f"{step.name}: settings or inputs changed, done again")
    record.begin(step, key)
    start = time.monotonic()
    try:
        result = step.run()
    except BaseException:
        record.add_time(step.name, time.monotonic() - start)
        record.reopen([step.name])
        raise
    record.add_time(step.name, time.monotonic() - start)
    record.finish(step.name, result)


def _keys(steps: Sequence[Step]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for step in steps:
        asked = {"settings": step.settings, "needs": {name: keys[name] for name in step.needs}}
        keys[step.name] = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    return keys


def _due(
    steps: Sequence[Step], keys: Mapping[str, str], record: Record, work: Path, missing: Sequence[Path]
) -> set[str]:
    """Steps not done with this key, or whose outputs are missing though a due step, or the scene, wants them."""
    due: set[str] = set()
    wanted: set[str] = {steps[-1].name}
    for step in reversed(steps):
        there = all(path.exists() for path in step.outputs)
        there &= not any(path.is_relative_to(output) for path in missing for output in step.outputs)
        inside_work = all(path.is_relative_to(work) for path in step.outputs)
        if not record.is_done(step.name, keys[step.name]) or (
            not there and (step.name in wanted or not inside_work)
        ):
            due.add(step.name)
            wanted.update(step.needs)
    return due


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def describe_files(folder: Path, names: Sequence[str]) -> str:
    """A digest of files by name, size and time of change: cheap, and enough to see that inputs changed."""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = (folder / name).stat()
        except FileNotFoundError:  # A broken link.
            digest.update(f"{name}\0missing\n".encode())
        else:
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def shortened(names: Sequence[str], shown: int = 8) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
