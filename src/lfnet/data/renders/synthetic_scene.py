"""What rendered pairs show: surfaces, and random cameras and lights around a target.

The world is in metres, z up; the cameras look towards +y at a common target above the origin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.nn import functional

from lfnet.data.renders.render_settings import SCENE_KINDS, RenderSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Cameras:
    """The two cameras of every scene."""

    intrinsics: Float[Tensor, "B 2 3 3"]
    camera_from_world: Float[Tensor, "B 2 4 4"]


@dataclass(frozen=True)
class Lights:
    """Light and exposure of the two views of every scene."""

    ambient: Float[Tensor, "B 2"]
    sun: Float[Tensor, "B 2"]
    """Strength of the light from far away."""
    sun_direction: Float[Tensor, "B 2 3"]
    """Unit vector from the scene towards it."""
    lamp: Float[Tensor, "B 2"]
    """Strength of the light nearby."""
    lamp_place: Float[Tensor, "B 2 3"]
    exposure: Float[Tensor, "B 2"]
    """Brightness that the picture is exposed for."""
    metering: Float[Tensor, " B"]
    """0: view b is exposed for what view a sees, 1: for what it sees itself."""
    vignetting: Float[Tensor, "B 2"]
    """Share of light lost in the corners."""


@dataclass(frozen=True)
class SyntheticScene:
    """Q textured parallelograms (sides of the room, faces of boxes, cards), and heights upon the floor."""

    centre: Float[Tensor, "B Q 3"]
    half_u: Float[Tensor, "B Q 3"]
    """From the centre to the middle of one edge."""
    half_v: Float[Tensor, "B Q 3"]
    normal: Float[Tensor, "B Q 3"]
    """Unit, outwards."""
    one_sided: Bool[Tensor, "B Q"]
    """Whether it is only seen from where the normal points."""
    present: Bool[Tensor, "B Q"]
    texture: Int[Tensor, "B Q"]
    texture_axes: Float[Tensor, "B Q 2 3"]
    """Texture coordinates are these times the point, plus the offset; in textures per metre."""
    texture_offset: Float[Tensor, "B Q 2"]
    dark: Float[Tensor, "B Q"]
    """Albedo of the texture's black."""
    contrast: Float[Tensor, "B Q"]
    """Albedo of the texture's white, less that of its black."""
    gloss: Float[Tensor, "B Q"]
    heights: Float[Tensor, "B G G"]
    """Metres above the floor at (y, x), corners at the room's corners; zero where the floor is plane."""
    has_heights: Bool[Tensor, " B"]
    room: Float[Tensor, "B 2 3"]
    """Lowest and highest corner of the room."""


class Draw:
    """Random tensors with a leading batch, one generator each, so that a scene does not depend on its neighbours."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = generators
        self.batch = len(generators)
        self.device = generators[0].device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        values = [torch.rand(shape, generator=each, device=self.device) for each in self.generators]
        return low + (high - low) * torch.stack(values)

    def below(self, limit: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to limit - 1."""
        values = [torch.randint(limit, shape, generator=each, device=self.device) for each in self.generators]
        return torch.stack(values)

    def chance(self, probability: float | Tensor, *shape: int) -> Tensor:
        return self.uniform(*shape) < probability

    def directions(self, *shape: int) -> Tensor:
        """Unit vectors of the last dimension's length, uniform on the sphere."""
        values = [torch.randn(shape, generator=each, device=self.device) for each in self.generators]
        return functional.normalize(torch.stack(values), dim=-1)


@dataclass(frozen=True)
class Layout:
    """What cameras and surfaces of a batch of scenes are placed by, one value a scene."""

    distance: Tensor
    target: Tensor
    elevation: Tensor
    back: Tensor
    side: Tensor
    ceiling: Tensor
    on_wall: Tensor
    standing: Tensor
    has_heights: Tensor
    top: Tensor
    """Height of the highest point of the height field, 0 without one."""


def draw_layout(settings: RenderSettings, draw: Draw) -> Layout:
    """Choose a kind for every scene, and its dimensions."""
    kinds = [SCENE_KINDS[name] for name in settings.kinds]
    index = draw.below(len(kinds)).cpu()
    device = draw.device

    def chosen(name: str) -> Tensor:
        return torch.tensor([getattr(kind, name) for kind in kinds])[index].to(device)

    def within(name: str) -> Tensor:
        low, high = chosen(name).float().unbind(-1)
        return low + (high - low) * draw.uniform()

    distance, height = within("distance"), within("target_height")
    has_heights = chosen("has_heights")
    return Layout(
        distance=distance,
        target=torch.stack((torch.zeros_like(height), torch.zeros_like(height), height), -1),
        elevation=torch.deg2rad(within("elevation")),
        back=within("back"),
        side=within("side"),
        ceiling=within("ceiling"),
        on_wall=chosen("on_wall"),
        standing=chosen("standing"),
        has_heights=has_heights,
        top=has_heights * distance * draw.uniform(low=0.1, high=0.3),
    )


