"""Which pictures are to be matched: all, those next in order, near by GPS or by pose, or most alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lfnet.data.left_out import LeftOut
from lfnet.data.reconstructions.colmap_files import find_model, read_reconstruction
from lfnet.errors import UserError, one_line
from lfnet.files.hdf5_reading import find_group, has, read_array
from lfnet.image_decoding import read_metadata
from lfnet.image_files import natural_key
from lfnet.images import ImageError
from lfnet.integrations import hloc
from lfnet.progress import Say

Pairs = list[tuple[str, str]]
"""Names of pictures, in natural order, each pair once."""

EARTH_RADIUS = 6_371_008.8
"""Mean, metres: IUGG's R1."""
LARGEST_TURN = 60.0
"""Degrees between the viewing directions of cameras that may see the same."""
CENTRES = 64
"""Of a VLAD's vocabulary: Jégou et al. 2010, section 4."""
SAMPLE = 20_000
"""Descriptors that the vocabulary is learnt from, at most."""
ROUNDS = 12
"""Of k-means; the vocabulary need not converge."""
STRONGEST = 512
"""Keypoints of a picture, best scores first, that its global descriptor takes."""
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4
"""Tags of EXIF 2.32, section 4.6.6."""


class PairingError(UserError):
    """No list of pairs can be made; the message names what was expected and the remedy."""


@dataclass(frozen=True)
class Pairing:
    """One way to choose pairs."""

    exhaustive: bool = False
    """All with all."""
    sequential: int | None = None
    """Each with so many next ones, in natural order of names."""
    gps: float | None = None
    """All within so many metres, by the GPS in their EXIF; heights don't count."""
    poses: Path | None = None
    """Folder of a COLMAP model: each with the `nearest` cameras that look the same way within `LARGEST_TURN`."""
    similar: int | None = None
    """Each with so many that are most alike as a whole."""
    listed: Path | None = None
    """A list of pairs that is there."""
    nearest: int = 20
    """Cameras that each is paired with, for `poses`."""
    descriptors: Path | None = None
    """One global descriptor for each picture, for `similar`: .npy (N, D) in natural order of names, or .h5 with
    `global_descriptor` under each name. None: they are made of local ones (`vlad`)."""

    def __post_init__(self) -> None:
        chosen = [name for name in WAYS if getattr(self, name) is not None and getattr(self, name) is not False]
        if len(chosen) != 1:
            options = ", ".join(f"--{name}" for name in WAYS if name != "listed")
            raise PairingError(f"pairs: expected one of {options}, got {len(chosen)}")
        for name in ("sequential", "gps", "similar", "nearest"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise PairingError(f"--{name}: expected a number above 0, got {value}")
        if self.descriptors is not None and self.similar is None:
            raise PairingError("global descriptors are for --similar K")


WAYS = tuple(field.name for field in fields(Pairing) if field.name not in ("nearest", "descriptors"))
"""The fields of a `Pairing` of which one is given."""


def choose_pairs(
    pairing: Pairing, photos: Path, names: Sequence[str], features: Path | None = None, say: Say = lambda line: None
) -> Pairs:
    """The pairs of a way of pairing.

    Args:
        pairing: which way.
        photos: folder of pictures.
        names: relative to it.
        features: features file of the pictures, for `similar`.
        say: told which pictures are left out.

    Raises:
        PairingError, FeatureFileError, ReconstructionError: what the way needs is missing, or there is no pair.
    """
    names = sorted(names, key=natural_key)
    if pairing.listed is not None:
        pairs = listed_pairs(pairing.listed, names)
    elif pairing.sequential is not None:
        pairs = sequential_pairs(names, pairing.sequential)
    elif pairing.gps is not None:
        pairs = gps_pairs(photos, names, pairing.gps, say)
    elif pairing.poses is not None:
        pairs = pose_pairs(pairing.poses, names, pairing.nearest)
    elif pairing.similar is not None:
        pairs = similar_pairs(_global_descriptors(pairing, names, features), names, pairing.similar)
    else:
        pairs = list(combinations(names, 2))
    if not pairs:
        raise PairingError(f"{photos}: no pairs of its {len(names)} pictures; choose more of them, or another way")
    return pairs


def listed_pairs(path: Path, names: Sequence[str]) -> Pairs:
    """The pairs of a list, all of whose names must be known."""
    pairs = hloc.read_pairs(path)
    unknown = sorted({name for pair in pairs for name in pair} - set(names))
    if unknown:
        raise PairingError(f"{path}: {len(unknown)} names are of no picture, as {unknown[0]!r}; expect {names[0]!r}")
    return pairs


def sequential_pairs(names: Sequence[str], following: int) -> Pairs:
    """Each picture with so many that follow it."""
    return [(name, other) for place, name in enumerate(names) for other in names[place + 1 : place + 1 + following]]


def gps_pairs(photos: Path, names: Sequence[str], metres: float, say: Say = lambda line: None) -> Pairs:
    """Pictures that were taken within so many metres of each other, as the GPS in their EXIF says.

    Raises:
        PairingError: many pictures have no GPS.
    """
    without = LeftOut("pictures have no GPS in their EXIF", "choose pairs another way (--similar)")
    places, located = [], []
    for name in names:
        position = gps_position(photos / name)
        if position is None:
            without.add(name)
            continue
        latitude, longitude = np.radians(position)
        level = np.cos(latitude)
        places.append((level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)))
        located.append(name)
    for note in without.notes(len(names), str(photos), PairingError):
        say(note)
    near = _distances(np.array(places).reshape(-1, 3)) * EARTH_RADIUS <= metres
    return [(located[a], located[b]) for a, b in np.argwhere(np.triu(near, 1)).tolist()]


