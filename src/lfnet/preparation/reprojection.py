"""How far matches land from where depth and poses send them: a check of both by what neither was made from.

Matches of SIFT know nothing of depth, and those that a reconstruction was made from were kept by other rules. A wrong
match tells nothing of the scene. Matches are therefore kept by what the two pictures alone say: each the other's
nearest, the ratio test, and one fundamental matrix. What is wrong along its epipolar line still is among them, which
the share within 5 px shows and the median hardly feels. The warp is the one of training, and only matches that it holds
to be visible count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lfnet.coordinates import Size
from lfnet.data.frames import Frame, read_view
from lfnet.data.pair import Pair, View
from lfnet.features import Features
from lfnet.integrations.opencv import from_opencv
from lfnet.matching import mutual_nearest_neighbours, verify

RATIO = 0.8
"""Of the distances to the nearest and the second nearest descriptor: Lowe 2004, section 7.1."""
EPIPOLAR = 1.0
"""Farthest that a kept match may lie from the epipolar lines of a fundamental matrix found by MAGSAC++, px of the
picture. On an indoor walk with a depth sensor, the median at gaps of 1, 4 and 8 frames is 0.7, 1.4 and 2.1 px with all
tests, and 0.8, 2.0 and 4.7 px with the ratio test alone: there wrong matches decide it."""
FEWEST = 15
"""Matches below which a fundamental matrix says nothing: seven always fit one."""
FEATURES = 4096
"""Strongest keypoints of a picture that are matched; bounds time and memory at large pictures."""
REFERENCE_SIDE = 640
"""Long side of the picture that errors are scaled to, px, so that scenes of different size compare."""


@dataclass(frozen=True)
class MatchedPicture:
    """A picture with depth, camera and its SIFT features."""

    view: View
    features: Features


@dataclass(frozen=True)
class Reprojection:
    """The kept matches of two pictures, against depth and poses."""

    points_a: NDArray[np.float64]
    """(N, 2) pixels of a, where depth and poses show them to b."""
    points_b: NDArray[np.float64]
    """(N, 2) pixels of b that they were matched with."""
    warped: NDArray[np.float64]
    """(N, 2) pixels of b that depth and poses send them to."""
    turned: NDArray[np.float64]
    """(N, 2) pixels of b that the rotation between the poses sends them to, as if the cameras stood in one place."""
    matches: int
    """Kept by the two pictures alone."""
    known: int
    """Of these, at depth that is known in a and, where it sends them, in b."""
    size_b: Size
    """(width, height) of b, pixels."""

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """(N,) distances in pixels of b."""
        return np.linalg.norm(self.warped - self.points_b, axis=1)

    @property
    def parallax(self) -> NDArray[np.float64]:
        """(N,) distances of the matches from where a turn alone would send them, in pixels of a picture of long side
        640. Depth and the way between the cameras show in nothing else, however wrong they are."""
        return np.linalg.norm(self.turned - self.points_b, axis=1) * (REFERENCE_SIDE / max(self.size_b))

    @property
    def scaled_errors(self) -> NDArray[np.float64]:
        """(N,) distances in pixels of a picture of long side 640."""
        return self.errors * (REFERENCE_SIDE / max(self.size_b))


def reprojection_error(frame_a: Frame, frame_b: Frame) -> Reprojection:
    """Match two frames and send the matches of a into b by depth and poses.

    Raises:
        SequenceError: a frame without depth, or with depth of another size.
    """
    return compare(matched_picture(frame_a), matched_picture(frame_b))


def matched_picture(frame: Frame) -> MatchedPicture:
    """Read a frame and find its features: SIFT at the size of the picture, by OpenCV's thresholds.

    Raises:
        SequenceError: no depth, or depth of another size.
    """
    view = read_view(frame)
    grey = (view.image[0, 0].numpy() * 255).round().astype(np.uint8)
    # Without the precise upscale keypoints lie 0.25 px too far right and down, which shows where pictures are turned.
    options: dict[str, Any] = {"nfeatures": FEATURES, "enable_precise_upscale": True}
    keypoints, descriptors = cv2.SIFT.create(**options).detectAndCompute(grey, None)
    return MatchedPicture(view, from_opencv(keypoints, descriptors, frame.size))


def compare(a: MatchedPicture, b: MatchedPicture) -> Reprojection:
    """The same as `reprojection_error`, of pictures that are read already."""
    found = mutual_nearest_neighbours(a.features, b.features, ratio=RATIO)
    kept, _ = verify(a.features, b.features, found, "fundamental", threshold=EPIPOLAR)
    indices = kept.indices if len(kept) >= FEWEST else kept.indices[:0]
    points_a = a.features.keypoints[indices[:, 0]].astype(np.float64)
    points_b = b.features.keypoints[indices[:, 1]].astype(np.float64)
    pair, asked = Pair(a.view, b.view), torch.from_numpy(points_a).float()[None]
    warped, visible = pair.warp().points(asked)
    _, known = pair.warp(depth_tolerance=float("inf")).points(asked)
    seen = visible[0].numpy()
    height, width = b.view.size
    return Reprojection(
        points_a[seen],
        points_b[seen],
        warped[0].numpy()[seen].astype(np.float64),
        _turned(a.view, b.view, points_a[seen]),
        len(indices),
        int(known.sum()),
        (width, height),
    )


def _turned(a: View, b: View, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the rotation from a to b alone sends pixels (N, 2) of a."""
    pose_a, pose_b, camera_a, camera_b = (
        each[0].double().numpy() for each in (a.camera_from_world, b.camera_from_world, a.intrinsics, b.intrinsics)
    )
    homography = camera_b @ pose_b[:3, :3] @ pose_a[:3, :3].T @ np.linalg.inv(camera_a)
    moved = np.concatenate((points, np.ones((len(points), 1))), 1) @ homography.T
    return moved[:, :2] / np.where(np.abs(moved[:, 2:]) < 1e-9, 1e-9, moved[:, 2:])
