"""What is in files, in a form that == compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All numbers of an HDF5 file, and its attributes."""
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[()])
        found.update({f"{name}@{key}": np.asarray(value) for key, value in item.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(visit)
        visit("", file)
    return found


def flat(values: Any) -> Any:
    """The same with tensors and arrays as type, shape and bytes, so that == is equality to the bit."""
    if isinstance(values, torch.Tensor):
        return flat(values.detach().cpu().numpy())
    if isinstance(values, (np.ndarray, np.generic)):
        return str(values.dtype), values.shape, values.tobytes()
    if isinstance(values, dict):
        return {name: flat(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [flat(value) for value in values]
    return values
