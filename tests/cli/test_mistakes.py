"""Mistakes of users are one line, bugs of ours a traceback; and outputs are only what may be written."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lfnet.cli import info
from lfnet.cli.main import main
from lfnet.features import Features
from lfnet.file_matching import MatchSettings, match_feature_file
from lfnet.files.atomic import write_bytes
from lfnet.integrations import hloc
from lfnet.settings import ConfigError


@pytest.mark.parametrize("error", [TypeError, ValueError, OSError])
def test_a_bug_keeps_its_traceback(
    error: type[Exception], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> int:
        raise error("an inner matter")

    monkeypatch.setattr(info, "_installation", broken)
    assert main(["info"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "in broken" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("extract a -o f --max-kepoints 3", "unknown option --max-kepoints (did you mean --max-keypoints?)"),
        ("extract a", "Missing from lfnet extract: -o PATH, --output PATH"),
        ("extract a -o f --max-keypoints x", "--max-keypoints: invalid literal"),
        ("extract a -o f --min-score nan", "--min-score: expected"),
        ("extract a -o f --threads 0", "--threads: expected at least 1"),
        ("match a b --ratio nan", "--ratio: expected"),
        ("match a b --max-distance -1", "--max-distance: expected at least 0"),
        ("match a b --geometry homography --threshold nan", "--threshold: expected a number above 0"),
        ("match a b --threshold 5", "give --geometry too"),
        ("match a b --geometry essential --intrinsics 0 0 1 1", "--intrinsics: expected fx and fy above 0"),
        ("match a b --geometry fundamental --intrinsics 1 1 1 1", "--intrinsics are for --geometry essential"),
        ("match f.h5 --pairs p -o m.h5 --weights nosuch", "a features file is matched as it is"),
        ("info --names", "--names lists what is in an HDF5 file"),
        ("eval wun data", "unexpected word 'wun' (did you mean run?)"),
        ("train --stpes 3", "unknown option --stpes (did you mean --steps?)"),
    ],
)
def test_a_wrong_option_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert message in shown


def test_a_features_file_in_a_pictures_place_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    h5py.File(tmp_path / "f.h5", "w").close()
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    assert main(["match", str(tmp_path / "f.h5"), str(tmp_path / "a.png")]) == 2
    assert "f.h5: is a features file, not a picture" in capsys.readouterr().err


def test_the_module_runs_on_any_terminal_and_into_a_closed_pipe(user_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "lfnet", "extract", "--help"]
    narrow = subprocess.run(command, env={**user_environment, "PYTHONIOENCODING": "cp1252"}, capture_output=True)
    assert narrow.returncode == 0
    assert b"--max-keypoints" in narrow.stdout
    for words in (command, [*command[:3], "--help"]):
        read, write = os.pipe()
        os.close(read)
        closed = subprocess.run(words, env=user_environment, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert closed.returncode == 141
        assert closed.stderr == ""
    assert (resources.files("lfnet") / "py.typed").is_file()


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Features of pictures whose names hold spaces, dashes and slashes."""
    import h5py

    path = tmp_path / "f.h5"
    one = Features([[1, 2]], [1], [0], [1], np.eye(1, 4), (8, 8))
    with h5py.File(path, "w") as file:
        for name in ("a b.jpg", "c.jpg", "x/y.jpg", "x-y.jpg"):
            hloc.write_features(file, name, one)
    return path


def test_names_with_spaces_have_a_form(features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, output = tmp_path / "pairs.txt", tmp_path / "m.h5"
    for text in ('"a b.jpg" c.jpg\n', "a b.jpg\tc.jpg\n"):
        pairs.write_text(text)
        assert hloc.read_pairs(pairs) == [("a b.jpg", "c.jpg")]
        assert main(["match", str(features), "--pairs", str(pairs), "-o", str(output)]) == 0
    pairs.write_text("a b.jpg c.jpg\n")
    assert main(["match", str(features), "--pairs", str(pairs), "-o", str(output)]) == 1
    assert "double quotes or with a tab between" in capsys.readouterr().err


def test_pairs_of_one_name_are_found_before_the_matching(features: Path, tmp_path: Path) -> None:
    done: list[int] = []
    pairs = [("c.jpg", "x/y.jpg"), ("c.jpg", "x-y.jpg")]
    with pytest.raises(hloc.FeatureFileError, match="both are"):
        match_feature_file(features, pairs, tmp_path / "m.h5", MatchSettings(), progress=done.append)
    assert done == []


def test_outputs_that_are_no_files_are_refused(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, pipe, text = tmp_path / "p.txt", tmp_path / "pipe", tmp_path / "notes.txt"
    pairs.write_text("c.jpg c.jpg\n")
    text.write_text("mine")
    os.mkfifo(pipe)
    for output, code, message in (
        ("/dev/null", 2, "device or a pipe"), (pipe, 2, "device or a pipe"), (text, 1, "not an HDF5 file")
    ):  # fmt: skip
        assert main(["match", str(features), "--pairs", str(pairs), "-o", str(output)]) == code
        assert message in capsys.readouterr().err
    assert text.read_text() == "mine"
    assert pipe.is_fifo()
    with pytest.raises(OSError, match="device or a pipe"):
        write_bytes(pipe, b"x")


def test_a_linked_output_stays_a_link_and_keeps_its_mode(tmp_path: Path) -> None:
    file, link = tmp_path / "real" / "file", tmp_path / "link"
    file.parent.mkdir()
    file.write_bytes(b"old")
    file.chmod(0o640)
    link.symlink_to(file)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o640


def test_settings_of_matching_are_checked_at_once() -> None:
    with pytest.raises(ConfigError, match="needs intrinsics"):
        MatchSettings(geometry="essential")
