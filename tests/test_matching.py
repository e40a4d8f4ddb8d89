"""Nearest neighbours against a slow plain reference, and verification against known geometry."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet import matching
from lfnet.features import Features, Matches
from lfnet.matching import Neighbours, mutual_nearest_neighbours, verify


def unit(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def at(keypoints: NDArray, descriptors: NDArray | None = None) -> Features:
    count = len(keypoints)
    found = np.zeros((count, 4), np.float32) if descriptors is None else descriptors
    return Features(keypoints, np.ones(count), np.zeros(count), np.ones(count), found, (640, 480))


def anywhere(descriptors: NDArray) -> Features:
    return at(np.zeros((len(descriptors), 2)), descriptors)


def reference(a: NDArray, b: NDArray) -> list[tuple[int, int]]:
    """Mutual nearest neighbours, one pair of descriptors after the other."""

    def distance(one: NDArray, other: NDArray) -> float:
        if one.dtype == np.uint8:
            return float(sum(bin(int(x) ^ int(y)).count("1") for x, y in zip(one, other, strict=True)))
        return float(np.sqrt(((one.astype(float) - other.astype(float)) ** 2).sum()))

    table = np.array([[distance(one, other) for other in b] for one in a])
    forward, backward = table.argmin(1), table.argmin(0)
    return [(i, int(forward[i])) for i in range(len(a)) if backward[forward[i]] == i]


@pytest.mark.parametrize("block", [1 << 24, 64])
def test_mutual_matches_equal_the_plain_reference(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(matching, "_BLOCK_ELEMENTS", block)
    a, b = unit(37, 16, 0), unit(23, 16, 1)
    found = mutual_nearest_neighbours(anywhere(a), anywhere(b))
    assert [tuple(pair) for pair in found.indices.tolist()] == reference(a, b)
    distance = np.linalg.norm(a[found.indices[:, 0]] - b[found.indices[:, 1]], axis=1)
    assert np.allclose(found.scores, 1 - distance / 2, atol=1e-6)


@pytest.mark.parametrize("block", [1 << 24, 64])
def test_binary_matches_equal_the_plain_reference(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(matching, "_BLOCK_ELEMENTS", block)
    generator = np.random.default_rng(2)
    a, b = (generator.integers(0, 256, (count, 8), np.uint8) for count in (31, 26))
    found = mutual_nearest_neighbours(anywhere(a), anywhere(b))
    assert [tuple(pair) for pair in found.indices.tolist()] == reference(a, b)
    same = mutual_nearest_neighbours(anywhere(a), anywhere(a))
    assert same.indices[:, 0].tolist() == same.indices[:, 1].tolist() == list(range(31))
    assert np.all(same.scores == 1)


def test_memory_is_that_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of all distances would take 64 MB here, and 40 GB for 100,000 features of each picture."""
    monkeypatch.setattr(matching, "_BLOCK_ELEMENTS", 1 << 18)
    a, b = (anywhere(unit(4096, 8, seed)) for seed in (0, 1))
    tracemalloc.start()
    mutual_nearest_neighbours(a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6


def test_nearest_neighbours_give_distances() -> None:
    a, b = unit(5, 8, 3), unit(9, 8, 4)
    found = Neighbours.of(a, b)
    index, distance = found.b_of_a, found.distances
    table = np.linalg.norm(a[:, None] - b[None], axis=2)
    assert np.array_equal(index, table.argmin(1))
    assert np.allclose(distance, table.min(1), atol=1e-6)
    bits = Neighbours.of(np.array([[0b1111]], np.uint8), np.array([[0], [0b1110]], np.uint8))
    assert (bits.b_of_a[0], bits.distances[0]) == (1, 1.0)


def test_equal_descriptors_have_distance_zero() -> None:
    a = unit(50, 256, 5)
    assert Neighbours.of(a, a[::-1].copy()).distances.max() == 0


def test_ratio_and_distance_only_take_away() -> None:
    a = unit(60, 8, 6)
    b = a + np.random.default_rng(7).normal(0, 0.2, a.shape).astype(np.float32)
    everything = {
        tuple(pair) for pair in mutual_nearest_neighbours(anywhere(a), anywhere(b)).indices.tolist()
    }
    ratio = mutual_nearest_neighbours(anywhere(a), anywhere(b), ratio=0.7)
    near = mutual_nearest_neighbours(anywhere(a), anywhere(b), max_distance=0.4)
    for fewer in (ratio, near):
        assert 0 < len(fewer) < len(everything)
        assert {tuple(pair) for pair in fewer.indices.tolist()} <= everything
    table = np.sort(np.linalg.norm(a[:, None] - b[None], axis=2), axis=1)
    kept = np.zeros(len(a), bool)
    kept[ratio.indices[:, 0]] = True
    assert np.all(table[kept, 0] < 0.7 * table[kept, 1] + 1e-5)


def test_no_features_give_no_matches() -> None:
    empty, some = Features.empty((9, 9), 8), anywhere(unit(4, 8, 8))
    assert len(mutual_nearest_neighbours(empty, some)) == len(mutual_nearest_neighbours(some, empty)) == 0
    found = Neighbours.of(some.descriptors, empty.descriptors)
    assert found.b_of_a.tolist() == [-1] * 4
    assert np.all(np.isinf(found.distances))


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        mutual_nearest_neighbours(anywhere(unit(3, 8, 0)), anywhere(unit(3, 16, 0)))
    with pytest.raises(ValueError, match="bits"):
        mutual_nearest_neighbours(anywhere(unit(3, 8, 0)), anywhere(np.zeros((3, 8), np.uint8)))
    with pytest.raises(ValueError, match="ratio"):
        mutual_nearest_neighbours(anywhere(unit(3, 8, 0)), anywhere(unit(3, 8, 0)), ratio=1.5)


def rotation(angle: float) -> NDArray[np.float64]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


INTRINSICS = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])


