"""Clips that OpenCV made, read back; and clips that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.clips import ClipWriter, count_frames, frames_per_second, is_clip, read_frames
from lfnet.images import ImageError
from support.clips import turned_and_zoomed, write_clip


@pytest.fixture
def frames(coffee: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Seven frames of 300x200."""
    return turned_and_zoomed(coffee, 7, 60.0, 1.2)


def test_every_third_frame_is_that_of_the_clip(frames: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames, 12.0)
    assert count_frames(clip) == 7
    assert frames_per_second(clip) == pytest.approx(12.0)
    found = dict(read_frames(clip, 3))
    assert list(found) == [0, 3, 6]
    for number, frame in found.items():
        near, far = (np.abs(frame.astype(int) - frames[other]).mean() for other in (number, (number + 3) % 7))
        assert near < 8 < far


def test_what_is_written_is_read(frames: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "b.mp4", 10.0)
    for frame in frames:
        writer.add(frame)
    assert not (tmp_path / "b.mp4").exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]
    read = [frame for _, frame in read_frames(tmp_path / "b.mp4")]
    assert len(read) == 7
    # Red stays red.
    assert np.abs(read[0].mean((0, 1)) - frames[0].mean((0, 1))).max() < 4


def test_clips_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing" * 100)
    for name, message in (("a.mp4", "not a clip"), ("b.mp4", "no such file")):
        with pytest.raises(ImageError, match=message):
            list(read_frames(tmp_path / name))
    with pytest.raises(ImageError, match=r"end it in \.mp4"):
        ClipWriter(tmp_path / "a.txt", 25.0)
    with pytest.raises(ImageError, match="camera 87: can't be opened"):
        next(read_frames(87))


def test_clips_are_known_by_their_names() -> None:
    assert is_clip(Path("a.MP4"))
    assert not is_clip(Path("a.jpg"))


def test_a_clip_that_is_a_link_stays_one(frames: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.mp4").symlink_to(tmp_path / "elsewhere" / "b.mp4")
    writer = ClipWriter(tmp_path / "a.mp4", 10.0)
    writer.add(frames[0])
    writer.close()
    assert (tmp_path / "a.mp4").is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["b.mp4"]
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(OSError, match="is a device or a pipe"):
        ClipWriter(tmp_path / "pipe.mp4", 10.0)


def test_a_clip_that_is_given_up_leaves_the_one_before(frames: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"the one before")
    writer = ClipWriter(path, 25.0)
    writer.add(frames[0])
    writer.discard()
    assert path.read_bytes() == b"the one before"
    assert [each.name for each in tmp_path.iterdir()] == ["clip.mp4"]
