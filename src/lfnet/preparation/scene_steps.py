"""The steps that scenes of every origin share: depth of the views, pairs among them, the manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfnet.data.frames import Frame
from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.data.reconstructions.colmap_model import Reconstruction
from lfnet.data.scenes.scene import depth_path, read_depth_file
from lfnet.files.atomic import held, make_folder
from lfnet.images import read_image
from lfnet.preparation.depth import Agreement, DepthMaps, DepthSettings, measure_agreement
from lfnet.preparation.manifest import MANIFEST, missing_files, plain, says_already, write_manifest
from lfnet.preparation.pairs import PairSettings, make_pair_table, write_pair_table
from lfnet.preparation.patch_match import import_patch_match, run_patch_match, uses_patch_match
from lfnet.preparation.steps import LOG, RECORD, WORK, Record, Step, remove, run_steps
from lfnet.progress import Counter, Progress, Say


class SceneMaker(ABC):
    """What a scene in the making knows of itself.

    Args:
        scene: its folder.
        depth: how depth is measured where it is.
        pairs: which pairs it gets.
        threads: that the depth maps may take.
    """

    def __init__(
        self, scene: Path, depth: DepthSettings, pairs: PairSettings, threads: int, progress: Progress, say: Say
    ) -> None:
        self.scene = scene
        self.work = scene / WORK
        self.images = scene / "images"
        self.model = scene / "model"
        self.depth = scene / "depth"
        self.masks = self.work / "scene_masks"
        self.say = say
        self.record: Record
        make_folder(self.work)
        self._depth_settings = depth
        self._pair_settings = pairs
        self._threads = threads
        self._progress = progress

    @property
    def picture_outputs(self) -> tuple[Path, ...]:
        """What the step that makes pictures and model leaves."""
        return self.images, self.model

    def counter(self, step: str) -> Counter:
        """Progress of one step."""
        return partial(self._progress, step)

    def make(self) -> dict[str, Any]:
        """Do what isn't done yet, while no other process works on the scene, and say what came out.

        Returns:
            The numbers of the manifest.
        """
        with held(self.scene / MANIFEST):
            self.record = Record(self.scene)
            remove_leftovers(self.scene)
            return self._make()

    @abstractmethod
    def _make(self) -> dict[str, Any]:
        """Run the steps and finish."""

    def run(self, steps: Sequence[Step]) -> None:
        """Do the steps that aren't done."""
        manifest = self.scene / MANIFEST
        missing = missing_files(self.scene)
        done = run_steps(self.scene, steps, self.record, self.say, lambda: remove(manifest), missing)
        if not done and manifest.exists():
            self.say(f"{self.scene} is finished already, with these settings; nothing is done again")

    def depth_steps(self, *needs: str) -> list[Step]:
        """COLMAP's PatchMatch where it can be used, else a plane sweep and what is confirmed of it."""
        settings = plain(self._depth_settings)
        if uses_patch_match(self._depth_settings, self.work):
            workspace = self.work / "patch_match"
            return [
                Step("patch-match", {}, (workspace,), lambda: self._patch_match(workspace), needs),
                Step("depth", {}, (self.depth,), lambda: self._import_patch_match(workspace), ("patch-match", *needs)),
            ]
        raw = self.work / "sweep"
        swept = {name: settings[name] for name in ("quality", "neighbours", "sweep", "refinement")}
        kept = {name: settings[name] for name in ("confirmers", "min_score", "consistency")}
        return [
            Step("sweep", swept, (raw,), lambda: self._sweep(raw), needs),
            Step("depth", kept, (self.depth,), lambda: self._confirm(raw), ("sweep", *needs)),
        ]

    def pair_step(self, *needs: str) -> Step:
        """The table of pairs."""
        return Step("pairs", plain(self._pair_settings), (self.scene / "pairs.h5",), self._make_pairs, needs)

    def _maps(self, raw: Path) -> DepthMaps:
        masks = self.masks if self.masks.is_dir() else None
        return DepthMaps(
            read_reconstruction(self.model), self.images, masks, raw, self.scene, self._depth_settings, self._threads
        )

    def _sweep(self, raw: Path) -> dict[str, Any]:
        make_folder(raw)
        return {"maps": self._maps(raw).sweep(self.counter("sweep"))}

    def _confirm(self, raw: Path) -> dict[str, Any]:
        make_folder(self.depth)
        self._maps(raw).confirm(self.counter("depth"))
        agreement = self.agreement()
        return asdict(agreement)

    def _patch_match(self, workspace: Path) -> dict[str, Any]:
        size = run_patch_match(workspace, self.model, self.images, self.work, self.counter("patch-match"))
        return {"size": size}

    def _import_patch_match(self, workspace: Path) -> dict[str, Any]:
        masks = self.masks if self.masks.is_dir() else None
        import_patch_match(workspace, read_reconstruction(self.model), masks, self.scene, self.counter("depth"))
        return asdict(self.agreement())

    def agreement(self) -> Agreement:
        """The scene's own depth maps against its sparse points."""
        model = read_reconstruction(self.model)
        return measure_agreement(model, lambda number: self._own_depth(model, number))

    def _own_depth(self, model: Reconstruction, number: int) -> NDArray[np.float32]:
        image = model.images[number]
        return read_depth_file(depth_path(self.scene, image.name), model.cameras[image.camera_id].size)

    def _make_pairs(self) -> dict[str, Any]:
        model = read_reconstruction(self.model)
        return self.write_pairs(own_frames(self.scene, model), model)

    def write_pairs(self, frames: Sequence[Frame], model: Reconstruction) -> dict[str, Any]:
        """Measure and write the pairs of frames, in the order of the model's pictures.

        Candidates come from the sparse points where the model has any, else from the depth maps.
        """
        ids = list(model.images)
        observed = [image.point_ids for image in model.images.values()]
        sparse = observed if any(len(each) for each in observed) else None

        def progress(step: str, done: int, total: int) -> None:
            self._progress(f"pairs: {step}", done, total)

        table, report = make_pair_table(frames, ids, self._pair_settings, sparse, progress)
        write_pair_table(self.scene / "pairs.h5", table)
        for line in report.lines():
            self.say(line)
        return report.as_dict()

    def measured(self) -> dict[str, Any]:
        """Numbers of depth and pairs for the manifest."""
        numbers: dict[str, Any] = {"pairs": self.record.result("pairs")}
        if self.record.knows("depth"):
            numbers["depth"] = self.record.result("depth")
        return numbers

    def finish(
        self,
        layout: str,
        source: Path,
        *,
        own_pictures: bool,
        own_depth: bool,
        licence: str,
        settings: Mapping[str, Any],
        numbers: dict[str, Any],
    ) -> dict[str, Any]:
        """Write the manifest unless it says all this already, and clear away what only the making needed.

        Returns:
            The numbers.
        """
        if not says_already(self.scene, licence, settings):
            write_manifest(
                self.scene,
                layout,
                source,
                own_pictures=own_pictures,
                own_depth=own_depth,
                licence=licence,
                settings=settings,
                numbers=numbers,
                record=self.record,
            )
        for path in self.work.iterdir():
            if path.name not in KEPT:
                remove(path)
        return numbers


KEPT = (RECORD, LOG, "models", "scene_masks")
"""What stays in the folder of work once a scene is finished, since it is small; a change of settings makes anew what
else it needs."""


def own_frames(scene: Path, model: Reconstruction) -> list[Frame]:
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


def remove_leftovers(scene: Path) -> None:
    """Delete what processes that were killed were writing: files that had no name of their own yet."""
    for path in scene.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def replace_folder(source: Path, target: Path) -> None:
    """Put a folder in the place of another."""
    remove(target)
    if source.is_dir():
        source.rename(target)
