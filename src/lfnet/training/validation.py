"""How good the model is on held-back pairs, while it trains.

A quick look on crops, turned and zoomed like the training pairs; the benchmark on whole pictures is in `evaluation`.
Both take the matching score from `lfnet/matching_score.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lfnet.data.loader import PairLoader
from lfnet.geometry.sampling import sample
from lfnet.geometry.warp import Warp, compensate
from lfnet.matching_score import (
    Projection,
    distances_to,
    match_errors,
    nearest_keypoint_errors,
    orientation_agreement,
    share_within,
)
from lfnet.models.keypoints import Keypoints, detect_keypoints
from lfnet.models.lfnet import LFNet
from lfnet.training.branches import SeenView, StrategyConfig, orientations_at, see
from lfnet.training.config import ValidationConfig

if TYPE_CHECKING:
    from jaxtyping import Float

VALIDATION_STEP = 1 << 40
"""Held-back samples are drawn as if at steps from here on, which no training reaches."""


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
        looks = [
            model.look(
                seen.mosaic, detect_keypoints(seen.ranked, seen.usable, config.keypoints, model.config.keypoints)
            )
            for seen in views
        ]
        warps = (pair.warp(strategy.depth_tolerance), pair.swapped().warp(strategy.depth_tolerance))
        for i, j in ((0, 1), (1, 0)):
            measures = {**_spreads(looks[i][0]), **_measure(model, views[j], looks[i], looks[j], warps[i], config)}
            for name, value in measures.items():
                sums.setdefault(name, []).append(value)
    model.train(was_training)
    return {name: float(torch.tensor(values).nanmean()) for name, values in sums.items()}


def _spreads(keypoints: Keypoints) -> dict[str, float]:
    """How strong the keypoints of a view are, and how varied their scales and orientations."""
    present = keypoints.present[0]
    if not bool(present.any()):
        return {"score_peak": 0.0, "scale_spread": 0.0, "orientation_spread": 0.0}
    return {
        "score_peak": float(keypoints.scores[0][present].mean()),
        "scale_spread": float(keypoints.scales[0][present].log().std(correction=0)),
        "orientation_spread": 1 - float(keypoints.orientations[0][present].mean(0).norm()),
    }


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
    if not bool(visible.any()):
        return {}
    present = theirs.present[0]
    if not bool(present.any()):
        return {"repeatability": 0.0, "matching_score": 0.0}
    places = Projection(_array(warped.points[0][visible]), np.ones(int(visible.sum()), bool))
    keypoints = _array(theirs.points[0][present])
    distances = distances_to(places, keypoints)
    _, carried = compensate(j_from_i.jacobian(mine.points), mine.scales, mine.orientations)
    nearest = torch.cdist(descriptors[0][visible], others[0][present]).argmin(1)

    scales = sample(view_j.maps.scales, warped.points, mode="nearest")[..., 0]
    upright = orientations_at(view_j.maps, warped.points)
    _, rows = model.look(view_j.mosaic, mine._replace(points=warped.points, scales=scales, orientations=upright))
    found = torch.cdist(descriptors[0][visible], rows[0][visible]).argmin(1)

    def share(errors: np.ndarray) -> float:
        return share_within(errors, [config.threshold])[config.threshold]

    turned, orientations = _angles(carried[0][visible]), _angles(theirs.orientations[0][present])
    return {
        "repeatability": share(nearest_keypoint_errors(distances, places.visible)),
        "orientation_agreement": orientation_agreement(distances, turned, orientations, threshold=config.threshold),
        "matching_score": share(match_errors(places, keypoints, nearest.cpu().numpy())),
        "descriptor_accuracy": share(match_errors(places, places.points, found.cpu().numpy())),
    }


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().double().numpy()


def _angles(directions: Float[Tensor, "N 2"]) -> np.ndarray:
    """Radians of unit vectors (cosine, sine)."""
    return np.arctan2(_array(directions[:, 1]), _array(directions[:, 0]))
