"""Methods of the benchmark: by name, from files, from one's own Python, rivals with weights of a user's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lfnet.evaluation.methods.extractors import PythonExtractor, make_methods, settings_of, wants_colour
from lfnet.evaluation.methods.feature_files import FeatureFile
from lfnet.evaluation.methods.lfnet_extractor import LFNetExtractor
from lfnet.evaluation.methods.opencv_extractors import OPENCV_METHODS, OpenCVExtractor, root_normalised
from lfnet.evaluation.methods.rivals import RIVALS
from lfnet.evaluation.protocols.cost import CostSettings, measure_cost, time_interleaved
from lfnet.features import Features
from lfnet.integrations.hloc import FeatureFileError, write_features
from lfnet.models.lfnet import LFNet


def has(name: str) -> bool:
    """Whether the installed OpenCV has a feature."""
    try:
        OpenCVExtractor(name)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", OPENCV_METHODS)
def test_opencv_features_fill_their_budget(name: str, camera: NDArray[np.uint8]) -> None:
    if not has(name):
        with pytest.raises(ValueError, match=rf"^{name}: OpenCV .* has no {name.upper()}; install opencv-contrib"):
            OpenCVExtractor(name)
        pytest.skip("not in this OpenCV")
    extractor = OpenCVExtractor(name)
    found = extractor(camera, max_keypoints=150)
    assert 140 <= len(found) <= 150, "ORB shares its budget among octaves, not all of which fill theirs"
    assert len(found) == 150 or name == "orb"
    assert (np.diff(found.scores) <= 0).all()
    assert found.descriptors.dtype == (np.float32 if "sift" in name else np.uint8)
    mask = np.zeros(camera.shape, bool)
    mask[:, :120] = True
    inside = extractor(camera, max_keypoints=60, mask=mask)
    assert 50 <= len(inside) <= 60
    assert inside.keypoints[:, 0].max() < 120.5
    blank = extractor(np.full((80, 90), 7, np.uint8), max_keypoints=10)
    assert len(blank) == 0
    assert blank.descriptors.shape[1] == found.descriptors.shape[1]
    assert blank.is_binary == found.is_binary


def test_sift_takes_the_strongest_as_opencv_does(camera: NDArray[np.uint8]) -> None:
    ours = OpenCVExtractor("sift")(camera, max_keypoints=100)
    theirs = cv2.SIFT.create(nfeatures=100, contrastThreshold=1e-5).detect(camera, None)
    weakest = min(point.response for point in theirs)
    assert ours.scores.min() == pytest.approx(weakest)
    assert {tuple(np.round(point.pt, 2)) for point in theirs} >= {
        tuple(np.round(p, 2)) for p in ours.keypoints.tolist()
    }


def test_root_descriptors_have_unit_length() -> None:
    raw = np.array([[4.0, 0, 12], [0, 0, 0]])
    assert np.allclose(root_normalised(raw), [[0.5, 0, np.sqrt(0.75)], [0, 0, 0]])


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


MODULE = '''
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
'''


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


def some_features(count: int, size: tuple[int, int] = (200, 100), seed: int = 0) -> Features:
    generator = np.random.default_rng(seed)
    return Features(
        generator.uniform(0, 99, (count, 2)).astype(np.float32),
        generator.uniform(1, 2, count).astype(np.float32),
        generator.uniform(-3, 3, count).astype(np.float32),
        generator.uniform(0, 1, count).astype(np.float32),
        generator.normal(size=(count, 8)).astype(np.float32),
        size,
    )


@pytest.fixture
def features_file(tmp_path: Path) -> Path:
    path = tmp_path / "disk.h5"
    with h5py.File(path, "w") as file:
        write_features(file, "walk/a.jpg", some_features(30), half=True)
        write_features(file, "walk/b.jpg", some_features(0))
        write_features(file, "other/b.jpg", some_features(20))
        bits = replace(some_features(5), descriptors=np.arange(40, dtype=np.uint8).reshape(5, 8))
        write_features(file, "bits.jpg", bits)
    return path


def test_features_files_of_anybody(features_file: Path) -> None:
    (method,) = make_methods([str(features_file)])
    assert isinstance(method, FeatureFile)
    assert (method.name, method.most_keypoints) == ("disk", 30)
    whole = some_features(30)
    found = method.features("walk/a.jpg", (200, 100), 10)
    assert len(found) == 10
    assert np.allclose(found.keypoints, whole.top(10).keypoints)
    halved = method.features("walk/a.jpg", (100, 50), 10)
    assert halved.image_size == (100, 50)
    assert np.allclose(halved.keypoints, found.keypoints / 2 - 0.25)
    assert np.allclose(halved.scales, found.scales / 2)
    assert len(method.features("walk/b.jpg", (200, 100), 10)) == 0
    assert method.features("bits.jpg", (200, 100), 10).is_binary
    assert settings_of(method)["order"] == "by score"


def test_names_in_features_files_may_have_another_root(features_file: Path) -> None:
    method = FeatureFile(features_file)
    assert method.find("a.jpg") == "walk/a.jpg"
    assert method.find("data/walk/b.jpg") == "walk/b.jpg"
    with pytest.raises(FeatureFileError, match=r"'b\.jpg' could be any of other/b\.jpg, walk/b\.jpg"):
        method.find("b.jpg")
    for stranger in ("c.jpg", "else/a.jpg"):
        with pytest.raises(FeatureFileError, match=rf"no features of picture '{stranger}'; it has '.*' and so on"):
            method.find(stranger)
    assert method.find("graf/bits.jpg") == method.find("oxford/graf/bits.jpg") == "bits.jpg"
    with pytest.raises(FeatureFileError, match=r"'bits\.jpg' could be 'graf/bits\.jpg' or 'boat/bits\.jpg'"):
        method.find("boat/bits.jpg")
    with pytest.raises(FeatureFileError, match=r"is \(200, 100\) there, 'walk/a\.jpg' is \(100, 200\) here"):
        method.features("walk/a.jpg", (100, 200), 5)
    assert len(method.features("walk/a.jpg", (67, 33), 5)) == 5


def test_features_files_without_scores_keep_their_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        group = file.create_group("a.jpg")
        group["keypoints"] = np.arange(18, dtype=np.float16).reshape(6, 3)
        group["descriptors"] = np.ones((4, 6), np.float16)
        group["image_size"] = np.array([100, 100])
    method = FeatureFile(tmp_path / "plain.h5")
    found = method.features("a.jpg", (100, 100), 2)
    assert found.keypoints.tolist() == [[0, 1], [3, 4]]
    assert (found.scales == 1).all()
    assert "no scores" in settings_of(method)["order"]


def test_damaged_features_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.h5"
    with h5py.File(path, "w") as file:
        write_features(file, "nan.jpg", some_features(4))
        file["nan.jpg/descriptors"][2, 1] = np.nan
        write_features(file, "turned.jpg", some_features(4))
        descriptors = np.asarray(file["turned.jpg/descriptors"]).T
        del file["turned.jpg/descriptors"]
        file["turned.jpg/descriptors"] = descriptors
        write_features(file, "sizeless.jpg", some_features(4))
        del file["sizeless.jpg/image_size"]
        write_features(file, "rotten.jpg", some_features(4))
        del file["rotten.jpg/scores"]
        checked = file.create_dataset("rotten.jpg/scores", data=np.ones(4, np.float32), chunks=(4,), fletcher32=True)
        file.flush()
        place = checked.id.get_chunk_info(0).byte_offset
    with path.open("r+b") as content:
        content.seek(place)
        content.write(b"rot!")
    method = FeatureFile(path)
    for name, message in {
        "nan.jpg": "descriptors hold NaN or infinity",
        "turned.jpg": r"descriptors must have shape \(D, 4\), got \(4, 8\)",
        "sizeless.jpg": "picture 'sizeless.jpg' has no image_size",
        "rotten.jpg": "picture 'rotten.jpg' is damaged",
    }.items():
        with pytest.raises(FeatureFileError, match=message) as caught:
            method.features(name, (200, 100), 4)
        assert "\n" not in str(caught.value)
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(FeatureFileError, match="holds no keypoints"):
        FeatureFile(tmp_path / "empty.h5")


@pytest.fixture(scope="module")
def rival_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Weights that no training has touched, in the files that each rival's authors give theirs."""
    feature = pytest.importorskip("kornia.feature")
    folder = tmp_path_factory.mktemp("weights")

    def save(name: str) -> Path:
        path = folder / f"{name}.pth"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if name == "disk":
                torch.save({"extractor": feature.DISK().state_dict()}, path)
            elif name == "aliked":
                tensors = feature.ALIKED("aliked-t16").state_dict()
                torch.save({key: value for key, value in tensors.items() if key != "dkd.hw_grid"}, path)
            elif name == "xfeat":
                torch.save(feature.XFeat().net.state_dict(), path)
            elif name == "dedode":
                path = folder / name
                path.mkdir(exist_ok=True)
                model = feature.DeDoDe("L", "B")
                torch.save(model.detector.state_dict(), path / "dedode_detector_L.pth")
                torch.save(model.descriptor.state_dict(), path / "dedode_descriptor_B.pth")
            else:
                transformers = pytest.importorskip("transformers")
                path = folder / name
                transformers.SuperPointForKeypointDetection(transformers.SuperPointConfig()).save_pretrained(path)
        return path

    return save


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "dedode" else ()) for name in RIVALS]
)
def test_rivals_run_with_a_users_weights(
    name: str, rival_weights: Callable[[str], Path], coffee: NDArray[np.uint8]
) -> None:
    feature = pytest.importorskip("kornia.feature")
    if name in ("aliked", "xfeat") and not hasattr(feature, {"aliked": "ALIKED", "xfeat": "XFeat"}[name]):
        pytest.skip("not in this kornia")
    # Neither side is a multiple of what the networks want.
    picture = np.ascontiguousarray(coffee[:150, :170])
    (method,) = make_methods([f"{name}:{rival_weights(name)}"])
    assert isinstance(method, PythonExtractor)
    assert wants_colour(method) == (name != "superpoint")
    image = picture if wants_colour(method) else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    found = method(image, max_keypoints=60)
    assert len(found) == 60
    assert (np.diff(found.scores) <= 0).all()
    assert np.allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-4)
    assert (found.keypoints > -0.5).all()
    assert (found.keypoints < (169.5, 149.5)).all()
    more = method(image, max_keypoints=100_000)
    assert np.allclose(more.keypoints[:60], found.keypoints, atol=1e-3), "the strongest don't depend on the budget"
    mask = np.zeros(image.shape[:2], bool)
    mask[:, 80:] = True
    inside = method(image, max_keypoints=40, mask=mask)
    assert 0 < len(inside) <= 40
    assert (inside.keypoints[:, 0] >= 79.5).all()
    assert {tuple(place) for place in inside.keypoints.round(2)} <= {tuple(place) for place in more.keypoints.round(2)}
    assert method.parameters
    assert json.loads(json.dumps(settings_of(method)))["device"] == "cpu"


