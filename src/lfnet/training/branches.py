"""The two-branch strategy: one copy of the network paints, the other learns to be similar; then the roles swap.

Source: LF-Net section 3.2 and figure 2. View i is seen by the learner, view j by the painter:

    maps_j  --warp, select, sharpen-->  target   (constants: `targets.paint_target`)
    L_det = w L_im(S_i, target) + w_ce L_ce + l_ori L_ori + l_s L_s + l_pair L_pair    trains the detector
    L_desc = L_tri(D_i, D_j at the warped places), or L_dual                           trains the descriptor

Where orientations are read off patches, L_ori is a part of L_desc, and j's patches paint it: the one angle that j sees
is what i's scores of angles learn to say.

Both copies share their weights here, so one pass over both views serves both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from lfnet.data.pair import Pair, View
from lfnet.geometry.sampling import sample
from lfnet.geometry.warp import Warp, compensate
from lfnet.models.descriptor import turned
from lfnet.models.detector import DetectorMaps
from lfnet.models.inputs import normalize_pictures
from lfnet.models.keypoints import Keypoints, detect_keypoints, upright, usable_pixels
from lfnet.models.lfnet import LFNet
from lfnet.models.orientation import angle_weights, best_angles
from lfnet.models.patches import Mosaic
from lfnet.settings import require_at_least
from lfnet.training.draws import Draws
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
from lfnet.training.mining import candidate_count, choose_negatives
from lfnet.training.targets import Target, paint_target, safe_inverse

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@dataclass(frozen=True)
class StrategyConfig:
    """The losses and how correspondences are made."""

    learns: Literal["both", "descriptor"] = "both"
    """Which networks learn. "descriptor" leaves the detector as it is: a second stage, with more pairs in a step."""
    keypoints: int = 512
    """K, points painted and keypoints described per picture (paper: 512)."""
    image_weight: float = 3.0
    """Weight of L_im per painted point: the measured least at which score maps sharpen with all losses on."""
    sharpening_weight: float = 0.0
    """Weight of L_ce, the cross-entropy of score map and target (paper: 0). It sharpens score maps that L_im alone
    leaves flat for thousands of steps."""
    orientation_weight: float = 0.1
    """lambda_ori."""
    orientation_loss: Literal["painted", "agreement"] = "painted"
    """L_ori where orientations are read off patches. "painted" is the cross-entropy to the painter's one angle;
    "agreement" is -log of the chance that both would draw the same."""
    scale_weight: float = 0.1
    """lambda_s."""
    pair_weight: float = 0.01
    """lambda_pair."""
    target_sigma: float = 0.5
    """Deviation in pixels of the Gaussian painted at each point."""
    pixels_per_point: float = 0.0
    """Pixels where j may paint for each point that it does, at the least (paper: 0). K points in a small overlap are
    mostly noise."""
    subpixel_targets: bool = False
    """Paint each point where j sees its peak, to a fraction of a pixel; False paints whole pixels (paper)."""
    descriptor_loss: Literal["triplet", "dual_softmax"] = "triplet"
    """"triplet" is the paper's. "dual_softmax" is the cross-entropy of each correspondence among all of the batch."""
    temperature: float = 0.05
    """Of the dual softmax."""
    agreement_degrees: float = 180.0
    """Where j's own orientation differs by more than this from i's, carried along the warp, j's patch is read at the
    carried one, so that the descriptor learns from what orientations get right. 180 always reads j's own (paper)."""
    margin: float = 1.0
    """C of the triplet loss."""
    negative_radius: float = 10.0
    """A descriptor from nearer than this to the true place is no negative, px of the view that it is in."""
    anneal_negatives: bool = True
    """Draw negatives among M hardest with M falling from 64 to 5 (paper). False takes the hardest from the start."""
    positive_jitter: float = 0.0
    """Deviation in pixels by which the place of a positive is disturbed (paper: 0). A detector is that imprecise."""
    depth_tolerance: float = 0.05
    """Relative difference of depths beyond which a point counts as hidden."""
    mask_reach: int = 16
    """Keypoints nearer than this to an invalid pixel are left out: half a patch, px."""

    def __post_init__(self) -> None:
        weights = ("image_weight", "sharpening_weight", "orientation_weight", "scale_weight", "pair_weight")
        others = ("margin", "pixels_per_point", "negative_radius", "positive_jitter", "depth_tolerance", "mask_reach")
        positive = {"keypoints": 1, "target_sigma": 0.1, "temperature": 1e-3}
        require_at_least(self, "strategy", {**positive, **dict.fromkeys((*weights, *others, "agreement_degrees"), 0)})


