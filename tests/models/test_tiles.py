"""A picture in tiles against the same picture in one piece."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.models import pyramid
from lfnet.models.config import (
    DetectorConfig,
    ExtractionSettings,
    LFNetConfig,
    OrientationConfig,
    PatchConfig,
    ScaleSpaceConfig,
    TileSettings,
)
from lfnet.models.lfnet import LFNet
from lfnet.models.scale_space import MapStatistics, Part
from lfnet.models.tiles import needed_overlap
from lfnet.models.windows import Stretch, Window
from support.networks import chances_config, lean_config, tiny_config

PAPER = LFNetConfig(detector=DetectorConfig(channels=2, blocks=1), patches=PatchConfig(extent=48.0), octaves=(1.0, 0.6))
"""The paper's kind of network: full resolution, orientations by a head, five scales."""
TINY = replace(tiny_config(), octaves=(1.0, 0.7071, 0.5), octave_preference=1.0)
LEAN = replace(lean_config(), octaves=(1.0, 0.5, 0.25), contrast_preference=1.0)
DERIVED = replace(TINY, detector=replace(TINY.detector, derivatives=True))
CHANCES = replace(chances_config(), octaves=(1.0, 0.5), contrast_preference=1.0)
CONFIGS = {"paper": PAPER, "tiny": TINY, "lean": LEAN, "derived": DERIVED, "chances": CHANCES}


def network(config: LFNetConfig) -> LFNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return LFNet(config).eval()


