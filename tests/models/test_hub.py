"""A model as a folder in the layout of the Hugging Face Hub."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lfnet.models.lfnet import LFNet
from lfnet.models.weights import WeightsError, describe_weights


def test_a_folder_comes_back(tiny_model: LFNet, tmp_path: Path, camera: NDArray[np.uint8]) -> None:
    folder = tmp_path / "new" / "lfnet-tiny"
    tiny_model.save_pretrained(folder, {"licence": "Apache-2.0", "steps": 5})
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text())["detector"]["channels"] == 4
    readme = (folder / "README.md").read_text()
    assert readme.startswith("---\nlibrary_name: lfnet\nlicense: apache-2.0\n")
    assert '"steps": 5' in readme
    assert describe_weights(folder)["card"]["steps"] == 5
    back = LFNet.from_pretrained(folder)
    assert back.config == tiny_model.config
    assert np.array_equal(back.extract(camera)[0].descriptors, tiny_model.extract(camera)[0].descriptors)


def test_tensors_saved_by_others_take_the_configuration_beside_them(tiny_model: LFNet, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    save_file(load_file(weights), weights, {"format": "pt"})
    with safe_open(weights, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert LFNet.from_pretrained(tmp_path).config == tiny_model.config
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(WeightsError, match="was the file written by lfnet"):
        LFNet.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be read"):
        LFNet.from_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        LFNet.from_pretrained(tmp_path / "nothing")
