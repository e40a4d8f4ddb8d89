"""Light and geometry of augmentation."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from lfnet.data.augment import (
    GeometricConfig,
    PhotometricConfig,
    augment_light,
    coarsen_blocks,
    homography_from_corners,
    log_uniform,
    random_homography,
    tone_curve,
)
from lfnet.data.pair import Pair, View
from lfnet.data.pair_sources import PicturePairs
from lfnet.geometry.transform import apply_homography
from support.tensors import seeded
from support.textured_plane import STEADY, smooth_picture


def test_light_varies_each_view_and_leaves_geometry_alone() -> None:
    pair = PicturePairs([smooth_picture(200, 260)], GeometricConfig(), 64).sample(seeded(2))
    assert augment_light(pair, STEADY, [seeded()]) is pair
    varied = augment_light(pair, PhotometricConfig(), [seeded(4)])
    again = augment_light(pair, PhotometricConfig(), [seeded(4)])
    other = augment_light(pair, PhotometricConfig(), [seeded(5)])
    for name in ("a", "b"):
        before, after = getattr(pair, name), getattr(varied, name)
        assert torch.equal(after.image, getattr(again, name).image)
        assert not torch.equal(after.image, getattr(other, name).image)
        assert float((after.image - before.image).abs().mean()) > 0.005
        assert float(after.image.min()) >= 0
        assert float(after.image.max()) <= 1
        assert bool((after.image[~after.valid] == 0).all())
        assert torch.equal(after.valid, before.valid)
    assert torch.equal(varied.b_from_a, pair.b_from_a)  # type: ignore[arg-type]


def test_blocks_are_coarsened_as_by_a_cosine_transform() -> None:
    image = np.random.default_rng(0).random((16, 24), dtype=np.float32)
    expected = np.zeros_like(image)
    steps = 0.05 * (1 + 0.5 * np.add.outer(np.arange(8), np.arange(8)))
    for y in (0, 8):
        for x in (0, 8, 16):
            block = cv2.dct(image[y : y + 8, x : x + 8])
            expected[y : y + 8, x : x + 8] = cv2.idct((np.round(block / steps) * steps).astype(np.float32))
    result = coarsen_blocks(torch.from_numpy(image)[None, None], 0.05)[0, 0].numpy()
    np.testing.assert_allclose(result, expected, atol=1e-4)
    assert np.abs(result - image).mean() > 0.01
    assert coarsen_blocks(torch.rand(1, 1, 13, 21, generator=seeded()), 0.02).shape == (1, 1, 13, 21)


def test_homography_from_corners_is_exact_and_random_ones_stay_in_reach() -> None:
    source = torch.tensor([[0.0, 0.0], [9.0, 1.0], [8.0, 7.0], [-1.0, 6.0]]).double()
    target = torch.tensor([[3.0, 2.0], [20.0, -1.0], [17.0, 15.0], [1.0, 12.0]]).double()
    matrix = homography_from_corners(source, target)
    torch.testing.assert_close(apply_homography(matrix, source)[0], target)
    centre = torch.tensor([200.0, 300.0])
    corners = centre + 40 * torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    for seed in range(20):
        moved, weight = apply_homography(random_homography(seeded(seed), centre, 40.0, 0.35), corners[None])
        assert float((moved - corners).abs().max()) <= 0.35 * 40 + 1e-2
        assert bool((weight > 0).all())


def test_log_uniform_is_even_in_log() -> None:
    generator = seeded()
    values = np.log([log_uniform(generator, 0.5, 2.0) for _ in range(2000)])
    assert values.min() >= -math.log(2)
    assert values.max() <= math.log(2)
    assert np.histogram(values, 4)[0].min() > 420


def test_a_tone_curve_rises_and_keeps_black_and_white() -> None:
    grey = torch.linspace(0, 1, 256).view(1, 1, 1, 256)
    torch.testing.assert_close(tone_curve(grey, torch.zeros(6)), grey)
    bent = tone_curve(grey, torch.randn(6, generator=torch.Generator().manual_seed(0)))[0, 0, 0]
    assert float(bent[0]) == 0
    assert float(bent[-1]) == pytest.approx(1)
    assert bool((bent.diff() > 0).all())
    assert float((bent - grey[0, 0, 0]).abs().max()) > 0.1
    by_hand = tone_curve(torch.tensor([[[[0.25, 0.75]]]]), torch.tensor([0.0, math.log(3.0)]))
    assert by_hand.flatten().tolist() == pytest.approx([0.125, 0.625])


@pytest.mark.parametrize("change", ["tone", "relight", "inverted"])
def test_each_change_of_light_is_drawn_anew_for_each_view(change: str) -> None:
    off = dict.fromkeys(("gain", "bias", "gamma", "blur", "noise", "jpeg", "shadow"), 0.0)
    config = PhotometricConfig(**off, **{change: 0.5})
    image = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
    eye = torch.eye(4).expand(2, 4, 4)
    view = View(image, torch.ones_like(image, dtype=torch.bool), None, eye[:, :3, :3], eye)
    pair = Pair(view, view, torch.eye(3).expand(2, 3, 3))
    generators = [torch.Generator().manual_seed(seed) for seed in (4, 7)]
    varied = augment_light(pair, config, generators)
    again = augment_light(pair, config, [torch.Generator().manual_seed(seed) for seed in (4, 7)])
    assert torch.equal(varied.a.image, again.a.image)
    pictures = [*varied.a.image, *varied.b.image]
    if change == "inverted":
        turned = [bool(torch.equal(new, 1 - old)) for new, old in zip(pictures, [*image, *image], strict=True)]
        kept = [bool(torch.equal(new, old)) for new, old in zip(pictures, [*image, *image], strict=True)]
        assert all(one != other for one, other in zip(turned, kept, strict=True))
        assert any(turned)
    else:
        assert all(not torch.equal(new, old) for new, old in zip(pictures, [*image, *image], strict=True))
        assert not torch.equal(varied.a.image, varied.b.image)
    assert bool((varied.a.image >= 0).all() & (varied.a.image <= 1).all())