def draw_cameras(settings: RenderSettings, layout: Layout, draw: Draw) -> tuple[Cameras, Tensor]:
    """Place two cameras that look at the target.

    Returns:
        The cameras, and their centres (B, 2, 3).
    """
    azimuth = draw.uniform(low=-0.7, high=0.7)
    baseline = torch.deg2rad(draw.uniform(low=settings.baseline_degrees[0], high=settings.baseline_degrees[1]))
    heading = draw.uniform(low=-math.pi, high=math.pi)
    azimuth = torch.stack((azimuth, azimuth + baseline * heading.cos()), -1)
    elevation = torch.stack((layout.elevation, layout.elevation + baseline * heading.sin()), -1).clamp(-0.4, 1.2)
    log_zoom = draw.uniform(low=-1.0, high=1.0) * math.log(settings.zoom_max)
    by_distance = draw.uniform()
    distance = layout.distance[:, None] * torch.stack((torch.ones_like(log_zoom), (-log_zoom * by_distance).exp()), -1)
    flat = elevation.cos()
    towards = torch.stack((azimuth.sin() * flat, -azimuth.cos() * flat, elevation.sin()), -1)
    centres = layout.target[:, None] + distance[..., None] * towards
    lowest = (layout.top + 0.15 * layout.distance)[:, None]
    centres[..., 2] = torch.maximum(centres[..., 2], lowest)
    jitter = draw.uniform(2, 3, low=-1.0, high=1.0) * 0.2 * layout.distance[:, None, None]
    roll = torch.deg2rad(draw.uniform(2, low=-1.0, high=1.0) * settings.roll_degrees)
    rotation = _look_at(centres, layout.target[:, None] + jitter, roll)
    camera_from_world = torch.zeros(*roll.shape, 4, 4, device=roll.device)
    camera_from_world[..., :3, :3] = rotation
    camera_from_world[..., :3, 3] = -(rotation @ centres[..., None])[..., 0]
    camera_from_world[..., 3, 3] = 1.0
    view = torch.deg2rad(draw.uniform(low=settings.field_of_view_degrees[0], high=settings.field_of_view_degrees[1]))
    focal = 0.5 * settings.size / torch.tan(0.5 * view)
    focal = torch.stack((focal, focal * (log_zoom * (1.0 - by_distance)).exp()), -1)
    intrinsics = torch.zeros(*roll.shape, 3, 3, device=roll.device)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal
    intrinsics[..., :2, 2] = 0.5 * (settings.size - 1)
    intrinsics[..., 2, 2] = 1.0
    return Cameras(intrinsics, camera_from_world), centres


def draw_lights(settings: RenderSettings, layout: Layout, centres: Tensor, draw: Draw) -> Lights:
    """Light view a at random, and view b by a mixture of that and another light."""
    amount = settings.lighting_change * draw.uniform()
    fresh = {
        "ambient": draw.uniform(2, low=0.3, high=0.7),
        "sun": draw.uniform(2, low=0.1, high=0.8),
        "sun_direction": draw.directions(2, 3) + torch.tensor([0.0, -0.5, 0.7], device=amount.device),
        "lamp": draw.uniform(2, low=0.0, high=0.9),
        "lamp_place": centres + 0.4 * layout.distance[:, None, None] * draw.directions(2, 3),
    }
    mixed = {}
    for name, values in fresh.items():
        share = amount.reshape(-1, *[1] * (values.ndim - 2))
        mixed[name] = torch.stack((values[:, 0], values[:, 0].lerp(values[:, 1], share)), 1)
    mixed["sun_direction"] = functional.normalize(mixed["sun_direction"], dim=-1)
    brightness = draw.uniform(low=0.36, high=0.52)
    change = (draw.uniform(low=-1.0, high=1.0) * math.log1p(settings.exposure_change)).exp()
    return Lights(
        **mixed,
        exposure=torch.stack((brightness, brightness * change), -1),
        metering=amount.clamp(max=1.0),
        vignetting=draw.uniform(2) * settings.vignetting,
    )


_Part = TypeVar("_Part", SyntheticScene, Lights, Cameras)


def to_device(value: _Part, device: torch.device) -> _Part:
    """The same with every tensor on the device."""
    return type(value)(**{field.name: getattr(value, field.name).to(device) for field in fields(value)})


def _look_at(centres: Tensor, targets: Tensor, roll: Tensor) -> Tensor:
    """Rotations camera_from_world with z towards the targets, x right, y down, then turned by roll."""
    forward = functional.normalize(targets - centres, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], device=centres.device).expand_as(forward)
    right = functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    cos, sin = roll.cos()[..., None], roll.sin()[..., None]
    return torch.stack((cos * right + sin * down, cos * down - sin * right, forward), -2)
