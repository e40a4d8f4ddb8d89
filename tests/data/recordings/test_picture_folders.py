"""Plain folders and 7-Scenes, written as their makers distribute them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfnet.data.frames import SequenceError
from lfnet.data.recordings.picture_folders import SEVEN_SCENES_INTRINSICS
from support.made_recordings import (
    COUNT,
    DEPTH_INTRINSICS,
    DEPTH_SIZE,
    INTRINSICS,
    SIZE,
    assert_on_the_plane,
    colour_from_depth,
    depths,
    millimetres,
    read_frames,
    render,
    world_from_camera,
    write_plain,
    write_png,
    write_seven_scenes,
)


def test_the_plain_layout(tmp_path: Path) -> None:
    write_plain(tmp_path)
    found = read_frames(tmp_path)
    assert (found.layout, found.image_root, found.depth_root) == ("plain", tmp_path / "images", tmp_path / "depth")
    assert [frame.name for frame in found.frames] == ["000.png", "001.png", "002.png", "003.png"]
    assert (found.folder, found.notes) == (tmp_path, [])
    assert_on_the_plane(found.frames)


def test_the_plain_layout_with_a_depth_camera_of_its_own(tmp_path: Path) -> None:
    write_plain(tmp_path)
    for index in range(COUNT):
        depth = render(world_from_camera(index) @ colour_from_depth(), DEPTH_INTRINSICS, DEPTH_SIZE)[1]
        write_png(tmp_path / "depth" / f"{index:03d}.png", millimetres(depth))
    with pytest.raises(SequenceError, match=r"64x50 beside a picture of 96x72.*depth\.K\.txt"):
        depths(read_frames(tmp_path).frames[0])
    np.savetxt(tmp_path / "colour_from_depth.txt", colour_from_depth())
    with pytest.raises(SequenceError, match=r"depth\.K\.txt"):
        read_frames(tmp_path)
    np.savetxt(tmp_path / "depth.K.txt", DEPTH_INTRINSICS)
    assert_on_the_plane(read_frames(tmp_path).frames, off=0.003)


def test_seven_scenes_as_distributed_has_default_intrinsics_and_says_so(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path / "seq-01", SEVEN_SCENES_INTRINSICS, (640, 480))
    found = read_frames(tmp_path / "seq-01")
    assert found.layout == "7-scenes"
    assert len(found.notes) == 1
    assert "beside the picture" in found.notes[0]
    assert found.frames[2].name == "frame-000002.color.png"
    assert_on_the_plane(found.frames[:2], known=0.99)
    with pytest.raises(SequenceError, match=r"holds 1 sequences; name one of them, as .*seq-01"):
        read_frames(tmp_path)


def test_seven_scenes_registers_depth_where_both_cameras_are_known(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path, INTRINSICS, SIZE, DEPTH_INTRINSICS, DEPTH_SIZE, colour_from_depth())
    with pytest.raises(SequenceError, match=r"pictures of 640x480, frame-000000\.color\.png has 96x72"):
        read_frames(tmp_path)
    np.savetxt(tmp_path / "colour.K.txt", INTRINSICS)
    with pytest.raises(SequenceError, match="64x50 beside a picture of 96x72"):
        depths(read_frames(tmp_path).frames[0])
    np.savetxt(tmp_path / "depth.K.txt", DEPTH_INTRINSICS)
    np.savetxt(tmp_path / "colour_from_depth.txt", colour_from_depth())
    found = read_frames(tmp_path)
    assert found.notes == []
    assert_on_the_plane(found.frames, off=0.003)
    (tmp_path / "colour_from_depth.txt").unlink()
    with pytest.raises(AssertionError):
        assert_on_the_plane(read_frames(tmp_path).frames, off=0.003)


def test_seven_scenes_with_one_calibration_is_registered_already(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path, INTRINSICS, SIZE)
    np.savetxt(tmp_path / "intrinsics.K.txt", INTRINSICS)
    assert_on_the_plane(read_frames(tmp_path).frames)
    np.savetxt(tmp_path / "other.K.txt", INTRINSICS)
    with pytest.raises(SequenceError, match=r"one file \*K\.txt.*intrinsics\.K\.txt, other\.K\.txt"):
        read_frames(tmp_path)
