"""Score maps: their size, their range, and no shift where they are coarser than the picture."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from numpy.typing import NDArray

from lfnet.models.lfnet import LFNet
from support.tensors import as_input, everywhere, seeded


def test_maps_have_the_size_of_the_picture_and_their_range(paper_model: LFNet, camera: NDArray[np.uint8]) -> None:
    image = as_input(camera[:70, :91])
    with torch.no_grad():
        maps = paper_model.detect(image, everywhere(image))
    assert maps.scores.shape == maps.scales.shape == (1, 1, 70, 91)
    assert maps.orientations.shape == (1, 2, 70, 91)
    assert float(maps.scores.min()) >= 0
    assert float(maps.scores.max()) <= 1
    assert float(maps.scales.min()) >= 1 / math.sqrt(2) - 1e-5
    assert float(maps.scales.max()) <= math.sqrt(2) + 1e-5
    assert float(maps.scales.std()) > 0.01
    torch.testing.assert_close(maps.orientations.norm(dim=1), torch.ones(1, 70, 91))


def mirrored(model: LFNet) -> LFNet:
    """The same network, looking into a mirror: its kernels, and the places within a feature pixel, change sides."""
    state = {name: value.flip(-1) if value.ndim == 4 else value for name, value in model.state_dict().items()}
    stride = model.config.detector.stride
    for name, value in state.items():
        if "score_convs" in name:
            state[name] = value.unflatten(0, (stride, stride)).flip(1).flatten(0, 1)
    twin = LFNet(model.config).eval()
    twin.load_state_dict(state)
    return twin


def test_half_resolution_is_not_shifted(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    """A kernel off the middle of its 2 x 2 pixels would move all maps; in a mirror, to the other side."""
    assert tiny_model.config.detector.stride == 2
    image = as_input(camera[:80, :90])
    with torch.no_grad():
        maps = tiny_model.detect(image, everywhere(image))
        in_mirror = mirrored(tiny_model).detect(image.flip(-1), everywhere(image))
    torch.testing.assert_close(in_mirror.scores.flip(-1), maps.scores, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(in_mirror.scales.flip(-1), maps.scales, atol=1e-4, rtol=1e-3)


def test_half_resolution_of_odd_pictures(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    """An odd picture's features are those of the picture with its last row and column repeated."""
    odd = as_input(camera[:71, :93])
    even = torch.nn.functional.pad(odd, (0, 1, 0, 1), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(tiny_model.detector.features(odd), tiny_model.detector.features(even))
        maps = tiny_model.detect(odd, everywhere(odd))
    assert maps.scores.shape == maps.scales.shape == (1, 1, 71, 93)
    assert maps.orientations.shape == (1, 2, 71, 93)


def test_quarter_resolution_is_not_shifted(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    image = as_input(camera[:80, :96])
    state = {name: value.flip(-1) if value.ndim == 4 else value for name, value in lean_model.state_dict().items()}
    for name, value in state.items():
        for places, part in ((4, "score_convs"), (2, "fine")):
            if part in name:
                state[name] = value.unflatten(0, (places, places)).flip(1).flatten(0, 1)
    twin = LFNet(lean_model.config).eval()
    twin.load_state_dict(state)
    with torch.no_grad():
        maps = lean_model.detect(image, everywhere(image))
        in_mirror = twin.detect(image.flip(-1), everywhere(image))
    torch.testing.assert_close(in_mirror.scores.flip(-1), maps.scores, atol=1e-4, rtol=1e-3)
    assert maps.orientations is None
    assert bool((maps.scales == 1).all())


def test_context_sees_twice_as_far_and_is_not_shifted(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    context = lean_model.detector.context
    assert context is not None
    features = torch.randn(1, 8, 24, 32, generator=seeded())
    mirrored = copy.deepcopy(context)
    mirrored.load_state_dict({n: v.flip(-1) if v.ndim == 4 else v for n, v in context.state_dict().items()})
    with torch.no_grad():
        torch.testing.assert_close(mirrored(features.flip(-1)).flip(-1), context(features), atol=1e-5, rtol=1e-4)
        changed = features.clone()
        changed[..., 12, 16] += 1
        seen = (context(changed) - context(features)).abs().amax((0, 1)) > 1e-7
    rows, columns = seen.nonzero().unbind(-1)
    assert int(columns.max() - columns.min()) > 8
    assert int(rows.max() - rows.min()) > 8


def test_quarter_resolution_of_any_size(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    for height, width in ((70, 91), (73, 94), (16, 19)):
        image = as_input(camera[:height, :width])
        with torch.no_grad():
            scores = lean_model.detect(image, everywhere(image)).scores
        assert scores.shape == (1, 1, height, width)
        assert 0 <= float(scores.min()) <= float(scores.max()) <= 1


def test_orientation_head_starts_at_angle_0(paper_model: LFNet, camera: NDArray[np.uint8]) -> None:
    image = as_input(camera[:80, :80])
    with torch.no_grad():
        cos, sin = paper_model.detect(image, everywhere(image)).orientations.split(1, 1)
    angles = torch.atan2(sin, cos).abs()
    assert float(angles.median()) < math.radians(5)
    assert float(angles.max()) < math.radians(45)
