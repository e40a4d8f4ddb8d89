"""Random rooms and what stands, hangs and floats in them: boxes, cards, and a height field for a floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from lfnet.data.renders.synthetic_scene import Draw, Layout, SyntheticScene

if TYPE_CHECKING:
    from torch import Tensor

    from lfnet.data.renders.render_settings import RenderSettings

FLOOR = 4
"""Index of the floor among a scene's surfaces, of which the first six are the room."""
_ROOM_SURFACES = 6
_HEIGHT_CELLS = 64


def draw_scene(
    settings: RenderSettings, layout: Layout, centres: Tensor, photographs: int, patterns: int, draw: Draw
) -> SyntheticScene:
    """Build a room round the target and both cameras, and furnish it.

    Args:
        settings: numbers of boxes and cards, shares of textures.
        layout: dimensions.
        centres: of the cameras (B, 2, 3), which no object swallows.
        photographs: number of textures that are photographs, the first of the atlas.
        patterns: number of procedural textures, which follow them.
        draw: randomness.
    """
    room = _draw_room(layout, centres, draw)
    groups = [
        _room_surfaces(room),
        _draw_boxes(settings, layout, room, centres, draw),
        _draw_cards(settings, layout, room, centres, draw),
    ]
    shape = {name: torch.cat([group[name] for group in groups], 1) for name in groups[0]}
    surfaces = shape["centre"].shape[1]
    from_photograph = draw.chance(settings.photograph_share if patterns else 1.0, surfaces) & (photographs > 0)
    texture = torch.where(
        from_photograph,
        draw.below(max(photographs, 1), surfaces),
        photographs + draw.below(max(patterns, 1), surfaces),
    )
    # The room's surfaces are large: a texture spans about the part of them that a camera sees.
    span = 2.0 * torch.maximum(shape["half_u"].norm(dim=-1), shape["half_v"].norm(dim=-1))
    span = span * draw.uniform(surfaces, low=0.9, high=1.5)
    span[:, :_ROOM_SURFACES] = layout.distance[:, None] * draw.uniform(_ROOM_SURFACES, low=0.8, high=2.0)
    axes = torch.stack(
        (functional.normalize(shape["half_u"], dim=-1), functional.normalize(shape["half_v"], dim=-1)), 2
    )
    axes = torch.where(draw.chance(0.2, surfaces, 1, 1), axes.flip(2), axes)
    axes = axes * torch.where(draw.chance(0.2, surfaces, 2, 1), -1.0, 1.0) / span[..., None, None]
    middle = 0.5 + draw.uniform(surfaces, 2, low=-0.2, high=0.2)
    offset = middle - (axes @ shape["centre"][..., None])[..., 0]
    plain = draw.chance(0.12, surfaces)
    contrast = torch.where(plain, draw.uniform(surfaces, low=0.1, high=0.3), draw.uniform(surfaces, low=0.5, high=0.9))
    return SyntheticScene(
        **shape,
        texture=texture,
        texture_axes=axes,
        texture_offset=offset,
        dark=(0.95 - contrast) * draw.uniform(surfaces, low=0.1, high=1.0),
        contrast=contrast,
        gloss=settings.gloss * draw.uniform(surfaces) ** 2,
        heights=_draw_heights(layout, draw),
        has_heights=layout.has_heights,
        room=room,
    )


def _draw_room(layout: Layout, centres: Tensor, draw: Draw) -> Tensor:
    sides = layout.side[:, None] * draw.uniform(2, low=0.7, high=1.3)
    margin = 0.3 * layout.distance
    lowest, highest = centres.amin(1), centres.amax(1)
    low = torch.stack(
        (
            torch.minimum(-sides[:, 0], lowest[:, 0] - margin),
            lowest[:, 1] - margin,
            torch.zeros_like(margin),
        ),
        -1,
    )
    high = torch.stack(
        (
            torch.maximum(sides[:, 1], highest[:, 0] + margin),
            torch.maximum(layout.back, highest[:, 1] + margin),
            torch.maximum(layout.ceiling, highest[:, 2] + margin),
        ),
        -1,
    )
    return torch.stack((low, high), 1)


def _room_surfaces(room: Tensor) -> dict[str, Tensor]:
    half = 0.5 * (room[:, 1] - room[:, 0])
    identity = torch.eye(3, device=room.device).expand(len(room), 1, 3, 3)
    surfaces = _box_faces(room.mean(1)[:, None], half[:, None], identity)
    surfaces["normal"] = -surfaces["normal"]
    # A little larger than the room, so that no ray slips through a seam.
    surfaces["half_u"] = surfaces["half_u"] * 1.001
    surfaces["half_v"] = surfaces["half_v"] * 1.001
    surfaces["present"] = torch.ones_like(surfaces["one_sided"])
    return surfaces


def _box_faces(centre: Tensor, half: Tensor, rotation: Tensor) -> dict[str, Tensor]:
    """Faces of boxes, from x- and x+ to z- and z+, in the order of the boxes.

    Args:
        centre: (B, M, 3).
        half: half lengths of the edges (B, M, 3).
        rotation: whose columns are the directions of the edges (B, M, 3, 3).
    """
    edges = (rotation * half[..., None, :]).transpose(-1, -2)
    normals = rotation.transpose(-1, -2)
    signs = torch.tensor([-1.0, 1.0], device=centre.device)[:, None]
    shape = (*centre.shape[:2], 3, 2, 3)
    # Textures of upright faces stand upright: their second axis is the box's z.
    half_u = edges[:, :, [1, 0, 0], None].expand(shape)
    half_v = -edges[:, :, [2, 2, 1], None].expand(shape)
    middles = centre[:, :, None, None] + signs * edges[:, :, :, None]
    values = {
        "centre": middles,
        "half_u": half_u,
        "half_v": half_v,
        "normal": signs * normals[:, :, :, None],
    }
    faces = {name: value.reshape(len(centre), -1, 3) for name, value in values.items()}
    faces["one_sided"] = torch.ones(faces["centre"].shape[:2], dtype=torch.bool, device=centre.device)
    return faces


