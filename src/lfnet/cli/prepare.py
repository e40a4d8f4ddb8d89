"""`lfnet prepare`: scenes for training from photos, recordings with depth, or COLMAP models."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from lfnet.cli.options import Threads
from lfnet.preparation.from_colmap_model import ModelSettings
from lfnet.preparation.from_photos import PhotoSettings
from lfnet.preparation.from_recording import RecordingSettings
from lfnet.progress import Progress, Say


@dataclass(frozen=True)
class PhotosCommand:
    """A folder of photos: structure from motion, depth, pairs (extra `sfm`)."""

    photos: tyro.conf.Positional[Path]
    """Folder of photos, searched to any depth."""
    scene: tyro.conf.Positional[Path]
    """Folder of the scene; it is made, or gone on with."""
    machine: Annotated[Threads, tyro.conf.arg(name="")] = field(default_factory=Threads)
    how: Annotated[PhotoSettings, tyro.conf.arg(name="")] = field(default_factory=PhotoSettings)

    def make(self, threads: int, progress: Progress, say: Say) -> dict[str, Any]:
        """Prepare the scene."""
        from lfnet.preparation.from_photos import prepare_photos

        return prepare_photos(self.photos, self.scene, self.how, threads, progress, say)


@dataclass(frozen=True)
class RgbdCommand:
    """A recording with depth and poses (ScanNet, TUM RGB-D, 7-Scenes, MegaDepth and others): by reference, pairs."""

    recording: tyro.conf.Positional[Path]
    """Folder of the recording, or a `.sens` file."""
    scene: tyro.conf.Positional[Path]
    """Folder of the scene; it is made, or gone on with."""
    machine: Annotated[Threads, tyro.conf.arg(name="")] = field(default_factory=Threads)
    how: Annotated[RecordingSettings, tyro.conf.arg(name="")] = field(default_factory=RecordingSettings)

    def make(self, threads: int, progress: Progress, say: Say) -> dict[str, Any]:
        """Prepare the scene."""
        from lfnet.preparation.from_recording import prepare_recording

        return prepare_recording(self.recording, self.scene, self.how, progress, say)


@dataclass(frozen=True)
class ColmapCommand:
    """A COLMAP model, text or binary, with its depth maps (COLMAP, HDF5, OpenMVS) if they are there."""

    model: tyro.conf.Positional[Path]
    """Folder of the model, or of a workspace with `sparse`, `images` and perhaps `stereo`."""
    scene: tyro.conf.Positional[Path]
    """Folder of the scene; it is made, or gone on with."""
    machine: Annotated[Threads, tyro.conf.arg(name="")] = field(default_factory=Threads)
    how: Annotated[ModelSettings, tyro.conf.arg(name="")] = field(default_factory=ModelSettings)

    def make(self, threads: int, progress: Progress, say: Say) -> dict[str, Any]:
        """Prepare the scene."""
        from lfnet.preparation.from_colmap_model import prepare_model

        return prepare_model(self.model, self.scene, self.how, threads, progress, say)


@dataclass(frozen=True)
class CheckCommand:
    """A prepared scene: counts, checksums, agreement of depth, matches reprojected, pictures to look at."""

    scene: tyro.conf.Positional[Path]
    """Folder of the scene."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the pictures and the report; `check` in the scene unless given."""
    machine: Annotated[Threads, tyro.conf.arg(name="")] = field(default_factory=Threads)
    pairs: int = 60
    """Validation pairs, or training pairs where nothing is held back, that matches are reprojected in."""


@dataclass(frozen=True)
class Command:
    """Make scenes to train on, without labels: from photos, from recordings with depth, or from COLMAP models.

    A command that was killed resumes when you run it again, and ends with the same scene.
    """

    task: Annotated[
        Annotated[PhotosCommand, tyro.conf.subcommand("photos", prefix_name=False)]
        | Annotated[RgbdCommand, tyro.conf.subcommand("rgbd", prefix_name=False)]
        | Annotated[ColmapCommand, tyro.conf.subcommand("colmap", prefix_name=False)]
        | Annotated[CheckCommand, tyro.conf.subcommand("check", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]
    """What there is."""


def run(command: Command) -> int:
    """Make a scene, or check one."""
    task = command.task
    threads = task.machine.apply()
    if isinstance(task, CheckCommand):
        return _check(task)
    with bars() as (progress, say):
        numbers = task.make(threads, progress, say)
    for line in summary(numbers):
        print(line)
    print(f"scene: {task.scene}; look at it by: lfnet prepare check {shlex.quote(str(task.scene))}")
    return 0


@contextmanager
def bars() -> Iterator[tuple[Progress, Say]]:
    """A progress bar for each step, and lines said above it; on no terminal, a line a step."""
    shown = _Bars()
    try:
        yield shown.progress, shown.say
    finally:
        shown.close()


class _Bars:
    def __init__(self) -> None:
        self._step = ""
        self._bar: Any = None

    def progress(self, step: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if step != self._step:
            self.close()
            self._step = step
            self._bar = tqdm(total=total, desc=step, initial=done, dynamic_ncols=True, disable=None)
            if self._bar.disable:
                self.say(f"{step}: {total - done} of {total} to do")
        elif self._bar.disable:
            return
        elif done < self._bar.n:  # Begun again, as mapping is from another first pair.
            self._bar.reset(total)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._step = None, ""


def summary(numbers: dict[str, Any]) -> list[str]:
    """What came out, a line each."""
    lines = []
    if "photos" in numbers:
        lines.append(
            f"registered {numbers['registered']} of {numbers['photos']} photos; {numbers['points']} points, "
            f"reprojection error {numbers['reprojection_error']:.2f} px, {numbers['track_length']:.1f} pictures a point"
        )
    else:
        lines.append(f"{numbers['registered']} pictures")
    depth = numbers.get("depth")
    if depth is not None and not depth["points"]:
        lines.append(f"depth: {depth['completeness']:.0%} of all pixels; no sparse point to hold it against")
    elif depth is not None:
        lines.append(
            f"depth: {depth['completeness']:.0%} of all pixels; at {depth['points']} sparse points off by "
            f"{depth['median_error']:.2%} (median), {depth['within_1_percent']:.1%} within 1 %, "
            f"{depth['within_5_percent']:.1%} within 5 %"
        )
    pairs = numbers["pairs"]
    lines.append(f"pairs: {pairs['training_pairs']} for training, {pairs['validation_pairs']} for validation")
    return lines


def _check(command: CheckCommand) -> int:
    from lfnet.preparation.check import check_scene
    from lfnet.reports.scene_check import write_scene_report

    with bars() as (progress, _):
        report = check_scene(command.scene, command.pairs, progress)
        output = command.output or command.scene / "check"
        pages = write_scene_report(command.scene, report, output, progress)
    for line in report.lines():
        print(line)
    print(f"pictures: {', '.join(str(page) for page in pages)}")
    return 0 if report.is_sound else 1
