"""The server's workers, started once for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from lfnet.app.service import Service


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """Both processes, running."""
    service = Service(threads=1)
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def coffee_file() -> bytes:
    """A sample picture, as it lies in the package: 600 x 400."""
    return resources.files("lfnet.app").joinpath("samples/coffee.jpg").read_bytes()
