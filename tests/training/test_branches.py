"""The two-branch strategy: the equations by hand, what each loss reaches, and a training whose losses are pinned."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.data.augment import GeometricConfig
from lfnet.data.pair import Pair, View, concatenate_pairs
from lfnet.data.pair_sources import PicturePairs
from lfnet.data.resample import crop_transform
from lfnet.geometry.transform import apply_homography
from lfnet.geometry.warp import warp_by_depth, warp_by_homography
from lfnet.models.detector import DetectorMaps
from lfnet.models.inputs import local_contrast, normalize_pictures
from lfnet.models.keypoints import Keypoints
from lfnet.models.lfnet import LFNet
from lfnet.training.branches import (
    Correspondences,
    StepResult,
    StrategyConfig,
    agreeing,
    apply_gradients,
    descriptor_losses,
    detector_losses,
    learn_and_paint,
    see,
    through_counted,
    two_branch_step,
)
from lfnet.training.config import OptimizerConfig, TrainConfig
from lfnet.training.loop import TrainingError, learning_rate, new_state, train_step
from lfnet.training.losses import (
    angle_loss,
    dual_softmax_loss,
    image_loss,
    orientation_loss,
    pair_loss,
    scale_loss,
    sharpening_loss,
    triplet_loss,
)
from lfnet.training.mining import candidate_count, choose_negatives
from lfnet.training.targets import draw_points, paint_target, safe_inverse
from support.networks import lean_config, tiny_config

SIDE = 61
REACH = math.sqrt(2)
STRATEGY = StrategyConfig(keypoints=32, mask_reach=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pair(camera: NDArray[np.uint8]) -> Pair:
    """Two views of a photograph, turned and zoomed."""
    return PicturePairs([camera], GeometricConfig(rotation=40.0), 64).sample(seeded(3))


@pytest.fixture
def model() -> LFNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LFNet(tiny_config()).train()


# --- losses by hand ---


def test_image_loss_sums_visible_pixels_per_painted_point() -> None:
    scores, target = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    target[0, 0, 1, 1] = 1.0  # visible, 1 - 0.4 away
    scores[0, 0, 1, 1] = 0.4
    scores[0, 0, 3, 3] = 9.0  # not visible
    scores[1, 0, 0, 0] = 0.5  # visible, nothing painted there
    visible = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    visible[0, 0, 3, 3] = False
    present = torch.tensor([[True, True, False], [True, False, False]])
    expected = ((0.6**2) / 2 + 0.5**2 / 1) / 2
    assert float(image_loss(scores, target, visible, present)) == pytest.approx(expected)


def test_a_blank_score_map_costs_the_energy_of_the_gaussians() -> None:
    places = torch.tensor([[[10.0, 10.0], [25.0, 14.0]]])
    target = draw_points(places, torch.ones(1, 2, dtype=torch.bool), (40, 40), 0.5)
    blank = image_loss(torch.zeros(1, 1, 40, 40), target, target >= 0, torch.ones(1, 2, dtype=torch.bool))
    by_hand = sum(math.exp(-2 * (x * x + y * y)) ** 2 for x in range(-3, 4) for y in range(-3, 4))
    assert float(blank) == pytest.approx(by_hand, rel=1e-5)
    assert by_hand == pytest.approx(1.07, abs=0.01)


def test_orientation_scale_pair_and_triplet_losses_by_hand() -> None:
    right, up = [1.0, 0.0], [0.0, 1.0]
    counts = torch.tensor([[True, True, False]])
    turned = orientation_loss(torch.tensor([[right, right, right]]), torch.tensor([[right, up, [-1.0, 0.0]]]), counts)
    assert float(turned) == pytest.approx((0 + 2) / 2)
    opposite = orientation_loss(torch.tensor([[right]]), torch.tensor([[[-1.0, 0.0]]]), counts[:, :1])
    assert float(opposite) == pytest.approx(4)

    scales, target = torch.tensor([[1.0, 1.2, 1.0]]), torch.tensor([[1.3, 1.2 * math.e, 1.0]])
    # The second target lies outside the network's scales and is left out.
    assert float(scale_loss(scales, target, counts, REACH)) == pytest.approx(math.log(1.3) ** 2)
    on_the_rim = scale_loss(torch.tensor([[1.0]]), torch.tensor([[REACH]]), counts[:, :1], REACH)
    assert float(on_the_rim) == pytest.approx(math.log(REACH) ** 2, rel=1e-5)

    anchors = torch.tensor([[right, right, right]])
    positives = torch.tensor([[right, up, up]])
    negatives = torch.tensor([[up, right, right]])
    assert float(pair_loss(anchors, positives, counts)) == pytest.approx((0 + 2) / 2)
    # max(0, 0 - 2 + 1) and max(0, 2 - 0 + 1)
    assert float(triplet_loss(anchors, positives, negatives, counts, 1.0)) == pytest.approx((0 + 3) / 2)
    assert float(triplet_loss(anchors, positives, negatives, counts, 2.5)) == pytest.approx((0.5 + 4.5) / 2)


def test_sharpening_loss_is_a_cross_entropy_that_the_target_itself_minimises() -> None:
    scores = torch.full((1, 1, 4, 4), 0.1)
    target, known = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    target[0, 0, 1, 1], target[0, 0, 1, 2], target[0, 0, 3, 3] = 1.0, 0.5, 1.0
    known[0, 0, 3, 3] = False
    scores[0, 0, 1, 1], scores[0, 0, 1, 2] = 0.4, 0.2
    by_hand = -(math.log(0.4) + 0.5 * math.log(0.2)) / 1.5
    assert float(sharpening_loss(scores, target, known)) == pytest.approx(by_hand)
    share = target * known / (target * known).sum()
    best = float(sharpening_loss(share, target, known))
    for seed in range(5):
        others = torch.softmax(torch.randn(16, generator=seeded(seed)), 0).view(1, 1, 4, 4)
        assert float(sharpening_loss(others, target, known)) > best


def test_angle_loss_is_a_cross_entropy_shared_by_two_angles() -> None:
    logits = torch.randn(1, 2, 8, generator=seeded())
    logs = torch.log_softmax(logits, -1)[0]
    turns = torch.tensor([2.25, -0.5]) * math.pi / 4
    target = torch.stack((turns.cos(), turns.sin()), -1)[None]
    by_hand = [-0.75 * logs[0, 2] - 0.25 * logs[0, 3], -0.5 * logs[1, 7] - 0.5 * logs[1, 0]]
    counts = torch.ones(1, 2, dtype=torch.bool)
    assert float(angle_loss(logits, target, counts)) == pytest.approx(float(sum(by_hand)) / 2, abs=1e-5)
    counts[0, 1] = False
    assert float(angle_loss(logits, target, counts)) == pytest.approx(float(by_hand[0]), abs=1e-5)


def test_dual_softmax_by_hand() -> None:
    """Two pairs of three places: those of the other pair are negatives, near ones of the same pair are left out."""
    generator = seeded()
    mine, theirs = (
        torch.nn.functional.normalize(torch.randn(2, 3, 8, generator=generator), dim=-1) for _ in range(2)
    )
    places = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [50.0, 0.0]]]).expand(2, 3, 2)
    counts = torch.tensor([[True, True, True], [True, False, True]])
    loss = dual_softmax_loss(mine, theirs, places, places, counts, 10.0, 0.1)
    rows = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)]
    total = 0.0
    for anchors, others in ((mine, theirs), (theirs, mine)):
        for row in rows:
            kept = [other for other in rows if other == row or {row, other} != {(0, 0), (0, 1)}]
            powers = {other: math.exp(float(anchors[row] @ others[other]) / 0.1) for other in kept}
            total -= math.log(powers[row] / sum(powers.values())) / len(rows) / 2
    assert float(loss) == pytest.approx(total, rel=1e-5)
    assert float(dual_softmax_loss(mine, theirs, places, places, counts & False, 10.0, 0.1)) == 0


def test_losses_of_nothing_are_zero_with_zero_gradient() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    values = torch.rand(1, 3, 2, generator=seeded()).requires_grad_()
    total = orientation_loss(values, torch.zeros(1, 3, 2), nothing) + pair_loss(values, torch.zeros(1, 3, 2), nothing)
    total = total + scale_loss(values[..., 0] + 1, torch.ones(1, 3), nothing, REACH)
    total = total + triplet_loss(values, values * 2, values * 3, nothing, 1.0)
    total.backward()
    assert float(total.detach()) == 0
    assert values.grad is not None
    assert bool((values.grad == 0).all())


# --- the target ---


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


# --- what each loss reaches ---


def reached(loss: Tensor, module: torch.nn.Module) -> dict[str, float]:
    """Largest gradient of the loss at each parameter that it reaches."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {n: float(g.abs().max()) for n, g in zip(names, gradients, strict=True) if g is not None and bool(g.any())}


