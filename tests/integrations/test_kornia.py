"""Features as kornia's frames, and LF-Net where kornia wants a local feature: against kornia itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import lfnet
from lfnet.features import Features
from lfnet.integrations.kornia import KorniaLFNet, from_lafs, to_lafs
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet

kornia_feature = pytest.importorskip("kornia.feature")


def some_features() -> Features:
    keypoints, angles = [[10.0, 20.5], [30.0, 7.0], [1.0, 2.0]], [0.5, -2.0, 3.1]
    return Features(keypoints, [1.0, 2.0, 0.5], angles, [0.9, 0.5, 0.1], np.eye(3, 8), (64, 48))


def test_kornia_reads_centre_size_and_the_negated_angle() -> None:
    features = some_features()
    lafs = to_lafs(features, extent=40.0)
    assert lafs.shape == (1, 3, 2, 3)
    assert np.allclose(kornia_feature.get_laf_center(lafs)[0], features.keypoints)
    assert np.allclose(kornia_feature.get_laf_scale(lafs).ravel(), features.scales * 20)
    assert np.allclose(kornia_feature.get_laf_orientation(lafs).ravel(), -np.degrees(features.orientations), atol=1e-3)
    theirs = kornia_feature.laf_from_center_scale_ori(
        torch.from_numpy(features.keypoints)[None],
        torch.from_numpy(features.scales * 20)[None, :, None, None],
        -torch.from_numpy(np.degrees(features.orientations))[None, :, None],
    )
    assert torch.allclose(lafs, theirs, atol=1e-4)


def test_round_trip_leaves_padding_out() -> None:
    features = some_features()
    lafs = torch.cat((to_lafs(features, 40.0), torch.zeros(1, 2, 2, 3)), 1)
    descriptors = torch.cat((torch.from_numpy(features.descriptors)[None], torch.zeros(1, 2, 8)), 1)
    scores = torch.tensor([[*features.scores.tolist(), 0, 0]])
    back = from_lafs(lafs, descriptors, (64, 48), 40.0, scores)
    for name in ("keypoints", "scales", "orientations", "scores", "descriptors"):
        assert np.allclose(getattr(back, name), getattr(features, name), atol=1e-5), name
    with pytest.raises(ValueError, match="frames of one picture"):
        from_lafs(lafs.repeat(2, 1, 1, 1), descriptors, (64, 48), 40.0)


def test_a_patch_of_kornia_is_what_the_keypoint_marks(camera: NDArray[np.uint8]) -> None:
    """A keypoint turned by 90 degrees clockwise: its patch is the picture around it, turned back."""
    features = Features([[128.0, 100.0]], [1.0], [np.pi / 2], [1.0], np.zeros((1, 2)), (256, 256))
    picture = torch.from_numpy(camera)[None, None].float() / 255
    found = kornia_feature.extract_patches_simple(picture, to_lafs(features, 33.0), 33)[0, 0, 0]
    around = torch.from_numpy(np.rot90(camera[84:117, 112:145]).copy()) / 255
    assert torch.corrcoef(torch.stack((found.ravel(), around.ravel())))[0, 1] > 0.98


def test_a_local_feature_matcher_takes_it(camera: NDArray[np.uint8], tiny_model: LFNet) -> None:
    module = KorniaLFNet(tiny_model, ExtractionSettings(max_keypoints=400))
    pictures = torch.from_numpy(np.stack([camera, np.where(np.arange(256) < 128, camera, 0)]))[:, None].float() / 255
    mask = torch.ones(2, 1, 256, 256)
    mask[1, :, :, 40:] = 0
    lafs, responses, descriptors = module(pictures, mask)
    assert lafs.shape[:2] == responses.shape == descriptors.shape[:2]
    counts = kornia_feature.laf_is_filled(lafs).sum(1).tolist()
    assert counts[0] == 400 > counts[1] > 0
    matcher = kornia_feature.LocalFeatureMatcher(module, kornia_feature.DescriptorMatcher("mnn"))
    found = matcher({"image0": pictures[:1], "image1": pictures[:1]})
    assert len(found["keypoints0"]) == 400
    assert torch.equal(found["keypoints0"], found["keypoints1"])


def test_adalam_keeps_the_right_matches_of_a_turned_picture(camera: NDArray[np.uint8]) -> None:
    if "lfnet-cpu" not in lfnet.list_pretrained():
        pytest.skip("the package has no weights lfnet-cpu")
    model = LFNet.from_pretrained("lfnet-cpu")
    turned = np.ascontiguousarray(np.rot90(camera))
    a, b = model.extract([camera, turned], settings=ExtractionSettings(max_keypoints=400))
    extent = model.config.patches.extent
    descriptors = [torch.from_numpy(features.descriptors) for features in (a, b)]
    _, index = kornia_feature.match_adalam(*descriptors, to_lafs(a, extent), to_lafs(b, extent))
    x, y = a.keypoints[index[:, 0]].T
    distance = np.linalg.norm(b.keypoints[index[:, 1]] - np.stack([y, 255 - x], 1), axis=1)
    assert len(index) > 100
    assert (distance < 3).mean() > 0.9
