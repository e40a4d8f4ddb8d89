"""The whole network, as a user calls it: extraction and describing."""

from __future__ import annotations

import copy
import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.errors import UserError
from lfnet.models.config import (
    ExtractionSettings,
    OrientationConfig,
    PatchConfig,
)
from lfnet.models.lfnet import LFNet
from lfnet.models.orientation import surest
from support.made_features import assert_same_features
from support.networks import BlobDetector, chances_config
from support.tensors import as_input


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


def test_describe_agrees_with_extract_of_log_polar_patches(lean_model: LFNet, camera: NDArray[np.uint8]) -> None:
    settings = ExtractionSettings(max_keypoints=300, octaves=(1.0, 0.5))
    features = lean_model.extract(camera[:201, :187], settings=settings)[0]
    assert {1, 2} == set(np.round(features.scales).astype(int))
    rows = lean_model.describe(camera[:201, :187], features.keypoints, features.scales, features.orientations)
    np.testing.assert_allclose(rows, features.descriptors, atol=2e-3)


def chances_model() -> LFNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LFNet(chances_config()).eval()


def test_describe_agrees_with_extract_where_features_are_turned_by_chances(camera: NDArray[np.uint8]) -> None:
    """The network's own orientations are described by all angles, as in extraction; another one by itself."""
    model = chances_model()
    features = model.extract(camera[:201, :187], settings=ExtractionSettings(max_keypoints=100))[0]
    given = (camera[:201, :187], features.keypoints, features.scales)
    np.testing.assert_allclose(model.describe(*given, features.orientations), features.descriptors, atol=2e-3)
    other = model.describe(*given, features.orientations + 0.5)
    assert np.abs(other - features.descriptors).max() > 0.02


def test_keypoints_are_chosen_by_how_sure_their_orientation_is(camera: NDArray[np.uint8]) -> None:
    """Of half as many more than are wanted, the best by score times chance are kept, in this order."""
    model = chances_model()
    plain = LFNet(dataclasses.replace(model.config, orientation_preference=0.0)).eval()
    plain.load_state_dict(model.state_dict())
    picture, settings = camera[:201, :187], ExtractionSettings(max_keypoints=60, octaves=(1.0,))
    looked_at = plain.extract(picture, settings=dataclasses.replace(settings, max_keypoints=90))[0]
    places = torch.from_numpy(looked_at.keypoints)[None]
    with torch.no_grad():
        mosaic = model.mosaic(as_input(picture))
        logits = model.orientation_logits(mosaic, places, torch.from_numpy(looked_at.scales)[None])[0]
    expected = looked_at.scores * surest(logits).numpy()
    best = np.argsort(-expected, kind="stable")[:60]
    features = model.extract(picture, settings=settings)[0]
    np.testing.assert_allclose(features.scores, expected[best], rtol=1e-4)
    np.testing.assert_array_equal(features.keypoints, looked_at.keypoints[best])
    assert not np.array_equal(features.keypoints, looked_at.keypoints[:60])
    level = model.extract(picture, settings=dataclasses.replace(settings, upright=True))[0]
    np.testing.assert_array_equal(level.keypoints, looked_at.keypoints[:60])


def test_upright_descriptors_know_one_angle_whatever_the_network_reads(camera: NDArray[np.uint8]) -> None:
    """Where its own angle happens to be level, too."""
    model = chances_model()
    best = LFNet(dataclasses.replace(model.config, orientation=OrientationConfig(mode="shared", hidden=8))).eval()
    best.load_state_dict(model.state_dict())
    level = ExtractionSettings(max_keypoints=80, upright=True)
    with mock.patch.object(model.descriptor, "angle_scores", lambda features: 9 * torch.eye(16)[[0] * len(features)]):
        features = model.extract(camera[:201, :187], settings=level)[0]
    expected = best.extract(camera[:201, :187], settings=level)[0]
    np.testing.assert_allclose(features.descriptors, expected.descriptors, atol=1e-5)


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


def test_threads_share_a_model_that_trains(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    model = copy.deepcopy(tiny_model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = tiny_model.extract(camera[:90, :100])[0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model.extract(camera[:90, :100])[0], range(12)))
    for features in found:
        assert_same_features(features, expected)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_are_refused(
    tiny_model: LFNet, camera: NDArray[np.uint8], kind: torch.dtype
) -> None:
    model = copy.deepcopy(tiny_model).to(kind)
    with pytest.raises(UserError, match="float32"):
        model.extract(camera[:64, :64])
    with pytest.raises(UserError, match="float32"):
        model.describe(camera[:64, :64], np.array([[30.0, 30.0]]))


def test_descriptors_of_bfloat16_match_as_those_of_float32(camera: NDArray[np.uint8]) -> None:
    """Of the shipped weights: nearly the same places, for the chance of an orientation has a say in which are kept;
    there nearly the same orientations, and each its own nearest neighbour."""
    model = LFNet.from_pretrained("lfnet-lean")
    exact, short = (
        model.extract(camera, settings=ExtractionSettings(max_keypoints=400, precision=kind))[0]
        for kind in ("float32", "bfloat16")
    )
    row = {tuple(place): number for number, place in enumerate(exact.keypoints)}
    both = [(number, row[tuple(place)]) for number, place in enumerate(short.keypoints) if tuple(place) in row]
    assert len(both) > 0.97 * len(exact)
    mine, theirs = np.array(both).T
    turns = np.abs(np.exp(1j * (short.orientations[mine] - exact.orientations[theirs])) - 1)
    assert np.mean(turns < 0.1) > 0.97
    nearest = (short.descriptors[mine] @ exact.descriptors.T).argmax(1)
    assert np.mean(nearest == theirs) > 0.97


@pytest.mark.parametrize("kind", ["tiny", "lean"])
def test_forward_says_what_extraction_says(
    tiny_model: LFNet, lean_model: LFNet, camera: NDArray[np.uint8], kind: str
) -> None:
    model = {"tiny": tiny_model, "lean": lean_model}[kind]
    settings = ExtractionSettings(max_keypoints=60, octaves=(1.0, 0.5))
    pictures = [camera[:96, :120], np.where(np.arange(120) < 70, camera[60:156, 40:160], 128).astype(np.uint8)]
    images = torch.stack([torch.from_numpy(picture.copy())[None].float() / 255 for picture in pictures])
    with torch.no_grad():
        keypoints, descriptors = model(images, settings=settings)
    expected = model.extract(pictures, settings=settings)
    assert descriptors.shape == (2, max(map(len, expected)), model.config.descriptor.dimension)
    for index, features in enumerate(expected):
        count = len(features)
        assert keypoints.present[index].tolist() == [n < count for n in range(descriptors.shape[1])]
        np.testing.assert_allclose(keypoints.points[index, :count].numpy(), features.keypoints, atol=1e-4)
        np.testing.assert_allclose(descriptors[index, :count].numpy(), features.descriptors, atol=1e-4)
        assert float(descriptors[index, count:].abs().sum()) == 0


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
