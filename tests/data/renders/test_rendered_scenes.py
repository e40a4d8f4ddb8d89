"""Rendered pairs: depth against exact planes and a slow reference, agreement of the views, determinism."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lfnet.data.pair import Pair
from lfnet.data.renders.objects import draw_scene
from lfnet.data.renders.ray_casting import SceneViews
from lfnet.data.renders.render_settings import SCENE_KINDS, RenderSettings
from lfnet.data.renders.rendered_scenes import RenderedScenes
from lfnet.data.renders.synthetic_scene import Cameras, Draw, SyntheticScene, draw_cameras, draw_layout
from lfnet.data.renders.textures import TextureAtlas, procedural_textures
from support.tensors import seeded

pytestmark = pytest.mark.slow

SMALL = RenderSettings(size=96, texture_size=128, procedural_textures=12)
SAME_LIGHT = replace(SMALL, lighting_change=0.0, exposure_change=0.0, vignetting=0.0, gloss=0.0)


def random_scene(settings: RenderSettings, seed: int) -> tuple[SyntheticScene, Cameras]:
    draw = Draw([seeded(seed)])
    layout = draw_layout(settings, draw)
    cameras, centres = draw_cameras(settings, layout, draw)
    return draw_scene(settings, layout, centres, 0, 12, draw), cameras


def rays(cameras: Cameras, view: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) and directions (size * size, 3) of one camera of the first scene, in double precision."""
    pose = cameras.camera_from_world[0, view].double().numpy()
    y, x = np.mgrid[0:size, 0:size].astype(float)
    pixels = np.stack((x.ravel(), y.ravel(), np.ones(size * size)), -1)
    directions = pixels @ np.linalg.inv(cameras.intrinsics[0, view].double().numpy()).T @ pose[:3, :3]
    return -pose[:3, :3].T @ pose[:3, 3], directions


