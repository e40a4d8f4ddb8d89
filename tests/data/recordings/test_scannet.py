"""ScanNet, written bit by bit as its format is documented."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.data.augment import GeometricConfig
from lfnet.data.frames import SequenceError
from lfnet.data.pair_sources import SequencePairs
from support.made_recordings import (
    COUNT,
    DEPTH_INTRINSICS,
    DEPTH_SIZE,
    INTRINSICS,
    SIZE,
    assert_on_the_plane,
    colour_from_depth,
    depths,
    four_by_four,
    millimetres,
    png_bytes,
    read_frames,
    render,
    world_from_camera,
    write_exported,
    write_png,
)


def sens_header(
    count: int,
    version: int = 4,
    colour_kind: int = 2,
    depth_kind: int = 1,
    colour_from_device: NDArray[np.float64] | None = None,
    depth_from_device: NDArray[np.float64] | None = None,
    colour: NDArray[np.float64] = INTRINSICS,
) -> bytes:
    sensor = b"StructureSensor"
    content = struct.pack("<IQ", version, len(sensor)) + sensor
    for matrix in (
        four_by_four(colour),
        np.eye(4) if colour_from_device is None else colour_from_device,
        four_by_four(DEPTH_INTRINSICS),
        np.eye(4) if depth_from_device is None else depth_from_device,
    ):
        content += struct.pack("<16f", *matrix.ravel())
    content += struct.pack("<ii", colour_kind, depth_kind) + struct.pack("<IIII", *SIZE, *DEPTH_SIZE)
    return content + struct.pack("<f", 1000.0) + struct.pack("<Q", count)


def sens_frame(
    index: int,
    colour_kind: int = 2,
    depth_kind: int = 1,
    lost: bool = False,
    colour_from_device: NDArray[np.float64] | None = None,
    depth_from_device: NDArray[np.float64] | None = None,
) -> bytes:
    device = world_from_camera(index)
    to_colour = np.eye(4) if colour_from_device is None else colour_from_device
    to_depth = np.eye(4) if depth_from_device is None else depth_from_device
    grey = render(device @ np.linalg.inv(to_colour), INTRINSICS, SIZE)[0]
    depth = millimetres(render(device @ np.linalg.inv(to_depth), DEPTH_INTRINSICS, DEPTH_SIZE)[1])
    rgb = np.repeat(grey[..., None], 3, 2)
    stream = io.BytesIO()
    if colour_kind == 0:
        stream.write(rgb.tobytes())
    elif colour_kind == 1:
        stream.write(png_bytes(rgb))
    else:
        Image.fromarray(rgb).save(stream, "JPEG", quality=95)
    colour = stream.getvalue()
    raw = depth.astype("<u2").tobytes()
    stored = zlib.compress(raw) if depth_kind == 1 else raw
    pose = np.full((4, 4), -np.inf) if lost else device
    times = (1000 * index, 1000 * index + 5)
    return struct.pack("<16f4Q", *pose.ravel(), *times, len(colour), len(stored)) + colour + stored


@pytest.mark.parametrize(("colour_kind", "depth_kind"), [(2, 1), (1, 0), (0, 1)])
def test_sens_files_are_read_in_place(colour_kind: int, depth_kind: int, tmp_path: Path) -> None:
    path = tmp_path / "scene0000_00.sens"
    content = sens_header(COUNT + 1, colour_kind=colour_kind, depth_kind=depth_kind)
    for index in range(COUNT + 1):
        content += sens_frame(index, colour_kind, depth_kind, lost=index == 1)
    path.write_bytes(content + struct.pack("<Q", 0))  # No frames of the inertial sensor follow.
    before = sorted(tmp_path.iterdir())
    found = read_frames(tmp_path)
    ending = "png" if colour_kind == 1 else "jpg"
    assert [frame.name for frame in found.frames] == [f"{index:06d}.{ending}" for index in (0, 2, 3, 4)]
    assert found.notes == ["1 of 5 frames have no pose: tracking was lost there"]
    assert (found.layout, found.image_root, found.folder) == ("scannet-sens", None, path)
    assert_on_the_plane(found.frames, off=0.003)
    assert len(read_frames(path).frames) == COUNT
    assert sorted(tmp_path.iterdir()) == before
    pairs = SequencePairs(tmp_path, GeometricConfig(), 48, gaps=(1,))
    assert len(pairs) == 3
    assert pairs.notes == found.notes
    path.with_name("scene0000_01.sens").write_bytes(content)
    with pytest.raises(SequenceError, match=r"expected one \.sens file, got 2"):
        read_frames(tmp_path)


def test_sens_files_with_extrinsics_have_depth_registered(tmp_path: Path) -> None:
    path = tmp_path / "scan.sens"
    depth_from_device = np.linalg.inv(colour_from_depth())
    device = np.eye(4)
    device[:3, 3] = [0.02, 0.01, 0.0]
    poses = {"colour_from_device": device, "depth_from_device": depth_from_device @ device}
    path.write_bytes(sens_header(2, **poses) + sens_frame(0, **poses) + sens_frame(1, **poses))
    assert_on_the_plane(read_frames(path).frames, off=0.003)


def test_errors_of_sens_files(tmp_path: Path) -> None:
    path = tmp_path / "scan.sens"
    header, frames = sens_header(3), [sens_frame(index) for index in range(3)]
    second = len(header) + len(frames[0])
    whole = header + b"".join(frames)
    for length in (second + 50, second + 400, second + len(frames[1]) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            SequenceError, match=rf"cut short in frame 1 of 3, which begins at byte {second}; .* {length} "
        ):
            read_frames(path)
    path.write_bytes(whole[:100])
    with pytest.raises(SequenceError, match="cut short in its header"):
        read_frames(path)
    bad_pose = struct.pack("<16f", *np.diag([2.0, 1, 1, 1]).ravel()) + frames[0][64:]
    empty = np.zeros((3, 3))
    for content, message in (
        (b"", "cut short in its header"),
        (struct.pack("<IQ", 4, 2**40) + bytes(200), "cut short in its header"),
        (sens_header(1, version=3) + frames[0], "expected version 4 of the .sens format, got 3"),
        (sens_header(1, depth_kind=2) + frames[0], "occi_ushort.*SensReader"),
        (sens_header(1, colour_kind=-1) + frames[0], "stored as -1"),
        (sens_header(1, colour=empty) + frames[0], "colour: expected 3x3 intrinsics"),
        (sens_header(1) + bad_pose, "frame 0: .*no rotation"),
        (sens_header(1) + sens_frame(0, lost=True), "none of 1 frames has a pose"),
    ):
        path.write_bytes(content)
        with pytest.raises(SequenceError, match=message):
            read_frames(path)
    start = len(header) + 96
    damaged = bytearray(whole)
    damaged[start : start + 20] = bytes(20)
    damaged[second - 200 : second] = bytes(200)
    path.write_bytes(damaged)
    frame = read_frames(path).frames[0]
    with pytest.raises(SequenceError, match=f"frame 0 at byte {start}: its picture is damaged"):
        frame.read_grey()
    with pytest.raises(SequenceError, match=f"frame 0 at byte {start}: expected 6400 bytes of depth, got"):
        depths(frame)


def test_exported_scans(tmp_path: Path) -> None:
    write_exported(tmp_path)
    found = read_frames(tmp_path)
    assert (found.layout, found.image_root) == ("scannet", tmp_path / "color")
    assert [frame.name for frame in found.frames] == ["0.jpg", "10.jpg", "20.jpg", "30.jpg"]
    assert_on_the_plane(found.frames, off=0.003)
    np.savetxt(tmp_path / "pose" / "10.txt", np.full((4, 4), -np.inf))
    found = read_frames(tmp_path)
    assert len(found.frames) == COUNT - 1
    assert found.notes == ["1 of 4 frames have no pose: tracking was lost there"]


def test_errors_of_exported_scans(tmp_path: Path) -> None:
    write_exported(tmp_path)
    pose = (tmp_path / "pose" / "20.txt").read_text()
    (tmp_path / "pose" / "20.txt").unlink()
    with pytest.raises(SequenceError, match="got 4, 4 and 3; frame 20 is not complete"):
        read_frames(tmp_path)
    (tmp_path / "pose" / "20.txt").write_text(pose.replace(pose.split()[0], "3.0", 1))
    with pytest.raises(SequenceError, match=r"20\.txt: .*no rotation"):
        read_frames(tmp_path)
    (tmp_path / "pose" / "20.txt").write_text("")
    with pytest.raises(SequenceError, match=r"20\.txt: expected \(4, 4\)"):
        read_frames(tmp_path)
    (tmp_path / "pose" / "20.txt").write_text(pose)
    # Pictures made smaller after the export no longer have these intrinsics.
    write_png(tmp_path / "color" / "0.jpg", np.zeros((30, 40), np.uint8))
    with pytest.raises(SequenceError, match=r"intrinsic_color\.txt: the principal point \(47, 36\.5\) lies outside"):
        read_frames(tmp_path)
    (tmp_path / "intrinsic" / "intrinsic_color.txt").unlink()
    with pytest.raises(SequenceError, match=r"intrinsic_color\.txt"):
        read_frames(tmp_path)
