"""Which surface every pixel of a rendered view sees, and how far away.

A plane seen by a pinhole camera has an inverse depth that is an affine function of the pixel, and so are its
two surface coordinates times the inverse depth. A parallelogram is therefore tested with three affine
functions and no division, and the surface with the largest inverse depth is the one that is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from lfnet.data.renders.objects import FLOOR
from lfnet.data.renders.render_settings import MAX_SURFACES

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from lfnet.data.renders.synthetic_scene import Cameras, SyntheticScene

_MARCH_STEPS = 16
_BISECTIONS = 6
_FAR_BEHIND = 1e12


def gather(table: Float[Tensor, "C S"], index: Int[Tensor, "V N"]) -> Float[Tensor, "C V N"]:
    """Look up every row of a table at the same places."""
    return table.index_select(1, index.flatten()).unflatten(1, index.shape)


class Hits(NamedTuple):
    """What the N pixels of each of V views see."""

    depth: Float[Tensor, "V N"]
    """z in the camera frame, in metres."""
    surface: Int[Tensor, "V N"]
    """Index into the surfaces of all scenes, scene by scene."""
    normal: Float[Tensor, "V 3 N"]
    """Unit, in the world, on the camera's side."""
    point: Float[Tensor, "V 3 N"]
    """In the world."""
    direction: Float[Tensor, "V 3 N"]
    """From the camera's centre to the point, divided by the depth."""


