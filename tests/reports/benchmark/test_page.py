"""The benchmark's page and its drawn pairs, without a browser."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
from lfnet.evaluation.data.truth import HomographyTruth
from lfnet.evaluation.feature_source import FeatureSource
from lfnet.evaluation.results import Results, Row, Section
from lfnet.features import Features
from lfnet.reports.benchmark.charts import Axis, linear_axis, log_axis
from lfnet.reports.benchmark.examples import INDEX, Example, draw_examples, ranked_pairs, read_examples, thinned
from lfnet.reports.benchmark.page import benchmark_page, embedded, method_places
from lfnet.reports.benchmark.plots import recall_series
from lfnet.reports.drawing import GREEN, RED
from support.made_results import ENVIRONMENT, METHODS, made_results

METRIC = "matching_score@5"
VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Tags that stay open, links, pictures and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.titles: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for key, value in attrs if key in ("src", "href") and value]
        self.titles[tag] = self.titles.get(tag, 0) + 1
        if tag == "img":
            self.pictures.append(str(values["src"]))
            assert values.get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page_text() -> str:
    """The page of all protocols, without drawings."""
    return benchmark_page(made_results())


def test_page_is_whole_and_needs_nothing_else(page_text: str) -> None:
    page = Page(page_text)
    assert page.open == []
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not re.search(r"https?://|@import|url\(", page_text)
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert len(anchors) == len(made_results().sections)
    assert all(f'id="{anchor}"' in page_text for anchor in anchors)


def test_names_are_escaped(page_text: str) -> None:
    assert "<&\"'" not in page_text
    assert "disk &lt;&amp;&quot;&#x27; (rival)" in page_text
    assert "no &lt;keypoints&gt; &amp; none" in page_text
    assert "A &lt;fast&gt; &amp; big processor" in page_text
    hostile = Results([Section("matching", "</style><script>", [])], {"commit": "</script>"}, {"<b>": {"x": "<i>"}})
    text = benchmark_page(hostile)
    assert text.count("<script>") == text.count("</script>") == text.count("</style>") == 1
    assert "<b>" not in text
    assert "<i>" not in text


def test_charts_are_well_formed_titled_and_finite(page_text: str) -> None:
    charts = re.findall(r'<svg [^>]*role="img".*?</svg>', page_text, re.DOTALL)
    assert len(charts) > 12
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.findtext("title")
        assert root.get("aria-label")
    drawn = " ".join(charts)
    assert not re.search(r'="[^"]*\b(?:nan|inf)\b', drawn)
    for label in ("turn of the second view, clockwise", "pose error (°)", "corner error (px)", "threshold (px)",
                  "keypoints of a picture, K", "milliseconds"):  # fmt: skip
        assert label in drawn


def test_every_method_has_one_colour_everywhere(page_text: str) -> None:
    places = method_places(made_results())
    assert list(places) == ["lfnet-cpu", "disk <&\"' (rival)", "rootsift", "sift", "orb"]
    for place in places.values():
        assert re.search(rf'class="s m{place} h{place}', page_text)


def test_tables_can_be_sorted_by_value(page_text: str) -> None:
    assert page_text.count('data-first="ascending"') > 5
    assert re.search(r'<td class="best" data-value="0\.41\d+"', page_text)
    cells = re.findall(r'<td(?: class="best")? data-value="([^"]*)"', page_text)
    assert all(math.isfinite(float(value)) for value in cells if value)
    assert "" in cells


def test_page_has_match_errors_by_octave(page_text: str) -> None:
    assert page_text.count("by octave of the keypoint, K = 512</h3>") == 1
    for header in ("median match error (px)", "octave 1/4 (px)", "share at 1/4"):
        assert f">{header.replace(' px', '&nbsp;px')}</button>" in page_text


def test_what_was_skipped_is_listed(page_text: str) -> None:
    for text in ("scene0013_00/frame-13.jpg", "there is no folder images beside it", "far: no &lt;folder&gt; there"):
        assert text in page_text
    assert "Nothing could be measured." in page_text


def test_page_of_nothing() -> None:
    assert Page(benchmark_page(Results([], {}))).open == []


def test_axes() -> None:
    axis = linear_axis("score", 0.47)
    assert (axis.low, axis.high) == (0, pytest.approx(0.5))
    assert [text for _, text in axis.ticks] == ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]
    assert [text for _, text in linear_axis("ms", 1300).ticks] == ["0", "500", "1,000", "1,500"]
    assert [text for _, text in linear_axis("score", 0.9, count=4).ticks] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    zoom = log_axis("zoom", [0.25, 1, 4])
    assert zoom.share(1.0) == pytest.approx(0.5, abs=0.1)
    assert Axis("x", 1, 4, [], log=True).share(2) == pytest.approx(0.5)
    assert Axis("x", 0, 1, []).share(7) == 1


def test_recall_curve_by_hand() -> None:
    errors = (0.0, 1.0, 4.0, math.inf, math.nan)
    rows = [Row("sift", str(i), str(i % 2), {"pose_error": error}) for i, error in enumerate(errors)]
    series = recall_series(Section("pose", "hand", rows), "pose_error", 4.0, {"sift": 0})[0]
    curve = dict(series.points)
    assert (curve[0.0], curve[1.0], curve[4.0]) == (0.25, 0.5, 0.75)


class Corners:
    """Finds the same known places in every picture; describes them rightly, but for the first `wrong`."""

    name = "known/places"
    settings: dict[str, object] = {"kind": "test"}  # noqa: RUF012

    def __init__(self, shift: int, count: int, wrong: int) -> None:
        self.shift, self.count, self.wrong = shift, count, wrong

    def __call__(self, image: NDArray, *, max_keypoints: int, mask: NDArray | None = None) -> Features:
        second = image[0, 0] == 255
        generator = np.random.default_rng(0)
        keypoints = generator.uniform(30, 90, (self.count, 2)) + (self.shift if second else 0) * np.array([1, 0])
        described = np.eye(self.count, dtype=np.float32)
        if second:
            described[: self.wrong] = described[: self.wrong][::-1]
        ones = np.ones(self.count)
        size = (image.shape[1], image.shape[0])
        return Features(keypoints, ones, 0 * ones, ones, described, size).top(max_keypoints)


def shifted_pair(shift: int = 10) -> Dataset:
    """Two pictures, the second moved to the left."""
    first, second = np.zeros((120, 160), np.uint8), np.zeros((120, 160), np.uint8)
    second[0, 0] = 255
    matrix = np.array([[1.0, 0, shift], [0, 1, 0], [0, 0, 1]])
    truth = HomographyTruth(matrix, (160, 120), (160, 120))
    pair = EvaluationPair("a & b", "g", "a.png", "b.png", truth)
    return Dataset("two", "test", [pair], {"a.png": first, "b.png": second}.__getitem__, "pairs")


def test_drawn_pairs_count_right_matches(tmp_path: Path) -> None:
    method = Corners(10, 200, 20)
    rows = [Row(method.name, "a & b", "g", {METRIC: 0.9}, budget=budget) for budget in (200, 400)]
    section = Section("matching", "two", rows)
    drawn = draw_examples(shifted_pair(), section, FeatureSource([method]), tmp_path)
    assert [example.rank for example in drawn] == ["best"]
    example = drawn[0]
    assert (example.right, example.known, example.drawn, example.budget) == (180, 200, 150, 200)
    assert example.caption == "known/places: score 0.900, 180 of 200 known matches right (150 drawn)"
    assert example.picture.parent == tmp_path / "pictures"
    with Image.open(example.picture) as picture:
        assert picture.size == (example.width, example.height)
        pixels = np.asarray(picture).astype(int)
    green, red = (int((np.abs(pixels - np.array(colour)).max(axis=-1) < 60).sum()) for colour in (GREEN, RED))
    assert green > red > 0
    assert read_examples(tmp_path) == drawn


def test_examples_of_other_sections_stay_and_a_damaged_index_is_none(tmp_path: Path) -> None:
    method = Corners(10, 20, 0)
    rows = [Row(method.name, "a & b", "g", {METRIC: math.nan if index else 0.9}, budget=20) for index in range(2)]
    for data in ("two", "other", "two"):
        draw_examples(shifted_pair(), Section("matching", data, rows[:1]), FeatureSource([method]), tmp_path)
    assert [example.section for example in read_examples(tmp_path)] == ["matching on other", "matching on two"]
    assert draw_examples(shifted_pair(), Section("matching", "x", rows[1:]), FeatureSource([method]), tmp_path) == []
    index = tmp_path / "pictures" / INDEX
    assert len(json.loads(index.read_text())) == 2
    index.write_text("{")
    assert read_examples(tmp_path) == []
    assert read_examples(tmp_path / "nowhere") == []


def test_best_median_and_worst() -> None:
    rows = [Row("m", str(i), "g", {METRIC: value}) for i, value in enumerate((0.1, 0.5, math.nan, 0.9, 0.3))]
    section = Section("matching", "x", rows)
    assert ranked_pairs(section, "m", METRIC) == {"best": "3", "median": "4", "worst": "0"}
    two = dataclasses.replace(section, rows=rows[:2])
    assert ranked_pairs(two, "m", METRIC) == {"best": "1", "median": "0"}
    assert ranked_pairs(section, "nobody", METRIC) == {}


def test_many_matches_are_thinned_in_proportion() -> None:
    correct = np.arange(1000) % 4 == 0
    kept = thinned(correct, 100)
    assert len(kept) == len(set(kept.tolist())) == 100
    assert correct[kept].sum() == 25
    assert (thinned(correct[:50], 100) == np.arange(50)).all()


def noisy_examples(folder: Path, count: int) -> list[Example]:
    """Drawings that don't compress."""
    generator = np.random.default_rng(0)
    found = []
    for index in range(count):
        path = folder / f"{index}.jpg"
        Image.fromarray(generator.integers(0, 255, (375, 1000, 3), dtype=np.uint8)).save(path, quality=80)
        method = list(METHODS)[index % len(METHODS)]
        counts = (512, 0.5, 3, 4, 4, 1000, 375)
        found.append(Example("matching on walk", "best", "lfnet-cpu", f"pair {index}", method, *counts, path))
    return found


def test_drawings_are_embedded_and_a_page_stays_small(tmp_path: Path) -> None:
    examples = noisy_examples(tmp_path, 12)
    text = benchmark_page(made_results(), examples)
    assert len(text) < 5_000_000
    page = Page(text)
    assert len(page.pictures) == 12
    with Image.open(io.BytesIO(base64.b64decode(page.pictures[0].split(",", 1)[1]))) as picture:
        assert picture.format == "JPEG"
    assert "3 of 4 known matches right" in text
    few = embedded(examples, most=200_000)
    assert 0 < len(few) < 12
    assert sum(len(content) for _, content in few) <= 200_000


def test_page_says_what_it_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfnet.reports.benchmark.page.embedded", lambda examples: [])
    text = benchmark_page(Results(made_results().sections[:1], ENVIRONMENT), noisy_examples(tmp_path, 2))
    assert "2 drawings are left out" in text