def two_views(outliers: int = 60) -> tuple[Features, Features, Matches, int]:
    """120 points of a rigid scene in two views, and as many wrong matches behind them as asked for."""
    generator = np.random.default_rng(9)
    points = generator.uniform([-2, -1.5, 4], [2, 1.5, 9], (120, 3))
    moved = points @ rotation(0.1).T + [0.5, 0.1, 0.0]
    pixels = [(cloud @ INTRINSICS.T)[:, :2] / cloud[:, 2:] for cloud in (points, moved)]
    noise = [generator.uniform(0, [640, 480], (outliers, 2)) for _ in range(2)]
    a, b = (at(np.concatenate(pair)) for pair in zip(pixels, noise, strict=True))
    index = np.arange(120 + outliers)
    return a, b, Matches(np.stack([index, index], 1), np.ones(len(index))), 120


def test_a_known_homography_is_found() -> None:
    generator = np.random.default_rng(10)
    truth = np.array([[0.9, -0.2, 30], [0.15, 1.1, -20], [1e-4, -5e-5, 1]])
    start = generator.uniform(0, [640, 480], (200, 2))
    lifted = np.c_[start, np.ones(200)] @ truth.T
    end = lifted[:, :2] / lifted[:, 2:]
    end[100:] = generator.uniform(0, [640, 480], (100, 2))
    matches = Matches(np.stack([np.arange(200)] * 2, 1), np.linspace(1, 0, 200))
    inliers, model = verify(at(start), at(end), matches, "homography", threshold=1.0)
    assert model is not None
    assert np.allclose(model / model[2, 2], truth, atol=1e-2)
    assert set(range(100)) <= set(inliers.indices[:, 0].tolist())
    assert len(inliers) <= 103
    again, _ = verify(at(start), at(end), matches, "homography", threshold=1.0)
    assert np.array_equal(inliers.indices, again.indices)


def test_epipolar_geometry_of_a_known_motion_is_found() -> None:
    a, b, matches, right = two_views()
    for geometry in ("fundamental", "essential"):
        inliers, model = verify(a, b, matches, geometry, intrinsics_a=INTRINSICS, threshold=1.0)
        assert model is not None
        found = inliers.indices[:, 0]
        assert (found < right).sum() >= 0.98 * right, geometry
        assert (found >= right).sum() <= 6, geometry
        rays = [np.c_[side.keypoints[:right], np.ones(right)] for side in (a, b)]
        if geometry == "essential":
            rays = [ray @ np.linalg.inv(INTRINSICS).T for ray in rays]
        lines = rays[0] @ model.T
        distance = np.abs((rays[1] * lines).sum(1)) / np.linalg.norm(lines[:, :2], axis=1)
        pixels = distance * (500 if geometry == "essential" else 1)
        assert np.median(pixels) < 0.2, geometry


def test_too_few_or_degenerate_matches_give_none() -> None:
    a, b, matches, _ = two_views()
    for geometry, few in (("homography", 3), ("fundamental", 6), ("essential", 4)):
        inliers, model = verify(a, b, matches.select(np.arange(few)), geometry, intrinsics_a=INTRINSICS)
        assert (len(inliers), model) == (0, None)
    same = at(np.full((20, 2), 5.0))
    inliers, model = verify(same, same, matches.select(np.arange(20)), "homography")
    assert len(inliers) == 0 or model is not None


def test_verification_refuses_what_it_cannot_do() -> None:
    a, b, matches, _ = two_views()
    with pytest.raises(ValueError, match="needs intrinsics_a"):
        verify(a, b, matches, "essential")
    with pytest.raises(ValueError, match="geometry must be one of"):
        verify(a, b, matches, "affine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold must be positive"):
        verify(a, b, matches, threshold=0)
