"""The network: each part against a slow plain reference, and extraction as a user calls it."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.features import Features
from lfnet.geometry.filters import gaussian_blur, gradients
from lfnet.images import to_grey
from lfnet.models.config import (
    ExtractionSettings,
    KeypointConfig,
    LFNetConfig,
    OrientationConfig,
    PatchConfig,
    ScaleSpaceConfig,
)
from lfnet.models.descriptor import normalize_patches, turned
from lfnet.models.detector import DetectorMaps
from lfnet.models.inputs import local_contrast, normalize_pictures, picture_tensor, resize_to_octave
from lfnet.models.keypoints import (
    climb,
    detect_keypoints,
    fit_peaks,
    select_peaks,
    soft_argmax,
    upright,
    usable_pixels,
)
from lfnet.models.layers import conv_norm
from lfnet.models.lfnet import LFNet
from lfnet.models.orientation import GradientOrientation, best_angles
from lfnet.models.patches import halve, make_mosaic, sample_patches, smooth_for_patches
from lfnet.models.pyramid import found_again
from lfnet.models.scale_space import merge_scales, normalize_maps, window_softmax
from lfnet.models.weights import WeightsError, describe_weights, load_weights, save_weights
from lfnet.settings import ConfigError, config_from_dict, config_to_dict
from support.networks import lean_config


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everywhere(maps: Tensor) -> Tensor:
    return torch.ones_like(maps[:, :1], dtype=torch.bool)


def as_input(picture: NDArray[np.uint8]) -> Tensor:
    image = torch.from_numpy(picture)[None, None].float() / 255
    return normalize_pictures(image, everywhere(image))


@pytest.fixture(scope="module")
def paper_model() -> LFNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LFNet().eval()


# --- the paper's network ---


def test_defaults_are_the_paper_s(paper_model: LFNet) -> None:
    shapes = {name: tuple(p.shape) for name, p in paper_model.named_parameters() if p.ndim > 1}
    expected = {"detector.stem.weight": (16, 1, 5, 5)}
    for block in range(3):
        for conv in ("conv1", "conv2"):
            expected[f"detector.blocks.{block}.{conv}.weight"] = (16, 16, 5, 5)
    expected |= {f"detector.scale_space.score_convs.{n}.weight": (1, 16, 5, 5) for n in range(5)}
    expected["detector.orientation.conv.weight"] = (2, 16, 5, 5)
    channels = (1, 64, 128, 256)
    expected |= {f"descriptor.convolutions.{3 * n}.weight": (channels[n + 1], channels[n], 3, 3) for n in range(3)}
    expected["descriptor.hidden.weight"] = (512, 256 * 4 * 4)
    expected["descriptor.output.weight"] = (256, 512)
    assert shapes == expected

    config = paper_model.config
    root = math.sqrt(2)
    assert config.scale_space.values() == pytest.approx([1 / root, 2**-0.25, 1, 2**0.25, root])
    assert (config.scale_space.window, config.scale_space.window_strength, config.scale_space.scale_strength) == (
        15,
        3.0,
        100.0,
    )
    assert config.detector.leaky_slope == 0.2
    assert config.octaves == (1.0,)
    assert config.patches == PatchConfig(size=32, extent=32.0)
    assert not config.descriptor.normalize_patches
    assert not config.detector.derivatives
    assert config.contrast_preference == 0
    assert config.orientation.mode == "head"


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


@pytest.fixture(scope="module")
def lean_model() -> LFNet:
    """The small lean network, with statistics of batch norm that a wrong fusion would show."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LFNet(lean_config()).eval()
        for module in model.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
                torch.nn.init.uniform_(module.weight, 0.5, 2.0)
                torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return model


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


def test_a_convolution_holds_its_batch_norm() -> None:
    conv, norm = torch.nn.Conv2d(3, 5, 3, 2, 1), torch.nn.BatchNorm2d(5)
    with torch.no_grad():
        for _ in range(3):
            norm(3 * torch.randn(8, 5, 6, 6, generator=seeded()) + 1)
        norm.weight.uniform_(0.5, 2, generator=seeded())
        norm.bias.uniform_(-1, 1, generator=seeded())
    maps = torch.randn(2, 3, 9, 10, generator=seeded(1))
    norm.eval()
    torch.testing.assert_close(conv_norm(conv, norm, maps), norm(conv(maps)), atol=1e-5, rtol=1e-5)
    norm.train()
    torch.testing.assert_close(conv_norm(conv, norm, maps), copy.deepcopy(norm)(conv(maps)))


def test_orientation_head_starts_at_angle_0(paper_model: LFNet, camera: NDArray[np.uint8]) -> None:
    image = as_input(camera[:80, :80])
    with torch.no_grad():
        cos, sin = paper_model.detect(image, everywhere(image)).orientations.split(1, 1)
    angles = torch.atan2(sin, cos).abs()
    assert float(angles.median()) < math.radians(5)
    assert float(angles.max()) < math.radians(45)