class SeenView(NamedTuple):
    """A view, as one branch sees it."""

    usable: Bool[Tensor, "B 1 H W"]
    """Where keypoints may be."""
    maps: DetectorMaps
    ranked: DetectorMaps
    """The same with the scores by which keypoints are chosen."""
    mosaic: Mosaic
    """What patches are read from."""


class Correspondences(NamedTuple):
    """Keypoints of view i, and the same places in view j: positives by construction."""

    keypoints: Keypoints
    """Of i; carry the gradient of L_pair to the detector."""
    points_j: Float[Tensor, "B K 2"]
    scales_j: Float[Tensor, "B K"]
    """j's own scale at the warped place, a constant."""
    orientations_j: Float[Tensor, "B K 2"]
    counts: Bool[Tensor, "B K"]
    """Which correspondences exist."""
    jacobian: Float[Tensor, "B K 2 2"]
    """Of the warp from i to j there."""


class Direction(NamedTuple):
    """One direction of the strategy: i learns, j paints."""

    target: Target
    correspondences: Correspondences
    losses: dict[str, Tensor]
    descriptors: tuple[Tensor, Tensor] | None = None
    """Of i and j at the correspondences, (B, K, D) each, constants: to look at."""


class StepResult(NamedTuple):
    """Both directions averaged."""

    detector_loss: Float[Tensor, ""]
    """L_det; its gradient is meant for the detector alone."""
    descriptor_loss: Float[Tensor, ""]
    """L_desc; its gradient is meant for the descriptor alone."""
    losses: dict[str, Tensor]
    """Each term, unweighted."""
    views: tuple[SeenView, SeenView]
    directions: tuple[Direction, Direction]


def two_branch_step(
    model: LFNet,
    pair: Pair,
    strategy: StrategyConfig,
    step: int,
    draws: Draws,
    precision: torch.dtype = torch.float32,
) -> StepResult:
    """Both directions of the strategy on one batch of pairs.

    Args:
        step: number of the training step, which anneals the negatives.
        draws: for the random choice among hard negatives, and for `positive_jitter`.
        precision: of the convolutions: float32, or bfloat16 by autocast.
    """
    view_a, view_b = see(model, (pair.a, pair.b), strategy, precision)
    views = [(view_a, view_b), (view_b, view_a)]
    warps = [pair.warp(strategy.depth_tolerance), pair.swapped().warp(strategy.depth_tolerance)]
    directions = [
        learn_and_paint(model, learner, painter, warp, strategy, draws)
        for (learner, painter), warp in zip(views, warps, strict=True)
    ]
    if model.shared:
        directions, descriptors = orient_and_describe(model, directions, views, strategy, precision)
    else:
        directions = [agreeing(direction, strategy.agreement_degrees) for direction in directions]
        patches, counts = gather_patches(model, directions, views)
        descriptors = through_counted(model.descriptor, patches, counts, precision)

    for number, (mine, theirs) in enumerate(zip(descriptors[::2], descriptors[1::2], strict=True)):
        direction = directions[number]
        losses = descriptor_losses(mine, theirs, direction.correspondences, strategy, step, draws)
        shown = (mine.detach(), theirs.detach())
        directions[number] = direction._replace(losses={**direction.losses, **losses}, descriptors=shown)

    losses = {name: (directions[0].losses[name] + directions[1].losses[name]) / 2 for name in directions[0].losses}
    detector_loss = (
        strategy.image_weight * losses["image"]
        + strategy.sharpening_weight * losses.get("sharpening", 0.0)
        + strategy.orientation_weight * (0.0 if model.shared else losses["orientation"])
        + strategy.scale_weight * losses["scale"]
        + strategy.pair_weight * losses["pair"]
    )
    descriptor_loss = losses[strategy.descriptor_loss]
    if model.shared:
        descriptor_loss = descriptor_loss + strategy.orientation_weight * losses["orientation"]
    return StepResult(detector_loss, descriptor_loss, losses, (view_a, view_b), (directions[0], directions[1]))


