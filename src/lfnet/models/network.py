"""LF-Net as one module of tensors: grey pictures in, keypoints and descriptors out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lfnet.geometry.sizes import ceiling, exact, is_tracing, smaller
from lfnet.models.config import ExtractionSettings, LFNetConfig
from lfnet.models.descriptor import Descriptor, turned
from lfnet.models.detector import Detector, DetectorMaps
from lfnet.models.inputs import is_blank, local_contrast, normalize_pictures, resize_to_octave
from lfnet.models.keypoints import Keypoints, detect_keypoints, upright, usable_pixels
from lfnet.models.orientation import angle_weights, best_angles, surest
from lfnet.models.patches import Mosaic, make_mosaic, sample_patches
from lfnet.models.pyramid import CANDIDATES, MIN_SIDE, Octave, best_first, choose, in_pixels_of_the_picture

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


OWN_ANGLE = math.cos(math.radians(1))
"""An orientation nearer than this to the one that the network reads is taken for the network's own."""


class Network(nn.Module):
    """Detector and descriptor with one configuration.

    Args:
        config: the architecture; the default is the paper's.
    """

    def __init__(self, config: LFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or LFNetConfig()
        self.detector = Detector(self.config)
        self.shared = self.config.orientation.mode == "shared"
        self.descriptor = Descriptor(self.config.descriptor, self.config.patches, self.config.orientation)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = self.config.norm_momentum
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        images: Float[Tensor, "B 1 H W"],
        valid: Bool[Tensor, "B 1 H W"] | None = None,
        settings: ExtractionSettings | None = None,
    ) -> tuple[Keypoints, Float[Tensor, "B K D"]]:
        """Keypoints in pixels of the pictures, best first, and their descriptors; call `eval()` before.

        Args:
            images: grey, in [0, 1].
            valid: pixels where keypoints may be; None everywhere.
            settings: how many, how good, at which octaves.

        Returns:
            K is the number of the picture that has most; `present` tells which are filled, the others are 0.
        """
        valid = torch.ones_like(images, dtype=torch.bool) if valid is None else valid
        keypoints, descriptors = zip(*self.find(images, valid, settings or ExtractionSettings()), strict=True)
        columns = [[column[0] for column in columns] for columns in zip(*keypoints, strict=True)]
        padded = [nn.utils.rnn.pad_sequence(column, batch_first=True) for column in columns]
        return Keypoints(*padded), nn.utils.rnn.pad_sequence(list(descriptors), batch_first=True)

    def detect(self, images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]) -> DetectorMaps:
        """Score, scale and orientation maps of pictures that `normalize_pictures` prepared."""
        return self.detector(images, valid)

    def ranked(
        self, maps: DetectorMaps, images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"]
    ) -> DetectorMaps:
        """Maps whose scores rank keypoints: weighed by the local contrast of normalised pictures, if that counts."""
        power = self.config.contrast_preference
        if power == 0:
            return maps
        contrast = local_contrast(images, valid)
        return maps._replace(scores=maps.scores * (contrast if power == 1 else contrast**power))

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

    def look(self, mosaic: Mosaic, keypoints: Keypoints) -> tuple[Keypoints, Float[Tensor, "B K D"]]:
        """Keypoints with the orientations that extraction gives them, and their descriptors."""
        if not self.shared:
            rows = self.describe_at(mosaic, keypoints.points, keypoints.scales, keypoints.orientations)
            return keypoints, rows
        shape = keypoints.points.shape[:2]
        features = self.features_at(mosaic, keypoints.points, keypoints.scales)
        logits = self.descriptor.angle_scores(features)
        oriented = keypoints._replace(orientations=best_angles(logits).unflatten(0, shape))
        return oriented, self.descriptor.finish(self.descriptor.turn(features, logits)).unflatten(0, shape)

    def features_at(
        self, mosaic: Mosaic, points: Float[Tensor, "B K 2"], scales: Float[Tensor, "B K"]
    ) -> Float[Tensor, "N C r A"]:
        """What is read off upright patches at the B K places, for orientation and descriptor alike."""
        return self.descriptor.begin(self.patches_at(mosaic, points, scales, upright(points)).flatten(0, 1))

    def orientation_logits(
        self, mosaic: Mosaic, points: Float[Tensor, "B K 2"], scales: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B K A"]:
        """Scores of A angles at given places, read off upright patches (orientation mode "shared" alone)."""
        return self.descriptor.angle_scores(self.features_at(mosaic, points, scales)).unflatten(0, points.shape[:2])

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
            orientations: (cos, sin). Where features are turned by chances, one that the network reads itself is
                described as extraction does, by all angles; any other by itself alone.
        """
        if self.shared:
            features = self.features_at(mosaic, points, scales)
            given = orientations.flatten(0, 1)
            weights = angle_weights(given, features.shape[-1])
            if self.descriptor.by_chances:
                logits = self.descriptor.angle_scores(features)
                own = (best_angles(logits) * given).sum(-1, keepdim=True) > OWN_ANGLE
                weights = torch.where(own, torch.softmax(logits, -1), weights)
            rows = self.descriptor.finish(turned(features, weights))
        else:
            rows = self.descriptor(self.patches_at(mosaic, points, scales, orientations).flatten(0, 1))
        return rows.unflatten(0, points.shape[:2])

    def find(
        self, images: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"], settings: ExtractionSettings
    ) -> list[tuple[Keypoints, Float[Tensor, "N D"]]]:
        """The keypoints of each picture, in its pixels and best first, and their descriptors."""
        octaves = self._search(images, valid, settings)
        return [
            self._kept([octave.of_picture(index) for octave in octaves], settings, images[index])
            for index in range(images.shape[0])
        ]

    def _search(self, images: Tensor, valid: Tensor, settings: ExtractionSettings) -> list[Octave]:
        """The keypoints of every octave that is large enough."""
        sizes = settings.octaves or self.config.octaves
        sizes = tuple(sorted(sizes, reverse=True)) if is_tracing() else sizes
        round_patches = self.config.patches.sampling == "log-polar"
        # Log-polar patches of all octaves are read from one mosaic, square ones from the octave that they are found in.
        whole = self.mosaic(normalize_pictures(images, valid)) if round_patches else None
        found = []
        for octave in sizes:
            small, small_valid, ratio = resize_to_octave(images, valid, octave)
            if not is_tracing() and min(small.shape[-2:]) < MIN_SIDE:
                continue
            normalized = normalize_pictures(small, small_valid)
            maps = self.ranked(self.detect(normalized, small_valid), normalized, small_valid)
            showing = small_valid & ~is_blank(normalized, small_valid)[:, None, None, None]
            if is_tracing():
                showing = showing & (smaller(*small.shape[-2:]) >= MIN_SIDE)
            border = self.border(settings)
            keypoints = self.keypoints_of(maps, usable_pixels(showing, border, border), settings)
            keypoints = self.weighed(keypoints, octave, sizes)
            found.append(Octave(self.mosaic(normalized) if whole is None else whole, keypoints, ratio))
        return found

    def border(self, settings: ExtractionSettings) -> int:
        """Pixels without keypoints along the edges of every octave."""
        return self.config.keypoints.border if settings.border is None else settings.border

    def looked_at(self, settings: ExtractionSettings) -> int:
        """How many keypoints of a picture are looked at, those that are kept among them."""
        has_a_say = self.shared and self.config.orientation_preference > 0 and not settings.upright
        return ceiling(exact(settings.max_keypoints) * self.config.candidates) if has_a_say else settings.max_keypoints

    def candidates(self, settings: ExtractionSettings) -> int:
        """How many keypoints of each octave those of the picture are chosen among."""
        return self.looked_at(settings) * (CANDIDATES if settings.min_distance > 0 else 1)

    def keypoints_of(
        self, maps: DetectorMaps, usable: Bool[Tensor, "B 1 H W"], settings: ExtractionSettings
    ) -> Keypoints:
        """The keypoints of one octave among which those of the picture are chosen, at `usable` pixels."""
        keypoints = detect_keypoints(maps, usable, self.candidates(settings), self.config.keypoints)
        if settings.single_scale:
            keypoints = keypoints._replace(scales=torch.ones_like(keypoints.scales))
        return keypoints

    def weighed(self, keypoints: Keypoints, octave: float, sizes: Sequence[float]) -> Keypoints:
        """Keypoints of an octave with scores that compare with those of the other `sizes`."""
        weight = (min(sizes) / octave) ** self.config.octave_preference
        return keypoints if weight == 1 else keypoints._replace(scores=keypoints.scores * weight)

    def _kept(
        self, octaves: list[Octave], settings: ExtractionSettings, image: Float[Tensor, "1 H W"]
    ) -> tuple[Keypoints, Float[Tensor, "N D"]]:
        """The best keypoints of all octaves of a picture, described, and these alone."""
        whole = in_pixels_of_the_picture(octaves, image)
        order = self.choice(octaves, whole, settings, (image.shape[-2], image.shape[-1]))
        if is_tracing():  # ONNX can't reshape what is empty: one more is described, and left out below.
            order = F.pad(order, (1, 0))
        kept = Keypoints(*(column[:, order] for column in whole))
        if settings.upright:
            kept = kept._replace(orientations=upright(kept.points))
        if not is_tracing() and not len(order):
            return kept, image.new_zeros(0, self.config.descriptor.dimension)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            kept, descriptors = self._described(octaves, order, kept, settings)
        if is_tracing():
            return Keypoints(*(column[:, 1:] for column in kept)), descriptors[1:]
        return kept, descriptors

    def choice(
        self, octaves: list[Octave], whole: Keypoints, settings: ExtractionSettings, shape: tuple[int, int]
    ) -> Int[Tensor, "N"]:
        """Which keypoints of one picture are looked at, best first; see `pyramid.choose`."""
        return choose(octaves, whole, dataclasses.replace(settings, max_keypoints=self.looked_at(settings)), shape)

    def _described(
        self, octaves: list[Octave], order: Int[Tensor, "N"], kept: Keypoints, settings: ExtractionSettings
    ) -> tuple[Keypoints, Float[Tensor, "M D"]]:
        """The keypoints that are kept of those looked at, with orientations, and their descriptors."""
        if self.config.patches.sampling == "square":
            return kept, self.descriptor(self._square_patches(octaves, order, kept.orientations))
        mosaic = octaves[0].mosaic
        assert mosaic is not None
        kept, rows, _ = self.oriented(mosaic, kept, settings)
        return kept, rows

    def oriented(
        self, mosaic: Mosaic, keypoints: Keypoints, settings: ExtractionSettings
    ) -> tuple[Keypoints, Float[Tensor, "M D"], Int[Tensor, "M"]]:
        """Orientations read off patches, where that is how, and descriptors.

        Args:
            mosaic: in which every patch is read.
            keypoints: of one picture, in pixels of the mosaic's.
            settings: how many are kept, how good, and whether orientations stay level.

        Returns:
            Those that are kept, best first; their descriptors; which of the given ones they are.
        """
        every = torch.arange(keypoints.points.shape[1], device=keypoints.points.device)
        if not self.shared:
            rows = self.describe_at(mosaic, keypoints.points, keypoints.scales, keypoints.orientations)[0]
            return keypoints, rows, every
        features = self.features_at(mosaic, keypoints.points, keypoints.scales)
        if settings.upright:  # All by the one angle, those too whose own angle is level.
            weights = angle_weights(keypoints.orientations[0], features.shape[-1])
            return keypoints, self.descriptor.finish(turned(features, weights)), every
        logits = self.descriptor.angle_scores(features)
        keypoints = keypoints._replace(orientations=best_angles(logits)[None])
        if self.config.orientation_preference > 0:
            scores = keypoints.scores[0] * surest(logits) ** self.config.orientation_preference
            every = _kept_of(scores, settings)
            keypoints = Keypoints(*(column[:, every] for column in keypoints._replace(scores=scores[None])))
            features, logits = features[every], logits[every]
        return keypoints, self.descriptor.finish(self.descriptor.turn(features, logits)), every

    def _square_patches(
        self, octaves: list[Octave], order: Int[Tensor, "N"], orientations: Float[Tensor, "1 N 2"]
    ) -> Float[Tensor, "N S S"]:
        """Patches of the chosen ones among the keypoints of all octaves, each read in its own octave."""
        patches = orientations.new_zeros(order.shape[0], *self.config.patches.shape)
        start = 0
        for octave in octaves:
            stop = start + octave.keypoints.points.shape[1]
            rows = torch.nonzero((order >= start) & (order < stop))[:, 0]
            places = order[rows] - start
            points, scales = octave.keypoints.points[:, places], octave.keypoints.scales[:, places]
            assert octave.mosaic is not None
            patches[rows] = self.patches_at(octave.mosaic, points, scales, orientations[:, rows])[0]
            start = stop
        return patches


def _kept_of(scores: Float[Tensor, "N"], settings: ExtractionSettings) -> Int[Tensor, "M"]:
    """Which of the keypoints looked at are kept, best first."""
    count = settings.max_keypoints
    if is_tracing():  # The one too many stands first, and stays there.
        scores, count = F.pad(scores[1:], (1, 0), value=float("inf")), count + 1
    order = best_first(scores)[:count]
    return order[torch.nonzero(scores[order] >= settings.min_score)[:, 0]]
