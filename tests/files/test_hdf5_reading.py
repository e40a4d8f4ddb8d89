"""HDF5 files that are locked, damaged, or lead to other files are one line each, and none hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.files import hdf5_reading
from lfnet.files.hdf5_reading import (
    find_group,
    has,
    is_hdf5,
    open_hdf5,
    read_array,
    read_numbers,
    read_text,
    read_texts,
    write_text,
)
from lfnet.integrations import hloc

HOLDS = "import h5py,sys,time; file = h5py.File(sys.argv[1], 'a'); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small file with a group, numbers and a text."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a/b/numbers"] = [1.0, 2.0]
        write_text(file, "note", "grüße")
    return tmp_path / "f.h5"


@pytest.fixture
def writer(path: Path) -> Iterator[subprocess.Popen]:
    """Another process that writes the file."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_locked_file_is_not_called_damaged(path: Path, writer: subprocess.Popen) -> None:
    with pytest.raises(UserError) as caught, open_hdf5(path):
        pass
    said = str(caught.value)
    assert f"{path}: locked: " in said
    assert "damaged" not in said
    assert "again (" in said
    if Path("/proc/locks").exists():
        assert f"process {writer.pid} (" in said


LEAVES_OPEN = """
import h5py, os, sys
file = h5py.File(sys.argv[1], "w", libver="latest")
file["numbers"] = [1.0]
file.flush()
os.kill(os.getpid(), 9)
"""


def test_a_file_that_a_killed_program_left_marked_as_open_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    subprocess.run([sys.executable, "-c", LEAVES_OPEN, str(path)], check=False)
    with pytest.raises(UserError, match=r"f\.h5: marked as open: .*h5clear -s") as caught, open_hdf5(path):
        pass
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(900)])
def test_what_is_no_hdf5_is_said(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"f\.h5: not an HDF5 file, or damaged"), open_hdf5(path):
        pass


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_hdf5(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a device or a pipe"), open_hdf5(tmp_path / "pipe"):
        pass


def test_signatures_are_found_where_the_format_allows_them(tmp_path: Path, path: Path) -> None:
    with h5py.File(tmp_path / "later.h5", "w", userblock_size=1024) as file:
        file["x"] = 1
    (tmp_path / "text").write_text("text" * 400)
    assert is_hdf5(path)
    assert is_hdf5(tmp_path / "later.h5")
    assert not is_hdf5(tmp_path / "text")
    assert not is_hdf5(tmp_path / "missing")


def test_what_is_in_a_group_that_is_not_there_is_not_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_group("a/b")
        assert has(file, "a/b")
        assert not has(file, "a/c")
        assert not has(file, "c/b")


@pytest.mark.parametrize("alias", ["./a/b", "/a/b", "a//b", "a/b/", "a/./b", "", "a/b/numbers", "a/c", "a\0/b"])
def test_a_group_has_one_name(alias: str, path: Path) -> None:
    with open_hdf5(path) as file:
        assert find_group(file, "a/b") is not None
        assert find_group(file, alias) is None


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A file whose numbers lie in other files, in every way that HDF5 has."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["group/numbers"] = [7.0]
    layout = h5py.VirtualLayout((1,), np.float64)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "group/numbers", (1,))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("external", (64,), np.uint8, external=[(str(secret), 0, 64)])
        file.create_virtual_dataset("virtual", layout)
        file["outer"] = h5py.ExternalLink("other.h5", "group")
        file["linked"] = h5py.ExternalLink("other.h5", "group/numbers")
        file["soft"] = h5py.SoftLink("/linked")
    return tmp_path / "f.h5"


@pytest.mark.parametrize("name", ["external", "virtual", "linked", "soft"])
def test_numbers_of_other_files_are_refused(name: str, elsewhere: Path) -> None:
    with open_hdf5(elsewhere) as file, pytest.raises(UserError) as caught:
        read_array(file, name)
    assert f"{elsewhere}: '{name}'" in str(caught.value)
    assert "the file" in str(caught.value) or "into this one" in str(caught.value)


def test_groups_of_other_files_are_refused(elsewhere: Path) -> None:
    with open_hdf5(elsewhere) as file, pytest.raises(UserError, match="link to another file"):
        find_group(file, "outer")


def test_declared_sizes_are_not_believed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("numbers", (1 << 40,), np.float32, chunks=(1 << 10,))
        file.create_dataset("packed", data=np.zeros(1 << 20), compression="gzip", compression_opts=9)
        file.create_dataset("words", data=["a"])
    with open_hdf5(tmp_path / "f.h5") as file:
        with pytest.raises(UserError, match="declares 4398046511104 bytes"):
            read_array(file, "numbers")
        assert not read_array(file, "packed").any()
        with pytest.raises(UserError, match="'words' is no data set of numbers"):
            read_array(file, "words")
        with pytest.raises(UserError, match="no data set 'missing'"):
            read_array(file, "missing")


def test_texts_come_back_with_any_length(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["older"] = "as earlier versions wrote it"
        write_text(file, "rows", ["a", "bcd"])
        file.create_dataset("images", data=["x.jpg", "y.jpg"], dtype=h5py.string_dtype())
        file.attrs["number"] = 3
    with open_hdf5(path) as file:
        assert read_text(file, "note") == "grüße"
        assert read_text(file, "older") == "as earlier versions wrote it"
        assert read_text(file, "number") is None
        assert read_text(file, "missing") is None
        places = [("/", "rows"), ("images", None), ("a", None), ("missing", None)]
        assert read_texts(file, places) == [["a", "bcd"], ["x.jpg", "y.jpg"], None, None]
        assert read_numbers(file, "number") == 3
        with pytest.raises(UserError, match="attribute 'note' is no number"):
            read_numbers(file, "note")


def test_texts_that_loop_for_ever_are_stopped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HDF5 does with one flipped byte in its heap of strings: it never comes back, and hears no signal of ours."""
    with h5py.File(path, "a") as file:
        file.attrs["settings"] = "{}"
    monkeypatch.setattr(hdf5_reading, "_READ_TEXTS", "while True: pass")
    monkeypatch.setattr(hdf5_reading, "PATIENCE", 0.5)
    started = time.monotonic()
    with open_hdf5(path) as file, pytest.raises(UserError, match=r"f\.h5: its texts are damaged \(they can't be read"):
        read_text(file, "settings")
    assert time.monotonic() - started < 10


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")
def test_our_own_files_have_no_strings_of_variable_length(tmp_path: Path) -> None:
    """So that nothing in them can loop: the heap that such strings lie in is not there."""
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        hloc.describe_frame(file)
        write_text(file, "settings", "{}")
        hloc.write_features(file, "a/b.jpg", Features([[1, 2]], [1], [0], [1], np.eye(1, 4), (8, 8)))
    assert b"GCOL" not in path.read_bytes()


def test_texts_are_read_by_no_code_of_the_folder_that_lfnet_was_started_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["settings"] = "{}"
    for name in ("h5py", "json"):
        (path.parent / f"{name}.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(path.parent)
    with open_hdf5(path) as file:
        assert read_text(file, "settings") == "{}"
