"""Pictures to a features file: in batches, in bounded memory, and resumable after any kind of end.

What is finished is kept batch by batch (`lfnet.feature_store`), so a run that was stopped, even by
SIGKILL or a full disk, resumes.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lfnet.clips import read_frames
from lfnet.coordinates import Size
from lfnet.errors import UserError
from lfnet.feature_store import FeatureStore
from lfnet.features import Features
from lfnet.files.atomic import held
from lfnet.image_files import find_images
from lfnet.image_rows import ArrayRows, Rows, open_rows
from lfnet.images import MAX_PIXELS, ImageError, image_size, read_image, shrink, to_grey
from lfnet.masks import Masks, read_mask
from lfnet.models.config import ExtractionSettings, TileSettings
from lfnet.progress import Counter
from lfnet.settings import require_above, require_at_least

if TYPE_CHECKING:
    from lfnet.models.lfnet import LFNet

_READERS = 2
"""Threads that decode pictures while the network works on the batch before."""

_NARROW = 64
"""A side of fewer pixels than this leaves no room for patches: the likely cause where nothing was found."""


WORKED_AT = 1600
"""Long side in pixels that larger pictures are worked at unless asked otherwise."""


@dataclass(frozen=True)
class PictureSettings:
    """How a picture is read, and what is looked for in it."""

    extraction: ExtractionSettings = field(default_factory=ExtractionSettings)
    """How many keypoints, how good, at which octaves."""
    resize: int | None = None
    """Long side that larger pictures are worked at, in pixels: 1600 unless given; 0 works at full size. Keypoints are
    always in pixels of the whole picture."""
    max_megapixels: float = MAX_PIXELS / 1e6
    """Largest picture that is decoded as a whole."""

    def __post_init__(self) -> None:
        require_at_least(self, "", {"resize": 0})
        require_above(self, "", {"max_megapixels": 0})

    @property
    def max_pixels(self) -> int:
        """Largest picture that is decoded, in pixels."""
        return round(self.max_megapixels * 1e6)

    @property
    def long_side(self) -> int | None:
        """Long side that larger pictures are worked at, in pixels; None where they stay as they are."""
        return WORKED_AT if self.resize is None else self.resize or None


@dataclass(frozen=True)
class FileSettings(PictureSettings):
    """How pictures become a features file."""

    half: bool = False
    """Store descriptors and scores in 16 bits."""
    masks: Path | None = None
    """Masks (0 in all colours: no keypoints here): a folder of images, each named as its picture, or so with .png added
    or instead; or one image, for all pictures. Where a mask has one colour alone, its transparency counts."""
    tile: int | None = None
    """Work at full size in tiles with this side in pixels, such as 1024: for pictures too large for memory. Keypoints
    are those of the whole picture."""
    overlap: int | None = None
    """Pixels around each tile that it sees too; as many as the weights need unless given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tile is None and self.overlap is not None:
            raise UserError("overlap: without tiles there is none; give --tile too")
        if self.tile is not None:
            TileSettings(self.tile, self.overlap)
            if self.resize:
                raise UserError("resize: tiles are worked at full size; leave --resize or --tile out")

    @property
    def long_side(self) -> int | None:
        """Long side that larger pictures are worked at, in pixels; None where they stay as they are."""
        return None if self.tile is not None else super().long_side

    def fingerprint(self, weights: str) -> str:
        """What decides the features, as text: two runs may share a file only where it is equal."""
        return json.dumps(
            {
                "weights": weights,
                "extraction": asdict(self.extraction),
                "resize": self.long_side,
                "half": self.half,
                "masks": str(self.masks.resolve()) if self.masks else None,
            },
            sort_keys=True,
        )


@dataclass
class ExtractionReport:
    """What a run did."""

    written: int = 0
    """Pictures whose features were added."""
    skipped: int = 0
    """Pictures that the file had already."""
    keypoints: int = 0
    """Keypoints of the pictures added."""
    without_keypoints: list[tuple[str, str]] = field(default_factory=list)
    """Name of each picture in which nothing was found, and the likely cause."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Name of each picture that could not be read or worked on, and the error in one line."""


def joined(reports: Sequence[ExtractionReport]) -> ExtractionReport:
    """What several runs did together."""
    return ExtractionReport(
        sum(each.written for each in reports),
        sum(each.skipped for each in reports),
        sum(each.keypoints for each in reports),
        [pair for each in reports for pair in each.without_keypoints],
        [pair for each in reports for pair in each.failures],
    )


