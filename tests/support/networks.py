"""Small networks, in which a picture takes milliseconds."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lfnet.models.config import (
    DescriptorConfig,
    DetectorConfig,
    KeypointConfig,
    LFNetConfig,
    OrientationConfig,
    PatchConfig,
    ScaleSpaceConfig,
)
from lfnet.models.detector import DetectorMaps
from lfnet.models.lfnet import LFNet
from lfnet.training.branches import (
    StrategyConfig,
)

STRATEGY = StrategyConfig(keypoints=32, mask_reach=4)


def tiny_config() -> LFNetConfig:
    """A network small enough that a picture takes milliseconds."""
    return LFNetConfig(
        detector=DetectorConfig(channels=4, kernel_size=3, blocks=1, stride=2),
        scale_space=ScaleSpaceConfig(scales=3, kernel_size=3),
        orientation=OrientationConfig(mode="gradient"),
        descriptor=DescriptorConfig(channels=(8, 16, 32), hidden=32, dimension=64, normalize_patches=True),
    )


def lean_config() -> LFNetConfig:
    """A small network of the kind that ships: quarter resolution, log-polar patches that give orientations."""
    return LFNetConfig(
        detector=DetectorConfig(channels=8, stem_channels=4, kernel_size=3, blocks=1, stride=4, context=1),
        scale_space=ScaleSpaceConfig(scales=1, kernel_size=3, window=20, window_step=4, normalize=False),
        orientation=OrientationConfig(mode="shared"),
        keypoints=KeypointConfig(refinement="peak-fit"),
        patches=PatchConfig(extent=64.0, sampling="log-polar"),
        descriptor=DescriptorConfig(channels=(4, 8, 8), hidden=16, dimension=32, normalize_patches=True),
        octaves=(1.0, 0.5),
    )


def chances_config() -> LFNetConfig:
    """The same, its angles scored by a network, its features turned by chances, its keypoints chosen by them."""
    orientation = OrientationConfig(mode="shared", hidden=8, turning="chances")
    return dataclasses.replace(lean_config(), orientation=orientation, orientation_preference=1.0, candidates=1.5)


class BlobDetector(torch.nn.Module):
    """Brightness as score, so that keypoints lie on blobs in every octave."""

    def forward(self, images: Tensor, valid: Tensor) -> DetectorMaps:
        scores = torch.sigmoid(images - 6) * valid
        turns = torch.zeros(len(images), 2, *images.shape[-2:])
        turns[:, 0] = 1
        return DetectorMaps(scores, torch.ones_like(scores), turns)


def with_varied_norms(model: LFNet) -> LFNet:
    """The network with values of batch norm that differ, as after training: equal ones could change places unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                assert module.running_mean is not None
                assert module.running_var is not None
                for values, low, high in (
                    (module.running_mean, -0.2, 0.2),
                    (module.running_var, 0.5, 2.0),
                    (module.weight, 0.5, 2.0),
                    (module.bias, -0.2, 0.2),
                ):
                    values.uniform_(low, high, generator=generator)
    return model
