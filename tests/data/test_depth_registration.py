"""Depth of another camera, brought to the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lfnet.coordinates import resize_matrix
from lfnet.data.depth_registration import register_depth, resample_depth
from support.made_recordings import (
    DEPTH_INTRINSICS,
    DEPTH_SIZE,
    INTRINSICS,
    SIZE,
    colour_from_depth,
    render,
    world_from_camera,
)


def test_depth_of_another_size_is_resampled_by_both_calibrations() -> None:
    pose = world_from_camera(1)
    depth = render(pose, DEPTH_INTRINSICS, DEPTH_SIZE)[1].astype(np.float32)
    expected = render(pose, INTRINSICS, SIZE)[1]
    resampled = resample_depth(depth, DEPTH_INTRINSICS, INTRINSICS, SIZE)
    assert resampled.shape == SIZE[::-1]
    slope = max(np.abs(np.diff(depth, axis=axis)).max() for axis in (0, 1))
    assert bool((resampled > 0).all())
    assert np.abs(resampled - expected).max() <= 1.01 * slope  # Half a pixel to each side, in x and in y.
    assert np.abs(resampled - expected).mean() < 0.4 * slope
    # The plain scaling of sizes would be pixels beside it.
    guessed = cv2.resize(depth, SIZE, interpolation=cv2.INTER_NEAREST)
    assert np.abs(guessed - expected).mean() > 3 * np.abs(resampled - expected).mean()


def test_resampling_keeps_edges_and_what_was_not_seen() -> None:
    depth = np.full((40, 60), 3.0, np.float32)
    depth[:, 30:] = 1.0
    depth[:5] = 0
    intrinsics = np.array([[50.0, 0, 29.5], [0, 50.0, 19.5], [0, 0, 1]])
    twice = resize_matrix((60, 40), (120, 80)) @ intrinsics
    resampled = resample_depth(depth, intrinsics, twice, (120, 80))
    np.testing.assert_array_equal(resampled, cv2.resize(depth, (120, 80), interpolation=cv2.INTER_NEAREST))
    wide = intrinsics.copy()
    wide[:2, 2] += 10
    shifted = resample_depth(depth, intrinsics, wide, (80, 60))
    np.testing.assert_array_equal(shifted[10:50, 10:70], depth)
    assert float(shifted.sum()) == float(depth.sum())


def test_registered_depth_of_a_slanted_plane_is_where_it_belongs_and_without_holes() -> None:
    pose = world_from_camera(1)
    depth = render(pose @ colour_from_depth(), DEPTH_INTRINSICS, DEPTH_SIZE)[1]
    expected = render(pose, INTRINSICS, SIZE)[1]
    registered = register_depth(depth.astype(np.float32), DEPTH_INTRINSICS, INTRINSICS, colour_from_depth(), SIZE)
    assert registered.dtype == np.float32
    # What the depth camera sees of the picture, but for the rim that its outermost pixels cover in part.
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    points = np.linalg.inv(INTRINSICS) @ np.stack((x.ravel(), y.ravel(), np.ones(x.size))) * expected.ravel()
    back = np.linalg.inv(colour_from_depth())
    seen_at = DEPTH_INTRINSICS @ (back[:3, :3] @ points + back[:3, 3:])
    places = seen_at[:2] / seen_at[2]
    seen = ((places > 0.5) & (places < np.array(DEPTH_SIZE)[:, None] - 1.5)).all(0).reshape(expected.shape)
    assert seen.mean() > 0.8
    assert bool((registered[seen] > 0).all())
    slope = max(np.abs(np.diff(depth, axis=axis)).max() for axis in (0, 1))
    assert np.abs(registered - expected)[seen].max() < 2 * slope
    assert np.abs(registered - expected)[seen].mean() < 0.5 * slope


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0, 3.0])
def test_registration_hides_what_the_picture_does_not_see(zoom: float) -> None:
    """A square 1 m away before a wall at 2 m; the colour camera stands 6 cm to the right."""
    focal, baseline, size = 100.0, 0.06, (100, 80)
    intrinsics = np.array([[focal, 0, 49.5], [0, focal, 39.5], [0, 0, 1]])
    depth = np.full(size[::-1], 2.0, np.float32)
    depth[20:60, 40:70] = 1.0
    transform = np.eye(4)
    transform[0, 3] = -baseline
    larger = (round(100 * zoom), round(80 * zoom))
    matrix = resize_matrix(size, larger)
    registered = register_depth(depth, intrinsics, matrix @ intrinsics, transform, larger)
    # Edges of pixels in the picture, by the disparity of each surface: 6 px of the square, 3 px of the wall.
    x = (np.arange(larger[0]) - matrix[0, 2]) / zoom
    y = (np.arange(larger[1]) - matrix[1, 2]) / zoom
    in_rows = ((y > 19.5) & (y < 59.5))[:, None]
    square = in_rows & ((x > 39.5 - 6) & (x < 69.5 - 6))[None]
    unseen = (in_rows & ((x > 69.5 - 6) & (x < 69.5 - 3))[None]) | (x > 99.5 - 3)[None]
    expected = np.where(square, 1.0, np.where(unseen, 0.0, 2.0))
    # Edges fall on edges of pixels; at half the size, a pixel that has both takes the nearer one.
    differs = registered != expected
    assert float(differs.mean()) <= (0.05 if zoom < 1 else 0.0)
    assert bool((registered[differs] > 0).all())


def test_registration_of_nothing_and_of_what_is_behind() -> None:
    depth = np.zeros((10, 12), np.float32)
    transform = np.eye(4)
    transform[2, 3] = -5
    assert not register_depth(depth, INTRINSICS, INTRINSICS, transform, SIZE).any()
    depth[:] = 3
    assert not register_depth(depth, INTRINSICS, INTRINSICS, transform, SIZE).any()
