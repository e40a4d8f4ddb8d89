"""LF-Net models as methods."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import lfnet
from lfnet.files.checksum import checksum
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet
from lfnet.models.weights import resolve_weights
from lfnet.settings import config_to_dict

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from numpy import ndarray as Array

    from lfnet.features import Features


class LFNetExtractor:
    """An LF-Net model behind the extractor's call.

    Args:
        model: in evaluation mode.
        name: in tables.
        extraction: how keypoints are chosen; the budget is given with each picture.
        weights: what identifies the model's weights; a digest of them if left out.
    """

    wants_colour = False

    def __init__(
        self, model: LFNet, name: str, extraction: ExtractionSettings | None = None, weights: str | None = None
    ) -> None:
        self.name = name
        self.model = model
        """The network."""
        self.origin = ""
        """What `make_methods` makes it from; empty if it was made by another way."""
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        """Numbers that training has set."""
        self.model_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
        """What the network's numbers take."""
        self._extraction = extraction or ExtractionSettings()
        options = asdict(self._extraction)
        del options["max_keypoints"]
        self.settings: dict[str, Any] = {
            "kind": "lfnet",
            "weights": weights or _digest_of(model),
            "device": str(next(model.parameters()).device),
            "lfnet": lfnet.__version__,
            "torch": torch.__version__,
            "model": config_to_dict(model.config),
            "extraction": options,
        }

    @classmethod
    def from_weights(cls, name_or_path: str, device: str = "cpu") -> LFNetExtractor:
        """The model of packaged weights, or of a file, in evaluation mode.

        Args:
            name_or_path: `lfnet-cpu`, or a path to safetensors.
            device: torch device.

        Returns:
            the extractor, named after the weights.

        Raises:
            WeightsError: there are none, or they are damaged.
        """
        model = LFNet.from_pretrained(name_or_path).to(device).eval()
        name = Path(name_or_path).stem if name_or_path.endswith(".safetensors") else name_or_path
        made = cls(model, name, weights=checksum(resolve_weights(name_or_path)))
        made.origin = name_or_path
        return made

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
        settings = replace(self._extraction, max_keypoints=max_keypoints)
        masks = None if mask is None else [mask]
        return self.model.extract([image], mask=masks, settings=settings)[0]


def _digest_of(model: LFNet) -> str:
    state = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
