"""A feature that knows the truth: the same points of both pictures of each pair, under descriptors of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lfnet.evaluation.cache import digest
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
from lfnet.evaluation.data.truth import TransformedTruth, apply_matrix
from lfnet.evaluation.data.views import UNTOUCHED, Variant, transform_image
from lfnet.features import Features
from lfnet.images import grey_bytes

POINTS = 200
DIMENSION = 32


class Oracle:
    """Looks a picture up, and gives its points.

    Args:
        dataset: pairs, each of two pictures that are in no other pair.
        variants: transformations of second pictures that it will be shown.
        shuffled: whether descriptors are handed out to other points of the second picture.
    """

    def __init__(self, dataset: Dataset, variants: Sequence[Variant] = (UNTOUCHED,), *, shuffled: bool = False) -> None:
        self.name = "shuffled" if shuffled else "oracle"
        self.settings = {"shuffled": shuffled}
        self._known: dict[str, Features] = {}
        for seed, pair in enumerate(dataset.pairs):
            generator = np.random.default_rng(seed)
            points_a, points_b = shared_points(dataset, pair, generator)
            descriptors = generator.normal(size=(len(points_a), DIMENSION)).astype(np.float32)
            self._learn(grey(dataset.load(pair.picture_a)), points_a, descriptors)
            second = grey(dataset.load(pair.picture_b))
            if shuffled:
                descriptors = generator.permutation(descriptors)
            for variant in variants:
                view = transform_image(second, variant)
                self._learn(view.image, apply_matrix(view.from_base, points_b), descriptors)

    def _learn(self, image: np.ndarray, points: np.ndarray, descriptors: np.ndarray) -> None:
        count = len(points)
        size = (image.shape[1], image.shape[0])
        scores = np.linspace(1, 0.5, count)
        self._known[digest(image)] = Features(points, np.ones(count), np.zeros(count), scores, descriptors, size)

    def __call__(self, image: np.ndarray, *, max_keypoints: int, mask: np.ndarray | None = None) -> Features:
        return self._known[digest(image)].top(max_keypoints)


def shared_points(
    dataset: Dataset, pair: EvaluationPair, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Places of points in both pictures that each sends to the other's: not those at edges of depth."""
    assert pair.truth is not None
    height, width = dataset.load(pair.picture_a).shape[:2]
    points_a = generator.uniform((0, 0), (width - 1, height - 1), (20 * POINTS, 2)).astype(np.float32)
    points_b, seen = pair.truth.b_from_a(points_a)
    points_b = np.where(seen[:, None], points_b, 0).astype(np.float32)
    back, seen_back = pair.truth.a_from_b(points_b)
    returns = np.linalg.norm(np.nan_to_num(back) - points_a, axis=1) < 0.01
    both = np.flatnonzero(seen & seen_back & returns)[:POINTS]
    return points_a[both], points_b[both]


def grey(image: np.ndarray) -> np.ndarray:
    """As methods that don't want colour are given it."""
    return grey_bytes(image)


def both_turned(dataset: Dataset, degrees: int) -> Dataset:
    """The data set with every picture turned, and its truth with it."""
    variant = Variant(degrees=degrees)

    def load(name: str) -> np.ndarray:
        return transform_image(dataset.load(name), variant).image

    def turned(pair: EvaluationPair) -> EvaluationPair:
        assert pair.truth is not None
        matrices = [transform_image(dataset.load(name), variant).from_base for name in (pair.picture_a, pair.picture_b)]
        return replace(pair, truth=TransformedTruth(pair.truth, *matrices), pose=None)

    return replace(dataset, name=f"{dataset.name}-{degrees}", load=load, pairs=[turned(pair) for pair in dataset.pairs])
