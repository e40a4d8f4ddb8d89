"""Data that need no download: rendered, warped, stereo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from lfnet.evaluation.data.stereo import indexed_by_left, motorcycle, photo_error, stereo_dataset
from lfnet.evaluation.data.synthetic import rendered_dataset, warped_dataset
from support.made_sets import assert_truth_and_pose_agree


def test_rendered_pairs_are_the_same_everywhere() -> None:
    threads = torch.get_num_threads()
    datasets = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            datasets.append(rendered_dataset(count=3))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    first, second = datasets
    assert [pair.name for pair in first.pairs] == ["scene 00", "scene 01", "scene 02"]
    for pair, other in zip(first.pairs, second.pairs, strict=True):
        assert first.load(pair.picture_a).shape == (240, 320)
        assert np.array_equal(first.load(pair.picture_b), second.load(other.picture_b))
        assert_truth_and_pose_agree(first, pair)
    assert not np.array_equal(first.load("scene00/a"), rendered_dataset(count=1, seed=1).load("scene00/a"))


def test_truth_of_rendered_pairs_explains_the_pictures() -> None:
    dataset = rendered_dataset(count=2)
    for pair in dataset.pairs:
        image_a, image_b = (dataset.load(name).astype(float) for name in (pair.picture_a, pair.picture_b))
        x, y = np.meshgrid(np.arange(4.0, 316, 3), np.arange(4.0, 236, 3))
        grid = np.stack([x.ravel(), y.ravel()], axis=1)
        assert pair.truth is not None
        places, seen = pair.truth.b_from_a(grid)
        column, row = np.rint(places[seen]).astype(int).T
        there = image_b[np.clip(row, 0, 239), np.clip(column, 0, 319)]
        here = image_a[grid[seen, 1].astype(int), grid[seen, 0].astype(int)]
        assert np.corrcoef(here, there)[0, 1] > 0.6


def test_warped_pairs_are_what_their_matrices_say() -> None:
    pytest.importorskip("skimage")
    dataset = warped_dataset()
    assert len(dataset.pairs) == 12
    assert len({pair.group for pair in dataset.pairs}) == 6
    for pair in dataset.pairs:
        image_a, image_b = dataset.load(pair.picture_a), dataset.load(pair.picture_b)
        matrix = pair.truth.matrix_b_from_a  # type: ignore[union-attr]
        warped = cv2.warpPerspective(image_a, matrix, (320, 240))
        covered = cv2.warpPerspective(np.ones((240, 320)), matrix, (320, 240)) > 0.99
        assert covered.mean() > 0.15
        assert np.abs(warped.astype(float) - image_b)[covered].mean() < 6
    again = warped_dataset()
    assert np.array_equal(again.load(again.pairs[5].picture_b), dataset.load(dataset.pairs[5].picture_b))


def test_stereo_disparity_belongs_to_the_left_picture() -> None:
    pytest.importorskip("skimage")
    stereo = motorcycle()
    error = photo_error(stereo.left, stereo.right, stereo.disparity)
    assert error < 0.6 * photo_error(stereo.right[:, ::-1], stereo.left[:, ::-1], stereo.disparity[:, ::-1])
    swapped = indexed_by_left(stereo.right, stereo.left, stereo.disparity)
    assert np.array_equal(swapped.left, stereo.left)
    with pytest.raises(ValueError, match="explains neither"):
        indexed_by_left(stereo.left, stereo.right, np.full_like(stereo.disparity, 200.0))
    dataset = stereo_dataset()
    assert dataset.load(dataset.pairs[0].picture_b).shape == stereo.right.shape
