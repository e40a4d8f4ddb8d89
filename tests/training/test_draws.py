"""A process draws what its pairs would get if one process had all."""

from __future__ import annotations

import pytest
import torch

from lfnet.training.draws import Draws
from support.tensors import seeded


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_parts_are_those_of_the_whole(kind: str) -> None:
    one, *three = (Draws(seeded(), rank, count) for rank, count in ((0, 1), (0, 3), (1, 3), (2, 3)))
    for _ in range(2):  # Generators stay alike.
        whole = getattr(one, kind)((6, 5))
        assert torch.equal(torch.cat([getattr(each, kind)((2, 5)) for each in three]), whole)
        assert len(whole.unique()) == whole.numel()