def assert_equal(tiled: Features, whole: Features) -> None:
    """The same keypoints, in whatever order equal scores put them."""
    assert len(tiled) == len(whole) > 30
    apart = np.linalg.norm(tiled.keypoints[:, None] - whole.keypoints[None], axis=-1)
    row = apart.argmin(0)
    assert apart.min(0).max() < 2e-3
    assert np.allclose(tiled.scales[row], whole.scales, atol=1e-4)
    turns = np.angle(np.exp(1j * (tiled.orientations[row] - whole.orientations)))
    assert np.abs(turns).max() < 2e-3
    assert np.allclose(tiled.scores[row], whole.scores, atol=1e-4)
    assert np.allclose(tiled.descriptors[row], whole.descriptors, atol=2e-3)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """A real photograph of a size that no tile and no octave divides."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.coffee()[:243, 100:431])


@pytest.mark.parametrize("name", CONFIGS)
def test_keypoints_are_those_of_the_whole_picture(name: str, picture: NDArray[np.uint8]) -> None:
    model, settings = network(CONFIGS[name]), ExtractionSettings(max_keypoints=150)
    whole = model.extract([picture], settings=settings)[0]
    assert_equal(model.extract_in_tiles(picture, settings=settings, tiles=TileSettings(96)), whole)


@pytest.mark.parametrize(
    "settings",
    [
        ExtractionSettings(max_keypoints=60, min_distance=9),
        ExtractionSettings(max_keypoints=2000, border=21, upright=True),
        ExtractionSettings(max_keypoints=100, octaves=(1.3, 0.4), single_scale=True, once=False),
    ],
    ids=["apart", "border", "octaves"],
)
@pytest.mark.parametrize("name", ["tiny", "lean"])
def test_settings_are_of_the_whole_picture(name: str, settings: ExtractionSettings, picture: NDArray[np.uint8]) -> None:
    model = network(CONFIGS[name])
    whole = model.extract([picture], settings=settings)[0]
    assert_equal(model.extract_in_tiles(picture, settings=settings, tiles=TileSettings(100)), whole)


@pytest.mark.parametrize("name", ["tiny", "lean"])
def test_masks_are_those_of_the_whole_picture(name: str, picture: NDArray[np.uint8]) -> None:
    mask = np.ones(picture.shape[:2], bool)
    mask[:130, 90:210] = False
    mask[200:] = False
    model, settings = network(CONFIGS[name]), ExtractionSettings(max_keypoints=100)
    whole = model.extract([picture], mask=[mask], settings=settings)[0]
    tiled = model.extract_in_tiles(picture, mask=mask, settings=settings, tiles=TileSettings(64))
    assert_equal(tiled, whole)
    assert mask[tuple(np.rint(tiled.keypoints).astype(int).T[::-1])].all()
    assert len(model.extract_in_tiles(picture, mask=np.zeros_like(mask), tiles=TileSettings(64))) == 0
    coloured = np.repeat(mask[..., None], 3, -1)
    again = model.extract_in_tiles(picture, mask=coloured, settings=settings, tiles=TileSettings(64))
    np.testing.assert_array_equal(again.keypoints, tiled.keypoints)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["tiny", "lean"])
def test_tiles_on_a_gpu_give_what_they_give_on_the_cpu(name: str, picture: NDArray[np.uint8]) -> None:
    model, settings = network(CONFIGS[name]), ExtractionSettings(max_keypoints=100)
    here = model.extract_in_tiles(picture, settings=settings, tiles=TileSettings(96))
    there = model.cuda().extract_in_tiles(picture, settings=settings, tiles=TileSettings(96))
    apart = np.linalg.norm(here.keypoints[:, None] - there.keypoints[None], axis=-1).min(1)
    assert (apart < 0.05).mean() > 0.95


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_farther_than_the_overlap_is_seen(name: str) -> None:
    """Other pixels on the right, and the maps on the left are the same up to the overlap, and no further."""
    model, noise = network(CONFIGS[name]), torch.randn(1, 1, 64, 448, generator=torch.Generator().manual_seed(1))
    other, edge = noise.clone(), 224
    other[..., edge:] = torch.randn(1, 1, 64, 224, generator=torch.Generator().manual_seed(2))
    valid = torch.ones_like(noise, dtype=torch.bool)
    count = model.config.scale_space.scales
    known = MapStatistics(torch.zeros(1, count, 1, 1), torch.ones(1, count, 1, 1), torch.full((1, 1, 1, 1), 5.0))
    part = Part(Window(Stretch(0, 64, 64), Stretch(0, 448, 448)), known)
    with torch.inference_mode():
        one, two = (model.ranked(model.detector(each, valid, part), each, valid) for each in (noise, other))
    differ = (one.scores != two.scores).any(1)
    if one.orientations is not None and two.orientations is not None:
        differ = differ | (one.orientations != two.orientations).any(1)
    first = int(torch.nonzero(differ.any(1)[0])[0])
    assert edge - needed_overlap(model.config) <= first < edge


def test_a_smaller_overlap_is_refused_and_a_larger_one_changes_nothing(picture: NDArray[np.uint8]) -> None:
    model, settings = network(TINY), ExtractionSettings(max_keypoints=100)
    needed = needed_overlap(TINY)
    with pytest.raises(UserError, match=f"overlap: .*expected at least {needed}, got {needed - 1}"):
        model.extract_in_tiles(picture, tiles=TileSettings(96, needed - 1))
    with pytest.raises(UserError, match="tile: expected at least 64"):
        TileSettings(10)
    whole = model.extract([picture], settings=settings)[0]
    assert_equal(model.extract_in_tiles(picture, settings=settings, tiles=TileSettings(96, needed + 9)), whole)


def test_blank_pictures_and_small_ones_have_no_keypoints() -> None:
    model = network(TINY)
    assert len(model.extract_in_tiles(np.full((200, 300), 90, np.uint8), tiles=TileSettings(64))) == 0
    assert len(model.extract_in_tiles(np.zeros((9, 300), np.uint8), tiles=TileSettings(64))) == 0


def test_places_found_again_are_the_same_where_cells_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    points = [60 * torch.rand(300, 2, generator=draw) for _ in range(3)]
    scores = [torch.rand(300, generator=draw) for _ in range(3)]
    arguments = (points, scores, [1.0, 0.5, 0.25], (60, 60))
    laid_out = pyramid.found_again(*arguments)
    monkeypatch.setattr(pyramid, "MOST_CELLS", 0)
    searched = pyramid.found_again(*arguments)
    assert all(torch.equal(one, two) for one, two in zip(laid_out, searched, strict=True))
    assert 0 < int(torch.cat(laid_out).sum()) < 900
    none = pyramid.found_again([points[0], points[1][:0]], [scores[0], scores[1][:0]], [1.0, 0.5], (60, 60))
    assert [len(each) for each in none] == [300, 0]
    assert not none[0].any()


def test_progress_counts_every_look(picture: NDArray[np.uint8]) -> None:
    looks: list[tuple[int, int]] = []
    model = network(replace(TINY, octaves=(1.0,)))
    model.extract_in_tiles(picture, tiles=TileSettings(128), progress=lambda done, count: looks.append((done, count)))
    # Two rows of three tiles, twice: this network normalises its score maps.
    assert looks == [(number, 12) for number in range(1, 13)]


def test_numbers_beyond_a_byte_are_read_as_in_one_piece(picture: NDArray[np.uint8]) -> None:
    model, settings = network(LEAN), ExtractionSettings(max_keypoints=100)
    wide = picture.mean(-1) * 37
    for image in (wide.astype(np.uint16), (wide / wide.max()).astype(np.float32)):
        whole = model.extract([image], settings=settings)[0]
        assert_equal(model.extract_in_tiles(image, settings=settings, tiles=TileSettings(128)), whole)


def test_scale_space_settings_reach_the_overlap() -> None:
    """A wider window, orientation or border is seen farther."""
    small = needed_overlap(TINY)
    wide, wider = (ScaleSpaceConfig(scales=3, kernel_size=3, window=window) for window in (45, 75))
    assert needed_overlap(replace(TINY, scale_space=wide)) + 15 == needed_overlap(replace(TINY, scale_space=wider))
    assert needed_overlap(replace(TINY, orientation=OrientationConfig("gradient", window_sigma=30.0))) > small
    assert needed_overlap(TINY, ExtractionSettings(border=200)) == 200
