"""Features as OpenCV's keypoints, and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.features import Features
from lfnet.integrations.opencv import from_opencv, to_opencv


def test_round_trip_keeps_everything() -> None:
    features = Features(
        [[1.25, 2.5], [30.0, 4.0], [7, 8]],
        [1.0, 0.7, 1.4],
        [0.0, 3.0, -3.0],
        [0.9, 0.1, 0.5],
        np.eye(3),
        (64, 48),
    )
    keypoints, descriptors = to_opencv(features)
    assert keypoints[0].pt == (1.25, 2.5)
    assert keypoints[0].size == 32.0
    assert keypoints[2].angle == pytest.approx(360 - np.degrees(3.0), abs=1e-3)
    back = from_opencv(keypoints, descriptors, (64, 48))
    for name in ("keypoints", "scales", "orientations", "scores", "descriptors"):
        assert np.allclose(getattr(back, name), getattr(features, name), atol=1e-5), name
    assert back.image_size == features.image_size


def test_angles_come_back_in_their_range() -> None:
    keypoints = [cv2.KeyPoint(0, 0, 32, angle) for angle in (0, 90, 180, 270, -1)]
    back = from_opencv(keypoints, np.zeros((5, 4), np.float32), (9, 9))
    assert np.allclose(back.orientations, [0, np.pi / 2, np.pi, -np.pi / 2, 0], atol=1e-6)


def test_opencv_angle_turns_the_same_way(camera: NDArray[np.uint8]) -> None:
    """SIFT on a picture turned by 90 degrees clockwise: its angles grow by 90, so they run as ours do."""
    sift = cv2.SIFT_create(50)
    turned = cv2.rotate(camera, cv2.ROTATE_90_CLOCKWISE)
    height = camera.shape[0]
    a = from_opencv(*sift.detectAndCompute(camera, None), image_size=(256, 256))
    b = from_opencv(*sift.detectAndCompute(turned, None), image_size=(256, 256))
    expected = np.stack([height - 1 - a.keypoints[:, 1], a.keypoints[:, 0]], axis=1)
    distance = np.linalg.norm(expected[:, None] - b.keypoints[None], axis=2)
    found = distance.min(1) < 0.5
    assert found.sum() > 20
    difference = b.orientations[distance.argmin(1)][found] - a.orientations[found] - np.pi / 2
    wrapped = np.abs(np.angle(np.exp(1j * difference)))
    assert np.median(wrapped) < 0.1


def test_binary_descriptors_stay_bits(camera: NDArray[np.uint8]) -> None:
    features = from_opencv(*cv2.ORB_create(40).detectAndCompute(camera, None), image_size=(256, 256))
    assert features.is_binary
    assert features.descriptors.shape == (len(features), 32)


def test_nothing_found_is_no_features() -> None:
    blank = np.zeros((64, 64), np.uint8)
    features = from_opencv(*cv2.SIFT_create().detectAndCompute(blank, None), image_size=(64, 64))
    assert len(features) == 0
    with pytest.raises(ValueError, match="without descriptors"):
        from_opencv([cv2.KeyPoint(1, 1, 2)], None, (8, 8))
