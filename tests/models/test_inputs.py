"""What counts as a picture, and what becomes of it before the network sees it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lfnet.errors import UserError
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
        (np.zeros((4, 5, 6, 7), np.uint8), "expected shape \\(H, W\\)"),
        (np.zeros((20, 0), np.uint8), "expected shape \\(H, W\\)"),
        (np.zeros((20, 20), np.int64), "expected uint8"),
        (np.full((20, 20), np.nan, np.float32), "NaN"),
        (np.full((20, 20), np.inf, np.float32), "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            picture_tensor(bad, None)
    with pytest.raises(ValueError, match="size of its image"):
        picture_tensor(camera, np.ones((10, 10), bool))


def test_inputs_that_could_be_one_picture_or_several_are_refused(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    rgba = np.repeat(camera[..., None], 4, -1)
    for images in (rgba, torch.from_numpy(rgba[..., :3].copy()), rgba[..., :2], np.moveaxis(rgba[..., :3], -1, 0)):
        with pytest.raises(ValueError, match="three axes are one image"):
            tiny_model.extract(images)
    with pytest.raises(ValueError, match="expected an array or a tensor, got str"):
        tiny_model.extract(["a.jpg"])
    with pytest.raises(ValueError, match="size of its image"):
        tiny_model.extract([camera], mask=[np.ones((*camera.shape[::-1], 1), bool)[1:]])
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


def test_an_image_is_the_same_however_it_lies_in_memory(tiny_model: LFNet, coffee: NDArray[np.uint8]) -> None:
    """Turned strides, the other byte order, read-only, wider floats, Pillow's: one image, one list of keypoints."""
    colour = coffee[:120, :120]
    expected = tiny_model.extract(colour.copy())[0]
    locked = colour.copy()
    locked.setflags(write=False)
    backwards = colour[::-1, ::-1].copy()[::-1, ::-1]
    wide = (colour / 255).astype(">f8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (locked, backwards, np.asfortranarray(colour), wide, Image.fromarray(colour.copy())):
            found = tiny_model.extract(image)[0]
            np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-3)
        both = tiny_model.extract([Image.fromarray(colour[..., 0].copy()), colour[..., :1]])
    assert len(both[0]) > 20
    assert np.array_equal(both[0].keypoints, both[1].keypoints)
    swapped = (colour[..., 0].astype(np.uint16) * 257).astype(">u2")
    np.testing.assert_allclose(tiny_model.extract(swapped)[0].keypoints, both[0].keypoints, atol=1e-3)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_three_axes_of_a_tensor_are_colours_whatever_their_number(tiny_model: LFNet, count: int) -> None:
    images = torch.rand(count, 64, 64, generator=seeded())
    if count == 3:
        assert len(tiny_model.extract(images)) == 1
    else:
        with pytest.raises(UserError, match=r"three axes are one image.*give several as a list, or with four axes"):
            tiny_model.extract(images)
    assert len(tiny_model.extract(images[:, None])) == count


def test_what_is_no_image_is_one_line(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    for nothing in (None, [None]):
        with pytest.raises(UserError, match=r"got None, which is what cv2\.imread gives"):
            tiny_model.extract(nothing)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="cv2"):
        tiny_model.describe(None, np.zeros((1, 2)))  # type: ignore[arg-type]
    for other in (7, "a.jpg", np.zeros((8, 8), object), np.zeros((8, 8), bool), np.zeros(())):
        with pytest.raises(UserError, match="image: expected"):
            tiny_model.extract(other)  # type: ignore[arg-type]


def test_masks_of_every_kind(camera: NDArray[np.uint8]) -> None:
    left = np.zeros(camera.shape, bool)
    left[:, :128] = True
    coloured = np.zeros((*camera.shape, 3), np.uint8)
    coloured[..., 2] = left
    kinds = (left, left[..., None], left[None], left.astype(">i4"), left * 1e-3, coloured, torch.from_numpy(left))
    for mask in (*kinds, Image.fromarray(left), left[:, ::-1].copy()[:, ::-1]):
        usable = picture_tensor(camera, mask)[1]
        assert np.array_equal(usable[0].numpy(), left)
    unsure = np.where(left, np.nan, 0.0)
    for wrong, message in ((unsure, "holds NaN"), (left[1:], "size of its image"), (np.array(None), "of object")):
        with pytest.raises(UserError, match=message):
            picture_tensor(camera, wrong)


def test_one_mask_of_three_axes_is_that_of_one_image(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    mask = np.zeros((96, 96, 1), np.uint8)
    mask[:, 48:] = 1
    found = tiny_model.extract(camera[:96, :96], mask=mask)[0]
    assert found.keypoints[:, 0].min() > 47
