"""From a file to the values that it stores. Bytes are not trusted: only the formats named here are tried, sizes are
checked in the header, and whatever a decoder raises becomes one line on the file."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lfnet.coordinates import Size
from lfnet.errors import UserError, one_line

ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "TGA": (".tga",),
}
"""Endings of file names by Pillow's name of the format. No other format is tried: Pillow would start Ghostscript for an
EPS that is named .jpg."""
EXTENSIONS = frozenset(ending for endings in ENDINGS.values() for ending in endings)
"""What counts as an image when a folder is searched; a file named outright is always tried."""
_RAW = (
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl "
    ".sr2 .srf .srw .x3f"
)
_DEVELOP = ("a camera's raw file", "develop it to JPEG, PNG or TIFF")
_TONE_MAP = ("high dynamic range, which has no white", "tone-map it to JPEG, PNG or TIFF")
REFUSED = {ending: _DEVELOP for ending in _RAW.split()} | {ending: _TONE_MAP for ending in (".hdr", ".exr")}
"""What files with these endings are, and what to do. Pillow would take the thumbnail for a raw file's image."""
HEIC_HINT = ("HEIC is read by a package that is not there", "pip install 'lfnet[heic]'")
AVIF_HINT = ("this Pillow reads no AVIF", "pip install --upgrade 'Pillow>=11.3'")

_MAGIC = {b"#?RADIANCE": _TONE_MAP, b"#?RGBE": _TONE_MAP, b"v/1\x01": _TONE_MAP}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _SAMPLES, _PLANES, _KIND = 256, 257, 258, 274, 277, 284, 339
"""Tags of TIFF 6.0."""
_CAMERA, _GPS = 0x8769, 0x8825
DAMAGED = "damaged or cut short"
_PILLOW_LIMIT, _OPENCV_LOG = threading.Lock(), threading.Lock()

T = TypeVar("T")


class ImageError(UserError):
    """An image that can't be read: the message is one line with the file, the cause and the remedy."""

    def __init__(self, path: str | Path, cause: str, remedy: str) -> None:
        self.path = Path(path)
        self.cause = cause
        super().__init__(f"{path}: {cause}; {remedy}")


@dataclass(frozen=True)
class Stored:
    """An image as its file has it."""

    values: NDArray
    """(H, W), or (H, W, 3) RGB; uint8, uint16, int32 or floating, not scaled."""
    alpha: NDArray | None
    """(H, W), where it was asked for and there is some."""
    orientation: int
    """EXIF's, 1 to 8."""


@dataclass(frozen=True)
class Metadata:
    """What an image's EXIF tells; nothing where it has none, or it is damaged."""

    exif: Image.Exif = field(default_factory=Image.Exif)
    camera: Mapping[int, Any] = field(default_factory=dict)
    """Tags of the exposure, such as the focal length."""
    gps: Mapping[int, Any] = field(default_factory=dict)

    @property
    def writable(self) -> Image.Exif:
        """EXIF that a copy of the image can have."""
        try:
            self.exif.tobytes()
        except Exception:  # Damaged in a way that only shows when it is written.
            return Image.Exif()
        return self.exif


@dataclass(frozen=True)
class FloatTiff:
    """A TIFF of floating colours, which Pillow does not know: what its header says."""

    size: Size
    orientation: int
    format: str = "TIFF"
    mode: str = "F"


def stored_size(path: str | Path) -> Size:
    """Width and height of an image as stored; only its header is read.

    Raises:
        ImageError: the file is missing or is no image.
    """
    with opened(path) as picture:
        return picture.size


def read_metadata(path: str | Path) -> Metadata:
    """EXIF of an image.

    Raises:
        ImageError: the file is missing or is no image.
    """
    with opened(path) as picture:
        return Metadata() if isinstance(picture, FloatTiff) else _metadata(picture)


def read_stored(path: str | Path, max_pixels: int, *, content: bytes | None = None, alpha: bool = False) -> Stored:
    """Decode an image.

    Args:
        path: file; of bytes, how errors name them.
        max_pixels: largest width times height, checked in the header before anything is decoded.
        content: bytes of a file to decode instead.
        alpha: whether opacity is wanted.

    Raises:
        ImageError: the file is missing, is no image that can be read, is cut short, or is too large.
    """
    with opened(path, content) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise ImageError(
                path,
                f"{width}x{height} pixels are more than the limit of {max_pixels / 1e6:g} megapixels",
                "work in tiles (--tile 1024), or raise the limit (--max-megapixels, max_pixels)",
            )
        if isinstance(picture, FloatTiff):
            return Stored(*_wide(path, content, picture.size, alpha), picture.orientation)
        wide = wide_mode(path, content, picture)
        with blaming(path, DAMAGED):
            picture.load()
            values, opacity = (None, None) if wide else _channels(picture, alpha)
        if values is None:  # Pillow has found the file whole, but kept the high bytes alone.
            values, opacity = _wide(path, content, picture.size, alpha)
            values = values[:, :, 0] if wide == "LA" else values
        return Stored(values, opacity, _orientation(picture))


