"""Descriptors: what they do not see."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.models.descriptor import normalize_patches, turned
from lfnet.models.lfnet import LFNet
from lfnet.models.orientation import angle_weights
from support.tensors import as_input, seeded


def test_descriptors_of_log_polar_patches_see_no_seam(lean_model: LFNet) -> None:
    """Shifting a patch by as many angles as the strides of its convolutions shifts their maps, all around."""
    patches = torch.randn(3, 16, 32, generator=seeded())
    seen: list[Tensor] = []
    hook = lean_model.descriptor.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        lean_model.descriptor(patches)
        lean_model.descriptor(patches.roll(4, -1))
    hook.remove()
    before, after = (maps.view(3, 8, 2, 8) for maps in seen)
    torch.testing.assert_close(after, before.roll(1, -1), atol=1e-5, rtol=1e-4)
    assert float((before - after).abs().max()) > 1e-2


def test_features_are_turned_by_their_orientation() -> None:
    """By whole angles exactly; between them smooth features are met closely, and a turn and its inverse undo it."""
    angles = torch.arange(16) * (2 * math.pi / 16)
    features = torch.stack([torch.cos(n * (angles - 0.3)) for n in (1, 2)]).view(1, 2, 1, 16).expand(3, 2, 4, 16)
    turns = torch.tensor([0.0, 3 * 2 * math.pi / 16, 0.77])
    directions = torch.stack((turns.cos(), turns.sin()), -1)
    wide = turned(features, angle_weights(directions, 16))
    assert wide.shape == (3, 2, 4, 18)
    torch.testing.assert_close(wide[..., [0, -1]], wide[..., [16, 1]])
    there = wide[..., 1:-1]
    torch.testing.assert_close(there[0], features[0])
    torch.testing.assert_close(there[1], features[1].roll(-3, -1), atol=1e-5, rtol=0)
    expected = torch.stack([torch.cos(n * (angles + 0.77 - 0.3)) for n in (1, 2)])
    torch.testing.assert_close(there[2, :, 0], expected, atol=0.02, rtol=0)
    back = turned(there, angle_weights(directions * torch.tensor([1.0, -1.0]), 16))[..., 1:-1]
    torch.testing.assert_close(back, features, atol=0.04, rtol=0)


def test_features_turned_by_chances_are_the_mean_of_the_turned_ones() -> None:
    features = torch.randn(1, 2, 4, 16, generator=seeded())
    chances = torch.zeros(1, 16)
    chances[0, 3], chances[0, 11] = 0.75, 0.25
    expected = 0.75 * features.roll(-3, -1) + 0.25 * features.roll(-11, -1)
    torch.testing.assert_close(turned(features, chances)[..., 1:-1], expected)


def test_a_turned_patch_has_the_descriptor_of_the_upright_one(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    """Turning the picture by as many angles as features keep, and the orientation with it, changes nothing."""
    picture = as_input(camera[:161, :161])
    point, ones, direction = torch.tensor([[[80.0, 80.0]]]), torch.ones(1, 1), torch.tensor([[[0.8, 0.6]]])
    quarter = torch.tensor([[[-0.6, 0.8]]])
    with torch.no_grad():
        before = lean_model.describe_at(lean_model.mosaic(picture), point, ones, direction)
        image = picture.rot90(-1, (2, 3))
        after = lean_model.describe_at(lean_model.mosaic(image), point, ones, quarter)
        other = lean_model.describe_at(lean_model.mosaic(image), point, ones, direction)
    torch.testing.assert_close(after, before, atol=2e-3, rtol=0)
    assert float((other - before).abs().max()) > 0.02


def test_normalized_patches_do_not_see_gain_and_bias() -> None:
    patches = torch.randn(6, 32, 32, generator=seeded())
    normal = normalize_patches(patches)
    torch.testing.assert_close(normal.mean((1, 2)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std((1, 2), correction=0), torch.ones(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(normalize_patches(0.6 * patches + 0.3), normal, atol=1e-3, rtol=0)
    assert float(normalize_patches(torch.full((1, 32, 32), 0.4)).abs().max()) < 1e-3


def test_descriptors_do_not_see_gain_and_bias_where_patches_are_normalized(tiny_model: LFNet) -> None:
    patches = torch.randn(6, 32, 32, generator=seeded())
    with torch.no_grad():
        plain, changed = tiny_model.descriptor(patches), tiny_model.descriptor(0.7 * patches - 0.2)
    torch.testing.assert_close(plain, changed, atol=2e-3, rtol=0)
    raw = LFNet(dataclasses.replace(tiny_model.config, descriptor=dataclasses.replace(
        tiny_model.config.descriptor, normalize_patches=False))).eval()  # fmt: skip
    raw.load_state_dict(tiny_model.state_dict())
    with torch.no_grad():
        assert float((raw.descriptor(patches) - raw.descriptor(0.7 * patches - 0.2)).abs().max()) > 0.01
