"""The steps that scenes of every origin share: depth of the views, and the pairs among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from lfnet.data.frames import Frame
from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.data.reconstructions.colmap_model import Reconstruction
from lfnet.data.scenes.scene import depth_path, read_depth_file
from lfnet.files.atomic import make_folder
from lfnet.images import read_image
from lfnet.preparation.depth import DepthMaps, DepthSettings
from lfnet.preparation.depth_agreement import measure_agreement
from lfnet.preparation.manifest import plain
from lfnet.preparation.pairs import PairSettings, make_pair_table, write_pair_table
from lfnet.preparation.patch_match import import_patch_match, run_patch_match, uses_patch_match
from lfnet.preparation.scene_folder import SceneFolder
from lfnet.preparation.steps import Step


def depth_steps(folder: SceneFolder, settings: DepthSettings, threads: int, *needs: str) -> list[Step]:
    """COLMAP's PatchMatch where it can be used, else a plane sweep and what is confirmed of it."""
    if uses_patch_match(settings, folder.log):
        return _patch_match_steps(folder, *needs)
    raw = folder.work / "sweep"

    def maps() -> DepthMaps:
        model = read_reconstruction(folder.model)
        return DepthMaps(model, folder.images, folder.masks, raw, folder.scene, settings, threads)

    def sweep() -> dict[str, Any]:
        make_folder(raw)
        return {"maps": maps().sweep(folder.counter("sweep"))}

    def confirm() -> dict[str, Any]:
        make_folder(folder.depth)
        maps().confirm(folder.counter("depth"))
        return depth_against_points(folder)

    values = plain(settings)
    swept = {name: values[name] for name in ("quality", "neighbours", "sweep", "refinement")}
    kept = {name: values[name] for name in ("confirmers", "min_score", "consistency")}
    return [
        Step("sweep", swept, (raw,), sweep, needs),
        Step("depth", kept, (folder.depth,), confirm, ("sweep", *needs)),
    ]


def _patch_match_steps(folder: SceneFolder, *needs: str) -> list[Step]:
    workspace = folder.work / "patch_match"

    def measure() -> dict[str, Any]:
        counter = folder.counter("patch-match")
        return {"size": run_patch_match(workspace, folder.model, folder.images, folder.log, counter)}

    def take() -> dict[str, Any]:
        model = read_reconstruction(folder.model)
        import_patch_match(workspace, model, folder.masks, folder.scene, folder.counter("depth"))
        return depth_against_points(folder)

    return [
        Step("patch-match", {}, (workspace,), measure, needs),
        Step("depth", {}, (folder.depth,), take, ("patch-match", *needs)),
    ]


def depth_against_points(folder: SceneFolder) -> dict[str, Any]:
    """How the scene's own depth maps agree with its sparse points."""
    model = read_reconstruction(folder.model)
    frames = dict(zip(model.images, _own_frames(folder.scene, model), strict=True))
    return asdict(measure_agreement(model, lambda number: read_depth_of(frames[number])))


def read_depth_of(frame: Frame) -> Any:
    """Depth map of a frame; None where it has none."""
    return None if frame.read_depth is None else frame.read_depth()


def pair_step(
    folder: SceneFolder, settings: PairSettings, needs: str, frames: Sequence[Frame] | None = None
) -> Step:
    """The table of pairs: of frames in the order of the model's pictures, or of the scene's own pictures and depth.

    Candidates come from the sparse points where the model has any, else from the depth maps.
    """

    def write() -> dict[str, Any]:
        model = read_reconstruction(folder.model)
        observed = [image.point_ids for image in model.images.values()]
        table, report = make_pair_table(
            _own_frames(folder.scene, model) if frames is None else frames,
            list(model.images),
            settings,
            observed if any(map(len, observed)) else None,
            lambda step, done, total: folder.progress(f"pairs: {step}", done, total),
        )
        write_pair_table(folder.pairs, table)
        for line in report.lines():
            folder.say(line)
        return asdict(report)

    return Step("pairs", plain(settings), (folder.pairs,), write, (needs,))


def _own_frames(scene: Path, model: Reconstruction) -> list[Frame]:
    """Frames of a scene that keeps its own pictures and depth maps, before it has a manifest."""
    frames = []
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        frames.append(
            Frame(
                name=image.name,
                size=camera.size,
                intrinsics=camera.intrinsics,
                camera_from_world=image.camera_from_world,
                read_image=partial(read_image, scene / "images" / image.name),
                read_depth=partial(read_depth_file, depth_path(scene, image.name), camera.size),
            )
        )
    return frames
