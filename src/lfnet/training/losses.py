"""The equations of LF-Net section 3.3, as pure functions of tensors.

How each is reduced is part of the method, since L_im must dominate:
- `image_loss`: sum over known pixels, divided by the number of painted points, averaged over the batch. A blank score
  map costs 1.07 (the energy of a sampled Gaussian of deviation 0.5 px), whatever K and the size of the picture.
- `orientation_loss`, `scale_loss`, `pair_loss`: mean over the points that count.
- `triplet_loss`: mean over the correspondences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def masked_mean(values: Float[Tensor, "*S"], mask: Bool[Tensor, "*S"]) -> Float[Tensor, ""]:
    """Mean of the values where the mask holds; 0 (with zero gradient) where it holds nowhere."""
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum() / mask.sum().clamp_min(1)


def image_loss(
    scores: Float[Tensor, "B 1 H W"],
    target: Float[Tensor, "B 1 H W"],
    known: Bool[Tensor, "B 1 H W"],
    present: Bool[Tensor, "B K"],
) -> Float[Tensor, ""]:
    """L_im: squared difference of score map and painted target over the pixels where it is known, per painted point."""
    squared = torch.where(known, (scores - target).square(), torch.zeros_like(scores)).sum((1, 2, 3))
    return (squared / present.sum(1).clamp_min(1)).mean()


def orientation_loss(
    orientations: Float[Tensor, "B K 2"], target: Float[Tensor, "B K 2"], counts: Bool[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """L_ori: squared distance of (cos, sin); 0 for equal angles, 4 for opposite ones."""
    return masked_mean((orientations - target).square().sum(-1), counts)


def scale_loss(
    scales: Float[Tensor, "B K"], target: Float[Tensor, "B K"], counts: Bool[Tensor, "B K"], reach: float
) -> Float[Tensor, ""]:
    """L_s: squared difference of log scales, where the target lies within the scales that the network has."""
    possible = (target >= 1 / reach * (1 - 1e-3)) & (target <= reach * (1 + 1e-3))
    difference = torch.log(scales) - torch.log(target.clamp(1e-3, 1e3))
    return masked_mean(difference.square(), counts & possible)


def pair_loss(
    descriptors_i: Float[Tensor, "B K D"], descriptors_j: Float[Tensor, "B K D"], counts: Bool[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """L_pair: squared distance of the descriptors of corresponding keypoints."""
    return masked_mean((descriptors_i - descriptors_j).square().sum(-1), counts)


def triplet_loss(
    anchors: Float[Tensor, "B K D"],
    positives: Float[Tensor, "B K D"],
    negatives: Float[Tensor, "B K D"],
    counts: Bool[Tensor, "B K"],
    margin: float,
) -> Float[Tensor, ""]:
    """L_tri: max(0, |anchor - positive|^2 - |anchor - negative|^2 + margin)."""
    near = (anchors - positives).square().sum(-1)
    far = (anchors - negatives).square().sum(-1)
    return masked_mean((near - far + margin).clamp_min(0), counts)
