"""The descriptor network: a patch in, a unit vector out. Source: LF-Net section 3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.models.config import DescriptorConfig, OrientationConfig, PatchConfig
from lfnet.models.layers import conv_norm, wrapped
from lfnet.models.orientation import AngleNetwork, AngleScores, angle_weights, best_angles
from lfnet.models.patches import normalize_patches

if TYPE_CHECKING:
    from jaxtyping import Float


class Descriptor(nn.Module):
    """Three convolutions with stride 2 and two fully connected layers; L2-normalised.

    The columns of a log-polar patch are angles: there the convolutions see its last column beside its first, repeated
    beforehand as far as they reach. Where orientation is shared, patches are upright, and what the first two
    convolutions say of them is turned before the rest sees it.
    """

    def __init__(self, config: DescriptorConfig, patches: PatchConfig, orientation: OrientationConfig) -> None:
        super().__init__()
        shared = orientation.mode == "shared"
        self.config = config
        self.by_chances = shared and orientation.turning == "chances"
        self.round = patches.sampling == "log-polar"
        layers: list[nn.Module] = []
        inputs, (height, width) = 1, patches.shape
        padding = (1, 0) if self.round else 1
        for number, outputs in enumerate(config.channels):
            stride = (2, 1) if shared and number == TURNED - 1 else (2, 2)
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs, height, width = outputs, (height + 1) // 2, (width + stride[1] - 1) // stride[1]
        self.convolutions = nn.Sequential(*layers)
        turning, rings = config.channels[TURNED - 1], (patches.rings + 3) // 4
        self.angles = None
        if shared and orientation.hidden:
            self.angles = AngleNetwork(turning, rings, orientation.hidden)
        elif shared:
            self.angles = AngleScores(turning, rings)
        self.hidden = nn.Linear(inputs * height * width, config.hidden, bias=False)
        self.hidden_norm = nn.BatchNorm1d(config.hidden)
        self.output = nn.Linear(config.hidden, config.dimension)

    def forward(self, patches: Float[Tensor, "N R S"]) -> Float[Tensor, "N D"]:
        """Describe patches that stand in their keypoints' frames; rows of unit length."""
        features = self.begin(patches)
        return self.finish(wrapped(features) if self.round else features)

    def begin(self, patches: Float[Tensor, "N R S"]) -> Float[Tensor, "N C r A"]:
        """The first two convolutions, which turn with an upright log-polar patch."""
        if self.config.normalize_patches:
            patches = normalize_patches(patches.float())
        # Three columns before and two after are what two convolutions, the first of stride 2, see beyond the patch.
        return self._convolve((wrapped(patches, 3, 2) if self.round else patches)[:, None], slice(0, TURNED))

    def angle_scores(self, features: Float[Tensor, "N C r A"]) -> Float[Tensor, "N A"]:
        """Scores, as logits, of the angles 2 pi a / A, from what the first two convolutions say of upright patches."""
        assert self.angles is not None
        return self.angles(features)

    def turn(self, features: Float[Tensor, "N C r A"], logits: Float[Tensor, "N A"]) -> Float[Tensor, "N C r V"]:
        """Features as `finish` wants them, turned as the scores of their angles say."""
        if self.by_chances:
            return turned(features, torch.softmax(logits, -1))
        return turned(features, angle_weights(best_angles(logits), features.shape[-1]))

    def finish(self, features: Float[Tensor, "N C r V"]) -> Float[Tensor, "N D"]:
        """Descriptors, rows of unit length, from what the first two convolutions say; angles with one more each way."""
        features = self._convolve(features, slice(TURNED, None))
        hidden = F.relu(self.hidden_norm(self.hidden(features.flatten(1))), inplace=True)
        return F.normalize(self.output(hidden).float(), dim=-1)

    def _convolve(self, features: Float[Tensor, "N C r A"], which: slice) -> Float[Tensor, "N D s B"]:
        layers = list(self.convolutions)
        for conv, norm in list(zip(layers[::3], layers[1::3], strict=True))[which]:
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            features = F.relu(conv_norm(conv, norm, features), inplace=True)
        return features


TURNED = 2
"""Convolutions before features are turned, where orientation is shared."""


def turned(features: Float[Tensor, "N C R A"], weights: Float[Tensor, "N A"]) -> Float[Tensor, "N C R V"]:
    """Features over angles, as they would be if another angle were the first; one more each way.

    Args:
        features: what is turned.
        weights: how much each angle counts as the first: `angle_weights` of an orientation, or chances.
    """
    bins = features.shape[-1]
    shift = torch.arange(bins, device=features.device) - torch.arange(-1, bins + 1, device=features.device)[:, None]
    # One row of weights a keypoint; that of the next angle is the same, shifted by one.
    rows = weights.to(features.dtype)[:, shift % bins]
    return (rows[:, None] @ features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