@dataclass(frozen=True)
class _Found:
    """What a picture holds."""

    name: str
    features: Features
    uncertainty: float
    why_none: str
    """The likely cause, if there are no keypoints."""


@dataclass(frozen=True)
class _Picture:
    name: str
    grey: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    size: Size
    """(width, height) as stored."""

    @property
    def uncertainty(self) -> float:
        """Of a keypoint's place, in pixels as stored: one pixel of the size worked at."""
        return max(self.size) / max(self.grey.shape)


def name_images(paths: str | Path | Iterable[str | Path], root: str | Path | None = None) -> dict[str, Path]:
    """The names that pictures have in a features file.

    Args:
        paths: files and folders, as for `list_images`.
        root: folder that names are relative to; None: a folder's pictures are named relative to it, and a
            file by its file name.

    Returns:
        Path for each name, with forward slashes, in order.

    Raises:
        ImageError: two pictures have the same name, or one lies outside `root`.
    """
    return find_named(paths, root)[0]


def find_named(
    paths: str | Path | Iterable[str | Path], root: str | Path | None = None
) -> tuple[dict[str, Path], list[str]]:
    """`name_images`, and a line for each kind of file in the folders that was passed over."""
    named: dict[str, Path] = {}
    notes: list[str] = []
    for path in [Path(paths)] if isinstance(paths, (str, Path)) else map(Path, paths):
        base = path if path.is_dir() else path.parent
        found = find_images(path)
        notes += found.passed_over
        for file in found.paths:
            name = file.relative_to(base).as_posix() if root is None else _below(Path(root), base, file)
            if named.setdefault(name, file).resolve() != file.resolve():
                remedy = "give --root, a folder above both"
                raise ImageError(file, f"has the same name {name!r} as {named[name]}", remedy)
    return named, notes


def _below(root: Path, base: Path, file: Path) -> str:
    """Name below the root by the path as given: of two links to one image, each keeps its own.

    Raises:
        ImageError: it lies outside the root.
    """
    # Links on the way to the folders that were given may differ; those within them are left alone.
    real = (base.resolve() / file.relative_to(base), root.resolve())
    for path, above in ((Path(os.path.abspath(file)), Path(os.path.abspath(root))), real):
        if path.is_relative_to(above):
            return path.relative_to(above).as_posix()
    raise ImageError(file, f"lies outside the root {root}", "give a root above all images")


def _refuse_nesting(named: Mapping[str, Path]) -> None:
    """A group of HDF5 can't be both a picture and a folder of pictures."""
    for name, path in named.items():
        for folder in PurePosixPath(name).parents:
            if str(folder) in named:
                raise ImageError(path, f"its folder {str(folder)!r} has the name of a picture", "rename one of them")


