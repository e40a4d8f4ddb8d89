"""Patches against OpenCV's, their gradients, and what a turn of the picture does to them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.geometry.filters import gaussian_blur
from lfnet.models.config import (
    PatchConfig,
)
from lfnet.models.keypoints import (
    upright,
)
from lfnet.models.lfnet import LFNet
from lfnet.models.orientation import best_angles
from lfnet.models.patches import halve, make_mosaic, sample_patches, smooth_for_patches
from support.tensors import as_input, seeded


def test_patches_are_those_of_opencv(camera: NDArray[np.uint8]) -> None:
    image = torch.from_numpy(camera)[None, None].float() / 255
    sharp = make_mosaic(image, PatchConfig())
    for size, extent in ((32, 32.0), (32, 24.0), (16, 32.0)):
        config = PatchConfig(size=size, extent=extent)
        points = torch.tensor([[[100.3, 80.7], [128.0, 128.0], [60.0, 150.25]]])
        scales = torch.tensor([[1.0, 1.3, 0.8]])
        angles = torch.tensor([[0.0, 0.7, -2.4]])
        directions = torch.stack((torch.cos(angles), torch.sin(angles)), -1)
        patches = sample_patches(sharp, points, scales, directions, config)[0].numpy()
        assert patches.shape == (3, size, size)
        for index in range(3):
            step = extent / size * float(scales[0, index])
            cos, sin = step * math.cos(float(angles[0, index])), step * math.sin(float(angles[0, index]))
            turn = np.array([[cos, -sin], [sin, cos]])
            shift = points[0, index].numpy() - turn @ np.full(2, (size - 1) / 2)
            # OpenCV places samples on a grid of 1/32 px, hence the tolerance.
            expected = cv2.warpAffine(
                camera.astype(np.float32) / 255,
                np.column_stack((turn, shift)),
                (size, size),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
            difference = np.abs(patches[index] - expected)
            assert difference.mean() < 2e-3
            assert difference.max() < 0.03


def test_patches_beyond_the_edge_repeat_it() -> None:
    image = torch.arange(40.0).view(1, 1, 1, 40).expand(1, 1, 40, 40).contiguous()
    patch = sample_patches(
        make_mosaic(image, PatchConfig()),
        torch.tensor([[[0.0, 20.0]]]),
        torch.ones(1, 1),
        torch.tensor([[[1.0, 0.0]]]),
        PatchConfig(),
    )
    assert bool((patch[0, 0, :, :16] == 0).all())
    torch.testing.assert_close(patch[0, 0, 5, 16:], torch.arange(16) + 0.5)


def test_patches_are_differentiable_in_place_scale_and_orientation() -> None:
    generator = seeded()
    image = gaussian_blur(torch.randn(1, 1, 64, 64, generator=generator), 4.0).double()
    weights = torch.randn(32, 32, generator=generator).double()

    def value(x: float, y: float, scale: float, angle: float) -> float:
        return float(response(torch.tensor([x, y, scale, angle], dtype=torch.float64)))

    def response(values: Tensor) -> Tensor:
        x, y, scale, angle = values
        direction = torch.stack((torch.cos(angle), torch.sin(angle))).view(1, 1, 2)
        point = torch.stack((x, y)).view(1, 1, 2)
        mosaic = make_mosaic(image, PatchConfig())
        return (sample_patches(mosaic, point, scale.view(1, 1), direction, PatchConfig())[0, 0] * weights).sum()

    start = [31.37, 30.61, 1.09, 0.6]
    values = torch.tensor(start, dtype=torch.float64).requires_grad_()
    response(values).backward()
    assert values.grad is not None
    step = 1e-6
    for index, gradient in enumerate(values.grad.tolist()):
        above, below = list(start), list(start)
        above[index] += step
        below[index] -= step
        assert gradient == pytest.approx((value(*above) - value(*below)) / (2 * step), rel=1e-3, abs=1e-4)
        assert abs(gradient) > 1e-3


def test_smoothing_only_where_patches_are_coarser_than_pixels(camera: NDArray[np.uint8]) -> None:
    image = as_input(camera[:64, :64])
    assert smooth_for_patches(image, PatchConfig(32, 32.0)) is image
    coarse = smooth_for_patches(image, PatchConfig(16, 32.0))
    torch.testing.assert_close(coarse, gaussian_blur(image, 1.0))


LOG_POLAR = PatchConfig(size=32, extent=64.0, sampling="log-polar", rings=16, inner=2.0)


def test_log_polar_patches_read_rings_and_angles() -> None:
    """A picture that is linear in x and y is read exactly at every level, so each sample tells its place."""
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(170.0), indexing="ij")
    points, scales = torch.tensor([[[80.3, 77.8]]]), torch.tensor([[0.9]])
    turn = torch.tensor([[[math.cos(0.7), math.sin(0.7)]]])
    read = [
        sample_patches(make_mosaic(plane[None, None], LOG_POLAR), points, scales, turn, LOG_POLAR)[0, 0]
        for plane in (x, y)
    ]
    assert read[0].shape == LOG_POLAR.shape == (16, 32)
    radii = torch.hypot(read[0] - 80.3, read[1] - 77.8)
    expected = 0.9 * 2.0 * (32.0 / 2.0) ** (torch.arange(16) / 15)
    # Halving a side that is odd is not quite a factor of 2: up to 0.1 px, where samples are 6 px apart.
    torch.testing.assert_close(radii, expected[:, None].expand(16, 32), atol=2e-3, rtol=5e-3)
    angles = torch.atan2(read[1] - 77.8, read[0] - 80.3) - 0.7 - torch.arange(32) * math.pi / 16
    torch.testing.assert_close(angles.cos(), torch.ones(16, 32), atol=1e-4, rtol=0)


def test_outer_rings_are_read_from_blurred_pictures() -> None:
    """White noise, read at places many pixels apart, must not come through whole."""
    noise = torch.randn(1, 1, 256, 256, generator=seeded())
    mosaic = make_mosaic(noise, LOG_POLAR)
    assert mosaic.image.shape == (1, 1, 256, 384)
    assert mosaic.boxes[:3].tolist() == [[0, 0, 256, 256], [256, 0, 128, 128], [256, 128, 64, 64]]
    points = 60 + 130 * torch.rand(1, 200, 2, generator=seeded(1))
    patches = sample_patches(mosaic, points, torch.ones(1, 200), upright(points), LOG_POLAR)[0]
    deviation = patches.square().mean((0, 2)).sqrt()
    assert float(deviation[0]) > 0.6
    assert float(deviation[-1]) < 0.2


def test_turning_the_picture_shifts_a_log_polar_patch(camera: NDArray[np.uint8]) -> None:
    picture = as_input(camera[:161, :161])
    turned = picture.rot90(-1, (2, 3))
    point, ones = torch.tensor([[[80.0, 80.0]]]), torch.ones(1, 1)
    before, after = (
        sample_patches(make_mosaic(each, LOG_POLAR), point, ones, upright(point), LOG_POLAR)[0, 0]
        for each in (picture, turned)
    )
    torch.testing.assert_close(after, before.roll(8, -1), atol=1e-4, rtol=1e-3)


def test_orientations_of_patches_turn_with_the_picture(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    picture = as_input(camera[:201, :201])
    places = torch.tensor([[[100.0, 100.0], [70.0, 120.0], [130.0, 90.0], [88.0, 60.0]]])
    directions = {}
    for quarter in (0, 1):
        image = picture.rot90(-quarter, (2, 3))
        points = places if quarter == 0 else torch.stack((200 - places[..., 1], places[..., 0]), -1)
        with torch.no_grad():
            logits = lean_model.orientation_logits(lean_model.mosaic(image), points, torch.ones(1, 4))
        directions[quarter] = (logits, best_angles(logits))
    torch.testing.assert_close(directions[1][0], directions[0][0].roll(4, -1), atol=1e-3, rtol=1e-3)
    cos, sin = directions[0][1].unbind(-1)
    torch.testing.assert_close(directions[1][1], torch.stack((-sin, cos), -1), atol=1e-3, rtol=0)


def test_half_a_picture_shows_at_scale_1_what_the_picture_shows_at_scale_2(camera: NDArray[np.uint8]) -> None:
    """Inner rings too: at scale 2 they must not be sharper than those that training shows."""
    image = as_input(camera[:192, :192])
    points, scales = torch.tensor([[[100.5, 88.5], [70.5, 120.5]]]), torch.full((1, 2), 2.0)
    whole = sample_patches(make_mosaic(image, LOG_POLAR), points, scales, upright(points), LOG_POLAR)
    half = sample_patches(
        make_mosaic(halve(image), LOG_POLAR), (points + 0.5) / 2 - 0.5, scales / 2, upright(points), LOG_POLAR
    )
    torch.testing.assert_close(whole, half, atol=1e-3, rtol=1e-3)
