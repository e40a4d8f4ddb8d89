"""Reading pictures of every kind that users have, and saying in one line why one can't be read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.image_decoding import read_metadata
from lfnet.images import (
    ImageError,
    decode_image,
    grey_bytes,
    image_size,
    read_grey,
    read_image,
    shrink,
    shrunk_size,
    to_grey,
)
from support.pictures import HEIC, png_header, png_of_16_bits


def test_rgb_comes_back_as_stored(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    Image.fromarray(coffee).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), coffee)


def test_sixteen_bits_are_scaled_by_what_they_use(tmp_path: Path) -> None:
    of_16_bits, of_12_bits, dark = [0, 257, 32768, 65535], [0, 16, 2048, 4095], [0, 3, 2, 1]
    for name in ("a.png", "a.tif"):
        for values, expected in ((of_16_bits, [0, 1, 128, 255]), (of_12_bits, [0, 1, 128, 255]), (dark, [0, 1, 0, 0])):
            Image.fromarray(np.array([values], np.uint16)).save(tmp_path / name)
            assert read_grey(tmp_path / name).tolist() == [expected]
            assert read_image(tmp_path / name).shape == (1, 4, 3)


def test_grey_with_alpha_keeps_the_grey(tmp_path: Path, camera: NDArray[np.uint8]) -> None:
    alpha = np.full_like(camera, 40)
    Image.fromarray(np.stack([camera, alpha], axis=2)).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "LA"
    assert np.array_equal(read_grey(tmp_path / "a.png"), camera)


def test_colour_with_alpha_keeps_the_colour(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    alpha = np.full(coffee.shape[:2], 7, np.uint8)
    Image.fromarray(np.dstack([coffee, alpha])).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), coffee)


def test_palettes_with_and_without_transparency(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    palette = Image.fromarray(coffee).quantize(64)
    expected = np.array(palette.convert("RGB"))
    palette.save(tmp_path / "plain.png")
    palette.save(tmp_path / "clear.png", transparency=bytes(range(64)))
    for name in ("plain.png", "clear.png"):
        assert Image.open(tmp_path / name).mode == "P"
        assert np.array_equal(read_image(tmp_path / name), expected)


def test_black_and_white_of_one_bit(tmp_path: Path, camera: NDArray[np.uint8]) -> None:
    Image.fromarray(camera).convert("1").save(tmp_path / "a.png")
    assert set(np.unique(read_grey(tmp_path / "a.png"))) == {0, 255}


def test_cmyk_is_read_as_the_colours_it_shows(tmp_path: Path) -> None:
    red = Image.new("RGB", (64, 64), (255, 0, 0)).convert("CMYK")
    for name in ("a.jpg", "a.tif"):
        red.save(tmp_path / name)
        assert Image.open(tmp_path / name).mode == "CMYK"
        pixel = read_image(tmp_path / name)[32, 32].astype(int)
        assert np.abs(pixel - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_as_pillow_does_and_only_when_asked(
    tmp_path: Path, coffee: NDArray[np.uint8], orientation: int
) -> None:
    from PIL import ImageOps

    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(coffee).save(path, exif=exif)
    assert np.array_equal(read_image(path), coffee)
    upright = np.array(ImageOps.exif_transpose(Image.open(path)))
    assert np.array_equal(read_image(path, exif_rotate=True), upright)


def test_floating_tiff_is_scaled_and_nan_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(path)
    assert read_grey(path).tolist() == [[0, 128, 255]]
    Image.fromarray(np.array([[0.0, np.nan]], np.float32)).save(path)
    with pytest.raises(ImageError, match="holds NaN"):
        read_grey(path)
    Image.fromarray(np.array([[-3.0, 1e6]], np.float32)).save(path)
    with pytest.raises(ImageError, match="floating values from -3 to 1e"):
        read_grey(path)


def test_a_truncated_jpeg_is_an_error_and_no_half_grey_picture(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(coffee).save(buffer, "JPEG")
    for share in (0.3, 0.7, 0.98):
        path = tmp_path / "cut.jpg"
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
        with pytest.raises(ImageError, match=r"cut\.jpg: damaged or cut short"):
            read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"this is a letter, not a picture", "not a picture"),
        (b"\xff\xd8\xff\xe0", "not a picture|damaged"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a picture|damaged"),
    ],
)
def test_what_is_no_picture_is_said_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "letter.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.jpg: no such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(20_000, 20_000))
    with pytest.raises(ImageError, match=r"20000x20000 pixels are more than the limit of 100 megapixels; .*raise"):
        read_image(path)
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(path, max_pixels=20_000 * 20_000)


def test_grey_has_one_definition(coffee: NDArray[np.uint8]) -> None:
    grey = to_grey(coffee)
    assert grey.dtype == np.float32
    expected = coffee.astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    assert np.allclose(grey, expected, atol=1e-6)
    assert np.allclose(to_grey((coffee / 255.0).astype(np.float32)), expected, atol=1e-6)
    assert to_grey(np.full((2, 2), 255, np.uint8)).max() == pytest.approx(1.0)
    assert np.abs(grey_bytes(coffee) - 255 * expected).max() <= 0.5 + 1e-4
    assert np.array_equal(grey_bytes(coffee[..., 1]), coffee[..., 1])
    with pytest.raises(ValueError, match="uint8, uint16 or floating"):
        to_grey(np.zeros((4, 4), np.int32))
    with pytest.raises(ValueError, match="shape"):
        to_grey(np.zeros((4, 4, 2), np.uint8))


def test_shrinking_keeps_the_shape_and_never_enlarges(coffee: NDArray[np.uint8]) -> None:
    assert shrink(coffee, 150).shape == (100, 150, 3)
    assert shrink(coffee, 1000) is coffee
    assert shrink(coffee, None) is coffee
    assert shrunk_size((4000, 1), 100) == (100, 1)


def of_ten_bits(camera: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """A real image as a camera of ten bits has it, in three colours of 16 bits."""
    grey = camera[:60, :80].astype(np.uint16)
    return np.stack([grey * 4, 1023 - grey * 4, grey * 2], axis=2)


@pytest.mark.parametrize("ending", ["png", "tif", "ppm", "jp2"])
def test_colours_of_16_bits_are_scaled_as_grey_is(tmp_path: Path, camera: NDArray[np.uint8], ending: str) -> None:
    """Their high bytes alone would be four levels."""
    values = of_ten_bits(camera)
    path = tmp_path / f"a.{ending}"
    assert cv2.imwrite(str(path), values[..., ::-1])
    read = read_image(path)
    assert len(np.unique(read[..., 0])) > 40
    expected = np.rint(values / max(values.max(), 1023) * 255)
    assert np.abs(read.astype(float) - expected).max() <= (40 if ending == "jp2" else 1)
    assert image_size(path) == (80, 60)


def test_alpha_of_16_bits_is_dropped(tmp_path: Path, camera: NDArray[np.uint8]) -> None:
    values = of_ten_bits(camera)
    path = tmp_path / "a.png"
    path.write_bytes(png_of_16_bits(values))
    plain = read_image(path)
    path.write_bytes(png_of_16_bits(np.dstack([values, np.full(values.shape[:2], 65535, np.uint16)])))
    assert np.array_equal(read_image(path), plain)
    path.write_bytes(png_of_16_bits(np.dstack([values[..., :1], np.full(values.shape[:2], 65535, np.uint16)])))
    assert len(np.unique(read_grey(path))) > 40


def test_floating_colours_are_read_or_refused(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.tif"
    for kind in (np.float32, np.float64):
        cv2.imwrite(str(path), (coffee / 255).astype(kind)[..., ::-1])
        assert np.array_equal(read_image(path), coffee)
        assert image_size(path) == (300, 200)
    cv2.imwrite(str(path), (coffee * 40.0).astype(np.float32))
    with pytest.raises(ImageError, match="floating values from 0 to 10"):
        read_image(path)
    with pytest.raises(ImageError, match="more than the limit"):
        read_image(path, max_pixels=1000)
    for name in ("a.hdr", "a.jpg"):
        (tmp_path / name).write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n\1\1\1\1")
        with pytest.raises(ImageError, match=rf"{name}: high dynamic range, .*tone-map it"):
            read_image(tmp_path / name)


def test_a_cut_file_of_wide_colours_is_an_error(tmp_path: Path, camera: NDArray[np.uint8]) -> None:
    values = of_ten_bits(camera)
    for name, kind in (("a.png", np.uint16), ("a.tif", np.uint16), ("f.tif", np.float32)):
        path = tmp_path / name
        cv2.imwrite(str(path), (values / (1023 if kind == np.float32 else 1)).astype(kind))
        whole = path.read_bytes()
        for share in (0.3, 0.9):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(ImageError, match=r"cut short|damaged|TIFF"):
                read_image(path)


@pytest.mark.parametrize("name", ["a.jpe", "a.jfif", "a.JPEG", "a.mpo", "a.tga", "a.TGA", "a.pnm", "a.dib", "a.avif"])
def test_other_endings(tmp_path: Path, coffee: NDArray[np.uint8], name: str) -> None:
    kind = {"mpo": "MPO", "tga": "TGA", "pnm": "PPM", "dib": "BMP", "avif": "AVIF"}.get(name[2:].lower(), "JPEG")
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    more = {"save_all": True, "append_images": [Image.fromarray(coffee[::-1].copy())]} if kind == "MPO" else {}
    Image.fromarray(coffee).save(tmp_path / name, kind, **more)
    difference = np.abs(read_image(tmp_path / name).astype(int) - coffee)
    assert difference.mean() < 6
    assert image_size(tmp_path / name) == (300, 200)


def test_heic_is_read_by_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(HEIC)
    with monkeypatch.context() as patch:
        patch.setattr("lfnet.image_decoding._register_heif", lambda: None)
        patch.delitem(Image.OPEN, "HEIF", raising=False)
        with pytest.raises(ImageError, match=r"a\.heic: HEIC .*pip install 'lfnet\[heic\]'"):
            read_image(path)
    pytest.importorskip("pi_heif").register_heif_opener()
    pixels = read_image(path).astype(int)
    assert pixels.shape == (64, 64, 3)
    assert np.abs(pixels[:, 40:] - [200, 100, 50]).max() < 8
    assert pixels[:, :24].max() < 8


def test_only_the_formats_that_are_named_are_tried(tmp_path: Path) -> None:
    """By its first bytes Pillow would take this for EPS, whose pixels Ghostscript draws."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert Image.open(path).format == "EPS"
    with pytest.raises(ImageError, match="not a picture in any known format"):
        read_image(path)
    Image.new("RGB", (8, 8)).save(tmp_path / "icon.png", "ICO", sizes=[(8, 8)])
    with pytest.raises(ImageError, match="not a picture in any known format"):
        image_size(tmp_path / "icon.png")


