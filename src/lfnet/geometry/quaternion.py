"""Rotations as unit quaternions (w, x, y, z)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rotation_from_quaternion(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 3x3 rotation of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def quaternion_from_rotation(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit quaternion (w, x, y, z), w at least 0, of a 3x3 rotation, or of the rotation nearest to a matrix.

    Source: Bar-Itzhack (2000), "New method for extracting the quaternion from a rotation matrix": the eigenvector of
    the largest eigenvalue.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    return -quaternion if quaternion[0] < 0 else quaternion
