"""The pixel convention: analytic answers, and agreement with what OpenCV's resizing does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lfnet.coordinates import colmap_from_pixel, pixel_from_colmap, resize_keypoints, resize_matrix


def test_colmap_adds_half_a_pixel_and_back() -> None:
    points = np.array([[0.0, 0.0], [10.25, 3.5]], np.float32)
    assert colmap_from_pixel(points).tolist() == [[0.5, 0.5], [10.75, 4.0]]
    assert np.array_equal(pixel_from_colmap(colmap_from_pixel(points)), points)


def test_whole_numbers_become_floating() -> None:
    assert colmap_from_pixel(np.array([[1, 2]])).tolist() == [[1.5, 2.5]]


def test_resizing_maps_corners_of_the_picture_to_corners() -> None:
    corners = np.array([[-0.5, -0.5], [639.5, 479.5]])
    resized = resize_keypoints(corners, (640, 480), (320, 160))
    assert np.allclose(resized, [[-0.5, -0.5], [319.5, 159.5]], atol=1e-12)


def test_resizing_back_is_the_inverse() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    back = resize_keypoints(resize_keypoints(points, (101, 77), (63, 50)), (63, 50), (101, 77))
    assert np.allclose(back, points, atol=1e-12)
    product = resize_matrix((63, 50), (101, 77)) @ resize_matrix((101, 77), (63, 50))
    assert np.allclose(product, np.eye(3), atol=1e-12)


def test_resizing_follows_a_blob_that_opencv_resized() -> None:
    """The centre of mass of a smooth blob moves as the convention says: half a pixel off would show."""
    y, x = np.mgrid[:160, :240]
    centre = np.array([[101.3, 67.8]])
    image = np.exp(-((x - centre[0, 0]) ** 2 + (y - centre[0, 1]) ** 2) / (2 * 9.0**2)).astype(np.float32)
    for size, method in (((120, 80), cv2.INTER_AREA), ((480, 320), cv2.INTER_LINEAR)):
        small = cv2.resize(image, size, interpolation=method)
        rows, columns = np.mgrid[: size[1], : size[0]]
        measured = np.array([(columns * small).sum(), (rows * small).sum()]) / small.sum()
        assert np.allclose(measured, resize_keypoints(centre, (240, 160), size)[0], atol=0.01)


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        resize_matrix((0, 10), (5, 5))
