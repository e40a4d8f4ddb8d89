"""Files of anybody, read whole: what is wrong with one is an error that names it, its cause and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lfnet.errors import UserError, one_line

MOST = 1 << 30
"""Bytes of the largest text that is read: a list of 10^7 pairs has half of them."""


def check_regular(path: str | Path, kind: type[UserError], what: str) -> None:
    """Refuse what is no file before it is opened: a pipe would wait for ever.

    Raises:
        UserError: of that kind; the path is missing, a folder, a device or a pipe.
    """
    path = Path(path)
    if path.is_file():
        return
    if "\0" in str(path) or not path.exists():
        raise kind(f"{path}: expected {what}, no such file; check the path")
    raise kind(f"{path}: expected {what}, is {'a folder' if path.is_dir() else 'a device or a pipe'}; name a file")


def read_text_file(path: str | Path, kind: type[UserError], what: str) -> str:
    """The text of a file in UTF-8, with or without a mark of byte order.

    Args:
        path: of the file.
        kind: of the error.
        what: was expected, as "a list of pairs".

    Raises:
        UserError: of that kind; the file is missing, no file, too large, or no text.
        PermissionError: it may not be read.
    """
    check_regular(path, kind, what)
    length = os.stat(path).st_size
    if length > MOST:
        raise kind(f"{path}: expected {what}, got {length} bytes, more than {MOST}; split it")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except PermissionError:
        raise
    except OSError as error:
        raise kind(f"{path}: expected {what}, can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise kind(f"{path}: expected {what}, and it is no text in UTF-8 (at byte {error.start})") from error
    if "\0" in text:
        raise kind(f"{path}: expected {what}, and it is no text (it has a zero byte)")
    return text


def read_json_file(path: str | Path, kind: type[UserError], what: str) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: of that kind; as `read_text_file`, or it is no JSON.
        PermissionError: it may not be read.
    """
    return parsed_json(read_text_file(path, kind, what), path, kind, what)


def parsed_json(text: str, path: str | Path, kind: type[UserError], what: str) -> Any:
    """What a JSON text of a file holds; arguments and errors as `read_json_file`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise kind(f"{path}: expected {what}, and it is no JSON ({one_line(error)})") from error
