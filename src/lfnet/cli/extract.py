"""`lfnet extract`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lfnet.files.checksum import checksum

if TYPE_CHECKING:
    from lfnet.file_extraction import ExtractionReport, FileSettings


def extract(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATHS")],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    weights: str = "lfnet-cpu",
    max_keypoints: int = 1024,
    min_score: float = 0.0,
    min_distance: float = 0.0,
    resize: int = 1600,
    masks: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    half: bool = False,
    upright: bool = False,
    single_scale: bool = False,
    root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    max_megapixels: float = 100.0,
    device: str = "auto",
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    overwrite: bool = False,
) -> int:
    """Extract features of pictures into one HDF5 file in hloc's layout.

    An interrupted run resumes when you run it again. Keypoints are in pixels of the image
    as stored (its EXIF orientation not applied), as hloc and COLMAP expect.

    Args:
        paths: Pictures, and folders that are searched for pictures to any depth.
        output: Features file to make or to continue.
        weights: Name of packaged weights, or a safetensors file.
        max_keypoints: Most keypoints of a picture.
        min_score: Leave out keypoints of a lower score, in [0, 1].
        min_distance: Leave out keypoints nearer than this to a better one, in pixels of the size worked at.
        resize: Long side that larger pictures are worked at, in pixels; 0 works at full size.
        masks: Folder of masks (zero: no keypoints here), named as the picture, or so with .png added or
            instead.
        half: Store descriptors and scores in 16 bits.
        upright: Keep every orientation at 0, for pictures that are never turned.
        single_scale: Keep every scale at that of its octave, for pictures taken from like distances.
        root: Folder that names in the file are relative to; otherwise each folder given is its own root.
        max_megapixels: Largest picture that is decoded.
        device: auto, cpu, cuda or cuda:N.
        batch_size: Pictures at once; 1 on a CPU and 8 on a GPU unless given.
        threads: CPU threads; all unless given.
        overwrite: Start again where the file exists.
    """
    from tqdm import tqdm

    from lfnet.cli.options import (
        UsageError,
        check_output,
        keypoint_limits,
        load_model,
        long_side,
        pick_device,
        pixel_limit,
    )
    from lfnet.file_extraction import FileSettings, extract_files, name_images
    from lfnet.models.config import ExtractionSettings
    from lfnet.models.weights import resolve_weights

    if not paths:
        raise UsageError("no pictures given: name files or folders")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {batch_size}")
    keypoint_limits(max_keypoints, min_score, min_distance)
    if masks is not None and not masks.is_dir():
        raise ValueError(f"--masks {masks}: no such folder")
    images = name_images(paths, root)
    check_output(output, images.values())
    target = pick_device(device, threads)
    model = load_model(weights, target)
    settings = FileSettings(
        ExtractionSettings(
            max_keypoints, min_score, upright=upright, single_scale=single_scale, min_distance=min_distance
        ),
        resize=long_side(resize),
        half=half,
        masks=masks,
        max_pixels=pixel_limit(max_megapixels),
    )
    size = batch_size if batch_size is not None else 8 if target.type == "cuda" else 1
    with tqdm(total=len(images), unit="picture", disable=None, file=sys.stderr) as bar:
        report = extract_files(
            model,
            images,
            output,
            settings,
            weights=_identity(resolve_weights(weights)),
            batch_size=size,
            overwrite=overwrite,
            progress=bar.update,
        )
    return _tell(report, output, settings)


def _identity(weights: Path) -> str:
    """Name and content of a weights file, by which a features file knows whether it may be continued."""
    return f"{weights.stem} {checksum(weights)[:16]}"


def _tell(report: ExtractionReport, output: Path, settings: FileSettings) -> int:
    before = f", {report.skipped} were there already" if report.skipped else ""
    print(f"{output}: {report.written} pictures with {report.keypoints} keypoints added{before}")
    if report.without_keypoints:
        print(f"No keypoints in {len(report.without_keypoints)} pictures:")
        for name, cause in report.without_keypoints:
            print(f"  {name}: {cause}")
    if not report.failures:
        return 0
    print(f"lfnet: error: {len(report.failures)} pictures failed, all others are done:", file=sys.stderr)
    for _, message in report.failures:
        print(f"  {message}", file=sys.stderr)
    return 1
