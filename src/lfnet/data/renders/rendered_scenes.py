"""Training pairs drawn by analytic ray casting, with exact depth, pose and intrinsics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from lfnet.data.pair import Pair, View
from lfnet.data.renders.objects import draw_scene
from lfnet.data.renders.ray_casting import Hits, SceneViews, gather
from lfnet.data.renders.render_settings import RenderSettings
from lfnet.data.renders.synthetic_scene import (
    Cameras,
    Draw,
    Lights,
    SyntheticScene,
    draw_cameras,
    draw_layout,
    draw_lights,
    to_device,
)
from lfnet.data.renders.textures import TextureAtlas, procedural_textures

if TYPE_CHECKING:
    from torch import Tensor

_SHININESS = 24
_KNEE = 0.75


class RenderedScenes:
    """A source of pairs of views of random scenes, each a pure function of the generator's state."""

    def __init__(self, settings: RenderSettings, textures: Sequence[np.ndarray] | None = None) -> None:
        """Prepare the textures.

        Args:
            settings: how scenes look.
            textures: grey uint8 photographs (H, W) of any size; None or none for procedural textures only.
        """
        photographs = list(textures or [])
        if len(photographs) > settings.max_photographs:
            chosen = np.linspace(0, len(photographs) - 1, settings.max_photographs).round().astype(int)
            photographs = [photographs[index] for index in chosen]
        patterns = procedural_textures(settings.procedural_textures, settings.texture_size, settings.texture_seed)
        self.settings = settings
        self._photographs = len(photographs)
        self._patterns = len(patterns)
        self._device = torch.device(settings.device)
        self._atlas = TextureAtlas(photographs + patterns, settings.texture_size, self._device)

    def sample(self, generator: torch.Generator, batch: int = 1) -> Pair:
        """Draw a batch of new scenes from one generator; see `sample_each`."""
        return self.sample_each([generator] * batch)

    @torch.no_grad()
    def sample_each(self, generators: Sequence[torch.Generator]) -> Pair:
        """Draw a new scene for each generator, seen by two cameras, all in one batch.

        Args:
            generators: the state of each decides everything in its scene; on the CPU, or on the settings' device.

        Returns:
            The pairs, with depth everywhere, on the settings' device.
        """
        draw = Draw(generators)
        layout = draw_layout(self.settings, draw)
        cameras, centres = draw_cameras(self.settings, layout, draw)
        scene = draw_scene(self.settings, layout, centres, self._photographs, self._patterns, draw)
        lights = draw_lights(self.settings, layout, centres, draw)
        device = self._device
        return self._render(to_device(scene, device), to_device(cameras, device), to_device(lights, device))

    def _render(self, scene: SyntheticScene, cameras: Cameras, lights: Lights) -> Pair:
        size = self.settings.size
        views = SceneViews.of(scene, cameras, size)
        centres = torch.arange(size, dtype=torch.float32, device=self._device)
        hits = views.cast(centres)
        colour = self._shade(views, hits, lights).unflatten(-1, (size, size))
        if self.settings.antialias:
            corners = torch.arange(size + 1, dtype=torch.float32, device=self._device) - 0.5
            around = self._shade(views, views.cast(corners), lights).unflatten(-1, (size + 1, size + 1))
            around = around[:, 1:] + around[:, :-1]
            colour = 0.5 * colour + 0.125 * (around[..., 1:] + around[..., :-1])
        image = _expose(colour.unflatten(0, (-1, 2)), lights)
        depth = hits.depth.reshape(image.shape)
        a, b = (
            View(
                image=image[:, index : index + 1].contiguous(),
                valid=torch.ones_like(image[:, :1], dtype=torch.bool),
                depth=depth[:, index : index + 1].contiguous(),
                intrinsics=cameras.intrinsics[:, index].contiguous(),
                camera_from_world=cameras.camera_from_world[:, index].contiguous(),
            )
            for index in range(2)
        )
        return Pair(a, b)

    def _shade(self, views: SceneViews, hits: Hits, lights: Lights) -> Tensor:
        """Light that reaches the camera (V, N): ambient, sun and lamp by Lambert, the lamp's highlight."""
        ambient, sun_strength = lights.ambient.flatten()[:, None], lights.sun.flatten()[:, None]
        material = _Material.of(views.scene, hits.surface)
        x, y, z = hits.point.unbind(1)
        s = torch.addcmul(material.offset[0], material.axes[0], x).addcmul_(material.axes[1], y)
        t = torch.addcmul(material.offset[1], material.axes[3], x).addcmul_(material.axes[4], y)
        s.addcmul_(material.axes[2], z)
        t.addcmul_(material.axes[5], z)
        reach = _length(hits.direction)
        facing = (hits.normal * hits.direction).sum(1) / reach
        # Root of the mean square of the two widths of the pixel on the surface, in texels.
        texels = material.density * (self._atlas.size * views.pixel_width[:, None]) * hits.depth * reach
        footprint = texels * (0.5 + 0.5 / facing.square().clamp_(min=1e-4)).sqrt_()
        if self.settings.antialias:
            # Centres and corners together lie closer by the root of two.
            footprint *= 0.5**0.5
        albedo = (
            self._atlas.sample(material.texture.long(), s, t, footprint).mul_(material.contrast).add_(material.dark)
        )

        sun = torch.einsum("vcn,vc->vn", hits.normal, lights.sun_direction.flatten(0, 1)).clamp_(min=0.0)
        to_lamp = lights.lamp_place.flatten(0, 1)[..., None] - hits.point
        lamp_distance = _length(to_lamp)
        to_lamp /= lamp_distance[:, None]
        fall_off = lights.lamp.flatten()[:, None] / (0.5 + 0.5 * (lamp_distance / views.scale[:, None]).square())
        lamp = (hits.normal * to_lamp).sum(1).clamp_(min=0.0) * fall_off
        radiance = albedo.mul_(lamp.add_(ambient).add_(sun * sun_strength))
        if self.settings.gloss > 0:
            halfway = to_lamp.sub_(hits.direction / reach[:, None])
            cosine = (hits.normal * halfway).sum(1).clamp_(min=0.0) / _length(halfway).clamp_(min=1e-6)
            radiance.addcmul_(material.gloss * fall_off, cosine.pow_(_SHININESS))
        return radiance


