"""MegaDepth and the matching benchmark's scenes, written as they are unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.coordinates import Size, resize_matrix
from lfnet.data.frames import SequenceError
from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from support.made_recordings import (
    INTRINSICS,
    SIZE,
    assert_on_the_plane,
    colmap_depth,
    depths,
    read_frames,
    render,
    world_from_camera,
    write_text_model,
)


def write_binary_model(folder: Path, names: Sequence[str], scale: float = 1.0) -> None:
    images = {}
    for index, name in enumerate(names):
        pose = np.linalg.inv(world_from_camera(index))
        pose[:3, 3] *= scale
        images[index + 1] = RegisteredImage(index + 1, name, 1, pose, np.zeros((0, 2)), np.zeros(0, np.int64))
    camera = Camera.pinhole(1, SIZE, INTRINSICS)
    write_reconstruction(folder, Reconstruction({1: camera}, images, Points.empty()))


def write_h5_depth(path: Path, depth: NDArray[np.float64], unknown: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = depth.astype(np.float32)
    stored[2:6, 3:9] = unknown
    with h5py.File(path, "w") as file:
        file["depth"] = stored


NAMES = [f"{number}_{number:x}_o.jpg" for number in (2001, 300, 4171, 52)]


def write_pictures(folder: Path, size: Size = SIZE, quality: int = 95) -> None:
    folder.mkdir(parents=True)
    for index, name in enumerate(NAMES):
        intrinsics = resize_matrix(SIZE, size) @ INTRINSICS
        grey = render(world_from_camera(index), intrinsics, size)[0]
        Image.fromarray(grey).save(folder / name, quality=quality)


def test_megadepth_in_one_folder(tmp_path: Path) -> None:
    """Depth of -1 is unknown; depth maps may be smaller, as pictures may."""
    write_text_model(tmp_path / "sparse", NAMES)
    write_pictures(tmp_path / "imgs", (72, 54))
    for index, name in enumerate(NAMES):
        size = (60, 45)
        depth = render(world_from_camera(index), resize_matrix(SIZE, size) @ INTRINSICS, size)[1]
        write_h5_depth(tmp_path / "depths" / name.replace(".jpg", ".h5"), depth, unknown=-1)
    found = read_frames(tmp_path)
    assert found.layout == "megadepth"
    assert [frame.name for frame in found.frames] == [NAMES[3], NAMES[1], NAMES[0], NAMES[2]]
    assert found.frames[0].size == (72, 54)
    assert_on_the_plane(found.frames, off=0.003)

    (tmp_path / "imgs" / NAMES[0]).unlink()
    (tmp_path / "depths" / NAMES[1].replace(".jpg", ".h5")).unlink()
    found = read_frames(tmp_path)
    assert found.notes == ["1 of 4 pictures of the model are not there", "1 of 3 pictures have no depth map"]
    assert [frame.read_depth is None for frame in found.frames] == [False, True, False]


@pytest.mark.parametrize("place", ["phoenix/S6/zl548/MegaDepth_v1/0015/dense0/depths", "depth_undistorted/0015"])
def test_megadepth_as_its_archives_unpack(place: str, tmp_path: Path) -> None:
    """Undistorted_SfM/SCENE with pictures and model, depth where the archive puts it; the unit is the model's."""
    scene = tmp_path / "Undistorted_SfM" / "0015"
    write_binary_model(scene / "sparse", NAMES, scale=3.7)
    write_pictures(scene / "images")
    for index, name in enumerate(NAMES):
        depth = render(world_from_camera(index), INTRINSICS, SIZE)[1]
        write_h5_depth(tmp_path / place / name.replace(".jpg", ".h5"), 3.7 * depth)
    found = read_frames(scene)
    assert found.layout == "megadepth"
    assert_on_the_plane(found.frames, step=1 / 3.7)


