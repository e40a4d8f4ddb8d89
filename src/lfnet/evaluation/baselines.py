"""Anything that finds and describes keypoints, behind one call: OpenCV's features and LF-Net models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from lfnet.features import Features
from lfnet.integrations.opencv import from_opencv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, UInt8
    from numpy import ndarray as Array
    from numpy.typing import NDArray

    from lfnet.models.config import ExtractionSettings
    from lfnet.models.lfnet import LFNet

PATCH_PER_SIFT_SIGMA = 6.0
"""SIFT sees 4x4 cells of 3 sigma, KeyPoint.size is 2 sigma: 12 sigma = 6 sizes (Lowe 2004, 6.1)."""


class Extractor(Protocol):
    """Finds and describes keypoints; the two lines that a new method needs."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def __call__(
        self, image: UInt8[Array, "H W"], *, max_keypoints: int, mask: Bool[Array, "H W"] | None = None
    ) -> Features:
        """The strongest keypoints of a grey picture, where `mask` is True."""
        ...


class OpenCVExtractor:
    """SIFT, RootSIFT or ORB of OpenCV, with detection thresholds so low that they fill their budget.

    SIFT is otherwise as OpenCV makes it by default, which places keypoints 0.25 px too far right and down. Its
    `enable_precise_upscale` mends that and gains at 1 px, but loses about 5 % of the matching score at 5 px on
    the RGB-D walk that this package tunes on.
    """

    def __init__(self, name: str) -> None:
        if name not in ("sift", "rootsift", "orb"):
            raise ValueError(f"name must be 'sift', 'rootsift' or 'orb', got {name!r}")
        self.name = name
        self._sift = cv2.SIFT.create(nfeatures=0, contrastThreshold=1e-5) if name != "orb" else None

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
        if self._sift is None:
            detector = cv2.ORB.create(nfeatures=max_keypoints, fastThreshold=0)
            found, descriptors = detector.detectAndCompute(image, area)
        else:
            found = sorted(self._sift.detect(image, area), key=lambda point: -point.response)
            found, descriptors = self._sift.compute(image, found[:max_keypoints])
        if descriptors is None or not len(found):
            return Features.empty(size, dim=32 if self._sift is None else 128)
        order = np.argsort([-point.response for point in found], kind="stable")[:max_keypoints]
        features = from_opencv([found[i] for i in order], self._descriptors(np.asarray(descriptors)[order]), size)
        return replace(features, scales=features.scales * self._patch_per_size())

    def _descriptors(self, raw: Array) -> NDArray[np.float32] | NDArray[np.uint8]:
        if self.name == "orb":
            return raw.astype(np.uint8)
        return root_normalised(raw) if self.name == "rootsift" else raw.astype(np.float32)

    def _patch_per_size(self) -> float:
        return 1.0 if self._sift is None else PATCH_PER_SIFT_SIGMA


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


class LFNetExtractor:
    """An LF-Net model behind the extractor's call."""

    def __init__(self, model: LFNet, name: str, settings: ExtractionSettings | None = None) -> None:
        self.name = name
        self._model = model
        self._settings = settings

    @classmethod
    def from_weights(cls, name_or_path: str, device: str = "cpu") -> LFNetExtractor:
        """The model of packaged weights, or of a file, in evaluation mode.

        Args:
            name_or_path: `lfnet-cpu`, or a path to safetensors.
            device: torch device.

        Returns:
            the extractor, named after the weights.
        """
        from lfnet.models.lfnet import LFNet

        model = LFNet.from_pretrained(name_or_path).to(device).eval()
        return cls(model, Path(name_or_path).stem if name_or_path.endswith(".safetensors") else name_or_path)

    def __call__(
        self, image: UInt8[Array, "H W"], *, max_keypoints: int, mask: Bool[Array, "H W"] | None = None
    ) -> Features:
        """The strongest keypoints of a grey picture.

        Args:
            image: grey.
            max_keypoints: the budget.
            mask: True = real picture; None = everywhere.

        Returns:
            at most `max_keypoints` features.
        """
        from lfnet.models.config import ExtractionSettings

        settings = replace(self._settings or ExtractionSettings(), max_keypoints=max_keypoints)
        masks = None if mask is None else [mask]
        return self._model.extract([image], mask=masks, settings=settings)[0]


def make_extractors(names: Sequence[str], device: str = "cpu") -> list[Extractor]:
    """Extractors by name: `sift`, `rootsift`, `orb`, packaged weights, or a path to weights.

    Args:
        names: what to make. Weights files of one name are told apart by their folders, as those of two runs are; no
            two may end up with one name.
        device: torch device of models.

    Returns:
        one extractor for each name.

    Raises:
        ValueError: if two have the same name, as their results could not be told apart.
    """
    stems = [Path(name).stem for name in names]
    made: list[Extractor] = []
    for name, stem in zip(names, stems, strict=True):
        if name in ("sift", "rootsift", "orb"):
            made.append(OpenCVExtractor(name))
            continue
        model = LFNetExtractor.from_weights(name, device)
        if name.endswith(".safetensors") and stems.count(stem) > 1:
            model.name = f"{Path(name).resolve().parent.name}/{stem}"
        made.append(model)
    taken = [extractor.name for extractor in made]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise ValueError(f"methods must have different names, got twice: {', '.join(twice)}; rename a weights file")
    return made
