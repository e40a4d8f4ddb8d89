"""Sources of pairs: layouts on disk, photo-consistency through the warp that each pair claims, and determinism."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lfnet.data.augment import (
    GeometricConfig,
    PhotometricConfig,
    augment_light,
    coarsen_blocks,
    homography_from_corners,
    log_uniform,
    random_homography,
    tone_curve,
)
from lfnet.data.frames import SequenceError, fill_pinholes, read_view
from lfnet.data.layouts import read_frames
from lfnet.data.loader import (
    DataConfig,
    PairLoader,
    SequenceConfig,
    WeightedSource,
    build_sources,
    describe_sources,
    hold_back,
    sample_generator,
)
from lfnet.data.pair import Pair, View, concatenate_pairs
from lfnet.data.pair_sources import PicturePairs, RenderedPairs, SequencePairs, load_pictures, measure_overlap
from lfnet.data.renders.render_settings import RenderSettings
from lfnet.data.renders.rendered_scenes import RenderedScenes
from lfnet.geometry.sampling import sample
from lfnet.geometry.transform import apply_homography
from lfnet.training.validation import VALIDATION_STEP
from support.textured_plane import (
    HEIGHT,
    INTRINSICS,
    WIDTH,
    assert_photo_consistent,
    draw_frame,
    seeded,
    world_from_camera,
    write_depth,
)

STEADY = PhotometricConfig(enabled=False)


def smooth_picture(height: int, width: int) -> NDArray[np.uint8]:
    """A picture without fine detail, unlike itself everywhere."""
    noise = np.random.default_rng(0).random((height // 24 + 2, width // 24 + 2)).astype(np.float32)
    wide = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (255 * np.clip(wide, 0, 1)).round().astype(np.uint8)


# --- sequences on disk ---


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain"
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    poses = []
    for index in range(4):
        picture, depth = draw_frame(index)
        Image.fromarray(picture).save(folder / "images" / f"{index:03d}.png")
        write_depth(folder / "depth" / f"{index:03d}.png", depth)
        poses.append(world_from_camera(index).ravel())
    np.savetxt(folder / "poses.txt", poses)
    np.savetxt(folder / "K.txt", INTRINSICS)
    return folder


@pytest.fixture
def seven_scenes(tmp_path: Path) -> Path:
    folder = tmp_path / "seven"
    folder.mkdir()
    for index in range(4):
        picture, depth = draw_frame(index)
        Image.fromarray(picture).save(folder / f"frame-{index:06d}.color.png")
        write_depth(folder / f"frame-{index:06d}.depth.png", depth, hole=65535)
        np.savetxt(folder / f"frame-{index:06d}.pose.txt", world_from_camera(index))
    np.savetxt(folder / "camera-K.txt", INTRINSICS)
    return folder


@pytest.mark.parametrize("layout", ["plain", "seven_scenes"])
def test_sequences_are_read(layout: str, request: pytest.FixtureRequest) -> None:
    frames = read_frames(request.getfixturevalue(layout)).frames
    assert len(frames) == 4
    views = [read_view(frame) for frame in frames]
    for index, view in enumerate(views):
        picture, depth = draw_frame(index)
        assert view.size == (HEIGHT, WIDTH)
        np.testing.assert_allclose(view.image[0, 0].numpy(), picture / 255, atol=1e-6)
        assert view.depth is not None
        # A hole of many pixels stays one, but for its corner, which five known pixels surround.
        assert bool((view.depth[..., :5, :7] == 0).all())
        np.testing.assert_allclose(view.depth[0, 0, 6:].numpy(), depth[6:], atol=6e-4)
        np.testing.assert_allclose(view.intrinsics[0].numpy(), INTRINSICS, rtol=1e-6)
        np.testing.assert_allclose(
            view.camera_from_world[0].numpy(), np.linalg.inv(world_from_camera(index)), atol=1e-6
        )
    # Pose, depth and intrinsics fit together: what one camera saw, the other one did.
    assert_photo_consistent(Pair(views[0], views[2]), 0.01, 0.3)


def test_pinholes_are_filled_on_surfaces_and_nowhere_else() -> None:
    """A plane is linear in inverse depth, so the mean of the pixels around is exact on it."""
    _, depth = draw_frame(1)
    exact = depth.astype(np.float32)
    holed = exact.copy()
    holed[20, 30] = holed[40, 50] = 0
    np.testing.assert_allclose(fill_pinholes(holed), exact, rtol=1e-5)

    wide = exact.copy()
    wide[10:30, 40:60] = 0
    assert bool((fill_pinholes(wide)[12:28, 42:58] == 0).all())

    edge = np.full((20, 20), 2.0, np.float32)
    edge[:, 10:] = 3.0
    edge[8, 10] = 0
    assert fill_pinholes(edge)[8, 10] == 0
    edge[8, 10], edge[8, 4] = 3.0, 0.0
    assert fill_pinholes(edge)[8, 4] == pytest.approx(2.0)


def test_errors_of_the_plain_layout_name_the_cause(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match="no such folder"):
        read_frames(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SequenceError, match=r"poses\.txt.*rgb\.txt.*\.sens"):
        read_frames(tmp_path / "empty")

    poses = (plain / "poses.txt").read_text()
    (plain / "poses.txt").write_text("".join(poses.splitlines(True)[:3]))
    with pytest.raises(SequenceError, match="4, 4 and 3"):
        read_frames(plain)
    for wrong, message in (
        (poses.replace(poses.split()[0], "nan", 1), "NaN"),
        (poses.replace(poses.split()[0], "3.0", 1), "no rotation"),
        ("text\n", "cannot be read"),
    ):
        (plain / "poses.txt").write_text(wrong)
        with pytest.raises(SequenceError, match=message):
            read_frames(plain)
    (plain / "poses.txt").write_text(poses)
    (plain / "depth" / "002.png").rename(plain / "depth" / "0021.png")
    with pytest.raises(SequenceError, match=r"name of its picture, got 003\.png beside 002\."):
        read_frames(plain)
    (plain / "depth" / "0021.png").rename(plain / "depth" / "002.png")
    (plain / "K.txt").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(SequenceError, match=r"K\.txt: expected \(3, 3\)"):
        read_frames(plain)
    (plain / "K.txt").unlink()
    with pytest.raises(SequenceError, match=r"K\.txt"):
        read_frames(plain)


def test_names_without_leading_zeros_pair_up(tmp_path: Path) -> None:
    """2 comes before 10, for pictures and for depth maps."""
    for folder in ("images", "depth"):
        (tmp_path / folder).mkdir()
    for index in range(12):
        Image.fromarray(np.full((8, 8), index, np.uint8)).save(tmp_path / "images" / f"{index}.png")
        cv2.imwrite(str(tmp_path / "depth" / f"{index}.png"), np.full((8, 8), index + 1, np.uint16))
    np.savetxt(tmp_path / "K.txt", [[8, 0, 3.5], [0, 8, 3.5], [0, 0, 1]])
    np.savetxt(tmp_path / "poses.txt", np.tile(np.eye(4).reshape(1, 16), (12, 1)))
    for index, frame in enumerate(read_frames(tmp_path).frames):
        assert frame.name == f"{index}.png"
        assert frame.read_depth is not None
        assert bool((frame.read_grey() == index).all())
        np.testing.assert_allclose(frame.read_depth(), (index + 1) / 1000)


def test_poses_of_another_shape_are_a_sequence_error(plain: Path) -> None:
    np.savetxt(plain / "poses.txt", np.ones((4, 7)))
    with pytest.raises(SequenceError, match=r"poses\.txt"):
        read_frames(plain)


def test_errors_of_the_seven_scenes_layout_name_the_cause(seven_scenes: Path) -> None:
    (seven_scenes / "frame-000002.color.png").rename(seven_scenes / "elsewhere.png")
    with pytest.raises(SequenceError, match=r"frame-000002\.pose\.txt: expected frame-000002\.color"):
        read_frames(seven_scenes)
    (seven_scenes / "elsewhere.png").rename(seven_scenes / "frame-000002.color.png")
    np.savetxt(seven_scenes / "frame-000001.pose.txt", np.eye(3))
    with pytest.raises(SequenceError, match=r"frame-000001\.pose\.txt: expected \(4, 4\)"):
        read_frames(seven_scenes)
    (seven_scenes / "camera-K.txt").unlink()
    with pytest.raises(SequenceError, match="intrinsics"):
        read_frames(seven_scenes)


def test_errors_of_depth_maps(plain: Path) -> None:
    path = plain / "depth" / "000.png"
    frame = read_frames(plain).frames[0]
    cv2.imwrite(str(path), np.full((10, 12), 900, np.uint16))
    with pytest.raises(SequenceError, match="12x10 beside a picture of 96x72"):
        read_view(frame)
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(SequenceError, match="16-bit"):
        read_view(frame)
    path.write_bytes(b"")
    with pytest.raises(SequenceError, match=r"000\.png"):
        read_view(frame)


def test_a_real_sequence_in_the_seven_scenes_layout_is_photo_consistent(shared_data: Path) -> None:
    folder = shared_data / "rgbd" / "apc_shelf"
    if not folder.is_dir():
        pytest.skip("rgbd/apc_shelf is not there")
    source = SequencePairs(folder, GeometricConfig(), 192, frames=(0, 8), gaps=(1,))
    assert len(source) == 7
    for index in (0, 3, 6):
        assert_photo_consistent(source.pair(index), tolerance=0.05)


# --- pairs of a sequence ---


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
        assert not pair.is_homography
        assert_photo_consistent(pair, 0.02, 0.1)


# --- pairs of pictures and of renders ---


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
    source = RenderedPairs(RenderedScenes(settings))
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
    assert [picture.shape for picture in load_pictures([tmp_path], 200, 64)] == [(100, 200)]
    with pytest.raises(ValueError, match="none of at least 128 px"):
        load_pictures([tmp_path], 200, 128)


# --- augmentation ---


def test_light_varies_each_view_and_leaves_geometry_alone() -> None:
    pair = PicturePairs([smooth_picture(200, 260)], GeometricConfig(), 64).sample(seeded(2))
    assert augment_light(pair, STEADY, [seeded()]) is pair
    varied = augment_light(pair, PhotometricConfig(), [seeded(4)])
    again = augment_light(pair, PhotometricConfig(), [seeded(4)])
    other = augment_light(pair, PhotometricConfig(), [seeded(5)])
    for name in ("a", "b"):
        before, after = getattr(pair, name), getattr(varied, name)
        assert torch.equal(after.image, getattr(again, name).image)
        assert not torch.equal(after.image, getattr(other, name).image)
        assert float((after.image - before.image).abs().mean()) > 0.005
        assert float(after.image.min()) >= 0
        assert float(after.image.max()) <= 1
        assert bool((after.image[~after.valid] == 0).all())
        assert torch.equal(after.valid, before.valid)
    assert torch.equal(varied.b_from_a, pair.b_from_a)  # type: ignore[arg-type]


def test_blocks_are_coarsened_as_by_a_cosine_transform() -> None:
    image = np.random.default_rng(0).random((16, 24), dtype=np.float32)
    expected = np.zeros_like(image)
    steps = 0.05 * (1 + 0.5 * np.add.outer(np.arange(8), np.arange(8)))
    for y in (0, 8):
        for x in (0, 8, 16):
            block = cv2.dct(image[y : y + 8, x : x + 8])
            expected[y : y + 8, x : x + 8] = cv2.idct((np.round(block / steps) * steps).astype(np.float32))
    result = coarsen_blocks(torch.from_numpy(image)[None, None], 0.05)[0, 0].numpy()
    np.testing.assert_allclose(result, expected, atol=1e-4)
    assert np.abs(result - image).mean() > 0.01
    assert coarsen_blocks(torch.rand(1, 1, 13, 21, generator=seeded()), 0.02).shape == (1, 1, 13, 21)


def test_homography_from_corners_is_exact_and_random_ones_stay_in_reach() -> None:
    source = torch.tensor([[0.0, 0.0], [9.0, 1.0], [8.0, 7.0], [-1.0, 6.0]]).double()
    target = torch.tensor([[3.0, 2.0], [20.0, -1.0], [17.0, 15.0], [1.0, 12.0]]).double()
    matrix = homography_from_corners(source, target)
    torch.testing.assert_close(apply_homography(matrix, source)[0], target)
    centre = torch.tensor([200.0, 300.0])
    corners = centre + 40 * torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    for seed in range(20):
        moved, weight = apply_homography(random_homography(seeded(seed), centre, 40.0, 0.35), corners[None])
        assert float((moved - corners).abs().max()) <= 0.35 * 40 + 1e-2
        assert bool((weight > 0).all())


def test_log_uniform_is_even_in_log() -> None:
    generator = seeded()
    values = np.log([log_uniform(generator, 0.5, 2.0) for _ in range(2000)])
    assert values.min() >= -math.log(2)
    assert values.max() <= math.log(2)
    assert np.histogram(values, 4)[0].min() > 420


# --- the loader ---


def same(first: Pair, second: Pair) -> bool:
    equal = torch.equal(first.a.image, second.a.image) and torch.equal(first.b.image, second.b.image)
    return equal and torch.equal(first.b_from_a, second.b_from_a)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def loader() -> PairLoader:
    geometry = GeometricConfig()
    sources = [
        WeightedSource("one", PicturePairs([smooth_picture(100, 120)], geometry, 40), 3.0),
        WeightedSource("other", PicturePairs([smooth_picture(110, 100)], geometry, 40), 1.0),
        WeightedSource("never", PicturePairs([], geometry, 40), 0.0),
    ]
    return PairLoader(sources, PhotometricConfig(), 2, 7)


def test_samples_are_functions_of_seed_step_and_index(loader: PairLoader) -> None:
    torch.manual_seed(0)
    first = loader.load(5)
    torch.manual_seed(1)
    loader.load(2)
    again = loader.load(5)
    assert same(first, again)
    assert first.a.image.shape == (2, 1, 40, 40)
    assert not torch.equal(first.a.image[0], first.a.image[1])
    assert not same(first, loader.load(6))
    other = PairLoader(loader.sources, loader.photometric, 2, 8)
    assert not same(first, other.load(5))
    # The first sample of a larger batch is the same one.
    alone = PairLoader(loader.sources, loader.photometric, 1, 7)
    assert torch.equal(alone.load(5).a.image[0], first.a.image[0])


def test_batches_come_in_order_wherever_they_start(loader: PairLoader) -> None:
    whole = list(loader.iterate(0, 9, lookahead=3))
    assert [step for step, _ in whole] == list(range(9))
    resumed = list(loader.iterate(4, 9, lookahead=1))
    assert [step for step, _ in resumed] == list(range(4, 9))
    for (_, expected), (_, batch) in zip(whole[4:], resumed, strict=True):
        assert same(expected, batch)
    assert list(loader.iterate(9, 9)) == []


def test_an_error_in_a_source_reaches_the_loop() -> None:
    class Broken:
        def sample(self, generator: torch.Generator) -> Pair:
            raise SequenceError("frame 3: damaged")

    broken = PairLoader([WeightedSource("broken", Broken(), 1.0)], STEADY, 1, 0)
    with pytest.raises(SequenceError, match="frame 3: damaged"):
        next(broken.iterate(0, 3))


def first_numbers(seed: int, step: int, index: int) -> tuple[float, ...]:
    return tuple(torch.rand(3, generator=sample_generator(seed, step, index)).tolist())


def test_generators_are_distinct_for_validation_too() -> None:
    """PyTorch's generator heeds 32 bits of its seed, so steps 2^40 apart must differ there."""
    steps = [*range(40), *(VALIDATION_STEP + n for n in range(40)), *((1 << 32) + n for n in range(40))]
    drawn = {first_numbers(seed, step, index) for seed in range(3) for step in steps for index in range(3)}
    assert len(drawn) == 3 * len(steps) * 3
    assert first_numbers(1, 2, 3) == first_numbers(1, 2, 3)


