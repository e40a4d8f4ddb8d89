"""Small tensors that many tests begin with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.models.inputs import normalize_pictures


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everywhere(maps: Tensor) -> Tensor:
    return torch.ones_like(maps[:, :1], dtype=torch.bool)


def as_input(picture: NDArray[np.uint8]) -> Tensor:
    image = torch.from_numpy(picture)[None, None].float() / 255
    return normalize_pictures(image, everywhere(image))
