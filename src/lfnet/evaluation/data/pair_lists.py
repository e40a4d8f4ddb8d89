"""Published lists of pairs with cameras: SuperGlue's text files, and the .npz files of LoFTR's MegaDepth-1500."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from lfnet.coordinates import pixel_from_colmap, resize_matrix
from lfnet.data.frames import check_pose
from lfnet.data.recordings.calibration import check_intrinsics
from lfnet.errors import UserError, one_line
from lfnet.evaluation.data.measured_frames import evenly
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair, RelativePose
from lfnet.files.reading import read_text_file
from lfnet.images import image_size, read_image, shrink, shrunk_size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from numpy import ndarray as Array

    from lfnet.coordinates import Size
    from lfnet.evaluation.data.data_settings import DataSettings

COLUMNS = 38
"""Of a line: two names, two turns, two 3x3 intrinsics, and the 4x4 motion."""
SCANNET_SCENE = re.compile(r"scene\d{4}_\d{2}")
FEWEST_SCENES = 8
"""With fewer, scenes are too few to resample, and pairs are grouped by their first picture."""


def is_pair_list(path: Path) -> bool:
    """Whether a path is a text file of pairs."""
    return path.is_file() and path.suffix == ".txt"


def is_scene_infos(path: Path) -> bool:
    """Whether a path is an .npz file, or a folder that has some and no pictures of its own."""
    return path.suffix == ".npz" if path.is_file() else any(path.glob("*.npz"))


@dataclass(frozen=True)
class ListedPair:
    """Two pictures of a list, as they are stored."""

    names: tuple[str, str]
    """Relative to the folder of pictures."""
    intrinsics: tuple[Float[Array, "3 3"], Float[Array, "3 3"]]
    """Of the pictures as stored, pixels."""
    b_from_a: Float[Array, "4 4"]
    """Rigid, of the cameras of the pictures as stored."""
    quarters: tuple[int, int] = (0, 0)
    """Quarter turns, counterclockwise, that put each picture upright."""
    scene: str = ""
    subset: str = "all"


class ListedPictures:
    """Pictures of a list, turned upright and shrunk.

    Args:
        root: folder that their names are relative to.
        long_side: pictures whose longer side is larger are shrunk to this many pixels.
    """

    def __init__(self, root: Path, long_side: int) -> None:
        self.root = root
        self.long_side = long_side
        self.quarters: dict[str, int] = {}
        self._sizes: dict[str, Size] = {}

    def load(self, name: str) -> UInt8[Array, "H W *C"]:
        """The picture of a name, upright and shrunk."""
        upright = np.rot90(read_image(self.root / name), self.quarters[name])
        return shrink(np.ascontiguousarray(upright), self.long_side)

    def stored_size(self, name: str) -> Size:
        """Of the picture as it is stored; only its header is read."""
        if name not in self._sizes:
            self._sizes[name] = image_size(self.root / name)
        return self._sizes[name]

    def measured_pair(self, listed: ListedPair, name: str, group: str) -> EvaluationPair:
        """The pair in the pixels that are measured.

        Raises:
            ValueError: a picture is missing, or is turned otherwise elsewhere in the list, or numbers make no sense.
        """
        for picture, quarters in zip(listed.names, listed.quarters, strict=True):
            if self.quarters.setdefault(picture, quarters) != quarters:
                raise UserError(f"{picture} is turned by {quarters} quarters, elsewhere in the list by another number")
        upright_a, upright_b = (
            self._upright(picture, matrix) for picture, matrix in zip(listed.names, listed.intrinsics, strict=True)
        )
        pose = check_pose(listed.b_from_a, "the motion from a to b")
        b_from_a = upright_b[1] @ pose @ np.linalg.inv(upright_a[1])
        motion = RelativePose(upright_a[0], upright_b[0], b_from_a)
        return EvaluationPair(name, group, *listed.names, pose=motion, subset=listed.subset)

    def _upright(
        self, picture: str, intrinsics: Float[Array, "3 3"]
    ) -> tuple[Float[Array, "3 3"], Float[Array, "4 4"]]:
        """Intrinsics of the measured picture, and the turn from the stored picture's camera to its own."""
        size = self.stored_size(picture)
        check_intrinsics(intrinsics, size, picture)
        upright_from_stored, upright_size = quarter_turn(size, self.quarters[picture])
        turn = np.eye(4)
        turn[:2, :2] = upright_from_stored[:2, :2]
        shrunk = resize_matrix(upright_size, shrunk_size(upright_size, self.long_side))
        # The pixels turn with the camera, so that the axes of pixels and of the camera stay parallel.
        return shrunk @ upright_from_stored @ intrinsics @ turn[:3, :3].T, turn


