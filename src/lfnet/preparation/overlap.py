"""How much pictures see of each other, from how far apart and how large: measured by warping small depth maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.coordinates import Size, resize_matrix
from lfnet.data.frames import Frame, SequenceError, fill_pinholes
from lfnet.data.left_out import LeftOut
from lfnet.errors import UserError
from lfnet.geometry.camera import pixel_grid, unproject
from lfnet.geometry.warp import warp_by_depth
from lfnet.images import shrunk_size

SIDE = 160
"""Long side of a thumbnail, pixels, for up to `MANY` pictures; fewer pixels beyond, down to `LEAST_SIDE`."""
MANY = 2500
"""Pictures whose thumbnails of `SIDE` take at most 128 MB; more get smaller ones, so that they take no more."""
LEAST_SIDE = 64
GRID = 24
"""Points along the long side at which the share of pixels is measured: one of them is 0.25 % of a picture."""
BATCH = 128
"""Pairs that are warped at once; more take more memory and no less time on a CPU."""

Report = Callable[[int, int], object]
"""Told how many of how many are done."""


@dataclass(frozen=True)
class Thumbnails:
    """Small depth maps of all pictures, in the top-left corners of one array."""

    depth: NDArray[np.float16]
    """(n, h, w) in units of each picture's own median depth; 0 where unknown or beyond the thumbnail."""
    unit: NDArray[np.float64]
    """(n,) median depth of each picture, in the unit of the poses; 0 without any depth."""
    zoom: NDArray[np.float64]
    """(n,) pixels of the thumbnail per pixel of the picture."""
    intrinsics: NDArray[np.float64]
    """(n, 3, 3), pixels of the thumbnail."""
    camera_from_world: NDArray[np.float64]
    """(n, 4, 4)"""
    notes: tuple[str, ...] = ()
    """A line on depth maps that can't be read: those pictures see nothing."""

    def __len__(self) -> int:
        return len(self.depth)

    @property
    def centres(self) -> NDArray[np.float64]:
        """(n, 3) places of the cameras in the world."""
        rotation, translation = self.camera_from_world[:, :3, :3], self.camera_from_world[:, :3, 3]
        return -np.einsum("nji,nj->ni", rotation, translation)

    def points(self, picture: int) -> NDArray[np.float64]:
        """A sparse sample of what a picture sees, (N, 3) in the world."""
        step = _grid_step(self.depth.shape)
        y, x = np.mgrid[step // 2 : self.depth.shape[1] : step, step // 2 : self.depth.shape[2] : step]
        depth = self.depth[picture, y, x].astype(np.float64) * self.unit[picture]
        rays = np.stack((x, y, np.ones_like(x)), -1)[depth > 0] @ np.linalg.inv(self.intrinsics[picture]).T
        pose = self.camera_from_world[picture]
        return (rays * depth[depth > 0][:, None] - pose[:3, 3]) @ pose[:3, :3]


def thumbnail_side(pictures: int) -> int:
    """Long side of the thumbnails of so many pictures, pixels: their memory stays bounded."""
    return max(LEAST_SIDE, min(SIDE, round(SIDE * (MANY / max(pictures, 1)) ** 0.5)))


def read_thumbnails(frames: Sequence[Frame], progress: Report | None = None) -> Thumbnails:
    """Read the depth of every frame once, and keep it small.

    Args:
        frames: with depth; one without it sees nothing.
        progress: called after each.

    Raises:
        SequenceError: many depth maps can't be read, or aren't of their pictures' size.
    """
    side = thumbnail_side(len(frames))
    sizes = [shrunk_size(frame.size, side) for frame in frames]
    width = max((size[0] for size in sizes), default=1)
    height = max((size[1] for size in sizes), default=1)
    depth = np.zeros((len(frames), height, width), np.float16)
    unit, zoom = np.zeros(len(frames)), np.ones(len(frames))
    intrinsics, poses = np.zeros((len(frames), 3, 3)), np.zeros((len(frames), 4, 4))
    broken = LeftOut("depth maps can't be read", "make them again")
    for index, (frame, size) in enumerate(zip(frames, sizes, strict=True)):
        try:
            small = _small_depth(frame, size)
        except UserError as error:
            broken.add(frame.name, error)
            small = np.zeros((size[1], size[0]), np.float32)
        known = small[small > 0]
        unit[index] = np.median(known) if len(known) else 0.0
        if len(known):
            # Half precision ends at 65504; nothing that far away in medians is of use.
            depth[index, : size[1], : size[0]] = np.minimum(small / unit[index], 6e4)
        zoom[index] = (size[0] * size[1] / (frame.size[0] * frame.size[1])) ** 0.5
        intrinsics[index] = resize_matrix(frame.size, size) @ frame.intrinsics
        poses[index] = frame.camera_from_world
        if progress is not None:
            progress(index + 1, len(frames))
    notes = broken.notes(len(frames), "scene", SequenceError)
    return Thumbnails(depth, unit, zoom, intrinsics, poses, tuple(notes))


def _small_depth(frame: Frame, size: Size) -> NDArray[np.float32]:
    if frame.read_depth is None:
        return np.zeros((size[1], size[0]), np.float32)
    depth = frame.read_depth()
    if depth.shape != (frame.size[1], frame.size[0]):
        raise SequenceError(
            f"{frame.name}: depth of {depth.shape[1]}x{depth.shape[0]} beside a picture of {frame.size[0]}x"
            f"{frame.size[1]}; register the depth to the picture first"
        )
    # The measurement nearest to the middle of each thumbnail's pixel: a mean would join surfaces.
    rows = ((np.arange(size[1]) + 0.5) * depth.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * depth.shape[1] / size[0]).astype(int)
    return fill_pinholes(depth[rows[:, None], columns])


@dataclass(frozen=True)
class Measurements:
    """What was measured of pairs, an entry each."""

    overlap_ab: NDArray[np.float32]
    """Share of a's pixels of known depth that b sees."""
    overlap_ba: NDArray[np.float32]
    angle: NDArray[np.float32]
    """Degrees between the rays of both cameras at the points that both see, median; 0 where there are none."""
    rotation: NDArray[np.float32]
    """Degrees of the rotation from a's camera to b's."""
    scale_ratio: NDArray[np.float32]
    """Zoom from a to b, pixels of the pictures, median; 1 where they share no point."""

    @property
    def overlap(self) -> NDArray[np.float32]:
        """The smaller of both ways."""
        return np.minimum(self.overlap_ab, self.overlap_ba)

    def __len__(self) -> int:
        return len(self.angle)

    def rows(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> Measurements:
        """Those of a mask or of indices."""
        return Measurements(*(getattr(self, field.name)[chosen] for field in fields(self)))


def measure_pairs(
    thumbnails: Thumbnails, pairs: NDArray[np.integer], progress: Report | None = None, batch: int = BATCH
) -> Measurements:
    """Measure pairs of pictures.

    Args:
        thumbnails: of all pictures.
        pairs: (C, 2) places in them.
        progress: called after each batch.
        batch: pairs that are warped at once.
    """
    done = [np.zeros((0, 5), np.float32)]
    for rows in _batches(len(pairs), batch):
        done.append(_measure_batch(thumbnails, pairs[rows, 0], pairs[rows, 1]))
        if progress is not None:
            progress(rows.stop, len(pairs))
    return Measurements(*np.concatenate(done).T)


def _batches(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _measure_batch(thumbnails: Thumbnails, first: NDArray, second: NDArray) -> NDArray[np.float32]:
    unit = thumbnails.unit[first]
    unit = np.where(unit > 0, unit, 1.0)
    # In double precision, because a world may begin far away; in units of a's depth, because it may be measured in any.
    b_from_a = thumbnails.camera_from_world[second] @ np.linalg.inv(thumbnails.camera_from_world[first])
    sine = np.linalg.norm(b_from_a[:, :3, :3] - np.eye(3), axis=(1, 2)) / 8**0.5
    rotation = np.degrees(2 * np.arcsin(np.clip(sine, 0, 1)))
    b_from_a[:, :3, 3] /= unit[:, None]
    cameras = [torch.from_numpy(thumbnails.intrinsics[each]).float() for each in (first, second)]
    depth_a = torch.from_numpy(thumbnails.depth[first]).float()[:, None]
    relative = (thumbnails.unit[second] / unit)[:, None, None].astype(np.float32)
    depth_b = torch.from_numpy(thumbnails.depth[second] * relative).float()[:, None]
    there, back = torch.from_numpy(b_from_a).float(), torch.from_numpy(np.linalg.inv(b_from_a)).float()

    view_a, view_b = (depth_a, cameras[0]), (depth_b, cameras[1])
    grid, places, seen = _warp_grid(view_a, view_b, there)
    _, _, seen_back = _warp_grid(view_b, view_a, back)
    share_a, share_b = _share_seen(depth_a, seen), _share_seen(depth_b, seen_back)
    angle = _median(_ray_angles(view_a, back, grid), seen, 0.0)
    zoom = _median(*_zooms(places, seen, _grid_step(depth_a.shape)), 1.0)
    scale_ratio = zoom.numpy() * thumbnails.zoom[first] / thumbnails.zoom[second]
    return np.stack((share_a.numpy(), share_b.numpy(), angle.numpy(), rotation, scale_ratio), 1).astype(np.float32)


def _grid_step(shape: tuple[int, ...]) -> int:
    return max(1, max(shape[-2:]) // GRID)


def _thinned(depth: Tensor) -> Tensor:
    """The pixels of depth maps that are asked: every step-th."""
    step = _grid_step(depth.shape)
    return depth[..., step // 2 :: step, step // 2 :: step]


SmallView = tuple[Tensor, Tensor]
"""Depth maps (B, 1, h, w) and intrinsics (B, 3, 3)."""


def _warp_grid(view_a: SmallView, view_b: SmallView, b_from_a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of a on the grid (N, 2), their places in b (B, rows, columns, 2), and whether b sees them (like places).

    The points are pixels of a, so that a's depth map may be thinned out to them: everything else would only be time.
    """
    (depth_a, intrinsics_a), (depth_b, intrinsics_b) = view_a, view_b
    step, thin = _grid_step(depth_a.shape), _thinned(depth_a)
    rows, columns = thin.shape[-2:]
    coarse = pixel_grid(rows, columns)
    full_from_thin = torch.tensor([[step, 0.0, step // 2], [0.0, step, step // 2], [0.0, 0.0, 1.0]])
    camera = torch.linalg.inv(full_from_thin) @ intrinsics_a
    valid = torch.ones_like(depth_b, dtype=torch.bool)
    warp = warp_by_depth(thin, depth_b, camera, intrinsics_b, b_from_a, valid)
    warped = warp.points(coarse.expand(len(thin), -1, -1))
    places, seen = (each.unflatten(1, (rows, columns)) for each in warped)
    return coarse * step + step // 2, places, seen


def _share_seen(depth: Tensor, seen: Tensor) -> Tensor:
    """Share of the pixels of known depth."""
    known = (_thinned(depth) > 0).flatten(1).float().sum(1)
    return seen.flatten(1).float().sum(1) / known.clamp_min(1)


def _zooms(places: Tensor, seen: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Root of the change of area of the warp, from each point and those to the right and below, if all are seen.

    Differences over a step of the grid are exact where the warp is affine; on a slanted plane their median is close.
    """
    right = places[:, :-1, 1:] - places[:, :-1, :-1]
    below = places[:, 1:, :-1] - places[:, :-1, :-1]
    area = right[..., 0] * below[..., 1] - right[..., 1] * below[..., 0]
    return area.abs().sqrt() / step, seen[:, :-1, :-1] & seen[:, :-1, 1:] & seen[:, 1:, :-1]


def _ray_angles(view_a: SmallView, a_from_b: Tensor, grid: Tensor) -> Tensor:
    """Degrees between the rays of both cameras to the points of a's grid."""
    depth, intrinsics = view_a
    points = unproject(intrinsics, grid.expand(len(depth), -1, -1), _thinned(depth).flatten(1))
    other = points - a_from_b[:, None, :3, 3]
    across = torch.linalg.cross(points, other).norm(dim=-1)
    return torch.rad2deg(torch.atan2(across, (points * other).sum(-1)))


def _median(values: Tensor, mask: Tensor, default: float) -> Tensor:
    """Of the values of each entry whose mask is set; the default where none is."""
    values = torch.where(mask, values.view(mask.shape), torch.full((), float("nan"))).flatten(1)
    return values.nanmedian(1).values.nan_to_num(default)
