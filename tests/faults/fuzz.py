"""Mutates inputs of every reader and looks for tracebacks, hangs and greed: `python tests/faults/fuzz.py --count N`.

Each input is read in a process that a signal ends after ten seconds, however deep it is in C, and that has no more
than two gigabytes above what the libraries take. A failure is made again by its reader, seed and number.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lfnet.errors import UserError

SECONDS = 10
MEMORY = 2 << 30
TOKENS = (b"", b"nan", b"-1", b"1e400", b"\0", b"9" * 20, b"[" * 5000, b"{}", b"null", b'"x"', b"\xff\xfe")
"""That take the place of words of a text."""


@dataclass(frozen=True)
class Case:
    """A reader, and the sound input that is spoiled for it."""

    read: Callable[[Path], Any]
    """Takes the path of the file, beside which the others of the sound input are."""
    name: str
    """Of the file that is spoiled."""
    files: dict[str, bytes]
    """All of the sound input, by name."""


@dataclass(frozen=True)
class Failure:
    reader: str
    seed: int
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.reader} --seed {self.seed} --only {self.number}: {self.what}"


def mutated(content: bytes, seed: int, number: int) -> bytes:
    """The content with something changed: bits, bytes, words, length."""
    rng = np.random.default_rng((seed, number))
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(0, max(len(data), 1)))
        kind = int(rng.integers(0, 7))
        if kind == 0 and data:
            data[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and data:
            data[place] = int(rng.choice([0, 255, 127, int(rng.integers(0, 256))]))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + int(rng.integers(1, 40))]
        elif kind == 4:
            data[place:place] = data[int(rng.integers(0, len(data) + 1)) :][:64]
        elif kind == 5:
            data[place : place + 4] = int(rng.choice([0, 1, 2**31 - 1, 2**32 - 1])).to_bytes(4, "little")
        else:
            words = bytes(data).split(b" ")
            words[int(rng.integers(0, len(words)))] = TOKENS[int(rng.integers(0, len(TOKENS)))]
            data = bytearray(b" ".join(words))
    return bytes(data)


def attack(name: str, case: Case, seed: int, numbers: range) -> list[Failure]:
    """Failures of one reader; a process that dies is followed by another that goes on behind it."""
    failures, start = [], numbers.start
    while start < numbers.stop:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _attack_here(case, seed, range(start, numbers.stop), writing)
        os.close(writing)
        last = start - 1
        with os.fdopen(reading, encoding="utf-8") as news:
            for line in news:
                last, what = json.loads(line)
                if what:
                    failures.append(Failure(name, seed, last, what))
        _, status = os.waitpid(child, 0)
        if status:
            died = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"
            what = f"no end within {SECONDS} s" if died == "SIGALRM" else f"the process died: {died}"
            failures.append(Failure(name, seed, last + 1, what))
            start = last + 2
        else:
            start = numbers.stop
    return failures


def _attack_here(case: Case, seed: int, numbers: range, news: int) -> None:
    """Read spoiled inputs one after another, and never come back."""
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # Ends the process even within C.
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        for number in numbers:
            with tempfile.TemporaryDirectory() as folder:
                what = _spoiled_and_read(Path(folder), case, seed, number)
            os.write(news, (json.dumps([number, what]) + "\n").encode())
        code = 0
    finally:
        os._exit(code)


def _spoiled_and_read(folder: Path, case: Case, seed: int, number: int) -> str:
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(mutated(content, seed, number) if name == case.name else content)
    signal.alarm(SECONDS)
    try:
        case.read(folder / case.name)
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and not error.filename:
            return f"OSError without a file: {error}"
        return "" if str(folder) in str(error) else f"the file is not named: {error}"
    except MemoryError as error:
        return f"MemoryError: {error}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"[:300]
    finally:
        signal.alarm(0)
    return ""


def main() -> int:
    """Attack all readers, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000, help="inputs of each reader")
    parser.add_argument("--reader", default="")
    parser.add_argument("--only", type=int, default=None, help="one input, by its number")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    cases = importlib.import_module("faults.cases").make_cases()
    if options.list:
        print("\n".join(cases))
        return 0
    numbers = range(options.count) if options.only is None else range(options.only, options.only + 1)
    found: list[Failure] = []
    for name, case in cases.items():
        if options.reader in ("", name):
            failures = attack(name, case, options.seed, numbers)
            print(f"{name}: {len(numbers)} inputs, {len(failures)} failures", flush=True)
            found += failures
    print("\n".join(map(str, found)))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