def quarter_turn(size: Size, quarters: int) -> tuple[Float[Array, "3 3"], Size]:
    """What `np.rot90` does to pixels.

    Args:
        size: of the picture, pixels.
        quarters: turns of 90 degrees, counterclockwise on the screen.

    Returns:
        turned_from_stored, and the size of the turned picture.
    """
    turned_size = size if quarters % 2 == 0 else (size[1], size[0])
    cosine, sine = ((1.0, 0.0), (0.0, -1.0), (-1.0, 0.0), (0.0, 1.0))[quarters % 4]
    linear = np.array([[cosine, -sine], [sine, cosine]])
    centre, turned_centre = ((np.array(each) - 1) / 2 for each in (size, turned_size))
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = turned_centre - linear @ centre
    return matrix, turned_size


def open_pair_list(path: Path, settings: DataSettings) -> Dataset:
    """Pairs of a text file `name_a name_b turn_a turn_b K_a K_b b_from_a`, numbers row by row.

    Args:
        path: the file.
        settings: where the pictures are (beside the file, if None), size, number of pairs.

    Returns:
        pairs with poses.

    Raises:
        ValueError: no line can be used.
        OSError: the file can't be read.

    Source: SuperGlue (Sarlin et al., 2020), match_pairs.py; turns are quarters, counterclockwise (`np.rot90`).
    """
    skipped: list[str] = []
    listed: list[ListedPair] = []
    lines = read_text_file(path, UserError, "a list of pairs").splitlines()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            listed.append(_parsed(words))
        except UserError as error:
            skipped.append(f"{path.name}, line {number}: {error}")
    return _dataset(path, "pair list", listed, settings.images or path.parent, settings, skipped)


def _parsed(words: list[str]) -> ListedPair:
    if len(words) != COLUMNS:
        without = "no cameras and motion, so that nothing can be measured" if len(words) in (2, 4) else "a broken line"
        raise UserError(f"{without}: expected {COLUMNS} words, got {len(words)}")
    try:
        numbers = np.array([float(word) for word in words[2:]])
    except ValueError as error:
        raise UserError(f"a broken line: {error}") from error
    if not np.isfinite(numbers).all():
        raise UserError("NaN or infinity among its numbers")
    turns = numbers[:2].astype(int)
    if (turns != numbers[:2]).any():
        raise UserError(f"turns must be whole quarters, got {words[2]} and {words[3]}")
    return ListedPair(
        names=(words[0], words[1]),
        intrinsics=(numbers[2:11].reshape(3, 3), numbers[11:20].reshape(3, 3)),
        b_from_a=numbers[20:].reshape(4, 4),
        quarters=(int(turns[0]) % 4, int(turns[1]) % 4),
        scene=_scene_of(words[0]),
    )


def _scene_of(name: str) -> str:
    """Of a picture: ScanNet's scene wherever it stands in the name, or else the folder."""
    named = SCANNET_SCENE.search(name)
    return named[0] if named else PurePosixPath(name).parent.as_posix()


