"""Pairs of sequences, pictures and renders: photo-consistent through the warp that each claims."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lfnet.data.augment import (
    GeometricConfig,
)
from lfnet.data.frames import SequenceError, read_view
from lfnet.data.layouts import read_frames
from lfnet.data.pair import Pair, View, concatenate_pairs
from lfnet.data.pair_sources import PicturePairs, SequencePairs, load_pictures, measure_overlap
from lfnet.data.renders.render_settings import RenderSettings
from lfnet.data.renders.rendered_scenes import RenderedScenes
from lfnet.errors import UserError
from lfnet.geometry.sampling import sample
from lfnet.images import ImageError
from support.tensors import seeded
from support.textured_plane import (
    HEIGHT,
    WIDTH,
    assert_photo_consistent,
    smooth_picture,
)


def test_pairs_of_a_sequence_are_chosen_by_gap_and_overlap(plain: Path) -> None:
    geometry = GeometricConfig()
    every = SequencePairs(plain, geometry, 48, gaps=(1, 3))
    assert [(first, second) for first, second, _ in every.pairs] == [(0, 1), (0, 3), (1, 2), (2, 3)]
    shares = {(first, second): share for first, second, share in every.pairs}
    assert shares[0, 3] < shares[0, 1] < 1
    views = [read_view(frame) for frame in read_frames(plain).frames]
    exact = Pair(views[0], views[1]).warp().grid().visible.float().mean()
    back = Pair(views[1], views[0]).warp().grid().visible.float().mean()
    assert measure_overlap(Pair(views[0], views[1]), 3) == pytest.approx(float(min(exact, back)), abs=0.04)
    limit = (shares[0, 3] + shares[0, 1]) / 2
    near = SequencePairs(plain, geometry, 48, gaps=(1, 3), overlap=(limit, 1.0))
    assert (0, 3) not in [(first, second) for first, second, _ in near.pairs]
    assert len(SequencePairs(plain, geometry, 48, frames=(1, 3), gaps=(1,))) == 1
    with pytest.raises(SequenceError, match="no pair of frames"):
        SequencePairs(plain, geometry, 48, gaps=(7,))


def test_crops_of_a_sequence_are_photo_consistent(plain: Path) -> None:
    source = SequencePairs(plain, GeometricConfig(resolution=(0.8, 1.2)), 64)
    for seed in range(8):
        pair = source.sample(seeded(seed))
        assert pair.a.size == pair.b.size == (64, 64)
        assert pair.b_from_a is None
        assert_photo_consistent(pair, 0.02, 0.1)


@pytest.mark.parametrize("size", [64, 160])
def test_homography_pairs_are_photo_consistent(size: int) -> None:
    """Anywhere in a large picture: perspective must not turn what is in front to what is behind."""
    source = PicturePairs([smooth_picture(480, 640)], GeometricConfig(), size)
    for seed in range(25):
        pair = source.sample(seeded(seed))
        assert pair.a.size == pair.b.size == (size, size)
        assert float(pair.a.valid.float().mean()) > 0.25
        assert float(pair.b.valid.float().mean()) > 0.25
        assert_photo_consistent(pair, 0.02, 0.05)


def test_homography_pairs_turn_and_zoom_as_far_as_told() -> None:
    source = PicturePairs([smooth_picture(300, 400)], GeometricConfig(perspective=0.0), 64)
    zooms, turns = [], []
    for seed in range(60):
        homography = source.sample(seeded(seed)).b_from_a
        assert homography is not None
        linear = homography[0, :2, :2]
        zooms.append(float(torch.linalg.det(linear).sqrt()))
        turns.append(math.atan2(float(linear[1, 0]), float(linear[0, 0])))
    assert 1 / 1.4143 < min(zooms) < 0.85
    assert 1.2 < max(zooms) < 1.4143
    assert np.histogram(turns, 4, (-math.pi, math.pi))[0].min() > 3
    level = PicturePairs([smooth_picture(300, 400)], GeometricConfig(perspective=0, upright_share=1.0), 64)
    homography = level.sample(seeded()).b_from_a
    assert homography is not None
    assert float(homography[0, 1, 0]) == pytest.approx(0, abs=1e-5)


def test_rendered_pairs_are_photo_consistent_through_their_warp() -> None:
    settings = RenderSettings(
        size=64,
        texture_size=128,
        procedural_textures=12,
        lighting_change=0.0,
        exposure_change=0.0,
        vignetting=0.0,
        gloss=0.0,
    )
    source = RenderedScenes(settings)
    seen_pairs = 0
    for seed in range(6):
        pair = source.sample(seeded(seed))
        warped = pair.warp().grid()
        seen = warped.visible
        if float(seen.float().mean()) < 0.2:
            continue
        seen_pairs += 1
        drawn = sample(pair.b.image, warped.points)[..., 0]
        there = pair.a.image.flatten(1)
        difference = (drawn - there).abs()[seen]
        shuffled = (drawn[seen] - there[seen][torch.randperm(int(seen.sum()), generator=seeded())]).abs()
        assert float(difference.median()) < 0.02
        assert float(difference.mean()) < 0.4 * float(shuffled.mean())
    assert seen_pairs >= 3


def test_pair_without_depth_or_homography_has_no_warp() -> None:
    image = torch.zeros(1, 1, 8, 8)
    view = View(image, image == 0, None, torch.eye(3)[None], torch.eye(4)[None])
    with pytest.raises(ValueError, match="expected depth in both views"):
        Pair(view, view).warp()


def test_pairs_of_two_kinds_are_not_joined(plain: Path) -> None:
    views = [read_view(frame) for frame in read_frames(plain).frames[:2]]
    depth = Pair(views[0], views[1])
    homography = Pair(views[0], views[1], torch.eye(3)[None])
    with pytest.raises(ValueError, match="one kind"):
        concatenate_pairs([depth, homography])
    both = concatenate_pairs([depth, depth.swapped()])
    assert both.a.image.shape == (2, 1, HEIGHT, WIDTH)
    assert torch.equal(both.a.image[1], views[1].image[0])


def test_pictures_are_shrunk_and_too_small_ones_left_out(tmp_path: Path) -> None:
    Image.fromarray(smooth_picture(200, 400)).save(tmp_path / "large.png")
    Image.fromarray(smooth_picture(40, 90)).save(tmp_path / "small.png")
    pictures, notes = load_pictures([tmp_path], 200, 64)
    assert [picture.shape for picture in pictures] == [(100, 200)]
    assert notes == ["left out: 1 of 2 are smaller than 64 px a side (small.png)"]
    with pytest.raises(ValueError, match="none of at least 128 px"):
        load_pictures([tmp_path], 200, 128)


def test_one_broken_image_does_not_end_a_training(tmp_path: Path) -> None:
    for number in range(5):
        Image.fromarray(smooth_picture(80, 90)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:200])
    (tmp_path / "raw.NEF").touch()
    pictures, (passed_over, broken) = load_pictures([tmp_path], 200, 64)
    assert len(pictures) == 4
    assert "raw.NEF: a camera's raw file" in passed_over
    assert broken.startswith("left out: 1 of 5 images can't be read (2.png): ")
    assert "damaged or cut short" in broken
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"2 of 6 images can't be read .*more than 20% are not left out"):
        load_pictures([tmp_path], 200, 64)
    with pytest.raises(ImageError, match="misspelt: no such file or folder"):
        load_pictures([tmp_path, tmp_path / "misspelt"], 200, 64)


def test_one_broken_frame_of_a_sequence_is_left_out(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain / "images" / "001.png"
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(UserError, match=r"1 of 4 frames can't be read \(001\.png\): .*more than 20%"):
        SequencePairs(plain, GeometricConfig(), 48, gaps=(1,))
    monkeypatch.setattr("lfnet.data.left_out.MOST_LEFT_OUT", 0.3)
    source = SequencePairs(plain, GeometricConfig(), 48, gaps=(1,))
    (note,) = source.notes
    assert note.startswith("left out: 1 of 4 frames can't be read (001.png): ")
    assert "damaged or cut short" in note
    assert [pair[:2] for pair in source.pairs] == [(0, 1), (1, 2)]
