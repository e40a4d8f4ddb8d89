"""LF-Net for deep-image-matching (github.com/3DOM-FBK/deep-image-matching).

Copy to `deep_image_matching/extractors/lfnet.py`. In `config.py` add "lfnet" to `opt_zoo["extractors"]`, and to `confs`

    "lfnet+kornia_matcher": {
        "extractor": {"name": "lfnet", "weights": "lfnet-cpu", "max_keypoints": 4000},
        "matcher": {"name": "kornia_matcher", "match_mode": "smnn", "th": 0.99},
    },

The default matcher asks for a ratio below 0.8 to 0.95, which suits SIFT; LF-Net's descriptors want it off, or near 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lfnet import ExtractionSettings, LFNet

from .extractor_base import ExtractorBase, FeaturesDict


class LFNetExtractor(ExtractorBase):
    _default_conf = {"name": "lfnet", "weights": "lfnet-cpu", "max_keypoints": 4000}  # noqa: RUF012
    grayscale = True
    as_float = False
    features_as_half = False  # 16 bits step by a whole pixel beyond 1024.

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        settings = self.config["extractor"]
        self._model = LFNet.from_pretrained(settings["weights"]).to(self._device)
        self._settings = ExtractionSettings(max_keypoints=settings["max_keypoints"])
        self.descriptor_size = self._model.config.descriptor.dimension

    def _extract(self, image: np.ndarray) -> FeaturesDict:
        found = self._model.extract([image], settings=self._settings)[0]
        return FeaturesDict(keypoints=found.keypoints, descriptors=found.descriptors.T, scores=found.scores)

    def _frame2tensor(self, image: np.ndarray, device: str = "cpu") -> None:
        """The network takes arrays."""
