"""COLMAP with features of one's own: on rendered photos, whose cameras are known exactly."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.features import Features
from lfnet.images import ImageError
from lfnet.integrations.colmap import CameraSettings, ColmapDatabase, pinhole_parameters
from lfnet.integrations.colmap_tables import ColmapDatabaseError
from lfnet.integrations.pycolmap_process import has_pycolmap, run_pycolmap
from lfnet.matching import mutual_nearest_neighbours
from support.rendered_photos import RenderedView, render_views, write_photos

pytestmark = pytest.mark.slow

pytest.importorskip("skimage", reason="the rendered photos show its pictures")
needs_pycolmap = pytest.mark.skipif(not has_pycolmap(), reason="pycolmap is not installed")


@pytest.fixture(scope="module")
def views() -> list[RenderedView]:
    return render_views(6)


@pytest.fixture(scope="module")
def photos(views: list[RenderedView], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), views)


Matches = list[tuple[str, str, NDArray[np.int64]]]


def true_features(views: list[RenderedView], shift: float = 0.0) -> tuple[dict[str, Features], Matches]:
    """Points of the world where each view truly has them, and their true matches."""
    generator = np.random.default_rng(0)
    world = np.concatenate([points_seen(view, 60, generator) for view in views])
    features, seen = {}, {}
    for view in views:
        points = world @ view.camera_from_world[:3, :3].T + view.camera_from_world[:3, 3]
        places = points @ view.intrinsics.T
        places = places[:, :2] / places[:, 2:]
        height, width = view.depth.shape
        inside = ((places >= 1) & (places <= (width - 2, height - 2))).all(1) & (points[:, 2] > 0)
        nearest = np.rint(np.where(inside[:, None], places, 0)).astype(int)
        visible = inside & (np.abs(view.depth[nearest[:, 1], nearest[:, 0]] - points[:, 2]) < 0.02 * points[:, 2])
        seen[view.name] = np.flatnonzero(visible)
        ones = np.ones(visible.sum())
        features[view.name] = Features(
            places[visible] + shift, ones, 0 * ones, ones, np.zeros((len(ones), 1), np.float32), (width, height)
        )
    matches = []
    for a, b in combinations(seen, 2):
        _, in_a, in_b = np.intersect1d(seen[a], seen[b], return_indices=True)
        matches.append((a, b, np.stack((in_a, in_b), 1)))
    return features, matches


def points_seen(view: RenderedView, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    rows, columns = np.nonzero(view.depth)
    chosen = generator.choice(len(rows), count, replace=False)
    pixels = np.stack((columns[chosen], rows[chosen], np.ones(count)), 1)
    in_camera = (pixels @ np.linalg.inv(view.intrinsics).T) * view.depth[rows[chosen], columns[chosen], None]
    return (in_camera - view.camera_from_world[:3, 3]) @ view.camera_from_world[:3, :3]


def turn_between(found: dict[str, NDArray], truth: dict[str, NDArray]) -> float:
    """Largest angle, in degrees, that is left between cameras once the worlds are turned onto each other.

    The turn is that of the camera centres: a turn of all cameras alike stays visible.
    """
    centres, true_centres = (
        np.array([-poses[name][:3, :3].T @ poses[name][:3, 3] for name in truth]) for poses in (found, truth)
    )
    left, _, right = np.linalg.svd((true_centres - true_centres.mean(0)).T @ (centres - centres.mean(0)))
    turn = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    angles = []
    for name, pose in truth.items():
        change = found[name][:3, :3] @ turn.T @ pose[:3, :3].T
        angles.append(np.degrees(np.arccos(np.clip((np.trace(change) - 1) / 2, -1, 1))))
    return float(max(angles))


def reconstruct(
    views: list[RenderedView], photos: Path, work: Path, shift: float = 0.0
) -> tuple[float, dict[str, NDArray[np.float64]]]:
    """Reprojection error and poses, from true keypoints that are moved, and exact intrinsics."""
    database = ColmapDatabase(work / "database.db", photos)
    database.add_pictures(
        [view.name for view in views], CameraSettings(intrinsics={view.name: view.intrinsics for view in views})
    )
    database.add_features(*true_features(views, shift))
    assert database.verify(threads=1) == 15
    model = database.map(work / "models", threads=1)[0]
    assert model.names == sorted(view.name for view in views)
    poses = {image.name: image.camera_from_world for image in read_reconstruction(model.folder).images.values()}
    return model.reprojection_error, poses


@needs_pycolmap
def test_the_half_pixel_is_right(views: list[RenderedView], photos: Path, tmp_path: Path) -> None:
    truth = {view.name: view.camera_from_world for view in views}
    error, poses = reconstruct(views, photos, tmp_path / "right")
    assert error < 1e-3
    assert turn_between(poses, truth) < 0.005
    # As it would be with no half pixel added, and with it taken off instead.
    for shift in (-0.5, -1.0):
        wrong_error, wrong_poses = reconstruct(views, photos, tmp_path / f"wrong{shift}", shift)
        assert wrong_error > 10 * error
        assert turn_between(wrong_poses, truth) > 0.03


@needs_pycolmap
def test_found_features_place_the_cameras(views: list[RenderedView], photos: Path, tmp_path: Path) -> None:
    features = {view.name: OpenCVExtractor("rootsift")(view.grey, max_keypoints=1024) for view in views}
    database = ColmapDatabase(tmp_path / "database.db", photos)
    database.add_pictures(list(features))
    pairs = combinations(features, 2)
    database.add_features(
        features, [(a, b, mutual_nearest_neighbours(features[a], features[b], ratio=0.8).indices) for a, b in pairs]
    )
    database.verify(threads=1)
    model = database.map(tmp_path / "models", threads=1)[0]
    assert model.names == list(features)
    assert model.reprojection_error < 1
    poses = {image.name: image.camera_from_world for image in read_reconstruction(model.folder).images.values()}
    assert turn_between(poses, {view.name: view.camera_from_world for view in views}) < 0.5


@needs_pycolmap
def test_names_with_blanks_and_pictures_without_features(views: list[RenderedView], tmp_path: Path) -> None:
    # Earlier versions read names from a list, in which a blank ends one.
    blank = " " if run_pycolmap("versions", tmp_path / "log")["version"] >= "4" else "_"
    named = [replace(view, name=f"a{blank}walk/photo{blank}{number}.jpg") for number, view in enumerate(views[:4])]
    photos = write_photos(tmp_path / "photos", named)
    features, matches = true_features(named)
    empty = named[-1].name
    features[empty] = Features.empty(features[empty].image_size)
    database = ColmapDatabase(tmp_path / "work" / "database.db", photos)
    database.add_pictures([view.name for view in named])
    database.add_features(features, [match for match in matches if empty not in match[:2]])
    assert database.verify(threads=1) == 3
    assert database.map(tmp_path / "models", threads=1)[0].names == [view.name for view in named[:-1]]


@needs_pycolmap
def test_nothing_to_map_is_no_crash(views: list[RenderedView], photos: Path, tmp_path: Path) -> None:
    database = ColmapDatabase(tmp_path / "database.db", photos)
    database.add_pictures([view.name for view in views], CameraSettings(sharing="per-picture"))
    database.add_features({view.name: Features.empty((400, 300)) for view in views}, [])
    assert database.verify(threads=1) == 0
    assert database.map(tmp_path / "models", threads=1) == []


@needs_pycolmap
def test_what_does_not_go_together_is_refused(views: list[RenderedView], photos: Path, tmp_path: Path) -> None:
    database = ColmapDatabase(tmp_path / "database.db", photos)
    with pytest.raises(ImageError, match="no such file"):
        database.add_pictures(["nowhere.jpg"])
    with pytest.raises(ValueError, match=r"none of 'photo1\.jpg'"):
        database.add_pictures(["photo0.jpg", "photo1.jpg"], CameraSettings(intrinsics={"photo0.jpg": np.eye(3)}))
    database.add_pictures(["photo0.jpg", "photo1.jpg"])
    features, _ = true_features(views[:2])
    with pytest.raises(ValueError, match=r"from 0 to \d+ in 'photo1\.jpg', got 9999 to 9999"):
        database.add_features(features, [("photo0.jpg", "photo1.jpg", np.array([[0, 9999]]))])
    with pytest.raises(ValueError, match="not added"):
        database.add_features({"other.jpg": features["photo0.jpg"]}, [])


USERS = """
import sys, zlib
import numpy as np, pycolmap
database, photos = sys.argv[1:]
pycolmap.Database.open(database).close()
options = pycolmap.ImageReaderOptions()
options.camera_model, options.camera_params = "OPENCV", "401,402,200,150,0.01,0.02,0.001,0.002"
pycolmap.import_images(database, photos, pycolmap.CameraMode.PER_IMAGE, options=options)
with pycolmap.Database.open(database) as opened:
    for prior in opened.read_all_pose_priors():
        prior.position = np.array([prior.pose_prior_id, 2.0, 3.0])
        opened.update_pose_prior(prior)
    opened.write_keypoints(1, np.arange(12, dtype=np.float32).reshape(2, 6))
    opened.write_keypoints(2, np.arange(4, dtype=np.float32).reshape(2, 2))
    kind = pycolmap.FeatureExtractorType.SIFT
    opened.write_descriptors(1, pycolmap.FeatureDescriptors(kind, np.ones((2, 128), np.uint8)))
    opened.write_matches(1, 2, np.array([[1, 0]], np.uint32))
