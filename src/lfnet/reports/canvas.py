"""Text, frames and histograms on pictures, for reports that people look at: OpenCV for shapes, Pillow for text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
"""Red, green, blue in [0, 255]."""
Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""

WHITE: Colour = (255, 255, 255)
INK: Colour = (30, 34, 40)
BLUE: Colour = (40, 110, 190)
ORANGE: Colour = (225, 115, 20)
TEXT = 15
"""Height of letters with their line, pixels."""


def blank(width: int, height: int, colour: Colour = WHITE) -> Picture:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def write_text(canvas: Picture, text: str, place: tuple[float, float], colour: Colour = INK, size: int = TEXT) -> None:
    """Write a line of text in place, its top-left corner at (x, y) pixels."""
    image = Image.fromarray(canvas)
    ImageDraw.Draw(image).text(place, text, fill=colour, font=_font(size), anchor="la")
    canvas[:] = np.asarray(image)


def text_width(text: str, size: int = TEXT) -> int:
    """Pixels that a line of text takes."""
    return int(np.ceil(_font(size).getlength(text)))


def shortened(text: str, width: int, size: int = TEXT) -> str:
    """The text, without its middle where it is wider than `width` pixels: names differ at their ends."""
    if text_width(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"
        if text_width(short, size) <= width:
            return short
    return ""


def titled(picture: Picture, text: str, size: int = TEXT) -> Picture:
    """The picture under a line of text, shortened to its width."""
    strip = blank(picture.shape[1], size + 9)
    write_text(strip, shortened(text, picture.shape[1] - 4, size), (2, 3), size=size)
    return np.concatenate((strip, picture))


def widened(picture: Picture, width: int) -> Picture:
    """The picture with white to its right, up to a width."""
    wide = blank(max(width, picture.shape[1]), len(picture))
    wide[:, : picture.shape[1]] = picture
    return wide


def beside(pictures: Sequence[Picture], gap: int = 6) -> Picture:
    """Pictures in a row, their tops aligned."""
    height = max(len(picture) for picture in pictures)
    parts: list[Picture] = []
    for picture in pictures:
        padded = blank(picture.shape[1], height)
        padded[: len(picture)] = picture
        parts += [padded, blank(gap, height)]
    return np.concatenate(parts[:-1], axis=1)


def in_rows(pictures: Sequence[Picture], width: int, gap: int = 14) -> list[Picture]:
    """Pictures in order, as many to a row as fit in `width`, at least one."""
    rows: list[list[Picture]] = []
    room = -1
    for picture in pictures:
        room -= picture.shape[1] + gap
        if room < 0:
            rows.append([])
            room = width - picture.shape[1]
        rows[-1].append(picture)
    return [beside(row, gap) for row in rows]


def stacked(pictures: Sequence[Picture], gap: int = 10, margin: int = 0) -> Picture:
    """Pictures in a column, their left edges aligned."""
    width = max(picture.shape[1] for picture in pictures)
    parts: list[Picture] = []
    for picture in pictures:
        parts += [widened(picture, width), blank(width, gap)]
    column = np.concatenate(parts[:-1])
    edge = cv2.copyMakeBorder(column, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=WHITE)
    return np.asarray(edge, np.uint8)


def fitted(picture: NDArray[np.uint8], width: int, height: int) -> Picture:
    """A picture, grey or RGB, scaled as a whole to fit into width x height."""
    factor = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[:, :, None], 3, axis=2)


@dataclass(frozen=True)
class Axis:
    """What a histogram is of."""

    name: str
    edges: NDArray[np.float64]
    """Of the bars, ascending; bars are drawn equally wide."""
    marks: Sequence[tuple[float, str]]
    """Values that are written below, and how."""


def histogram(values: NDArray[Any], axis: Axis, colour: Colour, width: int = 340, height: int = 170) -> Picture:
    """Bars of how many values lie between the edges, the median marked; values beyond are in the outermost bars."""
    canvas = blank(width, height + 46)
    left, right, top = 46, width - 26, 10
    counts, _ = np.histogram(np.clip(values, axis.edges[0], axis.edges[-1]), axis.edges)
    highest = max(int(counts.max()), 1)
    places = np.linspace(left, right, len(axis.edges))
    for bar, count in enumerate(counts):
        bar_top = round(height - (height - top) * count / highest)
        if count:
            corners = (round(places[bar]) + 1, bar_top), (round(places[bar + 1]) - 1, height)
            cv2.rectangle(canvas, *corners, colour, cv2.FILLED)
    cv2.line(canvas, (left, height), (right, height), INK, 1)
    for value, label in axis.marks:
        x = float(np.interp(value, axis.edges, places))
        cv2.line(canvas, (round(x), height), (round(x), height + 4), INK, 1)
        write_text(canvas, label, (x - text_width(label) / 2, height + 5))
    for count, y in ((highest, top), (0, height)):
        write_text(canvas, str(count), (left - 6 - text_width(str(count)), y - TEXT / 2 - 2))
    if len(values):
        x = round(float(np.interp(np.median(values), axis.edges, places)))
        cv2.line(canvas, (x, top), (x, height), INK, 1, cv2.LINE_AA)
    write_text(canvas, axis.name, ((left + right - text_width(axis.name)) / 2, height + 25))
    return canvas


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
