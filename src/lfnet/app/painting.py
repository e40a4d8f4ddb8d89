"""What training paints, on a picture of the user's: its pose by the sliders is the ground truth that this needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lfnet.app.drawings import grey, shown_scores
from lfnet.app.poses import posed
from lfnet.app.requests import Pose
from lfnet.data.pair import Pair, View
from lfnet.geometry.sampling import sample
from lfnet.images import shrink, to_grey
from lfnet.models.lfnet import LFNet
from lfnet.training.branches import StrategyConfig, see
from lfnet.training.targets import paint_target

SIDE = 256
"""Long side in pixels at which pictures are painted: about that of the crops of training."""
STRATEGY = StrategyConfig(keypoints=256, pixels_per_point=150.0)
"""As in docs/figures/two_branches.py: a dot for each 150 px that the painter knows of, 256 at the most."""


@torch.inference_mode()
def painted(model: LFNet, pixels: NDArray[np.uint8], pose: Pose) -> dict[str, Any]:
    """One direction of the two branches: the picture in its pose paints what the picture as it came is to learn.

    Args:
        model: the network.
        pixels: (H, W, 3) RGB.
        pose: of view j, the painter; view i, the learner, is the picture as it is.

    Returns:
        Six drawings as data URLs, the number of `dots`, and the `seen` share of view i that view j sees.
    """
    pair = _pair(shrink(pixels, SIDE), pose, model.device)
    view_i, view_j = see(model, (pair.a, pair.b), STRATEGY)
    j_from_i = pair.warp()
    target = paint_target(
        view_j.ranked,
        j_from_i,
        view_j.usable,
        STRATEGY.keypoints,
        model.config.keypoints.nms_size,
        STRATEGY.target_sigma,
        STRATEGY.pixels_per_point,
    )
    warped = sample(view_j.ranked.scores, j_from_i.grid().points).view_as(target.scores)
    visible, known = _plane(target.visible), _plane(target.known)
    valid_j = _plane(pair.b.valid)
    return {
        "drawings": {
            "view_j": grey(_plane(pair.b.image), valid_j),
            "scores_j": grey(shown_scores(_plane(view_j.ranked.scores)), valid_j),
            "warped": grey(shown_scores(_plane(warped) * visible), visible),
            "view_i": grey(_plane(pair.a.image)),
            "scores_i": grey(shown_scores(_plane(view_i.ranked.scores))),
            "target": grey(np.sqrt(_plane(target.scores)), known),
        },
        "dots": int(target.present.sum()),
        "seen": float(visible.mean()),
    }


def _pair(pixels: NDArray[np.uint8], pose: Pose, device: torch.device) -> Pair:
    other = posed(pixels, pose)
    shown = np.ones(pixels.shape[:2], bool) if other.valid is None else other.valid
    matrix = torch.from_numpy(other.matrix).float()[None]
    return Pair(_view(pixels, np.ones_like(shown)), _view(other.pixels, shown), matrix).to(device)


def _view(pixels: NDArray[np.uint8], valid: NDArray[np.bool_]) -> View:
    image = torch.from_numpy(to_grey(pixels))[None, None]
    return View(image, torch.from_numpy(valid)[None, None], None, torch.eye(3)[None], torch.eye(4)[None])


def _plane(maps: torch.Tensor) -> NDArray:
    return maps[0, 0].cpu().numpy()
