"""Pictures that need no file: rendered scenes with exact depth and cameras, and a photograph warped by homographies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from lfnet.data.augment import log_uniform, random_homography, uniform
from lfnet.data.renders.render_settings import RenderSettings
from lfnet.data.renders.rendered_scenes import RenderedScenes
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair, RelativePose
from lfnet.evaluation.data.stereo import motorcycle
from lfnet.evaluation.data.truth import DepthTruth, HomographyTruth, visible_share
from lfnet.geometry.depth import DepthView

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from numpy import ndarray as Array

    from lfnet.coordinates import Size
    from lfnet.data.pair import Pair, View

RENDER_SETTINGS = {"baseline_degrees": (5.0, 35.0), "zoom_max": 1.5, "roll_degrees": 30.0}
"""How the second view departs from the first: by a baseline that has a direction, and by what SIFT survives."""
LEAST_OVERLAP = 0.3
"""Share of either picture that the other sees in a scene that is taken."""
DRAWS = 20
"""Scenes drawn for each that is wanted, at most; about every second one is taken."""
SUPERSAMPLING = 2
"""Samples a pixel and axis of a warped photograph, so that it doesn't alias."""
GROUPS = 6
"""Pieces of the photograph: three columns, two rows."""
WARP_TURN, WARP_ZOOM, WARP_PERSPECTIVE = 40.0, 1.5, 0.3
"""Of a warped photograph: largest turn in degrees, largest zoom either way, largest move of a corner as a share of half
the long side."""


def rendered_dataset(count: int = 12, size: Size = (320, 240), seed: int = 0) -> Dataset:
    """Pairs of views of random rooms with boxes and cards, each a scene of its own.

    Args:
        count: of scenes, and of pairs.
        size: width and height of the pictures, pixels.
        seed: decides everything; the number of threads doesn't.

    Returns:
        pairs with exact depth and poses.
    """
    pictures: dict[str, UInt8[Array, "H W"]] = {}
    pairs = []
    with _one_thread():
        scenes = RenderedScenes(RenderSettings(size=max(size), **RENDER_SETTINGS))
        for number, views in enumerate(_overlapping(scenes, count, size, seed)):
            name_a, name_b = (f"scene{number:02d}/{side}" for side in "ab")
            pictures[name_a], pictures[name_b] = (_picture(view, size) for view in views)
            camera_a, camera_b = (_camera(view, size) for view in views)
            b_from_a = camera_b.camera_from_world @ np.linalg.inv(camera_a.camera_from_world)
            pairs.append(
                EvaluationPair(
                    name=f"scene {number:02d}",
                    group=f"scene {number:02d}",
                    picture_a=name_a,
                    picture_b=name_b,
                    truth=DepthTruth(camera_a, camera_b),
                    pose=RelativePose(camera_a.intrinsics, camera_b.intrinsics, b_from_a),
                )
            )
    return Dataset(
        name="rendered",
        kind="rendered",
        pairs=pairs,
        load=pictures.__getitem__,
        unit="scenes",
        settings={"count": count, "size": list(size), "seed": seed},
    )


def warped_dataset(count: int = 12, size: Size = (320, 240), seed: int = 0) -> Dataset:
    """Pairs of pieces of a photograph (scikit-image's motorcycle) related by random homographies.

    Where a piece reaches beyond the photograph it is black, and its keypoints there have no partner.

    Args:
        count: of pairs; pairs of one piece are a group.
        size: width and height of the pictures, pixels.
        seed: decides everything.

    Returns:
        pairs with exact homographies.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
    """
    photograph = motorcycle().left
    pictures: dict[str, UInt8[Array, "H W 3"]] = {}
    pairs = []
    for number in range(count):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        first = f"piece{number % GROUPS:02d}"
        second = f"{first}/view{number // GROUPS:02d}"
        photograph_from_a = _piece(photograph, size, number % GROUPS)
        b_from_a = _warp(size, generator)
        pictures[first] = _seen(photograph, photograph_from_a, size)
        pictures[second] = _seen(photograph, photograph_from_a @ np.linalg.inv(b_from_a), size)
        truth = HomographyTruth(b_from_a, size, size)
        pairs.append(EvaluationPair(second.replace("/", " "), first, first, second, truth))
    return Dataset(
        name="warped",
        kind="homographies",
        pairs=pairs,
        load=pictures.__getitem__,
        unit="pieces of a photograph",
        settings={"count": count, "size": list(size), "seed": seed},
    )


