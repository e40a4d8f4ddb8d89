"""TUM RGB-D, written as its tools document it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfnet.coordinates import Size
from lfnet.data.frames import SequenceError
from lfnet.data.recordings.tum import CAMERAS, Lens, associate
from support.made_recordings import (
    COUNT,
    INTRINSICS,
    SIZE,
    assert_on_the_plane,
    depths,
    millimetres,
    quaternion,
    read_frames,
    render,
    world_from_camera,
    write_png,
)

START = 1305031102.0


def write_tum(folder: Path, lens: Lens, size: Size, count: int = COUNT) -> None:
    """Pictures every second, depth 15 ms later, poses every 16 ms, so that those of the pictures lie between two."""
    folder.mkdir(parents=True)
    lists = {"rgb": ["# color images", "# timestamp filename"], "depth": ["# depth maps", "# timestamp filename"]}
    for index in range(count):
        grey, depth = render(world_from_camera(index), lens.intrinsics, size, lens.distortion)
        for name, time, pixels in (
            ("rgb", START + index, np.repeat(grey[..., None], 3, 2)),
            ("depth", START + index + 0.015, millimetres(depth, 5000)),
        ):
            write_png(folder / name / f"{time:.6f}.png", pixels)
            lists[name].append(f"{time:.6f} {name}/{time:.6f}.png")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    lines = ["# ground truth trajectory", "# timestamp tx ty tz qx qy qz qw"]
    for time in np.arange(-0.1, count, 0.016) + 0.005:
        pose = world_from_camera(time)
        values = [*pose[:3, 3], *quaternion(pose[:3, :3])]
        lines.append(f"{START + time:.4f} " + " ".join(f"{value:.6f}" for value in values))
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")


def test_tum_associates_by_time_and_interpolates_poses(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    write_tum(folder, Lens(INTRINSICS), SIZE)
    with pytest.raises(SequenceError, match=r"freiburg1, freiburg2 and freiburg3.*K\.txt"):
        read_frames(folder)
    np.savetxt(folder / "K.txt", INTRINSICS)
    found = read_frames(folder)
    assert found.layout == "tum"
    assert found.notes == []
    assert [frame.name for frame in found.frames] == [f"rgb/{START + index:.6f}.png" for index in range(COUNT)]
    assert found.image_root == folder
    for index, frame in enumerate(found.frames):
        np.testing.assert_allclose(frame.camera_from_world, np.linalg.inv(world_from_camera(index)), atol=1e-5)
    assert_on_the_plane(found.frames)


@pytest.mark.parametrize("number", ["1", "2", "3"])
def test_tum_cameras_are_known_by_name_and_their_distortion_is_undone(number: str, tmp_path: Path) -> None:
    lens = Lens.of(CAMERAS[number])
    folder = tmp_path / f"rgbd_dataset_freiburg{number}_desk"
    write_tum(folder, lens, (640, 480), 2)
    found = read_frames(folder)
    assert found.frames[0].distortion == lens.distortion
    assert len(lens.distortion) == (0 if number == "3" else 5)
    assert_on_the_plane(found.frames, off=0.001, unlike=0.01)
    if lens.distortion:
        np.savetxt(folder / "K.txt", lens.intrinsics)  # Given by the user, without the distortion.
        with pytest.raises(AssertionError):
            assert_on_the_plane(read_frames(folder).frames, off=0.001, unlike=0.01)
        (folder / "K.txt").unlink()
        (folder / "camera.txt").write_text(" ".join(map(str, CAMERAS[number])))
        assert_on_the_plane(read_frames(folder).frames, off=0.001, unlike=0.01)


def test_time_stamps_pair_up_nearest_first_and_once() -> None:
    first = np.array([0.000, 0.033, 0.066, 0.500])
    second = np.array([0.045, 0.018, 0.530, 0.068])
    # 0.066-0.068, then 0.033-0.045; 0.000-0.018 is what is left, and 0.500 has none.
    assert associate(first, second) == [(0, 1), (1, 0), (2, 3)]
    assert associate(first, second, 0.015) == [(1, 0), (2, 3)]
    # Both are near 0.010; the nearer one has it.
    assert associate(np.array([0.0, 0.012]), np.array([0.010])) == [(1, 0)]
    assert associate(np.array([0.0]), np.array([1.0])) == []


def test_errors_of_tum(tmp_path: Path) -> None:
    folder = tmp_path / "fr3_short"
    write_tum(folder, Lens(INTRINSICS), SIZE)
    with pytest.raises(SequenceError, match=r"principal point \(320\.1, 247\.6\) lies outside of a picture of 96x72"):
        read_frames(folder)
    np.savetxt(folder / "K.txt", INTRINSICS)
    lines = (folder / "groundtruth.txt").read_text().splitlines()
    words = lines[3].split()
    for value in ("0.5", "nan"):
        row = " ".join([*words[:4], value, *words[5:]])
        (folder / "groundtruth.txt").write_text("\n".join([*lines[:3], row, *lines[4:]]))
        note = read_frames(folder).notes[0]
        assert note.startswith(f"left out: 1 of {len(lines) - 2} poses have no unit quaternion and finite place")
    (folder / "groundtruth.txt").write_text("\n".join([*lines[:2], *[row] * 2, *lines[4:6]]))
    with pytest.raises(SequenceError, match=r"2 of 4 poses have no unit quaternion.*order of their numbers"):
        read_frames(folder)
    for wrong, message in (
        (words[:6], "line 4: expected 'time tx"),
        ([*words[:4], "x", *words[5:]], "could not convert"),
    ):
        (folder / "groundtruth.txt").write_text("\n".join([*lines[:3], " ".join(wrong), *lines[4:]]))
        with pytest.raises(SequenceError, match=message):
            read_frames(folder)
    # Poses of the first second only: frames 1 and later have none; of frame 0, the nearest one is left.
    near = [line for line in lines[2:] if float(line.split()[0]) < START]
    (folder / "groundtruth.txt").write_text("\n".join(near))
    found = read_frames(folder)
    assert len(found.frames) == 1
    assert found.notes == ["3 of 4 pictures with depth have no pose within 0.02 s"]
    (folder / "groundtruth.txt").write_text("# nothing\n")
    with pytest.raises(SequenceError, match="no picture has both"):
        read_frames(folder)
    (folder / "groundtruth.txt").unlink()
    with pytest.raises(SequenceError, match=r"groundtruth\.txt: expected a table of a TUM sequence, no such file"):
        read_frames(folder)
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    write_png(folder / "depth" / f"{START + 0.015:.6f}.png", np.full((36, 48), 5000, np.uint16))
    with pytest.raises(SequenceError, match="48x36 beside a picture of 96x72"):
        depths(read_frames(folder).frames[0])
    (folder / "rgb.txt").write_text("# nothing\n")
    with pytest.raises(SequenceError, match=r"rgb\.txt: expected a line"):
        read_frames(folder)
