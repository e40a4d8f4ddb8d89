"""LF-Net as one module: pictures in, keypoints and descriptors out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.models.config import ExtractionSettings, LFNetConfig
from lfnet.models.descriptor import Descriptor, turned
from lfnet.models.detector import Detector, DetectorMaps
from lfnet.models.inputs import is_blank, local_contrast, normalize_pictures, picture_tensor, resize_to_octave
from lfnet.models.keypoints import Keypoints, detect_keypoints, upright, usable_pixels
from lfnet.models.orientation import best_angles
from lfnet.models.patches import Mosaic, make_mosaic, sample_patches
from lfnet.models.pyramid import CANDIDATES, MIN_SIDE, Octave, choose

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class LFNet(nn.Module):
    """Detector and descriptor with one configuration.

    Args:
        config: the architecture; the default is the paper's.
    """

    def __init__(self, config: LFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or LFNetConfig()
        self.detector = Detector(self.config)
        self.shared = self.config.orientation.mode == "shared"
        self.descriptor = Descriptor(self.config.descriptor, self.config.patches, self.shared)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = self.config.norm_momentum
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "lfnet-cpu") -> LFNet:
        """Load weights that ship with the package by name, or any weights file or folder by path; in evaluation mode.

        Raises:
            WeightsError: if there is no such file or name, or the file is damaged or does not fit.
        """
        from lfnet.models.weights import load_weights

        return load_weights(name_or_path)

    def save_pretrained(self, folder: str | Path, card: dict[str, Any] | None = None) -> None:
        """Save as a folder in the layout of the Hugging Face Hub, which `from_pretrained` reads.

        Args:
            folder: takes `model.safetensors`, `config.json` and a `README.md`; made where it is missing.
            card: facts of the training (data, steps, licence …), anything that JSON holds.

        Raises:
            OSError: a file can't be written.
        """
        from lfnet.models.hub import WEIGHTS_FILE, write_beside
        from lfnet.models.weights import save_weights

        weights = Path(folder) / WEIGHTS_FILE
        save_weights(weights, self, card)
        write_beside(weights, self.config, card or {})

    def describe_at(
        self,
        mosaic: Mosaic,
        points: Float[Tensor, "B K 2"],
        scales: Float[Tensor, "B K"],
        orientations: Float[Tensor, "B K 2"],
    ) -> Float[Tensor, "B K D"]:
        """Descriptors at given places; differentiable in all of them.

        Args:
            mosaic: of normalised pictures, by `mosaic`.
            points: (x, y) in pixels.
            scales: see `PatchConfig.extent`.
            orientations: (cos, sin).
        """
        if self.shared:
            patches = self.patches_at(mosaic, points, scales, upright(points)).flatten(0, 1)
            rows = self.descriptor.finish(turned(self.descriptor.begin(patches), orientations.flatten(0, 1)))
        else:
            rows = self.descriptor(self.patches_at(mosaic, points, scales, orientations).flatten(0, 1))
        return rows.unflatten(0, points.shape[:2])

    def mosaic(self, images: Float[Tensor, "B 1 H W"]) -> Mosaic:
        """What patches of normalised pictures are read from: made once, read for every keypoint."""
        return make_mosaic(images, self.config.patches)

    def patches_at(
        self,
        mosaic: Mosaic,
        points: Float[Tensor, "B K 2"],
        scales: Float[Tensor, "B K"],
        orientations: Float[Tensor, "B K 2"],
    ) -> Float[Tensor, "B K R S"]:
        """The patches that the descriptor sees."""
        return sample_patches(mosaic, points, scales, orientations, self.config.patches)

    def orient(self, mosaic: Mosaic, keypoints: Keypoints) -> Keypoints:
        """Keypoints with the orientations that their patches show; as they are where the maps gave orientations."""
        if not self.shared:
            return keypoints
        logits = self.orientation_logits(mosaic, keypoints.points, keypoints.scales)
        return keypoints._replace(orientations=best_angles(logits))

    def orientation_logits(
        self, mosaic: Mosaic, points: Float[Tensor, "B K 2"], scales: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B K A"]:
        """Scores of A angles at given places, read off upright patches (orientation mode "shared" alone)."""
        patches = self.patches_at(mosaic, points, scales, upright(points)).flatten(0, 1)
        return self.descriptor.angle_scores(self.descriptor.begin(patches)).unflatten(0, points.shape[:2])

    def detect(self, images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]) -> DetectorMaps:
        """Score, scale and orientation maps of pictures that `normalize_pictures` prepared."""
        return self.detector(images, valid)

    def ranked(self, maps: DetectorMaps, images: Float[Tensor, "B 1 H W"]) -> DetectorMaps:
        """Maps whose scores rank keypoints: weighed by the local contrast of normalised pictures, if that counts."""
        if self.config.contrast_preference == 0:
            return maps
        return maps._replace(scores=maps.scores * local_contrast(images) ** self.config.contrast_preference)

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
            raise UserError(f"mask: expected one per picture ({len(pictures)}), got {len(masks)}")
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
            scales: (N,), the patch is `patches.extent * scale` pixels wide; 1 where None. Log-polar patches are read as
                `extract` reads them. Square ones are read from the octave in which the scale is nearest to 1; `extract`
                may have found it in another, so those descriptors agree closely, not exactly.
            orientations: (N,), radians from +x towards +y; 0 where None.

        Returns:
            (N, D) float32, unit rows.
        """
        keypoints = np.asarray(keypoints, np.float32).reshape(-1, 2) if len(keypoints) == 0 else np.asarray(keypoints)
        count = len(keypoints)
        scales = np.ones(count, np.float32) if scales is None else np.asarray(scales, np.float32)
        orientations = np.zeros(count, np.float32) if orientations is None else np.asarray(orientations, np.float32)
        if not (np.shape(keypoints) == (count, 2) and scales.shape == orientations.shape == (count,)):
            raise UserError(
                "describe: expected keypoints (N, 2), scales (N,) and orientations (N,), got "
                f"{np.shape(keypoints)}, {scales.shape} and {orientations.shape}"
            )
        for name, values in (("keypoints", keypoints), ("scales", scales), ("orientations", orientations)):
            if not np.isfinite(values).all():
                raise UserError(f"describe: {name} has NaN or infinite values; leave those keypoints out")
        if (scales <= 0).any():
            raise UserError(f"describe: expected scales above 0, got {scales.min():g}")
        picture, valid = picture_tensor(image, None)
        if count == 0:
            return np.zeros((0, self.config.descriptor.dimension), np.float32)
        device = next(self.parameters()).device
        places = torch.from_numpy(np.asarray(keypoints, np.float32))[None].to(device)
        sizes = torch.from_numpy(scales)[None].to(device)
        angles = torch.from_numpy(orientations)[None].to(device)
        directions = torch.stack((torch.cos(angles), torch.sin(angles)), -1)
        images, valid = picture[None].to(device), valid[None].to(device)
        was_training = self.training
        self.eval()
        try:
            if self.config.patches.sampling == "log-polar":
                mosaic = self.mosaic(normalize_pictures(images, valid))
                return self.describe_at(mosaic, places, sizes, directions)[0].float().cpu().numpy()
            return self._describe_squares(images, valid, places, sizes, directions)
        finally:
            self.train(was_training)

    def _describe_squares(
        self, images: Tensor, valid: Tensor, places: Tensor, sizes: Tensor, directions: Tensor
    ) -> np.ndarray:
        """Each is described in the octave where its patch is read at about the resolution of training."""
        descriptors = np.zeros((places.shape[1], self.config.descriptor.dimension), np.float32)
        octaves = self._describing_octaves(images.shape[-2:])
        nearest = np.abs(np.log(sizes[0].clamp_min(1e-6).cpu().numpy()[:, None] * octaves[None])).argmin(1)
        for number in np.unique(nearest):
            chosen = torch.from_numpy(np.flatnonzero(nearest == number)).to(places.device)
            small, small_valid, ratio = resize_to_octave(images, valid, float(octaves[number]))
            mosaic = self.mosaic(normalize_pictures(small, small_valid))
            points = (places[:, chosen] + 0.5) * places.new_tensor(ratio) - 0.5
            scales = sizes[:, chosen] * float(np.sqrt(ratio[0] * ratio[1]))
            rows = self.describe_at(mosaic, points, scales, directions[:, chosen])[0]
            descriptors[chosen.cpu().numpy()] = rows.float().cpu().numpy()
        return descriptors

    def _describing_octaves(self, size: Sequence[int]) -> np.ndarray:
        """The model's octaves, and beyond them halves as far as the picture reaches."""
        octaves = sorted(self.config.octaves, reverse=True)
        while octaves[-1] * min(size) >= 2 * MIN_SIDE:
            octaves.append(octaves[-1] / 2)
        return np.asarray(octaves)

    def _extract_batch(self, images: Tensor, valid: Tensor, settings: ExtractionSettings) -> list[Features]:
        octaves = self._search(images, valid, settings)
        size = (images.shape[-1], images.shape[-2])
        return [
            self._describe_best([octave.of_picture(index) for octave in octaves], settings, size)
            for index in range(len(images))
        ]

    def _search(self, images: Tensor, valid: Tensor, settings: ExtractionSettings) -> list[Octave]:
        """The keypoints of every octave that is large enough."""
        sizes = settings.octaves or self.config.octaves
        round_patches = self.config.patches.sampling == "log-polar"
        # Log-polar patches of all octaves are read from one mosaic, square ones from the octave that they are found in.
        shared = self.mosaic(normalize_pictures(images, valid)) if round_patches else None
        found = []
        for octave in sizes:
            small, small_valid, ratio = resize_to_octave(images, valid, octave)
            if min(small.shape[-2:]) < MIN_SIDE:
                continue
            normalized = normalize_pictures(small, small_valid)
            maps = self.ranked(self.detect(normalized, small_valid), normalized)
            showing = small_valid & ~is_blank(normalized, small_valid)[:, None, None, None]
            keypoints = self._keypoints(maps, showing, settings)
            weight = (min(sizes) / octave) ** self.config.octave_preference
            if weight != 1:
                keypoints = keypoints._replace(scores=keypoints.scores * weight)
            found.append(Octave(shared or self.mosaic(normalized), keypoints, ratio))
        return found

    def _keypoints(self, maps: DetectorMaps, valid: Tensor, settings: ExtractionSettings) -> Keypoints:
        border = self.config.keypoints.border if settings.border is None else settings.border
        usable = usable_pixels(valid, border, border)
        count = settings.max_keypoints * (CANDIDATES if settings.min_distance > 0 else 1)
        keypoints = detect_keypoints(maps, usable, count, self.config.keypoints)
        if settings.single_scale:
            keypoints = keypoints._replace(scales=torch.ones_like(keypoints.scales))
        return keypoints

    def _describe_best(
        self, octaves: list[Octave], settings: ExtractionSettings, size: tuple[int, int]
    ) -> Features:
        """Keep the best keypoints of all octaves of a picture, and describe those alone, each in its own octave."""
        none = Features.empty(size, self.config.descriptor.dimension)
        none = replace(none, sigmas=none.scores)
        if not octaves:
            return none
        number, place = choose(octaves, settings, (size[1], size[0]))
        if not len(number):
            return none
        rows = [torch.nonzero(number == n)[:, 0] for n in range(len(octaves))]
        found = [octave.chosen(place[chosen]) for octave, chosen in zip(octaves, rows, strict=True)]
        ranks = torch.cat(rows).argsort()
        whole = Keypoints(*(torch.cat(column, 1) for column in zip(*found, strict=True)))

        if settings.upright:
            whole = whole._replace(orientations=upright(whole.points))
        if self.config.patches.sampling == "log-polar":
            whole, descriptors = self._oriented_and_described(octaves[0].mosaic, whole, settings.upright)
        else:
            parts = zip(octaves, rows, whole.orientations.split([len(chosen) for chosen in rows], 1), strict=True)
            patches = torch.cat([octave.patches(self, place[chosen], turns) for octave, chosen, turns in parts])
            descriptors = self.descriptor(patches)
        angles = torch.atan2(whole.orientations[0, :, 1], whole.orientations[0, :, 0])
        columns = (whole.points[0], whole.scales[0], angles, whole.scores[0], descriptors, whole.sigmas[0])
        points, scales, angles, scores, described, sigmas = (
            column[ranks].float().cpu().numpy() for column in columns
        )
        return Features(points, scales, angles, scores, described, size, sigmas)

    def _oriented_and_described(
        self, mosaic: Mosaic, keypoints: Keypoints, level: bool
    ) -> tuple[Keypoints, Float[Tensor, "N D"]]:
        """Keypoints of one picture with orientations that log-polar patches show, unless `level`, and descriptors."""
        if not self.shared:
            rows = self.describe_at(mosaic, keypoints.points, keypoints.scales, keypoints.orientations)
            return keypoints, rows[0]
        patches = self.patches_at(mosaic, keypoints.points, keypoints.scales, upright(keypoints.points))[0]
        features = self.descriptor.begin(patches)
        if not level:
            keypoints = keypoints._replace(orientations=best_angles(self.descriptor.angle_scores(features))[None])
        return keypoints, self.descriptor.finish(turned(features, keypoints.orientations[0]))


def _split(images: Any) -> list[Any]:
    if not isinstance(images, (Tensor, np.ndarray)):
        return list(images)
    if images.ndim == 2 or _is_colour_array(images) or _is_colour_tensor(images):
        return [images]
    if images.ndim == 3 and min(images.shape[0], images.shape[-1]) <= 4:
        raise UserError(
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