def learn_and_paint(
    model: LFNet,
    learner: SeenView,
    painter: SeenView,
    j_from_i: Warp,
    strategy: StrategyConfig,
    draws: Draws,
) -> Direction:
    """One direction up to the descriptors: paint the target, compare the maps, find the correspondences."""
    nms_size = model.config.keypoints.nms_size
    target = paint_target(
        painter.ranked,
        j_from_i,
        painter.usable,
        strategy.keypoints,
        nms_size,
        strategy.target_sigma,
        strategy.pixels_per_point,
        strategy.subpixel_targets,
    )
    losses = detector_losses(learner.maps, target, model.config.scale_space.reach, strategy.sharpening_weight > 0)
    correspondences = correspond(model, learner, painter, j_from_i, target.visible, strategy, draws)
    return Direction(target, correspondences, losses)


def see(
    model: LFNet, views: Sequence[View], strategy: StrategyConfig, precision: torch.dtype = torch.float32
) -> list[SeenView]:
    """Run the detector once on views of equal size, batched."""
    images = torch.cat([view.image for view in views])
    valid = torch.cat([view.valid for view in views])
    normalized = normalize_pictures(images, valid)
    usable = usable_pixels(valid, model.config.keypoints.border, strategy.mask_reach)
    with convolutions_in(precision, images.device):
        maps = model.detect(normalized, valid)
    mosaic = model.mosaic(normalized)
    seen, start = [], 0
    for view in views:
        part = slice(start, start + len(view.image))
        scores, scales, orientations = (None if each is None else each[part] for each in maps)
        assert scores is not None
        assert scales is not None
        of_view = DetectorMaps(scores, scales, orientations)
        ranked = model.ranked(of_view, normalized[part], valid[part])
        seen.append(SeenView(usable[part], of_view, ranked, mosaic.part(part)))
        start = part.stop
    return seen


def detector_losses(learner: DetectorMaps, target: Target, reach: float, sharpening: bool = False) -> dict[str, Tensor]:
    """L_im, L_ori and L_s of the learner's maps against what the painter painted, and L_ce if it is asked for."""
    scales = sample(learner.scales, target.points, mode="nearest")[..., 0]
    losses = {
        "image": image_loss(learner.scores, target.scores, target.known, target.present),
        "scale": scale_loss(scales, target.scales, target.present, reach),
    }
    if sharpening:
        losses["sharpening"] = sharpening_loss(learner.scores, target.scores, target.known)
    if learner.orientations is not None and target.orientations is not None:
        orientations = sample(learner.orientations, target.points, mode="nearest")
        losses["orientation"] = orientation_loss(orientations, target.orientations, target.present)
    return losses


def correspond(
    model: LFNet,
    learner: SeenView,
    painter: SeenView,
    j_from_i: Warp,
    visible: Bool[Tensor, "B 1 H W"],
    strategy: StrategyConfig,
    draws: Draws,
) -> Correspondences:
    """Keypoints of i where j sees them, and where they are in j, with j's own scale and orientation there."""
    keypoints = detect_keypoints(learner.ranked, learner.usable & visible, strategy.keypoints, model.config.keypoints)
    with torch.no_grad():
        warped = j_from_i.points(keypoints.points)
        points_j = warped.points
        scales_j = sample(painter.maps.scales, points_j, mode="nearest")[..., 0]
        orientations_j = orientations_at(painter.maps, points_j)
        if strategy.positive_jitter > 0:
            noise = draws.normal(points_j.shape).to(points_j.device)
            points_j = points_j + strategy.positive_jitter * noise
        counts = keypoints.present & warped.visible & (scales_j > 0)
        jacobian = j_from_i.jacobian(keypoints.points)
    return Correspondences(keypoints, points_j, scales_j, orientations_j, counts, jacobian)


