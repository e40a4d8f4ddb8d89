"""A pair to train on, and a small network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.data.augment import GeometricConfig
from lfnet.data.pair import Pair
from lfnet.data.pair_sources import PicturePairs
from lfnet.models.lfnet import LFNet
from support.networks import tiny_config
from support.tensors import seeded


@pytest.fixture(scope="module")
def pair(camera: NDArray[np.uint8]) -> Pair:
    """Two views of a photograph, turned and zoomed."""
    return PicturePairs([camera], GeometricConfig(rotation=40.0), 64).sample(seeded(3))


@pytest.fixture
def model() -> LFNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LFNet(tiny_config()).train()
