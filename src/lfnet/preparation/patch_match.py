"""COLMAP's PatchMatch stereo, where pycolmap is built with CUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lfnet.data.reconstructions.colmap_files import read_reconstruction, write_reconstruction
from lfnet.data.reconstructions.colmap_model import Reconstruction
from lfnet.data.scenes.scene import depth_path
from lfnet.files.atomic import make_folder, write_bytes
from lfnet.images import MAX_PIXELS
from lfnet.integrations.pycolmap_process import has_pycolmap, run_pycolmap
from lfnet.masks import read_mask
from lfnet.preparation.depth import DepthSettings, write_depth
from lfnet.preparation.imported_depth import import_depth
from lfnet.preparation.steps import PreparationError, remove
from lfnet.progress import Counter

SOURCES = 20
"""Views that PatchMatch compares a view with, as many as COLMAP's own workspaces ask for."""


def uses_patch_match(settings: DepthSettings, log: Path) -> bool:
    """Whether depth is to be measured by PatchMatch.

    Raises:
        PreparationError: it is asked for, and there is no GPU, or pycolmap is missing or built without CUDA.
    """
    if settings.method == "sweep":
        return False
    has_gpu = torch.cuda.is_available()
    has_cuda = has_gpu and has_pycolmap() and bool(run_pycolmap("versions", log)["has_cuda"])
    if settings.method == "patch-match" and not has_cuda:
        raise PreparationError(
            "depth.method patch-match needs a GPU that PyTorch finds, and a pycolmap built with CUDA: pip install "
            "pycolmap-cuda12 in the place of pycolmap, or leave the method to auto"
        )
    return has_cuda


def run_patch_match(workspace: Path, model: Path, images: Path, log: Path, progress: Counter) -> int:
    """Run PatchMatch on pinhole pictures, in a workspace as COLMAP lays it out.

    Args:
        workspace: folder to make; one that was begun is begun again.
        model: of the scene.
        images: folder of its pictures.
        log: file for COLMAP's messages.
        progress: told how many maps are done.

    Returns:
        Long side of the largest picture, px.
    """
    reconstruction = read_reconstruction(model)
    names = [image.name for image in reconstruction.images.values()]
    remove(workspace)
    for kind in ("depth_maps", "normal_maps", "consistency_graphs"):
        for name in names:
            make_folder((workspace / "stereo" / kind / name).parent)
    (workspace / "images").symlink_to(images.resolve(), target_is_directory=True)
    write_reconstruction(workspace / "sparse", reconstruction)
    pairs = "".join(f"{name}\n__auto__, {SOURCES}\n" for name in names)
    write_bytes(workspace / "stereo" / "patch-match.cfg", pairs.encode())
    size = max(max(camera.size) for camera in reconstruction.cameras.values())
    run_pycolmap("patch_match", log, progress, workspace=str(workspace), size=size, total=len(names))
    return size


def import_patch_match(
    workspace: Path, reconstruction: Reconstruction, masks: Path | None, scene: Path, progress: Counter
) -> None:
    """Take the maps of a workspace into a scene; masked pixels get no depth."""
    for done, image in enumerate(reconstruction.images.values()):
        progress(done, len(reconstruction.images))
        camera = reconstruction.cameras[image.camera_id]
        path = workspace / "stereo" / "depth_maps" / f"{image.name}.geometric.bin"
        depth = import_depth(path if path.is_file() else None, camera.size, camera.intrinsics)
        mask = None if masks is None else masks / f"{image.name}.png"
        if mask is not None and mask.is_file():
            depth = np.where(read_mask(mask, MAX_PIXELS), depth, np.float32(0))
        write_depth(depth_path(scene, image.name), depth)
    progress(len(reconstruction.images), len(reconstruction.images))
