"""The processes that `torchrun` starts to train one model together: who is who, and the sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from lfnet.errors import UserError, one_line

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, at the most: the first one validates meanwhile. PyTorch's default for
gloo."""


class LostProcessError(UserError):
    """Another process has ended, or no longer answers."""


@dataclass(frozen=True)
class Processes:
    """All the processes of a run, as one of them sees them; by default it is alone."""

    rank: int = 0
    """Number of this one, from 0."""
    count: int = 1
    device: torch.device | None = None
    """On which this one works; None where it may choose."""
    here: int = 1
    """Processes on this machine."""
    launched: bool = False
    """Whether `torchrun` started it, which starts the same command again where it fails (`--max-restarts`)."""

    @property
    def leads(self) -> bool:
        """Whether this is the one that validates, writes and prints."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes.

        Args:
            values: of this process; of equal shape in each.

        Raises:
            LostProcessError: another process has ended or doesn't answer.
        """
        if self.count == 1:
            return values
        values = values.contiguous().clone()
        try:
            dist.all_reduce(values)
        except RuntimeError as error:
            raise LostProcessError(
                f"process {self.rank} of {self.count}: another process has ended, or did not answer in time; "
                "its own message says why; run the same command with --resume to go on from the last checkpoint"
            ) from error
        return values

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes into each tensor, by one message for all of them.

        Raises:
            LostProcessError: as `total`.
        """
        if self.count == 1 or not tensors:
            return
        flat = self.total(torch.cat([tensor.detach().flatten().float() for tensor in tensors])) / self.count
        with torch.no_grad():
            for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def agree(self, number: int) -> bool:
        """Whether a number is the same in all processes.

        Raises:
            LostProcessError: as `total`.
        """
        own = torch.zeros(self.count, dtype=torch.int64, device=self.device)
        own[self.rank] = number
        return bool((self.total(own) == number).all())


ALONE = Processes()


@contextmanager
def joined(device: torch.device, patience: timedelta = PATIENCE) -> Iterator[Processes]:
    """Join the other processes where `torchrun` started this one; else this one is alone.

    Args:
        device: wanted; of the CUDA devices each process of a machine takes its own. CPUs talk by gloo, GPUs by NCCL.
        patience: how long to wait for the others, at the most.

    Raises:
        UserError: there are fewer GPUs than processes, one GPU is named for all, or the others are not found.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield Processes(device=device)
        return
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    place = _own(device, int(os.environ["LOCAL_RANK"]), here)
    try:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=patience)
    except RuntimeError as error:
        raise UserError(f"torchrun: the processes do not find each other ({one_line(error)[:200]})") from error
    processes = Processes(dist.get_rank(), dist.get_world_size(), place, here, launched=True)
    yield processes
    # After an error there is nothing to wait for: the system closes what the others wait on. Here the work is done:
    # who leaves first may cut off the answer to this, and whoever failed is told by torchrun.
    with suppress(LostProcessError):
        processes.total(torch.zeros(1, device=place))
    dist.destroy_process_group()


def _own(device: torch.device, number: int, here: int) -> torch.device:
    if device.type != "cuda":
        return device
    if device.index is not None and here > 1:
        raise UserError(f"--device {device}: one GPU for {here} processes; --device cuda gives each its own")
    if here > torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"torchrun: {here} processes on {count} GPUs; --nproc-per-node {count}, or --device cpu")
    place = device if device.index is not None else torch.device("cuda", number)
    torch.cuda.set_device(place)
    return place
