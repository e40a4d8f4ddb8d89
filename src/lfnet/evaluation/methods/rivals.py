"""Learned features of others as methods: DISK, ALIKED, XFeat and DeDoDe by kornia, SuperPoint by transformers.

Nothing is downloaded: weights are read from where the user says. Each is run as its authors do, with thresholds so low
that it fills its budget, and its keypoints are brought to this package's pixels. None of them gives a scale or an
orientation with a keypoint: those are 1 and 0.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from lfnet.errors import UserError, one_line
from lfnet.features import Features
from lfnet.files.checksum import checksum

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from numpy import ndarray as Array

Choose: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Index of the keypoints that are wanted, strongest first, from all positions (N, 2) in pixels and scores (N,)."""

Find: TypeAlias = Callable[[Tensor, Choose], tuple[Tensor, Tensor, Tensor]]
"""Positions (K, 2) in pixels, scores (K,) and descriptors (K, D) of a picture (1, C, H, W) in [0, 1]."""

INSTALL = "pip install 'lfnet[rivals]'"

ALIKED_MODELS = ("aliked-n16", "aliked-t16", "aliked-n32")
"""Architectures of ALIKED's weights (those of n16rot are n16's), tried in turn."""

CONSTANTS = ("hw_grid", "num_batches_tracked")
"""Ends of names of buffers that a checkpoint may lack: they don't come from training."""


@dataclass(frozen=True)
class Rival:
    """How a rival is made."""

    load: Callable[[Path, str], tuple[nn.Module, Find]]
    """From the path of its weights and a device."""
    weights: str
    """What the weights are called, and where they are to be had."""
    package: str = "kornia"
    """That it needs."""
    wants_colour: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    """What was set otherwise than by default."""


class RivalExtractor:
    """A rival behind the extractor's call.

    Args:
        name: in tables, and what to make: one of `RIVALS`.
        weights: file or folder of its weights.
        device: torch device.

    Raises:
        ValueError: in one line: its package isn't installed, or the weights are missing, damaged or another model's.
    """

    def __init__(self, name: str, weights: Path, device: str = "cpu") -> None:
        rival = RIVALS[name]
        self.name = name
        self.wants_colour = rival.wants_colour
        version = _version(name, rival.package)
        if not weights.exists():
            raise UserError(f"{name}: no weights at {weights}; give {name}:PATH to {rival.weights}")
        model, self._find = rival.load(weights, device)
        self._device = device
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        """Numbers that training has set."""
        self.model_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
        """What the network's numbers take."""
        self.settings: dict[str, Any] = {
            "kind": "rival",
            "rival": name,
            "weights": checksum(*_files(weights)),
            "device": device,
            rival.package: version,
            "torch": torch.__version__,
            "options": rival.options,
        }

    @torch.inference_mode()
    def __call__(
        self, image: UInt8[Array, "H W *C"], *, max_keypoints: int, mask: Bool[Array, "H W"] | None = None
    ) -> Features:
        """The strongest keypoints of a picture.

        Args:
            image: RGB, or grey for a rival that wants no colour.
            max_keypoints: the budget.
            mask: True where keypoints are wanted; None = everywhere.

        Returns:
            at most `max_keypoints` features, strongest first.
        """
        pixels = image[:, :, None] if image.ndim == 2 else image
        picture = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(2, 0, 1)[None].float() / 255

        def choose(keypoints: Tensor, scores: Tensor) -> Tensor:
            order = torch.argsort(scores, descending=True, stable=True)
            if mask is not None:
                order = order[_inside(keypoints, mask)[order]]
            return order[:max_keypoints]

        try:
            found = self._find(picture, choose)
        except (RuntimeError, IndexError) as error:  # Others' networks: a picture that they can't take costs that one.
            raise UserError(f"{self.name}: {one_line(error)}") from error
        keypoints, scores, descriptors = (part.float().cpu().numpy() for part in found)
        count = len(keypoints)
        size = (image.shape[1], image.shape[0])
        ones = np.ones(count, np.float32)
        return Features(keypoints, ones, 0 * ones, scores, descriptors, size)


