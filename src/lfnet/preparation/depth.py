"""Depth maps of a reconstruction: a plane sweep for every view, then what other views confirm of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.data.reconstructions.colmap_model import Reconstruction
from lfnet.data.scenes.scene import depth_path
from lfnet.files.atomic import replacing
from lfnet.files.hdf5 import replacing_hdf5
from lfnet.geometry.depth import DepthView
from lfnet.images import MAX_PIXELS, read_grey
from lfnet.masks import read_mask
from lfnet.preparation.consistency import ConsistencySettings, confirmations, drop_speckles
from lfnet.preparation.plane_refinement import RefinementSettings, refine
from lfnet.preparation.plane_sweep import PosedPicture, SweepResult, SweepSettings, sweep
from lfnet.preparation.view_selection import SparseGeometry
from lfnet.progress import Counter
from lfnet.settings import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True)
class DepthSettings:
    """How depth is measured."""

    method: Literal["auto", "sweep", "patch-match"] = "auto"
    """sweep: planes compared on the CPU; patch-match: COLMAP's, which needs a GPU and a pycolmap built with CUDA, and
    heeds none of the settings below; auto: patch-match where both are there, else sweep."""
    quality: Literal["fast", "high"] = "fast"
    """fast: planes that face the camera; high: then a plane of its own slant for every pixel, about three times
    as long, for roofs and ground seen at a slant."""
    neighbours: int = 4
    """Views that a view is compared with."""
    confirmers: int = 8
    """Views that may confirm its depth."""
    min_score: float = 0.4
    """Least correlation of a pixel that is kept."""
    sweep: SweepSettings = field(default_factory=SweepSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    consistency: ConsistencySettings = field(default_factory=ConsistencySettings)

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.confirmers < 1:
            raise ConfigError("depth.neighbours and depth.confirmers: expected at least 1")
        if not -1 <= self.min_score <= 1:
            raise ConfigError(f"depth.min_score: expected a correlation in [-1, 1], got {self.min_score}")


class DepthMaps:
    """Depth maps in the making. Each is a file of its own, written whole; those that are there are not made again.

    Args:
        reconstruction: pinhole cameras, with observations.
        images: folder of its pictures.
        masks: folder of masks, NAME.png; None where there are none.
        raw: folder for the maps before confirmation.
        scene: folder of the scene, for the finished ones.
    """

    def __init__(
        self,
        reconstruction: Reconstruction,
        images: Path,
        masks: Path | None,
        raw: Path,
        scene: Path,
        settings: DepthSettings,
        threads: int,
    ) -> None:
        self._reconstruction = reconstruction
        self._geometry = SparseGeometry(reconstruction)
        self._images = images
        self._masks = masks
        self._raw = raw
        self._scene = scene
        self._settings = settings
        self._threads = threads
        self._picture = lru_cache(maxsize=64)(self._read_picture)
        self._view = lru_cache(maxsize=32)(self._read_raw)

    def sweep(self, progress: Counter) -> int:
        """Measure every view that has neighbours and a range of depths; returns how many have."""
        todo = [number for number in self._measurable if not self._raw_path(number).exists()]
        count = len(self._measurable)
        each_of(todo, self._sweep_one, self._threads, lambda done, _: progress(count - len(todo) + done, count))
        return count

    def confirm(self, progress: Counter) -> None:
        """Write what of each map the others confirm, and empty maps for views that could not be measured."""
        numbers = sorted(self._reconstruction.images)
        todo = [number for number in numbers if not self._target_path(number).exists()]
        done_before = len(numbers) - len(todo)
        each_of(todo, self._confirm_one, self._threads, lambda done, _: progress(done_before + done, len(numbers)))

    @cached_property
    def _measurable(self) -> list[int]:
        return [
            number
            for number in sorted(self._reconstruction.images)
            if self._geometry.depth_range(number) and self._geometry.neighbours(number, 1)
        ]

    def _sweep_one(self, number: int) -> None:
        depth_range = self._geometry.depth_range(number)
        assert depth_range is not None
        neighbours = [self._picture(each) for each in self._others(number, self._settings.neighbours)]
        view = self._picture(number)
        found = sweep(view, neighbours, *depth_range, self._settings.sweep)
        if self._settings.quality == "high":
            rng = np.random.default_rng(number)
            found = refine(view, neighbours, found, depth_range, self._settings.refinement, rng)
        with replacing(self._raw_path(number)) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack((found.inverse_depth, found.score)))

    def _confirm_one(self, number: int) -> None:
        if not self._raw_path(number).exists():
            width, height = self._reconstruction.cameras[self._reconstruction.images[number].camera_id].size
            write_depth(self._target_path(number), np.zeros((height, width), np.float32))
            return
        others = [each for each in self._others(number, self._settings.confirmers) if self._raw_path(each).exists()]
        view = self._view(number)
        count = confirmations(view, [self._view(each) for each in others], self._settings.consistency)
        needed = min(self._settings.consistency.views, len(others))
        depth = np.where(count >= max(needed, 1), view.depth, 0).astype(np.float32)
        mask = self._mask(number)
        if mask is not None:
            depth[~mask] = 0
        write_depth(self._target_path(number), drop_speckles(depth, self._settings.consistency.speckle))

    def _others(self, number: int, count: int) -> list[int]:
        return [neighbour.image_id for neighbour in self._geometry.neighbours(number, count)]

    def _raw_path(self, number: int) -> Path:
        return self._raw / f"{number}.npy"

    def _target_path(self, number: int) -> Path:
        return depth_path(self._scene, self._reconstruction.images[number].name)

    def _mask(self, number: int) -> NDArray[np.bool_] | None:
        path = None if self._masks is None else self._masks / f"{self._reconstruction.images[number].name}.png"
        return None if path is None or not path.exists() else read_mask(path, MAX_PIXELS)

    def _read_picture(self, number: int) -> PosedPicture:
        image = self._reconstruction.images[number]
        intrinsics = self._reconstruction.cameras[image.camera_id].intrinsics
        return PosedPicture(read_grey(self._images / image.name), intrinsics, image.camera_from_world)

    def _read_raw(self, number: int) -> DepthView:
        inverse_depth, score = np.load(self._raw_path(number))
        found = SweepResult(inverse_depth, score)
        image = self._reconstruction.images[number]
        intrinsics = self._reconstruction.cameras[image.camera_id].intrinsics
        return DepthView(found.depth(self._settings.min_score), intrinsics, image.camera_from_world)


def write_depth(path: Path, depth: NDArray[np.float32]) -> None:
    """Write a depth map as MegaDepth's users know it: HDF5, dataset "depth", float32 (H, W), 0 where unknown.

    Raises:
        OSError: it can't be written; what stood there still does.
    """
    with replacing_hdf5(path) as (file, _):
        values = depth.astype(np.float32)
        file.create_dataset("depth", data=values, compression="gzip", compression_opts=4, shuffle=True)


def each_of(items: Sequence[Item], function: Callable[[Item], None], threads: int, progress: Counter) -> None:
    """Call a function with each item, several at a time, each on one thread of OpenCV's.

    Raises:
        Exception: whatever the function raises first; items not begun by then are left.
    """
    with one_thread_each(), ThreadPoolExecutor(threads) as pool:
        waiting = {pool.submit(function, item) for item in items}
        try:
            progress(0, len(items))
            while waiting:
                done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_EXCEPTION)
                failed = [error for future in done if (error := future.exception()) is not None]
                if failed:
                    raise failed[0]
                progress(len(items) - len(waiting), len(items))
        except BaseException:  # Ctrl-C too: the pool would first do all that is left.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep OpenCV to the thread that calls it while the block lasts: the callers are as many as the cores."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
