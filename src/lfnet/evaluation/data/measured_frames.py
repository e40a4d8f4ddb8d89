"""Frames with cameras, and depth where they have it, as a benchmark measures them: shrunk, two by two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lfnet.coordinates import resize_matrix
from lfnet.errors import UserError, one_line
from lfnet.evaluation.data.pairs import RelativePose
from lfnet.evaluation.data.truth import DepthTruth, TransformedTruth, visible_share
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.geometry.depth import DepthView
from lfnet.images import shrink, shrunk_size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from numpy import ndarray as Array

    from lfnet.coordinates import Size
    from lfnet.data.frames import Frame
    from lfnet.evaluation.data.truth import Places

CAMERAS_KEPT = 32
"""Depth maps kept in memory: at 1600x1200 px they take 250 MB."""

T = TypeVar("T")


class MeasuredFrames:
    """Frames by their names, at the size that they are measured at.

    Args:
        frames: posed pictures; of two with one name, the first counts.
        long_side: pictures whose longer side is larger are shrunk to this many pixels.
    """

    def __init__(self, frames: Iterable[Frame], long_side: int) -> None:
        self.frames: dict[str, Frame] = {}
        self.twice: list[str] = []
        """Names that stand for more than one frame."""
        for frame in frames:
            if frame.name in self.frames:
                self.twice.append(frame.name)
            self.frames.setdefault(frame.name, frame)
        self.long_side = long_side
        self.camera = lru_cache(maxsize=CAMERAS_KEPT)(self._read_camera)

    def size(self, name: str) -> Size:
        """Width and height that a frame's picture is measured at, pixels."""
        return shrunk_size(self.frames[name].size, self.long_side)

    def load(self, name: str) -> UInt8[Array, "H W *C"]:
        """The picture of a frame, shrunk.

        Raises:
            ValueError: it can't be read, or is of another size than its camera's.
        """
        frame = self.frames[name]
        image = frame.read_image()
        size = (image.shape[1], image.shape[0])
        if size != frame.size:
            expected = f"{frame.size[0]}x{frame.size[1]}"
            raise UserError(f"{name}: {size[0]}x{size[1]} pixels, but its camera has {expected}; was it replaced?")
        return shrink(image, self.long_side)

    def shrunk_from_stored(self, name: str) -> Float[Array, "3 3"]:
        """Pixels that are measured from those of the picture as stored."""
        return resize_matrix(self.frames[name].size, self.size(name))

    def pose(self, name_a: str, name_b: str) -> RelativePose:
        """Cameras of two frames, in the pixels that are measured, and the motion between them."""
        frame_a, frame_b = self.frames[name_a], self.frames[name_b]
        return RelativePose(
            self.shrunk_from_stored(name_a) @ frame_a.intrinsics,
            self.shrunk_from_stored(name_b) @ frame_b.intrinsics,
            frame_b.camera_from_world @ np.linalg.inv(frame_a.camera_from_world),
        )

    def truth(self, name_a: str, name_b: str) -> FrameTruth | None:
        """Geometry of two frames in the pixels that are measured; None where either has no depth."""
        if self.frames[name_a].read_depth is None or self.frames[name_b].read_depth is None:
            return None
        return FrameTruth(self, name_a, name_b)

    def overlap(self, name_a: str, name_b: str) -> float:
        """Share of either picture that the other sees through depth, the smaller of the two; both need depth.

        Raises:
            Unmeasured: a depth map can't be read.
        """
        return min(visible_share(FrameTruth(self, name_a, name_b), self.size(name_a), self.size(name_b)))

    def _read_camera(self, name: str) -> DepthView:
        """Depth of every pixel of the stored picture, intrinsics and pose of a frame."""
        frame = self.frames[name]
        if frame.read_depth is None:
            raise UserError(f"{name}: it has no depth map")
        return DepthView(frame.read_depth(), frame.intrinsics, frame.camera_from_world)


@dataclass(frozen=True)
class FrameTruth:
    """Geometry of two frames, whose depth is read when it is asked for, and not resampled.

    It raises Unmeasured where depth can't be read, so that the pair is left out and the others are measured.
    """

    frames: MeasuredFrames
    name_a: str
    name_b: str

    def b_from_a(self, points: Float[Array, "N 2"]) -> Places:
        """Places in b of points of a, and whether b sees them."""
        return self._truth().b_from_a(points)

    def a_from_b(self, points: Float[Array, "N 2"]) -> Places:
        """Places in a of points of b, and whether a sees them."""
        return self._truth().a_from_b(points)

    def _truth(self) -> TransformedTruth:
        try:
            camera_a, camera_b = self.frames.camera(self.name_a), self.frames.camera(self.name_b)
        except (UserError, OSError) as error:
            raise Unmeasured(one_line(error)) from error
        matrices = [self.frames.shrunk_from_stored(name) for name in (self.name_a, self.name_b)]
        return TransformedTruth(DepthTruth(camera_a, camera_b), *matrices)


def evenly(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of the items, evenly spread, in their order."""
    if len(items) <= limit:
        return list(items)
    positions = np.linspace(0, len(items) - 1, limit + 2)[1:-1]
    return [items[round(float(position))] for position in positions]
