"""Matching from files: two pictures, or the pairs of a list on a features file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lfnet.feature_store import FeatureStore
from lfnet.features import Features, Matches
from lfnet.file_extraction import PictureSettings
from lfnet.files.atomic import held
from lfnet.files.hdf5 import replacing_hdf5
from lfnet.files.hdf5_reading import read_text, read_texts, write_text
from lfnet.images import read_image, shrink
from lfnet.integrations import hloc
from lfnet.matching import Geometry, mutual_nearest_neighbours, verify
from lfnet.settings import ConfigError, require_above, require_at_least, require_within
from lfnet.similarity_filter import agreeing_matches

if TYPE_CHECKING:
    from lfnet.models.lfnet import LFNet

_PAIRS_KEPT = 256
"""Pairs that a batch has: what a sudden end loses at most."""
_FEATURES_KEPT = 32
"""Pictures whose features stay in memory between pairs: 33 MB at 1024 keypoints."""


@dataclass(frozen=True)
class MatchSettings:
    """How matches are made and checked."""

    ratio: float | None = None
    """Lowe's ratio test, such as 0.9; None leaves it out, as the authors of LF-Net advise."""
    max_distance: float | None = None
    """Largest distance of descriptors, in [0, 2]; None: no limit."""
    filter: bool = False
    """Keep only matches whose turn, scale and shift agree with those of the matches around them."""
    geometry: Geometry | None = None
    """Keep only matches that one homography, fundamental or essential matrix explains (MAGSAC++); None: all mutual
    nearest neighbours."""
    threshold: float = 3.0
    """Largest error of such a match, in pixels."""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy of both cameras in pixels, for an essential matrix."""

    def __post_init__(self) -> None:
        require_within(self, "", {"ratio": (0, 1)})
        require_above(self, "", {"ratio": 0, "threshold": 0})
        require_at_least(self, "", {"max_distance": 0})
        if self.geometry == "essential" and self.intrinsics is None:
            raise ConfigError("geometry: essential needs intrinsics fx fy cx cy; without them use fundamental")
        if self.intrinsics is not None and not (np.isfinite(self.intrinsics).all() and min(self.intrinsics[:2]) > 0):
            raise ConfigError(f"intrinsics: expected fx and fy above 0, and a centre in pixels, got {self.intrinsics}")


@dataclass(frozen=True)
class PictureMatch:
    """Two pictures and what connects them."""

    image_a: NDArray[np.uint8]
    """(H, W, 3) RGB, upright."""
    image_b: NDArray[np.uint8]
    """(H, W, 3) RGB, upright."""
    features_a: Features
    """In pixels of image_a."""
    features_b: Features
    """In pixels of image_b."""
    mutual: Matches
    """All mutual nearest neighbours."""
    agreeing: Matches
    """Those that agree with the matches around them, or all where no filter was asked for."""
    matches: Matches
    """Those of `agreeing` that the geometry explains, or all where none was asked for."""
    model: NDArray[np.float64] | None
    """The 3x3 matrix of the geometry, where one was asked for and found."""


def match_features(
    features_a: Features, features_b: Features, settings: MatchSettings
) -> tuple[Matches, Matches, Matches, NDArray[np.float64] | None]:
    """Match the features of two pictures, and filter and verify the matches where asked to.

    Args:
        features_a: of picture a.
        features_b: of picture b.
        settings: how.

    Returns:
        All mutual matches, those that the filter kept, those that the geometry explains too, and its model or None.

    Raises:
        UserError: as `mutual_nearest_neighbours` and `verify`.
    """
    mutual = mutual_nearest_neighbours(features_a, features_b, ratio=settings.ratio, max_distance=settings.max_distance)
    agreeing = agreeing_matches(features_a, features_b, mutual) if settings.filter else mutual
    if settings.geometry is None:
        return mutual, agreeing, agreeing, None
    kept, model = verify(
        features_a,
        features_b,
        agreeing,
        settings.geometry,
        intrinsics_a=_camera_matrix(settings.intrinsics),
        threshold=settings.threshold,
    )
    return mutual, agreeing, kept, model


def match_pictures(
    model: LFNet, path_a: str | Path, path_b: str | Path, pictures: PictureSettings, settings: MatchSettings
) -> PictureMatch:
    """Extract and match two pictures, each turned upright as its EXIF orientation says.

    Args:
        model: the network.
        path_a: first picture.
        path_b: second picture.
        pictures: how to read and extract.
        settings: how to match.

    Returns:
        Pictures, features in their pixels, and matches.

    Raises:
        ImageError: a picture can't be read.
        UserError: as `match_features`.
    """
    images = [read_image(path, max_pixels=pictures.max_pixels, exif_rotate=True) for path in (path_a, path_b)]
    features = [
        model.extract([shrink(image, pictures.long_side)], settings=pictures.extraction)[0].resized(
            (image.shape[1], image.shape[0])
        )
        for image in images
    ]
    found = match_features(features[0], features[1], settings)
    return PictureMatch(images[0], images[1], features[0], features[1], *found)


def match_feature_file(
    features: str | Path,
    pairs: list[tuple[str, str]],
    output: str | Path,
    settings: MatchSettings,
    *,
    reference: str | Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Match the pairs of a list into a file in hloc's layout, which is written whole or not at all.

    Args:
        features: features file.
        pairs: names of pictures in it; the second ones are of the reference, if there is one.
        output: matches file.
        settings: how to match.
        reference: another features file, which the second picture of each pair is in.
        progress: called with 1 after each pair.

    Returns:
        Number of matches of all pairs together.

    Raises:
        FeatureFileError: the features can't be read, or a picture of a pair isn't among them.
        OSError: the output can't be written.
        UserError: as `match_features`.
    """
    total = 0
    with held(output), hloc.open_file(features) as first, hloc.open_file(reference or features) as second:
        _check_names(first, {a for a, _ in pairs})
        _check_names(second, {b for _, b in pairs})
        _refuse_equal_names(pairs)
        read_a, read_b = _reader(first), _reader(second)
        with replacing_hdf5(output) as (target, beneath):
            for pair in pairs:
                total += _match_into(target, pair, read_a(pair[0]), read_b(pair[1]), settings)
                beneath.check()
                if progress is not None:
                    progress(1)
    return total


