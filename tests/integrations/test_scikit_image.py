"""(row, column), and what scikit-image's SIFT and ORB found: against scikit-image and OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.integrations.opencv import from_opencv
from lfnet.integrations.scikit_image import from_skimage, to_skimage
from lfnet.matching import mutual_nearest_neighbours
from lfnet.models.lfnet import LFNet

feature = pytest.importorskip("skimage.feature")


def test_scikit_image_matches_as_we_do(camera: NDArray[np.uint8], tiny_model: LFNet) -> None:
    a, b = tiny_model.extract([camera, np.ascontiguousarray(camera[:, 10:])])
    places, descriptors = to_skimage(a)
    assert np.array_equal(places, a.keypoints[:, [1, 0]])
    theirs = feature.match_descriptors(descriptors, to_skimage(b)[1], cross_check=True)
    ours = mutual_nearest_neighbours(a, b).indices
    assert len(ours) > 20
    assert len({*map(tuple, theirs.tolist())} & {*map(tuple, ours.tolist())}) > 0.99 * len(ours)


@pytest.mark.parametrize(
    ("theirs", "opencv", "least"),
    [(feature.SIFT(), cv2.SIFT_create(400), 100), (feature.ORB(n_keypoints=200), cv2.ORB_create(500), 50)],
    ids=["SIFT", "ORB"],
)
def test_sizes_and_angles_are_those_of_opencv(
    theirs: Any, opencv: cv2.Feature2D, least: int, camera: NDArray[np.uint8]
) -> None:
    with pytest.raises(ValueError, match="call detect_and_extract"):
        from_skimage(theirs, (256, 256))
    theirs.detect_and_extract(camera)
    a = from_skimage(theirs, (256, 256))
    b = from_opencv(*opencv.detectAndCompute(camera, None), image_size=(256, 256))
    assert a.is_binary == b.is_binary
    assert a.descriptors.shape[1] == b.descriptors.shape[1]
    distance = np.linalg.norm(a.keypoints[:, None] - b.keypoints, axis=2)
    near, other = distance.min(1) < 0.7, distance.argmin(1)
    assert near.sum() > least
    turn = np.angle(np.exp(1j * (a.orientations[near] - b.orientations[other[near]])))
    assert np.median(np.abs(turn)) < 0.15
    assert np.median(a.scales[near] / b.scales[other[near]]) == pytest.approx(1, abs=0.1)


def test_bits_are_bools_there(camera: NDArray[np.uint8]) -> None:
    features = from_opencv(*cv2.ORB_create(30).detectAndCompute(camera, None), image_size=(256, 256))
    bits = to_skimage(features)[1]
    assert (bits.dtype, bits.shape) == (bool, (len(features), 256))
    assert len(feature.match_descriptors(bits, bits, metric="hamming")) == len(features)
