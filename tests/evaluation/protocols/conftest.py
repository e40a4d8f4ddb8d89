"""Rendered and warped pairs."""

from __future__ import annotations

import pytest

from lfnet.evaluation.data.pairs import Dataset
from lfnet.evaluation.data.synthetic import rendered_dataset, warped_dataset


@pytest.fixture(scope="module")
def rendered() -> Dataset:
    """Pairs of rendered rooms with exact depth and poses."""
    return rendered_dataset(count=5)


@pytest.fixture(scope="module")
def warped() -> Dataset:
    """Pieces of a photograph, each warped once."""
    pytest.importorskip("skimage")
    return warped_dataset(count=6)
