"""A real browser, driven over its own protocol (Chrome DevTools) by two pipes: no package and no port is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--force-color-profile=srgb", "--remote-debugging-pipe")  # fmt: skip


def require_browser() -> str:
    """Path of an installed browser; the test is skipped where there is none."""
    path = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return path


class Browser:
    """A browser that has been started.

    Args:
        process: it.
        to: pipe that it reads commands from.
        of: pipe that it writes answers and events to.
    """

    def __init__(self, process: subprocess.Popen[bytes], to: int, of: int) -> None:
        self.process, self._to, self._of = process, to, of
        self._number, self._buffer = 0, b""
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str | None = None, seconds: float = 300, **values: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before are kept."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": values}
        if session is not None:
            command["sessionId"] = session
        os.write(self._to, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            told = self._read(end)
            if told.get("id") == self._number:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            self.events.append(told)

    def open(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> Tab:
        """A new page."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.ask(f"{domain}.enable")
        phone = width < 600
        tab.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        tab.ask("Emulation.setEmulatedMedia", features=scheme)
        tab.ask("Page.navigate", url=address)
        tab.wait(f"location.href.startsWith({address!r}) && document.readyState === 'complete'")
        return tab

    def _read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert time.monotonic() < end, "the browser does not answer"
            if select.select([self._of], [], [], 1)[0]:
                part = os.read(self._of, 1 << 20)
                assert part, "the browser has ended"
                self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


class Tab:
    """A page of a browser.

    Args:
        browser: whose.
        session: its name.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        """A command to this page."""
        return self.browser.ask(method, self.session, **values)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 240) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}; the page shows {self.run('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in an input, as its dialogue does."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, selector: str, *files: Path) -> None:
        """Drop files on an element, as from the desktop."""
        box = self.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
                       f"(document.querySelector({selector!r}).getBoundingClientRect())")  # fmt: skip
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.ask("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def press(self, key: str, code: int, times: int = 1) -> None:
        """Press a key."""
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def complaints(self) -> list[str]:
        """Errors of scripts and of the console, and refusals by the page's security policy, so far."""
        self.run("0")
        told = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            method, values = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                told.append(values["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
                told.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")
            elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
                told.append(str(values["args"]))
        return told

    def requested(self) -> list[str]:
        """Every address that the page has asked for so far."""
        self.run("0")
        return [
            event["params"]["request"]["url"]
            for event in self.browser.events
            if event.get("sessionId") == self.session and event["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, whole: bool = False) -> bytes:
        """What the page looks like, as PNG."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        return base64.b64decode(shot["data"])

    def close(self) -> None:
        """Close the page."""
        self.ask("Page.close")

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


@contextmanager
def running_browser(path: str, profile: Path) -> Iterator[Browser]:
    """A browser that is ended with the block."""
    to_read, to = os.pipe()
    of, of_write = os.pipe()
    held = (os.dup(to_read), os.dup(of_write))

    def place() -> None:  # The browser reads commands from 3 and writes to 4.
        os.dup2(held[0], 3)
        os.dup2(held[1], 4)

    command = [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        command, preexec_fn=place, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for descriptor in (to_read, of_write, *held):
        os.close(descriptor)
    try:
        yield Browser(process, to, of)
    finally:
        os.close(to)
        os.close(of)
        try:
            process.wait(15)  # It ends by itself once its pipes are closed, and its children with it.
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
