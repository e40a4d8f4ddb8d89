"""Command lines into the dataclass of a command; whatever is wrong with one is said in one line."""

from __future__ import annotations

import difflib
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import dropwhile, takewhile
from typing import Any

import tyro

from lfnet.errors import UsageError, UserError, one_line

_WIDE = "10000"
"""Columns of a terminal on which tyro breaks no line."""


def parse(command: Any, program: str, words: Sequence[str]) -> Any:
    """Fill a command's dataclass from words.

    Args:
        command: the dataclass, or a union of those of its subcommands.
        program: "lfnet extract".
        words: the command line after that.

    Returns:
        The dataclass, filled.

    Raises:
        UsageError: an unknown option, a missing one, or a value that can't be meant.
        SystemExit: with code 0, once the help that was asked for is printed.
    """
    if {"-h", "--help"} & set(words):
        return _tyro(command, program, words)
    complaint = io.StringIO()
    try:
        with _unbroken_lines(), redirect_stderr(complaint):
            return _tyro(command, program, words)
    except UserError as error:
        raise UsageError(_with_option(str(error), _known(command, program, words))) from error
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_explained(complaint.getvalue(), _known(command, program, words))) from None


def _tyro(command: Any, program: str, words: Sequence[str]) -> Any:
    return tyro.cli(command, prog=program, args=words, config=(tyro.conf.FlagCreatePairsOff,))


@contextmanager
def _unbroken_lines() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDE
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _known(command: Any, program: str, words: Sequence[str]) -> set[str]:
    """Options and subcommands that fit where the command line went wrong: those of its help."""
    text = io.StringIO()
    with _unbroken_lines(), redirect_stdout(text), redirect_stderr(io.StringIO()):
        try:
            _tyro(command, program, [*words, "--help"])
        except (SystemExit, UserError):
            pass
    options = re.findall(r"(?<![\w-])--?[a-z][\w.-]*", text.getvalue())
    return {*options, *re.findall(r"• ([a-z]+)  ", text.getvalue())}


def _explained(complaint: str, known: set[str]) -> str:
    """tyro's box, of which the first section is what is wrong, in one line."""
    rows = [row.strip("│ ") for row in complaint.splitlines()[1:]]
    if found := re.search(r"Unrecognized (?:or misplaced )?options:\s*([^\s,]+)", " ".join(rows)):
        word = found.group(1)
        kind = f"unknown option {word}" if word.startswith("-") else f"unexpected word {word!r}"
        near = difflib.get_close_matches(word.partition("=")[0], sorted(known), 1)
        return kind + (f" (did you mean {near[0]}?)" if near else "")
    rule = re.compile("[─-]{3,}").match
    first = takewhile(lambda row: not rule(row), dropwhile(rule, rows))
    message = one_line(" ".join(first)).rstrip(".")
    return _with_option(re.sub(r"^Error parsing (?:\S+: (?=[\w.]+: )|task\.)?", "", message), known)


def _with_option(message: str, known: set[str]) -> str:
    """A message that begins with the place of a setting, with its option instead."""
    place, colon, rest = message.partition(": ")
    parts = place.replace("_", "-").split(".")
    options = ["--" + ".".join(parts[start:]) for start in range(len(parts))]
    return next((f"{option}: {rest}" for option in options if colon and option in known), message)
