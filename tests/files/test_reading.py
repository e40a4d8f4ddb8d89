"""What is wrong with a file is said with its name, before a pipe is waited for or a large text is held."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfnet.errors import UserError
from lfnet.files.reading import read_json_file, read_text_file
from lfnet.integrations.hloc import read_pairs
from lfnet.training.config import read_config


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"\xff\xfe", "no text in UTF-8"), (b"a\0b", "zero byte"), (b"[" * 100_000, "no JSON"), (b"{", "no JSON")],
)
def test_texts_that_are_none_are_named(content: bytes, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json_file(path, UserError, "a record")
    assert str(path) in str(caught.value)
    assert cause in str(caught.value)


@pytest.mark.parametrize("read", [read_pairs, read_config, lambda path: read_text_file(path, UserError, "a text")])
def test_pipes_folders_and_nothing_are_refused_at_once(read: Callable[[Path], Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, cause in ((tmp_path / "pipe", "a device or a pipe"), (tmp_path, "a folder"), (tmp_path / "x", "no such")):
        with pytest.raises(UserError, match=cause):
            read(path)


@pytest.mark.parametrize(
    "text", ["[optimizer]\nsteps = 0", "sed = 3", "a = 2000-13-01", "=", "seed = [[[", "a = " + "[" * 9000]
)
def test_messages_on_toml_have_the_files_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"train\.toml"):
        read_config(path)
