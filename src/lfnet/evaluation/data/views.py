"""The second picture of a pair, turned or zoomed, with the matrix that says where its pixels went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lfnet.coordinates import resize_matrix

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from numpy import ndarray as Array

    from lfnet.coordinates import Size


@dataclass(frozen=True)
class Variant:
    """What is done to the second picture: a turn, then a zoom."""

    degrees: int = 0
    """Turn, clockwise on the screen."""
    zoom: float = 1.0
    """Factor of the picture's size."""

    @property
    def name(self) -> str:
        """Name in results: `turn030`, `zoom0.5`, `turn000` for the picture as it is."""
        turned = f"turn{self.degrees % 360:03d}"
        if self.zoom == 1.0:
            return turned
        return f"zoom{self.zoom:g}" if self.degrees % 360 == 0 else f"{turned}-zoom{self.zoom:g}"


UNTOUCHED = Variant()


@dataclass(frozen=True)
class TransformedImage:
    """A picture after a turn or a zoom."""

    image: UInt8[Array, "H W *C"]
    """Grey or RGB, as it was given."""
    valid: Bool[Array, "H W"] | None
    """False in corners that the turn left empty; None = all valid."""
    from_base: Float[Array, "3 3"]
    """Pixels of this picture from pixels of the untouched one."""


def transform_image(image: UInt8[Array, "H W *C"], variant: Variant) -> TransformedImage:
    """A picture turned and zoomed as `variant` says.

    Args:
        image: grey or RGB.
        variant: what to do.

    Returns:
        the new picture, its valid pixels, and the matrix to its pixels.
    """
    turned = turn_image(image, variant.degrees)
    if variant.zoom == 1.0:
        return turned
    height, width = turned.image.shape[:2]
    size = (max(round(width * variant.zoom), 1), max(round(height * variant.zoom), 1))
    interpolation = cv2.INTER_AREA if variant.zoom < 1 else cv2.INTER_LINEAR
    zoomed = cv2.resize(turned.image, size, interpolation=interpolation)
    valid = turned.valid
    if valid is not None:
        valid = cv2.resize(valid.astype(np.float32), size, interpolation=interpolation) > 0.999
    return TransformedImage(zoomed, valid, resize_matrix((width, height), size) @ turned.from_base)


def valid_pixels(size: Size, variant: Variant) -> Bool[Array, "H W"] | None:
    """Those of a picture of a size after a transformation, as `transform_image` has them; None = all."""
    return transform_image(np.zeros((size[1], size[0]), np.uint8), variant).valid


def turn_image(image: UInt8[Array, "H W *C"], degrees: int) -> TransformedImage:
    """A picture turned clockwise on a canvas that grows so that nothing is cut.

    Multiples of 90 degrees move pixels without interpolation; other angles interpolate linearly and leave
    black, invalid corners.

    Args:
        image: grey or RGB.
        degrees: clockwise on the screen, which is from +x towards +y.

    Returns:
        the turned picture.
    """
    degrees %= 360
    height, width = image.shape[:2]
    if degrees % 90 == 0:
        turned = np.ascontiguousarray(np.rot90(image, k=-(degrees // 90)))
        canvas = (turned.shape[1], turned.shape[0])
        return TransformedImage(turned, None, _turn_matrix((width, height), canvas, degrees))
    cosine, sine = abs(np.cos(np.radians(degrees))), abs(np.sin(np.radians(degrees)))
    canvas = (int(np.ceil(width * cosine + height * sine)), int(np.ceil(width * sine + height * cosine)))
    matrix = _turn_matrix((width, height), canvas, degrees)
    turned = cv2.warpAffine(image, matrix[:2], canvas, flags=cv2.INTER_LINEAR)
    covered = cv2.warpAffine(np.ones((height, width), np.float32), matrix[:2], canvas, flags=cv2.INTER_LINEAR)
    return TransformedImage(turned, covered > 0.999, matrix)


def _turn_matrix(size: tuple[int, int], canvas: tuple[int, int], degrees: int) -> Float[Array, "3 3"]:
    quarter = {0: (1.0, 0.0), 90: (0.0, 1.0), 180: (-1.0, 0.0), 270: (0.0, -1.0)}
    radians = np.radians(degrees)
    cosine, sine = quarter.get(degrees, (np.cos(radians), np.sin(radians)))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    centre = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    new_centre = np.array([(canvas[0] - 1) / 2, (canvas[1] - 1) / 2])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = new_centre - linear @ centre
    return matrix


def beyond_reach(keypoints: Float[Array, "N 2"], valid: Bool[Array, "H W"] | None, reach: float) -> Bool[Array, " N"]:
    """Which keypoints lie farther than `reach` pixels from any invalid pixel (the picture's border is none).

    Args:
        keypoints: pixels (x, y).
        valid: True = real picture; None = everywhere.
        reach: pixels.

    Returns:
        True for keypoints to keep.
    """
    keypoints = np.asarray(keypoints).reshape(-1, 2)
    if valid is None or valid.all() or not len(keypoints):
        return np.ones(len(keypoints), bool)
    distance = cv2.distanceTransform(valid.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    column = np.clip(np.rint(keypoints[:, 0]).astype(int), 0, valid.shape[1] - 1)
    row = np.clip(np.rint(keypoints[:, 1]).astype(int), 0, valid.shape[0] - 1)
    return distance[row, column] > reach