class PeakAt(nn.Module):
    """A detector's output with one bright pixel."""

    def __init__(self, x: int, y: int) -> None:
        super().__init__()
        self.place = x, y

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        height, width = picture.shape[-2:]
        out = torch.zeros(1, 129, height, width)
        out[0, 128, self.place[1], self.place[0]] = 5
        out[0, :128] = 1
        return out


def test_pixels_of_rivals_are_this_packages(
    rival_weights: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a network says "this pixel", the keypoint is that pixel's centre."""
    feature = pytest.importorskip("kornia.feature")
    picture = np.zeros((96, 130, 3), np.uint8)
    (disk,) = make_methods([f"disk:{rival_weights('disk')}"])
    peak = PeakAt(41, 23)
    monkeypatch.setattr(feature.DISK, "heatmap_and_dense_descriptors", lambda self, images: _split(peak(images)))
    assert _places(disk, picture) == [[41, 23]]
    if hasattr(feature, "XFeat"):
        (xfeat,) = make_methods([f"xfeat:{rival_weights('xfeat')}"])

        def one_peak(self: Any, logits: torch.Tensor, softmax_temp: float = 1.0) -> torch.Tensor:
            heights = torch.zeros(1, 1, 96, 128)
            heights[0, 0, 23, 41] = 1
            return heights

        monkeypatch.setattr(feature.XFeat, "_get_kpts_heatmap", one_peak)
        # Seen at 128 pixels in place of 130: the centre of pixel 41 lies at 41.5 / 128 of the width.
        assert np.allclose(_places(xfeat, picture), [[41.5 * 130 / 128 - 0.5, 23]], atol=1e-4)


def _split(out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return out[:, 128:], out[:, :128]


def _places(method: Any, picture: NDArray[np.uint8]) -> list[list[float]]:
    return method(picture, max_keypoints=5).keypoints.tolist()


def test_rivals_without_weights_or_packages_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kornia")
    for name in RIVALS:
        with pytest.raises(ValueError, match=rf"^{name}: needs its weights: give {name}:PATH to .*\.(com|co)/"):
            make_methods([name])
    with pytest.raises(ValueError, match=r"^disk: no weights at .*nowhere\.pth; give disk:PATH to depth-save\.pth"):
        make_methods([f"disk:{tmp_path / 'nowhere.pth'}"])
    path = tmp_path / "damaged.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"^disk: .*damaged\.pth: can't be read as weights"):
        make_methods([f"disk:{path}"])
    torch.save({"other.weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"^disk: .*damaged\.pth: weights of another model \(they lack unet"):
        make_methods([f"disk:{path}"])
    with pytest.raises(ValueError, match=r"^dedode: .*: expected one file with 'detector' in its name, got none"):
        make_methods([f"dedode:{tmp_path}"])
    for package in ("kornia", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    for name, rival in RIVALS.items():
        with pytest.raises(ValueError, match=rf"^{name}: needs {rival.package}, .* pip install 'lfnet\[rivals\]'"):
            make_methods([f"{name}:{path}"])


def test_checkpoints_are_not_run(tmp_path: Path) -> None:
    pytest.importorskip("kornia")

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'harm'}",)

    torch.save({"extractor": Harm()}, tmp_path / "disk.pth")
    with pytest.raises(ValueError, match="can't be read as weights"):
        make_methods([f"disk:{tmp_path / 'disk.pth'}"])
    assert not (tmp_path / "harm").exists()


def test_costs_of_methods(tiny_weights: Path, features_file: Path) -> None:
    methods = make_methods(["sift", str(tiny_weights), str(features_file)])
    said: list[str] = []
    settings = CostSettings(cases=((160, 120, 50),), rounds=3, threads=1)
    before = torch.get_num_threads()
    section = measure_cost(methods, settings, said.append)
    assert torch.get_num_threads() == before
    assert section.skipped == ["disk: features from a file can't be timed"]
    assert section.settings["threads"] == {"torch": 1, "opencv": 1}
    assert [(row.method, row.subset, row.budget) for row in section.rows] == [
        ("sift", "160x120", 50), ("tiny", "160x120", 50)
    ]  # fmt: skip
    sift, tiny = (row.metrics for row in section.rows)
    for metrics in (sift, tiny):
        assert 0 < metrics["milliseconds_low"] <= metrics["milliseconds"] <= metrics["milliseconds_high"]
        assert metrics["keypoints_per_second"] == pytest.approx(1000 * metrics["keypoints"] / metrics["milliseconds"])
    assert (sift["parameters"], sift["model_size"]) == (0, 0)
    assert tiny["model_size"] >= 4e-6 * tiny["parameters"] > 0
    # PyTorch is in the one and not in the other.
    assert 20 < sift["memory"] < tiny["memory"] - 50 < 2000
    assert any("memory of tiny" in line for line in said)


def test_a_method_that_fails_is_a_line_in_the_costs() -> None:
    class Broken:
        name = "broken"

        def __call__(self, image: Any, *, max_keypoints: int, mask: Any = None) -> Features:
            raise RuntimeError("no\nluck")

    settings = CostSettings(cases=((80, 60, 10),), rounds=1, memory=False)
    section = measure_cost([Broken(), OpenCVExtractor("orb")], settings, lambda text: None)
    assert section.methods() == ["orb"]
    assert section.skipped == ["broken at 80x60: no luck"]
    with pytest.raises(ValueError, match="rounds and threads"):
        CostSettings(rounds=0)


def test_methods_take_turns() -> None:
    order: list[str] = []
    times = time_interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert "".join(order) == "ababab"
    assert [len(seconds) for seconds in times.values()] == [2, 2]


def test_opencv_methods_load_no_pytorch(user_environment: dict[str, str]) -> None:
    code = "import sys; from lfnet.evaluation.methods.extractors import make_methods; make_methods(['sift']); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=user_environment, check=True)
