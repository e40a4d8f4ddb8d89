"""The descriptor network: a patch in, a unit vector out. Source: LF-Net section 3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.models.config import DescriptorConfig, PatchConfig
from lfnet.models.layers import conv_norm, wrapped

if TYPE_CHECKING:
    from jaxtyping import Float


class Descriptor(nn.Module):
    """Three convolutions with stride 2 and two fully connected layers; L2-normalised.

    The columns of a log-polar patch are angles: there the convolutions see its last column beside its first.
    """

    def __init__(self, config: DescriptorConfig, patches: PatchConfig) -> None:
        super().__init__()
        self.config = config
        self.round = patches.sampling == "log-polar"
        layers: list[nn.Module] = []
        inputs, (height, width) = 1, patches.shape
        for outputs in config.channels:
            padding = (1, 0) if self.round else 1
            layers += [nn.Conv2d(inputs, outputs, 3, 2, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs, height, width = outputs, (height + 1) // 2, (width + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(inputs * height * width, config.hidden, bias=False)
        self.hidden_norm = nn.BatchNorm1d(config.hidden)
        self.output = nn.Linear(config.hidden, config.dimension)

    def forward(self, patches: Float[Tensor, "N R S"]) -> Float[Tensor, "N D"]:
        """Describe patches; rows of unit length."""
        if self.config.normalize_patches:
            patches = normalize_patches(patches.float())
        features = patches[:, None]
        layers = list(self.convolutions)
        for conv, norm in zip(layers[::3], layers[1::3], strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            features = F.relu(conv_norm(conv, norm, wrapped(features) if self.round else features), inplace=True)
        hidden = F.relu(self.hidden_norm(self.hidden(features.flatten(1))), inplace=True)
        return F.normalize(self.output(hidden).float(), dim=-1)


def normalize_patches(patches: Float[Tensor, "N R S"], epsilon: float = 1e-2) -> Float[Tensor, "N R S"]:
    """Zero mean and unit deviation of each patch; `epsilon` keeps the noise of a flat patch small."""
    centred = patches - patches.mean((-2, -1), keepdim=True)
    deviation = centred.square().mean((-2, -1), keepdim=True).add(epsilon**2).sqrt()
    return centred / deviation
