"""LF-Net: local image features learned from pairs of pictures with known geometry."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfnet.features import Features, Matches
    from lfnet.file_extraction import extract_files
    from lfnet.file_mapping import photos_to_model
    from lfnet.image_files import list_images
    from lfnet.images import ImageError, read_grey, read_image, to_grey
    from lfnet.integrations.hloc import read_features, read_matches
    from lfnet.matching import mutual_nearest_neighbours, verify
    from lfnet.models.config import ExtractionSettings, LFNetConfig
    from lfnet.models.lfnet import LFNet
    from lfnet.models.weights import list_pretrained
    from lfnet.shortcuts import extract, match

__version__ = "0.1.0"

# Where each public name lives: imported on first use, so `import lfnet` loads neither PyTorch nor OpenCV.
_EXPORTS = {
    "ExtractionSettings": "lfnet.models.config",
    "Features": "lfnet.features",
    "ImageError": "lfnet.images",
    "LFNet": "lfnet.models.lfnet",
    "LFNetConfig": "lfnet.models.config",
    "Matches": "lfnet.features",
    "extract": "lfnet.shortcuts",
    "extract_files": "lfnet.file_extraction",
    "list_images": "lfnet.image_files",
    "list_pretrained": "lfnet.models.weights",
    "match": "lfnet.shortcuts",
    "mutual_nearest_neighbours": "lfnet.matching",
    "photos_to_model": "lfnet.file_mapping",
    "read_features": "lfnet.integrations.hloc",
    "read_grey": "lfnet.images",
    "read_image": "lfnet.images",
    "read_matches": "lfnet.integrations.hloc",
    "to_grey": "lfnet.images",
    "verify": "lfnet.matching",
}

__all__ = [
    "ExtractionSettings",
    "Features",
    "ImageError",
    "LFNet",
    "LFNetConfig",
    "Matches",
    "__version__",
    "extract",
    "extract_files",
    "list_images",
    "list_pretrained",
    "match",
    "mutual_nearest_neighbours",
    "photos_to_model",
    "read_features",
    "read_grey",
    "read_image",
    "read_matches",
    "to_grey",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'lfnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