def open_scene_infos(path: Path, settings: DataSettings) -> Dataset:
    """Pairs of LoFTR's .npz files; a file (a scene and a range of overlaps) is a subset.

    Intrinsics are taken for COLMAP's, as MegaDepth's are, whose principal point has a half added.

    Args:
        path: a file, or a folder of them.
        settings: where the pictures are (beside the files, if None), size, number of pairs.

    Returns:
        pairs with poses.

    Raises:
        ValueError: a file is no such file or holds what is not data, or no pair can be used.
        OSError: a file can't be read.

    Source: LoFTR (Sun et al., 2021), src/datasets/megadepth.py.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.npz"))
    listed: list[ListedPair] = []
    skipped: list[str] = []
    for file in files:
        _read_scene_info(file, listed, skipped)
    root = settings.images or (path.parent if path.is_file() else path)
    return _dataset(path, "pair list", listed, root, settings, skipped)


def _read_scene_info(file: Path, listed: list[ListedPair], skipped: list[str]) -> None:
    arrays = read_object_arrays(file, ("pair_infos", "image_paths", "intrinsics", "poses"))
    paths, intrinsics, poses = arrays["image_paths"], arrays["intrinsics"], arrays["poses"]
    for number, info in enumerate(arrays["pair_infos"]):
        try:
            first, second = (int(index) for index in info[0])
            if min(first, second) < 0 or max(first, second) >= len(paths):
                raise UserError(f"pictures {first} and {second} of {len(paths)}")
            pair = ListedPair(
                names=(str(paths[first]), str(paths[second])),
                intrinsics=(_from_colmap(intrinsics[first]), _from_colmap(intrinsics[second])),
                b_from_a=_matrix(poses[second], 4) @ np.linalg.inv(_matrix(poses[first], 4)),
                scene=file.stem.partition("_")[0],
                subset=file.stem,
            )
        except (ValueError, TypeError, IndexError, KeyError, np.linalg.LinAlgError) as error:
            skipped.append(f"{file.name}, pair {number}: it can't be used ({one_line(error)})")
            continue
        listed.append(pair)


def _matrix(values: Any, side: int) -> Float[Array, "N N"]:
    matrix = np.asarray(values, np.float64)
    if matrix.shape not in ((side, side), (side * side,)) or not np.isfinite(matrix).all():
        raise UserError(f"expected a {side}x{side} matrix of numbers, got shape {matrix.shape}")
    return matrix.reshape(side, side)


def _from_colmap(values: Any) -> Float[Array, "3 3"]:
    intrinsics = _matrix(values, 3).copy()
    intrinsics[:2, 2] = pixel_from_colmap(intrinsics[:2, 2])
    return intrinsics


def _dataset(
    path: Path, kind: str, listed: list[ListedPair], root: Path, settings: DataSettings, skipped: list[str]
) -> Dataset:
    pictures = ListedPictures(root, settings.long_side)
    by_scene = len({pair.scene for pair in listed}) >= FEWEST_SCENES
    pairs: dict[str, EvaluationPair] = {}
    for pair in listed:
        name = f"{pair.names[0]} - {pair.names[1]}"
        if name in pairs:
            skipped.append(f"{name}: more than once in the list; the first counts")
            continue
        try:
            pairs[name] = pictures.measured_pair(pair, name, pair.scene if by_scene else pair.names[0])
        except (UserError, OSError) as error:
            skipped.append(f"{name}: {error}")
    if not pairs:
        causes = f"; the first: {skipped[0]}" if skipped else ""
        raise UserError(f"{path}: no pair can be used (pictures are looked for in {root}, --images){causes}")
    chosen = evenly(list(pairs.values()), settings.max_pairs)
    if len(chosen) < len(pairs):
        skipped.append(
            f"{len(pairs) - len(chosen)} of {len(pairs)} pairs of the list, as at most {settings.max_pairs} were asked "
            f"for; published numbers are of all (--max-pairs {len(pairs)})"
        )
    return Dataset(
        name=path.stem,
        kind=kind,
        pairs=chosen,
        load=pictures.load,
        unit="scenes" if by_scene else "first pictures",
        settings={"pairs_listed": len(listed)},
        skipped=skipped,
    )


class _DataOnly(pickle.Unpickler):
    """Makes NumPy arrays, numbers, text and containers, and refuses everything that could run code."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        rebuild = np.zeros(0).__reduce__()[0]
        scalar = np.float64(0).__reduce__()[0]
        known = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode_latin,
        }
        for package in ("numpy.core.multiarray", "numpy._core.multiarray"):
            known[package, "_reconstruct"] = rebuild
            known[package, "scalar"] = scalar
        if (module_name, global_name) not in known:
            raise pickle.UnpicklingError(f"it holds {module_name}.{global_name}, which is no data and might run code")
        return known[module_name, global_name]


def _encode_latin(text: str, encoding: str = "latin1") -> bytes:
    """Bytes, as Python 3 writes them into pickles that Python 2 can read."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes of encoding {encoding}")
    return text.encode("latin1")


def read_object_arrays(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Arrays of an .npz file, of Python objects too, without running what such a file may hold.

    NumPy reads arrays of objects by `pickle`, which runs any code that the file names; here only arrays, numbers, text
    and containers are made.

    Args:
        path: the file.
        names: of the arrays.

    Raises:
        ValueError: it is no .npz file, lacks an array, is damaged, or holds something else than data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read_array(archive.read(f"{name}.npy")) for name in names}
    except KeyError as error:
        raise UserError(f"{path}: expected arrays {', '.join(names)}; {error.args[0]}") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused: {error}") from error
    except (zipfile.BadZipFile, ValueError, TypeError, EOFError, AttributeError, IndexError, MemoryError) as error:
        raise UserError(f"{path}: no .npz file of arrays ({one_line(error)}); fetch it again") from error


def _read_array(content: bytes) -> Array:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if not dtype.hasobject:
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    array = _DataOnly(file).load()
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise UserError(f"expected an array of shape {shape}, got {type(array).__name__}")
    return array
