"""The server's workers, started once for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from lfnet.app.samples import sample_jpeg
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
    """A sample picture: 600 x 400."""
    pytest.importorskip("skimage")
    return sample_jpeg("coffee")
