"""Settings of the network; every default is the paper's, every other value a named departure from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from lfnet.settings import ConfigError, require_at_least, require_odd


@dataclass(frozen=True)
class DetectorConfig:
    """The fully convolutional feature extractor (paper section 3.1)."""

    channels: int = 16
    """Channels of every feature map (paper: 16)."""
    kernel_size: int = 5
    """Side of every convolution, odd (paper: 5; lean: 3)."""
    blocks: int = 3
    """Residual blocks of two convolutions each (paper: 3)."""
    stride: int = 1
    """Pixels of the picture per feature pixel (paper: 1). With 2 or 4, features live at half or quarter resolution, and
    each convolution to scores gives the 4 or 16 of a feature pixel. With 4 there are two strided convolutions, and what
    the first one sees is added to the scores, so that places stay sharp."""
    context: int = 0
    """Residual blocks at half the resolution of the features, before the others (paper: 0): they see twice as far for a
    quarter of the arithmetic."""
    stem_channels: int = 8
    """Channels between the two strided convolutions of stride 4."""
    derivatives: bool = False
    """Feed first and second derivatives and their products beside the grey picture (paper: no)."""
    leaky_slope: float = 0.2
    """Negative slope of the leaky ReLU."""

    def __post_init__(self) -> None:
        require_odd(self, "detector", ("kernel_size",))
        require_at_least(self, "detector", {"channels": 1, "stem_channels": 1})
        require_at_least(self, "detector", {"blocks": 0, "context": 0, "leaky_slope": 0})
        if self.stride not in (1, 2, 4):
            raise ConfigError(f"detector.stride: expected 1, 2 or 4, got {self.stride}")


@dataclass(frozen=True)
class ScaleSpaceConfig:
    """Score maps over scales and their non-maximum suppression (paper section 3.1)."""

    scales: int = 5
    """Number of scales N, spaced evenly in log (paper: 5)."""
    reach: float = math.sqrt(2.0)
    """R: scales run from 1/R to R (paper: sqrt 2)."""
    kernel_size: int = 5
    """Side of each scale's own convolution (paper: 5)."""
    window: int = 15
    """Side in pixels of the window of the softmax in scale space (paper: 15); an odd number of `window_step`s."""
    window_step: int = 1
    """Side in pixels of the blocks that are summed before the window is (paper: 1). Above 1 the window's sum is known
    at a block's centre and interpolated between, which costs a fraction."""
    window_strength: float = 3.0
    """Strength of the softmax over window and scales."""
    normalize: bool = True
    """Give each score map zero mean and unit deviation first (paper). False lets the network say how sharp it is."""
    scale_strength: float = 100.0
    """Strength of the softmax over scales that merges the maps into one."""

    def __post_init__(self) -> None:
        require_odd(self, "scale_space", ("kernel_size",))
        least = {"scales": 1, "reach": 1, "window": 1, "window_step": 1, "window_strength": 0, "scale_strength": 0}
        require_at_least(self, "scale_space", least)
        steps = self.window / self.window_step
        if steps % 2 != 1 or (steps == 1 and self.window_step > 1):
            raise ConfigError(
                f"scale_space.window: expected an odd number of steps of {self.window_step}, and of blocks at least 3, "
                f"got {self.window}"
            )

    def values(self) -> list[float]:
        """The scales, from fine to coarse."""
        if self.scales == 1:
            return [1.0]
        return [self.reach ** (2 * index / (self.scales - 1) - 1) for index in range(self.scales)]


@dataclass(frozen=True)
class OrientationConfig:
    """The orientation of every pixel (paper section 3.1)."""

    mode: Literal["head", "gradient", "shared"] = "head"
    """"head" regresses (cos, sin) by a convolution, as the paper does; "gradient" sums image gradients, weighted by a
    learned map, over a Gaussian window, and so turns with the picture by construction. "shared" turns with it by
    construction too: at keypoints alone, it scores the angles of an upright log-polar patch, where a turn is a shift,
    on what the descriptor's first two convolutions say of it. These features are then turned by the angle: each patch
    is read and convolved once, and orientation sees with the descriptor's eyes."""
    hidden: int = 0
    """Channels of the network that scores the angles of "shared"; 0 scores them by one linear layer."""
    turning: Literal["best", "chances"] = "best"
    """How "shared" turns features: by the angle of highest score, or by every angle at once, weighed by its chance.
    "chances" describes a place with two likely orientations by both, whichever of them wins in another view, and lets
    the loss of the descriptor teach the angles."""
    window_sigma: float = 5.0
    """Deviation in pixels of the Gaussian window of "gradient"."""
    compression: float = 1.0
    """Exponent of the gradient magnitude in "gradient": 1 keeps it, 0 counts every direction alike."""

    def __post_init__(self) -> None:
        require_at_least(self, "orientation", {"hidden": 0, "window_sigma": 0.1, "compression": 0})


