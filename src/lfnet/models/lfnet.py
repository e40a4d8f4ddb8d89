"""LF-Net for people: arrays in, `Features` out, weights by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.image_rows import ArrayRows, Rows
from lfnet.masks import held_mask
from lfnet.models.config import ExtractionSettings, TileSettings
from lfnet.models.hub import WEIGHTS_FILE, write_beside
from lfnet.models.inputs import check_places, normalize_pictures, picture_tensor, pictures_by_size, resize_to_octave
from lfnet.models.keypoints import Keypoints
from lfnet.models.network import Network
from lfnet.models.pyramid import describing_octaves
from lfnet.models.tiles import extract_in_tiles
from lfnet.models.weights import WeightsError, read_weights, save_weights

Held: TypeAlias = Tensor | np.ndarray | Image.Image
"""An image, or a mask, that a caller holds."""


class LFNet(Network):
    """The network with a door for people: pictures as arrays in, `Features` out, weights by name.

    Args:
        config: the architecture; the default is the paper's.
    """

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "lfnet-cpu") -> LFNet:
        """Load weights that ship with the package by name, or any weights file or folder by path; in evaluation mode.

        Raises:
            WeightsError: if there is no such file or name, or the file is damaged or does not fit.
        """
        weights = read_weights(name_or_path)
        with torch.device("meta"):  # Without room for values: their number is only what the file says.
            declared = cls(weights.config).state_dict()
        for name, tensor in declared.items():
            if name not in weights.tensors or weights.tensors[name].shape != tensor.shape:
                found = tuple(weights.tensors[name].shape) if name in weights.tensors else "none"
                raise WeightsError(
                    f"weights {weights.path}: its tensors are of another configuration ({name} must have shape "
                    f"{tuple(tensor.shape)}, got {found})"
                )
        model = cls(weights.config)
        try:
            model.load_state_dict(weights.tensors)
        except RuntimeError as error:
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][1:2]
            raise WeightsError(
                f"weights {weights.path}: its tensors are of another configuration ({' '.join(reason)})"
            ) from error
        return model.eval()

    def save_pretrained(self, folder: str | Path, card: dict[str, Any] | None = None) -> None:
        """Save as a folder in the layout of the Hugging Face Hub, which `from_pretrained` reads.

        Args:
            folder: takes `model.safetensors`, `config.json` and a `README.md`; made where it is missing.
            card: facts of the training (data, steps, licence …), anything that JSON holds.

        Raises:
            OSError: a file can't be written.
        """
        weights = Path(folder) / WEIGHTS_FILE
        save_weights(weights, self.config, self.state_dict(), card)
        write_beside(weights, self.config, card or {})

    @torch.inference_mode()
    def extract(
        self,
        images: Held | Sequence[Held],
        *,
        mask: Held | Sequence[Held | None] | None = None,
        settings: ExtractionSettings | None = None,
    ) -> list[Features]:
        """Keypoints with scale and orientation, and their descriptors, of any number of pictures of any sizes.

        Args:
            images: one image: an array (H, W), (H, W, 1) or (H, W, 3), a tensor (H, W), (1, H, W) or (3, H, W), or an
                image of Pillow's; or several: a list of these, a tensor (B, 1 or 3, H, W), an array (B, H, W, 1 or 3).
                uint8, uint16, or floats in [0, 1].
            mask: per image (H, W), not 0 where keypoints may be; None everywhere.
            settings: how many, how good, at which octaves.

        Returns:
            One `Features` per picture, best score first; fewer than `max_keypoints` where a picture has fewer maxima.

        Raises:
            UserError: on a picture of another shape or type, with NaN, or a mask of another size.
        """
        settings = settings or ExtractionSettings()
        model = self._steady()
        results: dict[int, Features] = {}
        for members, batch, valid in pictures_by_size(images, mask, model.device):
            size = (batch.shape[-1], batch.shape[-2])
            for index, (keypoints, descriptors) in zip(members, model.find(batch, valid, settings), strict=True):
                results[index] = _as_features(keypoints, descriptors, size)
        return [results[index] for index in range(len(results))]

    def extract_in_tiles(
        self,
        image: Rows | np.ndarray,
        *,
        mask: Rows | np.ndarray | None = None,
        settings: ExtractionSettings | None = None,
        tiles: TileSettings | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Features:
        """The features that `extract` would find in one picture, in memory for a tile and not for the whole.

        Args:
            image: rows of a file, by `lfnet.image_rows.open_rows`, or an array (H, W) or (H, W, 3).
            mask: rows of a file, or an array as `extract` takes it: not 0 where keypoints may be; None everywhere.
            settings: how many, how good, at which octaves; all of the whole picture, whatever tiles there are.
            tiles: how the picture is cut.
            progress: called with how many looks at tiles are done, and how many there are.

        Raises:
            UserError: the overlap is smaller than the model needs, or an image or mask of another shape.
            ImageError: rows can't be read.
        """
        picture = ArrayRows(image) if isinstance(image, np.ndarray) else image
        width, height = picture.size
        usable = ArrayRows(held_mask(mask, (height, width))) if isinstance(mask, np.ndarray) else mask
        steady, settings = self._steady(), settings or ExtractionSettings()
        keypoints, descriptors = extract_in_tiles(steady, picture, usable, settings, tiles or TileSettings(), progress)
        return _as_features(keypoints, descriptors, picture.size)

    @torch.inference_mode()
    def describe(
        self,
        image: Held,
        keypoints: np.ndarray,
        scales: np.ndarray | None = None,
        orientations: np.ndarray | None = None,
    ) -> np.ndarray:
        """Descriptors of one picture at keypoints of any origin.

        Args:
            image: one, as `extract` takes it.
            keypoints: (N, 2), (x, y) in pixels.
            scales: (N,), the patch is `patches.extent * scale` pixels wide; 1 where None. Log-polar patches are read as
                `extract` reads them. Square ones are read from the octave in which the scale is nearest to 1; `extract`
                may have found it in another, so those descriptors agree closely, not exactly.
            orientations: (N,), radians from +x towards +y; 0 where None.

        Returns:
            (N, D) float32, unit rows.

        Raises:
            UserError: on a picture, keypoints, scales or orientations of another shape, or with NaN.
        """
        places, sizes, angles = (torch.from_numpy(each) for each in check_places(keypoints, scales, orientations))
        picture, valid = picture_tensor(image, None)
        if not len(places):
            return np.zeros((0, self.config.descriptor.dimension), np.float32)
        model = self._steady()
        directions = torch.stack((torch.cos(angles), torch.sin(angles)), -1)
        points, sizes, directions, images, valid = (
            each[None].to(model.device) for each in (places, sizes, directions, picture, valid)
        )
        if self.config.patches.sampling == "log-polar":
            mosaic = model.mosaic(normalize_pictures(images, valid))
            return model.describe_at(mosaic, points, sizes, directions)[0].float().cpu().numpy()
        # Each is described in the octave where its patch is read at about the resolution of training.
        octaves = describing_octaves(self.config.octaves, (images.shape[-2], images.shape[-1])).to(sizes)
        nearest = (sizes[0].clamp_min(1e-6)[:, None] * octaves).log().abs().argmin(1)
        descriptors = points.new_zeros(points.shape[1], self.config.descriptor.dimension)
        for number in nearest.unique().tolist():
            rows = torch.nonzero(nearest == number)[:, 0]
            small, small_valid, ratio = resize_to_octave(images, valid, float(octaves[number]))
            mosaic = model.mosaic(normalize_pictures(small, small_valid))
            there = (points[:, rows] + 0.5) * points.new_tensor(ratio) - 0.5
            scale = sizes[:, rows] * float(np.sqrt(ratio[0] * ratio[1]))
            descriptors[rows] = model.describe_at(mosaic, there, scale, directions[:, rows])[0].float()
        return descriptors.cpu().numpy()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def _steady(self) -> LFNet:
        """The network in evaluation mode; while it trains, a copy, since others may be using it.

        Raises:
            UserError: if its weights are of another type than float32.
        """
        kind = next(self.parameters()).dtype
        if kind != torch.float32:
            raise UserError(f"model: expected weights of float32, got {kind}; call model.float() first")
        return copy.deepcopy(self).eval() if self.training else self


def _as_features(keypoints: Keypoints, descriptors: Tensor, size: tuple[int, int]) -> Features:
    angles = torch.atan2(keypoints.orientations[0, :, 1], keypoints.orientations[0, :, 0])
    columns = (keypoints.points[0], keypoints.scales[0], angles, keypoints.scores[0], descriptors, keypoints.sigmas[0])
    points, scales, angles, scores, rows, sigmas = (column.float().cpu().numpy() for column in columns)
    return Features(points, scales, angles, scores, rows, size, sigmas)
