"""Masks of every kind that users have, found by their names and read one way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.images import ImageError
from lfnet.masks import Masks, held_mask, read_mask
from support.pictures import png_of_16_bits

LEFT = np.zeros((8, 12), bool)
LEFT[:, :5] = True


def colours(*values: int) -> NDArray[np.uint8]:
    return LEFT[..., None] * np.array(values, np.uint8)


def with_alpha(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.dstack([colour, alpha]))


WHITE, BLACK = np.full((8, 12), 255, np.uint8), np.zeros((8, 12), np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(LEFT),
        Image.fromarray(LEFT.astype(np.uint8)),
        Image.fromarray(LEFT.astype(np.uint16)),
        Image.fromarray(colours(0, 0, 9)),
        Image.fromarray(colours(3, 0, 0)).quantize(2),
        with_alpha(np.dstack([BLACK] * 3), LEFT * np.uint8(255)),
        with_alpha(np.dstack([WHITE] * 3), LEFT * np.uint8(1)),
        with_alpha(WHITE, LEFT * np.uint8(9)),
        with_alpha(colours(0, 7, 0), WHITE),
        with_alpha(colours(0, 7, 0), BLACK),
    ],
    ids=lambda image: image.mode,
)
def test_any_colour_that_is_not_0_counts_and_alpha_where_colour_is_one(tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", 1000), LEFT)
    assert np.array_equal(held_mask(image, LEFT.shape), LEFT)


def test_wide_masks(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(png_of_16_bits(np.dstack([LEFT * 0, LEFT * 0, LEFT]).astype(np.uint16)))
    assert np.array_equal(read_mask(path, 1000), LEFT)
    path.write_bytes(png_of_16_bits(np.dstack([LEFT * 0, LEFT]).astype(np.uint16)))
    assert np.array_equal(read_mask(path, 1000), LEFT)
    Image.fromarray((LEFT * 0.001).astype(np.float32)).save(tmp_path / "mask.tif")
    assert np.array_equal(read_mask(tmp_path / "mask.tif", 1000), LEFT)
    Image.fromarray(np.where(LEFT, np.nan, 1).astype(np.float32)).save(tmp_path / "mask.tif")
    with pytest.raises(ImageError, match="holds NaN"):
        read_mask(tmp_path / "mask.tif", 1000)


def test_colour_and_alpha_both_the_same_everywhere(tmp_path: Path) -> None:
    for colour, alpha, usable in ((WHITE, WHITE, True), (WHITE, BLACK, False), (BLACK, WHITE, False)):
        with_alpha(colour, alpha).save(tmp_path / "mask.png")
        assert (read_mask(tmp_path / "mask.png", 1000) == usable).all()


def test_a_mask_is_found_by_any_ending_and_one_file_serves_all(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    wanted = {
        "a.jpg": "a.PNG",
        "b.JPG": "b.jpg",
        "c.jpg": "c.jpg.Tif",
        "in/d.jpg": "in/d.webp",
        "e.jpg": "e.jpg.png",
        "f.heic": None,
    }
    for name in (*filter(None, wanted.values()), "e.png", "e.tif", "f.txt"):
        (tmp_path / name).touch()
    masks = Masks(tmp_path)
    for name, expected in wanted.items():
        assert masks.of(name) == (None if expected is None else tmp_path / expected)
    one = Masks(tmp_path / "a.PNG")
    assert {one.of(name) for name in wanted} == {tmp_path / "a.PNG"}
    assert one.files() == [tmp_path / "a.PNG"]
    assert len(masks.files()) == 7
    with pytest.raises(ImageError, match=r"no mask for image 'f\.heic'"):
        masks.read("f.heic", 1000)


def test_palettes_and_inks_that_a_caller_holds_are_colours() -> None:
    """The number of a colour in its palette says nothing, and no ink is white."""
    palette = Image.fromarray((~LEFT).astype(np.uint8), "P")
    palette.putpalette([255, 255, 255, 0, 0, 0])
    for image in (palette, Image.fromarray(colours(255, 255, 255)).convert("CMYK")):
        assert np.array_equal(held_mask(image, LEFT.shape), LEFT), image.mode
