"""LF-Net for vismatch (github.com/gmberton/vismatch), the successor of image-matching-models.

Copy to `vismatch/im_models/lfnet.py`, add "lfnet" to `available_models` and this to `get_matcher`:

    if matcher_name == "lfnet":
        from vismatch.im_models import lfnet

        return lfnet.LFNetMatcher(device, max_num_keypoints=max_num_keypoints, **kwargs)

Or use the class as it is: `LFNetMatcher()("a.jpg", "b.jpg")`.
"""

from __future__ import annotations

from typing import Any

import torch
from vismatch import BaseMatcher

from lfnet import ExtractionSettings, LFNet, mutual_nearest_neighbours


class LFNetMatcher(BaseMatcher):
    def __init__(
        self, device: str = "cpu", max_num_keypoints: int = 2048, weights: str = "lfnet-cpu", **kwargs: Any
    ) -> None:
        super().__init__(device, **kwargs)
        self.model = LFNet.from_pretrained(weights).to(device)
        self.settings = ExtractionSettings(max_keypoints=max_num_keypoints)

    def _forward(self, img0: torch.Tensor, img1: torch.Tensor) -> tuple[Any, ...]:
        a, b = self.model.extract([img0, img1], settings=self.settings)
        matches = mutual_nearest_neighbours(a, b)
        index_a, index_b = matches.indices.T
        matched = a.keypoints[index_a], b.keypoints[index_b]
        return *matched, a.keypoints, b.keypoints, a.descriptors, b.descriptors, matches.scores
