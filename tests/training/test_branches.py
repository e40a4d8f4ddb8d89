"""The two branches: what each loss reaches."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lfnet.data.augment import GeometricConfig
from lfnet.data.pair import Pair, concatenate_pairs
from lfnet.data.pair_sources import PicturePairs
from lfnet.geometry.transform import apply_homography
from lfnet.models.descriptor import Descriptor
from lfnet.models.inputs import local_contrast, normalize_pictures
from lfnet.models.keypoints import Keypoints, select_peaks
from lfnet.models.lfnet import LFNet
from lfnet.training.branches import (
    Correspondences,
    StepResult,
    StrategyConfig,
    agreeing,
    apply_gradients,
    carried_chances,
    descriptor_losses,
    learn_and_paint,
    see,
    through_counted,
    two_branch_step,
)
from lfnet.training.draws import Draws
from lfnet.training.losses import (
    triplet_loss,
)
from lfnet.training.targets import paint_target
from support.networks import STRATEGY, chances_config, lean_config, tiny_config
from support.tensors import seeded


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
    direction = learn_and_paint(model, mine, theirs, pair.warp(), STRATEGY, Draws(seeded()))
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
    result = two_branch_step(model, pair, STRATEGY, 0, Draws(seeded()))
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
    result = two_branch_step(model, pair, strategy, 0, Draws(seeded()))
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
    there, back = (two_branch_step(model, each, STRATEGY, 0, Draws(seeded())) for each in (pair, pair.swapped()))
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
    result = two_branch_step(model, pair, STRATEGY, 0, Draws(seeded()))
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
    losses = descriptor_losses(mine, theirs, correspondences, STRATEGY, 0, Draws(generator))
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
    result = two_branch_step(model, pair, STRATEGY, 0, Draws(seeded()))
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
    result = two_branch_step(model, pair, STRATEGY, 0, Draws(seeded()))
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
    return model, two_branch_step(model, pair, strategy, 0, Draws(seeded()))


def test_a_lean_step_trains_all_of_both_networks(pair: Pair) -> None:
    model, result = lean_pair_step(pair)
    assert set(result.losses) == {"image", "sharpening", "orientation", "scale", "pair", "dual_softmax"}
    apply_gradients(model, result)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A batch norm takes constants out again: what reaches the bias before it is what the rim leaves.
        assert float(parameter.grad.abs().max()) > (1e-6 if parameter.ndim > 1 else 0), name


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


def test_chances_of_angles_are_carried_along_the_warp() -> None:
    """A sharp peak of j stands in i where the warp turns i's angle onto it; a shear moves each angle by its own."""
    turn = math.radians(45)
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    shear = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    logits = 30 * torch.eye(16)[None, [5, 5]]
    chances = carried_chances(logits, torch.stack((rotation, shear))[None])[0]
    torch.testing.assert_close(chances[0], torch.eye(16)[3], atol=1e-4, rtol=0)
    # i's angle of 90 degrees, (0, 1), is sheared to (1, 1): 45 degrees, angle 2 of j.
    sheared = carried_chances(30 * torch.eye(16)[None, None, 2], shear[None, None])[0, 0]
    assert int(sheared.argmax()) == 4
    assert float(sheared[4]) == pytest.approx(1, abs=1e-4)


def test_the_descriptor_s_loss_teaches_chances_of_angles(pair: Pair) -> None:
    strategy = StrategyConfig(keypoints=32, descriptor_loss="dual_softmax", orientation_loss="agreement")
    model = LFNet(chances_config())
    result = two_branch_step(model, pair, strategy, 0, Draws(seeded()))
    assert "angles.score.weight" in reached(result.losses["dual_softmax"], model.descriptor)
    apart = model_with_best_angles(model)
    result = two_branch_step(apart, pair, strategy, 0, Draws(seeded()))
    assert not any(name.startswith("angles") for name in reached(result.losses["dual_softmax"], apart.descriptor))