@contextmanager
def opened(path: str | Path, content: bytes | None = None) -> Iterator[Image.Image | FloatTiff]:
    """An image whose header has been read.

    Args:
        path: file; of bytes, how errors name them.
        content: bytes of a file to open instead.

    Raises:
        ImageError: the file is missing or is no image that is read here.
    """
    head = _head(path) if content is None else content[:32]
    if not head:
        raise ImageError(path, "the file is empty", "fetch it again")
    try:
        picture = _open_any_size(path if content is None else io.BytesIO(content), _formats(path, head))
    except UnidentifiedImageError as error:
        if not head.startswith(_TIFF):
            raise ImageError(path, *_unknown(head)) from error
        picture = None
    except MemoryError:
        raise
    except Exception as error:  # Whatever a decoder raises.
        raise _damaged(path, error, "damaged header") from error
    if picture is None:
        yield _read_float_tiff(path, content)
    else:
        with picture:
            yield picture


def _head(path: str | Path) -> bytes:
    """The first bytes of a file that may be an image."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(path, "is a folder", "name an image in it")
        if not stat.S_ISREG(mode):
            raise ImageError(path, "is a device or a pipe", "name a file")
        if path.suffix.lower() in REFUSED:
            raise ImageError(path, *REFUSED[path.suffix.lower()])
        with path.open("rb") as file:
            head = file.read(32)
    except FileNotFoundError as error:
        if path.is_symlink():
            cause = f"a link to {os.readlink(path)}, which is not there"
            raise ImageError(path, cause, "mend the link, or remove it") from error
        raise ImageError(path, "no such file", "check the path") from error
    except OSError as error:
        raise ImageError(path, f"can't be read ({error.strerror})", "check its permissions") from error
    return head


def _formats(path: str | Path, head: bytes) -> list[str]:
    """Those of `ENDINGS` that this Pillow has. TGA has no mark of its own, so its ending must say that it is one."""
    Image.init()
    if Path(path).suffix.lower() in ENDINGS["HEIF"] or _brand(head) in _HEIF_BRANDS:
        _register_heif()
    is_tga = Path(path).suffix.lower() in ENDINGS["TGA"]
    return [name for name in ENDINGS if name in Image.OPEN and (name != "TGA" or is_tga)]


@cache
def _register_heif() -> None:
    """Make HEIC known to Pillow, by whichever package is there."""
    for name in ("pi_heif", "pillow_heif"):
        try:
            import_module(name).register_heif_opener()
            return
        except ImportError:
            continue


def _brand(head: bytes) -> bytes:
    return head[8:12] if head[4:8] == b"ftyp" else b""


def _unknown(head: bytes) -> tuple[str, str]:
    """Cause and remedy for a file in no format that is read."""
    for magic, refused in _MAGIC.items():
        if head.startswith(magic):
            return refused
    if _brand(head) in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
        return HEIC_HINT
    if _brand(head) in (b"avif", b"avis") and "AVIF" not in Image.OPEN:
        return AVIF_HINT
    return "not a picture in any known format", "check what the file holds, or convert it to PNG"


def _open_any_size(source: str | Path | io.BytesIO, formats: list[str]) -> Image.Image:
    """Open without Pillow's own limit on pixels, which `max_pixels` stands in for; reads the header alone."""
    with _PILLOW_LIMIT:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def blaming(path: str | Path, cause: str) -> Iterator[None]:
    """Any error of a decoder in the block is the file's one line.

    Raises:
        ImageError: with the cause, and what the decoder said.
    """
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(path, error, cause) from error


def _damaged(path: str | Path, error: Exception, cause: str) -> ImageError:
    if isinstance(error, OSError) and error.errno is not None:
        return ImageError(path, f"can't be read ({error.strerror})", "check its permissions and its disk")
    return ImageError(path, f"{cause} ({one_line(error)})", "fetch the file again")


def _channels(picture: Image.Image, alpha: bool) -> tuple[NDArray, NDArray | None]:
    """Values and opacity of a decoded image of up to eight bits a colour, or of any depth in grey."""
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        values = np.asarray(picture)
        return values.astype(values.dtype.newbyteorder("="), copy=False), None
    if alpha and picture.has_transparency_data:
        bands = np.asarray(picture.convert("LA" if mode in ("LA", "La") else "RGBA"))
        return (bands[:, :, 0] if bands.shape[2] == 2 else bands[:, :, :3]), bands[:, :, -1]
    picture.info.pop("transparency", None)  # Pillow would warn that it is lost, which is what is wanted.
    return np.array(picture.convert("L" if mode in ("L", "LA", "1") else "RGB")), None


