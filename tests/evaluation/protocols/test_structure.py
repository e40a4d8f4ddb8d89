"""Structure from motion as a protocol of the benchmark, on photos of a rendered world and on real ones."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.errors import UserError
from lfnet.evaluation.cache import Cache
from lfnet.evaluation.feature_source import FeatureSource
from lfnet.evaluation.methods.extractors import make_methods
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.structure import StructureSettings, measure_structure, open_photos
from lfnet.features import Features
from lfnet.images import ImageError, read_grey
from lfnet.integrations.hloc import write_features
from lfnet.integrations.pycolmap_process import PycolmapError, has_pycolmap
from support.rendered_photos import render_views, write_photos

pytestmark = pytest.mark.slow

pytest.importorskip("skimage", reason="the rendered photos show its pictures")
needs_pycolmap = pytest.mark.skipif(not has_pycolmap(), reason="pycolmap is not installed")

COUNT = 8
SETTINGS = StructureSettings(budget=1024, candidates=(0.8,), threads=1)


def silent(text: str) -> None:
    """No progress is shown."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("world") / "photos", render_views(COUNT))


class Nothing:
    """A method that finds nothing."""

    name = "nothing"

    def __call__(self, image: NDArray[np.uint8], *, max_keypoints: int, mask: Any = None) -> Features:
        return Features.empty((image.shape[1], image.shape[0]), 128)


class Shy(Nothing):
    """A method that fails on some pictures."""

    name = "shy"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self._sift = OpenCVExtractor("rootsift")

    def __call__(self, image: NDArray[np.uint8], *, max_keypoints: int, mask: Any = None) -> Features:
        self.failures -= 1
        if self.failures >= 0:
            raise UserError("not this one")
        return self._sift(image, max_keypoints=max_keypoints)


@pytest.mark.slow
@needs_pycolmap
def test_all_photos_register_with_rootsift(photos: Path, tmp_path: Path) -> None:
    source = FeatureSource([*make_methods(["rootsift", "orb"]), Nothing()], Cache(tmp_path))
    settings = replace(SETTINGS, candidates=(0.8, 1.0), ratios={"orb": 0.9, "nothing": 1.0})
    section = measure_structure("world", photos, source, settings, silent)
    assert section.title == "structure on world"
    assert section.methods() == ["rootsift", "orb", "nothing"]
    rootsift, _, nothing = (row.metrics for row in section.rows)
    assert rootsift["registered"] == COUNT
    assert rootsift["registered_share"] == 1
    assert rootsift["points"] > 100
    assert rootsift["reprojection_error"] < 1
    assert rootsift["track_length"] == pytest.approx(rootsift["observations"] / rootsift["points"])
    assert rootsift["track_length"] > 2
    assert rootsift["seconds"] > 0
    assert (nothing["registered"], nothing["points"], nothing["observations"]) == (0, 0, 0)
    assert math.isnan(nothing["reprojection_error"])
    assert [values["ratio"] for values in section.chosen.values()][1:] == [0.9, 1.0]
    json.dumps([section.settings, section.chosen])
    again = FeatureSource(make_methods(["rootsift"]), Cache(tmp_path))
    repeated = measure_structure("world", photos, again, settings, silent)
    assert again.cache.computed == 0
    assert repeated.rows[0].metrics == rootsift
    each = [measure_structure("world", photos, again, replace(SETTINGS, candidates=(r,)), silent) for r in (0.8, 1.0)]
    order = [(section.rows[0].metrics["registered"], section.rows[0].metrics["observations"]) for section in each]
    assert max(order) == (rootsift["registered"], rootsift["observations"])
    assert order[0] != order[1]
    assert section.chosen["rootsift"] == each[order.index(max(order))].chosen["rootsift"]
    assert again.cache.computed == 0


