"""LF-Net with the methods of OpenCV's detectors.

`cv2.Feature2D` can't be subclassed from Python (OpenCV 5.0 crashes on it), so this is a class of its own that has the
same methods. Functions of OpenCV's C++ that take a `Feature2D`, such as `cv2.BOWImgDescriptorExtractor`, refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.images import held_pixels
from lfnet.integrations.opencv import from_opencv, to_opencv
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet


class LFNetFeature2D:
    """A detector and descriptor that stands where `cv2.SIFT_create()` stood.

    Args:
        model: the network; a name of packaged weights or a file is loaded.
        settings: how many keypoints, how good, at which octaves.
    """

    def __init__(
        self, model: LFNet | str | Path = "lfnet-cpu", settings: ExtractionSettings | None = None
    ) -> None:
        self.model = model if isinstance(model, LFNet) else LFNet.from_pretrained(model)
        self.settings = settings or ExtractionSettings()

    def detectAndCompute(
        self,
        image: NDArray,
        mask: NDArray | None = None,
        descriptors: None = None,
        useProvidedKeypoints: bool = False,
    ) -> tuple[Sequence[cv2.KeyPoint], NDArray | None]:
        """Keypoints and their descriptors.

        Args:
            image: (H, W) grey or (H, W, 3) in OpenCV's order, blue first; uint8, or floats in [0, 1].
            mask: (H, W), not zero where keypoints may be; None: everywhere.
            descriptors: None, as a place for OpenCV's output argument.
            useProvidedKeypoints: only False: call `compute` for keypoints of your own.

        Returns:
            N keypoints, best first, and (N, D) float32 descriptors; None, as in OpenCV, where N is 0.

        Raises:
            ValueError: another shape or type, or `useProvidedKeypoints`.
        """
        if useProvidedKeypoints:
            raise UserError("useProvidedKeypoints: not in Python, which has no place for them; call compute")
        features = self._extract(image, mask)
        keypoints, found = to_opencv(features)
        return tuple(keypoints), found if len(features) else None

    def detect(self, image: NDArray, mask: NDArray | None = None) -> Sequence[cv2.KeyPoint]:
        """Keypoints alone, as `detectAndCompute`."""
        return tuple(to_opencv(self._extract(image, mask))[0])

    def compute(
        self, image: NDArray, keypoints: Sequence[cv2.KeyPoint]
    ) -> tuple[Sequence[cv2.KeyPoint], NDArray | None]:
        """Descriptors of keypoints of any origin: `size` is taken as by `from_opencv`, and -1 as angle 0.

        Args:
            image: as in `detectAndCompute`.
            keypoints: N of them.

        Returns:
            The keypoints, and (N, D) float32 descriptors in their order; None, as in OpenCV, where N is 0.
        """
        if len(keypoints) == 0:
            return (), None
        pixels, unknown = _rgb(image), np.zeros((len(keypoints), 0), np.float32)
        places = from_opencv(keypoints, unknown, (pixels.shape[1], pixels.shape[0]))
        found = self.model.describe(pixels, places.keypoints, places.scales, places.orientations)
        return tuple(keypoints), found

    def defaultNorm(self) -> int:
        """`cv2.NORM_L2`: how descriptors are compared, for `cv2.BFMatcher`."""
        return cv2.NORM_L2

    def descriptorSize(self) -> int:
        """Values of a descriptor."""
        return self.model.config.descriptor.dimension

    def descriptorType(self) -> int:
        """`cv2.CV_32F`."""
        return cv2.CV_32F

    def empty(self) -> bool:
        """False: there is a network."""
        return False

    def getDefaultName(self) -> str:
        """"Feature2D.LFNet", after OpenCV's "Feature2D.SIFT"."""
        return "Feature2D.LFNet"

    def _extract(self, image: NDArray, mask: NDArray | None) -> Features:
        masks = None if mask is None else [mask]
        return self.model.extract([_rgb(image)], mask=masks, settings=self.settings)[0]


def _rgb(image: NDArray) -> NDArray:
    pixels = held_pixels(image)
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels
