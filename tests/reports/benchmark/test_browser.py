"""The benchmark's page in a real browser: no error, pictures load, tables sort, methods can be singled out.

Skipped where no Chromium or Chrome is installed.
"""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lfnet.reports.benchmark.examples import Example
from lfnet.reports.benchmark.page import benchmark_page
from support.browser import require_browser
from support.made_results import made_results

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--virtual-time-budget=3000")  # fmt: skip

LISTEN = """<script>
window.seen = [];
window.addEventListener("error", (event) => window.seen.push(String(event.message || event.target.outerHTML)), true);
for (const kind of ["error", "warn"]) console[kind] = (...words) => window.seen.push(words.join(" "));
</script>"""
"""Stands first in the page's head and collects what goes wrong: scripts, resources, complaints on the console."""

EXAMINE = """<script>
window.addEventListener("load", () => {
  const table = document.querySelector("#part0 table");
  const header = table.tHead.rows[0].cells[1];
  const methods = () => [...table.tBodies[0].rows].map((row) => row.cells[0].dataset.value);
  const state = () => ({ sort: header.getAttribute("aria-sort"), methods: methods() });
  const found = { before: state() };
  header.firstElementChild.click(); found.once = state();
  header.firstElementChild.click(); found.twice = state();
  table.tHead.rows[0].cells[0].firstElementChild.click(); found.names = methods();
  const gaps = document.querySelector("#part5 table"), last = gaps.tHead.rows[0].cells[5];
  last.firstElementChild.click();
  found.undefinedLast = [...gaps.tBodies[0].rows].at(-1).cells[0].dataset.value;
  const opacity = (name) => [...document.querySelectorAll("#part2 .chart g." + name)]
    .filter((drawn) => !drawn.closest(".legend")).map((drawn) => getComputedStyle(drawn).opacity);
  for (const drawn of document.querySelectorAll("g.s")) drawn.style.transition = "none";
  const focus = document.querySelector('button[data-focus="m1"]');
  focus.click(); found.focused = [opacity("m0")[0], opacity("m1")[0], focus.getAttribute("aria-pressed")];
  focus.click(); found.released = [opacity("m0")[0], opacity("m1")[0], focus.getAttribute("aria-pressed")];
  found.pictures = [...document.images].map((picture) => picture.naturalWidth);
  found.overflow = document.documentElement.scrollWidth - window.innerWidth;
  found.colours = ["--h0", "--page"].map((name) => getComputedStyle(document.documentElement).getPropertyValue(name));
  const shown = (chart) => chart.getBoundingClientRect().width > 0;
  found.forests = [...document.querySelectorAll(".broad, .narrow")].map(shown);
  found.clipped = [...document.querySelectorAll(".plot svg")].filter(shown).flatMap((chart) => {
    const box = chart.getBoundingClientRect();
    return [...chart.querySelectorAll("text")].filter((text) => {
      const place = text.getBoundingClientRect();
      return place.left < box.left - 2 || place.right > box.right + 2 || place.bottom > box.bottom + 2;
    }).map((text) => text.textContent);
  });
  found.errors = window.seen;
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    """Path of an installed browser."""
    return require_browser()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of all protocols with two drawings, and a harness around its scripts."""
    folder = tmp_path_factory.mktemp("page")
    examples = []
    for method in ("lfnet-cpu", "disk <&\"' (rival)"):
        path = folder / f"{len(examples)}.jpg"
        Image.fromarray(np.full((75, 200, 3), 90, np.uint8)).save(path)
        counts = (512, 0.5, 3, 4, 4, 200, 75)
        examples.append(Example("matching on walk", "best", "lfnet-cpu", "0004 <-> 0012", method, *counts, path))
    text = benchmark_page(made_results(), examples)
    harnessed = text.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{EXAMINE}</body>")
    target = folder / "page.html"
    target.write_text(harnessed, encoding="utf-8")
    return target


def examined(browser: str, page: Path, profile: Path, *flags: str) -> dict[str, Any]:
    """What the harness found in the page."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"exit {done.returncode}:\n{done.stderr[-2000:]}\n{done.stdout[-500:]}"
    return json.loads(unescape(found[1]))


def test_page_works_in_a_browser(browser: str, page: Path, tmp_path: Path) -> None:
    found = examined(browser, page, tmp_path, "--window-size=1280,900", "--blink-settings=preferredColorScheme=1")
    assert found["errors"] == []
    assert found["pictures"] == [200, 200]
    assert found["before"] == {"sort": None, "methods": ["lfnet-cpu", "rootsift", "sift", "orb", "disk <&\"' (rival)"]}
    assert found["once"]["sort"] == "descending"
    assert found["once"]["methods"][:2] == ["lfnet-cpu", "disk <&\"' (rival)"]
    assert found["twice"] == {"sort": "ascending", "methods": found["once"]["methods"][::-1]}
    assert found["names"] == sorted(found["names"], key=str.lower)
    assert found["undefinedLast"] == "orb"
    assert found["focused"] == ["0.12", "1", "true"]
    assert found["released"] == ["1", "1", "false"]
    assert found["overflow"] <= 0
    assert found["forests"] == [True, False]
    assert found["clipped"] == []


def test_page_fits_a_phone_and_the_dark(browser: str, page: Path, tmp_path: Path) -> None:
    light = examined(browser, page, tmp_path / "a", "--window-size=1280,900", "--blink-settings=preferredColorScheme=1")
    phone = ("--window-size=500,900", "--blink-settings=preferredColorScheme=0")
    dark = examined(browser, page, tmp_path / "b", *phone)
    assert dark["errors"] == []
    assert dark["overflow"] <= 0
    assert dark["forests"] == [False, True]
    assert dark["clipped"] == []
    assert all(one != other for one, other in zip(light["colours"], dark["colours"], strict=True))
