"""LF-Net as an extractor of hloc: what `hloc.extract_features` finds by the name "lfnet".

Source: github.com/cvg/Hierarchical-Localization, hloc/utils/base_model.py and extract_features.py.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lfnet.errors import UserError
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet

DEFAULTS = {"weights": "lfnet-cpu", "max_keypoints": 2048, "min_score": 0.0, "min_distance": 0.0}
"""What `conf["model"]` may say beside the name."""

CONFIGURATION = {
    "output": "feats-lfnet-n2048-r1600",
    "model": {"name": "lfnet", "weights": "lfnet-cpu", "max_keypoints": 2048},
    "preprocessing": {"grayscale": False, "resize_max": 1600},
}
"""hloc's `confs["lfnet"]`. Pictures come in colour, since ours and OpenCV's grey differ by a level."""


def register(package: str) -> None:
    """Make an extractor known to hloc, or to a program that brings a copy of it along.

    Args:
        package: name of hloc's package.

    Raises:
        UserError: there is no such package.
    """
    try:
        base = import_module(f"{package}.utils.base_model").BaseModel
        extract_features = import_module(f"{package}.extract_features")
    except ImportError as error:
        raise UserError(
            f"{package}: can't be imported ({error}); install hloc from its repository, or name the package that has it"
        ) from error
    # hloc imports `<package>.extractors.<name>` and takes the one model that is defined there.
    name = f"{package}.extractors.lfnet"
    module = ModuleType(name, "LF-Net, registered by lfnet.integrations.hloc.")
    module.LFNet = _extractor(base, name)  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules[name] = module
    extract_features.confs["lfnet"] = CONFIGURATION


def prediction(model: LFNet, image: Tensor, settings: ExtractionSettings) -> dict[str, Tensor]:
    """What hloc stores of one picture.

    Args:
        model: the network.
        image: (1, 1 or 3, H, W) in [0, 1].
        settings: how many keypoints, how good.

    Returns:
        keypoints (1, N, 2), float64 since hloc would store float32 in 16 bits, which step by a whole pixel beyond 1024;
        descriptors (1, D, N); scores, scales, oris in degrees for its AdaLAM, and orientations in radians, (1, N) each.
    """
    features = model.extract(image, settings=settings)[0]
    arrays = {
        "keypoints": features.keypoints.astype(np.float64),
        "descriptors": features.descriptors.T,
        "scores": features.scores,
        "scales": features.scales,
        "oris": np.degrees(features.orientations),
        "orientations": features.orientations,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(array))[None] for name, array in arrays.items()}


def _extractor(base: Any, module: str) -> type:
    """hloc's kind of model, on the base class of the package at hand."""

    def _init(self: Any, conf: dict[str, Any]) -> None:
        self.net = LFNet.from_pretrained(conf["weights"])
        self.settings = ExtractionSettings(
            max_keypoints=conf["max_keypoints"], min_score=conf["min_score"], min_distance=conf["min_distance"]
        )

    def _forward(self: Any, data: dict[str, Tensor]) -> dict[str, Tensor]:
        return prediction(self.net, data["image"], self.settings)

    members = {
        "__module__": module,
        "__doc__": "LF-Net's keypoints and descriptors.",
        "default_conf": DEFAULTS,
        "required_inputs": ["image"],
        "_init": _init,
        "_forward": _forward,
    }
    return type("LFNet", (base,), members)
