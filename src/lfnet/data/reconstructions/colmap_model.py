"""COLMAP models: cameras, the pictures that they took, and sparse points.

Lengths are in the model's own unit; poses are camera-from-world. Positions in pixels are in this package's convention;
COLMAP's have a half added.

Source: COLMAP documentation, "Output format" and "Camera models".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfnet.coordinates import Size, colmap_from_pixel, pixel_from_colmap
from lfnet.errors import UserError
from lfnet.geometry.quaternion import rotation_from_quaternion


class ReconstructionError(UserError):
    """A COLMAP model that is missing files, is cut short, or can't be used; the message names file and remedy."""


@dataclass(frozen=True)
class CameraModel:
    """How a camera model stores its parameters."""

    number: int
    """In binary files."""
    parameters: int
    """How many."""
    focal_lengths: int
    """1 where one serves both axes, 2 where there are two, 0 where there is none; then the principal point follows."""
    distortion: tuple[int, ...] | None = None
    """Place of OpenCV's (k1, k2, p1, p2, k3) in the parameters, -1 for those that are 0; None: not OpenCV's model."""


MODELS: dict[str, CameraModel] = {
    "SIMPLE_PINHOLE": CameraModel(0, 3, 1, ()),
    "PINHOLE": CameraModel(1, 4, 2, ()),
    "SIMPLE_RADIAL": CameraModel(2, 4, 1, (3, -1, -1, -1, -1)),
    "RADIAL": CameraModel(3, 5, 1, (3, 4, -1, -1, -1)),
    "OPENCV": CameraModel(4, 8, 2, (4, 5, 6, 7, -1)),
    "OPENCV_FISHEYE": CameraModel(5, 8, 2),
    "FULL_OPENCV": CameraModel(6, 12, 2, (4, 5, 6, 7, 8)),
    "FOV": CameraModel(7, 5, 2),
    "SIMPLE_RADIAL_FISHEYE": CameraModel(8, 4, 1),
    "RADIAL_FISHEYE": CameraModel(9, 5, 1),
    "THIN_PRISM_FISHEYE": CameraModel(10, 12, 2),
    "RAD_TAN_THIN_PRISM_FISHEYE": CameraModel(11, 16, 2),
    "SIMPLE_DIVISION": CameraModel(12, 4, 1),
    "DIVISION": CameraModel(13, 5, 2),
    "SIMPLE_FISHEYE": CameraModel(14, 3, 1),
    "FISHEYE": CameraModel(15, 4, 2),
    "EUCM": CameraModel(16, 6, 2),
    "EQUIRECTANGULAR": CameraModel(17, 2, 0),
}
"""COLMAP's camera models, up to release 4.2."""