@dataclass(frozen=True)
class KeypointConfig:
    """From score map to keypoints (paper section 3.1)."""

    nms_size: int = 5
    """Side in pixels of the window in which a keypoint must be the strict maximum."""
    border: int = 8
    """Pixels along each edge without keypoints."""
    refinement: Literal["soft-argmax", "peak-fit"] = "soft-argmax"
    """How a place is refined below the pixel. "soft-argmax" is the paper's: L_pair's gradient passes through it.
    "peak-fit" is the peak of a quadratic through the logarithm of the nine scores around, exact for a Gaussian of any
    height; a constant in training."""
    subpixel: int = 5
    """Side in pixels of the soft-argmax; 1 leaves keypoints on the pixel grid."""
    subpixel_strength: float = 10.0
    """Strength of that softmax. Scores lie in [0, 1], so it bounds the gradient that passes through; dividing by the
    height of the peak instead would multiply L_pair's gradient by it while peaks are still low."""

    def __post_init__(self) -> None:
        require_odd(self, "keypoints", ("nms_size", "subpixel"))
        require_at_least(self, "keypoints", {"border": 0, "subpixel_strength": 0})


@dataclass(frozen=True)
class PatchConfig:
    """The spatial transformer (paper section 3.1)."""

    size: int = 32
    """Side of a square patch in samples; angles of a log-polar one."""
    extent: float = 32.0
    """Side, or diameter of the outermost ring, in pixels of the picture at scale 1 (paper: 32)."""
    sampling: Literal["square", "log-polar"] = "square"
    """"square" is the paper's. "log-polar" samples rings of growing radius: a turn of the picture shifts the patch
    along one axis, a zoom along the other (Ebel et al., "Beyond Cartesian representations for local descriptors",
    2019)."""
    rings: int = 16
    """Rings of a log-polar patch."""
    inner: float = 1.5
    """Radius of the innermost ring in pixels at scale 1."""

    def __post_init__(self) -> None:
        require_at_least(self, "patches", {"size": 1, "extent": 1, "rings": 2, "inner": 0.1})
        if self.sampling == "log-polar" and (self.size % 8 or self.extent <= 2 * self.inner):
            raise ConfigError(
                "patches: a log-polar patch needs a multiple of 8 angles and an extent of more than twice the inner "
                f"radius, got size {self.size}, extent {self.extent} and inner {self.inner}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of samples: of a log-polar patch its rings and its angles."""
        return (self.rings, self.size) if self.sampling == "log-polar" else (self.size, self.size)


@dataclass(frozen=True)
class DescriptorConfig:
    """The descriptor network (paper section 3.1)."""

    channels: tuple[int, int, int] = (64, 128, 256)
    """Channels of the three convolutions with stride 2. Where orientation is shared, the second keeps all angles."""
    hidden: int = 512
    """Width of the fully connected layer."""
    dimension: int = 256
    """Length of a descriptor."""
    normalize_patches: bool = False
    """Give each patch zero mean and unit deviation first (paper: no)."""

    def __post_init__(self) -> None:
        require_at_least(self, "descriptor", {"hidden": 1, "dimension": 1})
        if min(self.channels) < 1:
            raise ConfigError(f"descriptor.channels: expected at least 1 each, got {self.channels}")


@dataclass(frozen=True)
class LFNetConfig:
    """The whole network."""

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    scale_space: ScaleSpaceConfig = field(default_factory=ScaleSpaceConfig)
    orientation: OrientationConfig = field(default_factory=OrientationConfig)
    keypoints: KeypointConfig = field(default_factory=KeypointConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    descriptor: DescriptorConfig = field(default_factory=DescriptorConfig)
    norm_momentum: float = 0.02
    """How far a training step moves the running statistics of batch norm. A step on a CPU sees a single pair, so the
    statistics that extraction uses must average over many steps."""
    octaves: tuple[float, ...] = (1.0,)
    """Sizes relative to the picture at which extraction looks for keypoints (paper: only 1)."""
    octave_preference: float = 0.0
    """Scores found at an octave are multiplied by (smallest octave / octave) to this power. Above 0, coarse keypoints
    are preferred: they are fewer by area, but survive a zoom, which takes the finest octave away."""
    contrast_preference: float = 0.0
    """Keypoints are chosen, in training and extraction, by scores multiplied by the local contrast of the picture, at
    most 1, to this power (paper: 0). A score is relative to its window, so flat areas have high ones too; above 0, they
    come last."""

    orientation_preference: float = 0.0
    """Scores of keypoints are multiplied by the chance of their orientation to this power (paper: 0), where orientation
    is shared. Above 0, places with one clear orientation are kept before those with none."""
    candidates: float = 1.0
    """Keypoints whose orientation is looked at for each that is kept; above 1, `orientation_preference` can choose."""

    def __post_init__(self) -> None:
        check_octaves(self.octaves)
        preferences = ("octave_preference", "contrast_preference", "orientation_preference")
        require_at_least(self, "model", {**dict.fromkeys(preferences, 0), "candidates": 1})
        if self.orientation.mode == "shared" and self.patches.sampling != "log-polar":
            raise ConfigError(
                'orientation.mode "shared" reads angles off log-polar patches; set patches.sampling to "log-polar" too'
            )
        if not 0 < self.norm_momentum <= 1:
            raise ConfigError(f"model.norm_momentum: expected a share in (0, 1], got {self.norm_momentum}")


def check_octaves(octaves: tuple[float, ...]) -> None:
    """Check that there are octaves, and that each is a factor that a picture may be resized by.

    Raises:
        ConfigError: if not.
    """
    if not octaves or any(not 0 < octave <= 4 for octave in octaves):
        raise ConfigError(f"octaves: expected factors in (0, 4], at least one, got {octaves}")


@dataclass(frozen=True)
class ExtractionSettings:
    """What to extract from a picture."""

    max_keypoints: int = 1024
    """Keep at most this many keypoints, best score first."""
    min_score: float = 0.0
    """Leave out keypoints with a lower score, in [0, 1]."""
    octaves: tuple[float, ...] | None = None
    """Sizes relative to the picture at which to look; None takes the model's own."""
    upright: bool = False
    """Set every orientation to 0, for pictures that are known to be level."""
    single_scale: bool = False
    """Set every scale to 1 (times the octave), for pictures taken from like distances."""
    border: int | None = None
    """Pixels along each edge, and around masked pixels, without keypoints; None takes the model's own."""
    min_distance: float = 0.0
    """Leave out keypoints nearer than this to one of higher score, in pixels of the picture: spreads them."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the descriptor's convolutions. bfloat16 is faster where the processor multiplies it (AVX512-BF16, AMX), slower
    elsewhere; places and orientations hardly change, descriptors by about a hundredth."""
    once: bool = True
    """Count a place that several octaves find once, at the octave of its highest score; False keeps it at each."""

    def __post_init__(self) -> None:
        least = {"max_keypoints": 1, "min_distance": 0} | ({} if self.border is None else {"border": 0})
        require_at_least(self, "extraction", least)
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"extraction.min_score: expected a height in [0, 1], got {self.min_score}")
        if self.octaves is not None:
            check_octaves(self.octaves)


@dataclass(frozen=True)
class TileSettings:
    """How a picture is cut."""

    size: int = 1024
    """Side in pixels of what each tile finds keypoints in."""
    overlap: int | None = None
    """Pixels around it that it sees too; None: as many as the model needs, by `lfnet.models.tiles.needed_overlap`."""

    def __post_init__(self) -> None:
        if self.size < 64:
            raise ConfigError(f"tile: expected at least 64 pixels, got {self.size}")