def extract_files(
    model: LFNet,
    images: Mapping[str, Path],
    output: str | Path,
    settings: FileSettings | None = None,
    *,
    weights: str = "",
    batch_size: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
    look: Counter | None = None,
) -> ExtractionReport:
    """Extract the features of many pictures into one file in hloc's layout.

    Memory doesn't grow with the number of pictures. Pictures that the file has already are passed over, and
    one that fails doesn't stop the others.

    Args:
        model: the network, on the device that shall work.
        images: path for each name, as from `name_images`.
        output: the HDF5 file; it is replaced in one step at the end.
        settings: how to extract.
        weights: what identifies the model's weights; a file is only continued with the same.
        batch_size: pictures given to the network at once, and lost at most by a sudden end.
        overwrite: start again, and replace a file that is there.
        progress: called with a number of pictures whenever they are done.
        look: called with how many looks at tiles of a picture are done, and how many there are.

    Returns:
        What was done.

    Raises:
        FeatureFileError: the file is there, with other settings or of other origin.
        ImageError: a picture's name is that of a folder of another.
        OSError: a file can't be written, such as when the disk is full or another process writes it; what was done
            until then is kept.
        ValueError: batch_size isn't positive.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    settings = settings or FileSettings()
    with held(output):
        store = FeatureStore(Path(output), settings.fingerprint(weights), overwrite)
        present = store.names()
        _refuse_nesting({**dict.fromkeys(present, store.output), **images})
        wanted = {name: path for name, path in images.items() if name not in present}
        report = ExtractionReport(skipped=len(images) - len(wanted))
        advance = progress or (lambda count: None)
        advance(report.skipped)
        if settings.tile is not None:
            for name, path in wanted.items():
                found = _extract_in_tiles(model, name, path, settings, report, look)
                _keep(store, found, settings, report)
                advance(1)
        else:
            pictures = _read_ahead(wanted, settings, batch_size)
            _work_off(model, pictures, store, settings, batch_size, report, advance)
        store.join()
        return report


def extract_frames(
    model: LFNet,
    clip: str | Path,
    output: str | Path,
    settings: FileSettings | None = None,
    *,
    every: int = 10,
    name: str | None = None,
    weights: str = "",
    batch_size: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> ExtractionReport:
    """Extract the features of a clip's frames, named `clip.mp4/000120` by their numbers from 0.

    Args:
        model: the network, on the device that shall work.
        clip: a file that OpenCV decodes.
        output: the HDF5 file, to which frames are added.
        settings: how to extract; without tiles.
        every: frames from one to the next that is worked on.
        name: of the clip in the file; None: its file name.
        weights: what identifies the model's weights; a file is only continued with the same.
        batch_size: frames given to the network at once.
        overwrite: start again, and replace a file that is there.
        progress: called with a number of frames whenever they are done.

    Returns:
        What was done. A clip that can't be read is one failure.

    Raises:
        FeatureFileError: the file is there, with other settings or of other origin.
        OSError: a file can't be written.
        UserError: `every` or `batch_size` isn't positive, or there are tiles.
    """
    settings = settings or FileSettings()
    if min(every, batch_size) < 1:
        raise UserError(f"every and batch_size must be at least 1, got {every} and {batch_size}")
    if settings.tile is not None:
        raise UserError("tile: frames of a clip are worked in one piece; leave --tile out")
    path = Path(clip)
    with held(output):
        store = FeatureStore(Path(output), settings.fingerprint(weights), overwrite)
        present, report, advance = store.names(), ExtractionReport(), progress or (lambda count: None)
        called, masks = path.name if name is None else name, settings.masks and Masks(settings.masks)
        _refuse_nesting({**dict.fromkeys(present, store.output), f"{called}/0": path})

        def pictures() -> Iterator[_Picture | tuple[str, str]]:
            try:
                for number, pixels in read_frames(path, every):
                    frame = f"{called}/{number:06d}"
                    if frame not in present:
                        yield _as_picture(frame, path, pixels, settings, masks)
                        continue
                    report.skipped += 1
                    advance(1)
            except ImageError as error:
                yield called, str(error)

        _work_off(model, pictures(), store, settings, batch_size, report, advance)
        store.join()
        return report


def _work_off(
    model: LFNet,
    pictures: Iterator[_Picture | tuple[str, str]],
    store: FeatureStore,
    settings: FileSettings,
    batch_size: int,
    report: ExtractionReport,
    advance: Callable[[int], object],
) -> None:
    while batch := list(islice(pictures, batch_size)):
        _keep(store, list(_extract_batch(model, batch, settings.extraction, report)), settings, report)
        advance(len(batch))


def _keep(store: FeatureStore, done: list[_Found], settings: FileSettings, report: ExtractionReport) -> None:
    store.add([(found.name, found.features, found.uncertainty) for found in done], half=settings.half)
    for found in done:
        report.written += 1
        report.keypoints += len(found.features)
        if len(found.features) == 0:
            report.without_keypoints.append((found.name, found.why_none))


def _extract_in_tiles(
    model: LFNet, name: str, path: Path, settings: FileSettings, report: ExtractionReport, look: Counter | None
) -> list[_Found]:
    """What one picture holds, found tile by tile; nothing where it can't be read, which is reported."""
    assert settings.tile is not None
    tiles = TileSettings(settings.tile, settings.overlap)
    try:
        _check_name(name, path)
        with ExitStack() as files:
            picture = files.enter_context(open_rows(path, max_pixels=settings.max_pixels))
            mask = None
            if settings.masks is not None:
                mask = _mask_rows(Masks(settings.masks).file(name), settings.max_pixels, files)
                _check_mask_size(path, mask.size, picture.size)
            features = model.extract_in_tiles(
                picture, mask=mask, settings=settings.extraction, tiles=tiles, progress=look
            )
    except ImageError as error:
        report.failures.append((name, str(error)))
        return []
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        report.failures.append((name, f"{path}: out of memory; work in smaller tiles (--tile)"))
        return []
    nothing = "nothing stands out" if mask is None else "nothing stands out where the mask allows"
    return [_Found(name, features, 1.0, nothing)]