def make_rival(name: str, weights: Path | None, device: str = "cpu") -> RivalExtractor:
    """A rival by name.

    Args:
        name: one of `RIVALS`.
        weights: file or folder of its weights.
        device: torch device.

    Raises:
        ValueError: in one line: no weights were named, or as `RivalExtractor`.
    """
    if weights is None:
        raise UserError(f"{name}: needs its weights: give {name}:PATH to {RIVALS[name].weights}")
    return RivalExtractor(name, weights, device)


def _inside(keypoints: Tensor, mask: Bool[Array, "H W"]) -> Tensor:
    height, width = mask.shape
    x = keypoints[:, 0].round().long().clamp(0, width - 1)
    y = keypoints[:, 1].round().long().clamp(0, height - 1)
    return torch.from_numpy(np.ascontiguousarray(mask)).to(keypoints.device)[y, x]


def _load_disk(path: Path, device: str) -> tuple[nn.Module, Find]:
    from kornia.feature import DISK

    model = DISK()
    tensors = _read(path, "disk")
    _fill(model, tensors.get("extractor", tensors), "disk", path)
    model.to(device).eval()

    def find(picture: Tensor, choose: Choose) -> tuple[Tensor, Tensor, Tensor]:
        found = model(picture, pad_if_not_divisible=True)[0]
        index = choose(found.keypoints, found.detection_scores)
        return found.keypoints[index], found.detection_scores[index], found.descriptors[index]

    return model, find


def _load_aliked(path: Path, device: str) -> tuple[nn.Module, Find]:
    try:
        from kornia.feature import ALIKED
    except ImportError as error:
        raise UserError(f"aliked: the installed kornia has no ALIKED; {INSTALL} --upgrade") from error
    tensors = _read(path, "aliked")
    model = _first_that_fits([lambda name=name: ALIKED(name, detection_threshold=0.0) for name in ALIKED_MODELS],
                             tensors, "aliked", path).to(device).eval()  # fmt: skip

    def find(picture: Tensor, choose: Choose) -> tuple[Tensor, Tensor, Tensor]:
        height, width = picture.shape[-2:]
        features, scores = model.extract_dense_map(picture)
        model.dkd.top_k = height * width  # That is, all maxima.
        (places,), (heights,), _ = model.dkd(scores)
        keypoints = (places + 1) / 2 * torch.tensor([width - 1, height - 1], device=places.device)
        index = choose(keypoints, heights)
        (descriptors,), _ = model.desc_head(features, [places[index]])
        return keypoints[index], heights[index], descriptors

    return model, find


