"""Settings of rendered scenes, and the kinds of scenes that there are."""

from __future__ import annotations

from dataclasses import dataclass

from lfnet.settings import ConfigError, require_at_least

MAX_SURFACES = 128
"""Surfaces that one view may see: a power of two. Its bits are taken from a float, whose order is then good
to 1.5e-5 of the depth: surfaces closer to each other may be mistaken, their depth is not."""

Range = tuple[float, float]


@dataclass(frozen=True)
class SceneKind:
    """Ranges from which one kind of scene is drawn; lengths in metres, angles in degrees."""

    distance: Range
    """From the first camera to the target."""
    target_height: Range
    elevation: Range
    """Of the first camera above the target."""
    back: Range
    """From the target to the wall behind it."""
    side: Range
    """From the target to the walls beside it."""
    ceiling: Range
    on_wall: float
    """Share of boxes and cards that sit on the wall behind the target."""
    standing: float
    """Share of boxes that stand on the floor; the rest float, turned at random."""
    has_heights: bool = False
    """Whether the floor is a height field."""


SCENE_KINDS: dict[str, SceneKind] = {
    "room": SceneKind((1.2, 3.0), (0.3, 1.1), (-5, 35), (0.4, 2.0), (1.0, 3.0), (2.3, 3.2), 0.3, 0.6),
    "facade": SceneKind((2.0, 6.0), (1.5, 3.0), (-15, 20), (0.1, 0.5), (4.0, 9.0), (5.0, 9.0), 0.85, 0.1),
    "street": SceneKind((2.0, 6.0), (0.2, 1.0), (5, 50), (3.0, 12.0), (3.0, 12.0), (6.0, 14.0), 0.2, 0.7),
    "terrain": SceneKind((2.0, 6.0), (0.1, 0.6), (20, 60), (2.0, 8.0), (3.0, 8.0), (5.0, 9.0), 0.3, 0.7, True),
}


@dataclass(frozen=True)
class RenderSettings:
    """How rendered scenes look."""

    size: int = 192
    """Side of the square pictures in pixels."""
    kinds: tuple[str, ...] = tuple(SCENE_KINDS)
    """Kinds of scenes to draw from, each equally often."""
    boxes: tuple[int, int] = (6, 14)
    """Least and largest number of boxes."""
    cards: tuple[int, int] = (4, 12)
    """Least and largest number of flat cards, on the wall or floating."""
    field_of_view_degrees: tuple[float, float] = (40.0, 75.0)
    """Range of the first view's field of view."""
    baseline_degrees: tuple[float, float] = (0.0, 40.0)
    """Range of the angle between the cameras, as seen from the target."""
    zoom_max: float = 1.5
    """Largest ratio of the target's size in the two views, from distance and focal length together."""
    roll_degrees: float = 30.0
    """Largest turn of each camera about its axis, either way."""
    lighting_change: float = 1.0
    """How far the light of view b may depart from that of view a: 0 the same, 1 another light altogether."""
    exposure_change: float = 0.4
    """Largest relative difference of exposure between the views."""
    vignetting: float = 0.3
    """Largest share of light lost in the corners of a picture."""
    gloss: float = 0.35
    """Strength of the strongest highlights; 0 is matt, so that a point looks alike from everywhere."""
    photograph_share: float = 0.75
    """Share of surfaces textured by photographs, where there are any."""
    procedural_textures: int = 48
    """Number of procedural textures."""
    max_photographs: int = 512
    """Photographs that are kept; of more, evenly spaced ones are."""
    texture_size: int = 512
    """Side of the textures in texels, a power of two; one takes 1.33 bytes a texel."""
    texture_seed: int = 0
    """Seed of the procedural textures."""
    antialias: bool = True
    """Whether colours are averaged over pixel centres and corners; depth is always that of the centre."""
    device: str = "cpu"
    """Where pictures are drawn."""

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in SCENE_KINDS]
        if unknown or not self.kinds:
            raise ConfigError(f"kinds must be some of {tuple(SCENE_KINDS)}, not {self.kinds}")
        for name in ("boxes", "cards", "field_of_view_degrees", "baseline_degrees"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ConfigError(
                    f"{name} must be a range from a low to a high value, both at least 0, not {low, high}"
                )
        if self.boxes[1] < 1 or self.cards[1] < 1:
            raise ConfigError(f"boxes and cards must allow at least one each, not {self.boxes} and {self.cards}")
        seen = 6 + 3 * self.boxes[1] + self.cards[1]
        if seen > MAX_SURFACES:
            raise ConfigError(f"6 + 3 boxes + cards must be at most {MAX_SURFACES} surfaces, not {seen}")
        require_at_least(self, "renders", {"size": 2, "zoom_max": 1})
        if not 0 < self.field_of_view_degrees[0] <= self.field_of_view_degrees[1] < 150:
            raise ConfigError(f"field_of_view_degrees must be within 0 and 150, not {self.field_of_view_degrees}")
