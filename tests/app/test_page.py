"""The page in a real browser: samples, drops, sliders, downloads, broken files, and ten pages at once.

Skipped where no Chromium or Chrome is installed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lfnet.app.server import listen, make_server
from lfnet.app.service import Service
from lfnet.integrations import hloc
from support.browser import Browser, Tab, require_browser, running_browser

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>.jpg"
LEFT, RIGHT, SPACE = ("ArrowLeft", 37), ("ArrowRight", 39), (" ", 32)
SHOWN = "document.querySelector('#canvas').dataset.turn"


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    """Where the server answers."""
    with listen(0) as listener:
        server = make_server(service, listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests."""
    with running_browser(require_browser(), tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def files(tmp_path: Path, coffee_file: bytes) -> dict[str, Path]:
    """Files to drop."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 45, 3), np.uint8)).resize((450, 300))
    contents = {"hostile": (HOSTILE, coffee_file), "broken": ("broken.jpg", coffee_file[:9000])}
    contents["text"] = ("notes.png", b"these are notes")
    for file, content in contents.values():
        (tmp_path / file).write_bytes(content)
    picture.save(tmp_path / "other.png")
    return {name: tmp_path / file for name, (file, _) in contents.items()} | {"other": tmp_path / "other.png"}


def text(tab: Tab, selector: str) -> str:
    return tab.run(f"document.querySelector({selector!r}).textContent")


def matched(tab: Tab, turn: float) -> int:
    """Wait until matches at this turn are shown; how many they are."""
    tab.wait(f"{SHOWN} === '{turn:g}'")
    return int(text(tab, "#n-matches"))


def problem(tab: Tab) -> str:
    return tab.wait("!document.querySelector('#problem').hidden && document.querySelector('#problem').textContent")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_opens_with_matches_and_fits(browser: Browser, address: str, width: int, dark: bool) -> None:
    tab = browser.open(address, width, dark=dark)
    assert matched(tab, 20) > 100
    assert int(text(tab, "#n-inliers")) > 40
    assert tab.run("document.documentElement.scrollWidth - innerWidth") <= 0
    light = tab.run("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0]
    assert (int(light) < 128) == dark
    tab.run("document.querySelector('#target').scrollIntoView()")
    tab.wait("document.querySelector('#painted').textContent.includes('dots')")
    tab.wait("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert tab.complaints() == []
    assert all(asked.startswith((address, "data:image/")) for asked in tab.requested()), "nothing comes from elsewhere"
    tab.close()


def test_it_works_from_the_keyboard(browser: Browser, address: str) -> None:
    tab = browser.open(address)
    matched(tab, 20)
    tab.run("document.querySelector('#turn').focus()")
    tab.press(*RIGHT, times=5)
    matched(tab, 25)
    assert text(tab, "#turn-value") == "25°"
    assert text(tab, "#kept").startswith("Of the second image alone")
    tab.press(*LEFT, times=45)
    matched(tab, -20)
    before = tab.picture()
    for control in ("#show-scores", "#show-keypoints"):
        tab.run(f"document.querySelector('{control}').focus()")
        tab.press(*SPACE)
        assert tab.run(f"document.querySelector('{control}').checked")
    tab.run("document.querySelector('[name=geometry]:checked').focus()")
    tab.press(*RIGHT)
    tab.wait("document.querySelector('#status').textContent.includes('one fundamental matrix')")
    assert tab.picture() != before
    order = "[...document.querySelectorAll('input, select, button')].every((control) => control.tabIndex === 0)"
    assert tab.run(order), "Tab reaches every control"
    assert tab.complaints() == []
    tab.close()


def test_one_image_dropped_is_matched_with_itself_and_its_name_is_text(
    browser: Browser, address: str, files: dict[str, Path]
) -> None:
    tab = browser.open(address)
    matched(tab, 20)
    tab.drop("#frame", files["hostile"])
    tab.wait("document.querySelector('#name-1').textContent.startsWith('<')")
    assert text(tab, "#name-1") == HOSTILE
    count = matched(tab, 20)
    right = int(text(tab, "#status").split()[0])
    assert right > 0.5 * count > 50
    assert "within 3 px of the true place" in text(tab, "#status")
    tab.choose("#file-1", files["other"])
    tab.wait("document.querySelector('#name-1').textContent === 'other.png'")
    matched(tab, 20)
    assert text(tab, "#name-0") == HOSTILE, "the other side stays"
    tab.drop("#frame", files["other"], files["hostile"])
    tab.wait("document.querySelector('#name-0').textContent === 'other.png'")
    matched(tab, 20)
    assert text(tab, "#name-1") == HOSTILE
    assert tab.run("document.querySelectorAll('img[src=x], img[onerror]').length") == 0
    assert tab.complaints() == []
    tab.close()


def test_a_broken_file_is_told_and_the_rest_goes_on(browser: Browser, address: str, files: dict[str, Path]) -> None:
    tab = browser.open(address)
    count = matched(tab, 20)
    tab.drop("#frame", files["broken"])
    assert problem(tab).startswith("broken.jpg: damaged or cut short")
    tab.drop("#frame", files["text"])
    tab.wait("document.querySelector('#problem').textContent.startsWith('notes.png: not a picture')")
    assert text(tab, "#name-0") == "motorcycle-left.jpg"
    tab.run("document.querySelector('#turn').focus()")
    tab.press(*RIGHT)
    assert abs(matched(tab, 21) - count) < count
    tab.wait("document.querySelector('#problem').hidden")
    tab.close()


def test_files_are_downloaded(browser: Browser, address: str, tmp_path: Path) -> None:
    browser.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab = browser.open(address)
    matched(tab, 20)
    for kind in ("h5", "npz", "csv"):
        tab.run(f"document.querySelector('[data-format={kind}]').click()")
        arrived(tmp_path / f"features.{kind}")
    tab.run("document.querySelector('#save-drawing').click()")
    arrived(tmp_path / "matches.png")
    with h5py.File(tmp_path / "features.h5", "r") as file:
        assert hloc.list_names(file) == ["motorcycle-left.jpg", "motorcycle-right.jpg"]
        assert len(hloc.read_features(file, "motorcycle-right.jpg")) == 512
        assert "turned by 20 degrees" in str(file.attrs["pose_note"])
    assert len(np.load(tmp_path / "features.npz")["first_keypoints"]) == 512
    assert (tmp_path / "features.csv").read_text().count("\n") == 1025
    with Image.open(tmp_path / "matches.png") as drawing:
        assert drawing.size[0] == 1600
        pixels = np.asarray(drawing.convert("RGB")).astype(int)
    green = (pixels[..., 1] > pixels[..., 0] + 60) & (pixels[..., 1] > pixels[..., 2] + 40)
    assert green.sum() > 2000, "lines are drawn"
    assert tab.complaints() == []
    tab.close()


def arrived(path: Path) -> None:
    """Wait until a download is whole."""
    end = time.monotonic() + 120
    while not path.is_file() or list(path.parent.glob("*.crdownload")):
        assert time.monotonic() < end, f"{path.name} did not arrive: {sorted(path.parent.iterdir())}"
        time.sleep(0.1)


def test_images_that_the_server_let_go_are_sent_again(browser: Browser, address: str, service: Service) -> None:
    tab = browser.open(address)
    matched(tab, 20)
    for token in list(service.pictures._held):
        service.pictures.forget(token)
    tab.run("document.querySelector('#turn').focus()")
    tab.press(*RIGHT)
    matched(tab, 21)
    assert tab.run("document.querySelector('#problem').hidden")
    tab.close()


def test_a_page_that_is_closed_lets_go_of_its_images(browser: Browser, address: str, service: Service) -> None:
    tab = browser.open(address)
    matched(tab, 20)
    tokens = {asked.rpartition("/")[2] for asked in tab.requested() if "/pictures/" in asked}
    assert len(tokens) == 2
    assert tokens <= set(service.pictures._held)
    tab.ask("Page.navigate", url="about:blank")
    end = time.monotonic() + 120
    while tokens & set(service.pictures._held):
        assert time.monotonic() < end, "still held"
        time.sleep(0.1)
    tab.close()


def test_ten_pages_at_once_are_all_answered(browser: Browser, address: str) -> None:
    tabs = [browser.open(address, width=700) for _ in range(10)]
    assert all(matched(tab, 20) > 100 for tab in tabs)
    assert [tab.complaints() for tab in tabs] == [[]] * 10
    for tab in tabs:
        tab.close()
