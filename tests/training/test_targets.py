"""The target that is painted: where its peaks lie, and that the right network pays nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lfnet.data.resample import crop_transform
from lfnet.geometry.transform import apply_homography
from lfnet.geometry.warp import warp_by_depth, warp_by_homography
from lfnet.models.detector import DetectorMaps
from lfnet.training.branches import (
    detector_losses,
)
from lfnet.training.targets import draw_points, paint_target, safe_inverse
from support.tensors import seeded

SIDE = 61
REACH = math.sqrt(2)


def blob_scores(places: list[tuple[float, float]], heights: list[float]) -> Tensor:
    y, x = torch.meshgrid(torch.arange(float(SIDE)), torch.arange(float(SIDE)), indexing="ij")
    blobs = [h * torch.exp(-((x - u) ** 2 + (y - v) ** 2) / 8) for (u, v), h in zip(places, heights, strict=True)]
    return torch.stack(blobs).amax(0)[None, None]


def constant_maps(scores: Tensor, scale: float, angle: float) -> DetectorMaps:
    turns = torch.tensor([math.cos(angle), math.sin(angle)]).view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE)
    return DetectorMaps(scores, torch.full((1, 1, SIDE, SIDE), scale), turns)


ALL = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)


def test_target_has_sharp_peaks_at_the_warped_maxima() -> None:
    j_from_i = crop_transform(torch.tensor([31.0, 28.0]), 0.5, 1.1, SIDE)
    places, heights = [(20.0, 22.0), (40.0, 18.0), (25.0, 44.0), (44.0, 41.0)], [0.9, 0.3, 0.7, 0.5]
    painter = constant_maps(blob_scores(places, heights), 1.0, 0.0)
    warp = warp_by_homography(j_from_i, ALL, (SIDE, SIDE))
    target = paint_target(painter, warp, ALL, 3, 5, 0.5)
    assert target.present.tolist() == [[True, True, True]]

    in_i, _ = apply_homography(torch.linalg.inv(j_from_i), torch.tensor([places]))
    best = in_i[0, [0, 2, 3]]
    assert float((target.points[0] - best).abs().max()) <= 0.75
    drawn = target.scores[0, 0]
    assert float(drawn.max()) == 1
    for x, y in target.points[0].int().tolist():
        assert float(drawn[y, x]) == pytest.approx(1)
        assert float(drawn[y, x + 1]) == pytest.approx(math.exp(-0.5 / 0.25), abs=1e-5)
        assert float(drawn[y + 1, x + 1]) == pytest.approx(math.exp(-1 / 0.25), abs=1e-5)
        drawn[y - 3 : y + 4, x - 3 : x + 4] = 0
    assert float(drawn.abs().max()) == 0


def test_points_are_painted_between_pixels() -> None:
    points, present = torch.tensor([[[10.3, 9.6], [0.2, 20.0]]]), torch.ones(1, 2, dtype=torch.bool)
    drawn = draw_points(points, present, (30, 25), 0.5)[0, 0]
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(25.0), indexing="ij")
    by_hand = torch.stack([torch.exp(-((x - u) ** 2 + (y - v) ** 2) / 0.5) for u, v in points[0].tolist()]).amax(0)
    torch.testing.assert_close(drawn, by_hand, atol=1e-3, rtol=0)


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.5])
def test_subpixel_targets_lie_where_j_sees_the_peaks(zoom: float) -> None:
    """Peaks of j at known places between pixels are painted at their true places in i, whatever the zoom."""
    j_from_i = crop_transform(torch.tensor([31.0, 28.0]), 0.5, zoom, SIDE)
    places = [(20.3, 22.4), (40.6, 18.5), (25.2, 44.0), (43.7, 41.45)]
    painter = constant_maps(blob_scores(places, [0.9, 0.3, 0.7, 0.5]), 1.0, 0.0)
    warp = warp_by_homography(j_from_i, ALL, (SIDE, SIDE))
    in_i, _ = apply_homography(torch.linalg.inv(j_from_i), torch.tensor([places]))
    errors = {}
    for subpixel in (False, True):
        target = paint_target(painter, warp, ALL, 4, 5, 0.5, subpixel=subpixel)
        assert bool(target.present.all())
        distances = torch.cdist(target.points, in_i)[0]
        errors[subpixel] = float(distances.amin(1).max())
        assert float(distances.amin(0).max()) < 1
    assert errors[True] < 0.05
    assert errors[True] < errors[False] / 4


def test_target_leaves_out_what_j_does_not_see_or_may_not_use() -> None:
    painter = constant_maps(blob_scores([(15.0, 15.0), (45.0, 15.0), (45.0, 45.0)], [0.9, 0.8, 0.7]), 1.0, 0.0)
    valid, usable = ALL.clone(), ALL.clone()
    valid[..., 10:20, 10:20] = False
    usable[..., 10:20, 40:50] = False
    warp = warp_by_homography(torch.eye(3)[None], valid, (SIDE, SIDE))
    target = paint_target(painter, warp, usable & valid, 5, 5, 0.5)
    # Nor does the slope of a hidden peak have a maximum where it is cut off.
    assert target.points[0][target.present[0]].tolist() == [[45.0, 45.0]]
    assert not bool(target.visible[0, 0, 10:20, 10:20].any())
    assert bool(target.visible[0, 0, 30:, 30:].all())
    assert not bool(target.known[0, 0, 8:22, 8:22].any())
    assert not bool(target.known[0, 0, 10:20, 40:50].any())
    assert bool(target.known[0, 0, 30:, 30:].all())


def test_fewer_points_are_painted_where_less_is_seen() -> None:
    scores = torch.rand(1, 1, SIDE, SIDE, generator=seeded())
    warp = warp_by_homography(torch.eye(3)[None], ALL, (SIDE, SIDE))
    painter = constant_maps(scores, 1.0, 0.0)
    assert int(paint_target(painter, warp, ALL, 40, 5, 0.5).present.sum()) == 40
    few = paint_target(painter, warp, ALL, 40, 5, 0.5, pixels_per_point=SIDE * SIDE / 10)
    assert int(few.present.sum()) == 10
    assert bool(few.present[0, :10].all())


def ideal_losses(j_from_i: Tensor, angle: float, zoom: float, compensated: bool = True) -> dict[str, float]:
    """Losses of maps that are ideal by construction: what is at phi and s in i is at phi + angle and s zoom in j."""
    generator = seeded(5)
    scores = torch.rand(1, 1, SIDE, SIDE, generator=generator)
    scale, phi = 0.95, 0.4
    painter = constant_maps(scores, scale * zoom if compensated else scale, phi + angle if compensated else phi)
    learner = constant_maps(scores, scale, phi)
    warp = warp_by_homography(j_from_i, ALL, (SIDE, SIDE))
    target = paint_target(painter, warp, ALL, 60, 5, 0.5)
    assert int(target.present.sum()) == 60
    return {name: float(value) for name, value in detector_losses(learner, target, REACH).items()}


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 135, 180, -110, -31])
def test_pure_rotation_costs_nothing(degrees: float) -> None:
    angle = math.radians(degrees)
    j_from_i = crop_transform(torch.tensor([30.0, 30.0]), angle, 1.0, SIDE)
    losses = ideal_losses(j_from_i, angle, 1.0)
    assert losses["orientation"] < 1e-6
    assert losses["scale"] < 1e-6
    wrong = ideal_losses(j_from_i, angle, 1.0, compensated=False)["orientation"]
    assert wrong == pytest.approx(2 - 2 * math.cos(angle), abs=1e-4)


@pytest.mark.parametrize("zoom", [1.3, 1 / 1.3])
def test_pure_zoom_costs_nothing(zoom: float) -> None:
    j_from_i = crop_transform(torch.tensor([30.0, 30.0]), 0.0, zoom, SIDE)
    losses = ideal_losses(j_from_i, 0.0, zoom)
    assert losses["scale"] < 1e-6
    assert losses["orientation"] < 1e-6
    assert ideal_losses(j_from_i, 0.0, zoom, compensated=False)["scale"] == pytest.approx(math.log(zoom) ** 2, rel=1e-3)


@pytest.mark.parametrize(("degrees", "zoom"), [(50.0, 1.3), (-165.0, 1 / 1.3)])
def test_camera_roll_and_focal_length_cost_nothing_through_depth(degrees: float, zoom: float) -> None:
    """The same by depth and pose: camera j is rolled about its axis, and its focal length is longer."""
    angle = math.radians(degrees)
    intrinsics = torch.tensor([[50.0, 0.0, 30.0], [0.0, 50.0, 30.0], [0.0, 0.0, 1.0]])[None]
    longer = intrinsics.clone()
    longer[:, [0, 1], [0, 1]] *= zoom
    roll = torch.eye(4)[None].clone()
    roll[0, :2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    depth = torch.full((1, 1, SIDE, SIDE), 2.0)
    warp = warp_by_depth(depth, depth, intrinsics, longer, roll, ALL)
    scores = torch.rand(1, 1, SIDE, SIDE, generator=seeded(5))
    target = paint_target(constant_maps(scores, 0.9 * zoom, 0.4 + angle), warp, ALL, 60, 5, 0.5)
    losses = detector_losses(constant_maps(scores, 0.9, 0.4), target, REACH)
    assert int(target.present.sum()) == 60
    assert float(losses["orientation"]) < 1e-6
    assert float(losses["scale"]) < 1e-6


def test_ideal_fields_that_vary_cost_nearly_nothing() -> None:
    """Fields of angle and scale over the scene, seen from i and, turned by 2 rad and zoomed, from j."""
    angle, zoom = 2.0, 1.15
    j_from_i = crop_transform(torch.tensor([30.0, 30.0]), angle, zoom, SIDE)
    y, x = torch.meshgrid(torch.arange(float(SIDE)), torch.arange(float(SIDE)), indexing="ij")
    grid = torch.stack((x, y), -1).view(1, -1, 2)

    def fields(places: Tensor, turn: float, factor: float) -> DetectorMaps:
        u, v = places[0].unbind(-1)
        phi = 0.1 * u - 0.07 * v + turn
        scale = factor * (1 + 0.15 * torch.sin(0.05 * u + 0.03 * v))
        turns = torch.stack((torch.cos(phi), torch.sin(phi))).view(1, 2, SIDE, SIDE)
        return DetectorMaps(torch.rand(1, 1, SIDE, SIDE, generator=seeded(5)), scale.view(1, 1, SIDE, SIDE), turns)

    learner = fields(grid, 0.0, 1.0)
    painter = fields(apply_homography(torch.linalg.inv(j_from_i), grid)[0], angle, zoom)
    warp = warp_by_homography(j_from_i, ALL, (SIDE, SIDE))
    losses = detector_losses(learner, paint_target(painter, warp, ALL, 60, 5, 0.5), REACH)
    # Maps are read at whole pixels, up to 0.7 px from the place: up to 0.09 rad here.
    assert float(losses["orientation"]) < 4e-3
    assert float(losses["scale"]) < 1e-4


def test_inverse_of_a_singular_jacobian_is_finite() -> None:
    generator = seeded()
    matrices = torch.randn(5, 2, 2, generator=generator)
    torch.testing.assert_close(safe_inverse(matrices), torch.linalg.inv(matrices), atol=1e-4, rtol=1e-4)
    assert bool(torch.isfinite(safe_inverse(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))).all())
