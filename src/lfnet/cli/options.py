"""What several subcommands share: checks of options, the device, and the model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lfnet.errors import UserError

if TYPE_CHECKING:
    import torch

    from lfnet.models.lfnet import LFNet


class UsageError(UserError):
    """Options that don't go together: the command ends with exit code 2."""


def pick_device(name: str, threads: int | None = None) -> torch.device:
    """The device of a name, with the number of CPU threads set.

    Args:
        name: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:1".
        threads: CPU threads of PyTorch and OpenCV; None: as many as they choose.

    Returns:
        The device.

    Raises:
        ValueError: no such device here.
        UsageError: a number of threads that isn't positive.
    """
    import cv2
    import torch

    if threads is not None:
        if threads < 1:
            raise UsageError(f"--threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: no such device; expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device {name}: neither a CPU nor a CUDA device; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; try --device cpu"
        )
    return device


def load_model(weights: str | Path, device: torch.device) -> LFNet:
    """Weights by name or path, on a device.

    Args:
        weights: name of packaged weights, or a safetensors file.
        device: where the model shall work.

    Returns:
        The model, ready to extract.

    Raises:
        WeightsError: the weights can't be read.
    """
    from lfnet.models.lfnet import LFNet

    return LFNet.from_pretrained(weights).to(device)


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that can't be meant, before any work is done.

    Args:
        output: the file that is going to be written.
        inputs: files that are going to be read.

    Raises:
        UsageError: the output is a folder, or one of the inputs.
    """
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; name a file")
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise UsageError(f"{output}: is one of the inputs, and would be overwritten; name another file")


def pixel_limit(max_megapixels: float) -> int:
    """The option `--max-megapixels` in pixels.

    Raises:
        UsageError: not a number above 0.
    """
    if not (math.isfinite(max_megapixels) and max_megapixels > 0):
        raise UsageError(f"--max-megapixels must be a number above 0, got {max_megapixels}")
    return round(max_megapixels * 1e6)


def long_side(resize: int) -> int | None:
    """The option `--resize` as a limit.

    Args:
        resize: in pixels; 0 stands for no limit.

    Returns:
        Pixels, or None.

    Raises:
        UsageError: negative.
    """
    if resize < 0:
        raise UsageError(f"--resize must be 0 (as it is) or a long side in pixels, got {resize}")
    return resize or None


def keypoint_limits(max_keypoints: int, min_score: float, min_distance: float) -> None:
    """Check options that extraction and matching share.

    Args:
        max_keypoints: at least 1.
        min_score: in [0, 1].
        min_distance: at least 0, pixels.

    Raises:
        UsageError: outside these.
    """
    if max_keypoints < 1:
        raise UsageError(f"--max-keypoints must be at least 1, got {max_keypoints}")
    if not 0 <= min_score <= 1:
        raise UsageError(f"--min-score must be in [0, 1], got {min_score}")
    if not (math.isfinite(min_distance) and min_distance >= 0):
        raise UsageError(f"--min-distance must be a number of pixels of at least 0, got {min_distance}")
