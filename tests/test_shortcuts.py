"""`lfnet.extract` and `lfnet.match`, as a newcomer types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import lfnet
from lfnet.models.weights import save_weights
from support.networks import lean_config


def same(a: lfnet.Features, b: lfnet.Features) -> bool:
    return np.array_equal(a.keypoints, b.keypoints) and np.array_equal(a.descriptors, b.descriptors)


def test_a_path_an_array_and_a_picture_of_pillow_are_the_same(folder: Path, tiny_weights: Path) -> None:
    path = folder / "coffee.jpg"
    from_path = lfnet.extract(path, tiny_weights)
    assert len(from_path) > 50
    assert from_path.image_size == (300, 200)
    with Image.open(path) as picture:
        assert same(from_path, lfnet.extract(picture, tiny_weights))
        assert same(from_path, lfnet.extract(np.asarray(picture), tiny_weights))
        assert same(from_path, lfnet.extract(str(path), lfnet.LFNet.from_pretrained(tiny_weights)))


def test_larger_pictures_are_worked_at_smaller(camera: NDArray[np.uint8], tiny_weights: Path) -> None:
    large = camera.repeat(4, 0).repeat(4, 1)
    mask = np.zeros((1024, 1024), bool)
    mask[:, 512:] = True
    found = lfnet.extract(large, tiny_weights, resize=256, mask=mask, max_keypoints=40)
    assert 0 < len(found) <= 40
    assert found.image_size == (1024, 1024)
    assert found.keypoints[:, 0].min() > 512
    alone = lfnet.extract(camera, tiny_weights, mask=mask[::4, ::4], max_keypoints=40)
    assert np.allclose(found.keypoints, alone.resized((1024, 1024)).keypoints, atol=1e-2)


def test_tiles_find_what_the_whole_picture_has(folder: Path, tiny_weights: Path) -> None:
    path, mask = folder / "coffee.jpg", np.ones((200, 300), bool)
    mask[:, :100] = False
    whole = lfnet.extract(path, tiny_weights, mask=mask, max_keypoints=40)
    with Image.open(path) as picture:
        for given in (path, str(path), picture, np.asarray(picture)):
            tiled = lfnet.extract(given, tiny_weights, mask=mask, max_keypoints=40, tile=96)
            apart = np.linalg.norm(tiled.keypoints[:, None] - whole.keypoints[None], axis=-1)
            assert len(tiled) == len(whole) == 40
            assert apart.min(0).max() < 1e-2
    with pytest.raises(ValueError, match="leave exif_rotate or tile out"):
        lfnet.extract(path, tiny_weights, exif_rotate=True, tile=96)


def test_weights_that_are_written_again_are_read_again(camera: NDArray[np.uint8], tmp_path: Path) -> None:
    import torch

    path = tmp_path / "own.safetensors"
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        networks.append(lfnet.LFNet(lean_config()).eval())
        save_weights(path, networks[-1].config, networks[-1].state_dict())
        assert same(lfnet.extract(camera, path), networks[-1].extract(camera)[0])
    assert not same(networks[0].extract(camera)[0], lfnet.extract(camera, path))


def test_what_is_no_picture_is_said(camera: NDArray[np.uint8], tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"got list; several pictures: LFNet\.extract"):
        lfnet.extract([camera], tiny_weights)
    with pytest.raises(lfnet.ImageError, match=r"none\.jpg"):
        lfnet.extract(tmp_path / "none.jpg", tiny_weights)
    with pytest.raises(ValueError, match=r"mask: expected the size of its image \(256, 256\)"):
        lfnet.extract(camera, tiny_weights, mask=np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"got None, which is what cv2\.imread gives"):
        lfnet.extract(None, tiny_weights)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode I;16 has no known range"):
        lfnet.extract(Image.fromarray(camera.astype(np.uint16) * 256), tiny_weights)


def test_two_views_of_one_picture_match(camera: NDArray[np.uint8]) -> None:
    if "lfnet-cpu" not in lfnet.list_pretrained():
        pytest.skip("the package has no weights lfnet-cpu")
    turned = np.ascontiguousarray(np.rot90(camera))
    a, b = (lfnet.extract(picture, "lfnet-cpu", max_keypoints=300) for picture in (camera, turned))
    matches = lfnet.match(a, b)
    verified = lfnet.match(a, b, geometry="homography")
    assert len(a) >= len(matches) >= len(verified) > 100
    assert len(matches) > len(lfnet.match(a, b, filter=True)) > 100
    x, y = a.keypoints[verified.indices[:, 0]].T
    assert np.median(np.abs(b.keypoints[verified.indices[:, 1]] - np.stack([y, 255 - x], 1))) < 1


def test_pictures_match_without_features(folder: Path) -> None:
    if "lfnet-cpu" not in lfnet.list_pretrained():
        pytest.skip("the package has no weights lfnet-cpu")
    path = folder / "camera.png"
    assert len(lfnet.match(path, str(path))) > 200


def test_importing_is_light_and_the_module_is_the_command(user_environment: dict[str, str]) -> None:
    code = "import lfnet, sys; print([m for m in ('torch', 'cv2', 'numpy', 'PIL', 'h5py') if m in sys.modules])"
    run = dict(env=user_environment, capture_output=True, text=True, check=True)
    assert subprocess.run([sys.executable, "-c", code], **run).stdout.strip() == "[]"
    assert lfnet.__version__ in subprocess.run([sys.executable, "-m", "lfnet", "--version"], **run).stdout


def test_every_public_name_is_there() -> None:
    assert all(getattr(lfnet, name) is not None for name in lfnet.__all__)
    assert set(lfnet._EXPORTS) | {"__version__"} == set(lfnet.__all__)