def _load_xfeat(path: Path, device: str) -> tuple[nn.Module, Find]:
    try:
        from kornia.feature import XFeat
    except ImportError as error:
        raise UserError(f"xfeat: the installed kornia has no XFeat; {INSTALL} --upgrade") from error
    model = XFeat()
    _fill(model.net, _read(path, "xfeat"), "xfeat", path)
    model.to(device).eval()

    def find(picture: Tensor, choose: Choose) -> tuple[Tensor, Tensor, Tensor]:
        height, width = picture.shape[-2:]
        found = model.detectAndCompute(picture, top_k=height * width, detection_threshold=0.0)[0]
        # It looks at a picture whose sides are multiples of 32, and scales pixels back as if their corner were (0, 0).
        ratio = torch.tensor([side / max(32, side // 32 * 32) for side in (width, height)], device=picture.device)
        keypoints = found["keypoints"] + (ratio - 1) / 2
        index = choose(keypoints, found["scores"])
        return keypoints[index], found["scores"][index], found["descriptors"][index]

    return model, find


def _load_dedode(path: Path, device: str) -> tuple[nn.Module, Find]:
    from kornia.feature import DeDoDe

    files = {part: _only_file(path, part) for part in ("detector", "descriptor")}
    model = DeDoDe("L", "B", amp_dtype=torch.float32)
    for part, file in files.items():
        _fill(getattr(model, part), _read(file, "dedode"), f"dedode's {part}", file)
    model.to(device).eval()

    def find(picture: Tensor, choose: Choose) -> tuple[Tensor, Tensor, Tensor]:
        size = torch.tensor(picture.shape[:1:-1], device=picture.device)
        (places,), (scores,) = model.detect(picture, n=None)
        keypoints = (places + 1) * size / 2 - 0.5
        index = choose(keypoints, scores)
        (descriptors,) = model.describe(picture, places[index][None])
        return keypoints[index], scores[index], nn.functional.normalize(descriptors, dim=-1)

    return model, find


def _load_superpoint(path: Path, device: str) -> tuple[nn.Module, Find]:
    network = import_module("transformers").SuperPointForKeypointDetection
    try:
        model, about = network.from_pretrained(
            str(path), local_files_only=True, output_loading_info=True, keypoint_threshold=0.0, max_keypoints=-1
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"superpoint: {path}: {_told_by(error)}; give {RIVALS['superpoint'].weights}") from error
    if about["missing_keys"]:
        raise UserError(f"superpoint: {path}: the weights lack {sorted(about['missing_keys'])[0]}; copy them again")
    model.to(device).eval()

    def find(picture: Tensor, choose: Choose) -> tuple[Tensor, Tensor, Tensor]:
        found = model(picture)
        keypoints = found.keypoints[0] * torch.tensor(picture.shape[:1:-1], device=picture.device)
        index = choose(keypoints, found.scores[0])
        return keypoints[index], found.scores[0][index], found.descriptors[0][index]

    return model, find


RIVALS: dict[str, Rival] = {
    "disk": Rival(_load_disk, "depth-save.pth of github.com/cvlab-epfl/disk", options={"score_threshold": 0.0}),
    "aliked": Rival(
        _load_aliked,
        "a weights file (aliked-n16.pth) of github.com/Shiaoming/ALIKED",
        options={"detection_threshold": 0},
    ),
    "xfeat": Rival(
        _load_xfeat, "weights/xfeat.pt of github.com/verlab/accelerated_features", options={"detection_threshold": 0}
    ),
    "dedode": Rival(
        _load_dedode,
        "a folder with dedode_detector_L.pth (or _v2) and dedode_descriptor_B.pth of github.com/Parskatt/DeDoDe",
        options={"precision": "float32"},
    ),
    "superpoint": Rival(
        _load_superpoint,
        "a folder with config.json and model.safetensors of huggingface.co/magic-leap-community/superpoint",
        package="transformers",
        wants_colour=False,
        options={"keypoint_threshold": 0},
    ),
}
"""Rivals by name."""


def _version(name: str, package: str) -> str:
    try:
        module = import_module(package)
    except ImportError as error:
        raise UserError(f"{name}: needs {package}, which is not installed: {INSTALL}") from error
    return str(module.__version__)


def _read(path: Path, name: str) -> dict[str, Any]:
    """Tensors of a checkpoint, by name; code in it is not run."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{name}: {path}: can't be read as weights ({_told_by(error)}); copy them again") from error
    if not isinstance(tensors, Mapping):
        raise UserError(f"{name}: {path}: expected tensors by name, got {type(tensors).__name__}")
    return dict(tensors)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str, path: Path) -> None:
    """Set every weight of a module from a checkpoint, and use all of the checkpoint."""
    try:
        left = module.load_state_dict(tensors, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: {path}: weights of another model ({_told_by(error)})") from error
    missing = [key for key in left.missing_keys if not key.endswith(CONSTANTS)]
    if missing or left.unexpected_keys:
        what = f"lack {missing[0]}" if missing else f"hold {left.unexpected_keys[0]} too"
        raise UserError(f"{name}: {path}: weights of another model (they {what})")


def _first_that_fits(
    makers: list[Callable[[], nn.Module]], tensors: Mapping[str, Tensor], name: str, path: Path
) -> Any:
    for number, make in enumerate(makers, start=1):
        module = make()
        try:
            _fill(module, tensors, name, path)
        except ValueError:
            if number == len(makers):
                raise
        else:
            return module
    raise AssertionError("there is at least one maker")


def _only_file(folder: Path, word: str) -> Path:
    found = sorted(file for file in folder.glob("*") if word in file.name) if folder.is_dir() else []
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise UserError(f"dedode: {folder}: expected one file with {word!r} in its name, got {names}")
    return found[0]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _told_by(error: BaseException) -> str:
    """The second line, where there is one: torch's first only says that something failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)] if lines else type(error).__name__
