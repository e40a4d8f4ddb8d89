"""How good the model is on held-back pairs, while it trains.

A quick look on crops, turned and zoomed like the training pairs; the benchmark on whole pictures is in `evaluation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lfnet.data.loader import PairLoader
from lfnet.geometry.sampling import sample
from lfnet.geometry.warp import Warp, compensate
from lfnet.models.keypoints import Keypoints, detect_keypoints
from lfnet.models.lfnet import LFNet
from lfnet.training.branches import SeenView, StrategyConfig, orientations_at, see
from lfnet.training.config import ValidationConfig

if TYPE_CHECKING:
    from jaxtyping import Float

VALIDATION_STEP = 1 << 40
"""Held-back samples are drawn as if at steps from here on, which no training reaches."""
ORIENTATION_TOLERANCE = 22.5
"""Degrees within which orientations agree: half of a bin of SIFT's descriptor."""


@torch.no_grad()
def validate(
    model: LFNet, loader: PairLoader, strategy: StrategyConfig, config: ValidationConfig, device: torch.device
) -> dict[str, float]:
    """Mean over held-back pairs, both directions, of each measure:

    - `matching_score`: share of keypoints visible in the other view whose nearest descriptor is at the true place;
    - `repeatability`: share of them with any keypoint at the true place;
    - `orientation_agreement`: share of repeated ones whose orientation agrees;
    - `descriptor_accuracy`: share whose descriptor finds the one taken at the true place among all others there;
    - `score_peak`: mean score of the keypoints; `scale_spread`, `orientation_spread`: deviation of log scale, and
      1 - length of the mean direction.
    """
    was_training = model.training
    model.eval()
    sums: dict[str, list[float]] = {}
    for index in range(config.pairs):
        pair = loader.load(VALIDATION_STEP + index).to(device)
        views = see(model, (pair.a, pair.b), strategy)
        keypoints = [
            model.orient(
                seen.mosaic, detect_keypoints(seen.ranked, seen.usable, config.keypoints, model.config.keypoints)
            )
            for seen in views
        ]
        warps = (pair.warp(strategy.depth_tolerance), pair.swapped().warp(strategy.depth_tolerance))
        descriptors = [
            model.describe_at(seen.mosaic, found.points, found.scales, found.orientations)
            for seen, found in zip(views, keypoints, strict=True)
        ]
        for i, j in ((0, 1), (1, 0)):
            mine, theirs = (keypoints[i], descriptors[i]), (keypoints[j], descriptors[j])
            measures = _measure(model, views[j], mine, theirs, warps[i], config)
            for name, value in measures.items():
                sums.setdefault(name, []).append(value)
    model.train(was_training)
    return {name: float(torch.tensor(values).nanmean()) for name, values in sums.items()}


def _measure(
    model: LFNet,
    view_j: SeenView,
    of_i: tuple[Keypoints, Float[Tensor, "B K D"]],
    of_j: tuple[Keypoints, Float[Tensor, "B K D"]],
    j_from_i: Warp,
    config: ValidationConfig,
) -> dict[str, float]:
    (mine, descriptors), (theirs, others) = of_i, of_j
    warped = j_from_i.points(mine.points)
    visible = (warped.visible & mine.present)[0]
    scores = mine.scores[0][mine.present[0]]
    directions = mine.orientations[0][mine.present[0]]
    result = {
        "score_peak": float(scores.mean()) if len(scores) else 0.0,
        "scale_spread": float(mine.scales[0][mine.present[0]].log().std(correction=0)) if len(scores) else 0.0,
        "orientation_spread": 1 - float(directions.mean(0).norm()) if len(directions) else 0.0,
    }
    if not bool(visible.any()):
        return result
    if not bool(theirs.present.any()):
        return {**result, "repeatability": 0.0, "matching_score": 0.0}
    present = theirs.present[0]
    distances = torch.cdist(warped.points[0][visible], theirs.points[0][present])
    nearest_distance, nearest = distances.min(1)
    repeated = nearest_distance <= config.threshold
    result["repeatability"] = float(repeated.float().mean())

    _, carried = compensate(j_from_i.jacobian(mine.points), mine.scales, mine.orientations)
    cosine = (carried[0][visible] * theirs.orientations[0][present][nearest]).sum(-1)
    agrees = cosine >= torch.cos(torch.deg2rad(torch.tensor(ORIENTATION_TOLERANCE)))
    result["orientation_agreement"] = float(agrees[repeated].float().mean()) if bool(repeated.any()) else float("nan")

    match = torch.cdist(descriptors[0][visible], others[0][present]).argmin(1)
    right = distances.gather(1, match[:, None])[:, 0] <= config.threshold
    result["matching_score"] = float(right.float().mean())

    scales = sample(view_j.maps.scales, warped.points, mode="nearest")[..., 0]
    orientations = orientations_at(view_j.maps, warped.points)
    there = mine._replace(points=warped.points, scales=scales, orientations=orientations)
    there = model.orient(view_j.mosaic, there)
    rows = model.describe_at(view_j.mosaic, there.points, there.scales, there.orientations)[0][visible]
    found = torch.cdist(descriptors[0][visible], rows).argmin(1)
    apart = (warped.points[0][visible] - warped.points[0][visible][found]).norm(dim=-1)
    result["descriptor_accuracy"] = float((apart <= config.threshold).float().mean())
    return result
