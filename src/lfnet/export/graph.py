"""What an exported network computes: the model's own functions, between the inputs and outputs that a client wants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lfnet.geometry.sizes import at_least, tensor_of
from lfnet.images import GREY_WEIGHTS
from lfnet.models.config import ExtractionSettings
from lfnet.models.keypoints import Keypoints
from lfnet.models.network import Network

if TYPE_CHECKING:
    from jaxtyping import Float, Int

INPUTS = ("image", "max_keypoints", "min_score")
"""What every exported network takes: RGB (1, 3, H, W) float32 in [0, 1], and two numbers, int64 and float32."""


@dataclass(frozen=True)
class _Asked(ExtractionSettings):
    """Settings whose numbers are inputs of the graph: they have no values yet that could be checked."""

    max_keypoints: Any = 1024
    min_score: Any = 0.0

    def __post_init__(self) -> None:
        pass


class RuntimeGraph(nn.Module):
    """The features of one image, in pixels, as `LFNet.extract` gives them.

    Args:
        network: in evaluation mode.
    """

    outputs = ("keypoints", "scales", "orientations", "scores", "sigmas", "descriptors")

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @property
    def dimension(self) -> int:
        """Values of a descriptor."""
        return self.network.config.descriptor.dimension

    def forward(
        self, image: Float[Tensor, "1 3 H W"], max_keypoints: Int[Tensor, ""], min_score: Float[Tensor, ""]
    ) -> tuple[Tensor, ...]:
        """Outputs in the order of `outputs`, K keypoints, best first.

        Args:
            image: RGB in [0, 1].
            max_keypoints: at most these, the best by score.
            min_score: in [0, 1].

        Returns:
            Keypoints (1, K, 2) in pixels, scales, orientations in radians, scores and sigmas (1, K), and descriptors
            (1, K, D).
        """
        found, descriptors = self.find(image, max_keypoints, min_score)
        angles = torch.atan2(found.orientations[..., 1], found.orientations[..., 0])
        return found.points, found.scales, angles, found.scores, found.sigmas, descriptors

    def find(
        self, image: Float[Tensor, "1 3 H W"], max_keypoints: Tensor, min_score: Tensor
    ) -> tuple[Keypoints, Float[Tensor, "1 K D"]]:
        """Keypoints and their descriptors."""
        grey = (image * image.new_tensor(GREY_WEIGHTS).view(1, 3, 1, 1)).sum(1, keepdim=True)
        valid = torch.ones_like(grey, dtype=torch.bool)
        keypoints, descriptors = self.network.find(grey, valid, _Asked(max_keypoints, min_score))[0]
        return keypoints, descriptors[None]


LEAST_SCORE = 0.2
"""COLMAP's `min_score` of ALIKED: a score s of ours is 0.2 + 0.8 s there, so that its default keeps every keypoint."""
LEAST_COSINE = 0.85
"""COLMAP's `min_cossim` of ALIKED: a cosine c of ours is 0.85 + 0.15 c there, so that its default keeps every match of
descriptors that are at most at a right angle."""


class ColmapGraph(RuntimeGraph):
    """The features of one image in the signature that COLMAP runs ALIKED by.

    Descriptors have one constant value more. It raises every cosine alike, so the order of matches stays.
    """

    outputs = ("keypoints", "descriptors", "scores")

    @property
    def dimension(self) -> int:
        """Values of a descriptor, the constant one among them."""
        return super().dimension + 1

    def forward(
        self, image: Float[Tensor, "1 3 H W"], max_keypoints: Int[Tensor, ""], min_score: Float[Tensor, ""]
    ) -> tuple[Tensor, ...]:
        """Outputs in the order of `outputs`, K keypoints, best first.

        Args:
            image: RGB in [0, 1], its edge replicated at the right and the bottom to a multiple of 32.
            max_keypoints: at most these, the best by score.
            min_score: on COLMAP's scale.

        Returns:
            Keypoints (1, K, 2) from -1 to 1 over W - 1 and H - 1, descriptors (1, K, D + 1), scores (1, K).
        """
        least = ((min_score - LEAST_SCORE) / (1 - LEAST_SCORE)).clamp_min(0)
        found, descriptors = self.find(image, max_keypoints, least)
        height, width = image.shape[-2:]
        extent = tensor_of((at_least(width - 1, 1), at_least(height - 1, 1)), found.points)
        longer = nn.functional.pad(descriptors * math.sqrt(1 - LEAST_COSINE), (0, 1), value=math.sqrt(LEAST_COSINE))
        return 2 * found.points / extent - 1, longer, LEAST_SCORE + (1 - LEAST_SCORE) * found.scores