def depth_of_surfaces(scene: SyntheticScene, centre: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Nearest of all surfaces, one at a time, both sides of each."""
    nearest = np.full(len(directions), np.inf)
    for index in np.flatnonzero(scene.present[0].numpy()):
        middle, u, v, normal = (
            values[0, index].double().numpy() for values in (scene.centre, scene.half_u, scene.half_v, scene.normal)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = normal @ (middle - centre) / (directions @ normal)
            offset = centre + depth[:, None] * directions - middle
            inside = (np.abs(offset @ u) <= u @ u) & (np.abs(offset @ v) <= v @ v)
        nearest = np.where(inside & (depth > 0) & (depth < nearest), depth, nearest)
    return nearest


def seen_in_b(pair: Pair) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For every pixel of view a: depth in b's frame, depth that b measured there, pixel of b (N, 2)."""
    assert pair.a.depth is not None
    assert pair.b.depth is not None
    size = pair.a.size[0]
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    pixels = torch.stack((x.flatten(), y.flatten(), torch.ones(size * size)), 0).double()
    points = torch.linalg.inv(pair.a.intrinsics[0].double()) @ pixels * pair.a.depth.double().flatten()
    b_from_a = pair.b.camera_from_world[0].double() @ torch.linalg.inv(pair.a.camera_from_world[0].double())
    points = b_from_a[:3, :3] @ points + b_from_a[:3, 3:]
    projected = pair.b.intrinsics[0].double() @ points
    place = (projected[:2] / projected[2]).t()
    place[points[2] <= 0] = -1.0
    # Inverse depth is affine on a plane, hence bilinear interpolation of it is exact there.
    measured = 1.0 / look_up(1.0 / pair.b.depth.double(), place)
    return points[2], measured, place


def look_up(image: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    grid = place / (image.shape[-1] - 1) * 2.0 - 1.0
    return functional.grid_sample(image.double(), grid[None, None], padding_mode="border", align_corners=True).flatten()


def visible_in_b(pair: Pair, tolerance: float) -> tuple[torch.Tensor, torch.Tensor]:
    depth, measured, place = seen_in_b(pair)
    inside = ((place >= 0) & (place <= pair.b.size[0] - 1)).all(-1)
    return inside & ((measured / depth - 1.0).abs() < tolerance), place


def test_depth_of_a_known_plane() -> None:
    """A slanted card that fills the view: its depth is that of the plane's equation."""
    scene, cameras = random_scene(replace(SMALL, kinds=("room",)), 0)
    centre, directions = rays(cameras, 0, 96)
    forward = cameras.camera_from_world[0, 0, 2, :3].double().numpy()
    normal = -forward + np.array([0.2, 0.1, 0.3])
    normal /= np.linalg.norm(normal)
    u = np.cross(normal, [0.0, 0.0, 1.0])
    middle = centre + 0.05 * forward
    card = {"centre": middle, "half_u": u, "half_v": np.cross(normal, u), "normal": normal}
    for name, value in card.items():
        getattr(scene, name)[0, -1] = torch.from_numpy(value)
    scene.present[0, -1] = True
    hits = SceneViews.of(scene, cameras, 96).cast(torch.arange(96.0))
    expected = normal @ (middle - centre) / (directions @ normal)
    np.testing.assert_allclose(hits.depth[0].numpy(), expected, rtol=1e-4)
    assert (hits.surface[0] == scene.present.shape[1] - 1).all()
    np.testing.assert_allclose(hits.normal[0].t().numpy(), np.broadcast_to(normal, (96 * 96, 3)), atol=1e-6)
    distance = (hits.point[0].t().double().numpy() - middle) @ normal
    assert np.abs(distance).max() < 1e-5


@pytest.mark.parametrize("kind", ["room", "facade", "street"])
def test_casting_agrees_with_a_slow_reference(kind: str) -> None:
    for seed in range(4):
        scene, cameras = random_scene(replace(SMALL, kinds=(kind,), size=64), seed)
        depth = SceneViews.of(scene, cameras, 64).cast(torch.arange(64.0)).depth.numpy()
        for view in range(2):
            expected = depth_of_surfaces(scene, *rays(cameras, view, 64))
            wrong = np.abs(depth[view] / expected - 1.0) > 1e-4
            # On the very edge of a surface, single and double precision may decide differently.
            assert wrong.sum() <= 2


def test_height_field_agrees_with_a_fine_march() -> None:
    scene, cameras = random_scene(replace(SMALL, kinds=("terrain",), size=48), 1)
    hits = SceneViews.of(scene, cameras, 48).cast(torch.arange(48.0))
    centre, directions = rays(cameras, 0, 48)
    heights, low, high = scene.heights[0].double(), *scene.room[0, :, :2].double()
    ends = depth_of_surfaces(scene, centre, directions)
    depths = np.linspace(0.0, 1.0, 1501)[:, None] * ends
    points = centre + depths[..., None] * directions
    grid = (torch.from_numpy(points[..., :2]) - low) / (high - low) * 2.0 - 1.0
    height = functional.grid_sample(heights[None, None], grid[None], padding_mode="border", align_corners=True)
    below = points[..., 2] <= height[0, 0].numpy() + 1e-9
    expected = np.take_along_axis(depths, below.argmax(0)[None], 0)[0]
    expected = np.where(below.any(0), expected, ends)
    assert (expected < ends).mean() > 0.3
    agrees = np.abs(hits.depth[0].numpy() - expected) <= ends / 1500 * 1.5 + 1e-4
    # The march may step over a crest that a ray only just grazes.
    assert agrees.mean() > 0.995
    on_field = (hits.depth[0].numpy() < ends * 0.999) & agrees
    reached = hits.point[0, :, on_field].double()
    place = ((reached[:2].t() - low) / (high - low) * 2.0 - 1.0)[None, None]
    surface = functional.grid_sample(heights[None, None], place, padding_mode="border", align_corners=True).flatten()
    assert (surface - reached[2]).abs().max() < 1e-3


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_views_see_the_same_surfaces(kind: str) -> None:
    """Warped from a to b, most points that are seen in both have there the depth that b measured."""
    source = RenderedScenes(replace(SMALL, kinds=(kind,)))
    for seed in range(5):
        pair = source.sample(seeded(seed))
        near, _ = visible_in_b(pair, 0.05)
        exact, _ = visible_in_b(pair, 1e-4 if kind != "terrain" else 2e-3)
        assert near.double().mean() > 0.15
        # The rest lies beside edges, where b's depth is interpolated across them.
        assert exact.sum() > 0.75 * near.sum()


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_views_agree_in_brightness_under_one_light(kind: str) -> None:
    source = RenderedScenes(replace(SAME_LIGHT, kinds=(kind,)))
    differences, controls = [], []
    for seed in range(5):
        pair = source.sample(seeded(seed))
        visible, place = visible_in_b(pair, 0.02)
        image = pair.a.image.double().flatten()
        differences.append((look_up(pair.b.image, place) - image)[visible].abs().mean())
        controls.append((pair.b.image.double().flatten() - image)[visible].abs().mean())
    assert max(differences) < 0.06
    assert sum(differences) < 0.35 * sum(controls)


def test_changes_of_light_and_exposure_change_the_picture() -> None:
    same, other = RenderedScenes(SAME_LIGHT), RenderedScenes(replace(SMALL, gloss=0.0))
    ratios = []
    for seed in range(5):
        plain, lit = same.sample(seeded(seed)), other.sample(seeded(seed))
        torch.testing.assert_close(plain.b.depth, lit.b.depth, rtol=0.0, atol=0.0)
        ratios.append((lit.b.image - plain.b.image).abs().mean().item())
    assert max(ratios) > 0.03


def test_a_sample_is_a_function_of_the_generator() -> None:
    source, again = RenderedScenes(SMALL), RenderedScenes(SMALL)
    first, second, other = (
        source.sample(seeded(7), 3),
        again.sample(seeded(7), 3),
        source.sample(seeded(8), 3),
    )
    for name in ("image", "valid", "depth", "intrinsics", "camera_from_world"):
        for view in ("a", "b"):
            assert torch.equal(getattr(getattr(first, view), name), getattr(getattr(second, view), name))
    assert not torch.equal(first.a.image, other.a.image)
    generator = seeded(7)
    source.sample(generator)
    assert not torch.equal(source.sample(generator).a.image, source.sample(seeded(7)).a.image)


def test_shapes_and_ranges() -> None:
    pair = RenderedScenes(SMALL).sample(seeded(0), 8)
    assert pair.b_from_a is None
    for view in (pair.a, pair.b):
        assert view.image.shape == (8, 1, 96, 96)
        assert view.image.dtype == torch.float32
        assert view.image.min() >= 0.0
        assert view.image.max() <= 1.0
        assert view.valid.all()
        assert view.depth is not None
        assert torch.isfinite(view.depth).all()
        assert view.depth.min() > 0.0
        assert (view.intrinsics[:, 2] == torch.tensor([0.0, 0.0, 1.0])).all()
        rotation = view.camera_from_world[:, :3, :3]
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(8, 3, 3), atol=1e-5, rtol=0.0)
        torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(8))