def test_configuration_round_trips_and_refuses_what_it_does_not_know() -> None:
    config = LFNetConfig(octaves=(1.0, 0.5), orientation=OrientationConfig(mode="gradient"))
    text = json.dumps(config_to_dict(config))
    assert config_from_dict(LFNetConfig, json.loads(text)) == config
    for values, message in (
        ({"detector": {"chanels": 8}}, r"unknown setting detector\.chanels"),
        ({"detector": {"channels": 8.5}}, "expected int"),
        ({"detector": {"channels": True}}, "expected int"),
        ({"detector": 3}, "expected a table"),
        ({"detector": {"stride": 3}}, "expected 1, 2 or 4"),
        ({"orientation": {"mode": "up"}}, "'head', 'gradient'"),
        ({"descriptor": {"channels": [8, 16]}}, "expected 3 values"),
        ({"scale_space": {"window": 14}}, "odd"),
        ({"scale_space": {"window": 16, "window_step": 4}}, "odd number of steps of 4"),
        ({"scale_space": {"window": 4, "window_step": 4}}, "at least 3"),
        ({"scale_space": {"window": -1}}, "at least 1"),
        ({"orientation": {"mode": "shared"}}, "log-polar"),
        ({"patches": {"sampling": "log-polar", "size": 30}}, "multiple of 8"),
        ({"octaves": []}, "at least one"),
        ({"octaves": [0.0]}, "factors"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_from_dict(LFNetConfig, values)


# --- scale space ---


def slow_window_softmax(maps: NDArray, valid: NDArray, window: int, strength: float) -> NDArray:
    _, height, width = maps.shape
    powers = np.exp(strength * maps.astype(np.float64)) * valid
    result = np.zeros_like(powers)
    reach = window // 2
    for y in range(height):
        for x in range(width):
            around = powers[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if valid[y, x]:
                result[:, y, x] = powers[:, y, x] / around.sum()
    return result


def test_window_softmax_agrees_with_a_slow_reference() -> None:
    maps = 2 * torch.randn(2, 3, 20, 26, generator=seeded())
    valid = torch.ones(2, 1, 20, 26, dtype=torch.bool)
    valid[1, :, 5:12, :9] = False
    fast = window_softmax(maps, valid, 15, 3.0)
    for index in range(2):
        expected = slow_window_softmax(maps[index].numpy(), valid[index, 0].numpy(), 15, 3.0)
        np.testing.assert_allclose(fast[index].numpy(), expected, rtol=1e-4, atol=1e-9)


def test_window_softmax_in_blocks_is_near_that_of_pixels() -> None:
    """Exact where the sum is the same everywhere; within a few percent where it varies slowly; zero outside."""
    flat, valid = torch.zeros(1, 2, 40, 44), torch.ones(1, 1, 40, 44, dtype=torch.bool)
    in_blocks = window_softmax(flat, valid, 20, 3.0, 4)
    torch.testing.assert_close(in_blocks[..., 12:28, 12:32], torch.full((1, 2, 16, 20), 1 / 800))
    smooth = gaussian_blur(torch.randn(1, 1, 61, 63, generator=seeded()), 6.0) * 4
    valid = torch.ones(1, 1, 61, 63, dtype=torch.bool)
    valid[..., :5, :9] = False
    near = window_softmax(smooth, valid, 21, 3.0, 3)[..., 15:45, 15:45]
    exact = window_softmax(smooth, valid, 21, 3.0)[..., 15:45, 15:45]
    assert float((near / exact - 1).abs().max()) < 0.1
    assert bool((window_softmax(smooth, valid, 21, 3.0, 3)[..., :5, :9] == 0).all())


def test_window_softmax_bears_peaks_far_apart_in_height() -> None:
    maps = torch.zeros(1, 2, 40, 40)
    maps[0, 0, 5, 5], maps[0, 1, 30, 30] = 20.0, 6.0
    competing = window_softmax(maps, everywhere(maps), 15, 3.0)
    assert float(competing[0, 0, 5, 5]) == pytest.approx(1, abs=1e-6)
    assert float(competing[0, 1, 30, 30]) == pytest.approx(1, abs=1e-4)
    assert bool(torch.isfinite(competing).all())
    nothing = window_softmax(maps, torch.zeros(1, 1, 40, 40, dtype=torch.bool), 15, 3.0)
    assert bool((nothing == 0).all())


def test_normalize_maps_over_valid_pixels() -> None:
    maps = 5 + 3 * torch.randn(2, 4, 15, 18, generator=seeded())
    valid = torch.rand(2, 1, 15, 18, generator=seeded(1)) > 0.3
    maps = torch.where(valid, maps, torch.full_like(maps, 1e3))
    normal = normalize_maps(maps, valid)
    for index in range(2):
        for channel in range(4):
            kept = normal[index, channel][valid[index, 0]]
            assert float(kept.mean()) == pytest.approx(0, abs=1e-4)
            assert float(kept.std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_merge_scales_by_a_softmax() -> None:
    maps = torch.rand(1, 3, 6, 7, generator=seeded()) * 0.02
    scales = [0.5, 1.0, 2.0]
    scores, scale = merge_scales(maps, scales, 100.0)
    weights = np.exp(100 * maps[0].double().numpy())
    weights /= weights.sum(0)
    np.testing.assert_allclose(scores[0, 0].numpy(), (weights * maps[0].numpy()).sum(0), rtol=1e-5)
    expected = np.exp((weights * np.log(scales)[:, None, None]).sum(0))
    np.testing.assert_allclose(scale[0, 0].numpy(), expected, rtol=1e-5)
    clear = torch.zeros(1, 3, 1, 1)
    clear[0, 2] = 0.8
    scores, scale = merge_scales(clear, scales, 100.0)
    assert float(scores) == pytest.approx(0.8)
    assert float(scale) == pytest.approx(2.0)


def test_scales_are_spread_evenly_in_log() -> None:
    values = ScaleSpaceConfig(scales=7, reach=2.0).values()
    np.testing.assert_allclose(np.diff(np.log(values)), np.log(4) / 6)
    assert values[0] == pytest.approx(0.5)
    assert ScaleSpaceConfig(scales=1).values() == [1.0]


# --- keypoints ---


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_strict_maxima_against_brute_force(size: int) -> None:
    """Few distinct values, so that ties abound, up to the borders."""
    scores = torch.randint(0, 6, (2, 1, 17, 13), generator=seeded(size)).float() / 5
    scores[0, 0, 0, 0] = scores[1, 0, 16, 12] = scores[0, 0, 8, 0] = 2.0
    scores = scores + 0.1
    every = torch.ones_like(scores, dtype=torch.bool)
    places, values, present = select_peaks(scores, every, 17 * 13, size)
    found = np.zeros(scores.shape, bool)
    for b in range(2):
        x, y = places[b][present[b]].T.numpy()
        found[b, 0, y, x] = True
        torch.testing.assert_close(values[b][present[b]], scores[b, 0, y, x])
    reach = size // 2
    expected = np.zeros(scores.shape, bool)
    for b, _, y, x in np.ndindex(*scores.shape):
        plane = scores[b, 0].numpy()
        around = plane[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        expected[b, 0, y, x] = (around >= plane[y, x]).sum() == 1
    np.testing.assert_array_equal(found, expected)
    assert expected[0, 0, 0, 0]
    flat = torch.ones(1, 1, 9, 9)
    assert size == 1 or not bool(select_peaks(flat, flat > 0, 81, size)[2].any())


def test_usable_pixels_against_brute_force() -> None:
    valid = torch.ones(1, 1, 30, 34, dtype=torch.bool)
    valid[..., 12, 20] = False
    usable = usable_pixels(valid, 4, 3)[0, 0]
    for y, x in np.ndindex(30, 34):
        inside = 4 <= y < 26 and 4 <= x < 30
        near = max(abs(y - 12), abs(x - 20)) <= 3
        assert bool(usable[y, x]) == (inside and not near)
    assert not bool(usable_pixels(valid, 20, 3).any())


def test_select_peaks_gives_the_best_and_says_which_exist() -> None:
    scores = torch.zeros(2, 1, 12, 15)
    for rank, (y, x) in enumerate([(3, 4), (9, 11), (6, 1)]):
        scores[0, 0, y, x] = 0.9 - 0.2 * rank
    scores[1, 0, 5, 7] = 0.3
    usable = torch.ones(2, 1, 12, 15, dtype=torch.bool)
    usable[0, 0, 9, 11] = False
    places, values, present = select_peaks(scores, usable, 4, 5)
    assert present.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert places[0, :2].tolist() == [[4, 3], [1, 6]]
    assert values[0, :2].tolist() == pytest.approx([0.9, 0.5])
    assert places[1, 0].tolist() == [7, 5]


def test_refinement_finds_the_centre_of_a_gaussian() -> None:
    """The centroid of e^(strength S) by hand, and nearer to the truth than the whole pixel is."""
    height = width = 21
    y, x = np.mgrid[0:height, 0:width]
    for centre_x, centre_y in ((10.3, 9.8), (7.0, 12.0), (12.4, 11.6)):
        scores = np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * 1.0**2)).astype(np.float32)
        peak = np.array([round(centre_x), round(centre_y)])
        config = KeypointConfig(subpixel=5, subpixel_strength=10.0)
        maximum = torch.from_numpy(peak)[None, None]
        refined = torch.from_numpy(peak) + soft_argmax(torch.from_numpy(scores)[None, None], maximum, config)[0, 0]
        window = scores[peak[1] - 2 : peak[1] + 3, peak[0] - 2 : peak[0] + 3].astype(np.float64)
        weights = np.exp(10 * window)
        weights /= weights.sum()
        offsets = np.arange(-2, 3)
        by_hand = peak + np.array([(weights.sum(0) * offsets).sum(), (weights.sum(1) * offsets).sum()])
        np.testing.assert_allclose(refined.numpy(), by_hand, atol=1e-4)
        error, whole = np.abs(refined.numpy() - [centre_x, centre_y]), np.abs(peak - [centre_x, centre_y])
        assert bool((error <= 0.65 * whole + 1e-3).all())
    on_grid = soft_argmax(torch.from_numpy(scores)[None, None], torch.tensor([[[3, 4]]]), KeypointConfig(subpixel=1))
    assert on_grid.tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize(("height", "sigma"), [(1.0, 0.5), (0.02, 0.7), (1e-4, 1.5)])
def test_a_fitted_peak_is_that_of_the_gaussian_however_low(height: float, sigma: float) -> None:
    y, x = torch.meshgrid(torch.arange(21.0), torch.arange(23.0), indexing="ij")
    for centre_x, centre_y in ((10.3, 9.8), (7.0, 12.0), (12.4, 11.6)):
        scores = height * torch.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * sigma**2))
        peak = torch.tensor([[[round(centre_x), round(centre_y)]]])
        found = fit_peaks(scores[None, None], peak)
        torch.testing.assert_close((peak + found.offsets)[0, 0], torch.tensor([centre_x, centre_y]), atol=1e-3, rtol=0)
        assert float(found.widths) == pytest.approx(sigma, rel=1e-3)
        beside = climb(scores[None, None], peak + torch.tensor([1, -1]))
        assert beside.tolist() == peak.tolist()


def test_what_has_no_peak_stays_where_it_is() -> None:
    slope = torch.arange(9.0)[None, None, None].expand(1, 1, 9, 9) + 1
    found = fit_peaks(slope, torch.tensor([[[4, 4], [0, 0]]]))
    assert found.offsets.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    assert bool((found.widths > 3).all())


def test_a_soft_argmax_carries_gradients_and_a_peak_fit_none() -> None:
    for refinement in ("soft-argmax", "peak-fit"):
        scores = torch.rand(1, 1, 20, 20, generator=seeded()).requires_grad_()
        maps = DetectorMaps(scores, torch.ones(1, 1, 20, 20), torch.ones(1, 2, 20, 20))
        config = KeypointConfig(refinement=refinement)
        keypoints = detect_keypoints(maps, torch.ones(1, 1, 20, 20, dtype=torch.bool), 5, config)
        assert keypoints.points.requires_grad == (refinement == "soft-argmax")
        assert not keypoints.sigmas.requires_grad
        if refinement == "soft-argmax":
            keypoints.points.sum().backward()
            assert scores.grad is not None
            assert float(scores.grad.abs().sum()) > 0


def test_keypoints_read_scale_and_orientation_at_their_pixel() -> None:
    scores = torch.zeros(1, 1, 20, 24)
    scores[0, 0, 7, 15] = 0.8
    scales = torch.rand(1, 1, 20, 24, generator=seeded())
    turns = torch.rand(1, 2, 20, 24, generator=seeded(1))
    usable = torch.ones(1, 1, 20, 24, dtype=torch.bool)
    found = detect_keypoints(DetectorMaps(scores, scales, turns), usable, 3, KeypointConfig())
    assert found.present.tolist() == [[True, False, False]]
    assert found.points[0, 0].tolist() == pytest.approx([15, 7], abs=1e-4)
    assert float(found.scales[0, 0]) == float(scales[0, 0, 7, 15])
    assert found.orientations[0, 0].tolist() == turns[0, :, 7, 15].tolist()


# --- patches ---


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


def test_best_angle_is_the_peak_of_a_parabola() -> None:
    logits = -((torch.arange(16.0) - 5.3) ** 2)
    angle = 5.3 * 2 * math.pi / 16
    torch.testing.assert_close(best_angles(logits), torch.tensor([math.cos(angle), math.sin(angle)]))
    torch.testing.assert_close(best_angles(torch.eye(16)[0]), torch.tensor([1.0, 0.0]))


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
    there = turned(features, directions)
    torch.testing.assert_close(there[0], features[0])
    torch.testing.assert_close(there[1], features[1].roll(-3, -1), atol=1e-5, rtol=0)
    expected = torch.stack([torch.cos(n * (angles + 0.77 - 0.3)) for n in (1, 2)])
    torch.testing.assert_close(there[2, :, 0], expected, atol=0.02, rtol=0)
    back = turned(there, directions * torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(back, features, atol=0.04, rtol=0)


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


def test_describe_agrees_with_extract_of_log_polar_patches(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    settings = ExtractionSettings(max_keypoints=300, octaves=(1.0, 0.5))
    features = lean_model.extract(camera[:201, :187], settings=settings)[0]
    assert {1, 2} == set(np.round(features.scales).astype(int))
    rows = lean_model.describe(camera[:201, :187], features.keypoints, features.scales, features.orientations)
    np.testing.assert_allclose(rows, features.descriptors, atol=2e-3)


def test_half_a_picture_shows_at_scale_1_what_the_picture_shows_at_scale_2(camera: NDArray[np.uint8]) -> None:
    """Inner rings too: at scale 2 they must not be sharper than those that training shows."""
    image = as_input(camera[:192, :192])
    points, scales = torch.tensor([[[100.5, 88.5], [70.5, 120.5]]]), torch.full((1, 2), 2.0)
    whole = sample_patches(make_mosaic(image, LOG_POLAR), points, scales, upright(points), LOG_POLAR)
    half = sample_patches(
        make_mosaic(halve(image), LOG_POLAR), (points + 0.5) / 2 - 0.5, scales / 2, upright(points), LOG_POLAR
    )
    torch.testing.assert_close(whole, half, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (61, 33), (200, 255)])
def test_lean_extraction_of_any_size(lean_model: LFNet, camera: NDArray[np.uint8], size: tuple[int, int]) -> None:
    picture = camera[: size[0], : size[1]]
    features = lean_model.extract(picture, settings=ExtractionSettings(octaves=(0.25, 1.0, 2.0, 0.5), border=2))[0]
    assert features.image_size == (size[1], size[0])
    assert features.sigmas is not None
    assert len(features.sigmas) == len(features)
    inside = (features.keypoints >= -0.5).all() and (features.keypoints <= np.array([size[1], size[0]]) - 0.5).all()
    assert bool(inside)
    blank = lean_model.extract(np.full(size, 90, np.uint8))[0]
    assert len(blank) == 0
    assert blank.sigmas is not None


@pytest.mark.parametrize("count", [1, 2])
def test_octaves_without_a_chosen_keypoint(
    tiny_model: LFNet, lean_model: LFNet, camera: NDArray[np.uint8], count: int
) -> None:
    settings = ExtractionSettings(max_keypoints=count, octaves=(1.0, 0.7, 0.5, 0.25))
    for model in (tiny_model, lean_model):
        features = model.extract(camera, settings=settings)[0]
        assert len(features) == count
        np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)


def test_lean_extraction_in_batches_and_with_masks(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    mask = np.ones((120, 140), bool)
    mask[:, :70] = False
    pictures = [camera[:120, :140], camera[60:180, 60:200]]
    together = lean_model.extract(pictures, mask=[mask, None])
    alone = [lean_model.extract([picture], mask=[m])[0] for picture, m in zip(pictures, (mask, None), strict=True)]
    for first, second in zip(together, alone, strict=True):
        # Equal scores may change places.
        orders = [np.lexsort(each.keypoints.round(2).T) for each in (first, second)]
        np.testing.assert_allclose(first.keypoints[orders[0]], second.keypoints[orders[1]], atol=1e-2)
        np.testing.assert_allclose(first.descriptors[orders[0]], second.descriptors[orders[1]], atol=1e-2)
    assert together[0].keypoints[:, 0].min() > 70
    level = lean_model.extract(pictures[0], settings=ExtractionSettings(upright=True))[0]
    assert bool((level.orientations == 0).all())


def test_features_turn_with_the_picture(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    """By a quarter: at the same places descriptors are the same, and orientations a quarter further."""
    model = copy.deepcopy(lean_model)
    model.detector = BlobDetector()  # type: ignore[assignment]
    picture = camera[:192, :192]
    settings = ExtractionSettings(max_keypoints=200, octaves=(1.0, 0.5), once=False)
    before = model.extract(picture, settings=settings)[0]
    after = model.extract(np.ascontiguousarray(np.rot90(picture, -1)), settings=settings)[0]
    there = np.column_stack((191 - before.keypoints[:, 1], before.keypoints[:, 0]))
    distances = np.linalg.norm(there[:, None] - after.keypoints[None], axis=-1)
    distances[before.scales[:, None] != after.scales[None]] = 99
    rows, columns = np.nonzero(distances < 0.05)
    assert len(rows) > 20
    turned = np.exp(1j * (after.orientations[columns] - before.orientations[rows] - math.pi / 2))
    assert np.quantile(np.abs(turned - 1), 0.9) < 0.05
    cosines = (after.descriptors[columns] * before.descriptors[rows]).sum(1)
    assert np.quantile(cosines, 0.1) > 0.99


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


# --- the gradient orientation ---


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


# --- inputs ---


def test_pictures_are_normalized_over_valid_pixels(camera: NDArray[np.uint8]) -> None:
    image = torch.from_numpy(camera[:80, :90].copy())[None, None].float() / 255
    valid = everywhere(image)
    valid[..., :20, :30] = False
    normal = normalize_pictures(image, valid)
    assert float(normal[valid].mean()) == pytest.approx(0, abs=1e-5)
    assert float(normal[valid].std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert bool((normal[~valid] == 0).all())
    torch.testing.assert_close(normalize_pictures(0.5 * image + 0.2, valid), normal, atol=1e-4, rtol=0)


def test_a_resized_picture_keeps_places() -> None:
    """A blob at (x, y) is at (x + 0.5) r - 0.5 in the octave of exact ratio r."""
    y, x = np.mgrid[0:121, 0:163].astype(np.float32)
    image = torch.from_numpy(np.exp(-((x - 70.4) ** 2 + (y - 51.9) ** 2) / 128))[None, None]
    for octave in (0.5, 0.25, 1.5):
        small, _, ratio = resize_to_octave(image, everywhere(image), octave)
        weights = small[0, 0].numpy().astype(np.float64)
        v, u = np.mgrid[0 : small.shape[-2], 0 : small.shape[-1]]
        centre = np.array([(weights * u).sum(), (weights * v).sum()]) / weights.sum()
        np.testing.assert_allclose((centre + 0.5) / ratio - 0.5, [70.4, 51.9], atol=0.05)


def test_what_counts_as_a_picture(camera: NDArray[np.uint8]) -> None:
    grey, usable = picture_tensor(camera, None)
    assert grey.shape == (1, 256, 256)
    assert bool(usable.all())
    colour = np.stack((camera, camera // 2, camera // 3), -1)
    expected = 0.299 * colour[..., 0] / 255 + 0.587 * colour[..., 1] / 255 + 0.114 * colour[..., 2] / 255
    np.testing.assert_allclose(picture_tensor(colour, None)[0][0].numpy(), expected, atol=1e-5)
    wide, _ = picture_tensor((camera.astype(np.uint16) * 257), None)
    torch.testing.assert_close(wide, grey)
    of_12_bits = (np.arange(300, dtype=np.uint16) * 13).reshape(10, 10, 3)
    for picture in (colour, of_12_bits, of_12_bits[..., 0], of_12_bits // 40, colour.astype(np.float32) / 255):
        np.testing.assert_allclose(picture_tensor(picture, None)[0][0].numpy(), to_grey(picture), atol=1e-6)
    for bad, message in (
        (np.zeros((4, 5, 6, 7), np.uint8), "expected \\(H, W\\)"),
        (np.zeros((20, 0), np.uint8), "expected \\(H, W\\)"),
        (np.zeros((20, 20), np.int64), "expected uint8"),
        (np.full((20, 20), np.nan, np.float32), "NaN"),
        (np.full((20, 20), np.inf, np.float32), "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            picture_tensor(bad, None)
    with pytest.raises(ValueError, match="size of its picture"):
        picture_tensor(camera, np.ones((10, 10), bool))


# --- extraction ---


def assert_same_features(first: Features, second: Features, tolerance: float = 1e-4) -> None:
    assert len(first) == len(second)
    for name in ("keypoints", "scales", "scores", "descriptors"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=tolerance, rtol=tolerance)
    turn = np.angle(np.exp(1j * (first.orientations - second.orientations)))
    assert np.abs(turn).max() < 1e-3


def test_a_batch_gives_the_same_as_one_at_a_time(
    tiny_model: LFNet, camera: NDArray[np.uint8], coffee: NDArray[np.uint8]
) -> None:
    pictures = [camera[:150, :130], coffee, camera[100:250, 120:250], camera[:64, :64]]
    together = tiny_model.extract(pictures, settings=ExtractionSettings(max_keypoints=150))
    for picture, features in zip(pictures, together, strict=True):
        alone = tiny_model.extract([picture], settings=ExtractionSettings(max_keypoints=150))[0]
        assert len(alone) > 0
        assert alone.image_size == (picture.shape[1], picture.shape[0])
        assert_same_features(features, alone)


def test_extraction_of_a_tensor_an_array_and_a_list_agree(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    crop = camera[:120, :140]
    expected = tiny_model.extract(crop)[0]
    tensor = torch.from_numpy(crop)[None, None].float() / 255
    for images in ([crop], tensor, crop.astype(np.float32) / 255, np.repeat(crop[..., None], 3, -1), tensor[0]):
        assert_same_features(tiny_model.extract(images)[0], expected)
    assert tiny_model.extract([]) == []


def test_inputs_that_could_be_one_picture_or_several_are_refused(
    tiny_model: LFNet, camera: NDArray[np.uint8]
) -> None:
    rgba = np.repeat(camera[..., None], 4, -1)
    for images in (rgba, torch.from_numpy(rgba[..., :3].copy()), rgba[..., :2], np.moveaxis(rgba[..., :3], -1, 0)):
        with pytest.raises(ValueError, match="could be one picture or several"):
            tiny_model.extract(images)
    with pytest.raises(ValueError, match="expected an array or a tensor, got str"):
        tiny_model.extract(["a.jpg"])
    with pytest.raises(ValueError, match="size of its picture"):
        tiny_model.extract([camera], mask=[np.ones((*camera.shape, 1), bool)])
    with pytest.raises(ValueError, match="scales above 0"):
        tiny_model.describe(camera, np.array([[30.0, 30.0]]), scales=np.array([0.0]))
    assert tiny_model.describe(camera, np.array([])).shape == (0, 64)


def test_features_are_what_they_claim(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    features = tiny_model.extract(camera, settings=ExtractionSettings(max_keypoints=90))[0]
    assert len(features) == 90
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    assert bool((np.diff(features.scores) <= 0).all())
    assert features.scores.max() <= 1
    border = tiny_model.config.keypoints.border
    reach = tiny_model.config.keypoints.subpixel // 2
    assert features.keypoints.min() >= border - reach
    assert features.keypoints.max() <= 255 - border + reach
    assert len(tiny_model.extract(camera, settings=ExtractionSettings(max_keypoints=10))[0]) == 10
    best = features.scores[20]
    good = tiny_model.extract(camera, settings=ExtractionSettings(max_keypoints=90, min_score=float(best)))[0]
    assert len(good) == 21


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


def test_contrast_is_the_local_deviation(camera: NDArray[np.uint8]) -> None:
    image = as_input(camera[:101, :90])
    by_hand = (gaussian_blur(image.square(), 5.0) - gaussian_blur(image, 5.0).square()).clamp_min(0).sqrt().clamp_max(1)
    found = local_contrast(image)
    assert found.shape == image.shape
    inside = (found - by_hand)[..., 15:-15, 15:-15].abs()
    assert float(inside.mean()) < 0.05
    flat = torch.zeros(1, 1, 64, 64)
    flat[..., :, :20] = torch.randn(64, 20, generator=seeded())
    assert float(local_contrast(flat)[..., 50:].max()) < 0.05 < float(local_contrast(flat)[..., 5].min())


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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_extracts_what_the_cpu_does(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    settings = ExtractionSettings(max_keypoints=100)
    here = tiny_model.extract([camera, camera[:100, :120]], settings=settings)
    there = copy.deepcopy(tiny_model).cuda().extract([camera, camera[:100, :120]], settings=settings)
    for first, second in zip(here, there, strict=True):
        distances = np.linalg.norm(first.keypoints[:, None] - second.keypoints[None], axis=-1)
        near, nearest = distances.min(1) < 0.05, distances.argmin(1)
        assert near.mean() > 0.95
        np.testing.assert_allclose(first.descriptors[near], second.descriptors[nearest[near]], atol=0.02)


def test_extraction_leaves_the_mode_of_the_model_alone(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    model = LFNet(tiny_model.config)
    model.load_state_dict(tiny_model.state_dict())
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = model.extract(camera[:100, :100])[0]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert_same_features(features, tiny_model.extract(camera[:100, :100])[0])


def test_masked_places_have_no_keypoints_and_no_say(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    mask = np.ones(camera.shape, bool)
    mask[60:140, 100:220] = False
    features = tiny_model.extract(camera, mask=mask)[0]
    border = tiny_model.config.keypoints.border
    x, y = features.keypoints.round().astype(int).T
    reach = border - tiny_model.config.keypoints.subpixel // 2
    near = (x > 100 - reach) & (x < 219 + reach) & (y > 60 - reach) & (y < 139 + reach)
    assert len(features) > 50
    assert not near.any()
    scribbled = camera.copy()
    scribbled[~mask] = np.random.default_rng(0).integers(0, 256, int((~mask).sum()))
    again = tiny_model.extract([scribbled], mask=[mask])[0]
    np.testing.assert_allclose(again.keypoints, features.keypoints, atol=1e-4)
    np.testing.assert_allclose(again.descriptors, features.descriptors, atol=1e-4)
    assert len(tiny_model.extract(camera, mask=np.zeros_like(mask))[0]) == 0
    with pytest.raises(ValueError, match="one per picture"):
        tiny_model.extract([camera], mask=[mask, mask])


def test_upright_and_single_scale(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    crop = camera[:160, :160]
    free = tiny_model.extract(crop)[0]
    assert free.orientations.std() > 0.3
    assert free.scales.std() > 0.01
    level = tiny_model.extract(crop, settings=ExtractionSettings(upright=True))[0]
    assert bool((level.orientations == 0).all())
    np.testing.assert_array_equal(level.keypoints, free.keypoints)
    np.testing.assert_array_equal(level.scales, free.scales)
    assert np.abs(level.descriptors - free.descriptors).max() > 0.01
    alike = tiny_model.extract(crop, settings=ExtractionSettings(single_scale=True, octaves=(1.0, 0.5)))[0]
    assert set(np.round(alike.scales, 5)) == {1.0, 2.0}


def test_the_border_is_a_setting(tiny_model: LFNet) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100)).astype(np.uint8)
    near = tiny_model.extract(noise, settings=ExtractionSettings(border=1))[0].keypoints
    far = tiny_model.extract(noise, settings=ExtractionSettings(border=30))[0].keypoints
    assert near.min() < 8
    assert far.min() >= 28
    assert far.max() <= 71


class BlobDetector(torch.nn.Module):
    """Brightness as score, so that keypoints lie on blobs in every octave."""

    def forward(self, images: Tensor, valid: Tensor) -> DetectorMaps:
        scores = torch.sigmoid(images - 6) * valid
        turns = torch.zeros(len(images), 2, *images.shape[-2:])
        turns[:, 0] = 1
        return DetectorMaps(scores, torch.ones_like(scores), turns)


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


def test_blank_and_tiny_pictures(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    assert len(tiny_model.extract(camera[:64, :64])[0]) > 0
    blank = [np.full((80, 90), level, np.uint8) for level in (0, 97, 255)]
    thin = [camera[:, :1], camera[:1, :], camera[:5, :200], camera[:1, :1]]
    for features in tiny_model.extract(blank + thin):
        assert len(features) == 0
        assert features.descriptors.shape == (0, 64)


def test_a_picture_with_nan_is_refused(tiny_model: LFNet) -> None:
    picture = np.random.default_rng(0).random((80, 80), dtype=np.float32)
    picture[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        tiny_model.extract(picture)


# --- describing ---


def test_describe_agrees_with_extract(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    features = tiny_model.extract(camera, settings=ExtractionSettings(max_keypoints=200))[0]
    rows = tiny_model.describe(camera, features.keypoints, features.scales, features.orientations)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, features.descriptors, atol=1e-4)
    moved = tiny_model.describe(camera, features.keypoints + 3, features.scales, features.orientations)
    assert np.abs(moved - features.descriptors).max() > 0.05


def test_describe_agrees_with_extract_in_coarse_octaves(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    """A scale on the limit of two octaves may have come from either; all others tell their octave."""
    for octave in (0.5, 0.25):
        features = tiny_model.extract(camera, settings=ExtractionSettings(octaves=(octave,)))[0]
        rows = tiny_model.describe(camera, features.keypoints, features.scales, features.orientations)
        clear = features.scales * octave > tiny_model.config.scale_space.values()[0] * 1.01
        assert int(clear.sum()) >= 10
        np.testing.assert_allclose(rows[clear], features.descriptors[clear], atol=1e-4)


def test_describe_checks_what_it_gets(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    assert tiny_model.describe(camera, np.zeros((0, 2), np.float32)).shape == (0, 64)
    point = np.array([[100.0, 90.0]], np.float32)
    plain = tiny_model.describe(camera, point)
    np.testing.assert_array_equal(plain, tiny_model.describe(camera, point, np.ones(1), np.zeros(1)))
    assert np.abs(plain - tiny_model.describe(camera, point, np.ones(1), np.ones(1))).max() > 0.01
    for arguments in ((np.zeros((3, 3)),), (np.zeros((3, 2)), np.ones(2)), (np.zeros((3, 2)), np.ones(3), np.ones(1))):
        with pytest.raises(ValueError, match="expected keypoints"):
            tiny_model.describe(camera, *arguments)


# --- weights ---


def test_weights_round_trip(tiny_model: LFNet, tmp_path: Path, camera: NDArray[np.uint8]) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    save_weights(path, tiny_model, {"licence": "Apache-2.0", "steps": 12})
    loaded = load_weights(path)
    assert not loaded.training
    assert loaded.config == tiny_model.config
    expected = tiny_model.extract(camera[:90, :90])[0]
    assert_same_features(loaded.extract(camera[:90, :90])[0], expected, 0)
    assert_same_features(LFNet.from_pretrained(path).extract(camera[:90, :90])[0], expected, 0)
    header = describe_weights(path)
    assert header["card"] == {"licence": "Apache-2.0", "steps": 12}
    assert header["config"] == json.loads(json.dumps(config_to_dict(tiny_model.config)))
    assert header["parameters"] == sum(p.numel() for p in tiny_model.parameters())
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]


def rewrite_header(source: Path, target: Path, change: dict[str, str]) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(str(source), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        save_file(tensors, str(target), metadata={**(file.metadata() or {}), **change})


def test_weights_that_do_not_fit_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    config = describe_weights(tiny_weights)["config"]
    path = tmp_path / "changed.safetensors"

    rewrite_header(tiny_weights, path, {"config": json.dumps({**config, "colour": True})})
    with pytest.raises(WeightsError, match="unknown setting colour"):
        load_weights(path)

    wider = {**config, "detector": {**config["detector"], "channels": 6}}
    rewrite_header(tiny_weights, path, {"config": json.dumps(wider)})
    with pytest.raises(WeightsError, match="another configuration"):
        load_weights(path)

    deeper = {**config, "detector": {**config["detector"], "blocks": 2}}
    rewrite_header(tiny_weights, path, {"config": json.dumps(deeper)})
    with pytest.raises(WeightsError, match="another configuration"):
        load_weights(path)

    rewrite_header(tiny_weights, path, {"format": "other"})
    with pytest.raises(WeightsError, match="expected format"):
        load_weights(path)


def test_damaged_weights_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    whole = tiny_weights.read_bytes()
    path = tmp_path / "damaged.safetensors"
    for content in (whole[: len(whole) // 2], whole[:20], b"", b"text named .safetensors\n" * 9):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged\.safetensors: cannot be read"):
            load_weights(path)
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(tmp_path / "missing.safetensors")
    with pytest.raises(WeightsError, match="no such file, nor weights of that name"):
        load_weights("no-such-name")


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def test_loading_never_unpickles(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights(path)
    torch.save({"bomb": Bomb(marker)}, path)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights(path)
    assert not marker.exists()
