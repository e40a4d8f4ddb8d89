"""The descriptor network: a patch in, a unit vector out. Source: LF-Net section 3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.models.config import DescriptorConfig, PatchConfig

if TYPE_CHECKING:
    from jaxtyping import Float


class Descriptor(nn.Module):
    """Three convolutions with stride 2 and two fully connected layers; L2-normalised."""

    def __init__(self, config: DescriptorConfig, patches: PatchConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        inputs, side = 1, patches.size
        for outputs in config.channels:
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            inputs, side = outputs, (side + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(inputs * side * side, config.hidden, bias=False)
        self.hidden_norm = nn.BatchNorm1d(config.hidden)
        self.output = nn.Linear(config.hidden, config.dimension)

    def forward(self, patches: Float[Tensor, "N S S"]) -> Float[Tensor, "N D"]:
        """Describe patches; rows of unit length."""
        if self.config.normalize_patches:
            patches = normalize_patches(patches.float())
        features = self.convolutions(patches[:, None].contiguous(memory_format=torch.channels_last))
        hidden = F.relu(self.hidden_norm(self.hidden(features.flatten(1))))
        return F.normalize(self.output(hidden).float(), dim=-1)


def normalize_patches(patches: Float[Tensor, "N S S"], epsilon: float = 1e-2) -> Float[Tensor, "N S S"]:
    """Zero mean and unit deviation of each patch; `epsilon` keeps the noise of a flat patch small."""
    centred = patches - patches.mean((-2, -1), keepdim=True)
    deviation = centred.square().mean((-2, -1), keepdim=True).add(epsilon**2).sqrt()
    return centred / deviation
