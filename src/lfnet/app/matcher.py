"""Features, matches and score maps of two pictures: what the network's process does."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lfnet.app.downloads import features_file
from lfnet.app.drawings import heat
from lfnet.app.painting import painted
from lfnet.app.poses import Posed, posed
from lfnet.app.requests import DownloadRequest, MatchRequest, NetworkChoice, Pose, TargetRequest
from lfnet.coordinates import Size
from lfnet.errors import UserError
from lfnet.features import Features, Matches
from lfnet.images import shrink
from lfnet.matching import mutual_nearest_neighbours, verify
from lfnet.models.config import ExtractionSettings
from lfnet.models.inputs import normalize_pictures, picture_tensor
from lfnet.models.lfnet import LFNet
from lfnet.models.weights import list_pretrained

RIGHT_WITHIN = 3.0
"""Pixels from the true place within which a match counts as right, where the sliders are the truth."""
KEPT = 8
"""Pictures whose features are kept: while the second is turned, the first is not looked at again."""
DIGITS = 2
"""Decimal places of positions that the page is told."""


@dataclass(frozen=True)
class Seen:
    """A picture as it was worked at, and what was found."""

    shown: Posed
    features: Features
    milliseconds: dict[str, float]
    """By stage."""


class Matcher:
    """The packaged networks, and what they found last.

    Args:
        device: that they work on.
        threads: of the CPU; None: as many as PyTorch chooses.
        first: the weights to load at once; the others are loaded when they are first asked for.
    """

    def __init__(self, device: str, threads: int | None, first: str) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
        self.device = torch.device(device)
        self._models: dict[str, LFNet] = {}
        self._kept: OrderedDict[tuple[Any, ...], Seen] = OrderedDict()
        self._model(first)

    def match(self, request: MatchRequest, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> dict[str, Any]:
        """Everything that the page shows of two pictures, as JSON has it.

        Args:
            request: how; its tokens tell pictures apart.
            first: (H, W, 3) RGB.
            second: (H, W, 3) RGB, as it came.
        """
        kept, a = self._seen(request.first, first, Pose(), request.network)
        _, b = self._seen(request.second, second, request.pose, request.network)
        started = time.perf_counter()
        mutual = mutual_nearest_neighbours(a.features, b.features)
        matched = time.perf_counter()
        inliers, model = _verified(a.features, b.features, mutual, request)
        verified = time.perf_counter()
        stages = {name: b.milliseconds[name] + (0 if kept else a.milliseconds[name]) for name in b.milliseconds}
        stages["match"] = 1e3 * (matched - started)
        if request.geometry != "none":
            stages["verify"] = 1e3 * (verified - matched)
        answer: dict[str, Any] = {
            "first": _drawn(a),
            "second": _drawn(b),
            "matches": mutual.indices.tolist(),
            "inliers": np.isin(mutual.indices[:, 0], inliers.indices[:, 0]).tolist(),
            "model": None if model is None else model.tolist(),
            "right": self._right(request, a.features, b, mutual),
            "stages": {name: round(value, 1) for name, value in stages.items()},
            "kept": kept,
        }
        if request.scores:
            answer["scores"] = [self._scores(request.network.weights, each.shown) for each in (a, b)]
        return answer

    def target(self, request: TargetRequest, second: NDArray[np.uint8]) -> dict[str, Any]:
        """What training would paint of this picture; see `painting.painted`."""
        return painted(self._model(request.weights), second, request.pose)

    def download(self, request: DownloadRequest, pictures: list[NDArray[np.uint8]], sizes: list[Size]) -> bytes:
        """The features of both pictures as a file, in pixels of the pictures as they came.

        Args:
            request: which pictures, how, and in what format.
            pictures: both, (H, W, 3) RGB.
            sizes: of both as they came, (width, height).
        """
        match = request.match
        poses = (Pose(), match.pose)
        found = [
            self._seen(token, pixels, pose, match.network)[1].features.resized(size)
            for token, pixels, pose, size in zip((match.first, match.second), pictures, poses, sizes, strict=True)
        ]
        return features_file(request, found)

    def forget(self, token: str) -> None:
        """Let go of what was found in a picture."""
        for key in [key for key in self._kept if key[0] == token]:
            del self._kept[key]

    def _model(self, weights: str) -> LFNet:
        if weights not in list_pretrained():
            raise UserError(f"weights: expected one of {', '.join(list_pretrained())}, got {weights!r}")
        if weights not in self._models:
            self._models[weights] = LFNet.from_pretrained(weights).to(self.device).requires_grad_(False)
        return self._models[weights]

    def _seen(self, token: str, pixels: NDArray[np.uint8], pose: Pose, network: NetworkChoice) -> tuple[bool, Seen]:
        """Features of a picture, and whether they were kept from before."""
        key = (token, pose, network)
        if key in self._kept:
            self._kept.move_to_end(key)
            return True, self._kept[key]
        model = self._model(network.weights)
        started = time.perf_counter()
        shown = posed(shrink(pixels, network.size), pose)
        turned = time.perf_counter()
        settings = ExtractionSettings(max_keypoints=network.keypoints)
        with _timed(model.detector) as detecting:
            features = model.extract([shown.pixels], mask=[shown.valid], settings=settings)[0]
        done = time.perf_counter()
        milliseconds = {
            "turn": 1e3 * (turned - started),
            "detect": 1e3 * sum(detecting),
            "describe": 1e3 * (done - turned - sum(detecting)),
        }
        self._kept[key] = Seen(shown, features, milliseconds)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return False, self._kept[key]

    @torch.inference_mode()
    def _scores(self, weights: str, shown: Posed) -> str:
        model = self._model(weights)
        image, valid = (each[None].to(self.device) for each in picture_tensor(shown.pixels, shown.valid))
        normalized = normalize_pictures(image, valid)
        maps = model.ranked(model.detect(normalized, valid), normalized, valid)
        return heat((maps.scores * valid)[0, 0].cpu().numpy())

    def _right(self, request: MatchRequest, a: Features, b: Seen, matches: Matches) -> list[bool] | None:
        """Which matches are at their true place; None where it is not known, as for two different pictures."""
        if request.first != request.second:
            return None
        matrix = b.shown.matrix
        places = a.keypoints[matches.indices[:, 0]] @ matrix[:2, :2].T + matrix[:2, 2]
        found = b.features.keypoints[matches.indices[:, 1]]
        return (np.linalg.norm(places - found, axis=1) <= RIGHT_WITHIN).tolist()


def _verified(
    a: Features, b: Features, matches: Matches, request: MatchRequest
) -> tuple[Matches, NDArray[np.float64] | None]:
    if request.geometry == "none":
        return matches, None
    return verify(a, b, matches, request.geometry, threshold=request.threshold)


def _drawn(seen: Seen) -> dict[str, Any]:
    """Keypoints as rows of x, y, scale, orientation and score, and the frame that they are in."""
    features = seen.features
    columns = (features.keypoints, features.scales, features.orientations, features.scores)
    rows = np.round(np.column_stack(columns).astype(np.float64), DIGITS + 1)
    width, height = features.image_size
    return {"width": width, "height": height, "matrix": seen.shown.matrix.tolist(), "keypoints": rows.tolist()}


@contextmanager
def _timed(module: torch.nn.Module) -> Iterator[list[float]]:
    """Seconds of each call of a module while the block lasts."""
    seconds: list[float] = []

    def clock() -> float:
        if next(module.parameters()).is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def before(*_: object) -> None:
        seconds.append(-clock())

    def after(*_: object) -> None:
        seconds[-1] += clock()

    hooks = (module.register_forward_pre_hook(before), module.register_forward_hook(after))
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()