def test_the_network_of_angles_sees_what_counts_alone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its batch norm would learn the statistics of places that no view of the pair has."""
    seen: list[int] = []
    original = Descriptor.angle_scores

    def counted(descriptor: Descriptor, features: Tensor) -> Tensor:
        seen.append(len(features))
        return original(descriptor, features)

    monkeypatch.setattr(Descriptor, "angle_scores", counted)
    strategy = StrategyConfig(keypoints=256, orientation_loss="agreement")
    result = two_branch_step(LFNet(chances_config()), pair, strategy, 0, Draws(seeded()))
    counts = torch.cat([direction.correspondences.counts for direction in result.directions])
    assert seen == [2 * int(counts.sum())]
    assert 2 < int(counts.sum()) < counts.numel()


def model_with_best_angles(model: LFNet) -> LFNet:
    orientation = dataclasses.replace(model.config.orientation, turning="best")
    other = LFNet(dataclasses.replace(model.config, orientation=orientation))
    other.load_state_dict(model.state_dict())
    return other


def test_both_branches_choose_by_score_and_contrast(pair: Pair) -> None:
    config = dataclasses.replace(lean_config(), contrast_preference=1.0)
    model = LFNet(config).eval()
    with torch.no_grad():
        view = see(model, (pair.a, pair.b), STRATEGY)[0]
    weight = local_contrast(normalize_pictures(pair.a.image, pair.a.valid), pair.a.valid)
    torch.testing.assert_close(view.ranked.scores, view.maps.scores * weight)
    result = two_branch_step(model, pair, STRATEGY, 0, Draws(seeded()))
    keypoints = result.directions[0].correspondences.keypoints
    places = [
        select_peaks(maps.scores, view.usable & result.directions[0].target.visible, STRATEGY.keypoints, 5)[0]
        for maps in (view.ranked, view.maps)
    ]
    chosen = keypoints.points.detach() - (keypoints.points.detach() - places[0]).clamp(-0.75, 0.75)
    assert bool((chosen == places[0])[keypoints.present].all())
    assert not torch.equal(places[0], places[1])
    painter = result.views[1]
    painted = [
        paint_target(
            maps, pair.warp(STRATEGY.depth_tolerance), painter.usable, STRATEGY.keypoints, 5, STRATEGY.target_sigma
        ).points
        for maps in (painter.ranked, painter.maps)
    ]
    torch.testing.assert_close(result.directions[0].target.points, painted[0])
    assert not torch.equal(painted[0], painted[1])


def test_positives_are_disturbed_as_far_as_told(model: LFNet, pair: Pair) -> None:
    model.eval()
    strategy = dataclasses.replace(STRATEGY, positive_jitter=1.5)
    steady, moved = (
        two_branch_step(model, pair, each, 0, Draws(seeded())).directions[0].correspondences
        for each in (STRATEGY, strategy)
    )
    assert torch.equal(steady.counts, moved.counts)
    assert torch.equal(steady.orientations_j, moved.orientations_j)
    shifts = (moved.points_j - steady.points_j)[steady.counts]
    assert float(shifts.std()) == pytest.approx(1.5, rel=0.3)


def test_a_batch_is_the_mean_of_its_pairs(model: LFNet, camera: NDArray[np.uint8]) -> None:
    model.eval()
    pairs = [PicturePairs([camera], GeometricConfig(rotation=40.0), 64).sample(seeded(seed)) for seed in (3, 4)]
    alone = [two_branch_step(model, each, STRATEGY, 0, Draws(seeded())) for each in pairs]
    together = two_branch_step(model, concatenate_pairs(pairs), STRATEGY, 0, Draws(seeded()))
    mean = sum(float(each.losses["image"].detach()) for each in alone) / 2
    assert float(together.losses["image"].detach()) == pytest.approx(mean, rel=1e-4)
    counts = torch.cat([each.directions[0].correspondences.counts for each in alone])
    assert torch.equal(together.directions[0].correspondences.counts, counts)
