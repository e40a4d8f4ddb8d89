"""Negatives: hard, never near, annealed."""

from __future__ import annotations

import numpy as np
import torch

from lfnet.training.draws import Draws
from lfnet.training.mining import candidate_count, choose_negatives
from support.tensors import seeded


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
        far = [n for n in range(40) if bool(counts[b, n]) and float((places[b, k] - places[b, n]).norm()) >= radius]
        far.sort(key=lambda n, b=b, k=k: float((anchors[b, k] - candidates[b, n]).norm()))
        allowed[b, k, far[:hardest]] = True
    drawn = np.zeros_like(allowed)
    for _ in range(150):
        chosen, has = choose_negatives(anchors, candidates, places, counts, radius, hardest, Draws(generator))
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
    _, has = choose_negatives(anchors, anchors, places, counts, 10.0, 5, Draws(seeded()))
    assert has.tolist() == [[False, False, False]]
    chosen, has = choose_negatives(anchors, anchors, places, counts | True, 10.0, 5, Draws(seeded()))
    assert has.tolist() == [[True, True, True]]
    assert chosen[0, :2].tolist() == [2, 2]
    assert int(chosen[0, 2]) in (0, 1)
