"""Features and Matches: what they hold, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import lfnet
from lfnet.features import Features, Matches


def some_features(count: int = 6, dim: int = 8) -> Features:
    generator = np.random.default_rng(1)
    return Features(
        generator.uniform(0, 90, (count, 2)),
        generator.uniform(0.5, 2, count),
        generator.uniform(-3, 3, count),
        generator.uniform(0, 1, count),
        generator.normal(size=(count, dim)),
        (100, 100),
    )


def test_arrays_become_float32_and_the_size_whole_numbers() -> None:
    features = some_features()
    for name in ("keypoints", "scales", "orientations", "scores", "descriptors"):
        assert getattr(features, name).dtype == np.float32
    assert features.image_size == (100, 100)
    assert len(features) == 6
    assert repr(features) == "Features(6 keypoints of 8 values, picture 100x100)"


def test_top_takes_the_best_and_keeps_the_order_of_equals() -> None:
    features = some_features()
    object.__setattr__(features, "scores", np.array([0.2, 0.9, 0.2, 0.5, 0.2, 0.1], np.float32))
    assert np.array_equal(features.top(4).keypoints, features.keypoints[[1, 3, 0, 2]])
    assert len(features.top(100)) == 6
    assert len(features.top(0)) == 0
    with pytest.raises(ValueError, match="negative"):
        features.top(-1)


def test_select_takes_indices_and_masks() -> None:
    features = some_features()
    assert np.array_equal(features.select([4, 0]).descriptors, features.descriptors[[4, 0]])
    assert np.array_equal(
        features.select(features.scores > 0.5).scores, features.scores[features.scores > 0.5]
    )
    assert len(features.select([])) == 0


def test_resized_moves_positions_and_scales() -> None:
    features = Features([[49.5, 19.5]], [2.0], [0.3], [1.0], [[1.0]], (100, 40))
    half = features.resized((50, 20))
    assert half.keypoints.tolist() == [[24.5, 9.5]]
    assert half.scales.tolist() == [1.0]
    assert half.image_size == (50, 20)
    assert np.allclose(half.resized((100, 40)).keypoints, features.keypoints)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("keypoints", np.zeros((6, 3)), r"keypoints must have shape \(N, 2\)"),
        ("scales", np.ones(5), r"scales must have shape \(6,\)"),
        ("scales", np.zeros(6), "scales must be positive"),
        ("descriptors", np.zeros((5, 8)), r"descriptors must have shape \(6, D\)"),
        ("scores", np.full(6, np.nan), "scores hold NaN"),
        ("keypoints", np.full((6, 2), np.inf), "keypoints hold NaN or infinity"),
        ("image_size", (0, 10), "image_size must be a positive"),
    ],
)
def test_what_does_not_fit_is_refused(field: str, value: object, message: str) -> None:
    features = some_features()
    arguments = {name: getattr(features, name) for name in Features.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        Features(**{**arguments, field: value})


def test_empty_features_and_matches() -> None:
    empty = Features.empty((10, 20), dim=64)
    assert len(empty) == 0
    assert empty.descriptors.shape == (0, 64)
    assert len(empty.resized((5, 10)).top(3)) == 0
    assert len(Matches.empty().select([])) == 0


def test_matches_refuse_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"indices must have shape \(M, 2\)"):
        Matches([1, 2, 3], [0.1])
    with pytest.raises(ValueError, match=r"scores must have shape \(1,\)"):
        Matches([[0, 1]], [0.1, 0.2])


def test_every_public_name_is_there() -> None:
    for name in lfnet.__all__:
        assert getattr(lfnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lfnet.nothing


def test_importing_the_package_loads_nothing_heavy(user_environment: dict[str, str]) -> None:
    code = "import sys, lfnet; print([m for m in ('torch', 'cv2', 'numpy', 'h5py') if m in sys.modules])"
    output = subprocess.check_output([sys.executable, "-c", code], env=user_environment, text=True)
    assert output.strip() == "[]"


def test_sigmas_go_with_their_keypoints() -> None:
    ones = np.ones(3)
    features = Features(np.arange(6).reshape(3, 2), ones, ones, [0.3, 0.9, 0.5], np.eye(3), (100, 50), [1.0, 2.0, 4.0])
    assert features.top(2).sigmas.tolist() == [2.0, 4.0]
    assert features.resized((200, 100)).sigmas.tolist() == [2.0, 4.0, 8.0]
    with pytest.raises(ValueError, match="sigmas must be positive"):
        Features(np.zeros((1, 2)), [1], [0], [1], [[1]], (9, 9), [0.0])
    with pytest.raises(ValueError, match="sigmas must have shape"):
        Features(np.zeros((1, 2)), [1], [0], [1], [[1]], (9, 9), [1.0, 2.0])
