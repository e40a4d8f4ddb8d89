"""Which layout a folder has, and what is said where it has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfnet.data.frames import SequenceError
from lfnet.data.layouts import LAYOUTS, detect_layout
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from support.made_recordings import INTRINSICS, SIZE, read_frames, write_exported, write_plain, write_seven_scenes


def test_a_folder_of_no_layout_names_what_each_expects(tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match="no such folder"):
        detect_layout(tmp_path / "missing")
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(SequenceError, match="no such folder"):
        detect_layout(tmp_path / "file.txt")
    with pytest.raises(SequenceError) as caught:
        read_frames(tmp_path)
    for name in LAYOUTS:
        assert f"{name}: " in str(caught.value)
    with pytest.raises(SequenceError, match="layout 'other': expected one of plain, 7-scenes, tum"):
        read_frames(tmp_path, "other")


def test_a_layout_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    write_plain(tmp_path)
    write_seven_scenes(tmp_path, INTRINSICS, SIZE)
    assert detect_layout(tmp_path) == "plain"
    assert read_frames(tmp_path, "7-scenes").frames[0].name == "frame-000000.color.png"


def test_evaluation_says_what_a_recording_lacks(tmp_path: Path) -> None:
    write_exported(tmp_path)
    np.savetxt(tmp_path / "pose" / "0.txt", np.full((4, 4), -np.inf))
    settings = DataSettings(gaps=(1,), min_overlap=0.0)
    assert "1 of 4 frames have no pose" in open_data(tmp_path, settings).skipped[0]
    (tmp_path / "intrinsic" / "intrinsic_color.txt").unlink()
    with pytest.raises(SequenceError, match=r"intrinsic_color\.txt: expected numbers of shape \(4, 4\)"):
        open_data(tmp_path, settings)