def test_what_is_painted_is_constant_for_an_unshared_painter(model: LFNet, pair: Pair) -> None:
    painter = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in painter.parameters():
            parameter.mul_(1.1)
    # The losses must be able to be felt everywhere, scales included.
    mine, theirs = see(model, [pair.a], STRATEGY)[0], see(painter, [pair.b], STRATEGY)[0]
    assert theirs.maps.scores.requires_grad
    direction = learn_and_paint(model, mine, theirs, pair.warp(), STRATEGY, seeded())
    assert int(direction.target.present.sum()) > 5
    assert not any(each.requires_grad for each in direction.target)
    for name in ("image", "orientation", "scale"):
        loss = direction.losses[name]
        assert float(loss.detach()) > 0
        assert reached(loss, model.detector), name
        assert not reached(loss, model.descriptor), name
        assert not reached(loss, painter), name
    assert "scale_space.score_convs.0.weight" in reached(direction.losses["image"], model.detector)
    assert "scale_space.score_convs.0.weight" in reached(direction.losses["scale"], model.detector)
    assert "orientation.weight_conv.weight" in reached(direction.losses["orientation"], model.detector)


def test_each_loss_trains_its_own_network(model: LFNet, pair: Pair) -> None:
    result = two_branch_step(model, pair, STRATEGY, 0, seeded())
    detector, descriptor = list(model.detector.parameters()), list(model.descriptor.parameters())
    of_detector = torch.autograd.grad(result.detector_loss, detector, retain_graph=True, allow_unused=True)
    of_descriptor = torch.autograd.grad(result.losses["triplet"], descriptor, retain_graph=True, allow_unused=True)
    # Neither is empty talk: each loss could reach the other network too.
    assert reached(result.detector_loss, model.descriptor)
    assert reached(result.descriptor_loss, model.detector)
    apply_gradients(model, result)
    for parameter, gradient in zip(detector + descriptor, (*of_detector, *of_descriptor), strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient)
    assert sum(parameter.grad is not None and bool(parameter.grad.any()) for parameter in detector) > 5
    assert sum(parameter.grad is not None and bool(parameter.grad.any()) for parameter in descriptor) > 5


