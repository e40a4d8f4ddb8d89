"""hloc's HDF5 files: a group of arrays for each picture, and one for each pair.

A features file holds, under the picture's name (subfolders kept, as groups in groups):

    keypoints (N, 2), descriptors (D, N), scores (N,), image_size (2,)       hloc's own
    scales (N,), oris (N,) in degrees                                        as hloc's AdaLAM reads them
    orientations (N,) in radians, sigmas (N,) if known                       added by this package

Keypoints are in pixels of the raw frame, that is, of the picture as stored with its EXIF orientation **not**
applied, and the centre of the top-left pixel is (0, 0): hloc adds COLMAP's half pixel itself when it imports
them. A matches file holds, under `names_to_pair(a, b)`: matches0 (Na,), the index in b or -1, and
matching_scores0 (Na,).

Source: github.com/cvg/Hierarchical-Localization, hloc/extract_features.py, match_features.py and utils/io.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lfnet.errors import UserError, one_line
from lfnet.features import Features, Matches
from lfnet.files.atomic import write_bytes
from lfnet.files.hdf5_reading import DAMAGE, find_group, has, open_hdf5, read_array, write_text
from lfnet.files.reading import read_text_file

FRAME = "raw"
"""Value of the file's attribute `frame`: the picture as stored, its EXIF orientation not applied."""
NEEDED = ("keypoints", "descriptors", "image_size")
"""Data sets without which a picture's features are of no use."""
OPTIONAL = ("scores", "scales", "orientations", "oris", "sigmas")
"""Those that some programs leave out."""


class FeatureFileError(UserError):
    """An HDF5 file that can't be used: the message is one line with the file, the cause and the remedy."""