def wide_mode(path: str | Path, content: bytes | None, picture: Image.Image) -> str:
    """The mode of an image whose colours Pillow would cut to their high bytes; empty for others.

    Args:
        path: file; of bytes, how errors name them.
        content: its bytes, where it is no file.
        picture: opened, and not loaded.

    Raises:
        ImageError: its colours lie in the file as nothing here reads them.
    """
    tiles: list[Any] = getattr(picture, "tile", [])
    stored = str(tiles[0][3]) if tiles else ""
    if picture.format == "PNG":
        return stored.partition(";")[0] if stored.endswith(";16B") and not stored.startswith("I") else ""
    if picture.mode not in ("RGB", "RGBA"):
        return ""
    if picture.format == "PPM":
        arguments = tiles[0][3]  # Mode and white, where that isn't 255.
        return "RGB" if isinstance(arguments, tuple) and arguments[1] > 255 else ""
    if picture.format == "JPEG2000":
        return "RGB" if _jpeg2000_bits(_content(path, content)) > 8 else ""
    tags = getattr(picture, "tag_v2", {})
    if max(tags.get(_BITS, (8,))) <= 8:
        return ""
    _refuse_planes(path, tags)
    return "RGB"


def _refuse_planes(path: str | Path, tags: Mapping[int, Any]) -> None:
    """OpenCV mixes the planes up."""
    if tags.get(_PLANES, 1) != 1:
        raise ImageError(path, "a TIFF of more than 8 bits in separate planes", "store its colours pixel by pixel")


def _jpeg2000_bits(content: bytes) -> int:
    """Bits of the first component. Source: ITU-T T.800, A.5.1: SIZ follows SOC, and Ssiz stands 40 bytes into it."""
    start = content.find(b"\xff\x4f\xff\x51")
    return (content[start + 42] & 0x7F) + 1 if 0 <= start < len(content) - 42 else 8


def _content(path: str | Path, content: bytes | None) -> bytes:
    return Path(path).read_bytes() if content is None else content


def _wide(path: str | Path, content: bytes | None, size: Size, alpha: bool) -> tuple[NDArray, NDArray | None]:
    """(H, W, 3) RGB at its full depth, and opacity, by OpenCV."""
    import cv2  # Here, since the process that pycolmap runs in reads masks and shall do without.

    encoded = np.frombuffer(_content(path, content), np.uint8)
    log = cv2.utils.logging
    with _OPENCV_LOG, blaming(path, DAMAGED):
        level = log.getLogLevel()
        log.setLogLevel(log.LOG_LEVEL_SILENT)  # What it would print, the error says.
        try:
            values = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        finally:
            log.setLogLevel(level)
    if values is None or values.ndim != 3 or values.shape[2] < 3 or values.shape[1::-1] != size:
        raise ImageError(path, "its colours of more than 8 bits can't be decoded", "store it as PNG, or in 8 bits")
    return values[:, :, 2::-1], values[:, :, 3] if alpha and values.shape[2] == 4 else None


def _read_float_tiff(path: str | Path, content: bytes | None) -> FloatTiff:
    """Size and orientation of a TIFF that Pillow does not know, if it holds floating colours.

    Raises:
        ImageError: it holds something else.
    """
    with blaming(path, "damaged header"):
        file = io.BytesIO(_content(path, content))
        start = file.read(8)
        if start[2:4] in (b"+\0", b"\0+"):  # BigTIFF, whose header is twice as long.
            start += file.read(8)
        tags = ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
        if not {_WIDTH, _HEIGHT} <= set(tags):
            raise ImageError(path, "damaged header, or cut short", "fetch the file again")
        bits, samples, kind = tags.get(_BITS, (1,)), tags.get(_SAMPLES, 1), set(tags.get(_KIND, (1,)))
        if samples not in (3, 4) or kind != {3} or set(bits) - {32, 64}:
            described = f"a TIFF of {samples} channels of {max(bits)} bits"
            raise ImageError(path, described, "store it as grey or RGB of 8 or 16 bits, or of floats of 32 bits")
        _refuse_planes(path, tags)
        return FloatTiff((int(tags[_WIDTH]), int(tags[_HEIGHT])), int(tags.get(_ORIENTATION, 1)))


def _metadata(picture: Image.Image) -> Metadata:
    exif = _or_nothing(picture.getexif, Image.Exif())
    return Metadata(exif, *(_or_nothing(lambda tag=tag: exif.get_ifd(tag), {}) for tag in (_CAMERA, _GPS)))


def _orientation(picture: Image.Image) -> int:
    value = _or_nothing(lambda: picture.getexif().get(_ORIENTATION), 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _or_nothing(read: Callable[[], T], nothing: T) -> T:
    """Damaged metadata on a sound image: it is shown as stored, as viewers do."""
    try:
        return read()
    except Exception:
        return nothing