def test_detector_loss_is_the_weighted_sum_of_both_directions(model: LFNet, pair: Pair) -> None:
    strategy = dataclasses.replace(
        STRATEGY, image_weight=2.0, orientation_weight=0.5, scale_weight=0.7, pair_weight=0.3
    )
    result = two_branch_step(model, pair, strategy, 0, seeded())
    for name, value in result.losses.items():
        halves = [direction.losses[name] for direction in result.directions]
        assert float(value.detach()) == pytest.approx(float((halves[0] + halves[1]).detach()) / 2)
    losses = {name: float(value) for name, value in result.losses.items()}
    expected = 2 * losses["image"] + 0.5 * losses["orientation"] + 0.7 * losses["scale"] + 0.3 * losses["pair"]
    assert float(result.detector_loss) == pytest.approx(expected, rel=1e-5)
    assert float(result.descriptor_loss) == losses["triplet"]
    defaults = StrategyConfig()
    assert (defaults.orientation_weight, defaults.scale_weight, defaults.pair_weight) == (0.1, 0.1, 0.01)


def test_swapping_the_views_swaps_the_directions(model: LFNet, pair: Pair) -> None:
    model.eval()
    there, back = (two_branch_step(model, each, STRATEGY, 0, seeded()) for each in (pair, pair.swapped()))
    for name in ("image", "orientation", "scale", "pair"):
        assert float(there.losses[name]) == pytest.approx(float(back.losses[name]), rel=1e-2), name
        assert float(there.directions[0].losses[name]) == pytest.approx(
            float(back.directions[1].losses[name]), rel=1e-2
        )


