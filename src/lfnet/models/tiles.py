"""One large picture in bounded memory: searched and described tile by tile, with what the whole one would give.

What the network says of a pixel depends on what it sees around it, which each tile has too, and on a few numbers of the
whole picture (its mean and deviation, and those of its score maps), which are measured first. Octaves, score maps and
patches of a tile are resized as those of the whole picture are (`lfnet.models.windows`). Keypoints of all tiles then
compete for the picture's budget, and only those that are kept are described.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.errors import UserError
from lfnet.geometry.filters import grow
from lfnet.image_rows import Rows
from lfnet.models.config import DetectorConfig, ExtractionSettings, LFNetConfig, TileSettings
from lfnet.models.inputs import BLANK, CONTRAST_BLOCK, CONTRAST_SIGMA
from lfnet.models.keypoints import Keypoints, upright
from lfnet.models.network import Network
from lfnet.models.patches import Mosaic, coarsest_level, make_mosaic_of_part, part_reach
from lfnet.models.pyramid import MIN_SIDE, Octave, in_pixels_of_the_picture
from lfnet.models.scale_space import EPSILON, MapStatistics, Part
from lfnet.models.windows import Stretch, Window, resize_axis

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

_CHUNK = 256
"""Rows that are measured, or turned into an octave, at a time."""


def alignment(config: LFNetConfig) -> int:
    """Tiles begin at multiples of so many pixels: what the network does in blocks, it does in the same blocks."""
    block = config.detector.stride * (2 if config.detector.context else 1)
    return math.lcm(block, config.scale_space.window_step, CONTRAST_BLOCK)


def needed_overlap(config: LFNetConfig, settings: ExtractionSettings | None = None) -> int:
    """How far, in pixels of an octave, the network sees from a keypoint until it is found.

    Args:
        config: of the network.
        settings: whose border is kept around masked pixels too.
    """
    border = config.keypoints.border if settings is None or settings.border is None else settings.border
    around = max(config.keypoints.nms_size, config.keypoints.subpixel, 3) // 2
    contrast = (
        CONTRAST_BLOCK * (2 + math.ceil(3 * CONTRAST_SIGMA / CONTRAST_BLOCK)) if config.contrast_preference else 0
    )
    orientation = 0
    if config.orientation.mode != "shared":
        orientation = _seen_by_features(config.detector) + 4 * config.detector.stride
    if config.orientation.mode == "gradient":
        orientation += math.ceil(3 * config.orientation.window_sigma)
    return max(_seen_by_scores(config) + around, contrast + around, orientation, border)


def _seen_by_features(config: DetectorConfig) -> int:
    """How far a feature sees, in pixels, from any pixel that it stands for."""
    radius, stride = config.kernel_size // 2, config.stride
    strided = {1: radius, 2: radius + 1, 4: 3 * (radius + 1)}[stride]
    seen = strided + (3 if config.derivatives else 0) + stride * (1 + 2 * config.blocks * radius)
    if config.context:
        seen += stride * (radius + 1) + 2 * stride * (1 + 2 * config.context * radius)
    return seen


def _seen_by_scores(config: LFNetConfig) -> int:
    space, stride, radius = config.scale_space, config.detector.stride, config.scale_space.kernel_size // 2
    seen = stride * radius
    if space.scales > 1:
        # There, by a convolution of coarser pixels, and back: each way takes the pixel beside.
        seen = math.ceil(stride * ((radius + 1) * space.reach + 1) + space.reach)
    window = space.window // 2 + (space.window_step if space.window_step > 1 else 0)
    return _seen_by_features(config.detector) + seen + window


class _OctaveOfRows:
    """A picture at the size of an octave, of which some rows are in memory."""

    def __init__(self, picture: Rows, mask: Rows | None, octave: float, device: torch.device) -> None:
        self._picture, self._mask, self._octave, self._device = picture, mask, octave, device
        width, height = picture.size
        self.shape = (max(1, round(height * octave)), max(1, round(width * octave)))
        self.ratio = (self.shape[1] / width, self.shape[0] / height)
        self.mean, self.deviation, self.blank = 0.0, 1.0, True
        self._kept: tuple[Stretch, tuple[Tensor, Tensor]] | None = None

    def measure(self) -> None:
        """Find mean and deviation over the valid pixels, as `normalize_pictures` does for a picture in memory."""
        count, total, squares = 0, 0.0, 0.0
        for rows in stretches(self.shape[0], _CHUNK):
            image, valid = self._band(rows)
            values = (image * valid).double()
            count, total = count + int(valid.sum()), total + float(values.sum())
            squares += float(values.square().sum())
        self.mean = total / max(count, 1)
        deviation = math.sqrt(max(squares / max(count, 1) - self.mean**2, 0.0))
        self.deviation = max(deviation, BLANK)
        self.blank = (deviation / self.deviation) ** 2 < 0.9

    def part(self, window: Window) -> tuple[Float[Tensor, "1 1 H W"], Bool[Tensor, "1 1 H W"]]:
        """What the normalised picture shows in a window, and which pixels of it count."""
        columns = slice(window.columns.start, window.columns.stop)
        image, valid = (band[..., columns].to(self._device) for band in self._band(window.rows))
        return (image - self.mean) * valid / self.deviation, valid

    def _band(self, rows: Stretch) -> tuple[Float[Tensor, "1 1 H W"], Bool[Tensor, "1 1 H W"]]:
        """Rows from edge to edge; those asked for last are kept for the next tile beside."""
        if self._kept is None or self._kept[0] != rows:
            self._kept = None
            image = self._resized(self._picture.rows, rows)
            if self._mask is None:
                valid = torch.ones_like(image, dtype=torch.bool)
            else:
                # As in `resize_to_octave`: a pixel counts where all that it is made of does.
                read = self._mask.rows
                valid = self._resized(lambda start, stop: (read(start, stop) > 0).astype(np.float32), rows) > 0.999
            self._kept = rows, (image, valid)
        return self._kept[1]

    def _resized(self, read: Callable[[int, int], NDArray[np.float32]], rows: Stretch) -> Float[Tensor, "1 1 H W"]:
        antialias = self._octave < 1
        width, height = self._picture.size
        places, _ = rows.taps(height, antialias=antialias)
        source = Stretch(int(places.min()), int(places.max()) + 1, height)
        columns = Stretch(0, width, width), Stretch(0, self.shape[1], self.shape[1])
        narrow = torch.empty(1, 1, source.length, self.shape[1])
        for start in range(source.start, source.stop, _CHUNK):
            stop = min(start + _CHUNK, source.stop)
            chunk = torch.from_numpy(read(start, stop))[None, None]
            narrow[:, :, start - source.start : stop - source.start] = resize_axis(
                chunk, -1, *columns, antialias=antialias
            )
        return resize_axis(narrow, -2, source, rows, antialias=antialias)


def stretches(whole: int, size: int) -> Iterator[Stretch]:
    """An axis cut into pieces of `size` pixels, the last one as long as it is."""
    return (Stretch(start, min(start + size, whole), whole) for start in range(0, whole, size))


def _cores(shape: tuple[int, int], size: int) -> Iterator[Window]:
    return (Window(rows, columns) for rows in stretches(shape[0], size) for columns in stretches(shape[1], size))


@torch.inference_mode()
def extract_in_tiles(
    model: Network,
    picture: Rows,
    mask: Rows | None,
    settings: ExtractionSettings,
    tiles: TileSettings,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Keypoints, Float[Tensor, "N D"]]:
    """The keypoints of a picture, in its pixels and best first, and their descriptors: as `Network.find` gives them.

    Memory grows with the picture's width times the tile's side. Where the model normalises score maps
    (`scale_space.normalize`), each tile is looked at twice.

    Args:
        model: in evaluation mode.
        picture: grey in [0, 1].
        mask: of the same size; None: keypoints may be everywhere.
        settings: how many, how good, at which octaves; all of the whole picture.
        tiles: how it is cut.
        progress: called with how many looks at tiles are done, and how many there are, without those that describe.

    Raises:
        UserError: the overlap is smaller than what the model sees, or the mask is of another size.
    """
    _check(model, picture, mask, settings, tiles)
    sizes = settings.octaves or model.config.octaves
    device = next(model.parameters()).device
    octaves = [_OctaveOfRows(picture, mask, size, device) for size in sizes]
    large = [(size, octave) for size, octave in zip(sizes, octaves, strict=True) if min(octave.shape) >= MIN_SIDE]
    looks = 2 if model.config.scale_space.normalize else 1
    work = _Work(model, settings, tiles, progress, sum(looks * _count(octave, tiles) for _, octave in large))
    found = []
    for size, octave in large:
        octave.measure()
        found.append(Octave(None, model.weighed(work.search(octave), size, sizes), octave.ratio))
    width, height = picture.size
    whole = in_pixels_of_the_picture(found, torch.zeros(1, 1, 1, device=device))
    order = model.choice(found, whole, settings, (height, width))
    kept = Keypoints(*(column[:, order] for column in whole))
    if settings.upright:
        kept = kept._replace(orientations=upright(kept.points))
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        if model.config.patches.sampling == "square":
            return kept, work.describe_squares([octave for _, octave in large], found, order, kept)
        whole_size = _OctaveOfRows(picture, mask, 1.0, device)
        whole_size.measure()
        return work.describe_rings(whole_size, kept)


def _check(model: Network, picture: Rows, mask: Rows | None, settings: ExtractionSettings, tiles: TileSettings) -> None:
    needed = needed_overlap(model.config, settings)
    if tiles.overlap is not None and tiles.overlap < needed:
        raise UserError(
            f"overlap: these weights see {needed} pixels around a keypoint, so keypoints near the edges of tiles would "
            f"change; expected at least {needed}, got {tiles.overlap}"
        )
    if mask is not None and mask.size != picture.size:
        raise UserError(f"mask: expected the picture's size {picture.size}, got {mask.size}")


def _count(octave: _OctaveOfRows, tiles: TileSettings) -> int:
    return math.prod(-(-side // tiles.size) for side in octave.shape)


class _Work:
    """A picture's tiles, one after the other."""

    def __init__(
        self,
        model: Network,
        settings: ExtractionSettings,
        tiles: TileSettings,
        progress: Callable[[int, int], object] | None,
        looks: int,
    ) -> None:
        self.model, self.settings, self.tiles = model, settings, tiles
        self.reach = tiles.overlap or needed_overlap(model.config, settings)
        self._progress, self._looks, self._looked = progress, looks, 0

    def search(self, octave: _OctaveOfRows) -> Keypoints:
        """The best keypoints of an octave, in its pixels: as many as the whole picture may have."""
        none = torch.zeros(1, 0, device=next(self.model.parameters()).device)
        best = Keypoints(none.new_zeros(1, 0, 2), none, none, none.new_zeros(1, 0, 2), none > 0, none)
        if octave.blank:
            return best
        statistics = self._statistics(octave) if self.model.config.scale_space.normalize else None
        for core in _cores(octave.shape, self.tiles.size):
            found = self._search_tile(octave, core, statistics)
            best = best if found is None else self._best([best, found])
            self._look()
        return best

    def _look(self) -> None:
        self._looked += 1
        if self._progress is not None:
            self._progress(self._looked, self._looks)

    def _statistics(self, octave: _OctaveOfRows) -> MapStatistics:
        """What `normalize_maps` and `window_softmax` would measure on the whole octave."""
        scales, device = self.model.config.scale_space.scales, next(self.model.parameters()).device
        count = torch.zeros((), dtype=torch.float64, device=device)
        total, squares = (torch.zeros(scales, dtype=torch.float64, device=device) for _ in range(2))
        highest = torch.full((scales,), -torch.inf, dtype=torch.float64, device=device)
        for core in _cores(octave.shape, self.tiles.size):
            window = core.grown(self.reach, alignment(self.model.config))
            image, valid = octave.part(window)
            inside = valid & _inside(window, core, valid.device)
            values = self.model.detector.score_maps(image, valid, window)[0, :, inside[0, 0]].double()
            count, total, squares = count + values.shape[1], total + values.sum(1), squares + values.square().sum(1)
            if values.shape[1]:
                highest = torch.maximum(highest, values.amax(1))
            self._look()
        mean = total / count.clamp_min(1)
        variance = (squares / count.clamp_min(1) - mean.square()).clamp_min(0)
        known = MapStatistics(*(each.float().view(1, -1, 1, 1) for each in (mean, variance, highest)))
        normalized = (known.peak - known.mean) * (known.variance + EPSILON).rsqrt()
        return known._replace(peak=normalized.amax(1, keepdim=True))

    def _search_tile(self, octave: _OctaveOfRows, core: Window, statistics: MapStatistics | None) -> Keypoints | None:
        """The best keypoints of a tile, in pixels of the octave; None where the mask leaves nothing."""
        model, border = self.model, self.model.border(self.settings)
        window = core.grown(self.reach, alignment(model.config))
        image, valid = octave.part(window)
        allowed = Window(*(_within(axis, border) for axis in core))
        usable = valid if bool(valid.all()) else ~grow(~valid, border)
        usable = usable & _inside(window, allowed, usable.device)
        if not bool(usable.any()):
            return None
        maps = model.ranked(model.detector(image, valid, Part(window, statistics)), image, valid)
        found = model.keypoints_of(maps, usable, self.settings)
        start = found.points.new_tensor((window.columns.start, window.rows.start))
        return found._replace(points=found.points + start)

    def _best(self, found: list[Keypoints]) -> Keypoints:
        """The best of those found, as many as there may be."""
        every = Keypoints(*(torch.cat(column, 1) for column in zip(*found, strict=True)))
        scores = every.scores[0].masked_fill(~every.present[0], -1.0)
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] > 0][: self.model.candidates(self.settings)]
        return Keypoints(*(column[:, order] for column in every))

    def describe_squares(
        self, octaves: list[_OctaveOfRows], found: list[Octave], order: Int[Tensor, "N"], kept: Keypoints
    ) -> Float[Tensor, "N D"]:
        """Descriptors of kept keypoints, whose square patches are read each in the octave that it was found in."""
        descriptors = kept.points.new_zeros(len(order), self.model.config.descriptor.dimension)
        start = 0
        for octave, here in zip(octaves, found, strict=True):
            stop = start + here.keypoints.points.shape[1]
            rows = torch.nonzero((order >= start) & (order < stop))[:, 0]
            of_octave = Keypoints(*(column[:, order[rows] - start] for column in here.keypoints))
            of_octave = of_octave._replace(orientations=kept.orientations[:, rows])
            for some, mosaic, them in self._by_tile(octave, of_octave):
                patches = self.model.patches_at(mosaic, them.points, them.scales, them.orientations)[0]
                descriptors[rows[some]] = self.model.descriptor(patches).float()
            start = stop
        return descriptors

    def describe_rings(self, octave: _OctaveOfRows, given: Keypoints) -> tuple[Keypoints, Float[Tensor, "M D"]]:
        """The keypoints that are kept, with orientations, and descriptors read off log-polar patches of the picture."""
        found = []
        for some, mosaic, them in self._by_tile(octave, given):
            them, rows, which = self.model.oriented(mosaic, them, self.settings)
            found.append((some[which], them.scores[0], them.orientations[0], rows.float()))
        if not found:
            return given, given.points.new_zeros(0, self.model.config.descriptor.dimension)
        places, scores, orientations, rows = (torch.cat(column) for column in zip(*found, strict=True))
        # As if all were of one tile: by their scores, and equal ones in the order in which they were given.
        order = places.argsort()
        order = order[scores[order].argsort(descending=True, stable=True)][: self.settings.max_keypoints]
        kept = Keypoints(*(column[:, places[order]] for column in given))
        return kept._replace(scores=scores[None, order], orientations=orientations[None, order]), rows[order]

    def _by_tile(
        self, octave: _OctaveOfRows, keypoints: Keypoints
    ) -> Iterator[tuple[Int[Tensor, "N"], Mosaic, Keypoints]]:
        """The keypoints of each tile that has some: which these are, what their patches are read from, and they."""
        if not keypoints.points.shape[1]:
            return
        config = self.model.config.patches
        largest = float(keypoints.scales.max())
        reach, coarsest = part_reach(largest, config), coarsest_level(largest, config)
        # A refined place may lie half a pixel beyond the edge.
        last = keypoints.points.new_tensor((octave.shape[1], octave.shape[0])).long() - 1
        tile = keypoints.points[0].long().clamp_min(0).minimum(last) // self.tiles.size
        across = -(-octave.shape[1] // self.tiles.size)
        numbers = tile[:, 1] * across + tile[:, 0]
        cores = list(_cores(octave.shape, self.tiles.size))
        for number in numbers.unique().tolist():
            some = torch.nonzero(numbers == number)[:, 0]
            window = cores[number].grown(reach)
            mosaic = make_mosaic_of_part(octave.part(window)[0], window, coarsest, config)
            yield some, mosaic, Keypoints(*(column[:, some] for column in keypoints))


def _within(axis: Stretch, border: int) -> Stretch:
    """The stretch without what lies within `border` pixels of the ends of its axis."""
    start = max(axis.start, border)
    return Stretch(start, max(start, min(axis.stop, axis.whole - border)), axis.whole)


def _inside(window: Window, part: Window, device: torch.device) -> Bool[Tensor, "1 1 H W"]:
    """Which pixels of a window lie in a part of it."""
    inside = torch.zeros(1, 1, *window.shape, dtype=torch.bool, device=device)
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start) for inner, outer in zip(part, window, strict=True)
    )
    inside[:, :, rows, columns] = True
    return inside
