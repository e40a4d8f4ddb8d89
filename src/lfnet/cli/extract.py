"""`lfnet extract`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from lfnet.cli.options import Model, check_masks, check_output, tell_extraction, tell_passed_over
from lfnet.clips import count_frames, is_clip
from lfnet.errors import UsageError
from lfnet.file_extraction import (
    ExtractionReport,
    FileSettings,
    extract_files,
    extract_frames,
    find_named,
    joined,
    name_images,
)
from lfnet.images import ImageError
from lfnet.settings import require_at_least


@dataclass(frozen=True)
class Command:
    """Extract features of pictures into one HDF5 file in hloc's layout.

    An interrupted run resumes when you run it again. Keypoints are in pixels of the image
    as stored (its EXIF orientation not applied), as hloc and COLMAP expect.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATHS")]
    """Pictures, clips (such as .mp4), and folders that are searched for pictures to any depth."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Features file to make or to continue."""
    root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that names in the file are relative to; otherwise each folder given is its own root."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Pictures at once; 1 on a CPU and 8 on a GPU unless given."""
    every: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Of a clip, take every N-th frame, 10 unless given. Frames are named as clip.mp4/000120."""
    overwrite: bool = False
    """Start again where the file exists."""
    model: Annotated[Model, tyro.conf.arg(name="")] = field(default_factory=Model)
    how: Annotated[FileSettings, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = field(
        default_factory=FileSettings
    )

    def __post_init__(self) -> None:
        require_at_least(self, "", {"batch_size": 1, "every": 1})


def run(command: Command) -> int:
    """Extract, and tell what came out: 0, or 1 where pictures failed."""
    from tqdm import tqdm

    if not command.paths:
        raise UsageError("no pictures given: name files or folders")
    clips = [path for path in command.paths if is_clip(path) and not path.is_dir()]
    if command.every is not None and not clips:
        raise UsageError("--every: is for clips, and none is given")
    check_masks(command.how.masks)
    pictures = [path for path in command.paths if path not in clips]
    images, passed_over = find_named(pictures, command.root)
    tell_passed_over(passed_over)
    named = {name: path for clip in clips for name, path in name_images([clip], command.root).items()}
    if len(named) < len(set(clips)):
        raise UsageError("two clips have the same name: give --root, a folder above both")
    check_output(command.output, [*images.values(), *clips])
    model = command.model.load()
    batch_size = command.batch_size or (8 if next(model.parameters()).is_cuda else 1)
    every = command.every or 10
    frames = sum(-(-_frames(clip) // every) for clip in clips)
    with tqdm(total=len(images) + frames, unit="picture", disable=None, file=sys.stderr) as bar:
        shared: dict[str, Any] = {"weights": command.model.identity(), "batch_size": batch_size, "progress": bar.update}
        reports = []
        if images:
            show = lambda done, count: bar.set_postfix_str(f"tile {done} of {count}")  # noqa: E731
            reports.append(
                extract_files(
                    model, images, command.output, command.how, overwrite=command.overwrite, look=show, **shared
                )
            )
        for name, clip in named.items():
            again = command.overwrite and not reports
            reports.append(
                extract_frames(
                    model, clip, command.output, command.how, every=every, name=name, overwrite=again, **shared
                )
            )
    return _tell(joined(reports), command.output)


def _frames(clip: Path) -> int:
    """Of a clip, for the bar alone; one that can't be read is told when it is its turn."""
    try:
        return count_frames(clip)
    except ImageError:
        return 0


def _tell(report: ExtractionReport, output: Path) -> int:
    before = f", {report.skipped} were there already" if report.skipped else ""
    print(f"{output}: {report.written} pictures with {report.keypoints} keypoints added{before}")
    return tell_extraction(report, "pictures")
