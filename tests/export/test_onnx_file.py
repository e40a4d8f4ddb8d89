"""Exported files beside the network: the same features, for images of other sizes than the example's."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.export.check import EXACT, HALF, OnnxFeatures, as_input, compare
from lfnet.export.onnx_file import OPSET, Client, export_onnx
from lfnet.models.config import DescriptorConfig, ExtractionSettings, LFNetConfig
from lfnet.models.lfnet import LFNet
from lfnet.settings import config_from_dict
from support.exported import shapes_unchecked
from support.networks import chances_config, lean_config, tiny_config, with_varied_norms

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CARD = {"licence": "Apache-2.0", "data": ["rooms"]}


def export_file(model: LFNet, path: Path, client: Client = "runtime", half: bool = False) -> None:
    with shapes_unchecked():
        export_onnx(model, path, client, card=CARD, half=half)


@pytest.fixture(scope="module")
def network(tiny_model: LFNet) -> LFNet:
    return with_varied_norms(copy.deepcopy(tiny_model))


@pytest.fixture(scope="module")
def tiny_file(network: LFNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    export_file(network, path)
    return path


@pytest.mark.parametrize("size", [(200, 300), (131, 97), (17, 40)])
def test_the_file_gives_the_features_of_the_network(
    network: LFNet, tiny_file: Path, coffee: NDArray[np.uint8], size: tuple[int, int]
) -> None:
    pixels = as_input(coffee[: size[0], : size[1]], "runtime")
    found = OnnxFeatures(tiny_file)(pixels, 100)
    expected = network.extract(torch.from_numpy(pixels), settings=ExtractionSettings(max_keypoints=100))[0]
    assert len(found["keypoints"]) == len(expected)
    assert min(size) < 20 or len(expected) > 20
    for name in ("keypoints", "scales", "scores", "descriptors", "sigmas"):
        np.testing.assert_allclose(found[name], getattr(expected, name), atol=2e-3)
    turns = np.exp(1j * found["orientations"]) - np.exp(1j * expected.orientations)
    assert np.abs(turns).max(initial=0) < 1e-3


def test_scores_below_the_least_and_blank_images_give_nothing(
    network: LFNet, tiny_file: Path, coffee: NDArray[np.uint8]
) -> None:
    session = OnnxFeatures(tiny_file).session
    pixels = as_input(coffee, "runtime")
    scores = network.extract(torch.from_numpy(pixels))[0].scores
    least = np.float32((scores[10] + scores[11]) / 2)
    inputs = {"image": pixels, "max_keypoints": np.array(50), "min_score": np.array(least)}
    assert session.run(["scores"], inputs)[0].shape == (1, 11)
    assert session.run(["descriptors"], {**inputs, "image": np.full_like(pixels, 0.4)})[0].shape == (1, 0, 64)


def test_the_file_says_what_it_is(network: LFNet, tiny_file: Path) -> None:
    model = onnx.load(tiny_file)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert config_from_dict(LFNetConfig, json.loads(facts["config"])) == network.config
    assert json.loads(facts["card"]) == CARD
    assert (facts["licence"], facts["opset"]) == ("Apache-2.0", str(OPSET))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes["image"] == [1, 3, "height", "width"]
    assert shapes["max_keypoints"] == shapes["min_score"] == []
    assert shapes["keypoints"] == [1, "keypoints", 2]
    assert shapes["descriptors"] == [1, "keypoints", 64]
    assert shapes["scores"] == [1, "keypoints"]


def test_another_network_is_apart(tiny_file: Path, coffee: NDArray[np.uint8]) -> None:
    torch.manual_seed(1)
    other = LFNet(tiny_config()).eval()
    assert not compare(other, OnnxFeatures(tiny_file), "coffee", coffee, EXACT).within(EXACT)


KINDS = {
    "lean": lean_config(),
    "turned by chances": chances_config(),
    "square patches in octaves": dataclasses.replace(tiny_config(), octaves=(1.0, 0.7071, 0.25), octave_preference=1.0),
    "the paper's": LFNetConfig(descriptor=DescriptorConfig(channels=(4, 8, 8), hidden=16, dimension=32)),
}


@pytest.mark.slow
@pytest.mark.parametrize("client", ["runtime", "colmap"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_network_has_parity(
    tmp_path: Path, coffee: NDArray[np.uint8], camera: NDArray[np.uint8], name: str, client: Client
) -> None:
    torch.manual_seed(0)
    model = with_varied_norms(LFNet(KINDS[name])).eval()
    export_file(model, tmp_path / "f.onnx", client)
    features = OnnxFeatures(tmp_path / "f.onnx")
    for image in (coffee, np.repeat(camera[:201, :187, None], 3, -1)):
        agreement = compare(model, features, name, image, EXACT)
        assert agreement.within(EXACT), agreement
        assert agreement.both > 100


def test_weights_in_half_the_bytes(network: LFNet, tiny_file: Path, tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    export_file(network, tmp_path / "half.onnx", half=True)
    sizes = [path.stat().st_size for path in (tiny_file, tmp_path / "half.onnx")]
    assert sizes[0] - sizes[1] > 1.5 * sum(tensor.numel() for tensor in network.parameters())
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds
    agreement = compare(network, OnnxFeatures(tmp_path / "half.onnx"), "coffee", coffee, HALF)
    assert agreement.within(HALF), agreement


def test_colmap_s_defaults_keep_every_keypoint_and_every_match(
    network: LFNet, tmp_path: Path, coffee: NDArray[np.uint8]
) -> None:
    export_file(network, tmp_path / "colmap.onnx", "colmap")
    session = OnnxFeatures(tmp_path / "colmap.onnx").session
    assert [each.name for each in session.get_outputs()] == ["keypoints", "descriptors", "scores"]
    assert session.get_outputs()[1].shape == [1, "keypoints", 65]
    pixels = as_input(coffee, "colmap")
    assert pixels.shape == (1, 3, 224, 320)
    inputs = {"image": pixels, "max_keypoints": np.array(200)}
    keypoints, descriptors, scores = session.run(None, {**inputs, "min_score": np.array(0.2, np.float32)})
    agreement = compare(network, OnnxFeatures(tmp_path / "colmap.onnx"), "coffee", coffee, EXACT)
    assert agreement.within(EXACT), agreement
    expected = network.extract(torch.from_numpy(pixels), settings=ExtractionSettings(max_keypoints=200))[0]
    np.testing.assert_allclose(scores[0], 0.2 + 0.8 * expected.scores, atol=1e-3)
    assert np.abs(keypoints).max() < 1
    np.testing.assert_allclose(np.linalg.norm(descriptors[0], axis=1), 1, atol=1e-5)
    ours = descriptors[0, :, :-1] / np.linalg.norm(descriptors[0, :, :-1], axis=1, keepdims=True)
    np.testing.assert_allclose(descriptors[0] @ descriptors[0].T, 0.85 + 0.15 * ours @ ours.T, atol=1e-5)
    middle = np.float32(scores[0, 50:52].mean())
    assert session.run(["scores"], {**inputs, "min_score": np.array(middle)})[0].shape == (1, 51)
