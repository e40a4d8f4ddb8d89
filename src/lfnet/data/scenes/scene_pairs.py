"""Training pairs of prepared scenes, read as they are needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lfnet.coordinates import resize_matrix
from lfnet.data.augment import GeometricConfig
from lfnet.data.crops import crop_pair
from lfnet.data.frames import Frame, read_view
from lfnet.data.left_out import LeftOut
from lfnet.data.pair import Pair, View
from lfnet.data.pair_sources import PackedView
from lfnet.data.scenes.scene import Scene, SceneError
from lfnet.errors import UserError
from lfnet.images import shrink, shrunk_size

ATTEMPTS = 64
"""Draws of a place that both views see: at an overlap of a tenth, one pair in a thousand is left without."""


class ScenePairs:
    """Pairs of one split of a scene, drawn by their weights.

    Pictures and depth are read when a pair needs them, and kept packed as long as they fit; what is drawn does not
    depend on what is kept.

    Args:
        scene: that `lfnet prepare` made, or its folder.
        geometry: how crops are turned and zoomed.
        size: side of the crops, px.
        split: "training" or "validation".
        max_side: pictures are shrunk to this long side, px; None keeps their size.
        cache_megabytes: memory for packed views; a picture of 640x480 takes 0.9.

    Raises:
        SceneError: it is no scene, isn't finished, or the split has no pairs.
    """

    def __init__(
        self,
        scene: Scene | str | Path,
        geometry: GeometricConfig,
        size: int,
        split: str = "training",
        max_side: int | None = None,
        cache_megabytes: float = 1024,
    ) -> None:
        self.scene = scene if isinstance(scene, Scene) else Scene.open(scene)
        self.geometry = geometry
        self.size = size
        self.max_side = max_side
        self.table = self.scene.pairs(split)
        total = self.table.weight.astype(np.float64).sum()
        if not len(self.table) or total <= 0:
            raise SceneError(
                f"scene {self.scene.folder}: no pairs for {split}; prepare it with another share of validation pictures"
            )
        self._rising = torch.from_numpy(np.cumsum(self.table.weight, dtype=np.float64) / total)
        self._lock = threading.Lock()
        self._cache = ViewCache(cache_megabytes * 1e6)
        self._broken = LeftOut("pictures or depth maps can't be read", "run `lfnet prepare check` on it")
        self.notes: list[str] = []
        """A line for each picture that was left out since; the list grows while pairs are drawn."""

    def __len__(self) -> int:
        return len(self.table)

    def pair(self, index: int) -> Pair:
        """The whole pictures of a pair, not cropped; the world is a's camera.

        Raises:
            SceneError: a picture or depth map has gone or is damaged.
        """
        numbers = int(self.table.image_id_a[index]), int(self.table.image_id_b[index])
        frames = [self.scene.frame(number) for number in numbers]
        readers = [partial(self._read, frame) for frame in frames]
        views = [self._cache.get(number, read) for number, read in zip(numbers, readers, strict=True)]
        # In double precision: the world of a reconstruction may begin far from its cameras.
        b_from_a = frames[1].camera_from_world @ np.linalg.inv(frames[0].camera_from_world)
        return Pair(
            replace(views[0], camera_from_world=torch.eye(4)[None]),
            replace(views[1], camera_from_world=torch.from_numpy(b_from_a).float()[None]),
        )

    def sample(self, generator: torch.Generator) -> Pair:
        """A pair drawn by weight, both pictures turned, zoomed and cropped about a place that both see.

        Another is drawn in the place of one that can't be read.

        Raises:
            SceneError: many pictures or depth maps can't be read.
        """
        for _ in range(ATTEMPTS):
            place = torch.rand((), generator=generator, dtype=torch.float64)
            index = min(int(torch.searchsorted(self._rising, place, right=True)), len(self) - 1)
            try:
                pair = self.pair(index)
            except _UnreadableError:
                continue
            return crop_pair(pair, self.geometry, self.size, generator, ATTEMPTS)
        raise SceneError(f"scene {self.scene.folder}: its pairs can't be read: {self.notes[0]}")

    def _read(self, frame: Frame) -> PackedView:
        try:
            return PackedView(read_view(shrunk_frame(frame, self.max_side)))
        except UserError as error:
            self._leave_out(frame.name, error)
            raise _UnreadableError(str(error)) from error

    def _leave_out(self, name: str, error: UserError) -> None:
        with self._lock:
            if name not in self._broken.names:
                self._broken.add(name, error)
                self.notes.append(f"left out: {error}")
            self._broken.notes(len(self.scene.frames), f"scene {self.scene.folder}", SceneError)


class _UnreadableError(SceneError):
    """A picture or depth map that has gone or is damaged, noted already."""


class ViewCache:
    """The views that were asked for last, within a bound of memory; several threads may ask.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.bytes = 0
        self._views: OrderedDict[int, PackedView] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int, read: partial[PackedView]) -> View:
        """The view of a number, read where it isn't kept."""
        with self._lock:
            packed = self._views.get(number)
            if packed is not None:
                self._views.move_to_end(number)
        if packed is None:
            # Without the lock, so that threads read side by side; two may read the same view, which does no harm.
            packed = read()
            with self._lock:
                self._keep(number, packed)
        return packed.view()

    def __len__(self) -> int:
        return len(self._views)

    def _keep(self, number: int, packed: PackedView) -> None:
        if number in self._views:
            return
        self._views[number] = packed
        self.bytes += packed.bytes
        while self.bytes > self.limit and self._views:
            _, oldest = self._views.popitem(last=False)
            self.bytes -= oldest.bytes


def shrunk_frame(frame: Frame, max_side: int | None) -> Frame:
    """The frame with its long side at most `max_side` px: picture by area, in grey, depth by the nearest pixel.

    Args:
        frame: of any size.
        max_side: px; None keeps the size.
    """
    size = shrunk_size(frame.size, max_side)
    if size == frame.size:
        return frame

    def read_image() -> NDArray[np.uint8]:
        return shrink(frame.read_grey(), max_side)

    def read_depth() -> NDArray[np.float32]:
        assert frame.read_depth is not None
        depth = frame.read_depth()
        if depth.shape != frame.size[::-1]:
            return depth  # For `read_view` to refuse.
        return np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT), np.float32)

    return replace(
        frame,
        size=size,
        intrinsics=resize_matrix(frame.size, size) @ frame.intrinsics,
        read_image=read_image,
        read_depth=None if frame.read_depth is None else read_depth,
    )


def training_pictures(scene: Scene, count: int, max_side: int) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Grey bytes of pictures of a scene that aren't held back, evenly spread.

    Args:
        scene: to take them of.
        count: how many at most.
        max_side: they are shrunk to this long side, px.

    Returns:
        The pictures, and a line on those that can't be read.

    Raises:
        SceneError: many can't be read.
    """
    table = scene.pair_table
    numbers: Sequence[int] = table.image_ids[table.image_split == 0].tolist()
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)
    broken, pictures = LeftOut("pictures can't be read", "run `lfnet prepare check` on it"), []
    for place in places:
        frame = scene.frame(numbers[place])
        try:
            pictures.append(shrink(frame.read_grey(), max_side))
        except UserError as error:
            broken.add(frame.name, error)
    return pictures, broken.notes(len(places), f"scene {scene.folder}", SceneError)
