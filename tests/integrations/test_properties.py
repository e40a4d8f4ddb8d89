"""Features and matches of every kind come back from a file as they were."""

from __future__ import annotations

import h5py
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lfnet.features import Features, Matches
from lfnet.integrations import hloc


@st.composite
def features(draw: st.DrawFn) -> Features:
    """Of any number, of float or binary descriptors, with or without sigmas."""
    count, dimension = draw(st.integers(0, 9)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    float_descriptors = generator.normal(size=(count, dimension)).astype(np.float32)
    bits = generator.integers(0, 256, (count, dimension), dtype=np.uint8)
    return Features(
        generator.uniform(-1, 1e4, (count, 2)),
        generator.uniform(1e-3, 99, count),
        generator.uniform(-np.pi, np.pi, count),
        generator.normal(size=count),
        bits if draw(st.booleans()) else float_descriptors,
        draw(st.tuples(st.integers(1, 10**5), st.integers(1, 10**5))),
        generator.uniform(0.01, 3, count) if draw(st.booleans()) else None,
    )


def assert_same(first: Features, second: Features) -> None:
    assert first.image_size == second.image_size
    for name in ("keypoints", "scales", "orientations", "scores", "descriptors", "sigmas"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


names = st.lists(st.text("abcß .-_", min_size=1, max_size=5).filter(lambda word: set(word) != {"."}), min_size=1)


@given(features(), names)
def test_features_come_back_under_any_name(written: Features, parts: list[str]) -> None:
    name = "/".join(parts)
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        hloc.write_features(file, name, written)
        assert_same(hloc.read_features(file, name), written)
        assert hloc.list_names(file) == [name]


@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_matches_come_back_either_way(count_a: int, count_b: int, random) -> None:
    amount = random.randint(0, min(count_a, count_b))
    columns = random.sample(range(count_a), amount), random.sample(range(count_b), amount)
    order = np.argsort(columns[0])
    indices = np.array(columns, np.int64).T.reshape(-1, 2)[order]
    written = Matches(indices, np.linspace(0, 1, amount))
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        hloc.write_matches(file, "a/1.jpg", "b.jpg", written, count_a)
        read, turned = hloc.read_matches(file, "a/1.jpg", "b.jpg"), hloc.read_matches(file, "b.jpg", "a/1.jpg")
    np.testing.assert_array_equal(read.indices, written.indices)
    np.testing.assert_array_equal(read.scores, written.scores)
    np.testing.assert_array_equal(turned.indices[:, ::-1], written.indices)


@given(features(), st.integers(0, 12))
def test_the_best_are_a_part_in_order_and_sizes_go_there_and_back(all_: Features, count: int) -> None:
    best = all_.top(count)
    assert len(best) == min(count, len(all_))
    assert list(best.scores) == sorted(all_.scores, reverse=True)[:count]
    width, height = all_.image_size
    back = all_.resized((3 * width, 3 * height)).resized((width, height))
    np.testing.assert_allclose(back.keypoints, all_.keypoints, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(back.scales, all_.scales, rtol=1e-5)