"""
"""A database as a user may have it: one camera a picture, pose priors, and features of another kind in two pictures."""

FEATURE_TABLES = ("keypoints", "descriptors", "matches", "two_view_geometries")


@pytest.fixture
def users_database(photos: Path, tmp_path: Path) -> Path:
    if run_pycolmap("versions", tmp_path / "log")["version"] < "4":
        pytest.skip("pycolmap's methods for pose priors, as used here, are those of version 4")
    path = tmp_path / "user" / "database.db"
    path.parent.mkdir()
    subprocess.run([sys.executable, "-c", USERS, path, photos], check=True, capture_output=True)
    return path


def tables_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in names}


def rows_of(path: Path, name: str) -> NDArray[np.float32]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rows, cols, data FROM keypoints JOIN images USING (image_id) WHERE name = ?"
        rows, columns, content = connection.execute(query, (name,)).fetchone()
    return np.frombuffer(content, np.float32).reshape(rows, columns)


@needs_pycolmap
@pytest.mark.parametrize("existing", ["append", "replace"])
def test_a_database_of_the_user_keeps_all_but_its_features(
    existing: Any, users_database: Path, views: list[RenderedView], photos: Path, tmp_path: Path
) -> None:
    before = tables_of(users_database)
    assert len(before["cameras"]) == len(before["pose_priors"]) == len(before["rigs"]) == len(views)
    features, matches = true_features(views)
    database = ColmapDatabase(users_database, photos)
    assert database.add_pictures(list(features), CameraSettings(model="PINHOLE")) == []
    report = database.add_features(features, matches, existing=existing)
    after = tables_of(users_database)
    assert all(after[name] == rows for name, rows in before.items() if name not in FEATURE_TABLES)
    assert (report.pictures, report.behind_others) == (6, 2 if existing == "append" else 0)
    first, second = rows_of(users_database, "photo0.jpg"), rows_of(users_database, "photo1.jpg")
    if existing == "append":
        assert np.array_equal(first[:2], np.arange(12, dtype=np.float32).reshape(2, 6))
        assert np.array_equal(second[:2], np.float32([[0, 1, 1, 0, 0, 1], [2, 3, 1, 0, 0, 1]]))
        assert np.array_equal(first[2:, :2], features["photo0.jpg"].keypoints + np.float32(0.5))
        assert after["descriptors"] == before["descriptors"]
    else:
        assert first.shape == (len(features["photo0.jpg"]), 4)
        assert after["descriptors"] == []
    pair = np.frombuffer(after["matches"][0][3], np.uint32).reshape(-1, 2)
    ours = matches[0][2] + (2 if existing == "append" else 0)
    assert np.array_equal(pair, np.concatenate(([[1, 0]], ours)) if existing == "append" else ours)
    assert database.verify(threads=1) == 15
    again = database.add_features(features, matches, existing=existing)
    assert (again.pictures, again.already, again.pairs) == (0, 6, 0)
    model = database.map(tmp_path / "models", threads=1)[0]
    assert len(model.names) == 6
    assert model.reprojection_error < 0.2


@needs_pycolmap
def test_verified_pairs_are_left_and_changed_ones_verified_again(
    views: list[RenderedView], photos: Path, tmp_path: Path
) -> None:
    database = ColmapDatabase(tmp_path / "database.db", photos)
    database.add_pictures([view.name for view in views[:3]])
    features, matches = true_features(views[:3])
    database.add_features(features, [(*matches[0][:2], matches[0][2][:40]), *matches[1:]])
    assert database.verify(threads=1) == 3
    before = {row[0]: row for row in tables_of(database.path)["two_view_geometries"]}
    made_from = database.digest()
    assert database.add_features(features, matches).pairs == 1
    assert len(tables_of(database.path)["two_view_geometries"]) == 2
    assert database.verify(threads=1) == 3
    after = {row[0]: row for row in tables_of(database.path)["two_view_geometries"]}
    assert [after[pair] == before[pair] for pair in sorted(before)] == [False, True, True]
    assert database.digest() != made_from


@needs_pycolmap
def test_features_are_written_all_or_none(views: list[RenderedView], photos: Path, tmp_path: Path) -> None:
    database = ColmapDatabase(tmp_path / "database.db", photos)
    database.add_pictures(["photo0.jpg", "photo1.jpg"])
    features, matches = true_features(views[:2])
    before = tables_of(database.path)
    with pytest.raises(ValueError, match="got 9999"):
        database.add_features(features, [*matches, ("photo1.jpg", "photo0.jpg", np.array([[0, 9999]]))])
    with pytest.raises(ColmapDatabaseError, match=r"photo1\.jpg: 400x300 .* of 200x150; extract"):
        database.add_features({**features, "photo1.jpg": features["photo1.jpg"].resized((200, 150))}, [])
    assert tables_of(database.path) == before


@needs_pycolmap
def test_any_camera_model_and_who_shares_it(views: list[RenderedView], tmp_path: Path) -> None:
    named = [replace(view, name=f"{'ab'[number % 2]}/{view.name}") for number, view in enumerate(views[:4])]
    named.append(replace(views[4], name="b/upright.jpg", picture=np.ascontiguousarray(views[4].picture[:, 50:250])))
    photos = write_photos(tmp_path / "photos", named)
    names = [view.name for view in named]
    values = tuple(range(1, 13))
    for sharing, cameras in (("per-picture", 5), ("per-folder", 3), ("single", 2)):
        database = ColmapDatabase(tmp_path / sharing / "database.db", photos)
        settings = CameraSettings(sharing, "THIN_PRISM_FISHEYE", values)
        assert database.add_pictures(names, settings) == sorted(names)
        rows = tables_of(database.path)["cameras"]
        assert sorted(row[1:4] for row in rows) == [(10, 200, 300), *[(10, 400, 300)] * (cameras - 1)]
        assert np.frombuffer(rows[0][4]).tolist() == list(values)
    with pytest.raises(ValueError, match="expected one of COLMAP's, SIMPLE_PINHOLE, PINHOLE"):
        CameraSettings(model="FISHEYE_OPENCV")
    with pytest.raises(ValueError, match="OPENCV_FISHEYE has 8, got 3"):
        CameraSettings(model="OPENCV_FISHEYE", parameters=(1, 2, 3))


@needs_pycolmap
def test_descriptors_are_kept_as_bytes_of_float32(views: list[RenderedView], photos: Path, tmp_path: Path) -> None:
    features, _ = true_features(views[:1])
    rows = np.random.default_rng(0).normal(size=(len(features["photo0.jpg"]), 64)).astype(np.float32)
    features = {"photo0.jpg": replace(features["photo0.jpg"], descriptors=rows)}
    database = ColmapDatabase(tmp_path / "database.db", photos)
    database.add_pictures(["photo0.jpg"])
    database.add_features(features, [], descriptors=True)
    *_, count, columns, content = tables_of(database.path)["descriptors"][0]
    assert (count, columns) == (len(rows), 4 * 64)
    assert np.array_equal(np.frombuffer(content, np.float32).reshape(rows.shape), rows)
    other = replace(features["photo0.jpg"], keypoints=features["photo0.jpg"].keypoints + 1)
    with pytest.raises(ColmapDatabaseError, match="descriptors of two kinds"):
        database.add_features({"photo0.jpg": other}, [], descriptors=True)


@needs_pycolmap
def test_other_files_and_other_names_are_refused(
    users_database: Path, views: list[RenderedView], photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ColmapDatabaseError, match=r"has pictures as 'photo0\.jpg', and none of those given, as 'x"):
        ColmapDatabase(users_database, photos).add_pictures(["x/photo0.jpg"])
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(ColmapDatabaseError, match="no SQLite database"):
        ColmapDatabase(tmp_path / "text.db", photos).names()
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE cameras (a)").connection.close()
    with pytest.raises(ColmapDatabaseError, match="no database of COLMAP's"):
        ColmapDatabase(tmp_path / "other.db", photos).names()
    with closing(sqlite3.connect(users_database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(ColmapDatabaseError, match="locked; close other programs"):
            ColmapDatabase(users_database, photos).add_features(true_features(views[:1])[0], [])


def test_intrinsics_move_by_the_half_pixel() -> None:
    assert pinhole_parameters([[400, 0, 199.5], [0, 410, 149.5], [0, 0, 1]]) == "400.0,410.0,200.0,150.0"
    with pytest.raises(ValueError, match="skew"):
        pinhole_parameters([[400, 3, 199.5], [0, 410, 149.5], [0, 0, 1]])