class _Material(NamedTuple):
    """How the surface at every pixel looks: fields of the scene, gathered (V, N)."""

    axes: Tensor
    offset: Tensor
    density: Tensor
    texture: Tensor
    dark: Tensor
    contrast: Tensor
    gloss: Tensor

    @classmethod
    def of(cls, scene: SyntheticScene, surface: Tensor) -> _Material:
        axes = scene.texture_axes.flatten(2)
        density = scene.texture_axes[..., 0, :].norm(dim=-1)
        single = torch.stack((density, scene.texture.float(), scene.dark, scene.contrast, scene.gloss), -1)
        table = torch.cat((axes, scene.texture_offset, single), -1).flatten(0, 1).t().contiguous()
        values = gather(table, surface)
        return cls(values[:6], values[6:8], *values[8:])


def _length(vectors: Tensor) -> Tensor:
    """Of vectors along dimension 1; ten times as fast as `norm` there."""
    return vectors.square().sum(1).sqrt_()


def _expose(radiance: Tensor, lights: Lights) -> Tensor:
    """Pictures (B, 2, H, W) in [0, 1]: exposed for the first view's mean, darker towards the corners."""
    size = radiance.shape[-1]
    away = torch.linspace(-1.0, 1.0, size, device=radiance.device).square()
    corner = 0.5 * (away[:, None] + away)
    radiance = radiance * (1.0 - lights.vignetting[..., None, None] * corner)
    # The mean of roots keeps small bright places from darkening all else.
    mean = radiance.clamp(min=0.0).sqrt().mean((-1, -2)).square().clamp(min=1e-6)
    reference = torch.stack((mean[:, 0], mean[:, 0].lerp(mean[:, 1], lights.metering)), -1)
    radiance = radiance * (lights.exposure / reference)[..., None, None]
    # Above the knee, a shoulder takes the place of hard clipping.
    excess = (radiance - _KNEE).clamp_(min=0.0)
    return radiance.clamp_(max=_KNEE) + (1.0 - _KNEE) * (1.0 - (excess / (_KNEE - 1.0)).exp_())
