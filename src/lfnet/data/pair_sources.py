"""Sources of training pairs. Each draws a pair of square crops from a generator: same state, same pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lfnet.data.augment import GeometricConfig, log_uniform, random_homography
from lfnet.data.crops import crop_pair, random_crops
from lfnet.data.frames import SequenceError, read_view
from lfnet.data.layouts import read_frames
from lfnet.data.left_out import SHOWN, LeftOut
from lfnet.data.pair import Pair, View
from lfnet.data.resample import resample_view
from lfnet.errors import UserError
from lfnet.geometry.camera import pixel_grid
from lfnet.geometry.transform import apply_homography
from lfnet.image_files import find_images
from lfnet.images import ImageError, read_grey, shrink

if TYPE_CHECKING:
    from jaxtyping import Float


class PairSource(Protocol):
    """Anything that yields pairs."""

    def sample(self, generator: torch.Generator) -> Pair:
        """One pair (batch 1)."""
        ...


@runtime_checkable
class BatchSource(PairSource, Protocol):
    """A source that makes the pairs of a batch at once."""

    def sample_each(self, generators: Sequence[torch.Generator]) -> Pair:
        """The pairs that `sample` makes of each generator, as one batch."""
        ...


FARTHEST = 6e4
"""Depth in medians of its picture beyond which nothing is kept: half precision ends at 65504."""
MIN_OVERLAP = 0.1
"""Least share of a frame's pixels that the other must see, both ways."""


