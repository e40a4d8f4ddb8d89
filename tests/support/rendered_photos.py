"""A small world of textured planes, photographed: pictures with exact cameras and depth, to test the preparation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (400, 300)
"""(width, height) of a photo, px."""
FOCAL_LENGTH_35 = 35
"""mm; COLMAP takes it for as many times the long side as it is times 35 mm."""
SUPERSAMPLING = 3
"""Rays a pixel and axis, so that textures don't alias."""
MAKE, MODEL, ORIENTATION, EXIF = 0x010F, 0x0110, 0x0112, 0x8769
FOCAL_LENGTH_35_TAG = 0xA405


@dataclass(frozen=True)
class TexturedPlane:
    """A rectangle in space; x goes right, y down, z away from where the photographer stands. Metres."""

    corner: NDArray[np.float64]
    """Where the texture's top-left corner is."""
    across: NDArray[np.float64]
    """From there to its top-right corner."""
    down: NDArray[np.float64]
    """From there to its bottom-left corner, at a right angle."""
    texture: NDArray[np.uint8]
    """(H, W, 3)."""


@dataclass(frozen=True)
class RenderedView:
    """A photo that is known exactly."""

    name: str
    picture: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    depth: NDArray[np.float32]
    """(H, W) z in the camera frame, metres; 0 where nothing is."""
    surface: NDArray[np.int64]
    """(H, W) place of the plane in `world()` that is seen; -1 where nothing is."""
    intrinsics: NDArray[np.float64]
    camera_from_world: NDArray[np.float64]

    @property
    def grey(self) -> NDArray[np.uint8]:
        """(H, W)."""
        return np.asarray(cv2.cvtColor(self.picture, cv2.COLOR_RGB2GRAY), np.uint8)


GROUND, LEFT_WALL, BACK_WALL, BOX = range(4)
"""Places of the planes in `world()`."""


