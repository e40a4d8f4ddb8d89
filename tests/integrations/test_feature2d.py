"""LF-Net with the methods of OpenCV's detectors, beside SIFT."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import lfnet
from lfnet.integrations.feature2d import LFNetFeature2D
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet


def test_it_answers_as_sift_does(camera: NDArray[np.uint8], tiny_model: LFNet) -> None:
    ours, sift = LFNetFeature2D(tiny_model, ExtractionSettings(max_keypoints=60)), cv2.SIFT_create(60)
    for detector in (ours, sift):
        keypoints, descriptors = detector.detectAndCompute(camera, None)
        assert isinstance(keypoints, tuple)
        assert isinstance(keypoints[0], cv2.KeyPoint)
        assert descriptors.shape == (len(keypoints), detector.descriptorSize())
        assert descriptors.dtype == np.float32
        assert (detector.descriptorType(), detector.defaultNorm()) == (cv2.CV_32F, cv2.NORM_L2)
        assert [point.pt for point in detector.detect(camera)] == [point.pt for point in keypoints]
        assert detector.detectAndCompute(np.zeros_like(camera), None) == ((), None)
    assert not ours.empty()
    assert ours.getDefaultName() == sift.getDefaultName().replace("SIFT", "LFNet")


def test_colours_are_blue_first_and_masks_are_heeded(coffee: NDArray[np.uint8], tiny_model: LFNet) -> None:
    ours = LFNetFeature2D(tiny_model)
    mask = np.zeros(coffee.shape[:2], np.uint8)
    mask[:, 150:] = 255
    keypoints, descriptors = ours.detectAndCompute(cv2.cvtColor(coffee, cv2.COLOR_RGB2BGR), mask)
    features = tiny_model.extract([coffee], mask=[mask > 0])[0]
    assert min(point.pt[0] for point in keypoints) > 150
    assert np.array_equal(np.array([point.pt for point in keypoints], np.float32), features.keypoints)
    assert np.array_equal(descriptors, features.descriptors)


def test_compute_describes_keypoints_of_any_origin(camera: NDArray[np.uint8], tiny_model: LFNet) -> None:
    ours = LFNetFeature2D(tiny_model)
    keypoints = cv2.SIFT_create(40).detect(camera)
    same, descriptors = ours.compute(camera, keypoints)
    assert same == tuple(keypoints)
    places = np.array([point.pt for point in keypoints])
    sizes = np.array([point.size for point in keypoints]) / 32
    angles = np.radians([point.angle for point in keypoints])
    assert np.allclose(descriptors, tiny_model.describe(camera, places, sizes, angles), atol=1e-5)
    assert ours.compute(camera, []) == ((), None)
    for act in (ours.detect, lambda image: ours.compute(image, keypoints)):
        with pytest.raises(ValueError, match=r"cv2\.imread"):
            act(None)
    with pytest.raises(ValueError, match="call compute"):
        ours.detectAndCompute(camera, None, None, True)


def test_ransac_as_with_sift(camera: NDArray[np.uint8]) -> None:
    if "lfnet-cpu" not in lfnet.list_pretrained():
        pytest.skip("the package has no weights lfnet-cpu")
    matrix = cv2.getRotationMatrix2D((127.5, 127.5), 40, 0.9)
    turned = cv2.warpAffine(camera, matrix, (256, 256))
    detector = LFNetFeature2D("lfnet-cpu")
    keypoints_a, descriptors_a = detector.detectAndCompute(camera, None)
    keypoints_b, descriptors_b = detector.detectAndCompute(turned, None)
    matches = cv2.BFMatcher(detector.defaultNorm(), crossCheck=True).match(descriptors_a, descriptors_b)
    points_a = np.array([keypoints_a[match.queryIdx].pt for match in matches])
    points_b = np.array([keypoints_b[match.trainIdx].pt for match in matches])
    found, inliers = cv2.findHomography(points_a, points_b, cv2.USAC_MAGSAC, 3.0)
    assert inliers.sum() > 100
    places = np.array([[[64.0, 64], [192, 64], [192, 192], [64, 192]]])
    errors = cv2.perspectiveTransform(places, found) - cv2.transform(places, matrix)
    assert np.linalg.norm(errors, axis=2).max() < 1.5
