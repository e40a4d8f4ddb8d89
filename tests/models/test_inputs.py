"""What counts as a picture, and what becomes of it before the network sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.geometry.filters import gaussian_blur
from lfnet.images import to_grey
from lfnet.models.config import ExtractionSettings
from lfnet.models.inputs import local_contrast, normalize_pictures, picture_tensor, resize_to_octave
from lfnet.models.lfnet import LFNet
from lfnet.settings import ConfigError
from support.networks import tiny_config
from support.tensors import as_input, everywhere, seeded


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


def test_inputs_that_could_be_one_picture_or_several_are_refused(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
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


def test_the_edge_of_a_mask_is_no_contrast() -> None:
    """Flat beside a mask stays flat, and is as with no mask."""
    picture = torch.ones(1, 1, 96, 96)
    picture[..., :30] = torch.rand(96, 30, generator=seeded())
    masked = everywhere(picture)
    masked[..., 80:] = False
    whole, hidden = (
        local_contrast(normalize_pictures(picture, valid), valid)[0, 0, 48]
        for valid in (everywhere(picture), masked)
    )
    assert float(hidden[68:80].max()) < 0.02
    assert float(hidden[5]) > 0.5
    torch.testing.assert_close(hidden[:60] / hidden[5], whole[:60] / whole[5], atol=0.05, rtol=0)


def test_contrast_is_the_local_deviation(camera: NDArray[np.uint8]) -> None:
    image = as_input(camera[:101, :90])
    by_hand = (gaussian_blur(image.square(), 5.0) - gaussian_blur(image, 5.0).square()).clamp_min(0).sqrt().clamp_max(1)
    found = local_contrast(image, everywhere(image))
    assert found.shape == image.shape
    inside = (found - by_hand)[..., 15:-15, 15:-15].abs()
    assert float(inside.mean()) < 0.05
    flat = torch.zeros(1, 1, 64, 64)
    flat[..., :, :20] = torch.randn(64, 20, generator=seeded())
    found = local_contrast(flat, everywhere(flat))
    assert float(found[..., 50:].max()) < 0.05 < float(found[..., 5].min())


@pytest.mark.parametrize(
    "settings", [{"max_keypoints": 0}, {"min_score": 2.0}, {"border": -1}, {"octaves": ()}, {"octaves": (9.0,)}]
)
def test_impossible_extraction_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        ExtractionSettings(**settings)


def test_masks_as_one_tensor_are_one_a_picture(camera: NDArray[np.uint8]) -> None:
    model = LFNet(tiny_config()).eval()
    pictures = [camera[:96, :96]] * 3
    masks = torch.ones(3, 96, 96, dtype=torch.uint8)
    masks[1] = 0
    found = model.extract(pictures, mask=masks)
    assert len(found[1]) == 0
    assert len(found[0]) == len(found[2]) > 0


def test_sixteen_bits_are_the_same_as_array_and_tensor(camera: NDArray[np.uint8]) -> None:
    model = LFNet(tiny_config()).eval()
    wide = camera[:96, :96].astype(np.uint16) * 257
    array, tensor, bytes_ = (
        model.extract([picture])[0] for picture in (wide, torch.from_numpy(wide), camera[:96, :96])
    )
    assert np.array_equal(array.keypoints, tensor.keypoints)
    assert np.allclose(array.keypoints, bytes_.keypoints, atol=1e-3)


@pytest.mark.parametrize("name", ["keypoints", "scales", "orientations"])
def test_describe_refuses_nan(camera: NDArray[np.uint8], name: str) -> None:
    values = {"keypoints": np.full((1, 2), 40.0), "scales": np.ones(1), "orientations": np.zeros(1)}
    values[name] = values[name] * np.nan
    with pytest.raises(ValueError, match=name):
        LFNet(tiny_config()).describe(camera[:96, :96], **values)