@dataclass(frozen=True)
class SceneViews:
    """The surfaces that each view may see, as affine functions of the pixel.

    The V views are those of the scenes in turn: a and b of the first, a and b of the second...
    """

    scene: SyntheticScene
    centre: Float[Tensor, "V 3"]
    scale: Float[Tensor, " V"]
    """Distance of the nearer of the two cameras from the origin: the size of the scene."""
    pixel_width: Float[Tensor, " V"]
    """Width of a pixel at depth 1."""
    world_from_pixel: Float[Tensor, "V 3 3"]
    """Takes (x, y, 1) to a direction whose z in the camera frame is 1."""
    affine: Float[Tensor, "V K 3 3"]
    """Rows: inverse depth, and the two surface coordinates times it, as functions of (x, y, 1)."""
    surface: Int[Tensor, "V K"]
    """Index into the surfaces of all scenes."""

    @classmethod
    def of(cls, scene: SyntheticScene, cameras: Cameras, size: int) -> SceneViews:
        """Keep the surfaces that face the cameras and reach into the pictures of `size` pixels."""
        rotation = cameras.camera_from_world[..., :3, :3].transpose(-1, -2)
        centre = -(rotation @ cameras.camera_from_world[..., :3, 3:])[..., 0]
        world_from_pixel = rotation @ torch.linalg.inv(cameras.intrinsics)
        towards = scene.centre[:, None] - centre[:, :, None]
        distance = (scene.normal[:, None] * towards).sum(-1)
        seen = scene.present[:, None] & ((distance < 0) | ~scene.one_sided[:, None]) & (distance.abs() > 1e-6)
        pixel_from_world = cameras.intrinsics @ cameras.camera_from_world[..., :3, :3]
        seen &= _reaches_into(scene, towards, pixel_from_world, size)
        count = int(seen.sum(-1).max())
        chosen = seen.to(torch.uint8).sort(dim=-1, descending=True, stable=True).indices[..., :count]

        every = (values[:, None].expand_as(towards) for values in (scene.normal, scene.half_u, scene.half_v))
        picked = chosen[..., None].expand(*chosen.shape, 3)
        normal, half_u, half_v, towards = (values.gather(2, picked) for values in (*every, towards))
        inverse = (normal @ world_from_pixel) / (normal * towards).sum(-1, keepdim=True)
        # A surface that only fills up the table gets an inverse depth of -1: it is never in front.
        kept = seen.gather(2, chosen)[..., None]
        inverse = torch.where(kept, inverse, torch.tensor([0.0, 0.0, -1.0], device=inverse.device))
        rows = [inverse]
        for half in (half_u, half_v):
            axis = half / half.square().sum(-1, keepdim=True)
            rows.append(axis @ world_from_pixel - (axis * towards).sum(-1, keepdim=True) * inverse)
        batch, surfaces = scene.present.shape
        first = surfaces * torch.arange(batch, device=chosen.device)[:, None, None]
        return cls(
            scene=scene,
            centre=centre.flatten(0, 1),
            scale=centre.norm(dim=-1).amin(-1).repeat_interleave(2),
            pixel_width=cameras.intrinsics[..., 0, 0].reciprocal().flatten(),
            world_from_pixel=world_from_pixel.flatten(0, 1),
            affine=torch.stack(rows, -2).flatten(0, 1),
            surface=(chosen + first).flatten(0, 1),
        )

    def cast(self, pixels: Float[Tensor, " S"]) -> Hits:
        """Send a ray through every (x, y) of which both are among `pixels`; N = S * S, row by row."""
        inverse_depth, winner = self._nearest(pixels)
        depth = inverse_depth.flatten(1).reciprocal()
        surface = self.surface.gather(1, winner.flatten(1))
        x = self.world_from_pixel[:, :, :1, None] * pixels
        y = self.world_from_pixel[:, :, 1:2] * pixels + self.world_from_pixel[:, :, 2:]
        direction = (x + y[..., None]).flatten(2)
        normal = gather(self.scene.normal.reshape(-1, 3).t(), surface).transpose(0, 1)
        if bool(self.scene.has_heights.any()):
            depth, surface, normal = self._cast_heights(direction, depth, surface, normal)
        normal = normal * -(normal * direction).sum(1, keepdim=True).sign_()
        point = torch.addcmul(self.centre[..., None], direction, depth[:, None])
        return Hits(depth, surface, normal, point, direction)

    def _nearest(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Largest inverse depth (V, S, S), and the place in the table of the surface that has it."""
        views, count = self.affine.shape[:2]
        columns = (self.affine[..., 0, None] * pixels)[..., None, :]
        rows = (self.affine[..., 1, None] * pixels + self.affine[..., 2, None])[..., None]
        shape = (views, len(pixels), len(pixels))
        best = pixels.new_zeros(shape)
        tagged = pixels.new_zeros(shape)
        for index in range(count):
            inverse = columns[:, index, 0] + rows[:, index, 0]
            reach = (columns[:, index, 1] + rows[:, index, 1]).abs_()
            reach = torch.maximum(reach, (columns[:, index, 2] + rows[:, index, 2]).abs_(), out=reach)
            # Arithmetic for "minus infinity where inverse < reach": masks are five times slower on a CPU.
            inverse.add_((inverse - reach).clamp_(max=0.0), alpha=_FAR_BEHIND)
            best = torch.maximum(best, inverse, out=best)
            # The last bits of the number say whose it is, so that the maximum keeps that too.
            inverse.view(torch.int32).bitwise_and_(-MAX_SURFACES).bitwise_or_(index)
            tagged = torch.maximum(tagged, inverse, out=tagged)
        return best, (tagged.view(torch.int32) & (MAX_SURFACES - 1)).long()

    def _cast_heights(
        self, direction: Tensor, depth: Tensor, surface: Tensor, normal: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Let the rays of scenes with a height field end there, where they meet it before another surface."""
        scene = self.scene
        top = scene.heights.amax((1, 2)).repeat_interleave(2)[:, None]
        start = ((top - self.centre[:, 2:]) / direction[:, 2]).clamp(min=0.0)
        candidates = scene.has_heights.repeat_interleave(2)[:, None] & (direction[:, 2] < 0) & (start < depth)
        view, pixel = candidates.nonzero(as_tuple=True)
        field = _HeightField.of(scene, view // 2)
        origin, ray = self.centre.t().index_select(1, view), direction[view, :, pixel].t().contiguous()
        met, hit = _march(field, origin, ray, start[view, pixel], depth[view, pixel])
        x, y, _ = torch.addcmul(origin, ray, met)
        upward = field.normal(x, y)[:, hit]
        view, pixel, met = view[hit], pixel[hit], met[hit]
        depth = depth.index_put((view, pixel), met)
        surface = surface.index_put((view, pixel), (view // 2) * scene.present.shape[1] + FLOOR)
        normal = normal.transpose(1, 2).contiguous().index_put_((view, pixel), upward.t())
        return depth, surface, normal.transpose(1, 2).contiguous()


class _HeightField(NamedTuple):
    """The heights that each of M rays may meet, interpolated bilinearly."""

    heights: Tensor
    """Of all scenes (B, G, G)."""
    first: Tensor
    """Index of the first height of each ray's scene (M)."""
    low: Tensor
    """The room's lowest x and y (2, M)."""
    cells: Tensor
    """Cells a metre along x and y (2, M)."""

    @classmethod
    def of(cls, scene: SyntheticScene, index: Tensor) -> _HeightField:
        low, high = scene.room[..., :2].unbind(1)
        cells = (scene.heights.shape[-1] - 1) / (high - low)
        return cls(
            scene.heights,
            index * scene.heights[0].numel(),
            low.t().index_select(1, index),
            cells.t().index_select(1, index),
        )

    def height(self, x: Tensor, y: Tensor) -> Tensor:
        """Height in metres above the floor at places in the world."""
        side = self.heights.shape[-1]
        column = ((x - self.low[0]) * self.cells[0]).clamp_(0.0, side - 1.001)
        row = ((y - self.low[1]) * self.cells[1]).clamp_(0.0, side - 1.001)
        left, above = column.floor(), row.floor()
        column -= left
        row -= above
        first = self.first + left.add_(above, alpha=side).long()
        heights = self.heights.reshape(-1)
        top = heights.index_select(0, first).lerp_(heights.index_select(0, first + 1), column)
        first += side
        bottom = heights.index_select(0, first).lerp_(heights.index_select(0, first + 1), column)
        return top.lerp_(bottom, row)

    def normal(self, x: Tensor, y: Tensor) -> Tensor:
        """Unit normals (3, M), of slopes over two cells: smoother than the facets that are cast."""
        step_x, step_y = 1.0 / self.cells
        slope_x = (self.height(x + step_x, y) - self.height(x - step_x, y)) / (2.0 * step_x)
        slope_y = (self.height(x, y + step_y) - self.height(x, y - step_y)) / (2.0 * step_y)
        length = (1.0 + slope_x.square() + slope_y.square()).sqrt_()
        return torch.stack((-slope_x, -slope_y, torch.ones_like(slope_x))) / length


def _march(field: _HeightField, origin: Tensor, ray: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Find where rays first dive below the heights.

    Args:
        field: the heights.
        origin: of the rays (3, M).
        ray: their directions (3, M); a ray is at the origin plus its direction times the depth.
        start: depth at which each is still above all heights (M).
        end: depth at which it meets another surface (M).

    Returns:
        The depths at which rays meet the heights, and which of them do so before the end.
    """

    def clearance(depth: Tensor) -> Tensor:
        x, y, z = torch.addcmul(origin, ray, depth)
        return z - field.height(x, y)

    alive = torch.ones_like(start)
    steps = torch.zeros_like(start)
    for step in range(1, _MARCH_STEPS + 1):
        depth = torch.lerp(start, end, step / _MARCH_STEPS)
        alive *= clearance(depth).sign_().clamp_(min=0.0)
        steps += alive
    width = (end - start) / _MARCH_STEPS
    above = start + width * steps
    for _ in range(_BISECTIONS):
        width = 0.5 * width
        above = above + width * clearance(above + width).sign_().clamp_(min=0.0)
    below = above + width
    # Within one facet the clearance is all but straight, so that a last chord meets it.
    over, under = clearance(above), clearance(below)
    chord = above + (below - above) * (over / (over - under).clamp(min=1e-9)).clamp(0.0, 1.0)
    return chord, alive == 0


def _reaches_into(scene: SyntheticScene, towards: Tensor, pixel_from_world: Tensor, size: int) -> Tensor:
    """Which surfaces (B, 2, Q) are not wholly beyond one side of the picture, nor behind the camera."""
    corners = [towards + u * scene.half_u[:, None] + v * scene.half_v[:, None] for u in (-1, 1) for v in (-1, 1)]
    x, y, z = (torch.stack(corners, -2) @ pixel_from_world[:, :, None].transpose(-1, -2)).unbind(-1)
    beyond = [z < 0, x < -z, x > size * z, y < -z, y > size * z]
    return ~torch.stack([side.all(-1) for side in beyond]).any(0)
