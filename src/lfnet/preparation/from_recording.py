"""From recordings with depth and poses to a scene, by reference: no picture and no depth map is copied."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lfnet.data.frames import Frame, FrameSet
from lfnet.data.layouts import read_frames
from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.preparation.depth import DepthSettings
from lfnet.preparation.manifest import check_target, plain
from lfnet.preparation.pairs import PairSettings
from lfnet.preparation.scene_steps import SceneMaker
from lfnet.preparation.steps import PreparationError, Step, describe_tree, remove
from lfnet.progress import Progress, Say
from lfnet.settings import ConfigError


@dataclass(frozen=True)
class RecordingSettings:
    """How a recording becomes a scene."""

    layout: str | None = None
    """Name of the layout; found out by what the folder holds unless given."""
    every: int = 1
    """Every how many-th frame is taken: at 30 frames a second neighbours are nearly the same picture."""
    frames: tuple[int, int] | None = None
    """First frame and the one past the last, before `every`; None takes all."""
    pairs: PairSettings = field(default_factory=PairSettings)
    licence: str = "not stated"
    """Of the recording, noted in the manifest."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every: expected at least 1, got {self.every}")
        if self.frames is not None and not 0 <= self.frames[0] < self.frames[1]:
            raise ConfigError(f"frames: expected first and one past the last, ascending, got {self.frames}")


def prepare_recording(
    folder: Path, scene: Path, settings: RecordingSettings, progress: Progress, say: Say
) -> dict[str, Any]:
    """Make a scene of a recording in any layout of `lfnet.data.layouts`, or resume one.

    Args:
        folder: of the recording, or a `.sens` file.
        scene: folder to make.
        settings: which frames and pairs.
        progress: told how far each step is.
        say: told what a person should know.

    Returns:
        The numbers of the manifest.

    Raises:
        SequenceError, PreparationError, PairError, OSError: with the remedy in a line.
    """
    check_target(scene, folder)
    recording = read_frames(folder, settings.layout)
    return _Recording(recording, scene, settings, progress, say).make()


class _Recording(SceneMaker):
    """The steps of a scene by reference."""

    def __init__(
        self,
        recording: FrameSet,
        scene: Path,
        settings: RecordingSettings,
        progress: Progress,
        say: Say,
    ) -> None:
        super().__init__(scene, DepthSettings(), settings.pairs, 1, progress, say)
        self._recording = recording
        self._settings = settings

    def _make(self) -> dict[str, Any]:
        for note in self._recording.notes:
            self.say(note)
        frames = {"every": self._settings.every, "frames": self._settings.frames, "inputs": self._inputs()}
        self.run([Step("cameras", plain(frames), (self.model,), self._write_model), self.pair_step("cameras")])
        return self.finish(
            self._recording.layout,
            self._recording.folder,
            own_pictures=False,
            own_depth=False,
            licence=self._settings.licence,
            settings=plain(self._settings),
            numbers={
                "frames": len(self._recording.frames),
                "registered": len(self._frames),
                "notes": self._recording.notes,
                **self.measured(),
            },
        )

    @cached_property
    def _frames(self) -> list[Frame]:
        """Those asked for that have depth."""
        asked = self._recording.frames[slice(*(self._settings.frames or (None,)))]
        chosen = [frame for frame in asked[:: self._settings.every] if frame.read_depth is not None]
        if len(chosen) < 2:
            raise PreparationError(
                f"{self._recording.folder}: {len(chosen)} of {len(self._recording.frames)} frames are left that have "
                "depth; expected at least 2: take more with --frames and --every"
            )
        return chosen

    def _inputs(self) -> list[Any]:
        """What cameras and pairs depend on: names, sizes, intrinsics and poses as read, and the depth maps."""
        import hashlib

        digest = hashlib.sha256()
        for frame in self._frames:
            digest.update(f"{frame.name}{frame.size}{frame.distortion}".encode())
            digest.update(frame.intrinsics.tobytes() + frame.camera_from_world.tobytes())
        inputs = [self._recording.layout, str(self._recording.folder.resolve()), digest.hexdigest()[:16]]
        root = self._recording.depth_root
        if root is not None:
            maps = sorted(path.name for path in root.iterdir() if path.is_file())
            inputs.append(describe_tree(root, maps))
        return inputs

    @cached_property
    def _reconstruction(self) -> Reconstruction:
        cameras: dict[int, Camera] = {}
        known: dict[tuple[Any, ...], int] = {}
        images = {}
        for number, frame in enumerate(self._frames, start=1):
            key = (frame.size, frame.distortion, frame.intrinsics.tobytes())
            if key not in known:
                known[key] = len(known) + 1
                cameras[known[key]] = Camera.pinhole(known[key], frame.size, frame.intrinsics, frame.distortion)
            images[number] = RegisteredImage(
                number, frame.name, known[key], frame.camera_from_world, np.zeros((0, 2)), np.zeros(0, np.int64)
            )
        return Reconstruction(cameras, images, Points.empty())

    def _write_model(self) -> dict[str, Any]:
        write_reconstruction(self.model, self._reconstruction)
        for link, target in ((self.images, self._recording.image_root), (self.depth, self._recording.depth_root)):
            if target is not None:
                link_folder(target, link)
        return {"cameras": len(self._reconstruction.cameras)}

    def _make_pairs(self) -> dict[str, Any]:
        return self.write_pairs(self._frames, self._reconstruction)


def link_folder(target: Path, link: Path) -> bool:
    """Lay a symbolic link to a folder, for tools that look for pictures beside a model; False where links can't be."""
    remove(link)
    try:
        link.symlink_to(target.resolve(), target_is_directory=True)
    except OSError:
        return False
    return True