def _draw_boxes(
    settings: RenderSettings, layout: Layout, room: Tensor, cameras: Tensor, draw: Draw
) -> dict[str, Tensor]:
    number = settings.boxes[1]
    distance = layout.distance[:, None]
    half = (
        distance[..., None] * draw.uniform(number, 1, low=0.05, high=0.16) * draw.uniform(number, 3, low=0.4, high=1.5)
    )
    on_wall = draw.chance(layout.on_wall[:, None], number)
    standing = draw.chance(layout.standing[:, None], number) & ~on_wall
    centre = layout.target[:, None] + distance[..., None] * draw.uniform(number, 3, low=-0.55, high=0.55)
    sunk = draw.uniform(number, low=0.1, high=0.9)
    centre[..., 1] = torch.where(on_wall, room[:, 1, 1, None] - half[..., 1] * sunk, centre[..., 1])
    centre[..., 2] = torch.where(standing, half[..., 2] + layout.top[:, None] * 0.4 * sunk, centre[..., 2])
    rotation = _rotations(draw.directions(number, 4))
    upright = _rotations(draw.directions(number, 4) * torch.tensor([1.0, 0.0, 0.0, 1.0], device=half.device))
    rotation = torch.where(standing[..., None, None], upright, rotation)
    rotation = torch.where(on_wall[..., None, None], torch.eye(3, device=half.device), rotation)
    faces = _box_faces(centre, half, rotation)
    present = _wanted(settings.boxes, draw) & _clear_of(cameras, centre, half.norm(dim=-1), 0.4)
    faces["present"] = present.repeat_interleave(6, 1)
    return faces


def _draw_cards(
    settings: RenderSettings, layout: Layout, room: Tensor, cameras: Tensor, draw: Draw
) -> dict[str, Tensor]:
    number = settings.cards[1]
    distance = layout.distance[:, None, None]
    half = distance * draw.uniform(number, 1, low=0.06, high=0.25) * draw.uniform(number, 2, low=0.5, high=1.4)
    on_wall = draw.chance(layout.on_wall[:, None] + 0.2, number)
    nearer = draw.uniform(number, 1, low=-0.5, high=0.6)
    centre = layout.target[:, None].lerp(cameras[:, :1], nearer)
    centre = centre + distance * draw.uniform(number, 3, low=-0.6, high=0.6)
    # Cards on the wall stand off by different distances, so that no two of them coincide.
    gap = 0.004 * distance[..., 0] * (1.0 + torch.arange(number, device=half.device))
    centre[..., 1] = torch.where(on_wall, room[:, 1, 1, None] - gap, centre[..., 1])
    tilted = _rotations(
        functional.normalize(draw.directions(number, 4) + torch.tensor([1.5, 0, 0, 0]).to(half), dim=-1)
    )
    rotation = torch.where(on_wall[..., None, None], torch.eye(3, device=half.device), tilted)
    clear = _clear_of(cameras, centre, half.norm(dim=-1), 0.3)
    return {
        "centre": centre,
        "half_u": rotation[..., 0] * half[..., :1],
        "half_v": -rotation[..., 2] * half[..., 1:],
        "normal": -rotation[..., 1],
        "one_sided": torch.zeros(centre.shape[:2], dtype=torch.bool, device=half.device),
        "present": _wanted(settings.cards, draw) & (clear | on_wall),
    }


def _wanted(numbers: tuple[int, int], draw: Draw) -> Tensor:
    """Which of numbers[1] objects exist, so that a random number within the range does."""
    wanted = numbers[0] + draw.below(numbers[1] - numbers[0] + 1, 1)
    return torch.arange(numbers[1], device=wanted.device) < wanted


def _clear_of(cameras: Tensor, centre: Tensor, radius: Tensor, share: float) -> Tensor:
    """Which objects (B, M) leave every camera a view: their radius is less than a share of their distance."""
    distance = (centre[:, :, None] - cameras[:, None]).norm(dim=-1).amin(-1)
    return radius < share * distance


def _rotations(quaternion: Tensor) -> Tensor:
    """Rotation matrices of quaternions (w, x, y, z), not necessarily unit."""
    w, x, y, z = functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _draw_heights(layout: Layout, draw: Draw) -> Tensor:
    total = torch.zeros(draw.batch, 1, _HEIGHT_CELLS, _HEIGHT_CELLS, device=layout.top.device)
    for cells, weight in ((5, 1.0), (9, 0.6), (17, 0.35), (33, 0.15)):
        grid = draw.uniform(1, cells, cells) * weight
        total += functional.interpolate(grid, (_HEIGHT_CELLS, _HEIGHT_CELLS), mode="bicubic", align_corners=True)
    total = total[:, 0] - total.amin((1, 2, 3))[:, None, None]
    return total * (layout.top / total.amax((1, 2)))[:, None, None]
