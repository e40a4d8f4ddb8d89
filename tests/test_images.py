"""Reading pictures of every kind that users have, and saying in one line why one can't be read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.images import (
    ImageError,
    decode_image,
    grey_bytes,
    list_images,
    read_grey,
    read_image,
    shrink,
    shrunk_size,
    to_grey,
)
from support.pictures import png_header


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


def test_pictures_of_a_folder_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10.JPG", "b9.jpg", "a.png", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.tif").touch()
    names = [path.relative_to(tmp_path).as_posix() for path in list_images([tmp_path, tmp_path / "a.png"])]
    assert names == ["a.png", "b9.jpg", "b10.JPG", "sub/c.tif"]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no pictures in this folder"):
        list_images([tmp_path])


def test_shrinking_keeps_the_shape_and_never_enlarges(coffee: NDArray[np.uint8]) -> None:
    assert shrink(coffee, 150).shape == (100, 150, 3)
    assert shrink(coffee, 1000) is coffee
    assert shrink(coffee, None) is coffee
    assert shrunk_size((4000, 1), 100) == (100, 1)


def test_linked_folders_are_searched_once_and_broken_links_told(folder: Path, tmp_path: Path) -> None:
    """A circle ends, a folder linked twice counts once, and names go by the path as given."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "camera.png").rename(elsewhere / "linked.png")
    (folder / "far").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder / "inside")
    (elsewhere / "circle").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    names = [path.relative_to(folder).as_posix() for path in list_images(folder)]
    assert names == ["coffee.jpg", "far/linked.png", "inside/turned.png"]
    with_broken = [path.relative_to(folder).as_posix() for path in list_images(folder, broken_links=True)]
    assert with_broken == ["coffee.jpg", "far/linked.png", "gone.jpg", "inside/turned.png"]


def test_an_image_in_memory_is_read_upright_and_by_chosen_formats_alone(coffee: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = io.BytesIO()
    Image.fromarray(coffee).save(content, "PNG", exif=exif)
    read = decode_image(content.getvalue(), "coffee.png")
    assert np.array_equal(read, np.rot90(coffee, -1))
    with pytest.raises(ImageError, match=r"^coffee\.png: not a picture in any known format"):
        decode_image(content.getvalue(), "coffee.png", formats=["JPEG"])
    with pytest.raises(ImageError, match="the file is empty"):
        decode_image(b"", "coffee.png")
    with pytest.raises(ImageError, match="more than the limit"):
        decode_image(content.getvalue(), "coffee.png", max_pixels=100)
