"""The one type that every source of training data yields: two views and what is known between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lfnet.geometry.transform import relative_transform
from lfnet.geometry.warp import Warp, warp_by_depth, warp_by_homography

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@dataclass(frozen=True)
class View:
    """A batch of pictures with their cameras.

    `intrinsics` is any invertible matrix whose last row is (0, 0, 1): augmentation premultiplies an affine map
    (`pixel_augmented = A @ pixel`), so it may hold an in-plane rotation, and z-depth keeps its meaning.
    """

    image: Float[Tensor, "B 1 H W"]
    """Grey values in [0, 1]."""
    valid: Bool[Tensor, "B 1 H W"]
    """False where augmentation left an empty corner, or a user's mask hides the pixel."""
    depth: Float[Tensor, "B 1 H W"] | None
    """z in the camera frame, in the unit of the poses; 0 where unknown. None for pairs related by a homography."""
    intrinsics: Float[Tensor, "B 3 3"]
    camera_from_world: Float[Tensor, "B 4 4"]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[-2], self.image.shape[-1]


@dataclass(frozen=True)
class Pair:
    """Two views of one place, related by depth and cameras, or by a homography."""

    a: View
    b: View
    b_from_a: Float[Tensor, "B 3 3"] | None = None
    """Homography from pixels of a to pixels of b; None where depth and cameras relate the views."""

    def swapped(self) -> Pair:
        """Return the pair with the roles of the views exchanged."""
        inverse = None if self.b_from_a is None else torch.linalg.inv(self.b_from_a)
        return Pair(self.b, self.a, inverse)

    def warp(self, depth_tolerance: float = 0.05) -> Warp:
        """The warp from a to b; `depth_tolerance` is the relative difference of depths that counts as hidden.

        Raises:
            ValueError: if the pair has neither a homography nor two depth maps.
        """
        if self.b_from_a is not None:
            return warp_by_homography(self.b_from_a, self.b.valid, self.a.size)
        if self.a.depth is None or self.b.depth is None:
            raise ValueError("Pair: expected depth in both views, or a homography b_from_a; one of the depths is None")
        b_from_a = relative_transform(self.b.camera_from_world, self.a.camera_from_world)
        return warp_by_depth(
            self.a.depth,
            self.b.depth,
            self.a.intrinsics,
            self.b.intrinsics,
            b_from_a,
            self.b.valid,
            depth_tolerance,
        )

    def split(self, parts: int) -> list[Pair]:
        """The batch in so many equal parts, in order.

        Raises:
            ValueError: it has no such parts.
        """
        number = len(self.a.image)
        if number % parts:
            raise ValueError(f"parts: expected a divisor of {number} pairs, got {parts}")
        size = number // parts
        return [_map_pair(self, lambda tensor, at=at: tensor[at : at + size]) for at in range(0, number, size)]

    def to(self, device: torch.device | str) -> Pair:
        """Return the pair with every tensor on `device`."""
        return _map_pair(self, lambda tensor: tensor.to(device))


def _map_view(view: View, function: Callable[[Tensor], Tensor]) -> View:
    values = {field.name: getattr(view, field.name) for field in fields(view)}
    return replace(view, **{name: function(value) for name, value in values.items() if value is not None})


def _map_pair(pair: Pair, function: Callable[[Tensor], Tensor]) -> Pair:
    homography = None if pair.b_from_a is None else function(pair.b_from_a)
    return Pair(_map_view(pair.a, function), _map_view(pair.b, function), homography)


def _concatenate_views(views: Sequence[View]) -> View:
    depths = [view.depth for view in views if view.depth is not None]
    return View(
        image=torch.cat([view.image for view in views]),
        valid=torch.cat([view.valid for view in views]),
        depth=torch.cat(depths) if depths else None,
        intrinsics=torch.cat([view.intrinsics for view in views]),
        camera_from_world=torch.cat([view.camera_from_world for view in views]),
    )


def concatenate_pairs(pairs: Sequence[Pair]) -> Pair:
    """Join pairs of one kind (all by homography, or all by depth) and one size along the batch.

    Raises:
        ValueError: if pairs by homography and pairs by depth are mixed.
    """
    homographies = [pair.b_from_a for pair in pairs if pair.b_from_a is not None]
    if homographies and len(homographies) != len(pairs):
        raise ValueError("concatenate_pairs: expected pairs of one kind, got homographies and depth mixed")
    return Pair(
        _concatenate_views([pair.a for pair in pairs]),
        _concatenate_views([pair.b for pair in pairs]),
        torch.cat(homographies) if homographies else None,
    )
