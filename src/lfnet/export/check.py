"""How far an ONNX file is from the network that it was made of, on real images."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lfnet.export.graph import LEAST_COSINE, LEAST_SCORE
from lfnet.export.onnx_file import Client, import_extra
from lfnet.features import Features
from lfnet.images import shrink
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet

LONG_SIDE = 480
"""Larger images are compared at this long side, in pixels."""
KEYPOINTS = 512
"""Compared of each image."""


@dataclass(frozen=True)
class Limits:
    """What counts as agreement."""

    distance: float
    """Pixels between two places that are the same."""
    share: float
    """Least share of keypoints that are in both."""
    cosine: float
    """Least cosine of two descriptors of one keypoint."""
    score: float
    """Most that scores of one keypoint differ by."""

    def __str__(self) -> str:
        return (
            f"allowed are {self.distance} px for a keypoint that is in both, {1 - self.share:.0%} that are not, "
            f"{self.score:g} between scores and a cosine of {self.cosine}"
        )


EXACT = Limits(distance=0.01, share=0.99, cosine=0.9999, score=1e-3)
"""Of weights in 32 bits. Two keypoints of nearly one score may change places in the order, and with it the last one."""
HALF = Limits(distance=0.1, share=0.95, cosine=0.999, score=1e-2)
"""Of weights in 16 bits, whose rounding is a change of the network."""


@dataclass(frozen=True)
class Agreement:
    """One image, by PyTorch and by onnxruntime."""

    name: str
    keypoints: int
    """By PyTorch."""
    found: int
    """By onnxruntime."""
    both: int
    """Of the first, those that the second has at the same place."""
    distance: float
    """Largest of those, in pixels; 0 where there is none, as below."""
    score: float
    """Largest difference."""
    cosine: float
    """Lowest, of descriptors; 1 where there is none."""
    seconds: tuple[float, float]
    """The faster of two runs, by PyTorch and by onnxruntime."""

    def within(self, limits: Limits) -> bool:
        """Whether both say the same."""
        as_many = min(self.both, self.keypoints, self.found) >= limits.share * max(self.keypoints, self.found)
        return as_many and self.score <= limits.score and self.cosine >= limits.cosine


class OnnxFeatures:
    """Features by an exported file, run by onnxruntime on a CPU.

    Args:
        path: the file.
        threads: of onnxruntime.

    Raises:
        UserError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        onnxruntime: Any = import_extra("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.client: Client = "colmap" if facts["format"].endswith("colmap") else "runtime"

    def __call__(self, image: NDArray[np.float32], max_keypoints: int) -> Mapping[str, NDArray]:
        """Keypoints in pixels, scores and descriptors as the network has them.

        Args:
            image: (1, 3, H, W) RGB in [0, 1].
            max_keypoints: at most these.
        """
        names = [output.name for output in self.session.get_outputs()]
        inputs = {"image": image, "max_keypoints": np.int64(max_keypoints), "min_score": np.float32(0)}
        rows = self.session.run(names, {name: np.asarray(value) for name, value in inputs.items()})
        found = {name: row[0] for name, row in zip(names, rows, strict=True)}
        if self.client == "colmap":
            extent = np.array([image.shape[-1] - 1, image.shape[-2] - 1], np.float32)
            found["keypoints"] = (found["keypoints"] + 1) * (extent / 2)
            found["scores"] = (found["scores"] - LEAST_SCORE) / (1 - LEAST_SCORE)
            found["descriptors"] = found["descriptors"][:, :-1] / math.sqrt(1 - LEAST_COSINE)
        return found


def bundled_images() -> dict[str, NDArray[np.uint8]]:
    """Two photographs that scikit-image brings along.

    Raises:
        ModuleNotFoundError: scikit-image is not installed (extra `demo`).
    """
    from skimage import data

    return {"astronaut": data.astronaut(), "coffee": data.coffee()}


def as_input(image: NDArray[np.uint8], client: Client) -> NDArray[np.float32]:
    """An image as the file takes it.

    Args:
        image: (H, W, 3) RGB.
        client: COLMAP replicates the edge at the right and the bottom, to a multiple of 32.

    Returns:
        (1, 3, H, W) in [0, 1].
    """
    if client == "colmap":
        image = np.pad(image, ((0, -image.shape[0] % 32), (0, -image.shape[1] % 32), (0, 0)), mode="edge")
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def compare(model: LFNet, features: OnnxFeatures, name: str, image: NDArray[np.uint8], limits: Limits) -> Agreement:
    """How far the file is from the network on one image.

    Args:
        model: in evaluation mode, on the CPU.
        features: by the file.
        name: of the image.
        image: (H, W, 3) RGB.
        limits: of what counts as the same place.
    """
    pixels = as_input(shrink(image, LONG_SIDE), features.client)
    settings = ExtractionSettings(max_keypoints=KEYPOINTS)
    expected, by_torch = _timed(lambda: model.extract(torch.from_numpy(pixels), settings=settings)[0])
    found, by_onnx = _timed(lambda: features(pixels, KEYPOINTS))
    return _agreement(name, expected, found, (by_torch, by_onnx), limits)


def _agreement(
    name: str,
    expected: Features,
    found: Mapping[str, NDArray[np.float32]],
    seconds: tuple[float, float],
    limits: Limits,
) -> Agreement:
    count = len(found["keypoints"])
    if not len(expected) or not count:
        return Agreement(name, len(expected), count, 0, 0.0, 0.0, 1.0, seconds)
    distances = np.linalg.norm(expected.keypoints[:, None] - found["keypoints"][None], axis=-1)
    nearest, least = distances.argmin(1), distances.min(1)
    same = least <= limits.distance
    rows = nearest[same]
    cosines = (expected.descriptors[same] * found["descriptors"][rows]).sum(1)
    scores = np.abs(expected.scores[same] - found["scores"][rows])
    both = int(same.sum())
    worst = (float(least[same].max()), float(scores.max()), float(cosines.min())) if both else (0.0, 0.0, 1.0)
    return Agreement(name, len(expected), count, both, *worst, seconds)


def _timed(function: Any) -> tuple[Any, float]:
    """What a function gives, and the faster of two runs in seconds."""
    times = []
    result = None
    for _ in range(2):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, min(times)


@dataclass(frozen=True)
class Report:
    """How far a file is from the network, on several images."""

    images: list[Agreement]
    limits: Limits

    @property
    def agrees(self) -> bool:
        """Whether all images are within the limits, and something was compared."""
        return any(each.both for each in self.images) and all(each.within(self.limits) for each in self.images)

    def lines(self) -> list[str]:
        """A line for each image, and one on time."""
        told = [
            f"{each.name}: {each.both} of {each.keypoints} keypoints in both, {each.distance:.4f} px apart at most, "
            f"scores {each.score:.1e}, cosine of descriptors {each.cosine:.6f} at least"
            for each in self.images
        ]
        by_torch, by_onnx = (sum(each.seconds[which] for each in self.images) for which in (0, 1))
        return [*told, f"onnxruntime took {by_onnx / by_torch:.2f} times the time of PyTorch, one thread each"]


def check(model: LFNet, path: str | Path, images: Mapping[str, NDArray[np.uint8]], *, half: bool = False) -> Report:
    """Compare a file with the network that it was made of.

    Args:
        model: in evaluation mode, on the CPU.
        path: the file.
        images: (H, W, 3) RGB, by name.
        half: the file's weights have 16 bits, so it may differ more.

    Raises:
        UserError: onnxruntime is not installed.
    """
    limits = HALF if half else EXACT
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        features = OnnxFeatures(path)
        compared = [compare(model, features, name, image, limits) for name, image in images.items()]
    finally:
        torch.set_num_threads(threads)
    return Report(compared, limits)
