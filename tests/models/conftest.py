"""Untrained networks of the two kinds, whole."""

from __future__ import annotations

import pytest
import torch

from lfnet.models.lfnet import LFNet
from support.networks import lean_config


@pytest.fixture(scope="module")
def paper_model() -> LFNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LFNet().eval()


@pytest.fixture(scope="module")
def lean_model() -> LFNet:
    """The small lean network, with statistics of batch norm that a wrong fusion would show."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LFNet(lean_config()).eval()
        for module in model.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
                torch.nn.init.uniform_(module.weight, 0.5, 2.0)
                torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return model
