"""Shapes in annotations are checked while the tests run."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from lfnet.geometry.sampling import sample
from lfnet.training.losses import pair_loss


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="points"):
        sample(torch.zeros(1, 1, 8, 8), torch.zeros(1, 5, 3))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        pair_loss(torch.zeros(1, 4, 8), torch.zeros(1, 5, 8), torch.ones(1, 4, dtype=torch.bool))