def _reader(file: h5py.File) -> Callable[[str], Features]:
    """Features of a picture of a file; the last ones stay in memory."""
    return lru_cache(_FEATURES_KEPT)(lambda name: hloc.read_features(file, name))


def _match_into(
    target: h5py.File, pair: tuple[str, str], features_a: Features, features_b: Features, settings: MatchSettings
) -> int:
    """Match a pair and write it; the number of its matches."""
    matches = match_features(features_a, features_b, settings)[2]
    hloc.write_matches(target, *pair, matches, len(features_a))
    return len(matches)


def _refuse_equal_names(pairs: list[tuple[str, str]]) -> None:
    """hloc's names of pairs lose the slashes within names, so two pairs may have one."""
    taken: dict[str, tuple[str, str]] = {}
    for pair in pairs:
        name = hloc.names_to_pair(*pair)
        if name in taken:
            both = " and ".join(map(" ".join, (taken[name], pair)))
            raise hloc.FeatureFileError(f"{both}: both are {name} in hloc's layout; rename a picture or its folder")
        taken[name] = pair


def match_in_batches(
    features: str | Path,
    pairs: list[tuple[str, str]],
    output: str | Path,
    settings: MatchSettings,
    *,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Match those pairs of a list that a matches file lacks; stopped in any way, it goes on where it was.

    Args:
        features: features file.
        pairs: names of pictures in it.
        output: matches file; it is continued only with equal settings, and features of equal settings.
        settings: how to match.
        overwrite: start again, and replace a file that is there.
        progress: called with a number of pairs whenever they are done.

    Returns:
        Number of pairs that were matched now.

    Raises:
        FeatureFileError, OSError, ValueError: as `match_feature_file`; or the file is there, with other settings.
    """
    output = Path(output)
    with held(output), hloc.open_file(features) as source:
        _check_names(source, {name for pair in pairs for name in pair})
        _refuse_equal_names(pairs)
        fingerprint = {**_fingerprint(settings), "features": _origin(source)}
        mark = cache(lambda name: _mark(source, name))
        if output.exists() and not overwrite:
            _check_marks(output, pairs, mark)
        store = FeatureStore(output, json.dumps(fingerprint, sort_keys=True), overwrite, describe=lambda file: None)
        present = store.names()
        left = [pair for pair in pairs if not {hloc.names_to_pair(*pair), hloc.names_to_pair(*pair[::-1])} & present]
        advance = progress or (lambda count: None)
        advance(len(pairs) - len(left))
        read = _reader(source)

        def match_batch(target: h5py.File, batch: list[tuple[str, str]]) -> None:
            for pair in batch:
                _match_into(target, pair, read(pair[0]), read(pair[1]), settings)
                write_text(target, _MARKS, [mark(name) for name in pair], hloc.names_to_pair(*pair))
                advance(1)

        for start in range(0, len(left), _PAIRS_KEPT):
            batch = left[start : start + _PAIRS_KEPT]
            store.add_part(lambda target, batch=batch: match_batch(target, batch))
        store.join()
    return len(left)


def _fingerprint(settings: MatchSettings) -> dict[str, Any]:
    """What decides matches; files from before there was a filter are gone on with where none is asked for."""
    values = asdict(settings)
    if not settings.filter:
        del values["filter"]
    return values


_MARKS = "features"
"""Attribute of a pair: what its two pictures' keypoints were when it was matched."""


def _mark(features: h5py.File, name: str) -> str:
    """A digest of a picture's keypoints."""
    return hashlib.blake2b(hloc.read_features(features, name).keypoints.tobytes(), digest_size=8).hexdigest()


def _check_marks(output: Path, pairs: list[tuple[str, str]], mark: Callable[[str], str]) -> None:
    """Refuse to go on with matches of features that have been extracted anew since.

    Raises:
        FeatureFileError: a picture has other keypoints than those that were matched.
    """
    with hloc.open_file(output) as done:
        places = [(hloc.names_to_pair(*pair), _MARKS) for pair in pairs]
        for pair, matched in zip(pairs, read_texts(done, places, hloc.FeatureFileError), strict=True):
            for name, then in zip(pair, matched or [], strict=False):
                if then != mark(name):
                    raise hloc.FeatureFileError(
                        f"{output}: has matches of earlier features of {name}; write to another file, or start again "
                        "with --overwrite"
                    )


def _origin(features: h5py.File) -> str:
    """What tells a features file from another: its settings; of another program's, its size and time of change."""
    status = Path(features.filename).stat()
    settings = read_text(features, "settings", hloc.FeatureFileError)
    return f"{status.st_size} {status.st_mtime_ns}" if settings is None else settings


def _check_names(features: h5py.File, names: set[str]) -> None:
    missing = [name for name in sorted(names) if not hloc.has_features(features, name)]
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        spelt = [hloc.clean_name(name) for name in missing]
        meant = [name for name in spelt if name not in missing and hloc.has_features(features, name)]
        remedy = f"; is {meant[0]!r} meant?" if meant else ""
        raise hloc.FeatureFileError(
            f"{features.filename}: {len(missing)} pictures of the list are not in it: {some}{remedy}"
        )


def _camera_matrix(intrinsics: tuple[float, float, float, float] | None) -> NDArray[np.float64] | None:
    if intrinsics is None:
        return None
    fx, fy, cx, cy = intrinsics
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
