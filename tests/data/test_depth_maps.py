"""Depth maps of COLMAP and OpenMVS."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.coordinates import resize_matrix
from lfnet.data.depth_maps import read_depth_map, read_depth_png
from lfnet.data.frames import SequenceError
from lfnet.preparation.imported_depth import find_depth_maps
from support.made_recordings import INTRINSICS, SIZE, colmap_depth, render, world_from_camera
from support.pictures import png_header


def openmvs_depth(
    depth: NDArray[np.float64], magic: bytes, kind: int = 1 | 2, exponent: int = 0, name: str = "00001.jpg"
) -> bytes:
    """OpenMVS's `HeaderDepthDataRaw`, for a picture twice as large as its depth map."""
    height, width = depth.shape
    content = magic + struct.pack("<Bb", kind, exponent) + struct.pack("<4I", 2 * width, 2 * height, width, height)
    content += struct.pack("<2f", depth.min(), depth.max()) + (struct.pack("<f", 1.0) if magic == b"D2" else b"")
    content += struct.pack("<H", len(name)) + name.encode() + struct.pack("<I3I", 3, 1, 0, 2)
    larger = resize_matrix((width, height), (2 * width, 2 * height)) @ INTRINSICS
    content += struct.pack("<9d9d3d", *larger.ravel(), *np.eye(3).ravel(), 0, 0, 0)
    values = depth.astype("<f4") if magic == b"DR" else (depth / 2**exponent).astype("<f2")
    return content + values.tobytes() + bytes(12 * depth.size if kind & 2 else 0)


def test_depth_maps_of_colmap_and_openmvs(tmp_path: Path) -> None:
    depth = render(world_from_camera(1), INTRINSICS, SIZE)[1]
    depth[:3] = 0
    (tmp_path / "a.geometric.bin").write_bytes(colmap_depth(depth))
    read, intrinsics = read_depth_map(tmp_path / "a.geometric.bin")
    assert intrinsics is None
    np.testing.assert_array_equal(read, depth.astype(np.float32))
    for magic, exponent, tolerance in ((b"DR", 0, 1e-7), (b"D2", 1, 5e-4)):
        (tmp_path / "a.dmap").write_bytes(openmvs_depth(depth, magic, exponent=exponent))
        read, intrinsics = read_depth_map(tmp_path / "a.dmap")
        np.testing.assert_allclose(read, depth, rtol=tolerance)
        np.testing.assert_allclose(intrinsics, INTRINSICS)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["depth"] = [[1.0, -1.0], [np.nan, np.inf]]
    np.testing.assert_array_equal(read_depth_map(tmp_path / "a.h5")[0], [[1.0, 0.0], [0.0, 0.0]])


def test_depth_maps_are_found_by_name_or_by_header(tmp_path: Path) -> None:
    """OpenMVS numbers its maps; their header names the picture. A name that two folders share is not guessed at."""
    (tmp_path / "depth0007.dmap").write_bytes(openmvs_depth(np.ones((5, 4)), b"DR", name="images/left.jpg"))
    (tmp_path / "same.h5").write_bytes(b"")
    names = ["left.jpg", "a/same.jpg", "b/same.jpg", "without.jpg"]
    assert find_depth_maps(tmp_path, names) == {"left.jpg": tmp_path / "depth0007.dmap"}
    assert find_depth_maps(tmp_path, ["a/same.jpg"]) == {"a/same.jpg": tmp_path / "same.h5"}
    assert find_depth_maps(tmp_path / "missing", names) == {}


def test_errors_of_depth_maps(tmp_path: Path) -> None:
    depth = np.ones((5, 4))
    for name, content, message in (
        ("a.bin", colmap_depth(depth)[:-1], "cut short: 4x5 pixels take 86 bytes, the file has 85"),
        ("a.bin", b"4&5&3&" + bytes(240), "one channel, got 3; is it a normal map"),
        ("a.bin", b"", "begins with 'width&height&1&'"),
        ("a.bin", b"DR" + bytes(80), "begins with 'width&height&1&'"),
        ("a.dmap", openmvs_depth(depth, b"DR", kind=1)[:-1], "cut short: 4x5"),
        ("a.dmap", openmvs_depth(depth, b"DR")[:40], "cut short in its header"),
        ("a.dmap", b"", "cut short in its header"),
        ("a.dmap", openmvs_depth(depth, b"XX"), "begins with DR or D2"),
        ("a.dmap", openmvs_depth(depth, b"DR", kind=2), "begins with DR or D2"),
        ("a.exr", b"", r"ending in \.h5, \.bin, \.dmap"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SequenceError, match=message):
            read_depth_map(tmp_path / name)
    with pytest.raises(SequenceError, match="No such file"):
        read_depth_map(tmp_path / "missing.bin")


def test_a_depth_map_that_declares_gigabytes_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(png_header(40_000, 50_000))
    with pytest.raises(SequenceError, match=r"0\.png: declares 40000x50000 pixels"):
        read_depth_png(path, 1e-3)
    path.write_bytes(b"no picture")
    with pytest.raises(SequenceError, match=r"0\.png: expected a 16-bit depth map .*not a picture"):
        read_depth_png(path, 1e-3)
