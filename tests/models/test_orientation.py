"""Orientations turn with the picture."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.geometry.filters import gaussian_blur, gradients
from lfnet.models.config import OrientationConfig
from lfnet.models.inputs import normalize_pictures
from lfnet.models.orientation import (
    AngleNetwork,
    AngleScores,
    GradientOrientation,
    angle_weights,
    best_angles,
    surest,
)
from support.tensors import as_input, everywhere, seeded


def test_best_angle_is_the_peak_of_a_parabola() -> None:
    logits = -((torch.arange(16.0) - 5.3) ** 2)
    angle = 5.3 * 2 * math.pi / 16
    torch.testing.assert_close(best_angles(logits), torch.tensor([math.cos(angle), math.sin(angle)]))
    torch.testing.assert_close(best_angles(torch.eye(16)[0]), torch.tensor([1.0, 0.0]))


def test_an_angle_is_scored_with_the_one_before_and_the_one_after() -> None:
    scores = AngleScores(2, 3)
    features = torch.randn(1, 2, 3, 16, generator=seeded())
    before, here, after = scores.score.weight.view(3, 2, 3).unbind(0)
    expected = [
        (before * features[0, ..., angle - 1]).sum() + (here * features[0, ..., angle]).sum()
        + (after * features[0, ..., (angle + 1) % 16]).sum()
        for angle in range(16)
    ]  # fmt: skip
    torch.testing.assert_close(scores(features)[0], torch.stack(expected))


def test_scores_of_an_angle_network_shift_with_its_features() -> None:
    scores = AngleNetwork(2, 3, 8).eval()
    features = torch.randn(4, 2, 3, 16, generator=seeded())
    with torch.no_grad():
        logits, shifted = scores(features), scores(features.roll(5, -1))
    torch.testing.assert_close(shifted, logits.roll(5, -1), atol=1e-5, rtol=1e-4)
    assert float(logits.std(-1).min()) > 1e-3


def test_the_surest_angle_counts_with_its_neighbours() -> None:
    chances = torch.tensor([[0.5, 0.1, 0.05, 0.05, 0.05, 0.05, 0.1, 0.1]])
    assert float(surest(chances.log())) == pytest.approx(0.7)


def test_weights_of_an_angle_between_two_are_cubic() -> None:
    whole, half = torch.tensor([3.0, 15.5]) * (2 * math.pi / 16)
    rows = angle_weights(torch.stack((torch.stack((whole, half)).cos(), torch.stack((whole, half)).sin()), -1), 16)
    torch.testing.assert_close(rows[0], torch.eye(16)[3], atol=1e-5, rtol=0)
    expected = torch.zeros(16)
    expected[[14, 15, 0, 1]] = torch.tensor([-0.0625, 0.5625, 0.5625, -0.0625])
    torch.testing.assert_close(rows[1], expected, atol=1e-5, rtol=0)


def field_of(picture: Tensor) -> Tensor:
    module = GradientOrientation(2, 1, OrientationConfig(mode="gradient"))
    images = normalize_pictures(picture, everywhere(picture))
    with torch.no_grad():
        return module(torch.zeros(1, 2, *picture.shape[-2:]), images, everywhere(picture))


def test_gradient_orientation_turns_with_the_picture_by_90_degrees(camera: NDArray[np.uint8]) -> None:
    picture = torch.from_numpy(camera[40:140, 60:160].copy())[None, None].float() / 255
    upright = field_of(picture)
    # rot90 over (y, x) moves +x to where -y was: on screen a turn against the clock.
    turned = field_of(torch.rot90(picture, 1, (2, 3)))
    expected = torch.rot90(upright, 1, (2, 3))
    expected = torch.cat((expected[:, 1:], -expected[:, :1]), 1)
    torch.testing.assert_close(turned, expected, atol=1e-2, rtol=0)
    assert float((turned - upright).abs().mean()) > 0.1


def test_gradient_orientation_turns_with_the_picture_by_30_degrees(camera: NDArray[np.uint8]) -> None:
    side, angle = 161, math.radians(30)
    cos, sin = math.cos(angle), math.sin(angle)
    middle = (side - 1) / 2
    turn = np.array([[cos, -sin], [sin, cos]])
    source = np.ascontiguousarray(camera[40 : 40 + side, 50 : 50 + side])
    matrix = np.column_stack((turn, middle - turn @ [middle, middle]))
    turned = cv2.warpAffine(source, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    before, after = (field_of(torch.from_numpy(each)[None, None].float() / 255)[0] for each in (source, turned))
    errors = []
    for x, y in np.random.default_rng(0).uniform(-40, 40, (300, 2)):
        u, v = turn @ [x, y] + middle
        there = after[:, round(v), round(u)].numpy()
        here = before[:, round(y + middle), round(x + middle)].numpy()
        expected = turn @ here
        errors.append(abs(math.atan2(np.linalg.det([expected, there]), expected @ there)))
    assert np.degrees(np.median(errors)) < 6
    assert np.mean(np.degrees(errors) < 22.5) > 0.85


def test_compression_counts_every_direction_alike(camera: NDArray[np.uint8]) -> None:
    image = as_input(camera[:60, :70])
    module = GradientOrientation(2, 1, OrientationConfig(mode="gradient", compression=0.0))
    with torch.no_grad():
        field = module(torch.zeros(1, 2, 60, 70), image, everywhere(image))
    slopes = gradients(image)
    unit = slopes / (slopes.norm(dim=1, keepdim=True) + 1e-4)
    expected = torch.nn.functional.normalize(gaussian_blur(unit, 5.0), dim=1)
    torch.testing.assert_close(field, expected, atol=1e-3, rtol=0)
    assert float((field_of(torch.from_numpy(camera[:60, :70].copy())[None, None] / 255) - field).abs().mean()) > 0.01
