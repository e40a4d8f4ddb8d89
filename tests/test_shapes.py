"""Shapes in annotations are checked while the tests run."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from lfnet.geometry.sampling import sample
from lfnet.training.losses import pair_loss
from support.shape_checks import shapes_alone


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="points"):
        sample(torch.zeros(1, 1, 8, 8), torch.zeros(1, 5, 3))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        pair_loss(torch.zeros(1, 4, 8), torch.zeros(1, 5, 8), torch.ones(1, 4, dtype=torch.bool))


def test_types_that_say_no_shape_are_left_to_the_type_checker() -> None:
    def doubled(count: int, values: jaxtyping.Float[torch.Tensor, " N"]) -> list:
        return [count, values]

    checked = jaxtyping.jaxtyped(doubled, typechecker=shapes_alone)
    assert checked("2", torch.zeros(3))[0] == "2"
    with pytest.raises(jaxtyping.TypeCheckError, match="values"):
        checked(2, torch.zeros(3, 1))
