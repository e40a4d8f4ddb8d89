"""`lfnet info`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lfnet.errors import UsageError


@dataclass(frozen=True)
class Command:
    """What is installed, or what is in a weights or features file."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WEIGHTS | FILE.h5")] = ""
    """Name of packaged weights, a safetensors file, or an HDF5 file of features or matches; nothing: the
    installation."""
    names: bool = False
    """List every picture, or pair, of an HDF5 file instead."""


def run(command: Command) -> int:
    """Print it."""
    from lfnet.files.hdf5_reading import is_hdf5

    path = Path(command.what)
    if command.what and path.is_file() and (path.suffix in (".h5", ".hdf5") or is_hdf5(path)):
        return _hdf5(path, command.names)
    if command.names:
        raise UsageError(f"--names lists what is in an HDF5 file, and {command.what or 'the installation'} is none")
    return _weights(command.what) if command.what else _installation()


def _installation() -> int:
    import platform

    import cv2
    import torch

    from lfnet import __version__
    from lfnet.models.weights import list_pretrained

    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, OpenCV {cv2.__version__}"
    print(f"lfnet {__version__}, {versions}")
    cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(f"devices: cpu ({torch.get_num_threads()} threads)" + "".join(f", cuda ({card})" for card in cards))
    print(f"packaged weights: {', '.join(list_pretrained()) or 'none'}")
    return 0


def _weights(what: str) -> int:
    from lfnet.models.weights import describe_weights

    header = describe_weights(what)
    print(f"{header['path']}: {header['parameters'] / 1e6:.2f} million parameters")
    for title in ("card", "config"):
        print(f"{title}: {json.dumps(header[title], indent=2, ensure_ascii=False)}")
    return 0


def _hdf5(path: Path, list_all: bool) -> int:
    from lfnet.files.hdf5_reading import find_group, read_texts
    from lfnet.integrations import hloc

    with hloc.open_file(path) as file:
        names = hloc.list_names(file)
        first = find_group(file, names[0], hloc.FeatureFileError) if names else None
        arrays = set(first.keys()) if first is not None else set()
        if len(file) and not {"matches0", "keypoints"} & arrays:
            raise hloc.FeatureFileError(f"{path}: neither features nor matches in hloc's layout")
        if list_all:
            print("\n".join(names))
            return 0
        if "matches0" in arrays:
            print(f"{path}: matches of {len(names)} pairs")
            return 0
        counts = [hloc.count_keypoints(file, name) for name in names]
        print(f"{path}: {len(names)} pictures, {sum(counts)} keypoints")
        if counts:
            print(f"keypoints of a picture: {min(counts)} to {max(counts)}")
            print("first pictures: " + ", ".join(names[:3]))
        keys = ("frame", "frame_note", "pixel_note", "settings")
        for key, text in zip(keys, read_texts(file, [("/", key) for key in keys], hloc.FeatureFileError), strict=True):
            if text is not None:
                print(f"{key}: {text}")
    return 0
