"""Features as kornia's local affine frames, and LF-Net as one of kornia's local features (extra `kornia`).

A frame is (2, 3). Its first two columns are the axes of the patch in pixels, as long as half its side; the last is the
centre, where that of the top-left pixel is (0, 0). kornia's angles run counter-clockwise on the screen, ours clockwise:
`kornia.feature.get_laf_orientation` reads the negated orientation, in degrees.

Source: kornia documentation, "Local features", conventions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lfnet.coordinates import Size
from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet


def to_lafs(features: Features, extent: float) -> Tensor:
    """Frames whose patch is what the descriptor saw.

    Args:
        features: of one picture.
        extent: side in pixels of the patch of a keypoint of scale 1: `model.config.patches.extent`.

    Returns:
        (1, N, 2, 3) float32 on the CPU.
    """
    radius = torch.from_numpy(features.scales * np.float32(extent / 2))
    angle = torch.from_numpy(features.orientations)
    cos, sin = radius * torch.cos(angle), radius * torch.sin(angle)
    axes = torch.stack((cos, -sin, sin, cos), -1).unflatten(-1, (2, 2))
    return torch.cat((axes, torch.from_numpy(features.keypoints)[..., None]), -1)[None]


def from_lafs(
    lafs: Tensor, descriptors: Tensor, image_size: Size, extent: float, scores: Tensor | None = None
) -> Features:
    """Features from frames of one picture, by any of kornia's detectors.

    Args:
        lafs: (1, N, 2, 3); what is not a turned square loses its shape and keeps its area. Frames of zeros, with which
            kornia fills up a batch, are left out.
        descriptors: (1, N, D).
        image_size: (width, height) of the picture, in pixels.
        extent: as in `to_lafs`.
        scores: (1, N); None: 0.

    Returns:
        Features; where nothing was left out, the inverse of `to_lafs`.

    Raises:
        ValueError: more than one picture, or another shape.
    """
    if lafs.ndim != 4 or lafs.shape[0] != 1 or lafs.shape[2:] != (2, 3):
        raise UserError(f"lafs: expected (1, N, 2, 3), the frames of one picture, got {tuple(lafs.shape)}")
    filled = lafs[0].ne(0).flatten(1).any(1)
    frames = lafs[0][filled].detach().cpu().double().numpy()
    axes = frames[:, :, :2]
    return Features(
        frames[:, :, 2].astype(np.float32),
        (np.sqrt(np.abs(np.linalg.det(axes))) * 2 / extent).astype(np.float32),
        np.arctan2(-axes[:, 0, 1], axes[:, 0, 0]).astype(np.float32),
        np.zeros(len(frames), np.float32) if scores is None else _array(scores[0][filled]),
        _array(descriptors[0][filled]),
        image_size,
    )


class KorniaLFNet(nn.Module):
    """LF-Net where kornia wants a local feature: `LocalFeatureMatcher(KorniaLFNet(), DescriptorMatcher("mnn"))`.

    Args:
        model: the network; a name of packaged weights or a file is loaded.
        settings: how many keypoints, how good, at which octaves.
    """

    def __init__(
        self, model: LFNet | str | Path = "lfnet-cpu", settings: ExtractionSettings | None = None
    ) -> None:
        super().__init__()
        self.model = model if isinstance(model, LFNet) else LFNet.from_pretrained(model)
        self.settings = settings or ExtractionSettings()

    def forward(self, img: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Frames, scores and descriptors of a batch of pictures; nothing is differentiable.

        Args:
            img: (B, 1 or 3, H, W) in [0, 1].
            mask: (B, 1, H, W), positive where keypoints may be; None: everywhere.

        Returns:
            (B, N, 2, 3), (B, N) and (B, N, D) on the device of `img`, N the most keypoints of a picture of the batch;
            a picture that has fewer is filled up with zeros, as kornia does it.
        """
        masks = None if mask is None else [usable[0] > 0 for usable in mask]
        found = self.model.extract(img, mask=masks, settings=self.settings)
        extent = self.model.config.patches.extent
        columns = (
            [to_lafs(features, extent)[0] for features in found],
            [torch.from_numpy(features.scores) for features in found],
            [torch.from_numpy(features.descriptors) for features in found],
        )
        lafs, scores, descriptors = (
            nn.utils.rnn.pad_sequence(column, batch_first=True).to(img) for column in columns
        )
        return lafs, scores, descriptors


def _array(tensor: Tensor) -> NDArray:
    return tensor.detach().cpu().numpy()
