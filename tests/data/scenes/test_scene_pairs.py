"""Prepared scenes: read, refused, drawn from, trained on and measured on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from lfnet.data.augment import GeometricConfig, PhotometricConfig
from lfnet.data.frames import read_view
from lfnet.data.loader import DataConfig, PairLoader, SceneConfig, WeightedSource, build_sources
from lfnet.data.pair import Pair
from lfnet.data.pair_sources import PackedView
from lfnet.data.reconstructions.colmap_files import read_reconstruction, write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Reconstruction
from lfnet.data.scenes.scene import Scene, SceneError, depth_path
from lfnet.data.scenes.scene_pairs import ScenePairs, ViewCache, shrunk_frame, training_pictures
from lfnet.preparation.pairs import PairSettings, make_pair_table, write_pair_table
from support.made_scenes import COUNT, add_pairs, make_own_scene, write_manifest, write_model
from support.tensors import seeded
from support.textured_plane import (
    HEIGHT,
    INTRINSICS,
    WIDTH,
    assert_photo_consistent,
    draw_frame,
    world_from_camera,
    write_depth,
)

pytestmark = pytest.mark.slow

GEOMETRY = GeometricConfig(resolution=(0.8, 1.2))


@pytest.fixture(scope="module")
def own_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_own_scene(tmp_path_factory.mktemp("scenes") / "own")


@pytest.fixture
def copied(own_scene: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(own_scene, tmp_path / "copied"))


@pytest.fixture
def source_scene(tmp_path: Path) -> Path:
    """A scene beside a recording in the plain layout, in which pictures and depth stay."""
    recording, folder = tmp_path / "recording", tmp_path / "scene"
    (recording / "images" / "walk").mkdir(parents=True)
    (recording / "depth").mkdir()
    for index in range(COUNT):
        picture, depth = draw_frame(index)
        Image.fromarray(picture).save(recording / "images" / f"{index}.png")
        write_depth(recording / "depth" / f"{index}.png", depth)
    np.savetxt(recording / "poses.txt", [world_from_camera(index).ravel() for index in range(COUNT)])
    np.savetxt(recording / "K.txt", INTRINSICS)
    shutil.rmtree(recording / "images" / "walk")
    write_model(folder)
    model = read_reconstruction(folder / "model")
    images = {number: replace(image, name=Path(image.name).name) for number, image in model.images.items()}
    del images[11]  # A frame that didn't make it.
    write_reconstruction(folder / "model", Reconstruction(model.cameras, images, model.points))
    source = {"layout": "plain", "folder": str(recording), "relative": "../recording"}
    write_manifest(folder, source=source, pictures="source", depth="source")
    add_pairs(folder)
    return folder


# --- reading ---


def test_a_scene_of_its_own_is_read(own_scene: Path) -> None:
    scene = Scene.open(own_scene)
    assert [frame.name for frame in scene.frames] == [f"walk/{index}.png" for index in range(COUNT)]
    view = read_view(scene.frame(12))
    picture, depth = draw_frame(2)
    np.testing.assert_allclose(view.image[0, 0].numpy(), picture / 255, atol=1e-6)
    assert view.depth is not None
    np.testing.assert_allclose(view.depth[0, 0].numpy(), depth, rtol=1e-5)
    np.testing.assert_allclose(view.intrinsics[0].numpy(), INTRINSICS)
    held = scene.pairs("validation")
    assert set(held.image_id_a) | set(held.image_id_b) == {14, 15}
    assert len(scene.pairs()) + len(held) == len(scene.pair_table)
    with pytest.raises(ValueError, match="training, validation"):
        scene.pairs("test")


def test_a_scene_by_reference_is_read_and_moves_with_its_source(source_scene: Path, tmp_path: Path) -> None:
    scene = Scene.open(source_scene)
    assert [frame.name for frame in scene.frames] == ["0.png", "2.png", "3.png", "4.png", "5.png"]
    view = read_view(scene.frame(12))
    np.testing.assert_allclose(view.image[0, 0].numpy(), draw_frame(2)[0] / 255, atol=1e-6)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recording", "scene"):
        shutil.move(tmp_path / name, moved / name)
    assert len(Scene.open(moved / "scene").frames) == 5
    (moved / "recording" / "images" / "2.png").unlink()
    (moved / "recording" / "depth" / "2.png").unlink()
    poses = np.loadtxt(moved / "recording" / "poses.txt")
    np.savetxt(moved / "recording" / "poses.txt", np.delete(poses, 2, axis=0))
    with pytest.raises(SceneError, match=r"picture 2\.png isn't in .*put it back"):
        Scene.open(moved / "scene")
    shutil.rmtree(moved / "recording")
    with pytest.raises(SceneError, match=r"isn't at .*recording or .*recording.*new place"):
        Scene.open(moved / "scene")


def test_pictures_of_the_source_with_depth_of_its_own(source_scene: Path) -> None:
    manifest = json.loads((source_scene / "manifest.json").read_text())
    (source_scene / "manifest.json").write_text(json.dumps({**manifest, "depth": "own"}))
    with pytest.raises(SceneError, match=r"5 of 5 depth maps are missing, the first of 0\.png"):
        Scene.open(source_scene)
    for index in range(COUNT):
        path = depth_path(source_scene, f"{index}.png")
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file["depth"] = np.full((HEIGHT, WIDTH), index + 1, np.float32)
    frame = Scene.open(source_scene).frame(12)
    assert frame.read_depth is not None
    assert (frame.read_depth() == 3).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no scene"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest of a scene, and it is no JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "no manifest of a scene"),
        (lambda folder: write_manifest(folder, format="other"), "no manifest of a scene"),
        (lambda folder: write_manifest(folder, depth="elsewhere"), "own or source"),
        (lambda folder: write_manifest(folder, version=9), "a newer lfnet"),
        (lambda folder: (folder / "model" / "images.bin").unlink(), "COLMAP model is missing"),
        (lambda folder: (folder / "model" / "images.bin").write_bytes(b"0" * 20), r"images\.bin"),
        (lambda folder: (folder / "pairs.h5").unlink(), "pairs are missing"),
        (lambda folder: (folder / "images" / "walk" / "3.png").unlink(), r"1 of 6 pictures are missing.*walk/3\.png"),
        (lambda folder: shutil.rmtree(folder / "depth"), "6 of 6 depth maps are missing"),
    ],
)
def test_what_is_no_scene_is_refused(copied: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(copied)
    with pytest.raises(SceneError, match=message) as caught:
        Scene.open(copied)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_are_refused(copied: Path) -> None:
    scene = Scene.open(copied)
    depth = depth_path(copied, "walk/0.png")
    with h5py.File(depth, "w") as file:
        file["depth"] = np.ones((4, 5), np.float32)
    with pytest.raises(SceneError, match=r"0\.png\.h5: depth of shape \(4, 5\)"):
        read_view(scene.frames[0])
    depth.write_bytes(b"cut short")
    with pytest.raises(SceneError, match="not an HDF5 file, or damaged"):
        read_view(scene.frames[0])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(copied / "images" / "walk" / "1.png")
    with pytest.raises(SceneError, match="9x9, but its camera has 96x72"):
        read_view(scene.frames[1])
    (copied / "pairs.h5").write_bytes(b"")
    with pytest.raises(SceneError, match=r"pairs\.h5: not an HDF5 file, or damaged"):
        _ = Scene.open(copied).pair_table
    add_pairs_of_other_names(copied)
    with pytest.raises(SceneError, match="in the model walk/0"):
        _ = Scene.open(copied).pair_table


def add_pairs_of_other_names(folder: Path) -> None:
    scene = Scene.open(folder)
    names = [f"other/{index}.png" for index in range(COUNT)]
    frames = [
        replace(frame, name=name, read_depth=lambda: np.full((HEIGHT, WIDTH), 2, np.float32))
        for frame, name in zip(scene.frames, names, strict=True)
    ]
    table, _ = make_pair_table(frames, scene.image_ids, PairSettings(overlap=(0.0, 1.0), validation_share=0))
    write_pair_table(folder / "pairs.h5", table)


def test_a_scene_whose_camera_is_distorted_is_refused(copied: Path) -> None:
    model = read_reconstruction(copied / "model")
    cameras = {1: Camera.pinhole(1, (WIDTH, HEIGHT), INTRINSICS, (0.1, 0, 0, 0))}
    write_reconstruction(copied / "model", Reconstruction(cameras, model.images, model.points))
    with pytest.raises(SceneError, match="no pinhole"):
        Scene.open(copied)


# --- pairs to train on ---


@pytest.mark.parametrize("unit", [1.0, 1e-4, 1e6])
def test_pairs_of_a_scene_are_photo_consistent_in_any_unit(tmp_path: Path, unit: float) -> None:
    source = ScenePairs(make_own_scene(tmp_path / "scene", unit), GEOMETRY, 64)
    assert len(source) == len(Scene.open(tmp_path / "scene").pairs())
    for seed in range(8):
        pair = source.sample(seeded(seed))
        assert pair.a.size == pair.b.size == (64, 64)
        assert_photo_consistent(pair, 0.02, 0.05)


def test_pairs_of_a_scene_far_from_the_origin(copied: Path) -> None:
    """Five hundred kilometres, as in map coordinates, where single precision counts in steps of three centimetres."""
    model = read_reconstruction(copied / "model")
    shift = np.eye(4)
    shift[:3, 3] = 5e5
    moved = {
        number: replace(image, camera_from_world=image.camera_from_world @ np.linalg.inv(shift))
        for number, image in model.images.items()
    }
    write_reconstruction(copied / "model", Reconstruction(model.cameras, moved, model.points))
    source = ScenePairs(copied, GEOMETRY, 64)
    for index in range(len(source)):
        assert_photo_consistent(source.pair(index), 0.01, 0.05)


def test_pictures_are_shrunk_with_their_depth_and_camera(own_scene: Path) -> None:
    scene = Scene.open(own_scene)
    small = shrunk_frame(scene.frames[0], 48)
    assert small.size == (48, 36)
    view = read_view(small)
    assert view.size == (36, 48)
    full = read_view(scene.frames[1])
    assert_photo_consistent(Pair(view, full), 0.03, 0.3)
    assert shrunk_frame(scene.frames[0], None) is scene.frames[0]
    assert shrunk_frame(scene.frames[0], 96) is scene.frames[0]
    source = ScenePairs(own_scene, GEOMETRY, 32, max_side=48)
    assert source.pair(0).a.size == (36, 48)
    assert_photo_consistent(source.sample(seeded()), 0.04, 0.05)


def test_what_is_drawn_depends_on_the_generator_alone(own_scene: Path) -> None:
    sources = [ScenePairs(own_scene, GEOMETRY, 48, cache_megabytes=megabytes) for megabytes in (1, 0, 0.03)]
    wanted = [sources[0].sample(seeded(seed)) for seed in range(12)]
    for source in sources:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda seed, source=source: source.sample(seeded(seed)), reversed(range(12))))
        for pair, other in zip(wanted, reversed(found), strict=True):
            torch.testing.assert_close(other.a.image, pair.a.image, rtol=0, atol=0)
            torch.testing.assert_close(other.b.depth, pair.b.depth, rtol=0, atol=0)


def test_the_cache_keeps_the_last_and_stays_in_its_bound(own_scene: Path) -> None:
    scene = Scene.open(own_scene)
    reads: list[int] = []

    def read(place: int) -> PackedView:
        reads.append(place)
        return PackedView(read_view(scene.frames[place]))

    one = read(0).bytes
    assert one == 3 * WIDTH * HEIGHT
    reads.clear()
    cache = ViewCache(2.5 * one)
    for place in (0, 1, 0, 2, 0, 1):
        cache.get(place, partial(read, place))
        assert cache.bytes <= cache.limit
    # 1 was asked for longest ago when 2 came, so it had to be read again.
    assert reads == [0, 1, 2, 1]
    assert len(cache) == 2


def test_one_broken_picture_is_left_out_while_training_and_told_once(copied: Path) -> None:
    (copied / "images" / "walk" / "1.png").write_bytes(b"cut short")
    source = ScenePairs(copied, GEOMETRY, 48)
    loader = PairLoader([WeightedSource("scene", source, 1.0)], PhotometricConfig(), 2, 0)
    again = ScenePairs(copied, GEOMETRY, 48, cache_megabytes=0)
    for seed in range(20):
        torch.testing.assert_close(source.sample(seeded(seed)).a.image, again.sample(seeded(seed)).a.image)
    (line,) = loader.news()
    assert "scene: left out: " in line
    assert "1.png: not a picture" in line
    assert loader.news() == []
    depth_path(copied, "walk/0.png").write_bytes(b"")
    with pytest.raises(SceneError, match=r"2 of 6 pictures or depth maps can't be read .*more than 20%"):
        _ = [again.sample(seeded(seed)) for seed in range(20)]


def test_pairs_are_drawn_by_weight(own_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ScenePairs(own_scene, GEOMETRY, 48)
    pairs = [source.pair(index) for index in range(len(source))]
    drawn: list[int] = []

    def pair(index: int) -> Pair:
        drawn.append(index)
        return pairs[index]

    monkeypatch.setattr(source, "pair", pair)
    for seed in range(300):
        source.sample(seeded(seed))
    expected = source.table.weight / source.table.weight.sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=len(source)) / 300, expected, atol=0.08)


def test_scenes_in_a_configuration(own_scene: Path, copied: Path) -> None:
    config = DataConfig(scenes=(SceneConfig(str(own_scene), share=2.0),), size=48, render_share=0)
    training, validation = build_sources(config)
    assert [(each.name, each.share) for each in training] == [("scene own", 2.0), ("pictures of the scenes", 1.0)]
    assert [each.name for each in validation] == ["scene own"]
    source = training[0].source
    assert isinstance(source, ScenePairs)
    assert {14, 15}.isdisjoint(source.table.image_id_a.tolist() + source.table.image_id_b.tolist())
    assert len(training_pictures(Scene.open(own_scene), 100, 640)[0]) == 4
    assert [picture.shape for picture in training_pictures(Scene.open(own_scene), 2, 48)[0]] == [(36, 48)] * 2

    add_pairs_of_all(copied)
    training, validation = build_sources(replace(config, scenes=(SceneConfig(str(copied)),), picture_share=0))
    assert [each.name for each in training] == ["scene copied"]
    assert "also trained on" in validation[0].name
    with pytest.raises(SceneError, match="no pairs for validation"):
        ScenePairs(copied, GEOMETRY, 48, "validation")
    with pytest.raises(ValueError, match="cache_megabytes"):
        SceneConfig("scene", cache_megabytes=-1)


def add_pairs_of_all(folder: Path) -> None:
    scene = Scene.open(folder)
    settings = PairSettings(overlap=(0.1, 1.0), validation_share=0)
    write_pair_table(folder / "pairs.h5", make_pair_table(scene.frames, scene.image_ids, settings)[0])


# --- whole commands ---


def test_training_on_scenes_alone_and_measuring_on_them(
    own_scene: Path, tiny_weights: Path, tmp_path: Path, run_lfnet: Callable
) -> None:
    trained = run_lfnet(
        "train", "--scenes", own_scene, "--output", tmp_path / "run", "--steps", 2, "--size", 48, "--keypoints", 16,
        "--init", tiny_weights, "--threads", 1, "--set", "validation.every=2", "--set", "validation.pairs=2",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "scene own" in trained.stdout + trained.stderr
    measured = run_lfnet(
        "eval", "run", own_scene, "--methods", "rootsift", str(tmp_path / "run" / "last.safetensors"),
        "--protocols", "matching", "--long-side", 96, "--matching.budgets", 32, "--output", tmp_path / "scores",
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    (section,) = json.loads((tmp_path / "scores" / "results.json").read_text())["sections"]
    assert section["protocol"] == "matching"
    assert section["settings"]["data"]["split"] == "validation"
    assert {row["method"] for row in section["rows"]} == {"rootsift", "last"}
    assert "Matching score" in measured.stdout
    refused = run_lfnet("train", "--scenes", tmp_path, "--output", tmp_path / "other")
    assert refused.returncode == 1
    assert "no scene" in refused.stderr