def orientations_at(maps: DetectorMaps, points: Float[Tensor, "B K 2"]) -> Float[Tensor, "B K 2"]:
    """What the maps say of the orientation at points; upright where they say nothing of it."""
    return upright(points) if maps.orientations is None else sample(maps.orientations, points, mode="nearest")


def orient_and_describe(
    model: LFNet,
    directions: list[Direction],
    views: list[tuple[SeenView, SeenView]],
    strategy: StrategyConfig,
    precision: torch.dtype = torch.float32,
) -> tuple[list[Direction], list[Float[Tensor, "B K D"]]]:
    """Orientations, L_ori and descriptors from one look at each upright patch; descriptors of i, j, i and j."""
    patches, counts = gather_patches(model, directions, views, level=True)
    features = through_counted(model.descriptor.begin, patches, counts, precision)
    logits = through_counted(model.descriptor.angle_scores, features, counts, precision)
    directions = paint_angles(directions, logits, strategy)
    if model.descriptor.by_chances:
        turned_ones = [
            model.descriptor.turn(each.flatten(0, 1), scores.flatten(0, 1)).unflatten(0, each.shape[:2])
            for each, scores in zip(features, logits, strict=True)
        ]
        return directions, through_counted(model.descriptor.finish, turned_ones, counts, precision)
    directions = [agreeing(direction, strategy.agreement_degrees) for direction in directions]
    orientations = [
        each
        for direction in directions
        for each in (direction.correspondences.keypoints.orientations, direction.correspondences.orientations_j)
    ]
    turned_ones = [
        turned(each.flatten(0, 1), angle_weights(turns.flatten(0, 1), each.shape[-1])).unflatten(0, each.shape[:2])
        for each, turns in zip(features, orientations, strict=True)
    ]
    return directions, through_counted(model.descriptor.finish, turned_ones, counts, precision)


def paint_angles(
    directions: list[Direction], logits: list[Float[Tensor, "B K A"]], strategy: StrategyConfig
) -> list[Direction]:
    """The angles of highest score as orientations, and L_ori: what j sees, carried along the warp, is what i learns.

    Args:
        logits: scores of angles, of i and of j of each direction in turn.
    """
    oriented = []
    for direction, mine, theirs in zip(directions, logits[::2], logits[1::2], strict=True):
        found = direction.correspondences
        own, painted = best_angles(mine), best_angles(theirs)
        _, target = compensate(safe_inverse(found.jacobian), found.scales_j, painted)
        found = found._replace(keypoints=found.keypoints._replace(orientations=own), orientations_j=painted)
        if strategy.orientation_loss == "agreement":
            loss = agreement_loss(mine, carried_chances(theirs, found.jacobian), found.counts)
        else:
            loss = angle_loss(mine, target, found.counts)
        losses = {**direction.losses, "orientation": loss}
        oriented.append(direction._replace(correspondences=found, losses=losses))
    return oriented


@torch.no_grad()
def carried_chances(logits: Float[Tensor, "B K A"], jacobian: Float[Tensor, "B K 2 2"]) -> Float[Tensor, "B K A"]:
    """The chances of j's angles, carried to i: for each angle of i, that of where the warp turns it.

    Args:
        logits: scores of angles in j.
        jacobian: of the warp from i to j.
    """
    bins = logits.shape[-1]
    angles = torch.arange(bins, device=logits.device) * (2 * math.pi / bins)
    there = jacobian @ torch.stack((angles.cos(), angles.sin()))
    position = torch.atan2(there[..., 1, :], there[..., 0, :]) * (bins / (2 * math.pi))
    low = position.floor()
    index, share = low.long() % bins, position - low
    chances = torch.softmax(logits, -1)
    return (1 - share) * chances.gather(-1, index) + share * chances.gather(-1, (index + 1) % bins)


@torch.no_grad()
def agreeing(direction: Direction, degrees: float) -> Direction:
    """Where j's orientation differs by more than this from i's, carried along the warp, it gives way to that."""
    if degrees >= 180:
        return direction
    found = direction.correspondences
    keypoints = found.keypoints
    _, carried = compensate(found.jacobian, keypoints.scales, keypoints.orientations)
    agrees = (found.orientations_j * carried).sum(-1, keepdim=True) >= math.cos(math.radians(degrees))
    found = found._replace(orientations_j=torch.where(agrees, found.orientations_j, carried))
    return direction._replace(correspondences=found)


