"""The equations of LF-Net section 3.3, as pure functions of tensors.

How each is reduced is part of the method, since L_im must dominate:
- `image_loss`: sum over known pixels, divided by the number of painted points, averaged over the batch. A blank score
  map costs 1.07, whatever K and the size of the picture: the energy of a Gaussian of deviation 0.5 px sampled at its
  peak (0.79 on the mean of sub-pixel places).
- `orientation_loss`, `scale_loss`, `pair_loss`: mean over the points that count.
- `triplet_loss`, `dual_softmax_loss`: mean over the correspondences.
"""

from __future__ import annotations

import math
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


def sharpening_loss(
    scores: Float[Tensor, "B 1 H W"], target: Float[Tensor, "B 1 H W"], known: Bool[Tensor, "B 1 H W"]
) -> Float[Tensor, ""]:
    """L_ce: cross-entropy of the score map, a softmax over windows, and the painted target, per painted mass.

    Where scores are still low, L_im's gradient is as low; this one's is not, so maps sharpen from the first steps on.
    """
    painted = target * known
    logs = scores.clamp_min(1e-9).log()
    return -((painted * logs).sum((1, 2, 3)) / painted.sum((1, 2, 3)).clamp_min(1)).mean()


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


def angle_loss(
    logits: Float[Tensor, "B K A"], target: Float[Tensor, "B K 2"], counts: Bool[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """L_ori for scores over A angles: cross-entropy to the painter's one angle, shared by the two angles around it.

    Args:
        logits: of the learner.
        target: (cos, sin) that the painter sees, carried into the learner's view; a constant.
        counts: which points exist in both views.
    """
    bins = logits.shape[-1]
    position = torch.atan2(target[..., 1], target[..., 0]) * (bins / (2 * math.pi))
    low = position.floor()
    share = (position - low)[..., None]
    index = low.long()[..., None] % bins
    logs = torch.log_softmax(logits, -1)
    entropy = -(1 - share) * logs.gather(-1, index) - share * logs.gather(-1, (index + 1) % bins)
    return masked_mean(entropy[..., 0], counts)


def agreement_loss(
    logits: Float[Tensor, "B K A"], painted: Float[Tensor, "B K A"], counts: Bool[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """L_ori for scores over A angles: -log of the chance that learner and painter draw the same angle.

    Where the painter is torn between two angles, the learner may take either, and so both become sure of one that both
    can see; a cross-entropy to the painter's one angle would teach the learner its doubts.

    Args:
        logits: of the learner.
        painted: chances that the painter gives these angles; constants.
        counts: which points exist in both views.
    """
    same = (torch.softmax(logits, -1) * painted).sum(-1)
    return masked_mean(-(same + 1e-6).log(), counts)


def dual_softmax_loss(
    descriptors_i: Float[Tensor, "B K D"],
    descriptors_j: Float[Tensor, "B K D"],
    places_i: Float[Tensor, "B K 2"],
    places_j: Float[Tensor, "B K 2"],
    counts: Bool[Tensor, "B K"],
    radius: float,
    temperature: float,
) -> Float[Tensor, ""]:
    """Cross-entropy of each correspondence among all of the batch, from i to j and from j to i.

    Descriptors of the other pairs of the batch are negatives too. Those of the same pair from nearer than `radius` are
    left out, since they show nearly the same.

    Args:
        descriptors_i: unit rows; correspondence k of both views is row k.
        descriptors_j: the same of the other view.
        places_i: (x, y) in pixels of i.
        places_j: (x, y) in pixels of j.
        counts: which correspondences exist.
        radius: px.
        temperature: the similarities are divided by it.
    """
    kept = counts.flatten()
    if int(kept.sum()) < 2:
        return descriptors_i.sum() * 0
    rows_i, rows_j = descriptors_i.flatten(0, 1)[kept], descriptors_j.flatten(0, 1)[kept]
    number = torch.arange(len(counts), device=counts.device)[:, None].expand_as(counts).flatten()[kept]
    near = torch.zeros(len(rows_i), len(rows_i), dtype=torch.bool, device=counts.device)
    for places in (places_i, places_j):
        flat = places.flatten(0, 1)[kept]
        near |= torch.cdist(flat, flat) < radius
    near &= number[:, None] == number
    near.fill_diagonal_(False)
    similarity = (rows_i @ rows_j.T / temperature).masked_fill(near, -torch.inf)
    forth, back = (torch.log_softmax(similarity, axis).diagonal() for axis in (1, 0))
    return -(forth.mean() + back.mean()) / 2