@pytest.mark.parametrize("refinement", ["soft-argmax", "peak-fit"])
def test_pair_loss_reaches_the_detector_through_the_spatial_transformer(pair: Pair, refinement: str) -> None:
    config = tiny_config()
    keypoints = dataclasses.replace(config.keypoints, refinement=refinement)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LFNet(dataclasses.replace(config, keypoints=keypoints)).train()
    result = two_branch_step(model, pair, STRATEGY, 0, seeded())
    gradients = reached(result.losses["pair"], model.detector)
    assert "orientation.weight_conv.weight" in gradients
    assert "scale_space.score_convs.0.weight" in gradients
    assert "stem.weight" in gradients
    points = result.directions[0].correspondences.keypoints.points
    assert points.requires_grad == (refinement == "soft-argmax")


def test_pair_loss_spares_j_and_triplet_loss_trains_all_three_inputs() -> None:
    generator = seeded()
    mine, theirs = (
        torch.nn.functional.normalize(torch.randn(1, 12, 8, generator=generator), dim=-1).requires_grad_()
        for _ in range(2)
    )
    places = 100 * torch.rand(1, 12, 2, generator=generator)
    counts = torch.ones(1, 12, dtype=torch.bool)
    counts[0, 9:] = False
    ones = torch.ones(1, 12)
    keypoints = Keypoints(places, ones, ones, torch.ones(1, 12, 2), counts, ones)
    correspondences = Correspondences(
        keypoints, places, ones, torch.ones(1, 12, 2), counts, torch.eye(2).expand(1, 12, 2, 2)
    )
    losses = descriptor_losses(mine, theirs, correspondences, STRATEGY, 0, generator)
    to_mine, to_theirs = torch.autograd.grad(losses["pair"], (mine, theirs), retain_graph=True, allow_unused=True)
    assert bool(to_mine[0, :9].any(-1).all())
    assert not bool(to_mine[0, 9:].any())
    assert to_theirs is None or not bool(to_theirs.any())

    anchors, positives, negatives = (each.detach().requires_grad_() for each in (mine, theirs, theirs.flip(1)))
    every = torch.autograd.grad(
        triplet_loss(anchors, positives, negatives, counts, 5.0), (anchors, positives, negatives)
    )
    assert all(bool(gradient[0, :9].any(-1).all()) for gradient in every)
    to_mine, to_theirs = torch.autograd.grad(losses["triplet"], (mine, theirs))
    assert bool(to_mine.any())
    assert bool(to_theirs.any())
    assert not bool(to_theirs[0, 9:].any())


def test_positives_are_taken_at_the_warped_places(model: LFNet, pair: Pair) -> None:
    result = two_branch_step(model, pair, STRATEGY, 0, seeded())
    found = result.directions[0].correspondences
    counts = found.counts[0]
    assert int(counts.sum()) > 3
    assert pair.b_from_a is not None
    expected, _ = apply_homography(pair.b_from_a, found.keypoints.points.detach())
    torch.testing.assert_close(found.points_j[0][counts], expected[0][counts], atol=1e-3, rtol=0)
    maps_j = result.views[1].maps
    for point, scale, turn in zip(
        found.points_j[0][counts], found.scales_j[0][counts], found.orientations_j[0][counts], strict=True
    ):
        x, y = point.round().int().tolist()
        assert float(scale) == float(maps_j.scales[0, 0, y, x].detach())
        assert turn.tolist() == maps_j.orientations[0, :, y, x].tolist()
    assert not found.scales_j.requires_grad
    assert not found.orientations_j.requires_grad