@dataclass(frozen=True)
class Camera:
    """A camera of a COLMAP model."""

    camera_id: int
    model: str
    """COLMAP's name of it, as "PINHOLE"."""
    size: Size
    """(width, height) of its pictures, pixels."""
    params: NDArray[np.float64]
    """As COLMAP orders them, principal point in COLMAP's frame."""

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """3x3; the centre of the top-left pixel is (0, 0).

        Raises:
            ReconstructionError: the model has no focal length.
        """
        count = MODELS[self.model].focal_lengths
        if count == 0:
            raise ReconstructionError(f"camera {self.camera_id}: {self.model} has no focal length; cut pinhole views")
        focal_x, focal_y = self.params[0], self.params[count - 1]
        x, y = pixel_from_colmap(self.params[count : count + 2])
        return np.array([[focal_x, 0.0, x], [0.0, focal_y, y], [0.0, 0.0, 1.0]])

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines stay straight: no distortion, or all of it 0."""
        model = MODELS[self.model]
        return model.distortion is not None and not self.params[model.focal_lengths + 2 :].any()

    @property
    def distortion(self) -> tuple[float, ...]:
        """OpenCV's coefficients (k1, k2, p1, p2, k3); empty for a pinhole camera.

        Raises:
            ReconstructionError: the model is not one of OpenCV's, or has a rational part.
        """
        if self.is_pinhole:
            return ()
        places = MODELS[self.model].distortion
        rational = self.model == "FULL_OPENCV" and self.params[9:].any()
        if places is None or rational:
            raise ReconstructionError(
                f"camera {self.camera_id}: the distortion of {self.model}{' with k4 to k6' if rational else ''} can't "
                "be undone here; run COLMAP's image_undistorter and give its output"
            )
        return tuple(0.0 if place < 0 else float(self.params[place]) for place in places)

    @classmethod
    def checked(cls, camera_id: int, model: str, size: Size, params: NDArray[np.float64]) -> Camera:
        """A camera as a file says, if it can be one.

        Raises:
            ReconstructionError: an unknown model, or other numbers than it has.
        """
        if model not in MODELS:
            raise ReconstructionError(
                f"camera {camera_id} has the model {model}, which is unknown here; known are {', '.join(MODELS)}"
            )
        expected = MODELS[model].parameters
        if len(params) != expected:
            raise ReconstructionError(
                f"camera {camera_id}: expected {expected} parameters of {model}, got {len(params)}"
            )
        if not np.isfinite(params).all() or min(size) < 1:
            raise ReconstructionError(f"camera {camera_id}: expected numbers and a size, got {size} and {params}")
        return cls(camera_id, model, size, params)

    @classmethod
    def pinhole(
        cls, camera_id: int, size: Size, intrinsics: NDArray[np.float64], distortion: tuple[float, ...] = ()
    ) -> Camera:
        """A camera of these intrinsics: PINHOLE, or OPENCV or FULL_OPENCV where it is distorted.

        Args:
            camera_id: its number in the model.
            size: (width, height), pixels.
            intrinsics: 3x3 without skew; the centre of the top-left pixel is (0, 0).
            distortion: OpenCV's (k1, k2, p1, p2) or (k1, k2, p1, p2, k3).

        Raises:
            ReconstructionError: skew, or another number of coefficients.
        """
        (focal_x, skew, x), (below, focal_y, y) = intrinsics[:2]
        if skew or below:
            raise ReconstructionError(f"camera {camera_id}: expected intrinsics without skew, got {skew or below:g}")
        if len(distortion) not in (0, 4, 5):
            raise ReconstructionError(f"camera {camera_id}: expected 0, 4 or 5 coefficients, got {len(distortion)}")
        centre = colmap_from_pixel([float(x), float(y)])
        params = [focal_x, focal_y, *centre]
        model = "PINHOLE"
        if any(distortion):
            full = len(distortion) == 5 and distortion[4] != 0
            model = "FULL_OPENCV" if full else "OPENCV"
            params += [*distortion, 0.0, 0.0, 0.0] if full else distortion[:4]
        return cls(camera_id, model, size, np.array(params, np.float64))


@dataclass(frozen=True)
class RegisteredImage:
    """A picture of a COLMAP model, with the points it observes."""

    image_id: int
    name: str
    """Relative to the folder of pictures, with forward slashes."""
    camera_id: int
    camera_from_world: NDArray[np.float64]
    """4x4, rigid."""
    keypoints: NDArray[np.float64]
    """(N, 2) pixels of the points it observes; the centre of the top-left pixel is (0, 0)."""
    point_ids: NDArray[np.int64]
    """(N,), the point that each keypoint observes."""


@dataclass(frozen=True)
class Points:
    """The sparse points of a COLMAP model."""

    ids: NDArray[np.int64]
    """(P,)"""
    positions: NDArray[np.float64]
    """(P, 3), world, in the model's unit."""
    colours: NDArray[np.uint8]
    """(P, 3), red, green, blue."""
    errors: NDArray[np.float64]
    """(P,), mean reprojection error, pixels."""

    @classmethod
    def empty(cls) -> Points:
        """No points."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0))


TRACK = np.dtype([("image", "<u4"), ("keypoint", "<u4")])
"""One observation of a point: the picture's number, and the place of the keypoint among its own."""


@dataclass(frozen=True)
class Reconstruction:
    """A COLMAP model."""

    cameras: dict[int, Camera]
    images: dict[int, RegisteredImage]
    points: Points
    notes: list[str] = field(default_factory=list)
    """What was left out and why, a line each."""

    def tracks(self) -> list[NDArray[Any]]:
        """Rows of `TRACK` of each point, in the order of the points.

        Raises:
            ReconstructionError: a picture observes a point that there is not.
        """
        images, ids = list(self.images.values()), self.points.ids
        entries = np.zeros(sum(len(image.point_ids) for image in images), TRACK)
        points = np.concatenate([np.zeros(0, np.int64), *(image.point_ids for image in images)])
        start = 0
        for image in images:
            here = entries[start : start + len(image.point_ids)]
            here["image"], here["keypoint"] = image.image_id, np.arange(len(here))
            start += len(here)
        strangers = ~np.isin(points, ids)
        if strangers.any():
            image, point = entries["image"][strangers][0], points[strangers][0]
            raise ReconstructionError(f"picture {image} observes point {point}, which is not in points")
        order = np.argsort(points, kind="stable")
        entries, points = entries[order], points[order]
        starts, ends = np.searchsorted(points, ids), np.searchsorted(points, ids, side="right")
        return [entries[start:end] for start, end in zip(starts, ends, strict=True)]


def pose_from(quaternion: Sequence[float], translation: Sequence[float], name: str) -> NDArray[np.float64]:
    """The 4x4 rigid transform of a quaternion (w, x, y, z) of any length, and a translation.

    Raises:
        ReconstructionError: they are none, with the name of the picture.
    """
    values = np.array([*quaternion, *translation], np.float64)
    length = np.linalg.norm(values[:4])
    if not np.isfinite(values).all() or length < 1e-9:
        raise ReconstructionError(f"the pose of picture {name} is no rotation and translation")
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_quaternion(values[:4] / length)
    pose[:3, 3] = values[4:]
    return pose
