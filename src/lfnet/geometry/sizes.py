"""Sizes of pictures: whole numbers in use, and tensors while PyTorch traces the network for export.

A traced size is a tensor without axes, so that the exported network takes pictures of any size. Python's `max`, `round`
and `math.ceil` would make a constant of it. Of numbers, these functions are Python's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def is_tracing() -> bool:
    """Whether PyTorch traces what is computed, for export."""
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def exact(side: Any) -> Any:
    """A side that is going to be multiplied or divided: in double precision, as Python's numbers are."""
    return side.double() if isinstance(side, Tensor) else side


def at_least(value: Any, least: int) -> Any:
    """`max` of a size and a constant."""
    return value.clamp_min(least) if isinstance(value, Tensor) else max(least, value)


def larger(first: Any, second: Any) -> Any:
    """`max` of two sizes."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return torch.maximum(_as_tensor(first), _as_tensor(second))
    return max(first, second)


def smaller(first: Any, second: Any) -> Any:
    """`min` of two sizes."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return torch.minimum(_as_tensor(first), _as_tensor(second))
    return min(first, second)


def _as_tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full((), value)


def rounded(value: Any) -> Any:
    """The nearest whole number, of two the even one, and 1 at least."""
    return value.round().clamp_min(1).long() if isinstance(value, Tensor) else max(1, round(value))


def ceiling(value: Any) -> Any:
    """The next whole number."""
    return value.ceil().long() if isinstance(value, Tensor) else math.ceil(value)


def root(value: Any) -> Any:
    """The square root."""
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def factor(value: Any, like: Tensor) -> Any:
    """A number that multiplies or divides a tensor, of its type."""
    return value.to(like) if isinstance(value, Tensor) else value


def tensor_of(values: Sequence[Any], like: Tensor) -> Tensor:
    """Numbers as a tensor of the type, and on the device, of another."""
    if any(isinstance(value, Tensor) for value in values):
        return torch.stack([_as_tensor(value).to(like) for value in values])
    return like.new_tensor(values)
