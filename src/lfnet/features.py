"""What the whole package speaks: the features of one picture, and the matches between two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lfnet.coordinates import Size, resize_keypoints
from lfnet.errors import UserError


@dataclass(frozen=True, eq=False)
class Features:
    """The local features of one picture, as NumPy arrays.

    Raises:
        UserError: an array has the wrong shape, or holds NaN or infinity.
    """

    keypoints: NDArray[np.float32]
    """(N, 2) positions (x, y) in pixels; the centre of the top-left pixel is (0, 0)."""
    scales: NDArray[np.float32]
    """(N,) positive, in proportion to the size of what the keypoint marks in this picture; 32 times it is the size in
    pixels by which OpenCV and COLMAP know it. The patch described is `patches.extent` (paper: 32) times as wide."""
    orientations: NDArray[np.float32]
    """(N,) radians in (-pi, pi], from +x towards +y: clockwise on the screen."""
    scores: NDArray[np.float32]
    """(N,) height of the score map at the keypoint; higher is better."""
    descriptors: NDArray[np.float32] | NDArray[np.uint8]
    """(N, D) float32 compared by Euclidean distance, or (N, D) uint8 whose bits are compared by Hamming
    distance."""
    image_size: Size
    """(width, height) of the picture, in pixels."""
    sigmas: NDArray[np.float32] | None = None
    """(N,) positive: how exact each position is, a deviation in pixels of the picture along an axis. None where the
    method does not say."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keypoints", np.asarray(self.keypoints, dtype=np.float32))
        if self.keypoints.ndim != 2 or self.keypoints.shape[1] != 2:
            raise UserError(f"keypoints must have shape (N, 2), got {self.keypoints.shape}")
        for name in ("scales", "orientations", "scores", "sigmas"):
            if name == "sigmas" and self.sigmas is None:
                continue
            values = np.asarray(getattr(self, name), dtype=np.float32)
            object.__setattr__(self, name, values)
            if values.shape != (len(self.keypoints),):
                raise UserError(f"{name} must have shape ({len(self.keypoints)},), got {values.shape}")
        descriptors = np.asarray(self.descriptors)
        if descriptors.dtype != np.uint8:
            descriptors = descriptors.astype(np.float32, copy=False)
        object.__setattr__(self, "descriptors", descriptors)
        if descriptors.ndim != 2 or len(descriptors) != len(self.keypoints):
            raise UserError(
                f"descriptors must have shape ({len(self.keypoints)}, D), got {descriptors.shape}"
            )
        width, height = (int(value) for value in self.image_size)
        object.__setattr__(self, "image_size", (width, height))
        if width <= 0 or height <= 0:
            raise UserError(f"image_size must be a positive (width, height), got {self.image_size}")
        self._check_values()

    def _check_values(self) -> None:
        for name in ("keypoints", "scales", "orientations", "scores", "descriptors", "sigmas"):
            values = getattr(self, name)
            if values is None:
                continue
            if values.dtype != np.uint8 and not np.isfinite(values).all():
                raise UserError(
                    f"{name} hold NaN or infinity: check the picture and the weights they come from"
                )
        for name, values in (("scales", self.scales), ("sigmas", self.sigmas)):
            if values is not None and (values <= 0).any():
                raise UserError(f"{name} must be positive, got {values.min()}")

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        width, height = self.image_size
        return (
            f"Features({len(self)} keypoints of {self.descriptors.shape[1]} values, picture {width}x{height})"
        )

    @classmethod
    def empty(cls, image_size: Size, dim: int = 256) -> Features:
        """No features: what a blank picture has.

        Args:
            image_size: (width, height) of the picture, in pixels.
            dim: length of the descriptors that other pictures have.

        Returns:
            Features with zero keypoints.
        """
        none = np.zeros(0, np.float32)
        return cls(np.zeros((0, 2), np.float32), none, none, none, np.zeros((0, dim), np.float32), image_size)

    @property
    def is_binary(self) -> bool:
        """Whether descriptors are bits, compared by Hamming distance."""
        return self.descriptors.dtype == np.uint8

    def select(self, index: ArrayLike) -> Features:
        """The features at `index`, in its order.

        Args:
            index: integers, or a bool for each feature.

        Returns:
            Features of the same picture.
        """
        chosen = np.asarray(index)
        if chosen.size == 0 and chosen.dtype != bool:
            chosen = chosen.astype(np.int64)
        return Features(
            self.keypoints[chosen],
            self.scales[chosen],
            self.orientations[chosen],
            self.scores[chosen],
            self.descriptors[chosen],
            self.image_size,
            None if self.sigmas is None else self.sigmas[chosen],
        )

    def top(self, k: int) -> Features:
        """The k features of highest score, best first; equal scores keep their order.

        Args:
            k: how many at most.

        Returns:
            Features of the same picture.

        Raises:
            UserError: k is negative.
        """
        if k < 0:
            raise UserError(f"k must not be negative, got {k}")
        return self.select(np.argsort(-self.scores, kind="stable")[:k])

    def resized(self, image_size: Size) -> Features:
        """The same features in pixels of the same picture at another size.

        Scales and sigmas are multiplied by the geometric mean of the two factors; orientations are kept, which is
        exact where the aspect ratio is kept.

        Args:
            image_size: (width, height) of the picture they are wanted in.

        Returns:
            Features of the resized picture.

        Raises:
            UserError: the size is not positive.
        """
        keypoints = resize_keypoints(self.keypoints, self.image_size, image_size)
        (width, height), (new_width, new_height) = self.image_size, image_size
        factor = np.float32(np.sqrt(new_width / width * new_height / height))
        sigmas = None if self.sigmas is None else self.sigmas * factor
        return Features(
            keypoints, self.scales * factor, self.orientations, self.scores, self.descriptors, image_size, sigmas
        )


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of features, one of picture a and one of picture b.

    Raises:
        UserError: an array has the wrong shape, or a score is NaN.
    """

    indices: NDArray[np.int64]
    """(M, 2): index of the feature in a, index of the feature in b."""
    scores: NDArray[np.float32]
    """(M,) higher is better."""

    def __post_init__(self) -> None:
        indices = np.asarray(self.indices)
        if indices.ndim != 2 or indices.shape[1] != 2:
            raise UserError(f"indices must have shape (M, 2), got {indices.shape}")
        scores = np.asarray(self.scores, dtype=np.float32)
        if scores.shape != (len(indices),):
            raise UserError(f"scores must have shape ({len(indices)},), got {scores.shape}")
        if np.isnan(scores).any():
            raise UserError("scores hold NaN")
        object.__setattr__(self, "indices", indices.astype(np.int64))
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Matches({len(self)})"

    @classmethod
    def empty(cls) -> Matches:
        """No matches."""
        return cls(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))

    def select(self, index: ArrayLike) -> Matches:
        """The matches at `index`, in its order.

        Args:
            index: integers, or a bool for each match.

        Returns:
            Those matches.
        """
        chosen = np.asarray(index)
        if chosen.size == 0 and chosen.dtype != bool:
            chosen = chosen.astype(np.int64)
        return Matches(self.indices[chosen], self.scores[chosen])
