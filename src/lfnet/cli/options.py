"""What several subcommands share: options of the machine and the model, and the check of an output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lfnet.errors import UsageError, UserError
from lfnet.files.checksum import checksum
from lfnet.settings import require_at_least

if TYPE_CHECKING:
    import torch

    from lfnet.file_extraction import ExtractionReport
    from lfnet.models.lfnet import LFNet


@dataclass(frozen=True)
class Threads:
    """How much of the machine is used."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """CPU threads; as many as PyTorch and OpenCV choose if left out."""

    def __post_init__(self) -> None:
        require_at_least(self, "", {"threads": 1})

    def apply(self) -> int:
        """Set the number of threads.

        Returns:
            That number; where none is given, of the cores.
        """
        if self.threads is not None:
            import cv2
            import torch

            torch.set_num_threads(self.threads)
            cv2.setNumThreads(self.threads)
        return self.threads or os.cpu_count() or 1


@dataclass(frozen=True)
class Device(Threads):
    """What the work is done on."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def pick(self) -> torch.device:
        """The device, with the number of CPU threads set.

        Returns:
            For "auto" CUDA where there is one, else the CPU.

        Raises:
            UserError: no such device here.
        """
        import torch

        self.apply()
        name, count = self.device, torch.cuda.device_count()
        if name == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise UserError(f"--device {name}: no such device; expected auto, cpu, cuda or cuda:N") from error
        if device.type not in ("cpu", "cuda"):
            raise UserError(f"--device {name}: neither a CPU nor a CUDA device; expected auto, cpu, cuda or cuda:N")
        if device.type == "cuda" and (device.index or 0) >= count:
            raise UserError(f"--device {name}: this machine has {count} CUDA devices; try --device cpu")
        return device


@dataclass(frozen=True)
class Model(Device):
    """The network, and what it works on."""

    weights: str = "lfnet-cpu"
    """Name of packaged weights, or a safetensors file."""

    def load(self) -> LFNet:
        """The network on its device, ready to extract.

        Raises:
            WeightsError: the weights can't be read.
            UserError: no such device here.
        """
        device = self.pick()
        from lfnet.models.lfnet import LFNet

        return LFNet.from_pretrained(self.weights).to(device)

    def identity(self) -> str:
        """Name and content of the weights file, by which a features file knows whether it may be continued."""
        from lfnet.models.weights import resolve_weights

        path = resolve_weights(self.weights)
        return f"{path.stem} {checksum(path)[:16]}"


def tell_extraction(report: ExtractionReport, kind: str) -> int:
    """Pictures without keypoints, and those that failed: 0, or 1 where some did."""
    if report.without_keypoints:
        print(f"No keypoints in {len(report.without_keypoints)} {kind}:")
        for name, cause in report.without_keypoints:
            print(f"  {name}: {cause}")
    if not report.failures:
        return 0
    print(f"lfnet: error: {len(report.failures)} {kind} failed, all others are done:", file=sys.stderr)
    for _, message in report.failures:
        print(f"  {message}", file=sys.stderr)
    return 1


def check_masks(masks: Path | None) -> None:
    """Refuse masks that there are not.

    Raises:
        UserError: there is neither a folder nor a file.
    """
    if masks is not None and not masks.is_dir() and not masks.is_file():
        raise UserError(f"--masks {masks}: no such folder or file")


def tell_passed_over(lines: Iterable[str]) -> None:
    """What was found beside the images, and why it was not taken."""
    for line in lines:
        print(line, file=sys.stderr)


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that can't be meant, before any work is done.

    Args:
        output: the file that is going to be written.
        inputs: files that are going to be read.

    Raises:
        UsageError: the output is a folder, a device, a pipe, or one of the inputs.
    """
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; name a file")
    if not output.exists():
        return
    if not output.is_file():
        raise UsageError(f"{output}: is a device or a pipe; name a file")
    for path in inputs:
        if path.exists() and output.samefile(path):
            raise UsageError(f"{output}: is one of the inputs, and would be overwritten; name another file")
