"""Methods by name, and from one's own Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lfnet.evaluation.methods.extractors import PythonExtractor, make_methods, settings_of, wants_colour
from lfnet.evaluation.methods.lfnet_extractor import LFNetExtractor
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.models.lfnet import LFNet


def test_methods_by_name(tiny_weights: Path) -> None:
    methods = make_methods(["sift", "root=rootsift", "lfnet-cpu", str(tiny_weights), f"mine={tiny_weights}"])
    assert [method.name for method in methods] == ["sift", "root", "lfnet-cpu", "tiny", "mine"]
    assert settings_of(methods[3]) == settings_of(methods[4]) != settings_of(methods[2])
    for method in methods:
        json.dumps(settings_of(method))
        assert not wants_colour(method)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sift", "orb", "sift"], r"got twice: sift; give one another: NAME="),
        (["orb", "sift=orb", "sift"], r"got twice: sift"),
        (["shift"], r"no method 'shift': expected one of sift, .*lfnet-cpu, lfnet-lean, disk, .*module:factory$"),
        (["nowhere.safetensors"], r"^weights nowhere\.safetensors: no such file"),
        (["nowhere.h5"], r"^nowhere\.h5: no such file"),
        (["no_such_module:make"], r"^method no_such_module:make: ModuleNotFoundError: "),
        (["os:no_such_name"], r"^method os:no_such_name: AttributeError: "),
        (["os:getcwd"], r"^method os:getcwd: expected getcwd\(\) to give an extractor with a name"),
    ],
)
def test_wrong_names_are_said_in_one_line(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_methods(names)
    assert "\n" not in str(caught.value)


def test_files_of_one_name_are_told_apart(tiny_weights: Path, tmp_path: Path) -> None:
    paths = [tmp_path / run / "final.safetensors" for run in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(tiny_weights.read_bytes())
    assert [method.name for method in make_methods([*map(str, paths)])] == ["a/final", "b/final"]
    assert [method.name for method in make_methods([f"x={paths[0]}", str(paths[1])])] == ["x", "final"]


def test_what_decides_features_is_in_their_settings(tiny_model: LFNet) -> None:
    other = LFNet(tiny_model.config).eval()
    settings = settings_of(LFNetExtractor(tiny_model, "a"))
    assert settings == settings_of(LFNetExtractor(tiny_model, "b"))
    assert settings["weights"] != settings_of(LFNetExtractor(other, "a"))["weights"]
    assert settings["device"] == "cpu"
    assert settings_of(OpenCVExtractor("sift"))["opencv"] == cv2.__version__


MODULE = """
import numpy as np
from lfnet.features import Features

class Corners:
    name = "corners"
    wants_colour = True

    def __init__(self, extra=0):
        self.extra = extra

    def __call__(self, image, *, max_keypoints, mask=None):
        assert image.ndim == 3
        count = max_keypoints + self.extra
        ones = np.ones(count, np.float32)
        places = np.zeros((count, 2), np.float32)
        return Features(places, ones, ones, ones, np.ones((count, 4), np.float32), (image.shape[1], image.shape[0]))

def greedy():
    return Corners(1)

def broken():
    raise RuntimeError("two\\nlines")

class Clumsy(Corners):
    def __call__(self, image, *, max_keypoints, mask=None):
        return [][0]
"""


def test_ones_own_python_needs_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_features.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = list(sys.path)
    method, greedy = make_methods(["my_features:Corners", "greedy=my_features:greedy"])
    assert sys.path == path
    assert isinstance(method, PythonExtractor)
    assert isinstance(greedy, PythonExtractor)
    assert (method.name, greedy.name) == ("corners", "greedy")
    assert wants_colour(method)
    settings = settings_of(method)
    assert settings["class"] == "my_features.Corners"
    assert len(settings["source"]) == 64
    picture = np.zeros((30, 40, 3), np.uint8)
    assert len(method(picture, max_keypoints=7)) == 7
    with pytest.raises(ValueError, match=r"greedy: expected at most 7 features of a picture \(40, 30\), got 8"):
        greedy(picture, max_keypoints=7)
    with pytest.raises(ValueError, match="my_features:broken: RuntimeError: two lines"):
        make_methods(["my_features:broken"])
    (clumsy,) = make_methods(["my_features:Clumsy"])
    with pytest.raises(ValueError, match="IndexError: list index out of range"):
        clumsy(picture, max_keypoints=7)  # type: ignore[operator]
