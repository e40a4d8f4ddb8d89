"""Rendered photos, and a recording of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from support.made_sets import COUNT, write_cameras
from support.rendered_photos import RenderedView, render_views


@pytest.fixture(scope="module")
def views() -> list[RenderedView]:
    """Photos of a small world, known exactly."""
    pytest.importorskip("skimage")
    return render_views(COUNT)


@pytest.fixture
def recording(tmp_path: Path, views: list[RenderedView]) -> Path:
    """The photos as a recording in the plain layout."""
    folder = tmp_path / "walk"
    write_cameras(folder, views)
    (folder / "depth").mkdir()
    for view in views:
        depth = np.rint(view.depth * 1000).astype(np.uint16)
        cv2.imwrite(str(folder / "depth" / f"{Path(view.name).stem}.png"), depth)
    return folder
