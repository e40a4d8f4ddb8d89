"""Octaves: the same picture at several sizes, the keypoints found in each, and which of all are kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lfnet.models.config import ExtractionSettings
from lfnet.models.keypoints import Keypoints

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

MIN_SIDE = 16
"""Octaves with a shorter side than this have no room for a keypoint inside the border and are left out."""


class Octave(NamedTuple):
    """A batch of pictures at one size, and what was found there."""

    levels: list[Tensor]
    """What patches are read from."""
    keypoints: Keypoints
    """In pixels of this octave."""
    ratio: tuple[float, float]
    """Pixels (x, y) of this octave per pixel of the picture."""

    @property
    def size(self) -> float:
        """Relative to the picture."""
        return math.sqrt(self.ratio[0] * self.ratio[1])

    def whole(self, points: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 2"]:
        """Points of this octave in pixels of the picture."""
        return (points + 0.5) / points.new_tensor(self.ratio) - 0.5

    def of_picture(self, index: int) -> Octave:
        """The same of one picture of the batch."""
        keypoints = type(self.keypoints)(*(each[index : index + 1] for each in self.keypoints))
        return Octave([level[index : index + 1] for level in self.levels], keypoints, self.ratio)


def choose(octaves: list[Octave], settings: ExtractionSettings) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """The keypoints of one picture that are kept, best first: the octave of each, and its place among the octave's."""
    points = [octave.whole(octave.keypoints.points[0]) for octave in octaves]
    scores = [octave.keypoints.scores[0].masked_fill(~octave.keypoints.present[0], -1.0) for octave in octaves]
    if settings.once:
        lost = found_again(points, scores, [octave.size for octave in octaves])
        scores = [each.masked_fill(gone, -1.0) for each, gone in zip(scores, lost, strict=True)]
    every = torch.cat(scores)
    order = every.argsort(descending=True, stable=True)
    order = order[(every[order] > 0) & (every[order] >= settings.min_score)]
    if settings.min_distance > 0:
        order = order[~crowded(torch.cat(points)[order], settings.min_distance)]
    order = order[: settings.max_keypoints]
    starts = torch.tensor([0, *(len(each) for each in scores)], device=order.device).cumsum(0)
    number = torch.searchsorted(starts, order, right=True) - 1
    return number, order - starts[number]


ONCE_WITHIN = 1.5
"""Keypoints of two octaves nearer than this are one place, in pixels of the coarser octave."""


def found_again(
    points: list[Float[Tensor, "_ 2"]], scores: list[Float[Tensor, "_"]], sizes: list[float]
) -> list[Bool[Tensor, "_"]]:
    """Which keypoints of each octave show a place that another octave found with a higher score.

    Args:
        points: of each octave, (x, y) in pixels of the picture.
        scores: of each octave, to be compared across octaves.
        sizes: of each octave, relative to the picture.
    """
    lost = [torch.zeros_like(each, dtype=torch.bool) for each in scores]
    for first in range(len(sizes)):
        for second in range(first + 1, len(sizes)):
            (points_a, scores_a), (points_b, scores_b) = ((points[n], scores[n]) for n in (first, second))
            x, y = ((points_a[:, None, axis] - points_b[None, :, axis]).square() for axis in (0, 1))
            near = x + y < (ONCE_WITHIN / min(sizes[first], sizes[second])) ** 2
            b_wins = scores_b[None] > scores_a[:, None]
            lost[first] |= (near & b_wins).any(1)
            lost[second] |= (near & ~b_wins).any(0)
    return lost


def crowded(points: Float[Tensor, "N 2"], distance: float) -> Bool[Tensor, "N"]:
    """Which keypoints, best first, lie nearer than `distance` px to one before them that is kept itself."""
    near = torch.cdist(points, points) < distance
    near.fill_diagonal_(False)
    dropped = [False] * len(points)
    for place, neighbours in enumerate(near.cpu().numpy()):
        if not dropped[place]:
            for other in neighbours[place:].nonzero()[0]:
                dropped[place + int(other)] = True
    return torch.tensor(dropped, dtype=torch.bool, device=points.device)
