"""LF-Net as one module: pictures in, keypoints and descriptors out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lfnet.features import Features
from lfnet.models.config import ExtractionSettings, LFNetConfig
from lfnet.models.descriptor import Descriptor
from lfnet.models.detector import Detector, DetectorMaps
from lfnet.models.inputs import is_blank, normalize_pictures, picture_tensor, resize_to_octave
from lfnet.models.keypoints import Keypoints, detect_keypoints, usable_pixels
from lfnet.models.patches import sample_patches, smooth_for_patches

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

MIN_SIDE = 16
"""Octaves with a shorter side than this have no room for a keypoint inside the border and are left out."""


class LFNet(nn.Module):
    """Detector and descriptor with one configuration.

    Args:
        config: the architecture; the default is the paper's.
    """

    def __init__(self, config: LFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or LFNetConfig()
        self.detector = Detector(self.config)
        self.descriptor = Descriptor(self.config.descriptor, self.config.patches)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = self.config.norm_momentum
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "lfnet-cpu") -> LFNet:
        """Load weights that ship with the package by name, or any weights file by path; in evaluation mode.

        Raises:
            WeightsError: if there is no such file or name, or the file is damaged or does not fit.
        """
        from lfnet.models.weights import load_weights

        return load_weights(name_or_path)

    def describe_at(
        self,
        images: Float[Tensor, "B 1 H W"],
        points: Float[Tensor, "B K 2"],
        scales: Float[Tensor, "B K"],
        orientations: Float[Tensor, "B K 2"],
    ) -> Float[Tensor, "B K D"]:
        """Descriptors of normalised pictures at given places; differentiable in all of them."""
        patches = self.patches_at(images, points, scales, orientations)
        return self.descriptor(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])

    def patches_at(
        self,
        images: Float[Tensor, "B 1 H W"],
        points: Float[Tensor, "B K 2"],
        scales: Float[Tensor, "B K"],
        orientations: Float[Tensor, "B K 2"],
    ) -> Float[Tensor, "B K S S"]:
        """The patches that the descriptor sees."""
        smooth = smooth_for_patches(images, self.config.patches)
        return sample_patches(smooth, points, scales, orientations, self.config.patches)

    def detect(self, images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]) -> DetectorMaps:
        """Score, scale and orientation maps of pictures that `normalize_pictures` prepared."""
        return self.detector(images, valid)

    @torch.inference_mode()
    def extract(
        self,
        images: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
        *,
        mask: Tensor | np.ndarray | Sequence[Tensor | np.ndarray | None] | None = None,
        settings: ExtractionSettings | None = None,
    ) -> list[Features]:
        """Keypoints with scale and orientation, and their descriptors, of any number of pictures of any sizes.

        Args:
            images: a tensor (B, 1 or 3, H, W), an array (H, W) or (H, W, 3), or a list of arrays and tensors
                ((H, W) or (C, H, W)); whole numbers in [0, 255] (uint8) or floats in [0, 1].
            mask: per picture (H, W), true where keypoints may be; None everywhere.
            settings: how many, how good, at which octaves.

        Returns:
            One `Features` per picture, best score first; fewer than `max_keypoints` where a picture has fewer maxima.

        Raises:
            ValueError: on a picture of another shape or type, with NaN, or a mask of another size.
        """
        settings = settings or ExtractionSettings()
        pictures = _split(images)
        masks: Sequence[Any] = [None] * len(pictures) if mask is None else _split_masks(mask)
        if len(masks) != len(pictures):
            raise ValueError(f"mask: expected one per picture ({len(pictures)}), got {len(masks)}")
        device = next(self.parameters()).device
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        prepared = []
        for index, (picture, usable) in enumerate(zip(pictures, masks, strict=True)):
            tensors = picture_tensor(picture, usable)
            prepared.append(tensors)
            groups[(tensors[0].shape[-2], tensors[0].shape[-1])].append(index)
        results: dict[int, Features] = {}
        was_training = self.training
        self.eval()
        try:
            for members in groups.values():
                batch = torch.stack([prepared[index][0] for index in members]).to(device)
                valid = torch.stack([prepared[index][1] for index in members]).to(device)
                results.update(zip(members, self._extract_batch(batch, valid, settings), strict=True))
        finally:
            self.train(was_training)
        return [results[index] for index in range(len(pictures))]

    @torch.inference_mode()
    def describe(
        self,
        image: Tensor | np.ndarray,
        keypoints: np.ndarray,
        scales: np.ndarray | None = None,
        orientations: np.ndarray | None = None,
    ) -> np.ndarray:
        """Descriptors of one picture at keypoints of any origin.

        Args:
            image: (H, W) or (H, W, 3), uint8 or float in [0, 1].
            keypoints: (N, 2), (x, y) in pixels.
            scales: (N,), the patch is `patches.extent * scale` pixels wide; 1 where None. Each keypoint is read from
                the octave of the picture in which its scale is nearest to 1; `extract` may have found it in another, so
                descriptors of extracted keypoints agree closely, not exactly.
            orientations: (N,), radians from +x towards +y; 0 where None.

        Returns:
            (N, D) float32, unit rows.
        """
        keypoints = np.asarray(keypoints, np.float32).reshape(-1, 2) if len(keypoints) == 0 else np.asarray(keypoints)
        count = len(keypoints)
        scales = np.ones(count, np.float32) if scales is None else np.asarray(scales, np.float32)
        orientations = np.zeros(count, np.float32) if orientations is None else np.asarray(orientations, np.float32)
        if not (np.shape(keypoints) == (count, 2) and scales.shape == orientations.shape == (count,)):
            raise ValueError(
                "describe: expected keypoints (N, 2), scales (N,) and orientations (N,), got "
                f"{np.shape(keypoints)}, {scales.shape} and {orientations.shape}"
            )
        for name, values in (("keypoints", keypoints), ("scales", scales), ("orientations", orientations)):
            if not np.isfinite(values).all():
                raise ValueError(f"describe: {name} has NaN or infinite values; leave those keypoints out")
        if (scales <= 0).any():
            raise ValueError(f"describe: expected scales above 0, got {scales.min():g}")
        picture, valid = picture_tensor(image, None)
        device = next(self.parameters()).device
        descriptors = np.zeros((count, self.config.descriptor.dimension), np.float32)
        octaves = self._describing_octaves(picture.shape[-2:])
        # Each keypoint is described where its patch is read at about the resolution that the network was trained at.
        chosen_octave = np.abs(np.log(np.maximum(scales, 1e-6)[:, None] * octaves[None])).argmin(1)
        was_training = self.training
        self.eval()
        try:
            for number in np.unique(chosen_octave):
                chosen = np.flatnonzero(chosen_octave == number)
                small, small_valid, ratio = resize_to_octave(picture[None], valid[None], float(octaves[number]))
                normalized = normalize_pictures(small.to(device), small_valid.to(device))
                places = (torch.from_numpy(np.asarray(keypoints, np.float32)[chosen]) + 0.5) * torch.tensor(ratio) - 0.5
                angles = torch.from_numpy(orientations[chosen])
                directions = torch.stack((torch.cos(angles), torch.sin(angles)), -1)
                sizes = torch.from_numpy(scales[chosen]) * float(np.sqrt(ratio[0] * ratio[1]))
                rows = self.describe_at(
                    normalized, places[None].to(device), sizes[None].to(device), directions[None].to(device)
                )
                descriptors[chosen] = rows[0].float().cpu().numpy()
        finally:
            self.train(was_training)
        return descriptors

    def _describing_octaves(self, size: Sequence[int]) -> np.ndarray:
        """The model's octaves, and beyond them halves as far as the picture reaches."""
        octaves = sorted(self.config.octaves, reverse=True)
        while octaves[-1] * min(size) >= 2 * MIN_SIDE:
            octaves.append(octaves[-1] / 2)
        return np.asarray(octaves)

    def _extract_batch(self, images: Tensor, valid: Tensor, settings: ExtractionSettings) -> list[Features]:
        octaves = settings.octaves or self.config.octaves
        found: list[list[_Found]] = [[] for _ in range(len(images))]
        for octave in octaves:
            small, small_valid, ratio = resize_to_octave(images, valid, octave)
            if min(small.shape[-2:]) < MIN_SIDE:
                continue
            normalized = normalize_pictures(small, small_valid)
            maps = self.detect(normalized, small_valid)
            showing = small_valid & ~is_blank(normalized, small_valid)[:, None, None, None]
            keypoints = self._keypoints(maps, showing, settings)
            weight = (min(octaves) / octave) ** self.config.octave_preference
            keypoints = keypoints._replace(scores=keypoints.scores * weight)
            for index in range(len(images)):
                found[index].append(_Found(normalized[index : index + 1], keypoints, index, ratio))
        size = (images.shape[-1], images.shape[-2])
        return [self._best(octave_results, settings, size) for octave_results in found]

    def _keypoints(self, maps: DetectorMaps, valid: Tensor, settings: ExtractionSettings) -> Keypoints:
        border = self.config.keypoints.border if settings.border is None else settings.border
        usable = usable_pixels(valid, border, border)
        keypoints = detect_keypoints(maps, usable, settings.max_keypoints, self.config.keypoints)
        if settings.upright:
            level = torch.zeros_like(keypoints.orientations)
            level[..., 0] = 1
            keypoints = keypoints._replace(orientations=level)
        if settings.single_scale:
            keypoints = keypoints._replace(scales=torch.ones_like(keypoints.scales))
        return keypoints

    def _best(self, octaves: list[_Found], settings: ExtractionSettings, size: tuple[int, int]) -> Features:
        """Keep the best of all octaves, and describe only those, each in its own octave."""
        if not octaves:
            return Features.empty(size, self.config.descriptor.dimension)
        scores = torch.cat([octave.scores for octave in octaves])
        number = torch.cat([torch.full_like(octave.scores, float(n)) for n, octave in enumerate(octaves)])
        order = torch.argsort(scores, descending=True, stable=True)[: settings.max_keypoints]
        order = order[scores[order] >= settings.min_score]
        kept = torch.zeros_like(scores, dtype=torch.bool)
        kept[order] = True
        parts = []
        for n, octave in enumerate(octaves):
            parts.append(octave.describe(self, kept[number == n]))
        columns = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
        ranking = np.argsort(-columns[3], kind="stable")
        keypoints, scales, orientations, scores_kept, descriptors = (column[ranking] for column in columns)
        return Features(keypoints, scales, orientations, scores_kept, descriptors, size)


