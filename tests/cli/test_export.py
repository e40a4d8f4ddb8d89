"""`lfnet export` as a user runs it."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.cli.main import main
from lfnet.export import check, onnx_file
from lfnet.models.lfnet import LFNet
from lfnet.models.weights import save_weights
from support.exported import shapes_unchecked
from support.networks import with_varied_norms

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test looks into the file."""
    monkeypatch.setattr(
        onnx_file, "export_onnx", lambda network, path, client, **others: path.write_bytes(repr(others).encode())
    )


def test_the_command_writes_and_checks(
    tiny_model: LFNet, tmp_path: Path, coffee: NDArray[np.uint8], capsys: Capture
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    Image.fromarray(coffee).save(tmp_path / "coffee.png")
    network = with_varied_norms(copy.deepcopy(tiny_model))
    save_weights(tmp_path / "tiny.safetensors", network.config, network.state_dict())
    output = tmp_path / "lfnet.onnx"
    words = [
        "export",
        str(tmp_path / "tiny.safetensors"),
        "-o",
        str(output),
        "--check",
        "--images",
        str(tmp_path / "coffee.png"),
    ]
    with shapes_unchecked():
        assert main(words) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{output}: ")
    assert first.endswith("MB, opset 18, for runtime")
    assert second.startswith(f"{tmp_path / 'coffee.png'}: 512 of 512 keypoints in both")
    assert third.startswith("onnxruntime took")


def test_a_file_that_is_apart_ends_with_1(
    quick_export: None, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def apart(model: LFNet, path: Path, images: object, half: bool) -> check.Report:
        return check.Report([check.Agreement("a", 100, 100, 90, 0.0, 0.0, 1.0, (1.0, 2.0))], check.EXACT)

    monkeypatch.setattr(check, "check", apart)
    words = ["export", str(tiny_weights), "-o", str(tmp_path / "f.onnx"), "--check"]
    monkeypatch.setattr(check, "bundled_images", dict)
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "90 of 100 keypoints in both" in printed.out
    assert "onnxruntime took 2.00 times" in printed.out
    assert "is apart from PyTorch" in printed.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--images", "a.png"], 2, "are for --check"),
        (["--for", "opencv"], 2, "opencv"),
        (["-o", "."], 2, "is a folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tiny_weights: Path, words: list[str], code: int, message: str, capsys: Capture
) -> None:
    assert main(["export", str(tiny_weights), *words]) == code
    assert message in capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(tiny_weights), "-o", str(tmp_path / "f.onnx")]) == 1
    assert capsys.readouterr().err.strip().endswith("pip install 'lfnet[onnx]'")
    assert not (tmp_path / "f.onnx").exists()
