"""OpenCV's features as methods: SIFT, RootSIFT, ORB, and BRISK and AKAZE where the installed OpenCV has them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.integrations.opencv import from_opencv

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from numpy import ndarray as Array
    from numpy.typing import NDArray

PATCH_PER_SIFT_SIGMA = 6.0
"""SIFT sees 4x4 cells of 3 sigma, KeyPoint.size is 2 sigma: 12 sigma = 6 sizes (Lowe 2004, 6.1)."""

OPENCV_METHODS = ("sift", "rootsift", "orb", "brisk", "akaze")
"""Names of the methods."""

OPTIONS: dict[str, dict[str, Any]] = {
    "sift": {"nfeatures": 0, "contrastThreshold": 1e-5},
    "rootsift": {"nfeatures": 0, "contrastThreshold": 1e-5},
    "orb": {"fastThreshold": 0},
    "brisk": {"thresh": 10},
    "akaze": {"threshold": 1e-5},
}
"""Detection thresholds so low that a budget of 2048 is filled: on photographs of 480x320 pixels BRISK finds 4000 to
10,000 keypoints under its, AKAZE 2000 to 2600, and lower ones add next to none. All else is OpenCV's default."""

WIDTHS = {"sift": 128, "rootsift": 128, "orb": 32, "brisk": 64, "akaze": 61}
"""Values of a descriptor: numbers of SIFT, bytes of the others."""


class OpenCVExtractor:
    """A feature of OpenCV's, with detection thresholds so low that it fills its budget.

    SIFT is otherwise as OpenCV makes it by default, which places keypoints 0.25 px too far right and down. Its
    `enable_precise_upscale` fixes that and gains at 1 px, but loses about 5 % of the matching score at 5 px on
    the RGB-D walk that this package tunes on.

    Args:
        name: one of `OPENCV_METHODS`.

    Raises:
        ValueError: another name, or the installed OpenCV lacks it.
    """

    wants_colour = False
    parameters = 0
    """Nothing of it is trained."""
    model_bytes = 0

    def __init__(self, name: str) -> None:
        if name not in OPENCV_METHODS:
            raise UserError(f"name must be one of {', '.join(OPENCV_METHODS)}, got {name!r}")
        self.name = name
        self.origin = name
        """What `make_methods` makes it from."""
        self.settings: dict[str, Any] = {
            "kind": "opencv", "feature": name, "opencv": cv2.__version__, "options": OPTIONS[name]
        }  # fmt: skip
        self._feature = name
        # ORB is told its budget when it is made.
        self._detector = None if name == "orb" else _maker(name).create(**OPTIONS[name])

    def __call__(
        self, image: UInt8[Array, "H W"], *, max_keypoints: int, mask: Bool[Array, "H W"] | None = None
    ) -> Features:
        """The strongest keypoints of a grey picture.

        OpenCV cuts SIFT to `nfeatures` before it looks at the mask: all are detected, masked, and cut here.

        Args:
            image: grey.
            max_keypoints: the budget.
            mask: True where keypoints are wanted; None = everywhere.

        Returns:
            at most `max_keypoints` features, strongest first.
        """
        size = (image.shape[1], image.shape[0])
        area = None if mask is None else mask.astype(np.uint8) * 255
        found, descriptors = self._detect(image, area, max_keypoints)
        if descriptors is None or not len(found):
            return self._none(size)
        order = np.argsort([-point.response for point in found], kind="stable")[:max_keypoints]
        features = from_opencv([found[i] for i in order], self._descriptors(np.asarray(descriptors)[order]), size)
        return replace(features, scales=features.scales * (PATCH_PER_SIFT_SIGMA if self._is_sift else 1.0))

    @property
    def _is_sift(self) -> bool:
        return self._feature in ("sift", "rootsift")

    def _detect(self, image: Array, area: Array | None, max_keypoints: int) -> tuple[Any, Any]:
        if self._detector is None:
            detector = cv2.ORB.create(nfeatures=max_keypoints, **OPTIONS["orb"])
            return detector.detectAndCompute(image, area)
        if not self._is_sift:
            return self._detector.detectAndCompute(image, area)
        found = sorted(self._detector.detect(image, area), key=lambda point: -point.response)
        return self._detector.compute(image, found[:max_keypoints])

    def _none(self, size: tuple[int, int]) -> Features:
        nothing = Features.empty(size, WIDTHS[self._feature])
        return nothing if self._is_sift else replace(nothing, descriptors=nothing.descriptors.astype(np.uint8))

    def _descriptors(self, raw: Array) -> NDArray[np.float32] | NDArray[np.uint8]:
        if not self._is_sift:
            return raw.astype(np.uint8)
        return root_normalised(raw) if self._feature == "rootsift" else raw.astype(np.float32)


def _maker(name: str) -> Any:
    """The class of a feature, which a version may keep in the main module or among those of opencv-contrib."""
    key = "SIFT" if name == "rootsift" else name.upper()
    for module in (cv2, getattr(cv2, "xfeatures2d", None)):
        if hasattr(module, key):
            return getattr(module, key)
    raise UserError(
        f"{name}: OpenCV {cv2.__version__} as installed here has no {key}; install opencv-contrib-python-headless, or "
        "opencv-python-headless below 5"
    )


def root_normalised(descriptors: Array) -> NDArray[np.float32]:
    """RootSIFT: the square root of L1-normalised SIFT descriptors.

    Args:
        descriptors: N x 128, non-negative.

    Returns:
        N x 128 of unit length.

    Source: Arandjelovic and Zisserman, CVPR 2012.
    """
    values = np.asarray(descriptors, np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), np.float32(1e-12)))