def gps_position(path: Path) -> tuple[float, float] | None:
    """Latitude and longitude of a photo in degrees, north and east positive; None where its EXIF doesn't tell."""
    try:
        gps = read_metadata(path).gps
        found = []
        for reference, place in ((_LATITUDE_REF, _LATITUDE), (_LONGITUDE_REF, _LONGITUDE)):
            degrees, minutes, seconds = (float(part) for part in gps[place])
            sign = -1 if str(gps.get(reference, "N")).strip("\0 ").upper() in ("S", "W") else 1
            found.append(sign * (degrees + minutes / 60 + seconds / 3600))
    except (ImageError, TypeError, ValueError, KeyError, ZeroDivisionError):
        return None
    return (found[0], found[1]) if np.isfinite(found).all() else None


def pose_pairs(model: Path, names: Sequence[str], nearest: int) -> Pairs:
    """Each picture of a model with the nearest cameras that look about the same way.

    Raises:
        ReconstructionError: no model there.
        PairingError: fewer than two of the names are in it.
    """
    images = read_reconstruction(find_model(model), observations=False).images.values()
    poses = {image.name: image.camera_from_world for image in images}
    known = [name for name in names if name in poses]
    if len(known) < 2:
        example = next(iter(poses), "none")
        raise PairingError(f"{model}: has {len(known)} of the {len(names)} pictures; its names are as {example!r}")
    rotations = np.array([poses[name][:3, :3] for name in known])
    centres = np.array([-poses[name][:3, :3].T @ poses[name][:3, 3] for name in known])
    distances = _distances(centres)
    distances[rotations[:, 2] @ rotations[:, 2].T < np.cos(np.radians(LARGEST_TURN))] = np.inf
    return _best_partners(-distances, known, nearest)


def similar_pairs(descriptors: NDArray[np.floating], names: Sequence[str], count: int) -> Pairs:
    """Each picture with those whose global descriptors have the largest cosine.

    Args:
        descriptors: (N, D), a row for each name.
        names: of N pictures.
        count: partners that each picture chooses.
    """
    unit = descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-12)
    return _best_partners(unit @ unit.T, names, count)


