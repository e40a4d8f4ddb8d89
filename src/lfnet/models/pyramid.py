"""Octaves: the same picture at several sizes, the keypoints found in each, and which of all are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lfnet.geometry.sizes import ceiling, exact, factor, is_tracing, root, smaller, tensor_of
from lfnet.models.config import ExtractionSettings
from lfnet.models.keypoints import Keypoints
from lfnet.models.patches import Mosaic

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

MIN_SIDE = 16
"""Octaves with a shorter side than this have no room for a keypoint inside the border and are left out."""


MOST_CELLS = 1 << 24
"""Cells of a picture that are laid out, 64 MB of them; of more, those with a keypoint are searched: slower, smaller."""


CANDIDATES = 4
"""Keypoints of an octave, for each that is wanted of the picture, among which some are chosen apart from each other."""


class Octave(NamedTuple):
    """A batch of pictures at one size, and what was found there."""

    mosaic: Mosaic | None
    """What patches are read from; None where it is made later, tile by tile."""
    keypoints: Keypoints
    """In pixels of this octave."""
    ratio: tuple[Any, Any]
    """Pixels (x, y) of this octave per pixel of the picture."""

    @property
    def size(self) -> Any:
        """Relative to the picture."""
        return root(self.ratio[0] * self.ratio[1])

    def whole(self, points: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 2"]:
        """Points of this octave in pixels of the picture."""
        if self.is_whole:
            return points
        return (points + 0.5) / tensor_of(self.ratio, points) - 0.5

    @property
    def is_whole(self) -> bool:
        """Whether it has the size of the picture."""
        return not isinstance(self.ratio[0], Tensor) and self.ratio == (1.0, 1.0)

    def of_picture(self, index: int) -> Octave:
        """The same of one picture of the batch."""
        one = slice(index, index + 1)
        mosaic = self.mosaic.part(one) if self.mosaic else None
        return Octave(mosaic, Keypoints(*(each[one] for each in self.keypoints)), self.ratio)

    def in_picture(self) -> Keypoints:
        """Its keypoints in pixels of the whole picture."""
        found, size = self.keypoints, factor(self.size, self.keypoints.scales)
        return found._replace(points=self.whole(found.points), scales=found.scales / size, sigmas=found.sigmas / size)


def describing_octaves(octaves: Sequence[float], shape: tuple[int, int]) -> Float[Tensor, "N"]:
    """A model's octaves, and beyond them halves as far as a picture of (height, width) reaches."""
    sizes = sorted(octaves, reverse=True)
    while sizes[-1] * min(shape) >= 2 * MIN_SIDE:
        sizes.append(sizes[-1] / 2)
    return torch.tensor(sizes)


def in_pixels_of_the_picture(octaves: list[Octave], image: Float[Tensor, "1 H W"]) -> Keypoints:
    """The keypoints of all octaves of one picture, one octave after the other, in pixels of the picture."""
    none = image.new_zeros(1, 0)
    empty = Keypoints(image.new_zeros(1, 0, 2), none, none, image.new_zeros(1, 0, 2), none > 0, none)
    found = [octave.in_picture() for octave in octaves] or [empty]
    return Keypoints(*(torch.cat(column, 1) for column in zip(*found, strict=True)))


def choose(
    octaves: list[Octave], whole: Keypoints, settings: ExtractionSettings, shape: tuple[int, int]
) -> Int[Tensor, "N"]:
    """Which keypoints of one picture are kept, best first.

    Args:
        octaves: of one picture.
        whole: the keypoints of all of them, by `in_pixels_of_the_picture`.
        settings: how many, how good, how far apart.
        shape: (height, width) of the picture.
    """
    points, scores = whole.points[0], whole.scores[0].masked_fill(~whole.present[0], -1.0)
    if settings.once:
        counts = [octave.keypoints.points.shape[1] for octave in octaves]
        sizes = [octave.size for octave in octaves]
        lost = found_again(_parts(points, counts), _parts(scores, counts), sizes, shape)
        scores = scores.masked_fill(torch.cat(lost), -1.0) if lost else scores
    order = best_first(scores)
    order = order[torch.nonzero((scores[order] > 0) & (scores[order] >= settings.min_score))[:, 0]]
    if settings.min_distance > 0:
        order = order[: CANDIDATES * settings.max_keypoints]
        order = order[~crowded(points[order], settings.min_distance)]
    return order[: settings.max_keypoints]