def test_descriptors_that_do_not_count_leave_batch_norm_alone(model: LFNet) -> None:
    generator = seeded()
    patches = [torch.randn(2, 6, 32, 32, generator=generator) for _ in range(2)]
    counts = [torch.rand(2, 6, generator=generator) > 0.4] * 2
    scribbled = [
        torch.where(counted[..., None, None], each, torch.full_like(each, 50.0))
        for each, counted in zip(patches, counts, strict=True)
    ]
    twin = copy.deepcopy(model)
    described = through_counted(model.descriptor, patches, counts)
    again = through_counted(twin.descriptor, scribbled, counts)
    for first, second, counted in zip(described, again, counts, strict=True):
        torch.testing.assert_close(first, second)
        assert bool((first[~counted] == 0).all())
        torch.testing.assert_close(first[counted].norm(dim=-1), torch.ones(int(counted.sum())))
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in model.state_dict().items())
    alone = model.descriptor(torch.cat([p[c] for p, c in zip(patches, counts, strict=True)]))
    torch.testing.assert_close(torch.cat([d[c] for d, c in zip(described, counts, strict=True)]), alone)


def test_orientations_of_j_give_way_only_where_they_disagree(model: LFNet, pair: Pair) -> None:
    turn = 0.7
    jacobian = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]).expand(1, 2, 2, 2)
    ones, counts = torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool)
    mine = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    near, far = turn + math.radians(15), turn + math.radians(40)
    theirs = torch.tensor([[[math.cos(near), math.sin(near)], [math.cos(far), math.sin(far)]]])
    keypoints = Keypoints(torch.zeros(1, 2, 2), ones, ones, mine, counts, ones)
    found = Correspondences(keypoints, torch.zeros(1, 2, 2), ones, theirs, counts, jacobian)
    result = two_branch_step(model, pair, STRATEGY, 0, seeded())
    direction = result.directions[0]._replace(correspondences=found)
    assert agreeing(direction, 180) is direction
    directions = agreeing(direction, 25).correspondences.orientations_j
    assert directions[0, 0].tolist() == theirs[0, 0].tolist()
    assert directions[0, 1].tolist() == pytest.approx([math.cos(turn), math.sin(turn)])


