"""Recordings become frames, and errors of theirs name the cause."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lfnet.data.augment import (
    GeometricConfig,
)
from lfnet.data.frames import SequenceError, fill_pinholes, read_view
from lfnet.data.layouts import read_frames
from lfnet.data.pair import Pair
from lfnet.data.pair_sources import SequencePairs
from support.textured_plane import (
    HEIGHT,
    INTRINSICS,
    WIDTH,
    assert_photo_consistent,
    draw_frame,
    world_from_camera,
)


@pytest.mark.parametrize("layout", ["plain", "seven_scenes"])
def test_sequences_are_read(layout: str, request: pytest.FixtureRequest) -> None:
    frames = read_frames(request.getfixturevalue(layout)).frames
    assert len(frames) == 4
    views = [read_view(frame) for frame in frames]
    for index, view in enumerate(views):
        picture, depth = draw_frame(index)
        assert view.size == (HEIGHT, WIDTH)
        np.testing.assert_allclose(view.image[0, 0].numpy(), picture / 255, atol=1e-6)
        assert view.depth is not None
        # A hole of many pixels stays one, but for its corner, which five known pixels surround.
        assert bool((view.depth[..., :5, :7] == 0).all())
        np.testing.assert_allclose(view.depth[0, 0, 6:].numpy(), depth[6:], atol=6e-4)
        np.testing.assert_allclose(view.intrinsics[0].numpy(), INTRINSICS, rtol=1e-6)
        np.testing.assert_allclose(
            view.camera_from_world[0].numpy(), np.linalg.inv(world_from_camera(index)), atol=1e-6
        )
    # Pose, depth and intrinsics fit together: what one camera saw, the other one did.
    assert_photo_consistent(Pair(views[0], views[2]), 0.01, 0.3)


def test_pinholes_are_filled_on_surfaces_and_nowhere_else() -> None:
    """A plane is linear in inverse depth, so the mean of the pixels around is exact on it."""
    _, depth = draw_frame(1)
    exact = depth.astype(np.float32)
    holed = exact.copy()
    holed[20, 30] = holed[40, 50] = 0
    np.testing.assert_allclose(fill_pinholes(holed), exact, rtol=1e-5)

    wide = exact.copy()
    wide[10:30, 40:60] = 0
    assert bool((fill_pinholes(wide)[12:28, 42:58] == 0).all())

    edge = np.full((20, 20), 2.0, np.float32)
    edge[:, 10:] = 3.0
    edge[8, 10] = 0
    assert fill_pinholes(edge)[8, 10] == 0
    edge[8, 10], edge[8, 4] = 3.0, 0.0
    assert fill_pinholes(edge)[8, 4] == pytest.approx(2.0)


def test_errors_of_the_plain_layout_name_the_cause(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match="no such folder"):
        read_frames(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SequenceError, match=r"poses\.txt.*rgb\.txt.*\.sens"):
        read_frames(tmp_path / "empty")

    poses = (plain / "poses.txt").read_text()
    (plain / "poses.txt").write_text("".join(poses.splitlines(True)[:3]))
    with pytest.raises(SequenceError, match="4, 4 and 3"):
        read_frames(plain)
    for wrong, message in (
        (poses.replace(poses.split()[0], "nan", 1), "NaN"),
        (poses.replace(poses.split()[0], "3.0", 1), "no rotation"),
        ("text\n", "cannot be read"),
    ):
        (plain / "poses.txt").write_text(wrong)
        with pytest.raises(SequenceError, match=message):
            read_frames(plain)
    (plain / "poses.txt").write_text(poses)
    (plain / "depth" / "002.png").rename(plain / "depth" / "0021.png")
    with pytest.raises(SequenceError, match=r"name of its picture, and there is none for 0021\.png"):
        read_frames(plain)
    (plain / "depth" / "0021.png").rename(plain / "depth" / "002.png")
    (plain / "K.txt").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(SequenceError, match=r"K\.txt: expected \(3, 3\)"):
        read_frames(plain)
    (plain / "K.txt").unlink()
    with pytest.raises(SequenceError, match=r"K\.txt"):
        read_frames(plain)


def test_names_without_leading_zeros_pair_up(tmp_path: Path) -> None:
    """2 comes before 10, for pictures and for depth maps."""
    for folder in ("images", "depth"):
        (tmp_path / folder).mkdir()
    for index in range(12):
        Image.fromarray(np.full((8, 8), index, np.uint8)).save(tmp_path / "images" / f"{index}.png")
        cv2.imwrite(str(tmp_path / "depth" / f"{index}.png"), np.full((8, 8), index + 1, np.uint16))
    np.savetxt(tmp_path / "K.txt", [[8, 0, 3.5], [0, 8, 3.5], [0, 0, 1]])
    np.savetxt(tmp_path / "poses.txt", np.tile(np.eye(4).reshape(1, 16), (12, 1)))
    for index, frame in enumerate(read_frames(tmp_path).frames):
        assert frame.name == f"{index}.png"
        assert frame.read_depth is not None
        assert bool((frame.read_grey() == index).all())
        np.testing.assert_allclose(frame.read_depth(), (index + 1) / 1000)


def test_poses_of_another_shape_are_a_sequence_error(plain: Path) -> None:
    np.savetxt(plain / "poses.txt", np.ones((4, 7)))
    with pytest.raises(SequenceError, match=r"poses\.txt"):
        read_frames(plain)


def test_errors_of_the_seven_scenes_layout_name_the_cause(seven_scenes: Path) -> None:
    (seven_scenes / "frame-000002.color.png").rename(seven_scenes / "elsewhere.png")
    with pytest.raises(SequenceError, match=r"frame-000002\.pose\.txt: expected frame-000002\.color"):
        read_frames(seven_scenes)
    (seven_scenes / "elsewhere.png").rename(seven_scenes / "frame-000002.color.png")
    np.savetxt(seven_scenes / "frame-000001.pose.txt", np.eye(3))
    with pytest.raises(SequenceError, match=r"frame-000001\.pose\.txt: expected \(4, 4\)"):
        read_frames(seven_scenes)
    (seven_scenes / "camera-K.txt").unlink()
    with pytest.raises(SequenceError, match="intrinsics"):
        read_frames(seven_scenes)


def test_errors_of_depth_maps(plain: Path) -> None:
    path = plain / "depth" / "000.png"
    frame = read_frames(plain).frames[0]
    cv2.imwrite(str(path), np.full((10, 12), 900, np.uint16))
    with pytest.raises(SequenceError, match="12x10 beside a picture of 96x72"):
        read_view(frame)
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(SequenceError, match="16-bit"):
        read_view(frame)
    path.write_bytes(b"")
    with pytest.raises(SequenceError, match=r"000\.png"):
        read_view(frame)


def test_a_real_sequence_in_the_seven_scenes_layout_is_photo_consistent(shared_data: Path) -> None:
    folder = shared_data / "rgbd" / "apc_shelf"
    if not folder.is_dir():
        pytest.skip("rgbd/apc_shelf is not there")
    source = SequencePairs(folder, GeometricConfig(), 192, frames=(0, 8), gaps=(1,))
    assert len(source) == 7
    for index in (0, 3, 6):
        assert_photo_consistent(source.pair(index), tolerance=0.05)
