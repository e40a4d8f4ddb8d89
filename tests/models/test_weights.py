"""Weights in a file: a round trip, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.models.lfnet import LFNet
from lfnet.models.weights import WeightsError, describe_weights, save_weights
from lfnet.settings import config_to_dict
from support.made_features import assert_same_features


def test_weights_round_trip(tiny_model: LFNet, tmp_path: Path, camera: NDArray[np.uint8]) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    save_weights(path, tiny_model.config, tiny_model.state_dict(), {"licence": "Apache-2.0", "steps": 12})
    loaded = LFNet.from_pretrained(path)
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


def test_equal_weights_are_equal_bytes(tiny_model: LFNet, tmp_path: Path) -> None:
    """The file's checksum tells weights from others, so saving them again may not change it."""
    path, found = tmp_path / "model.safetensors", set()
    for _ in range(12):
        save_weights(path, tiny_model.config, tiny_model.state_dict(), {"licence": "Apache-2.0"})
        found.add(path.read_bytes())
    assert len(found) == 1


def rewrite_header(source: Path, target: Path, change: dict[str, str]) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(str(source), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        save_file(tensors, str(target), metadata={**(file.metadata() or {}), **change})


def test_settings_that_are_gone_do_not_stop_older_weights(
    tiny_model: LFNet, tiny_weights: Path, tmp_path: Path, camera: NDArray[np.uint8]
) -> None:
    config = describe_weights(tiny_weights)["config"]
    config["orientation"]["channels"] = [8, 16]
    config["keypoints"]["subpixel_gradient"] = True
    path = tmp_path / "older.safetensors"
    rewrite_header(tiny_weights, path, {"config": json.dumps(config)})
    loaded = LFNet.from_pretrained(path)
    assert loaded.config == tiny_model.config
    assert_same_features(loaded.extract(camera[:90, :90])[0], tiny_model.extract(camera[:90, :90])[0], 0)
    config["orientation"]["mode"] = "patch"
    rewrite_header(tiny_weights, path, {"config": json.dumps(config)})
    with pytest.raises(WeightsError, match="'shared', got 'patch'"):
        LFNet.from_pretrained(path)


def test_weights_that_do_not_fit_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    config = describe_weights(tiny_weights)["config"]
    path = tmp_path / "changed.safetensors"

    rewrite_header(tiny_weights, path, {"config": json.dumps({**config, "colour": True})})
    with pytest.raises(WeightsError, match="unknown setting colour"):
        LFNet.from_pretrained(path)

    wider = {**config, "detector": {**config["detector"], "channels": 6}}
    rewrite_header(tiny_weights, path, {"config": json.dumps(wider)})
    with pytest.raises(WeightsError, match="another configuration"):
        LFNet.from_pretrained(path)

    deeper = {**config, "detector": {**config["detector"], "blocks": 2}}
    rewrite_header(tiny_weights, path, {"config": json.dumps(deeper)})
    with pytest.raises(WeightsError, match="another configuration"):
        LFNet.from_pretrained(path)

    rewrite_header(tiny_weights, path, {"format": "other"})
    with pytest.raises(WeightsError, match="expected format"):
        LFNet.from_pretrained(path)


def test_damaged_weights_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    whole = tiny_weights.read_bytes()
    path = tmp_path / "damaged.safetensors"
    for content in (whole[: len(whole) // 2], whole[:20], b"", b"text named .safetensors\n" * 9):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged\.safetensors: cannot be read"):
            LFNet.from_pretrained(path)
    with pytest.raises(WeightsError, match="no such file"):
        LFNet.from_pretrained(tmp_path / "missing.safetensors")
    with pytest.raises(WeightsError, match="no such file, nor weights of that name"):
        LFNet.from_pretrained("no-such-name")


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def test_loading_never_unpickles(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(WeightsError, match="cannot be read"):
        LFNet.from_pretrained(path)
    torch.save({"bomb": Bomb(marker)}, path)
    with pytest.raises(WeightsError, match="cannot be read"):
        LFNet.from_pretrained(path)
    assert not marker.exists()