def vlad(features: Path, names: Sequence[str], seed: int = 0) -> NDArray[np.float32]:
    """Global descriptors from local ones, by a vocabulary that is learnt from the same pictures.

    Args:
        features: features file that has all names.
        names: of N pictures.
        seed: of the vocabulary.

    Returns:
        (N, C * D), C centres and local descriptors of length D; a row of zeros for a picture without keypoints.

    Source: Jégou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010; the residuals
    of each centre normalised apart: Arandjelović and Zisserman, "All about VLAD", CVPR 2013, section 3.1.
    """
    with hloc.open_file(features) as file:
        strongest = [_vectors(hloc.read_features(file, name).top(STRONGEST).descriptors) for name in names]
    generator = np.random.default_rng(seed)
    share = max(1, SAMPLE // max(len(names), 1))
    sample = [generator.permutation(local)[:share] for local in strongest if len(local)]
    if not sample:
        raise PairingError(f"{features}: no keypoints in any of the {len(names)} pictures; choose pairs another way")
    centres = _vocabulary(np.concatenate(sample), generator)
    rows = np.zeros((len(names), *centres.shape), np.float32)
    for number, local in enumerate(strongest):
        if len(local):
            nearest = _nearest_centres(local, centres)
            np.add.at(rows[number], nearest, local - centres[nearest])
    rows /= np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12)
    return rows.reshape(len(names), -1)


def _vocabulary(sample: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    centres = generator.permutation(sample)[:CENTRES]
    for _ in range(ROUNDS):
        nearest = _nearest_centres(sample, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample)
        counts = np.bincount(nearest, minlength=len(centres))[:, None]
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres).astype(np.float32)
    return centres


def _nearest_centres(local: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    return (np.square(centres).sum(1) - 2 * local @ centres.T).argmin(1)


def _vectors(descriptors: NDArray) -> NDArray[np.float32]:
    bits = descriptors.dtype == np.uint8
    return np.asarray(np.unpackbits(descriptors, axis=1) if bits else descriptors, np.float32)


def _global_descriptors(pairing: Pairing, names: Sequence[str], features: Path | None) -> NDArray[np.floating]:
    if pairing.descriptors is None:
        if features is None:
            raise PairingError("--similar needs --features F.h5 (lfnet extract), or descriptors of yours (--global)")
        return vlad(features, names)
    if pairing.descriptors.suffix == ".npy":
        try:
            # Mapped first: an array's header may declare more than the file has.
            rows = np.array(np.load(pairing.descriptors, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError, TypeError, SyntaxError, OverflowError) as error:
            raise PairingError(f"{pairing.descriptors}: no array of NumPy's ({one_line(error)})") from error
        if rows.dtype.kind not in "iuf" or rows.ndim != 2 or len(rows) != len(names) or not np.isfinite(rows).all():
            wanted = f"({len(names)}, D) numbers, a row a picture"
            raise PairingError(f"{pairing.descriptors}: expected {wanted}, got {rows.shape}")
        return rows
    with hloc.open_file(pairing.descriptors) as file:
        rows = [_global_descriptor(file, name) for name in names]
    if len({row.shape for row in rows}) > 1 or not all(np.isfinite(row).all() for row in rows):
        raise PairingError(f"{pairing.descriptors}: expected numbers of one length in each 'global_descriptor'")
    return np.stack(rows)


def _global_descriptor(file: h5py.File, name: str) -> NDArray[np.float32]:
    group = find_group(file, name, PairingError)
    if group is None or not has(group, "global_descriptor", PairingError):
        raise PairingError(f"{file.filename}: no 'global_descriptor' of {name!r}, as hloc writes it")
    return read_array(group, "global_descriptor", PairingError).astype(np.float32).ravel()


def _distances(places: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, N) distances of (N, 3) places."""
    centred = places - places.mean(0)
    squares = np.square(centred).sum(1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0))


def _best_partners(worth: NDArray[np.floating], names: Sequence[str], count: int) -> Pairs:
    """Each picture with those of most worth to it; -inf is worth nothing."""
    np.fill_diagonal(worth, -np.inf)
    pairs: set[tuple[int, int]] = set()
    for a in range(len(names)):
        best = np.argsort(-worth[a], kind="stable")[:count]
        pairs.update((min(a, b), max(a, b)) for b in best[np.isfinite(worth[a, best])].tolist())
    return [(names[a], names[b]) for a, b in sorted(pairs)]