def gather_patches(
    model: LFNet, directions: list[Direction], views: list[tuple[SeenView, SeenView]], level: bool = False
) -> tuple[list[Float[Tensor, "B K R S"]], list[Bool[Tensor, "B K"]]]:
    """Patches of i, through which L_pair reaches the detector, and of j, constants; of each direction in turn.

    Args:
        level: upright patches, whatever the orientations are.

    Returns:
        The patches, and which of them count.
    """
    patches, counts = [], []
    for direction, (learner, painter) in zip(directions, views, strict=True):
        found = direction.correspondences
        points, scales, orientations = found.keypoints.points, found.keypoints.scales, found.keypoints.orientations
        level_ones = upright(points)
        patches.append(model.patches_at(learner.mosaic, points, scales, level_ones if level else orientations))
        with torch.no_grad():
            turns = level_ones if level else found.orientations_j
            patches.append(model.patches_at(painter.mosaic, found.points_j, found.scales_j, turns))
        counts += 2 * [found.counts]
    return patches, counts


def through_counted(
    network: Callable[[Tensor], Tensor],
    patches: list[Float[Tensor, "B K *S"]],
    counts: list[Bool[Tensor, "B K"]],
    precision: torch.dtype = torch.float32,
) -> list[Float[Tensor, "B K *D"]]:
    """What a network says of the patches that count, in one pass, so that batch norm sees these, all alike, and no
    others; 0 of those that do not. With fewer than two that count, the first two are seen in their stead."""
    kept = torch.cat([each.flatten() for each in counts])
    if int(kept.sum()) < 2:
        # Batch norm needs two; what doesn't count is described here, and still doesn't count.
        kept[:2] = True
    rows = torch.cat([each.flatten(0, 1) for each in patches])[kept]
    with convolutions_in(precision, rows.device):
        described = network(rows)
    everywhere = described.new_zeros(len(kept), *described.shape[1:])
    everywhere[kept] = described
    sizes = [each.shape[:2] for each in patches]
    split = everywhere.split([batch * count for batch, count in sizes])
    return [each.unflatten(0, size) for each, size in zip(split, sizes, strict=True)]


def convolutions_in(precision: torch.dtype, device: torch.device) -> torch.autocast:
    """Autocast for the two networks, and for them alone: a warp in bfloat16 is wrong by half a pixel."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)


def descriptor_losses(
    mine: Float[Tensor, "B K D"],
    theirs: Float[Tensor, "B K D"],
    correspondences: Correspondences,
    strategy: StrategyConfig,
    step: int,
    draws: Draws,
) -> dict[str, Tensor]:
    """L_pair, and L_tri or what stands in its place, of one direction."""
    counts, places_j = correspondences.counts, correspondences.points_j
    losses = {"pair": pair_loss(mine, theirs.detach(), counts)}
    if strategy.descriptor_loss == "dual_softmax":
        places_i = correspondences.keypoints.points.detach()
        losses["dual_softmax"] = dual_softmax_loss(
            mine, theirs, places_i, places_j, counts, strategy.negative_radius, strategy.temperature
        )
        return losses
    hardest = candidate_count(step) if strategy.anneal_negatives else 1
    index, has_negative = choose_negatives(mine, theirs, places_j, counts, strategy.negative_radius, hardest, draws)
    negatives = theirs.gather(1, index[..., None].expand_as(theirs))
    losses["triplet"] = triplet_loss(mine, theirs, negatives, has_negative, strategy.margin)
    return losses


def apply_gradients(model: LFNet, result: StepResult) -> None:
    """Fill the gradients: L_det's of the detector alone, where it learns, L_desc's of the descriptor alone."""
    for network, loss in ((model.detector, result.detector_loss), (model.descriptor, result.descriptor_loss)):
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if learning:
            gradients = torch.autograd.grad(loss, learning, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(learning, gradients, strict=True):
                parameter.grad = gradient