def test_sources_are_built_from_a_configuration(plain: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(21):
        Image.fromarray(np.roll(smooth_picture(60, 70), 3 * index, 1)).save(pictures / f"{index}.png")
    sequence = SequenceConfig(str(plain), frames=(0, 2), validation_frames=(2, 4), share=3.0)
    config = DataConfig(sequences=(sequence,), pictures=(str(pictures),), render_share=0.0, size=48)
    training, validation = build_sources(config)
    assert [source.share for source in training] == [3.0, 1.0]
    assert describe_sources(training) == [
        f"sequence {plain.name}: 75% of steps, 1 pairs or pictures",
        "pictures: 25% of steps, 20 pairs or pictures",
    ]
    assert describe_sources(validation)[1] == "pictures: 50% of steps, 1 pairs or pictures"
    held = validation[0].source
    assert isinstance(held, SequencePairs)
    expected = torch.from_numpy(np.linalg.inv(world_from_camera(2))).float()
    torch.testing.assert_close(held.pair(0).a.camera_from_world[0], expected)
    whole = dataclasses.replace(config, sequences=(SequenceConfig(str(plain)),), pictures=())
    assert describe_sources(build_sources(whole)[1])[0].startswith(f"sequence {plain.name} (also trained on")
    alone = dataclasses.replace(config, sequences=(), pictures=(str(pictures / "0.png"),))
    assert describe_sources(build_sources(alone)[1])[0].startswith("pictures (also trained on")
    narrow = dataclasses.replace(sequence, overlap=(0.0, 1e-3))
    with pytest.raises(SequenceError, match="between 0% and 0%"):
        build_sources(dataclasses.replace(config, sequences=(narrow,)))
    with pytest.raises(ValueError, match="no source of pairs"):
        build_sources(DataConfig(render_share=0.0))
    with pytest.raises(ValueError, match="past the last"):
        dataclasses.replace(config, sequences=(SequenceConfig(str(plain), frames=(1,)),))


def test_pictures_are_held_back_however_few() -> None:
    pictures = [np.full((4, 4), index, np.uint8) for index in range(45)]
    for count, expected in ((45, [19, 39]), (20, [19]), (3, [2]), (2, [1])):
        training, held_back = hold_back(pictures[:count])
        assert [int(picture[0, 0]) for picture in held_back] == expected
        assert sorted(int(p[0, 0]) for p in training + held_back) == list(range(count))
    assert hold_back(pictures[:1]) == (pictures[:1], pictures[:1])


def test_shares_decide_how_often_a_source_is_drawn() -> None:
    class Named:
        def __init__(self, value: float) -> None:
            self.value = value

        def sample(self, generator: torch.Generator) -> Pair:
            image: Tensor = torch.full((1, 1, 4, 4), self.value)
            view = View(image, image >= 0, None, torch.eye(3)[None], torch.eye(4)[None])
            return Pair(view, view, torch.eye(3)[None])

    sources = [WeightedSource(str(value), Named(value), share) for value, share in ((0.1, 3.0), (0.2, 1.0), (0.3, 0.0))]
    drawer = PairLoader(sources, STEADY, 2, 0)
    values = [float(drawer.load(step).a.image.mean()) for step in range(400)]
    assert np.mean(np.isclose(values, 0.1)) == pytest.approx(0.75, abs=0.08)
    assert np.mean(np.isclose(values, 0.2)) == pytest.approx(0.25, abs=0.08)


def test_a_tone_curve_rises_and_keeps_black_and_white() -> None:
    grey = torch.linspace(0, 1, 256).view(1, 1, 1, 256)
    torch.testing.assert_close(tone_curve(grey, torch.zeros(6)), grey)
    bent = tone_curve(grey, torch.randn(6, generator=torch.Generator().manual_seed(0)))[0, 0, 0]
    assert float(bent[0]) == 0
    assert float(bent[-1]) == pytest.approx(1)
    assert bool((bent.diff() > 0).all())
    assert float((bent - grey[0, 0, 0]).abs().max()) > 0.1
    by_hand = tone_curve(torch.tensor([[[[0.25, 0.75]]]]), torch.tensor([0.0, math.log(3.0)]))
    assert by_hand.flatten().tolist() == pytest.approx([0.125, 0.625])


@pytest.mark.parametrize("change", ["tone", "relight", "inverted"])
def test_each_change_of_light_is_drawn_anew_for_each_view(change: str) -> None:
    off = dict.fromkeys(("gain", "bias", "gamma", "blur", "noise", "jpeg", "shadow"), 0.0)
    config = PhotometricConfig(**off, **{change: 0.5})
    image = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
    eye = torch.eye(4).expand(2, 4, 4)
    view = View(image, torch.ones_like(image, dtype=torch.bool), None, eye[:, :3, :3], eye)
    pair = Pair(view, view, torch.eye(3).expand(2, 3, 3))
    generators = [torch.Generator().manual_seed(seed) for seed in (4, 7)]
    varied = augment_light(pair, config, generators)
    again = augment_light(pair, config, [torch.Generator().manual_seed(seed) for seed in (4, 7)])
    assert torch.equal(varied.a.image, again.a.image)
    pictures = [*varied.a.image, *varied.b.image]
    if change == "inverted":
        turned = [bool(torch.equal(new, 1 - old)) for new, old in zip(pictures, [*image, *image], strict=True)]
        kept = [bool(torch.equal(new, old)) for new, old in zip(pictures, [*image, *image], strict=True)]
        assert all(one != other for one, other in zip(turned, kept, strict=True))
        assert any(turned)
    else:
        assert all(not torch.equal(new, old) for new, old in zip(pictures, [*image, *image], strict=True))
        assert not torch.equal(varied.a.image, varied.b.image)
    assert bool((varied.a.image >= 0).all() & (varied.a.image <= 1).all())