@contextmanager
def open_file(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Args:
        path: features or matches.

    Yields:
        The open file.

    Raises:
        FeatureFileError: the file is missing, is no HDF5, or is locked by a process that writes it.
        OSError: the system refuses it, for want of permission or of open files.
    """
    with open_hdf5(path, FeatureFileError, "make it with 'lfnet extract' or 'lfnet match'") as file:
        yield file


def describe_frame(file: h5py.File) -> None:
    """Say in the file which frame and pixel convention its keypoints have.

    Args:
        file: features, open for writing.
    """
    write_text(file, "frame", FRAME)
    write_text(file, "frame_note", "pixels of the picture as stored: EXIF orientation not applied")
    file.attrs["pixel_centre"] = 0.0
    write_text(file, "pixel_note", "the centre of the top-left pixel is (0, 0); COLMAP's is (0.5, 0.5), add a half")


def write_features(
    file: h5py.File, name: str, features: Features, *, half: bool = False, uncertainty: float = 1.0
) -> None:
    """Add the features of one picture.

    Args:
        file: open for writing.
        name: of the picture, relative to the folder of pictures, with forward slashes.
        features: in pixels of the raw picture.
        half: store descriptors and scores in 16 bits; positions stay in 32, since 16 bits step by a whole
            pixel beyond 1024.
        uncertainty: of a position, in pixels, which hloc keeps beside the keypoints.

    Raises:
        FeatureFileError: HDF5 would store it under another name, as it does `./a` and `a//b`.
        ValueError: the name is taken.
    """
    if name != clean_name(name):
        raise FeatureFileError(f"{name!r}: no name of a picture in HDF5; name it {clean_name(name)!r}")
    floating = np.float16 if half else np.float32
    descriptors = features.descriptors if features.is_binary else features.descriptors.astype(floating)
    group = file.create_group(name)
    group.create_dataset("keypoints", data=features.keypoints).attrs["uncertainty"] = uncertainty
    group.create_dataset("descriptors", data=np.ascontiguousarray(descriptors.T))
    group.create_dataset("scores", data=features.scores.astype(floating))
    group.create_dataset("scales", data=features.scales)
    group.create_dataset("orientations", data=features.orientations)
    group.create_dataset("oris", data=np.degrees(features.orientations))
    if features.sigmas is not None:
        group.create_dataset("sigmas", data=features.sigmas)
    group.create_dataset("image_size", data=np.array(features.image_size, np.int64))


def read_features(source: str | Path | h5py.File, name: str) -> Features:
    """The features of one picture.

    Args:
        source: a features file, its path or open; those of hloc's other extractors do too, and get scale 1,
            orientation 0 or score 0 where they have none. Without orientations, `oris` in degrees are taken.
        name: of the picture in it.

    Returns:
        Features in pixels of the raw picture.

    Raises:
        FeatureFileError: the file can't be read, or has no such picture.
    """
    if not isinstance(source, h5py.File):
        with open_file(source) as file:
            return read_features(file, name)
    group = find_group(source, name, FeatureFileError)
    if group is None or not any(_has(group, key) for key in (*NEEDED, "scores")):
        other = clean_name(name)
        spelt = f"; is {other!r} meant?" if other != name and find_group(source, other, FeatureFileError) else ""
        raise FeatureFileError(
            f"{source.filename}: no features of picture {name!r}{spelt}; see 'lfnet info --names' for what there is"
        )
    missing = [key for key in NEEDED if not _has(group, key)]
    if missing:
        raise FeatureFileError(
            f"{source.filename}: picture {name!r} has no {' and no '.join(missing)}; write features as hloc does"
        )
    arrays = {key: _array(group, key) for key in NEEDED}
    arrays |= {key: _array(group, key) for key in OPTIONAL if _has(group, key)}
    try:
        return _features_of(arrays)
    except (TypeError, ValueError, OverflowError) as error:
        raise FeatureFileError(f"{source.filename}: features of picture {name!r} can't be used: {error}") from error


def _has(group: h5py.Group, key: str) -> bool:
    return has(group, key, FeatureFileError)


def _array(group: h5py.Group, key: str) -> np.ndarray:
    return read_array(group, key, FeatureFileError, "write features and matches as hloc does, or make the file again")


def _features_of(arrays: dict[str, np.ndarray]) -> Features:
    keypoints, descriptors = arrays["keypoints"], arrays["descriptors"]
    keypoints = keypoints.reshape(-1, 2) if keypoints.size == 0 else keypoints
    count = len(keypoints) if keypoints.ndim else -1
    if descriptors.ndim != 2 or descriptors.shape[1] != count:
        raise FeatureFileError(f"descriptors must have shape (D, {count}), got {descriptors.shape}")
    if keypoints.ndim != 2:
        raise FeatureFileError(f"keypoints must have shape (N, 2), got {keypoints.shape}")
    if arrays["image_size"].size != 2:
        raise FeatureFileError(f"image_size must be (width, height), got {arrays['image_size'].tolist()}")
    width, height = arrays["image_size"].ravel().tolist()
    return Features(
        # Some programs keep more of a keypoint beside its place.
        keypoints[:, :2],
        arrays.get("scales", np.ones(count)),
        arrays.get("orientations", np.radians(arrays.get("oris", np.zeros(count)))),
        arrays.get("scores", np.zeros(count)),
        np.ascontiguousarray(descriptors.T),
        (int(width), int(height)),
        arrays.get("sigmas"),
    )


def clean_name(name: str) -> str:
    """A picture's name as HDF5 keeps it: without `.`, double slashes and slashes at its ends."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def has_features(file: h5py.File, name: str) -> bool:
    """Whether a file has features under this very name: a folder, or a data set, is none."""
    group = find_group(file, name, FeatureFileError)
    return group is not None and _has(group, "keypoints")


def count_keypoints(file: h5py.File, name: str) -> int:
    """Keypoints of a picture, of which only the header is read.

    Raises:
        FeatureFileError: there is no such picture.
    """
    group = find_group(file, name, FeatureFileError)
    if group is None or not _has(group, "keypoints"):
        raise FeatureFileError(f"{file.filename}: no data set {name + '/keypoints'!r}; make the file again")
    keypoints = group["keypoints"]
    return int(keypoints.shape[0]) if isinstance(keypoints, h5py.Dataset) and keypoints.shape else 0


def list_names(file: h5py.File) -> list[str]:
    """The names of all pictures (or pairs) in a file.

    Args:
        file: open features or matches.

    Returns:
        Names with their subfolders, in the file's order.
    """
    names: dict[str, None] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "/" in name:
            names[name.rpartition("/")[0]] = None

    try:
        file.visititems(visit)
    except DAMAGE as error:
        raise FeatureFileError(f"{file.filename}: damaged ({one_line(error)}); make it again") from error
    return list(names)


def names_to_pair(name_a: str, name_b: str) -> str:
    """hloc's name for a pair: slashes within names become dashes, one slash stands between.

    Args:
        name_a: of the first picture.
        name_b: of the second picture.

    Returns:
        The name of the group in a matches file.

    Source: hloc/utils/parsers.py.
    """
    return f"{name_a.replace('/', '-')}/{name_b.replace('/', '-')}"


def write_matches(file: h5py.File, name_a: str, name_b: str, matches: Matches, count_a: int) -> None:
    """Add the matches of one pair.

    Args:
        file: open for writing.
        name_a: of the first picture.
        name_b: of the second picture.
        matches: at most one for each feature of a.
        count_a: number of features of a.

    Raises:
        FeatureFileError: another pair has the same name once slashes are dashes.
    """
    partner = np.full(count_a, -1, np.int32)
    scores = np.zeros(count_a, np.float32)
    partner[matches.indices[:, 0]] = matches.indices[:, 1]
    scores[matches.indices[:, 0]] = matches.scores
    pair = names_to_pair(name_a, name_b)
    if pair in file:
        raise FeatureFileError(
            f"{pair}: two pairs have this name in hloc's layout; rename a picture or its folder"
        )
    group = file.create_group(pair)
    group.create_dataset("matches0", data=partner)
    group.create_dataset("matching_scores0", data=scores)


def read_matches(source: str | Path | h5py.File, name_a: str, name_b: str) -> Matches:
    """The matches of one pair, whichever way round the file has it.

    Args:
        source: a matches file, its path or open.
        name_a: of the picture that the first column shall index.
        name_b: of the other.

    Returns:
        Matches from a to b.

    Raises:
        FeatureFileError: the file can't be read, or has no such pair.
    """
    if not isinstance(source, h5py.File):
        with open_file(source) as file:
            return read_matches(file, name_a, name_b)
    for pair, reverse in _places(name_a, name_b):
        group = find_group(source, pair, FeatureFileError)
        if group is not None and _has(group, "matches0"):
            return _matches_of(group, reverse)
    raise FeatureFileError(
        f"{source.filename}: no pair of {name_a!r} and {name_b!r}; check the list of pairs"
    )


def _places(name_a: str, name_b: str) -> Iterator[tuple[str, bool]]:
    """Where a pair may be, and whether it is turned round there: hloc's name of today, and that of its first release.

    Source: hloc/utils/io.py, find_pair.
    """
    for pair in (names_to_pair, lambda a, b: names_to_pair(a, b).replace("/", "_")):
        yield pair(name_a, name_b), False
        yield pair(name_b, name_a), True


def _matches_of(group: h5py.Group, reverse: bool) -> Matches:
    """Those of a pair; without scores, which some programs leave out, each has score 1."""
    partner = _array(group, "matches0")
    scored = _has(group, "matching_scores0")
    scores = _array(group, "matching_scores0") if scored else np.ones(partner.shape, np.float32)
    place = f"{group.file.filename}: pair {str(group.name).strip('/')!r}"
    if partner.ndim != 1 or partner.dtype.kind not in "iu":
        raise FeatureFileError(f"{place}: matches0 must be integers of shape (N,), got {partner.dtype} {partner.shape}")
    if scores.shape != partner.shape:
        raise FeatureFileError(f"{place}: matching_scores0 must have shape {partner.shape}, got {scores.shape}")
    partner = partner.astype(np.int64)
    index = np.flatnonzero(partner >= 0)
    columns = [partner[index], index] if reverse else [index, partner[index]]
    try:
        return Matches(np.stack(columns, axis=1), scores[index])
    except UserError as error:
        raise FeatureFileError(f"{place}: {error}") from error


def read_pairs(path: str | Path, *, both_ways: bool = False) -> list[tuple[str, str]]:
    """A list of pairs as hloc writes it: two names on a line; the same pair turned round counts once.

    Args:
        path: text file; empty lines and lines that start with # are passed over. Names with spaces stand between
            double quotes, or have a tab between them.
        both_ways: the same pair turned round is another pair, as where the second names are of another file.

    Returns:
        Pairs in the file's order.

    Raises:
        FeatureFileError: the file is missing, or a line doesn't hold two names.
    """
    text = read_text_file(path, FeatureFileError, "a list of pairs")
    pairs: dict[tuple[str, str], None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = _names_on(line)
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            expected = "expected two names of pictures, those with spaces in double quotes or with a tab between"
            raise FeatureFileError(f"{path}: line {number} has {len(words)} words, {expected}")
        if both_ways or (words[1], words[0]) not in pairs:
            pairs[words[0], words[1]] = None
    return list(pairs)


def _names_on(line: str) -> list[str]:
    if "\t" in line.strip():
        return [word.strip().strip('"') for word in line.split("\t") if word.strip()]
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]


def register(package: str = "hloc") -> None:
    """Make LF-Net one of hloc's extractors; it then runs as it is, `extract_features.main(confs["lfnet"], ...)`.

    Args:
        package: the name hloc is imported by; a program may bring a copy along, as `imcui.hloc`.

    Raises:
        UserError: there is no such package.
    """
    from lfnet.integrations import hloc_extractor

    hloc_extractor.register(package)


def write_pairs(path: str | Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Write a list of pairs, whole or not at all: apart by a space, or by a tab where a name has blanks.

    Args:
        path: text file.
        pairs: two names each.

    Raises:
        FeatureFileError: a name with a tab, a quote or a line break, or that starts with #.
        OSError: it can't be written.
    """
    lines = []
    for pair in pairs:
        strange = [name for name in pair if {"\t", '"'} & set(name) or name[:1] == "#" or len(name.splitlines()) != 1]
        if strange:
            raise FeatureFileError(f"{path}: a list of pairs can't hold the name {strange[0]!r}; rename the picture")
        apart = " " if all(len(name.split()) == 1 for name in pair) else "\t"
        lines.append(apart.join(pair) + "\n")
    write_bytes(path, "".join(lines).encode())
