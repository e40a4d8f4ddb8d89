"""Pictures are held for a while, a few of them, and then forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from lfnet.app.decoder import Decoded
from lfnet.app.pictures import ForgottenError, Pictures

PICTURE = Decoded(np.zeros((40, 40, 3), np.uint8), (40, 40))


def test_the_one_not_used_for_longest_makes_room() -> None:
    pictures = Pictures(most=2)
    first, second = pictures.add(PICTURE), pictures.add(PICTURE)
    pictures.get(first)
    third = pictures.add(PICTURE)
    assert pictures.get(first) is pictures.get(third) is PICTURE
    with pytest.raises(ForgottenError):
        pictures.get(second)
    pictures.forget(first)
    pictures.forget("never there")
    assert len(pictures) == 1


def test_time_forgets() -> None:
    now = [0.0]
    pictures = Pictures(minutes=10, clock=lambda: now[0])
    old, used = pictures.add(PICTURE), pictures.add(PICTURE)
    now[0] = 550
    pictures.get(used)
    now[0] = 601
    assert pictures.get(used) is PICTURE
    with pytest.raises(ForgottenError):
        pictures.get(old)
    assert len(pictures) == 1
