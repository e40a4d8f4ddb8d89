"""LF-Net for image-matching-webui (github.com/Vincentqyw/image-matching-webui), which brings a copy of hloc along.

Copy to `imcui/hloc/extractors/lfnet.py`, and add to `confs` of `imcui/hloc/configs/extractors.py`

    "lfnet": {
        "output": "feats-lfnet",
        "model": {"name": "lfnet", "weights": "lfnet-cpu", "max_keypoints": 2048},
        "preprocessing": {"grayscale": False, "resize_max": 1600},
    },

and to `matcher_zoo` of `imcui/config/app.yaml`

    lfnet:
      matcher: NN-mutual
      feature: lfnet
      standalone: false
      info: {name: LF-Net, source: "NeurIPS 2018", paper: "https://arxiv.org/abs/1805.09662", display: true}

Without copying, `lfnet.integrations.hloc.register("imcui.hloc")` does the first two.
"""

from __future__ import annotations

from typing import Any

import torch

from lfnet import ExtractionSettings
from lfnet import LFNet as Network
from lfnet.integrations.hloc_extractor import DEFAULTS, prediction

from ..utils.base_model import BaseModel


class LFNet(BaseModel):
    default_conf = DEFAULTS
    required_inputs = ["image"]  # noqa: RUF012

    def _init(self, conf: dict[str, Any]) -> None:
        self.net = Network.from_pretrained(conf["weights"])
        self.settings = ExtractionSettings(
            max_keypoints=conf["max_keypoints"], min_score=conf["min_score"], min_distance=conf["min_distance"]
        )

    def _forward(self, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return prediction(self.net, data["image"], self.settings)