def test_overlap_and_brightness_are_fit_for_training() -> None:
    source = RenderedScenes(SMALL)
    overlaps, means, deviations = [], [], []
    for seed in range(20):
        pair = source.sample(seeded(seed))
        overlaps.append(visible_in_b(pair, 0.05)[0].double().mean().item())
        means += [view.image.mean().item() for view in (pair.a, pair.b)]
        deviations += [view.image.std().item() for view in (pair.a, pair.b)]
    assert np.mean([0.2 <= overlap <= 0.95 for overlap in overlaps]) >= 0.85
    assert min(overlaps) > 0.1
    assert min(means) > 0.15
    assert max(means) < 0.8
    assert np.median(deviations) > 0.08


def test_cameras_keep_to_the_settings() -> None:
    settings = replace(SMALL, baseline_degrees=(10.0, 20.0), zoom_max=1.0, roll_degrees=0.0)
    draw = Draw([seeded(0)] * 200)
    layout = draw_layout(settings, draw)
    cameras, centres = draw_cameras(settings, layout, draw)
    towards = functional.normalize(centres - layout.target[:, None], dim=-1)
    angle = torch.rad2deg((towards[:, 0] * towards[:, 1]).sum(-1).acos())
    # Azimuths shrink with elevation, and cameras are kept above the ground.
    assert angle.max() <= 20.5
    assert ((angle > 9.0).float().mean()) > 0.4
    torch.testing.assert_close(cameras.intrinsics[:, 0], cameras.intrinsics[:, 1])
    assert cameras.camera_from_world[..., 0, 2].abs().max() < 1e-5


def test_antialiasing_leaves_depth_alone() -> None:
    smooth, sharp = RenderedScenes(SMALL), RenderedScenes(replace(SMALL, antialias=False))
    a, b = smooth.sample(seeded(3)), sharp.sample(seeded(3))
    torch.testing.assert_close(a.a.depth, b.a.depth, rtol=0.0, atol=0.0)
    assert a.a.image.diff(dim=-1).abs().mean() < b.a.image.diff(dim=-1).abs().mean()


