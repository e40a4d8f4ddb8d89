"""`lfnet extract`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lfnet.cli.options import Model, check_masks, check_output, tell_extraction
from lfnet.errors import UsageError
from lfnet.file_extraction import ExtractionReport, FileSettings, extract_files, name_images
from lfnet.settings import require_at_least


@dataclass(frozen=True)
class Command:
    """Extract features of pictures into one HDF5 file in hloc's layout.

    An interrupted run resumes when you run it again. Keypoints are in pixels of the image
    as stored (its EXIF orientation not applied), as hloc and COLMAP expect.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATHS")]
    """Pictures, and folders that are searched for pictures to any depth."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Features file to make or to continue."""
    root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that names in the file are relative to; otherwise each folder given is its own root."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Pictures at once; 1 on a CPU and 8 on a GPU unless given."""
    overwrite: bool = False
    """Start again where the file exists."""
    model: Annotated[Model, tyro.conf.arg(name="")] = field(default_factory=Model)
    how: Annotated[FileSettings, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = field(
        default_factory=FileSettings
    )

    def __post_init__(self) -> None:
        require_at_least(self, "", {"batch_size": 1})


def run(command: Command) -> int:
    """Extract, and tell what came out: 0, or 1 where pictures failed."""
    from tqdm import tqdm

    if not command.paths:
        raise UsageError("no pictures given: name files or folders")
    check_masks(command.how.masks)
    images = name_images(command.paths, command.root)
    check_output(command.output, images.values())
    model = command.model.load()
    with tqdm(total=len(images), unit="picture", disable=None, file=sys.stderr) as bar:
        report = extract_files(
            model,
            images,
            command.output,
            command.how,
            weights=command.model.identity(),
            batch_size=command.batch_size or (8 if next(model.parameters()).is_cuda else 1),
            overwrite=command.overwrite,
            progress=bar.update,
            look=lambda done, count: bar.set_postfix_str(f"tile {done} of {count}"),
        )
    return _tell(report, command.output)


def _tell(report: ExtractionReport, output: Path) -> int:
    before = f", {report.skipped} were there already" if report.skipped else ""
    print(f"{output}: {report.written} pictures with {report.keypoints} keypoints added{before}")
    return tell_extraction(report, "pictures")