@needs_pycolmap
def test_features_of_a_file_register_too(photos: Path, tmp_path: Path) -> None:
    extractor = OpenCVExtractor("rootsift")
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        for photo in sorted(photos.iterdir()):
            write_features(file, f"photos/{photo.name}", extractor(read_grey(photo), max_keypoints=1024))
    source = FeatureSource(make_methods([str(path)]))
    few = StructureSettings(budget=512, long_side=300, ratios={"mine": 0.8}, threads=1)
    section = measure_structure("world", photos, source, few, silent)
    assert section.skipped == []
    assert section.rows[0].metrics["registered"] == COUNT
    many = measure_structure("world", photos, source, StructureSettings(budget=2048), silent)
    assert many.rows == []
    assert len(many.skipped) == 1
    assert "mine is left out" in many.skipped[0]
    assert "has at most 1024 keypoints of a picture" in many.skipped[0]


@needs_pycolmap
def test_what_fails_is_a_line_and_the_rest_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "photos"
    broken.mkdir()
    for photo in photos.iterdir():
        (broken / photo.name).write_bytes(photo.read_bytes())
    (broken / "photo9.jpg").write_bytes(b"no picture")
    section = measure_structure("world", broken, FeatureSource([Shy(1)]), SETTINGS, silent)
    assert section.rows[0].metrics["registered"] == COUNT - 1
    assert [line.split(":")[0] for line in section.skipped] == [str(broken / "photo9.jpg"), "shy"]
    assert "photo0.jpg of world has no features, and can't register: shy on world/photo0.jpg" in section.skipped[1]

    def crash(*_: object, **__: object) -> None:
        raise PycolmapError("map_pictures: pycolmap ended with code -6")

    monkeypatch.setattr("lfnet.integrations.colmap.ColmapDatabase.map", crash)
    source = FeatureSource(make_methods(["rootsift"]), Cache(tmp_path / "cache"))
    section = measure_structure("world", photos, source, SETTINGS, silent)
    assert section.rows[0].metrics["registered"] == 0
    assert section.skipped == ["rootsift on world, ratio 0.8: map_pictures: pycolmap ended with code -6"]
    assert not (tmp_path / "cache" / "structures").exists(), "a crash is tried again"


def test_photos_of_folders_scenes_and_models(photos: Path, tmp_path: Path) -> None:
    found = open_photos(photos, 3)
    assert list(found.sizes) == ["photo0.jpg", "photo1.jpg", "photo2.jpg"]
    assert found.sizes["photo0.jpg"] == (400, 300)
    assert found.skipped == [f"{photos}: 8 photos; the first 3 are taken (max_pictures)"]
    assert found.dataset("x", 200).load("photo0.jpg").shape == (150, 200, 3)
    scene = tmp_path / "scene"
    (scene / "depth").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(scene / "depth" / "photo0.png")
    (scene / "images").symlink_to(photos)
    assert open_photos(scene, 60).sizes.keys() == open_photos(photos, 60).sizes.keys()
    with pytest.raises(ImageError, match="0 photos that can be read"):
        open_photos(tmp_path / "nowhere", 60)


def test_without_pycolmap_or_photos_it_is_a_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FeatureSource(make_methods(["orb"]))
    if has_pycolmap():
        (tmp_path / "empty").mkdir()
        section = measure_structure("empty", tmp_path / "empty", source, SETTINGS, silent)
        assert section.rows == []
        assert len(section.skipped) == 1
        assert "no images in this folder" in section.skipped[0]
    monkeypatch.setattr("lfnet.evaluation.protocols.structure.has_pycolmap", lambda: False)
    section = measure_structure("world", photos, source, SETTINGS, silent)
    assert section.rows == []
    assert section.skipped == ["structure from motion needs pycolmap: pip install 'lfnet[sfm]'"]
    with pytest.raises(ValueError, match="max_pictures: expected at least 3"):
        StructureSettings(max_pictures=2)
    with pytest.raises(ValueError, match=r"ratios must be in \(0, 1\], got 1\.5"):
        StructureSettings(ratios={"sift": 1.5})