def test_photographs_are_used() -> None:
    white, black = np.full((40, 60), 255, np.uint8), np.zeros((40, 60), np.uint8)
    settings = replace(SAME_LIGHT, photograph_share=1.0)
    kept = RenderedScenes(replace(settings, max_photographs=1), [white, black])
    only = RenderedScenes(settings, [white])
    assert torch.equal(kept.sample(seeded(2)).a.image, only.sample(seeded(2)).a.image)
    assert not torch.equal(only.sample(seeded(2)).a.image, RenderedScenes(settings).sample(seeded(2)).a.image)


def test_atlas_interpolates_averages_and_mirrors() -> None:
    random = np.random.default_rng(0)
    texture = random.integers(0, 256, (16, 16), dtype=np.uint8)
    atlas = TextureAtlas([np.full((5, 9), 200, np.uint8), texture], 16)
    x, y = torch.tensor([3, 0, 15]), torch.tensor([7, 0, 15])
    second, one = torch.ones(3, dtype=torch.long), torch.ones(3)
    s, t = (x + 0.5) / 16, (y + 0.5) / 16
    expected = torch.from_numpy(texture[y, x] / 255.0).float()
    for across, down in ((s, t), (-s, t), (2.0 - s, -t), (s + 2.0, t - 2.0)):
        torch.testing.assert_close(atlas.sample(second, across, down, one), expected)
    between = atlas.sample(second[:1], (x[:1] + 1.0) / 16, t[:1], one[:1])
    torch.testing.assert_close(between, torch.tensor([texture[7, 3:5].mean() / 255.0]).float())
    coarse = atlas.sample(second[:1], torch.tensor([0.125]), torch.tensor([0.125]), torch.tensor([3.999]))
    torch.testing.assert_close(coarse, torch.tensor([texture[:4, :4].mean() / 255.0]).float(), atol=0.01, rtol=0.0)
    for footprint in (0.1, 1.0, 5.3, 1e6):
        flat = atlas.sample(0 * second, 9.0 * s, t, torch.full((3,), footprint))
        torch.testing.assert_close(flat, torch.full((3,), 200 / 255))


def test_procedural_textures_are_varied_and_repeatable() -> None:
    textures = procedural_textures(12, 64, 5)
    assert all(texture.shape == (64, 64) and texture.std() > 10 for texture in textures)
    assert all((a == b).all() for a, b in zip(textures, procedural_textures(12, 64, 5), strict=True))
    assert len({texture.tobytes() for texture in textures}) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ("cave",)}, "cave"),
        ({"kinds": ()}, "kinds"),
        ({"boxes": (5, 2)}, "boxes"),
        ({"cards": (0, 0)}, "cards"),
        ({"boxes": (0, 60)}, "surfaces"),
        ({"zoom_max": 0.5}, "zoom_max"),
        ({"size": 1}, "size"),
        ({"field_of_view_degrees": (40.0, 180.0)}, "field_of_view_degrees"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)  # type: ignore[arg-type]


def test_bad_textures_are_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        TextureAtlas([np.zeros((8, 8), np.uint8)], 100)
    with pytest.raises(ValueError, match="grey uint8"):
        TextureAtlas([np.zeros((8, 8, 3), np.uint8)], 16)
    with pytest.raises(ValueError, match="at least one"):
        RenderedScenes(replace(SMALL, procedural_textures=0))


def test_a_scene_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    source = RenderedScenes(SMALL)
    together = source.sample_each([seeded(seed) for seed in (3, 9, 5)])
    for index, seed in enumerate((3, 9, 5)):
        alone = source.sample(seeded(seed))
        torch.testing.assert_close(together.b.image[index], alone.b.image[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.a.depth[index], alone.a.depth[0])  # type: ignore[index]
        assert torch.equal(together.b.camera_from_world[index], alone.b.camera_from_world[0])


def test_a_pair_is_drawn_fast() -> None:
    """On one thread, as the loader draws, beside a training step of 200 ms and more."""
    source = RenderedScenes(RenderSettings(texture_size=256, procedural_textures=12))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for seed in range(12):
            start = time.perf_counter()
            source.sample(seeded(seed))
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    assert min(times) < 0.1
    assert np.median(times) < 0.2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_draws_what_the_cpu_draws() -> None:
    here, there = RenderedScenes(SMALL), RenderedScenes(replace(SMALL, device="cuda"))
    a, b = here.sample(seeded(0), 4), there.sample(seeded(0), 4).to("cpu")
    assert a.a.depth is not None
    assert b.a.depth is not None
    assert ((a.a.depth / b.a.depth - 1.0).abs() < 1e-3).float().mean() > 0.995
    assert (a.a.image - b.a.image).abs().mean() < 5e-3
