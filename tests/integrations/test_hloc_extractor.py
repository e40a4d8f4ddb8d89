"""LF-Net as an extractor of hloc: by hloc itself where it is installed, else by its rules for extractors alone.

hloc is in no package index, so most machines lack it. What stands in here for its package has the names that
`register` looks for and the contract of its base class, and nothing else.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.errors import UserError
from lfnet.integrations import hloc
from lfnet.integrations.hloc_extractor import CONFIGURATION
from lfnet.models.lfnet import LFNet

BASE_MODEL = """
from abc import ABC, abstractmethod
import torch

class BaseModel(torch.nn.Module, ABC):
    default_conf, required_inputs = {}, []

    def __init__(self, conf):
        super().__init__()
        self.conf = {**self.default_conf, **conf}
        self._init(self.conf)

    def forward(self, data):
        assert all(key in data for key in self.required_inputs)
        return self._forward(data)

    @abstractmethod
    def _init(self, conf): ...

    @abstractmethod
    def _forward(self, data): ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with the parts of hloc's that an extractor meets."""
    name = "like_hloc"
    for folder in ("", "utils", "extractors"):
        (tmp_path / name / folder).mkdir(exist_ok=True)
        (tmp_path / name / folder / "__init__.py").touch()
    (tmp_path / name / "utils" / "base_model.py").write_text(BASE_MODEL)
    (tmp_path / name / "extract_features.py").write_text("confs = {}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def test_hloc_finds_one_model_by_the_name(
    package: str, camera: NDArray[np.uint8], tiny_weights: Path, tiny_model: LFNet
) -> None:
    hloc.register(package)
    confs = import_module(f"{package}.extract_features").confs
    assert confs["lfnet"] == CONFIGURATION
    # By these rules hloc/utils/base_model.py chooses the class.
    name = f"{package}.extractors.{confs['lfnet']['model']['name']}"
    base = import_module(f"{package}.utils.base_model").BaseModel
    classes = [member for _, member in inspect.getmembers(import_module(name), inspect.isclass)]
    (model_class,) = (member for member in classes if member.__module__ == name and issubclass(member, base))
    model = model_class({**confs["lfnet"]["model"], "weights": str(tiny_weights), "max_keypoints": 50}).eval()
    picture = torch.from_numpy(camera)[None, None].float() / 255
    found = model({"image": picture})
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        "keypoints": (1, 50, 2),
        "descriptors": (1, 64, 50),
        **dict.fromkeys(("scores", "scales", "oris", "orientations"), (1, 50)),
    }
    features = tiny_model.extract(picture)[0].top(50)
    assert np.array_equal(found["keypoints"][0].numpy(), features.keypoints.astype(np.float64))
    assert np.allclose(np.radians(found["oris"][0].numpy()), features.orientations)
    with pytest.raises(AssertionError):
        model({"pictures": picture})


def test_a_missing_package_is_named() -> None:
    with pytest.raises(UserError, match=r"no_such_package: can't be imported .*; install hloc from its repository"):
        hloc.register("no_such_package")


def test_hloc_itself(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    extract_features = pytest.importorskip("hloc.extract_features")
    from hloc import match_features, pairs_from_exhaustive

    hloc.register()
    conf = extract_features.confs["lfnet"]
    conf = {**conf, "model": {**conf["model"], "weights": str(tiny_weights)}}
    features = extract_features.main(conf, folder, tmp_path)
    with h5py.File(features) as file:
        names = hloc.list_names(file)
    assert len(names) == 3
    pairs_from_exhaustive.main(tmp_path / "pairs.txt", image_list=names)
    matches = match_features.main(
        match_features.confs["NN-mutual"], tmp_path / "pairs.txt", features=features, matches=tmp_path / "m.h5"
    )
    assert len(hloc.read_matches(matches, *names[:2])) > 0