def test_raw_files_get_a_hint_and_no_thumbnail(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    Image.fromarray(coffee).save(tmp_path / "a.NEF", "TIFF")
    with pytest.raises(ImageError, match=r"a\.NEF: a camera's raw file; develop it"):
        read_image(tmp_path / "a.NEF")


def test_whatever_a_decoder_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    for error in (RuntimeError("a\nb"), NotImplementedError(), AttributeError("x"), ZeroDivisionError("y")):

        def fail(*arguments: object, error: Exception = error, **options: object) -> None:
            raise error

        for place in ("PIL.Image.open", "PIL.PngImagePlugin.PngImageFile.load"):
            with monkeypatch.context() as patch:
                patch.setattr(place, fail)
                with pytest.raises(ImageError, match=r"a\.png: damaged") as caught:
                    read_image(path)
                assert "\n" not in str(caught.value)


def test_pipes_and_links_to_nothing_are_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="is a device or a pipe"):
        read_image(tmp_path / "pipe.png")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match=r"gone\.jpg: a link to .*nowhere\.jpg, which is not there"):
        image_size(tmp_path / "gone.jpg")


def test_bytes_are_read_as_files_are(coffee: NDArray[np.uint8]) -> None:
    content = io.BytesIO()
    Image.fromarray(coffee).save(content, "PNG")
    assert np.array_equal(decode_image(content.getvalue(), "frame 3"), coffee)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    Image.fromarray(coffee).save(turned, "PNG", exif=exif)
    assert np.array_equal(decode_image(turned.getvalue(), "frame 3", exif_rotate=True), np.rot90(coffee, -1))
    with pytest.raises(ImageError, match="frame 3: damaged"):
        decode_image(content.getvalue()[:2000], "frame 3")
    with pytest.raises(ImageError, match="the file is empty"):
        decode_image(b"", "frame 3")
    with pytest.raises(ImageError, match="more than the limit"):
        decode_image(content.getvalue(), "frame 3", max_pixels=100)


def test_damaged_metadata_leaves_a_sound_image(tmp_path: Path, coffee: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(coffee).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + b"\x01\x12\0\x05\0\0\0\1\0\0\0\0")
    assert read_image(path, exif_rotate=True).shape == coffee.shape
    told = read_metadata(path)
    assert (dict(told.gps), dict(told.camera)) == ({}, {})
    told.writable.tobytes()


def test_grey_of_a_palette_is_that_of_its_colours(coffee: NDArray[np.uint8]) -> None:
    palette = Image.fromarray(coffee).quantize(16)
    assert np.array_equal(to_grey(palette), to_grey(np.asarray(palette.convert("RGB"))))
