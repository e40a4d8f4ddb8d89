"""Draw docs/images/two_branches.png, one step of training as it is run: `python docs/figures/two_branches.py`.

The pair is scikit-image's stereo pair (Middlebury 2014), with its measured depth; view j is turned in the plane.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from lfnet.data.depth_registration import register_depth
from lfnet.data.pair import Pair, View
from lfnet.data.resample import resample_view
from lfnet.evaluation.data.stereo import motorcycle
from lfnet.geometry.sampling import sample
from lfnet.models.lfnet import LFNet
from lfnet.reports.canvas import BLUE, INK, ORANGE, Colour, Picture, blank, text_width, write_text
from lfnet.training.branches import StrategyConfig, two_branch_step
from lfnet.training.draws import Draws

FOCAL_LENGTH, BASELINE = 994.978, 0.193001
CENTRE_LEFT, CENTRE_RIGHT = (311.193, 254.877), (342.279, 254.877)
"""Pixels and metres, as scikit-image documents them for the size that it bundles."""
SIZE, SHOWN = 256, 144
"""Sides of the part that the network sees and of its middle that is drawn, px."""
MIDDLE = (330.0, 300.0)
"""Its middle in the left picture, px."""
TURN = 35.0
"""Degrees by which view j is turned."""
TILE, GAP, MARGIN, HEAD = 288, 62, 16, 50
"""Sides and distances of the drawing, px."""
UNSEEN: Colour = (44, 70, 120)


def camera(centre: tuple[float, float]) -> np.ndarray:
    """3x3 intrinsics of one of the two cameras, px."""
    return np.array([[FOCAL_LENGTH, 0, centre[0]], [0, FOCAL_LENGTH, centre[1]], [0, 0, 1]])


def crop(middle: tuple[float, float], degrees: float) -> torch.Tensor:
    """(1, 3, 3): moves a place of the picture to the middle of a square of `SIZE`, turned about it."""
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D(middle, degrees, 1.0)
    matrix[:2, 2] += (SIZE - 1) / 2 - np.array(middle)
    return torch.from_numpy(matrix).float()[None]


def real_pair() -> Pair:
    """View i (left) and view j (right, turned), with depth and cameras."""
    stereo = motorcycle()
    disparity = stereo.disparity + CENTRE_RIGHT[0] - CENTRE_LEFT[0]
    depth = np.nan_to_num(FOCAL_LENGTH * BASELINE / disparity, posinf=0.0).astype(np.float32)
    right_from_left = np.eye(4)
    right_from_left[0, 3] = -BASELINE
    size = (depth.shape[1], depth.shape[0])
    depth_right = register_depth(depth, camera(CENTRE_LEFT), camera(CENTRE_RIGHT), right_from_left, size)
    row, column = round(MIDDLE[1]), round(MIDDLE[0])
    middle_right = (
        MIDDLE[0] - float(np.nanmedian(stereo.disparity[row - 20 : row + 20, column - 20 : column + 20])),
        MIDDLE[1],
    )

    def view(key: str, depth: np.ndarray, centre: tuple[float, float], pose: np.ndarray) -> View:
        image = torch.from_numpy(stereo.load(key)).float()[None, None] / 255
        return View(
            image,
            torch.ones_like(image, dtype=torch.bool),
            torch.from_numpy(depth)[None, None],
            torch.from_numpy(camera(centre)).float()[None],
            torch.from_numpy(pose).float()[None],
        )

    left = view("left", depth, CENTRE_LEFT, np.eye(4))
    right = view("right", depth_right, CENTRE_RIGHT, right_from_left)
    return Pair(resample_view(left, crop(MIDDLE, 0), SIZE), resample_view(right, crop(middle_right, TURN), SIZE))


def tile(plane: torch.Tensor, frame: Colour, known: torch.Tensor | None = None) -> Picture:
    """The middle of a map (1, 1, H, W) in [0, 1] as a framed picture of `TILE` pixels, blue where it is not known."""
    picture = np.repeat((plane[0, 0].detach().clamp(0, 1) * 255).byte().numpy()[..., None], 3, axis=2)
    if known is not None:
        picture[~known[0, 0].numpy()] = UNSEEN
    edge = (SIZE - SHOWN) // 2
    middle = picture[edge : edge + SHOWN, edge : edge + SHOWN]
    large = np.asarray(cv2.resize(middle, (TILE, TILE), interpolation=cv2.INTER_NEAREST), np.uint8)
    return np.asarray(cv2.rectangle(large, (0, 0), (TILE - 1, TILE - 1), frame, 3), np.uint8)


def visible_scores(scores: torch.Tensor) -> torch.Tensor:
    """Scores as grey values whose low ones can be told apart by eye."""
    return (scores / scores.quantile(0.999)).clamp(0, 1).sqrt()


def arrow(canvas: Picture, start: tuple[int, int], end: tuple[int, int], label: str, colour: Colour) -> None:
    """An arrow between two places of the drawing, and what it means beside it."""
    cv2.arrowedLine(canvas, start, end, colour, 3, cv2.LINE_AA, tipLength=11 / math.dist(start, end))
    beside = (start[0] + 10, (start[1] + end[1]) // 2 - 9)
    above = ((start[0] + end[0] - text_width(label, 14)) // 2, start[1] - 24)
    write_text(canvas, label, beside if start[0] == end[0] else above, colour, 14)


def draw(model: LFNet, pair: Pair) -> Picture:
    """Two rows: view j paints, view i learns."""
    strategy = StrategyConfig(keypoints=200, pixels_per_point=150.0)
    result = two_branch_step(model, pair, strategy, 0, Draws(torch.Generator().manual_seed(0)))
    target = result.directions[0].target
    scores_i, scores_j = (seen.maps.scores for seen in result.views)
    warped = sample(scores_j, pair.warp().grid().points).view_as(target.scores)
    rows = [
        [
            ("View j paints", f"turned by {TURN:g}°", tile(pair.b.image, ORANGE)),
            ("its score map", "white: likely keypoints", tile(visible_scores(scores_j), ORANGE)),
            ("the map warped into i", "blue: j does not see it", tile(visible_scores(warped), ORANGE, target.visible)),
        ],
        [
            ("View i learns", "as photographed", tile(pair.a.image, BLUE)),
            ("its score map", "the same network", tile(visible_scores(scores_i), BLUE)),
            ("the target", "a sharp dot on each best peak", tile(target.scores.sqrt(), ORANGE, target.known)),
        ],
    ]
    columns = [MARGIN + number * (TILE + GAP) for number in range(3)]
    tops = [HEAD + MARGIN + number * (TILE + 2 * HEAD) for number in range(2)]
    canvas = blank(columns[-1] + TILE + MARGIN, tops[-1] + TILE + MARGIN)
    for row, y in zip(rows, tops, strict=True):
        for (title, note, picture), x in zip(row, columns, strict=True):
            write_text(canvas, title, (x, y - 46), size=20)
            write_text(canvas, note, (x, y - 20), size=14)
            canvas[y : y + TILE, x : x + TILE] = picture
    for y, colour in zip(tops, (ORANGE, BLUE), strict=True):
        middle = y + TILE // 2
        arrow(canvas, (columns[0] + TILE + 8, middle), (columns[1] - 8, middle), "detect", colour)
    middle = tops[0] + TILE // 2
    arrow(canvas, (columns[1] + TILE + 8, middle), (columns[2] - 8, middle), "warp", ORANGE)
    right = columns[2] + TILE - 56
    arrow(canvas, (right, tops[0] + TILE + 10), (right, tops[1] - 10), "select", ORANGE)
    middle = tops[1] + TILE // 2
    arrow(canvas, (columns[2] - 8, middle), (columns[1] + TILE + 8, middle), "teach", INK)
    return canvas


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description="draw the two branches of training on a real pair")
    parser.add_argument("--weights", default="lfnet-lean")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "images" / "two_branches.png")
    arguments = parser.parse_args()
    picture = Image.fromarray(draw(LFNet.from_pretrained(arguments.weights), real_pair()))
    picture.quantize(96).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
