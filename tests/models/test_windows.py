"""Parts that are resized against the whole, which PyTorch resizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lfnet.models.windows import Stretch, Window, resize_part


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("shape", [(67, 91), (33, 40), (101, 140)])
def test_a_part_is_what_the_whole_resized_has_there(shape: tuple[int, int], antialias: bool) -> None:
    maps = torch.rand(1, 2, 95, 129, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(maps, shape, mode="bilinear", align_corners=False, antialias=antialias)
    height, width = shape
    for rows, columns in (((0, 20), (0, 30)), ((height - 9, height), (width - 12, width)), ((11, 25), (7, 36))):
        target = Window(Stretch(*rows, height), Stretch(*columns, width))
        # Only what the part is made of is given, and a little more.
        source = target.resized((95, 129)).grown(8)
        given = maps[..., slice(*source.rows[:2]), slice(*source.columns[:2])]
        part = resize_part(given, source, target, antialias=antialias)
        assert torch.allclose(part, whole[..., slice(*rows), slice(*columns)], atol=2e-5)


def test_windows_grow_in_steps_and_end_at_the_edge() -> None:
    axis = Stretch(64, 128, 200)
    assert axis.grown(10, 8) == Stretch(48, 144, 200)
    assert axis.grown(80) == Stretch(0, 200, 200)
    assert Stretch(30, 61, 200).resized(67) == Stretch(10, 21, 67)