class SequencePairs:
    """Pairs of frames of one RGB-D sequence, by frame gap and measured overlap.

    Frames are kept in memory (grey bytes and depth in half precision). A few that can't be read are left out, with a
    note.

    Args:
        folder: of the sequence, in one of `LAYOUTS`.
        frames: first frame with depth and the one past the last; None takes all.
        gaps: distances between the frames of a pair.
        size: side of the crops, px.
    """

    def __init__(
        self,
        folder: str | Path,
        geometry: GeometricConfig,
        size: int,
        frames: tuple[int, int] | None = None,
        gaps: Sequence[int] = (1, 2, 4, 6, 8, 10, 12, 16, 20),
        overlap: tuple[float, float] = (MIN_OVERLAP, 1.0),
    ) -> None:
        self.geometry = geometry
        self.size = size
        recording = read_frames(folder)
        with_depth = [frame for frame in recording.frames if frame.read_depth is not None]
        chosen = with_depth[slice(*frames)] if frames else with_depth
        broken = LeftOut("frames can't be read", "fetch the recording again")
        self._views: list[PackedView] = []
        for frame in chosen:
            try:
                self._views.append(PackedView(read_view(frame)))
            except UserError as error:
                broken.add(frame.name, error)
        self.notes = [*recording.notes, *broken.notes(len(chosen), f"sequence {folder}", SequenceError)]
        self.pairs = self._measure(gaps, overlap)
        if not self.pairs:
            raise SequenceError(
                f"sequence {folder}: no pair of frames sees between {overlap[0]:.0%} and {overlap[1]:.0%} of each "
                f"other at gaps {list(gaps)}; allow smaller gaps"
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def pair(self, index: int) -> Pair:
        """The whole frames of a pair, not cropped."""
        first, second, _ = self.pairs[index]
        return Pair(self._views[first].view(), self._views[second].view())

    def sample(self, generator: torch.Generator) -> Pair:
        """A random pair, both frames turned, zoomed and cropped about a place that both see."""
        pair = self.pair(int(torch.randint(len(self.pairs), (), generator=generator)))
        return crop_pair(pair, self.geometry, self.size, generator)

    def _measure(self, gaps: Sequence[int], overlap: tuple[float, float]) -> list[tuple[int, int, float]]:
        pairs = []
        for first in range(len(self._views)):
            for gap in gaps:
                second = first + gap
                if second >= len(self._views):
                    break
                share = measure_overlap(Pair(self._views[first].view(), self._views[second].view()))
                if overlap[0] <= share <= overlap[1]:
                    pairs.append((first, second, share))
        return pairs


class PackedView:
    """A view kept small: grey as bytes, depth in half precision (0.05 % at any distance, in any unit)."""

    def __init__(self, view: View) -> None:
        self._image = (view.image * 255).round().to(torch.uint8)
        self._depth, self._unit = None, 1.0
        if view.depth is not None:
            known = view.depth[view.depth > 0]
            # A power of two changes no digit; in units near the median no depth leaves the range of half precision.
            self._unit = 2.0 ** round(math.log2(float(known.median()))) if len(known) else 1.0
            self._depth = (view.depth / self._unit).clamp_max(FARTHEST).half()
        self._cameras = (view.intrinsics, view.camera_from_world)

    def view(self) -> View:
        """The view again."""
        image = self._image.float() / 255
        depth = None if self._depth is None else self._depth.float() * self._unit
        return View(image, torch.ones_like(image, dtype=torch.bool), depth, *self._cameras)

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self._image.nbytes + (0 if self._depth is None else self._depth.nbytes)


def measure_overlap(pair: Pair, step: int = 12) -> float:
    """Share of a view's pixels that the other view sees, the smaller of both ways, on a grid of `step` px."""
    return min(_seen_share(pair, step), _seen_share(pair.swapped(), step))


def _seen_share(pair: Pair, step: int) -> float:
    height, width = pair.a.size
    grid = pixel_grid(height, width).view(height, width, 2)[step // 2 :: step, step // 2 :: step].reshape(1, -1, 2)
    return float(pair.warp().points(grid).visible.float().mean())


class PicturePairs:
    """Pairs made of single pictures by random homographies with perspective, rotation and zoom.

    Args:
        pictures: grey bytes (H, W), at least `size` px a side.
        size: side of the crops, px.
        notes: what was left out of them, a line each.
    """

    def __init__(
        self, pictures: Sequence[np.ndarray], geometry: GeometricConfig, size: int, notes: Sequence[str] = ()
    ) -> None:
        self.notes = list(notes)
        self.geometry = geometry
        self.size = size
        self._pictures = list(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def sample(self, generator: torch.Generator) -> Pair:
        """A random picture, seen twice."""
        picture = self._pictures[int(torch.randint(len(self._pictures), (), generator=generator))]
        image = torch.from_numpy(picture)[None, None].float() / 255
        height, width = picture.shape
        margin = torch.tensor([min(self.size / 3, width / 2 - 1), min(self.size / 3, height / 2 - 1)])
        spread = torch.tensor([width - 1.0, height - 1.0]) - 2 * margin
        centre = margin + torch.rand(2, generator=generator) * spread.clamp_min(0)
        crop_a, crop_b = random_crops(centre, centre, self.geometry, self.size, generator)
        half = self.size / 2 / log_uniform(generator, *self.geometry.resolution)
        perspective = random_homography(generator, centre, half, self.geometry.perspective)
        crop_b = _at_zoom(crop_b @ perspective, crop_b, centre)
        view = View(image, torch.ones_like(image, dtype=torch.bool), None, torch.eye(3)[None], torch.eye(4)[None])
        return Pair(
            resample_view(view, crop_a, self.size),
            resample_view(view, crop_b, self.size),
            crop_b @ torch.linalg.inv(crop_a),
        )


def _at_zoom(transform: Tensor, wanted: Tensor, centre: Float[Tensor, "2"]) -> Tensor:
    """Weight 1 at the crop's centre (its sign decides what is in front), and the centre brought back to its place."""
    _, weight = apply_homography(transform, centre[None, None])
    transform = transform / weight[..., None]
    there, _ = apply_homography(wanted, centre[None, None])
    here, _ = apply_homography(transform, centre[None, None])
    shift = torch.eye(3)[None].clone()
    shift[:, :2, 2] = (there - here)[:, 0]
    return shift @ transform


def load_pictures(paths: Sequence[str | Path], max_side: int, min_side: int) -> tuple[list[np.ndarray], list[str]]:
    """Grey bytes of every image that is at least `min_side` px on its shorter side after shrinking.

    Images that can't be read are left out, where they are few.

    Returns:
        The images, and a line for each kind of file that was left out.

    Raises:
        UserError: none is left, or many can't be read (ImageError is one, for a path that isn't there).
    """
    absent = next((path for path in paths if not Path(path).exists()), None)
    if absent is not None:
        raise ImageError(absent, "no such file or folder", "check the path")
    found, places = find_images(paths), ", ".join(map(str, paths))
    broken, small, pictures = LeftOut("images can't be read", "fetch them again, or remove them"), [], []
    for path in found.paths:
        try:
            grey = shrink(read_grey(path), max_side)
        except ImageError as error:
            broken.add(path.name, error)
            continue
        if min(grey.shape[:2]) >= min_side:
            pictures.append(np.ascontiguousarray(grey))
        else:
            small.append(path.name)
    notes = [*found.passed_over, *broken.notes(len(found.paths), places)]
    if not pictures:
        raise UserError(f"pictures: none of at least {min_side} px a side in {places}")
    if small:
        first = ", ".join(small[:SHOWN]) + (", …" if len(small) > SHOWN else "")
        notes.append(f"left out: {len(small)} of {len(found.paths)} are smaller than {min_side} px a side ({first})")
    return pictures, notes
