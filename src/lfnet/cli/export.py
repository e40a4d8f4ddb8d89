"""`lfnet export`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lfnet.cli.options import check_output
from lfnet.errors import UsageError


@dataclass(frozen=True)
class Command:
    """Write weights as an ONNX file, for images of any size (extra `onnx`).

    Inputs are `image` (1, 3, H, W), RGB in [0, 1], `max_keypoints` and `min_score`.
    """

    weights: Annotated[str, tyro.conf.Positional] = "lfnet-cpu"
    """Name of packaged weights, or a safetensors file."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("lfnet.onnx")
    """File to write; one that is there is replaced."""
    client: Annotated[Literal["runtime", "colmap"], tyro.conf.arg(name="for")] = "runtime"
    """Whose outputs it has: "runtime" gives what `lfnet extract` gives, "colmap" what COLMAP 4 expects of ALIKED."""
    half: bool = False
    """Store weights in 16 bits: weights take half the bytes, features differ a little, nothing is faster."""
    check: bool = False
    """Compare the file, run by onnxruntime, with PyTorch; exit code 1 where they are apart."""
    images: tuple[Path, ...] = ()
    """Images to compare on; two that scikit-image brings along where none is given."""


def run(command: Command) -> int:
    """Write the file, and compare it where asked: 0, or 1 where the file is apart from PyTorch."""
    if command.images and not command.check:
        raise UsageError("--images: are for --check, which is not given")
    from lfnet.export.onnx_file import OPSET, export_onnx
    from lfnet.images import read_image
    from lfnet.models.lfnet import LFNet
    from lfnet.models.weights import describe_weights, resolve_weights

    check_output(command.output, [resolve_weights(command.weights), *command.images])
    images = {str(path): read_image(path) for path in command.images}
    model = LFNet.from_pretrained(command.weights)
    card = describe_weights(command.weights)["card"]
    export_onnx(model, command.output, command.client, card=card, half=command.half)
    size = command.output.stat().st_size / 1e6
    print(f"{command.output}: {size:.1f} MB, opset {OPSET}, for {command.client}")
    if not command.check:
        return 0
    from lfnet.export.check import bundled_images, check

    report = check(model, command.output, images or bundled_images(), half=command.half)
    print("\n".join(report.lines()))
    if report.agrees:
        return 0
    print(f"lfnet: error: {command.output}: is apart from PyTorch; {report.limits}", file=sys.stderr)
    return 1