def test_errors_of_megadepth(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images")
    depth = render(world_from_camera(3), INTRINSICS, SIZE)[1]
    path = tmp_path / "depths" / NAMES[3].replace(".jpg", ".h5")
    write_h5_depth(path, depth)
    with pytest.raises(SequenceError, match=r"expected a COLMAP model.*sparse.*Undistorted_SfM"):
        read_frames(tmp_path)
    write_text_model(tmp_path / "sparse" / "0", NAMES, "OPENCV", " 0.1 0 0 0")
    with pytest.raises(SequenceError, match=r"camera 7 \(OPENCV\) distorts.*image_undistorter"):
        read_frames(tmp_path)
    (tmp_path / "sparse" / "0").rename(tmp_path / "elsewhere")
    write_text_model(tmp_path / "sparse" / "0", NAMES)
    frame = read_frames(tmp_path).frames[0]
    write_h5_depth(path, depth[:, :60])
    with pytest.raises(SequenceError, match="60x72 pixels are of another shape than its picture, 96x72"):
        depths(frame)
    with h5py.File(path, "w") as file:
        file["disparity"] = depth
    with pytest.raises(SequenceError, match=r"expected the dataset 'depth', got \['disparity'\]"):
        depths(frame)
    path.write_bytes(b"not HDF5")
    with pytest.raises(SequenceError, match="not an HDF5 file, or damaged"):
        depths(frame)
    Image.fromarray(np.zeros((96, 72), np.uint8)).save(tmp_path / "images" / NAMES[0])
    with pytest.raises(SequenceError, match=f"{NAMES[0]}: 72x96 pixels are of another shape than the model's camera"):
        read_frames(tmp_path)
    for name in NAMES:
        (tmp_path / "images" / name).unlink()
    with pytest.raises(SequenceError, match="none of the 4 pictures of its model"):
        read_frames(tmp_path)


def test_training_scenes_of_the_matching_benchmark(tmp_path: Path) -> None:
    dense = tmp_path / "brandenburg_gate" / "dense"
    write_binary_model(dense / "sparse", NAMES)
    write_pictures(dense / "images")
    (dense / "stereo" / "depth_maps").mkdir(parents=True)
    for index, name in enumerate(NAMES):
        depth = render(world_from_camera(index), INTRINSICS, SIZE)[1]
        depth[2:6, 3:9] = 0
        (dense / "stereo" / "depth_maps" / f"{name}.geometric.bin").write_bytes(colmap_depth(depth))
    for folder in (dense, dense.parent):
        found = read_frames(folder)
        assert found.layout == "image-matching-benchmark"
        assert found.image_root == dense / "images"
        assert_on_the_plane(found.frames)


def test_validation_scenes_of_the_matching_benchmark(tmp_path: Path) -> None:
    folder = tmp_path / "sacre_coeur" / "set_100"
    write_pictures(folder / "images")
    (folder / "calibration").mkdir()
    for index, name in enumerate(NAMES):
        stem = name.removesuffix(".jpg")
        pose = np.linalg.inv(world_from_camera(index))
        with h5py.File(folder / "calibration" / f"calibration_{stem}.h5", "w") as file:
            file["K"] = INTRINSICS + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
            file["R"], file["T"] = pose[:3, :3], pose[:3, 3]
        write_h5_depth(folder / "depth_maps" / f"{stem}.h5", render(world_from_camera(index), INTRINSICS, SIZE)[1])
    found = read_frames(folder.parent)
    assert found.layout == "image-matching-benchmark"
    assert_on_the_plane(found.frames, off=1e-4)
    (folder / "calibration" / f"calibration_{stem}.h5").unlink()
    assert read_frames(folder).notes == ["1 of 4 pictures have no calibration"]
    with h5py.File(folder / "calibration" / "calibration_2001_7d1_o.h5", "a") as file:
        file["R"][...] = 2 * np.eye(3)
    with pytest.raises(SequenceError, match=r"calibration_2001_7d1_o\.h5: .*no rotation"):
        read_frames(folder)


def test_one_broken_picture_of_a_collection_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "images")
    depth = render(world_from_camera(3), INTRINSICS, SIZE)[1]
    write_h5_depth(tmp_path / "depths" / NAMES[3].replace(".jpg", ".h5"), depth)
    write_text_model(tmp_path / "sparse" / "0", NAMES)
    (tmp_path / "images" / NAMES[0]).write_bytes(b"no picture")
    with pytest.raises(SequenceError, match=r"1 of 4 frames can't be used .*more than 20% are not left out"):
        read_frames(tmp_path)
    monkeypatch.setattr("lfnet.data.left_out.MOST_LEFT_OUT", 0.3)
    frames = read_frames(tmp_path)
    assert len(frames.frames) == 3
    assert any(f"1 of 4 frames can't be used ({NAMES[0]})" in note for note in frames.notes)