def _read_ahead(
    images: Mapping[str, Path], settings: FileSettings, batch_size: int
) -> Iterator[_Picture | tuple[str, str]]:
    """Pictures in order, read by a few threads and never more than a batch ahead; or a name and an error."""
    masks = settings.masks and Masks(settings.masks)

    def read(name: str, path: Path) -> _Picture | tuple[str, str]:
        try:
            return _read_picture(name, path, settings, masks)
        except ImageError as error:
            return name, str(error)
        except MemoryError:
            return name, f"{path}: too large for the memory there is; scale the picture down"

    waiting: deque[Future[_Picture | tuple[str, str]]] = deque()
    pool = ThreadPoolExecutor(_READERS)
    try:
        for name, path in images.items():
            waiting.append(pool.submit(read, name, path))
            if len(waiting) > batch_size:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_picture(name: str, path: Path, settings: FileSettings, masks: Masks | None) -> _Picture:
    _check_name(name, path)
    return _as_picture(name, path, read_image(path, max_pixels=settings.max_pixels), settings, masks)


def _as_picture(
    name: str, path: Path, pixels: NDArray[np.uint8], settings: FileSettings, masks: Masks | None
) -> _Picture:
    size = (pixels.shape[1], pixels.shape[0])
    small = shrink(pixels, settings.long_side)
    mask = None
    if masks is not None:
        full = masks.read(name, settings.max_pixels)
        _check_mask_size(path, (full.shape[1], full.shape[0]), size)
        # Area averaging: a pixel of the smaller picture is usable where everything under it is.
        mask = shrink(full.astype(np.uint8) * 255, settings.long_side) == 255
    return _Picture(name, to_grey(small), mask, size)


def _mask_rows(path: Path, max_pixels: int, files: ExitStack) -> Rows:
    """A mask as every other, or, where it is too large for that, by rows of its grey."""
    width, height = image_size(path)
    if width * height <= max_pixels:
        return ArrayRows(read_mask(path, max_pixels))
    return files.enter_context(open_rows(path, max_pixels=max_pixels))


def _check_name(name: str, path: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ImageError(ascii(str(path)), "its name is not UTF-8, as HDF5 wants it", "rename it") from error


def _check_mask_size(path: Path, mask: Size, size: Size) -> None:
    if mask != size:
        cause = f"its mask is {mask[0]}x{mask[1]}, the picture {size[0]}x{size[1]}"
        raise ImageError(path, cause, "make the mask for the picture as stored, before any EXIF rotation")


def _extract_batch(
    model: LFNet,
    batch: list[_Picture | tuple[str, str]],
    settings: ExtractionSettings,
    report: ExtractionReport,
) -> Iterator[_Found]:
    pictures = [item for item in batch if isinstance(item, _Picture)]
    report.failures += [item for item in batch if not isinstance(item, _Picture)]
    if not pictures:
        return
    try:
        masks = [picture.mask for picture in pictures]
        found = model.extract([picture.grey for picture in pictures], mask=masks, settings=settings)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(pictures) > 1:
            for picture in pictures:
                yield from _extract_batch(model, [picture], settings, report)
            return
        height, width = pictures[0].grey.shape
        cause = (
            f"{pictures[0].name}: out of memory at {width}x{height} pixels; work at a smaller size (--resize) or in "
            "tiles (--tile)"
        )
        report.failures.append((pictures[0].name, cause))
        return
    for picture, features in zip(pictures, found, strict=True):
        yield _Found(picture.name, features.resized(picture.size), picture.uncertainty, _why_none(picture))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on a GPU.

    Args:
        error: as caught.

    Returns:
        True for Python's, NumPy's and PyTorch's ways of saying so.
    """
    text = str(error)
    return isinstance(error, MemoryError) or any(
        phrase in text for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _why_none(picture: _Picture) -> str:
    if min(picture.grey.shape) < _NARROW:
        height, width = picture.grey.shape
        resized = "" if picture.size == (width, height) else " after --resize"
        return f"{width}x{height} pixels{resized} are too few"
    if picture.mask is not None and not picture.mask.any():
        return "the mask leaves nothing"
    return "blank" if np.ptp(picture.grey) == 0 else "nothing stands out"