def lean_pair_step(pair: Pair) -> tuple[LFNet, StepResult]:
    strategy = StrategyConfig(
        keypoints=32, sharpening_weight=1.0, subpixel_targets=True, descriptor_loss="dual_softmax",
        agreement_degrees=25,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LFNet(lean_config())
    return model, two_branch_step(model, pair, strategy, 0, seeded())


def test_a_lean_step_trains_all_of_both_networks(pair: Pair) -> None:
    model, result = lean_pair_step(pair)
    assert set(result.losses) == {"image", "sharpening", "orientation", "scale", "pair", "dual_softmax"}
    apply_gradients(model, result)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_shared_orientations_are_taught_by_j_s_one_angle(pair: Pair) -> None:
    """L_ori reaches the scores of angles and what they are read from, and nothing of the detector or of the rest."""
    model, result = lean_pair_step(pair)
    assert not any(name.startswith("orientation") for name, _ in model.detector.named_parameters())
    gradients = torch.autograd.grad(
        result.losses["orientation"], list(model.parameters()), allow_unused=True, retain_graph=True
    )
    reached = {name for (name, _), g in zip(model.named_parameters(), gradients, strict=True) if g is not None}
    assert {name.split(".")[1] for name in reached} == {"angles", "convolutions"}
    assert "descriptor.convolutions.6.weight" not in reached
    weight = StrategyConfig().orientation_weight
    expected = result.losses["dual_softmax"] + weight * result.losses["orientation"]
    torch.testing.assert_close(result.descriptor_loss, expected)


def test_both_branches_choose_by_score_and_contrast(pair: Pair) -> None:
    config = dataclasses.replace(lean_config(), contrast_preference=1.0)
    model = LFNet(config).eval()
    with torch.no_grad():
        view = see(model, (pair.a, pair.b), STRATEGY)[0]
    weight = local_contrast(normalize_pictures(pair.a.image, pair.a.valid))
    torch.testing.assert_close(view.ranked.scores, view.maps.scores * weight)
    result = two_branch_step(model, pair, STRATEGY, 0, seeded())
    keypoints = result.directions[0].correspondences.keypoints
    whole = keypoints.points.detach().round().long()[0][keypoints.present[0]]
    at = view.ranked.scores[0, 0, whole[:, 1], whole[:, 0]]
    assert bool((at - keypoints.scores[0][keypoints.present[0]]).abs().median() < 1e-6)


def test_positives_are_disturbed_as_far_as_told(model: LFNet, pair: Pair) -> None:
    model.eval()
    strategy = dataclasses.replace(STRATEGY, positive_jitter=1.5)
    steady, moved = (
        two_branch_step(model, pair, each, 0, seeded()).directions[0].correspondences for each in (STRATEGY, strategy)
    )
    assert torch.equal(steady.counts, moved.counts)
    assert torch.equal(steady.orientations_j, moved.orientations_j)
    shifts = (moved.points_j - steady.points_j)[steady.counts]
    assert float(shifts.std()) == pytest.approx(1.5, rel=0.3)


def test_a_batch_is_the_mean_of_its_pairs(model: LFNet, camera: NDArray[np.uint8]) -> None:
    model.eval()
    pairs = [PicturePairs([camera], GeometricConfig(rotation=40.0), 64).sample(seeded(seed)) for seed in (3, 4)]
    alone = [two_branch_step(model, each, STRATEGY, 0, seeded()) for each in pairs]
    together = two_branch_step(model, concatenate_pairs(pairs), STRATEGY, 0, seeded())
    mean = sum(float(each.losses["image"].detach()) for each in alone) / 2
    assert float(together.losses["image"].detach()) == pytest.approx(mean, rel=1e-4)
    counts = torch.cat([each.directions[0].correspondences.counts for each in alone])
    assert torch.equal(together.directions[0].correspondences.counts, counts)


# --- negatives ---


def test_annealing_of_the_negatives() -> None:
    assert [candidate_count(step) for step in (0, 1000, 2000, 3000)] == [64, 35, 19, 11]
    assert candidate_count(4300) == 5
    assert candidate_count(10**6) == 5
    assert all(candidate_count(step) >= candidate_count(step + 100) for step in range(0, 6000, 100))


def test_negatives_are_among_the_hardest_and_never_near() -> None:
    generator = seeded()
    anchors, candidates = torch.randn(2, 40, 8, generator=generator), torch.randn(2, 40, 8, generator=generator)
    places = 40 * torch.rand(2, 40, 2, generator=generator)
    counts = torch.rand(2, 40, generator=generator) > 0.2
    radius, hardest = 12.0, 6
    allowed = np.zeros((2, 40, 40), bool)
    for b, k in np.ndindex(2, 40):
        far = [
            n
            for n in range(40)
            if bool(counts[b, n]) and float((places[b, k] - places[b, n]).norm()) >= radius
        ]
        far.sort(key=lambda n, b=b, k=k: float((anchors[b, k] - candidates[b, n]).norm()))
        allowed[b, k, far[:hardest]] = True
    drawn = np.zeros_like(allowed)
    for _ in range(150):
        chosen, has = choose_negatives(anchors, candidates, places, counts, radius, hardest, generator)
        assert torch.equal(has, counts)
        for b, k in zip(*np.nonzero(counts.numpy()), strict=True):
            drawn[b, k, int(chosen[b, k])] = True
    kept = counts.numpy()
    assert bool((allowed | ~drawn).all())
    assert drawn[kept].sum() > 0.97 * allowed[kept].sum()


def test_an_anchor_without_far_candidates_has_no_negative() -> None:
    places = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [50.0, 0.0]]])
    anchors = torch.randn(1, 3, 4, generator=seeded())
    counts = torch.tensor([[True, True, False]])
    _, has = choose_negatives(anchors, anchors, places, counts, 10.0, 5, seeded())
    assert has.tolist() == [[False, False, False]]
    chosen, has = choose_negatives(anchors, anchors, places, counts | True, 10.0, 5, seeded())
    assert has.tolist() == [[True, True, True]]
    assert chosen[0, :2].tolist() == [2, 2]
    assert int(chosen[0, 2]) in (0, 1)


# --- steps ---


def tiny_training(steps: int = 40) -> TrainConfig:
    optimizer = OptimizerConfig(steps=steps, batch=1, learning_rate=3e-3)
    return TrainConfig(model=tiny_config(), strategy=STRATEGY, optimizer=optimizer)


