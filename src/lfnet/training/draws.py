"""Random numbers of a training step that do not depend on how its pairs are shared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Draws for all pairs of a batch, in each of the processes that share it, of which each takes its own pairs'."""

    generator: torch.Generator
    """On the CPU, so that every device draws alike; in the same state in each process."""
    rank: int = 0
    """Which of the processes this is."""
    count: int = 1
    """Processes that share the batch equally."""

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Numbers in [0, 1); the first axis of the shape counts this process's pairs."""
        return self._own(torch.rand, shape)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Numbers of mean 0 and deviation 1; the first axis of the shape counts this process's pairs."""
        return self._own(torch.randn, shape)

    def _own(self, draw: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        pairs, *rest = shape
        return draw((pairs * self.count, *rest), generator=self.generator)[self.rank * pairs : (self.rank + 1) * pairs]