def _piece(photograph: UInt8[Array, "H W 3"], size: Size, number: int) -> Float[Array, "3 3"]:
    """Where one of `GROUPS` pieces lies, evenly spread: photograph_from_piece."""
    columns = GROUPS // 2
    share_x, share_y = (number % columns) / (columns - 1), (number // columns) / 1
    height, width = photograph.shape[:2]
    left, top = share_x * (width - size[0]), share_y * (height - size[1])
    return np.array([[1.0, 0.0, round(left)], [0.0, 1.0, round(top)], [0.0, 0.0, 1.0]])


def _warp(size: Size, generator: torch.Generator) -> Float[Array, "3 3"]:
    """A homography about the middle of a picture: a turn, a zoom, then a move of the corners."""
    centre = torch.tensor([(size[0] - 1) / 2, (size[1] - 1) / 2])
    angle = np.radians(uniform(generator, -WARP_TURN, WARP_TURN))
    zoom = log_uniform(generator, 1 / WARP_ZOOM, WARP_ZOOM)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    similarity = np.eye(3)
    similarity[:2, :2] = linear
    similarity[:2, 2] = centre.numpy() - linear @ centre.numpy()
    tilt = random_homography(generator, centre, max(size) / 2, WARP_PERSPECTIVE)[0].double().numpy()
    return tilt @ similarity


def _seen(
    photograph: UInt8[Array, "H W 3"], photograph_from_picture: Float[Array, "3 3"], size: Size
) -> UInt8[Array, "H W 3"]:
    """The photograph through a homography."""
    fine_size = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
    step = 1 / SUPERSAMPLING
    offset = 0.5 * step - 0.5
    picture_from_fine = np.array([[step, 0.0, offset], [0.0, step, offset], [0.0, 0.0, 1.0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = cv2.warpPerspective(photograph, photograph_from_picture @ picture_from_fine, fine_size, flags=flags)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), np.uint8)


def _overlapping(scenes: RenderedScenes, count: int, size: Size, seed: int) -> Iterator[tuple[View, View]]:
    """The first views of scenes, in the order of their seeds, that see enough of each other."""
    taken = 0
    for draw in range(DRAWS * count):
        generator = torch.Generator().manual_seed(1_000_000 * seed + draw)
        pair: Pair = scenes.sample(generator)
        truth = DepthTruth(_camera(pair.a, size), _camera(pair.b, size))
        if min(visible_share(truth, size, size)) >= LEAST_OVERLAP:
            yield pair.a, pair.b
            taken += 1
        if taken == count:
            return


def _offset(view: View, size: Size) -> tuple[int, int]:
    """Left and top of the middle of a square picture."""
    return (view.size[1] - size[0]) // 2, (view.size[0] - size[1]) // 2


def _picture(view: View, size: Size) -> UInt8[Array, "H W"]:
    left, top = _offset(view, size)
    grey = view.image[0, 0, top : top + size[1], left : left + size[0]].numpy()
    return np.rint(grey * 255).astype(np.uint8)


def _camera(view: View, size: Size) -> DepthView:
    assert view.depth is not None
    left, top = _offset(view, size)
    intrinsics = view.intrinsics[0].double().numpy().copy()
    intrinsics[:2, 2] -= left, top
    depth = view.depth[0, 0, top : top + size[1], left : left + size[0]].numpy()
    return DepthView(depth, intrinsics, view.camera_from_world[0].double().numpy())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: sums over a picture otherwise depend on how many share them out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
