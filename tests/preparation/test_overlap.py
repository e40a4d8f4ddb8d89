"""Overlap of two frames against what geometry says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lfnet.data.frames import SequenceError
from lfnet.geometry.camera import pixel_grid
from lfnet.geometry.warp import warp_by_depth
from lfnet.preparation.overlap import read_thumbnails, thumbnail_side
from support.plane_frames import FOCAL, HEIGHT, INTRINSICS, WIDTH, measured, plane_frame


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_overlap_of_a_plane_shifted_sideways(share: float, unit: float) -> None:
    """At depth 2 the picture is 2 WIDTH / FOCAL wide; in any unit, and however far away the world begins."""
    shift = (1 - share) * 2 * WIDTH / FOCAL
    far = 300 * unit
    frames = [plane_frame(str(x), (x, 0, 0), unit=unit, far=far) for x in (0.0, shift)]
    pair = measured(*frames)
    assert pair.overlap_ab[0] == pytest.approx(share, abs=0.05)
    assert pair.overlap_ba[0] == pytest.approx(share, abs=0.05)
    assert pair.scale_ratio[0] == pytest.approx(1, abs=0.01)
    assert pair.rotation[0] == pytest.approx(0, abs=0.01)
    # A point half way between both cameras sees them under this angle; others under less.
    widest = np.degrees(2 * np.arctan(shift / 4))
    assert 0.75 * widest < pair.angle[0] <= widest + 0.01


def test_overlap_and_scale_of_a_zoom() -> None:
    pair = measured(plane_frame("a", (0, 0, 0)), plane_frame("b", (0, 0, 0), zoom=2))
    assert pair.overlap_ab[0] == pytest.approx(0.25, abs=0.05)
    assert pair.overlap_ba[0] == pytest.approx(1, abs=0.02)
    assert pair.scale_ratio[0] == pytest.approx(2, rel=0.01)
    assert pair.angle[0] == pytest.approx(0, abs=0.05)
    nearer = measured(plane_frame("a", (0, 0, 0)), plane_frame("b", (0, 0, 1)))
    assert nearer.scale_ratio[0] == pytest.approx(2, rel=0.01)
    assert nearer.overlap_ab[0] == pytest.approx(0.25, abs=0.05)


def test_scale_of_a_slanted_view_is_that_of_the_exact_jacobian() -> None:
    turn = np.radians(35)
    rotation = np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
    frames = plane_frame("a", (0, 0, 0)), plane_frame("b", (1.6, 0, 0.4), rotation=rotation)
    pair = measured(*frames)
    assert pair.rotation[0] == pytest.approx(35, abs=0.01)
    views = [
        (torch.from_numpy(frame.read_depth())[None, None], torch.from_numpy(frame.intrinsics).float()[None])
        for frame in frames
        if frame.read_depth is not None
    ]
    b_from_a = torch.from_numpy(frames[1].camera_from_world @ np.linalg.inv(frames[0].camera_from_world)).float()[None]
    (depth_a, camera_a), (depth_b, camera_b) = views
    warp = warp_by_depth(depth_a, depth_b, camera_a, camera_b, b_from_a, torch.ones_like(depth_b, dtype=torch.bool))
    seen = warp.grid().visible[0]
    zoom = torch.linalg.det(warp.jacobian(pixel_grid(HEIGHT, WIDTH)[None]))[0].abs().sqrt()[seen].median()
    assert float(seen.float().mean()) == pytest.approx(float(pair.overlap_ab[0]), abs=0.05)
    assert pair.scale_ratio[0] == pytest.approx(float(zoom), rel=0.04)


def test_pictures_of_several_sizes() -> None:
    """The same view stored at half the size: every pixel is seen, and the zoom is a half."""
    large, small = plane_frame("a", (0, 0, 0)), plane_frame("b", (0, 0, 0))
    half = INTRINSICS.copy()
    half[:2] /= 2
    half[:2, 2] -= 0.25
    depth = np.full((HEIGHT // 2, WIDTH // 2), 2, np.float32)
    small = replace(small, size=(WIDTH // 2, HEIGHT // 2), intrinsics=half, read_depth=lambda: depth)
    turned = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    upright = replace(
        plane_frame("c", (0, 0, 0), rotation=turned),
        size=(HEIGHT, WIDTH),
        intrinsics=np.array([[FOCAL, 0, (HEIGHT - 1) / 2], [0, FOCAL, (WIDTH - 1) / 2], [0, 0, 1]]),
        read_depth=lambda: np.full((WIDTH, HEIGHT), 2, np.float32),
    )
    both = measured(large, small)
    assert both.overlap[0] > 0.97
    assert both.scale_ratio[0] == pytest.approx(0.5, rel=0.01)
    both = measured(large, upright)
    assert both.overlap[0] > 0.97
    assert both.rotation[0] == pytest.approx(90, abs=0.01)
    assert both.scale_ratio[0] == pytest.approx(1, rel=0.01)


def test_overlap_is_of_known_depth_and_of_what_is_not_hidden() -> None:
    frame = plane_frame("a", (0, 0, 0))
    half_known = np.full((HEIGHT, WIDTH), 2, np.float32)
    half_known[:, : WIDTH // 2] = 0
    other = replace(frame, read_depth=lambda: half_known)
    both = measured(frame, other)
    assert both.overlap_ab[0] == pytest.approx(0.5, abs=0.05)
    assert both.overlap_ba[0] == pytest.approx(1, abs=0.01)
    wall = replace(frame, read_depth=lambda: np.full((HEIGHT, WIDTH), 1, np.float32))
    hidden = measured(frame, wall)
    assert hidden.overlap[0] == 0
    assert (hidden.angle[0], hidden.scale_ratio[0]) == (0, 1)
    nothing = measured(frame, replace(frame, read_depth=None))
    assert nothing.overlap[0] == 0


def test_depth_of_another_size_is_refused() -> None:
    wrong = replace(plane_frame("a.jpg", (0, 0, 0)), read_depth=lambda: np.ones((10, 12), np.float32))
    with pytest.raises(SequenceError, match=r"a\.jpg: depth of 12x10 beside a picture of 320x240"):
        read_thumbnails([wrong])


def test_thumbnails_take_bounded_memory() -> None:
    assert thumbnail_side(11) == 160
    assert max(thumbnail_side(count) ** 2 * 2 * count for count in range(1, 10_001, 50)) <= 130e6


def test_one_depth_map_that_can_not_be_read_is_left_out_and_named() -> None:
    frames = [plane_frame(f"{number}.jpg", (0.1 * number, 0, 0)) for number in range(6)]

    def fail() -> np.ndarray:
        raise SequenceError("3.h5: cut short")

    frames[3] = replace(frames[3], read_depth=fail)
    thumbnails = read_thumbnails(frames)
    assert thumbnails.notes == ("left out: 1 of 6 depth maps can't be read (3.jpg): 3.h5: cut short",)
    assert thumbnails.unit[3] == 0 < thumbnails.unit[4]
