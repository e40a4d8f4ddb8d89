"""Octaves, and what is kept of them."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.models.config import (
    ExtractionSettings,
)
from lfnet.models.lfnet import LFNet
from lfnet.models.pyramid import crowded, found_again
from support.networks import BlobDetector


@pytest.mark.parametrize("count", [1, 2])
def test_octaves_without_a_chosen_keypoint(
    tiny_model: LFNet, lean_model: LFNet, camera: NDArray[np.uint8], count: int
) -> None:
    settings = ExtractionSettings(max_keypoints=count, octaves=(1.0, 0.7, 0.5, 0.25))
    for model in (tiny_model, lean_model):
        features = model.extract(camera, settings=settings)[0]
        assert len(features) == count
        np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)


def test_keypoints_may_be_spread(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    """Greedily, best first, among all there are: as a slow reference does it."""
    every = lean_model.extract(camera, settings=ExtractionSettings(max_keypoints=400))[0]
    spread = lean_model.extract(camera, settings=ExtractionSettings(max_keypoints=100, min_distance=12))[0]
    expected: list[np.ndarray] = []
    for place in every.keypoints:
        if all(np.linalg.norm(place - other) >= 12 for other in expected):
            expected.append(place)
    assert len(expected) >= 30
    np.testing.assert_allclose(spread.keypoints[: len(expected)], expected[: len(spread)])
    assert len(every) > len(expected)


def test_of_nothing_and_of_one_keypoint_none_is_crowded(lean_model: LFNet) -> None:
    assert crowded(torch.zeros(0, 2), 5).tolist() == []
    assert crowded(torch.zeros(1, 2), 5).tolist() == [False]
    blank = np.full((80, 90), 90, np.uint8)
    assert len(lean_model.extract(blank, settings=ExtractionSettings(min_distance=5))[0]) == 0


def test_a_place_of_two_octaves_counts_once() -> None:
    """Cells of octave 1/2 are a pixel wide, those of 1/4 two: the same or a neighbouring one is the same place."""
    points = [torch.tensor([[10.0, 10.0], [50.0, 50.0]]), torch.tensor([[11.2, 10.0], [52.5, 50.0], [80.0, 80.0]])]
    scores = [torch.tensor([0.5, 0.5]), torch.tensor([0.6, 0.6, 0.1])]
    lost = found_again(points, scores, [1.0, 0.5], (100, 120))
    assert [each.tolist() for each in lost] == [[True, False], [False, False, False]]
    lost = found_again(points, [scores[0] + 0.2, scores[1]], [1.0, 0.5], (100, 120))
    assert [each.tolist() for each in lost] == [[False, False], [True, False, False]]
    lost = found_again(points, scores, [1.0, 0.25], (100, 120))
    assert [each.tolist() for each in lost] == [[True, True], [False, False, False]]
    backwards = found_again(points[::-1], scores[::-1], [0.25, 1.0], (100, 120))
    assert [each.tolist() for each in backwards] == [[False, False, False], [True, True]]


def test_preference_lowers_the_scores_of_fine_octaves_and_nothing_else(
    tiny_model: LFNet, camera: NDArray[np.uint8]
) -> None:
    def found(preference: float) -> dict[tuple[float, float, float], float]:
        config = dataclasses.replace(tiny_model.config, octaves=(1.0, 0.5), octave_preference=preference)
        model = LFNet(config).eval()
        model.load_state_dict(tiny_model.state_dict())
        features = model.extract(camera[:128, :160], settings=ExtractionSettings(max_keypoints=5000, once=False))[0]
        places = np.column_stack((features.keypoints, features.scales)).tolist()
        return {(x, y, scale): float(score) for (x, y, scale), score in zip(places, features.scores, strict=True)}

    alike, preferred = found(0.0), found(1.5)
    assert alike.keys() == preferred.keys()
    ratios = {place: preferred[place] / score for place, score in alike.items()}
    assert {round(ratio, 4) for (_, _, scale), ratio in ratios.items() if scale > 1.5} == {1.0}
    assert {round(ratio, 4) for (_, _, scale), ratio in ratios.items() if scale < 1.3} == {round(2**-1.5, 4)}


def test_preference_for_contrast_lowers_the_scores_of_flat_areas(lean_model: LFNet) -> None:
    noise = np.random.default_rng(0).normal(size=(96, 192))
    noise[:, 96:] *= 0.02
    picture = np.clip(0.5 + 0.15 * cv2.GaussianBlur(noise, (0, 0), 1.5) / 0.19, 0, 1).astype(np.float32)
    medians = []
    for preference in (0.0, 1.0):
        config = dataclasses.replace(lean_model.config, contrast_preference=preference, octaves=(1.0,))
        model = LFNet(config).eval()
        model.load_state_dict(lean_model.state_dict())
        found = model.extract(picture, settings=ExtractionSettings(max_keypoints=5000))[0]
        x = found.keypoints[:, 0]
        medians.append((np.median(found.scores[x < 80]), np.median(found.scores[x > 112])))
    (textured, flat), (still_textured, lowered) = medians
    assert still_textured > 0.7 * textured
    assert lowered < 0.1 * flat


def test_octaves_speak_in_pixels_of_the_picture(tiny_model: LFNet) -> None:
    model = LFNet(tiny_model.config).eval()
    model.detector = BlobDetector()  # type: ignore[assignment]
    centres = np.array([(70.4, 51.9), (140.0, 101.3), (45.2, 120.6)])
    y, x = np.mgrid[0:171, 0:213].astype(np.float32)
    picture = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / 50) for u, v in centres)
    for octave in (1.0, 0.5, 0.25):
        settings = ExtractionSettings(octaves=(octave,), max_keypoints=3)
        features = model.extract(np.asarray(picture, np.float32), settings=settings)[0]
        assert len(features) == 3
        distances = np.linalg.norm(features.keypoints[:, None] - centres[None], axis=-1)
        assert distances.min(0).max() < (0.6 if octave > 0.25 else 1.0)
        np.testing.assert_allclose(features.scales, 1 / octave, rtol=0.02)
    both = ExtractionSettings(octaves=(1.0, 0.5), once=False)
    twice = model.extract(np.asarray(picture, np.float32), settings=both)[0]
    assert {1, 2} <= set(np.round(twice.scales).astype(int))
    once = model.extract(np.asarray(picture, np.float32), settings=dataclasses.replace(both, once=True))[0]
    apart = np.linalg.norm(once.keypoints[:, None] - once.keypoints[None], axis=-1) + 99 * np.eye(len(once))
    assert len(once) < len(twice)
    assert apart.min() > 1
