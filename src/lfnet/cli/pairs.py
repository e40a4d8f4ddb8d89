"""`lfnet pairs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lfnet.cli.options import check_output, tell_passed_over
from lfnet.errors import UsageError, UserError
from lfnet.file_extraction import find_named
from lfnet.file_pairs import Pairing, PairingError, choose_pairs
from lfnet.integrations.hloc import FeatureFileError, read_pairs, write_pairs


@dataclass(frozen=True)
class Command:
    """List the pairs of pictures that are to be matched, as `lfnet match --pairs`, hloc and COLMAP read them."""

    photos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTOS")]
    """Folder of pictures, searched to any depth; names in the list are relative to it."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """Text file, two names a line."""
    exhaustive: bool = False
    """All with all."""
    sequential: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Each with the next N in natural order of names (2 before 10)."""
    gps: Annotated[float | None, tyro.conf.arg(metavar="METRES")] = None
    """All that were taken within so many metres, by the GPS in their EXIF."""
    poses: Annotated[Path | None, tyro.conf.arg(metavar="MODEL")] = None
    """Each with the nearest cameras of a COLMAP model that look about the same way."""
    similar: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """Each with the K most alike, by global descriptors."""
    nearest: int = 20
    """Cameras that each picture is paired with, for --poses."""
    features: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Features file whose local descriptors make the global ones (VLAD), for --similar."""
    descriptors: Annotated[Path | None, tyro.conf.arg(name="global", metavar="FILE")] = None
    """Global descriptors of yours, for --similar: .npy with a row a picture in natural order of names, or .h5 with
    `global_descriptor` under each name, as hloc writes it."""


def run(command: Command) -> int:
    """Write the list, and tell how long it is."""
    ways = (command.exhaustive, command.sequential, command.gps, command.poses, command.similar)
    try:
        pairing = Pairing(*ways, nearest=command.nearest, descriptors=command.descriptors)
    except PairingError as error:
        raise UsageError(str(error)) from error
    if command.features is not None and (command.similar is None or command.descriptors is not None):
        raise UsageError("--features are for --similar without --global: leave them out")
    if not command.photos.is_dir():
        raise UserError(f"{command.photos}: expected a folder of photos, and there is none of that name")
    images, passed_over = find_named(command.photos)
    tell_passed_over(passed_over)
    check_output(command.output, images.values())
    _check_replaceable(command.output)
    chosen = choose_pairs(
        pairing, command.photos, list(images), command.features, lambda line: tell_passed_over([line])
    )
    write_pairs(command.output, chosen)
    most = len(images) * (len(images) - 1) // 2
    print(f"{command.output}: {len(chosen)} of the {most} pairs of {len(images)} pictures")
    return 0


def _check_replaceable(output: Path) -> None:
    """Only a list of pairs is written over."""
    if not output.exists():
        return
    try:
        read_pairs(output)
    except FeatureFileError as error:
        cause = "is there and no list of pairs, so it is not overwritten; name another file"
        raise UserError(f"{output}: {cause}") from error
