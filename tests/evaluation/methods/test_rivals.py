"""Rivals, with a user's weights."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lfnet.evaluation.methods.extractors import PythonExtractor, make_methods, settings_of, wants_colour
from lfnet.evaluation.methods.rivals import RIVALS


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