class _Found:
    """The keypoints of one picture in one octave."""

    def __init__(self, image: Tensor, keypoints: Keypoints, index: int, ratio: tuple[float, float]) -> None:
        present = keypoints.present[index]
        self.image = image
        self.points = keypoints.points[index][present]
        self.scores = keypoints.scores[index][present]
        self.scales = keypoints.scales[index][present]
        self.orientations = keypoints.orientations[index][present]
        self.ratio = ratio

    def describe(self, model: LFNet, kept: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Points, scales, angles, scores and descriptors of the kept ones, in pixels of the whole picture."""
        points, scales, directions = self.points[kept], self.scales[kept], self.orientations[kept]
        dimension = model.config.descriptor.dimension
        descriptors = points.new_zeros((0, dimension))
        if len(points):
            descriptors = model.describe_at(self.image, points[None], scales[None], directions[None])[0]
        ratio = points.new_tensor(self.ratio)
        whole = (points + 0.5) / ratio - 0.5
        angles = torch.atan2(directions[:, 1], directions[:, 0])
        return whole, scales / float(ratio.prod().sqrt()), angles, self.scores[kept], descriptors


def _split(images: Any) -> list[Any]:
    if not isinstance(images, (Tensor, np.ndarray)):
        return list(images)
    if images.ndim == 2 or _is_colour_array(images) or _is_colour_tensor(images):
        return [images]
    if images.ndim == 3 and min(images.shape[0], images.shape[-1]) <= 4:
        raise ValueError(
            f"images: {tuple(images.shape)} could be one picture or several; expected an array (H, W) or (H, W, 3), a "
            "tensor (1 or 3, H, W) or (B, C, H, W), or a list of pictures"
        )
    return list(images)


def _split_masks(masks: Any) -> list[Any]:
    """Masks have no colours: the first of three axes always counts pictures."""
    return [masks] if isinstance(masks, (Tensor, np.ndarray)) and masks.ndim == 2 else list(masks)


def _is_colour_array(image: Tensor | np.ndarray) -> bool:
    return isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[-1] in (1, 3)


def _is_colour_tensor(image: Tensor | np.ndarray) -> bool:
    return isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] in (1, 3)
