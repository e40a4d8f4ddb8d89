"""The equations of the losses, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lfnet.training.losses import (
    agreement_loss,
    angle_loss,
    dual_softmax_loss,
    image_loss,
    orientation_loss,
    pair_loss,
    scale_loss,
    sharpening_loss,
    triplet_loss,
)
from lfnet.training.targets import draw_points
from support.tensors import seeded

REACH = math.sqrt(2)


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


def test_agreement_loss_is_the_chance_of_drawing_the_same_angle() -> None:
    logits = torch.tensor([[[0.6, 0.2, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]]).log()
    painted = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]])
    counts = torch.ones(1, 2, dtype=torch.bool)
    by_hand = [-math.log(0.6 * 0.5 + 0.2 * 0.5), -math.log(0.25)]
    assert float(agreement_loss(logits, painted, counts)) == pytest.approx(sum(by_hand) / 2, abs=1e-4)
    counts[0, 1] = False
    assert float(agreement_loss(logits, painted, counts)) == pytest.approx(by_hand[0], abs=1e-4)


def test_a_learner_agrees_with_either_angle_of_a_torn_painter() -> None:
    """One sure angle of the two costs log 2, whichever it is; being as torn costs more of nothing."""
    painted = torch.tensor([[[0.5, 0.0, 0.5, 0.0]]])
    counts = torch.ones(1, 1, dtype=torch.bool)
    first, second = (agreement_loss(20 * torch.eye(4)[None, None, bin], painted, counts) for bin in (0, 2))
    assert float(first) == pytest.approx(float(second))
    assert float(first) == pytest.approx(math.log(2), abs=1e-3)


def test_dual_softmax_by_hand() -> None:
    """Two pairs of three places: those of the other pair are negatives, near ones of the same pair are left out."""
    generator = seeded()
    mine, theirs = (torch.nn.functional.normalize(torch.randn(2, 3, 8, generator=generator), dim=-1) for _ in range(2))
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
