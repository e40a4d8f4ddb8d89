"""Negatives for the triplet loss: hard, but not the hardest from the start. Source: LF-Net section 3.3."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lfnet.training.draws import Draws

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def candidate_count(step: int) -> int:
    """M = max(5, 64 e^(-0.6 step / 1000)): among how many of the hardest a negative is drawn.

    The single hardest from the first step on collapses all descriptors into one.
    """
    return max(5, round(64 * math.exp(-0.6 * step / 1000)))


@torch.no_grad()
def choose_negatives(
    anchors: Float[Tensor, "B K D"],
    candidates: Float[Tensor, "B K D"],
    places: Float[Tensor, "B K 2"],
    counts: Bool[Tensor, "B K"],
    radius: float,
    hardest: int,
    draws: Draws,
) -> tuple[Int[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """For each anchor the index of a negative, at random among the hardest far enough from its true place.

    Args:
        candidates: descriptors of the other view; candidate k is the positive of anchor k.
        places: (x, y) in pixels of the candidates.
        counts: which correspondences exist.
        radius: a candidate nearer than this to the true place is no negative, px.
        hardest: M, see `candidate_count`.
        draws: choose among the hardest.

    Returns:
        Indices into the candidates, and which anchors have a negative at all.
    """
    distances = torch.cdist(anchors.float(), candidates.float())
    near = torch.cdist(places, places) < radius
    distances = distances.masked_fill(near | ~counts[:, None, :], torch.inf)
    hardest = min(hardest, distances.shape[-1])
    values, index = distances.topk(hardest, dim=-1, largest=False)
    possible = torch.isfinite(values).sum(-1)
    chances = draws.uniform(possible.shape).to(possible.device)
    drawn = torch.minimum((chances * possible).long(), (possible - 1).clamp_min(0))
    chosen = index.gather(-1, drawn[..., None])[..., 0]
    return chosen, counts & (possible > 0)
