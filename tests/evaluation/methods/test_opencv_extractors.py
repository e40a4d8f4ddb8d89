"""OpenCV's features."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.evaluation.methods.opencv_extractors import OPENCV_METHODS, OpenCVExtractor, root_normalised
from support.commands import has


@pytest.mark.parametrize("name", OPENCV_METHODS)
def test_opencv_features_fill_their_budget(name: str, camera: NDArray[np.uint8]) -> None:
    if not has(name):
        with pytest.raises(ValueError, match=rf"^{name}: OpenCV .* has no {name.upper()}; install opencv-contrib"):
            OpenCVExtractor(name)
        pytest.skip("not in this OpenCV")
    extractor = OpenCVExtractor(name)
    found = extractor(camera, max_keypoints=150)
    assert 140 <= len(found) <= 150, "ORB shares its budget among octaves, not all of which fill theirs"
    assert len(found) == 150 or name == "orb"
    assert (np.diff(found.scores) <= 0).all()
    assert found.descriptors.dtype == (np.float32 if "sift" in name else np.uint8)
    mask = np.zeros(camera.shape, bool)
    mask[:, :120] = True
    inside = extractor(camera, max_keypoints=60, mask=mask)
    assert 50 <= len(inside) <= 60
    assert inside.keypoints[:, 0].max() < 120.5
    blank = extractor(np.full((80, 90), 7, np.uint8), max_keypoints=10)
    assert len(blank) == 0
    assert blank.descriptors.shape[1] == found.descriptors.shape[1]
    assert blank.is_binary == found.is_binary


def test_sift_takes_the_strongest_as_opencv_does(camera: NDArray[np.uint8]) -> None:
    ours = OpenCVExtractor("sift")(camera, max_keypoints=100)
    theirs = cv2.SIFT.create(nfeatures=100, contrastThreshold=1e-5).detect(camera, None)
    weakest = min(point.response for point in theirs)
    assert ours.scores.min() == pytest.approx(weakest)
    assert {tuple(np.round(point.pt, 2)) for point in theirs} >= {
        tuple(np.round(p, 2)) for p in ours.keypoints.tolist()
    }


def test_root_descriptors_have_unit_length() -> None:
    raw = np.array([[4.0, 0, 12], [0, 0, 0]])
    assert np.allclose(root_normalised(raw), [[0.5, 0, np.sqrt(0.75)], [0, 0, 0]])


def test_opencv_methods_load_no_pytorch(user_environment: dict[str, str]) -> None:
    code = "import sys; from lfnet.evaluation.methods.extractors import make_methods; make_methods(['sift']); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=user_environment, check=True)
