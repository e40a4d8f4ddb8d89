"""Files that are read by rows against the same files read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet import image_rows
from lfnet.errors import UserError
from lfnet.image_rows import ArrayRows, open_rows
from lfnet.images import ImageError, read_image, to_grey
from support.pictures import png_header

BY_ROWS = ("tiled.tif", "striped.tif", "a.png", "grey.png", "alpha.png", "wide.tif", "a.jp2")
WHOLE = ("a.jpg", "palette.png", "bits.png", "a.bmp", "a.webp", "float.tif", "inks.jpg")


pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


@pytest.fixture
def files(tmp_path: Path, coffee: NDArray[np.uint8]) -> Path:
    """One picture in many formats."""
    rasterio = pytest.importorskip("rasterio")
    picture = Image.fromarray(coffee)
    options = {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 32}
    height, width = coffee.shape[:2]
    with rasterio.open(
        tmp_path / "tiled.tif", "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8", **options
    ) as file:
        file.write(np.moveaxis(coffee, -1, 0))
    picture.save(tmp_path / "striped.tif", compression="tiff_lzw")
    for name in ("a.png", "a.jpg", "a.bmp"):
        picture.save(tmp_path / name)
    for name in ("a.webp", "a.jp2"):
        picture.save(tmp_path / name, lossless=True)
    picture.convert("L").save(tmp_path / "grey.png")
    picture.convert("RGBA").save(tmp_path / "alpha.png")
    picture.convert("P").save(tmp_path / "palette.png")
    picture.convert("1").save(tmp_path / "bits.png")
    picture.convert("CMYK").save(tmp_path / "inks.jpg")
    grey = np.asarray(picture.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 11).save(tmp_path / "wide.tif")
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "float.tif")
    return tmp_path


@pytest.mark.parametrize("name", BY_ROWS + WHOLE)
def test_rows_are_those_of_the_whole_picture(name: str, files: Path) -> None:
    grey = to_grey(read_image(files / name))
    with open_rows(files / name) as picture:
        assert isinstance(picture, image_rows._RasterRows) == (name in BY_ROWS)
        assert picture.size == grey.shape[::-1]
        for start, stop in ((0, 17), (90, 200), (17, 90)):
            # Wide values are not rounded to bytes here.
            tolerance = 3e-3 if name == "wide.tif" else 1e-6
            assert np.allclose(picture.rows(start, stop), grey[start:stop], atol=tolerance)


def test_without_rasterio_the_whole_is_decoded(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_rows, "find_spec", lambda name: None)
    with open_rows(files / "tiled.tif") as picture:
        assert np.allclose(picture.rows(30, 50), to_grey(read_image(files / "tiled.tif"))[30:50])
    with pytest.raises(ImageError, match=r"300x200 pixels are more than the 0\.05 megapixels.*lfnet\[large\]"):
        with open_rows(files / "tiled.tif", max_pixels=50_000):
            pass


def test_what_is_decoded_whole_is_bounded(files: Path) -> None:
    with pytest.raises(ImageError, match=r"300x200 pixels are more than .*--max-megapixels"):
        with open_rows(files / "a.bmp", max_pixels=50_000):
            pass
    with open_rows(files / "tiled.tif", max_pixels=50_000) as picture:
        assert picture.size == (300, 200)


def test_a_large_jpeg_is_read_by_rows_and_is_nearly_the_same(files: Path) -> None:
    grey = to_grey(read_image(files / "a.jpg"))
    with open_rows(files / "a.jpg", max_pixels=50_000) as picture:
        assert isinstance(picture, image_rows._RasterRows)
        assert np.abs(picture.rows(40, 90) - grey[40:90]).max() < 8 / 255


@pytest.mark.parametrize("name", ["a.jpg", "tiled.tif", "a.bmp"])
def test_a_file_that_is_cut_short_says_so(name: str, files: Path) -> None:
    content = (files / name).read_bytes()
    (files / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ImageError, match="damaged or cut short"), open_rows(files / name) as picture:
        picture.rows(0, 200)


def test_what_is_no_picture_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("nothing")
    with pytest.raises(ImageError, match="not a picture"), open_rows(tmp_path / "a.tif"):
        pass
    with pytest.raises(ImageError, match="no such file"), open_rows(tmp_path / "b.tif"):
        pass
    with pytest.raises(UserError, match="expected"):
        ArrayRows(np.zeros((3, 4, 2), np.uint8))


def test_a_huge_claim_of_a_small_file_costs_nothing(tmp_path: Path) -> None:
    """A header of 10,000 megapixels without pixels: one line, and no memory."""
    (tmp_path / "a.png").write_bytes(png_header(100_000, 100_000))
    with pytest.raises(ImageError), open_rows(tmp_path / "a.png") as picture:
        picture.rows(0, 10)


def test_whatever_a_decoder_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.bmp")

    def fail(*_: object) -> None:
        raise RuntimeError("not what was expected")

    monkeypatch.setattr("PIL.BmpImagePlugin.BmpImageFile.load", fail)
    with pytest.raises(ImageError, match=r"a\.bmp: damaged or cut short \(not what"), open_rows(tmp_path / "a.bmp"):
        pass
