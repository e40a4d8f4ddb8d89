"""A pair whose second picture was turned or zoomed: what is known of its geometry turns and zooms with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lfnet.evaluation.data.pairs import EvaluationPair, RelativePose
from lfnet.evaluation.data.truth import HomographyTruth, TransformedTruth

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray as Array

    from lfnet.coordinates import Size


def transformed_pair(pair: EvaluationPair, b_from_base: Float[Array, "3 3"], size_b: Size) -> EvaluationPair:
    """A pair after a transformation of its second picture.

    Args:
        pair: as it was.
        b_from_base: affine; pixels of the new second picture from those of the old.
        size_b: width and height of the new one.

    Returns:
        the pair with the truth and the pose of the new picture.
    """
    truth = pair.truth
    if isinstance(truth, HomographyTruth):
        truth = HomographyTruth(b_from_base @ truth.matrix_b_from_a, truth.size_a, size_b)
    elif truth is not None:
        truth = TransformedTruth(truth, np.eye(3), b_from_base)
    return replace(pair, truth=truth, pose=None if pair.pose is None else _moved(pair.pose, b_from_base))


def _moved(pose: RelativePose, b_from_base: Float[Array, "3 3"]) -> RelativePose:
    """A turned picture is that of a turned camera, whose intrinsics are upper triangular again."""
    intrinsics, turn = _upper_triangle_and_rotation(b_from_base @ pose.intrinsics_b)
    moved = np.array(pose.b_from_a, np.float64)
    moved[:3] = turn @ moved[:3]
    return RelativePose(pose.intrinsics_a, intrinsics, moved)


def _upper_triangle_and_rotation(matrix: Float[Array, "3 3"]) -> tuple[Float[Array, "3 3"], Float[Array, "3 3"]]:
    """The two whose product a matrix of positive determinant is; the diagonal of the first is positive."""
    orthogonal, triangle = np.linalg.qr(matrix[::-1].T)
    upper, rotation = triangle.T[::-1, ::-1], orthogonal.T[::-1]
    signs = np.sign(np.diag(upper))
    return upper * signs, signs[:, None] * rotation