@lru_cache(maxsize=1)
def world() -> list[TexturedPlane]:
    """Ground, a wall at the left that runs away, one at the back that is turned by some degrees, and a box's front."""
    import skimage.data as data

    def photo(picture: NDArray[np.uint8], size: int = 512) -> NDArray[np.uint8]:
        colours = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, 2)
        return np.asarray(cv2.resize(colours, (size, size), interpolation=cv2.INTER_AREA), np.uint8)

    def beside(*pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.concatenate(pictures, 1)

    gravel, grass, brick = (photo(picture()) for picture in (data.gravel, data.grass, data.brick))
    coffee, cat, astronaut = (photo(picture()) for picture in (data.coffee, data.chelsea, data.astronaut))
    coins, page = photo(data.coins()), photo(data.page())
    ground = np.concatenate((beside(gravel, grass[::-1]), beside(brick, gravel[::-1, ::-1])), 0)
    # A photograph laid over the stones, so that no part looks like another.
    ground = cv2.addWeighted(ground, 0.65, cv2.resize(astronaut, (1024, 1024)), 0.35, 0)
    return [
        TexturedPlane(np.array([-4.0, 1.5, 9.0]), np.array([8.0, 0, 0]), np.array([0, 0, -8.0]), np.asarray(ground)),
        TexturedPlane(
            np.array([-2.6, -1.5, 2.0]), np.array([-0.4, 0, 6.0]), np.array([0, 3.0, 0]), beside(brick, coins)
        ),
        TexturedPlane(
            np.array([-3.2, -2.5, 7.6]), np.array([7.0, 0, -1.4]), np.array([0, 4.0, 0]), beside(coffee, astronaut)
        ),
        TexturedPlane(np.array([0.2, 0.2, 5.0]), np.array([1.5, 0, -0.5]), np.array([0, 1.3, 0]), beside(cat, page)),
    ]


def intrinsics(size: tuple[int, int] = SIZE) -> NDArray[np.float64]:
    """Of the rendered camera: the focal length that its EXIF tells, the principal point in the middle."""
    focal = max(size) * FOCAL_LENGTH_35 / 35
    return np.array([[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1.0]])


def look(position: NDArray[np.float64], target: NDArray[np.float64], roll: float = 0.0) -> NDArray[np.float64]:
    """camera_from_world of a camera that looks at a point, turned about its axis by degrees."""
    forward = target - position
    forward = forward / np.linalg.norm(forward)
    right = np.cross(np.array([0, 1.0, 0]), forward)
    right = right / np.linalg.norm(right)
    level = np.stack((right, np.cross(forward, right), forward))
    angle = np.deg2rad(roll)
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = turn @ level
    pose[:3, 3] = -pose[:3, :3] @ position
    return pose


def poses(count: int) -> list[NDArray[np.float64]]:
    """Cameras that go sideways, turn towards the middle, and come closer every third time."""
    found = []
    for number in range(count):
        share = number / max(count - 1, 1)
        position = np.array([-1.1 + 2.2 * share, 0.15 * np.sin(5.0 * share), (0.0, 0.4, 1.0)[number % 3]])
        target = np.array([0.3 * np.cos(4.0 * share), 0.3, 5.5])
        found.append(look(position, target, roll=3.0 * np.sin(3.0 * number)))
    return found


def cast(
    planes: list[TexturedPlane], matrix: NDArray[np.float64], pose: NDArray[np.float64], x: NDArray, y: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """What rays through pixels meet: z (0 for nothing), the plane's place (-1), and where on it, as shares (..., 2)."""
    rays = np.stack((x, y, np.ones_like(x)), -1) @ np.linalg.inv(matrix).T
    directions = rays @ pose[:3, :3]  # Of depth 1 in the camera frame, in the world's axes.
    centre = -pose[:3, :3].T @ pose[:3, 3]
    nearest = np.full(x.shape, np.inf)
    surface = np.full(x.shape, -1)
    place = np.zeros((*x.shape, 2))
    for number, plane in enumerate(planes):
        normal = np.cross(plane.across, plane.down)
        slope = directions @ normal
        depth = ((plane.corner - centre) @ normal) / np.where(np.abs(slope) < 1e-12, 1e-12, slope)
        on_plane = centre + depth[..., None] * directions - plane.corner
        shares = np.stack([on_plane @ axis / (axis @ axis) for axis in (plane.across, plane.down)], -1)
        met = (depth > 0.05) & (depth < nearest) & (shares >= 0).all(-1) & (shares < 1).all(-1)
        nearest = np.where(met, depth, nearest)
        surface = np.where(met, number, surface)
        place = np.where(met[..., None], shares, place)
    return np.where(surface >= 0, nearest, 0), surface, place


def exact_depth(
    matrix: NDArray[np.float64], pose: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Depth at the centre of every pixel, and which plane is there."""
    x, y = np.meshgrid(np.arange(size[0], dtype=float), np.arange(size[1], dtype=float))
    depth, surface, _ = cast(world(), matrix, pose, x, y)
    return depth.astype(np.float32), surface


def render(pose: NDArray[np.float64], name: str, size: tuple[int, int] = SIZE) -> RenderedView:
    """One photo of the world."""
    planes, matrix = world(), intrinsics(size)
    steps = (np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    x, y = np.meshgrid(
        (np.arange(size[0])[:, None] + steps).ravel(), (np.arange(size[1])[:, None] + steps).ravel()
    )
    _, surface, place = cast(planes, matrix, pose, x, y)
    fine = np.full((*x.shape, 3), 128, np.uint8)
    for number, plane in enumerate(planes):
        height, width = plane.texture.shape[:2]
        maps = [(place[..., axis] * side - 0.5).astype(np.float32) for axis, side in ((0, width), (1, height))]
        drawn = cv2.remap(plane.texture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        fine[surface == number] = drawn[surface == number]
    picture = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
    depth, seen = exact_depth(matrix, pose, size)
    return RenderedView(name, np.asarray(picture, np.uint8), depth, seen, matrix, pose)


def render_views(count: int, size: tuple[int, int] = SIZE) -> list[RenderedView]:
    """Photos `photo0.jpg`, `photo1.jpg` and so on, from `poses`."""
    return [render(pose, f"photo{number}.jpg", size) for number, pose in enumerate(poses(count))]


def write_photo(path: Path, picture: NDArray[np.uint8], *, orientation: int = 1, focal_length: bool = True) -> None:
    """Write a JPEG with EXIF: camera, focal length unless left out, orientation (the picture is stored as given)."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if focal_length:
        exif[MAKE], exif[MODEL] = "Rendered", "Planes"
        exif.get_ifd(EXIF)[FOCAL_LENGTH_35_TAG] = FOCAL_LENGTH_35
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=95, exif=exif)


def write_photos(folder: Path, views: list[RenderedView]) -> Path:
    """Write photos as a camera would; returns the folder."""
    for view in views:
        write_photo(folder / view.name, view.picture)
    return folder