def test_one_pair_is_overfitted(pair: Pair) -> None:
    config = tiny_training()
    state = new_state(config, torch.device("cpu"))
    history = []
    for _ in range(config.optimizer.steps):
        result = train_step(state, config, pair)
        state.step += 1
        history.append({name: float(value) for name, value in result.losses.items()})
    for name, share in (("image", 0.95), ("triplet", 0.7)):
        before, after = (np.mean([losses[name] for losses in part]) for part in (history[:5], history[-5:]))
        assert after < share * before, (name, before, after)


PINNED = [
    {"image": 1.078, "orientation": 0.072222, "scale": 0.031931, "pair": 0.84714, "triplet": 0.54766},
    {"image": 1.0607, "orientation": 0.067795, "scale": 0.026775, "pair": 0.429, "triplet": 0.16909},
    {"image": 1.0621, "orientation": 0.095135, "scale": 0.027659, "pair": 0.31089, "triplet": 0.1215},
]
"""Losses of the first steps of `tiny_training` on one pair; measured with this code on an x86 CPU."""


def test_losses_of_the_first_steps_are_pinned(pair: Pair) -> None:
    """In float32 on one thread, the same wherever it runs; a change of the method changes them."""
    config = tiny_training()
    state = new_state(config, torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for expected in PINNED:
            result = train_step(state, config, pair)
            state.step += 1
            losses = {name: float(value) for name, value in result.losses.items()}
            assert losses == pytest.approx(expected, rel=1e-2, abs=2e-4)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_takes_the_step_that_the_cpu_takes(pair: Pair) -> None:
    config = tiny_training()
    here, there = (new_state(config, torch.device(device)) for device in ("cpu", "cuda"))
    for _ in range(2):
        on_cpu, on_gpu = (train_step(here, config, pair).losses, train_step(there, config, pair.to("cuda")).losses)
        for name, value in on_cpu.items():
            assert float(on_gpu[name].detach()) == pytest.approx(float(value.detach()), rel=2e-2, abs=1e-3), name


def test_learning_rate() -> None:
    constant = OptimizerConfig()
    assert {learning_rate(constant, step) for step in (0, 10, 49_999)} == {1e-3}
    cosine = OptimizerConfig(steps=1000, schedule="cosine", warmup=10)
    assert learning_rate(cosine, 0) == pytest.approx(1e-4, rel=1e-3)
    assert learning_rate(cosine, 500) == pytest.approx(1e-3 * (0.01 + 0.99 / 2))
    assert learning_rate(cosine, 1000) == pytest.approx(1e-5)


def test_a_nan_stops_training_and_the_batch_is_kept(pair: Pair, tmp_path: Path) -> None:
    config = tiny_training()
    state = new_state(config, torch.device("cpu"))
    before = {name: value.clone() for name, value in state.model.named_parameters()}
    image = pair.a.image.clone()
    image[0, 0, 30, 30] = math.nan
    broken = dataclasses.replace(pair, a=dataclasses.replace(pair.a, image=image))
    with pytest.raises(TrainingError, match=r"step 0: a loss is not finite .*failed_batch\.pt"):
        train_step(state, config, broken, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in state.model.named_parameters())
    saved = torch.load(tmp_path / "failed_batch.pt", weights_only=True)
    torch.testing.assert_close(saved["a"]["image"], image, equal_nan=True)
    torch.testing.assert_close(saved["b"]["image"], pair.b.image)
    assert saved["step"] == 0
    assert set(saved["model"]) == set(state.model.state_dict())


def test_views_without_overlap_give_no_loss_but_the_step_goes_on(pair: Pair) -> None:
    config = tiny_training()
    state = new_state(config, torch.device("cpu"))
    away = torch.tensor([[[1.0, 0.0, 1e4], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    view = View(pair.a.image, pair.a.valid, None, pair.a.intrinsics, pair.a.camera_from_world)
    result = train_step(state, config, Pair(view, pair.b, away))
    assert {name: float(value) for name, value in result.losses.items()} == dict.fromkeys(result.losses, 0.0)
    assert all(bool(torch.isfinite(value).all()) for value in state.model.parameters())
