"""`lfnet match`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lfnet.cli.options import Model, Threads, check_output
from lfnet.errors import UsageError, UserError
from lfnet.file_extraction import PictureSettings
from lfnet.file_matching import MatchSettings, PictureMatch, match_feature_file, match_pictures
from lfnet.files.hdf5_reading import is_hdf5


@dataclass(frozen=True)
class Command:
    """Match two pictures, or the pairs of a list on one features file or two.

    lfnet match A.jpg B.jpg -o matches.png draws what two pictures have in common, each turned upright by its
    EXIF orientation. lfnet match features.h5 --pairs pairs.txt -o matches.h5 writes hloc's matches0 and
    matching_scores0. lfnet match query.h5 reference.h5 --pairs pairs.txt -o matches.h5 takes the second picture of
    each pair from the second file. Matches are mutual nearest neighbours.
    """

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="A B | FEATURES [REFERENCE]")]
    """Two pictures; or one features file, or two."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None
    """Picture of the matches (two pictures; optional), or matches file (features files)."""
    pairs: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Text file with two names of pictures a line, for features files; names with spaces in double quotes, or a tab
    between."""
    how: Annotated[MatchSettings, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = field(
        default_factory=MatchSettings
    )
    model: Annotated[Model, tyro.conf.arg(name="")] = field(default_factory=Model)
    pictures: Annotated[PictureSettings, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = field(
        default_factory=PictureSettings
    )


def run(command: Command) -> int:
    """Match, and tell what was found."""
    of_geometry = command.how.threshold, command.how.intrinsics
    if command.how.geometry is None and of_geometry != (MatchSettings.threshold, None):
        raise UsageError("--threshold and --intrinsics are of a geometry: give --geometry too, or leave them out")
    if command.how.geometry not in (None, "essential") and command.how.intrinsics is not None:
        raise UsageError(f"--intrinsics are for --geometry essential; leave them out for {command.how.geometry}")
    files = [path for path in command.inputs if is_hdf5(path)]
    if len(command.inputs) == 1 or (len(files) == 2 and command.pairs is not None):
        return _match_files(command)
    if len(command.inputs) != 2 or (command.pairs is not None and not files):
        raise UsageError("expected two pictures, or one or two features files with --pairs")
    if files:
        raise UsageError(
            f"{files[0]}: is a features file, not a picture; give it alone or with another, --pairs and -o"
        )
    return _match_pictures(command)


def _match_pictures(command: Command) -> int:
    output = command.output
    if output is not None:
        check_output(output, command.inputs)
        _check_drawing(output)
    first, second = command.inputs
    result = match_pictures(command.model.load(), first, second, command.pictures, command.how)
    for path, features in zip(command.inputs, (result.features_a, result.features_b), strict=True):
        note = "" if len(features) else " (blank, or too small)"
        print(f"{path}: {len(features)} keypoints{note}")
    print(f"{len(result.mutual)} mutual nearest neighbours")
    if command.how.filter:
        print(f"{len(result.agreeing)} of them agree with the matches around them")
    if geometry := command.how.geometry:
        name = geometry if geometry == "homography" else f"{geometry} matrix"
        print(f"{len(result.matches)} of them agree with one {name} within {command.how.threshold:g} px")
    if output is not None:
        _draw(result, output)
        print(f"Drawn in {output}")
    return 0


def _match_files(command: Command) -> int:
    from tqdm import tqdm

    from lfnet.integrations.hloc import read_pairs

    pairs, output, threads = command.pairs, command.output, command.model.threads
    features, reference = command.inputs[0], command.inputs[1] if len(command.inputs) == 2 else None
    if pairs is None or output is None:
        raise UsageError("a features file needs --pairs pairs.txt and -o matches.h5")
    if command.model != Model(threads) or command.pictures != PictureSettings():
        raise UsageError(
            "a features file is matched as it is: --weights, --device and options of extraction are for two pictures"
        )
    check_output(output, (*command.inputs, pairs))
    if output.exists() and not is_hdf5(output):
        raise UserError(f"{output}: not an HDF5 file, so it is not overwritten; name another file")
    listed = read_pairs(pairs, both_ways=reference is not None)
    if not listed:
        raise UserError(f"{pairs}: no pairs in it; expected two names of pictures a line")
    Threads(threads).apply()
    with tqdm(total=len(listed), unit="pair", disable=None, file=sys.stderr) as bar:
        total = match_feature_file(features, listed, output, command.how, reference=reference, progress=bar.update)
    print(f"{output}: {total} matches in {len(listed)} pairs")
    return 0


def _check_drawing(output: Path) -> None:
    import cv2

    if not (output.suffix and cv2.haveImageWriter(str(output))):
        raise UsageError(f"{output}: not a kind of picture that can be written; end the name in .png or .jpg")
    if output.exists() and not cv2.haveImageReader(str(output)):
        raise UserError(f"{output}: not a picture, so it is not overwritten; name another file")


def _draw(result: PictureMatch, output: Path) -> None:
    import cv2

    from lfnet.files.atomic import write_bytes
    from lfnet.reports.drawing import draw_matches

    drawing = draw_matches(result.image_a, result.image_b, result.features_a, result.features_b, result.matches)
    encoded, content = cv2.imencode(output.suffix, cv2.cvtColor(drawing, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise UserError(f"{output}: the drawing can't be stored in this kind of picture; try .png")
    write_bytes(output, content.tobytes())
