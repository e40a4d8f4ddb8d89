"""The demo as a user runs it, with an untrained network."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lfnet.evaluation.results import UNTOUCHED_NAME, Results, Row, Section, describe_environment, read_results
from lfnet.reports.demo_page import Drawing, demo_page
from lfnet.reports.drawing import GREEN, RED

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Tags that open and close, and the pictures in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for key, value in attrs if key in ("src", "href") and value]
        if tag == "img":
            self.pictures.append(values)
        elif tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def count(path: Path, colour: tuple[int, int, int]) -> int:
    """Pixels of a picture that have a colour."""
    with Image.open(path) as picture:
        return int((np.asarray(picture) == colour).all(axis=-1).sum())


def test_demo_as_a_user_runs_it(run_lfnet, tiny_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    output = tmp_path / "demo"
    done = run_lfnet(
        "demo", "--output", output, "--weights", tiny_weights, "--turns", "0", "120", "--max-keypoints", "128"
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| 120° +\| \d+ +\| \d+ +\| 0\.\d{3}", done.stdout)
    for name in ("matches-tiny-000.png", "matches-tiny-120.png", "matches-rootsift-120.png", "index.html"):
        assert str(output / name) in done.stdout
    section = read_results(output / "results.json").section("sweep")
    assert section.only(method="rootsift", variants=[UNTOUCHED_NAME]).mean("matching_score@5") > 0.3
    assert count(output / "matches-rootsift-000.png", GREEN) > 200
    assert count(output / "matches-tiny-120.png", RED) > count(output / "matches-tiny-120.png", GREEN)
    page = Page((output / "index.html").read_text())
    assert page.open == []
    assert len(page.pictures) == 4
    assert all(link.startswith("data:") for link in page.links)
    for attributes in page.pictures:
        data = base64.b64decode(str(attributes["src"]).split(",", 1)[1])
        with Image.open(io.BytesIO(data)) as picture:
            assert str(picture.width) == attributes["width"]


def test_page_escapes_names() -> None:
    rows = [
        Row(method, "p", "p", {"matching_score@5": 0.5, "keypoints": 9.0, "matches": 4.0}, variant=variant, budget=9)
        for variant in ("turn000", "turn090")
        for method in ("<b>mine</b>", "rootsift")
    ]
    results = Results([Section("sweep", "stereo", rows)], describe_environment())
    text = demo_page(results, [Drawing("<b>mine</b>", 90, np.zeros((10, 20, 3), np.uint8), 3, 4)])
    assert "<b>" not in text
    assert "3 of 4 matches" in text
    assert "&lt;b&gt;mine&lt;/b&gt;: 0.500 at 90°" in text


def test_demo_with_wrong_options_is_one_line(run_lfnet, tmp_path: Path) -> None:
    done = run_lfnet("demo", "--weights", "nothing", "--output", tmp_path / "demo")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nothing" in done.stderr
    assert not (tmp_path / "demo").exists()
    assert run_lfnet("demo", "--max-keypoints", "0", "--output", tmp_path / "demo").returncode == 2