def best_first(scores: Float[Tensor, "N"]) -> Int[Tensor, "N"]:
    """The order of scores from the highest, equal ones as they are: so ONNX defines TopK, and PyTorch a stable sort."""
    if is_tracing():
        return scores.topk(scores.shape[0])[1]
    return scores.argsort(descending=True, stable=True)


def _parts(rows: Tensor, counts: list[Any]) -> list[Tensor]:
    """Rows cut into parts of these lengths."""
    parts, start = [], 0
    for count in counts:
        parts.append(rows[start : start + count])
        start = start + count
    return parts


def found_again(
    points: list[Float[Tensor, "_ 2"]], scores: list[Float[Tensor, "_"]], sizes: list[float], shape: tuple[int, int]
) -> list[Bool[Tensor, "_"]]:
    """Which keypoints of each octave show a place that another octave found with a higher score.

    Two octaves show one place where their keypoints lie in the same cell or in neighbouring ones. Cells are half a
    pixel of the coarser octave wide, and a pixel of the picture at the least: wider ones take away other places.

    Args:
        points: of each octave, (x, y) in pixels of the picture.
        scores: of each octave, to be compared across octaves; of equal ones the coarser octave counts.
        sizes: of each octave, relative to the picture.
        shape: (height, width) of the picture.
    """
    lost = [torch.zeros_like(each, dtype=torch.bool) for each in scores]
    order = list(range(len(sizes)))  # Traced sizes can't be compared: `Network` has them from fine to coarse.
    if not is_tracing():
        order.sort(key=lambda number: -sizes[number])
    for position, fine in enumerate(order):
        for coarse in order[position + 1 :]:
            size = smaller(1.0, 2 * sizes[coarse])
            height, width = (ceiling(exact(side) * size) for side in shape)
            in_fine, in_coarse = (_cells(points[number], size, (height, width)) for number in (fine, coarse))
            shape_of_cells = (height + 2, width + 2)
            better = _best_near(in_fine, in_coarse, scores[coarse], shape_of_cells) >= scores[fine]
            lost[fine] = lost[fine] | better
            better = _best_near(in_coarse, in_fine, scores[fine], shape_of_cells) > scores[coarse]
            lost[coarse] = lost[coarse] | better
    return lost


def _cells(points: Float[Tensor, "N 2"], size: float, shape: tuple[int, int]) -> Int[Tensor, "N"]:
    """The cell that each point of the picture lies in, counted row by row; around all cells is a rim of one.

    Args:
        points: (x, y) in pixels of the picture.
        size: cells to the side of a pixel.
        shape: without the rim.
    """
    height, width = shape
    x, y = ((points + 0.5) * factor(size, points)).long().clamp_min(0).unbind(-1)
    return (y.clamp_max(height - 1) + 1) * (width + 2) + x.clamp_max(width - 1) + 1


def _best_near(
    cells: Int[Tensor, "N"], others: Int[Tensor, "M"], scores: Float[Tensor, "M"], shape: tuple[int, int]
) -> Float[Tensor, "N"]:
    """The highest score of the others in each cell and the eight around it; -1 where there is none."""
    height, width = shape
    shifts = [dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    around = cells[:, None] + tensor_of(shifts, cells)
    if not is_tracing() and not len(others):
        return scores.new_full((len(cells),), -1.0)
    if not is_tracing() and height * width > MOST_CELLS:
        taken, numbers = others.unique(return_inverse=True)
        best = scores.new_full((len(taken),), -1.0).scatter_reduce(0, numbers, scores, reduce="amax")
        places = torch.searchsorted(taken, around).clamp_max(len(taken) - 1)
        return torch.where(taken[places] == around, best[places], -1.0).amax(1)
    plane = scores.new_full((height * width,), -1.0).scatter_reduce(0, others, scores, reduce="amax")
    return plane[around].amax(1)


def crowded(points: Float[Tensor, "N 2"], distance: float) -> Bool[Tensor, "N"]:
    """Which keypoints, best first, lie nearer than `distance` px to one before them that is kept itself.

    In rounds: what has nothing better left near it is kept, and drops what is near it.
    """
    near = (points[:, None, 0] - points[None, :, 0]).square() + (points[:, None, 1] - points[None, :, 1]).square()
    near = near < distance**2
    better = near.tril(-1)
    left = torch.ones(len(points), dtype=torch.bool, device=points.device)
    kept = torch.zeros_like(left)
    while bool(left.any()):
        chosen = left & ~(better & left).any(1)
        kept |= chosen
        left &= ~(near & chosen).any(1)
    return ~kept
