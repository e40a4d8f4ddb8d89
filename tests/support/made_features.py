"""Features made up."""

from __future__ import annotations

import numpy as np

from lfnet.features import Features


def some_features(count: int, size: tuple[int, int] = (200, 100), seed: int = 0) -> Features:
    generator = np.random.default_rng(seed)
    return Features(
        generator.uniform(0, 99, (count, 2)).astype(np.float32),
        generator.uniform(1, 2, count).astype(np.float32),
        generator.uniform(-3, 3, count).astype(np.float32),
        generator.uniform(0, 1, count).astype(np.float32),
        generator.normal(size=(count, 8)).astype(np.float32),
        size,
    )


def assert_same_features(first: Features, second: Features, tolerance: float = 1e-4) -> None:
    assert len(first) == len(second)
    for name in ("keypoints", "scales", "scores", "descriptors"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=tolerance, rtol=tolerance)
    turn = np.angle(np.exp(1j * (first.orientations - second.orientations)))
    assert np.abs(turn).max() < 1e-3
