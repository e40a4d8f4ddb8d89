"""From recordings with depth and poses to a scene, by reference: no picture and no depth map is copied."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lfnet.data.frames import Frame, FrameSet
from lfnet.data.layouts import read_frames
from lfnet.data.reconstructions.colmap_files import write_reconstruction
from lfnet.data.reconstructions.colmap_model import Camera, Points, Reconstruction, RegisteredImage
from lfnet.preparation.manifest import Origin, plain
from lfnet.preparation.pairs import PairSettings
from lfnet.preparation.scene_folder import SceneFolder, link_folder, scene_to_make
from lfnet.preparation.shared_steps import pair_step
from lfnet.preparation.steps import PreparationError, Step, describe_files
from lfnet.preparation.target import check_target
from lfnet.progress import Progress, Say
from lfnet.settings import ConfigError, require_at_least


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
        require_at_least(self, "recording", {"every": 1})
        if self.frames is not None and not 0 <= self.frames[0] < self.frames[1]:
            raise ConfigError(f"frames: expected first and one past the last, ascending, got {self.frames}")


def prepare_recording(
    recording_folder: Path, scene: Path, settings: RecordingSettings, progress: Progress, say: Say
) -> dict[str, Any]:
    """Make a scene of a recording in any layout of `lfnet.data.layouts`, or resume one.

    Args:
        recording_folder: of the recording, or a `.sens` file.
        scene: folder to make.
        settings: which frames and pairs.
        progress: told how far each step is.
        say: told what a person should know.

    Returns:
        The numbers of the manifest.

    Raises:
        SequenceError, PreparationError, PairError, OSError: with the remedy in a line.
    """
    check_target(scene, recording_folder)
    recording = read_frames(recording_folder, settings.layout)
    with scene_to_make(scene, progress, say) as folder:
        for note in recording.notes:
            say(note)
        frames = _chosen(recording, settings)
        asked = {"every": settings.every, "frames": settings.frames, "inputs": _inputs(recording, frames)}

        def write_cameras() -> dict[str, Any]:
            return _write_cameras(folder, recording, frames)

        folder.run(
            [
                Step("cameras", plain(asked), (folder.model,), write_cameras),
                pair_step(folder, settings.pairs, "cameras", frames),
            ]
        )
        numbers = {"frames": len(recording.frames), "registered": len(frames), "notes": recording.notes}
        origin = Origin(recording.layout, recording.folder, False, False, settings.licence, plain(settings))
        return folder.finish(origin, numbers)


def _chosen(recording: FrameSet, settings: RecordingSettings) -> list[Frame]:
    """The frames asked for that have depth."""
    asked = recording.frames[slice(*(settings.frames or (None,)))]
    chosen = [frame for frame in asked[:: settings.every] if frame.read_depth is not None]
    if len(chosen) < 2:
        raise PreparationError(
            f"{recording.folder}: {len(chosen)} of {len(recording.frames)} frames are left that have depth; expected "
            "at least 2: take more with --frames and --every"
        )
    return chosen


def _inputs(recording: FrameSet, frames: Sequence[Frame]) -> list[str]:
    """What cameras and pairs depend on: names, sizes, intrinsics and poses as read, and the depth maps."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(f"{frame.name}{frame.size}{frame.distortion}".encode())
        digest.update(frame.intrinsics.tobytes() + frame.camera_from_world.tobytes())
    inputs = [recording.layout, str(recording.folder.resolve()), digest.hexdigest()[:16]]
    root = recording.depth_root
    if root is not None:
        inputs.append(describe_files(root, sorted(path.name for path in root.iterdir() if path.is_file())))
    return inputs


def _write_cameras(folder: SceneFolder, recording: FrameSet, frames: Sequence[Frame]) -> dict[str, Any]:
    cameras: dict[tuple[Any, ...], Camera] = {}
    images = {}
    for number, frame in enumerate(frames, start=1):
        key = (frame.size, frame.distortion, frame.intrinsics.tobytes())
        if key not in cameras:
            cameras[key] = Camera.pinhole(len(cameras) + 1, frame.size, frame.intrinsics, frame.distortion)
        nothing = np.zeros((0, 2)), np.zeros(0, np.int64)
        pose, camera_id = frame.camera_from_world, cameras[key].camera_id
        images[number] = RegisteredImage(number, frame.name, camera_id, pose, *nothing)
    by_id = {camera.camera_id: camera for camera in cameras.values()}
    write_reconstruction(folder.model, Reconstruction(by_id, images, Points.empty()))
    for link, target in ((folder.images, recording.image_root), (folder.depth, recording.depth_root)):
        if target is not None:
            link_folder(target, link)
    return {"cameras": len(cameras)}
