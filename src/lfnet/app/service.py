"""What the server does, without HTTP: pictures that are held, two workers, and the order of requests."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from lfnet.app.decoder import Decoded, Decoder
from lfnet.app.matcher import Matcher
from lfnet.app.pictures import Pictures
from lfnet.app.requests import DownloadRequest, MatchRequest, NetworkChoice, TargetRequest
from lfnet.app.worker import Worker
from lfnet.errors import UserError

PAGES = 256
"""Pages whose newest request is remembered."""


@dataclass(frozen=True)
class Limits:
    """How much one may ask for."""

    upload_bytes: int = 32 << 20
    """Largest file."""
    upload_seconds: float = 30.0
    """Longest that a file may take to arrive."""
    pixels: int = 50_000_000
    """Largest picture."""
    decode_seconds: float = 15.0
    """Longest that a picture may take to decode."""
    decode_megabytes: int = 2048
    """Memory of the process that decodes, where the system can hold it to that."""
    network_seconds: float = 60.0
    """Longest that a pair may take to match."""
    waiting: int = 32
    """Requests at one time, beyond which further ones are refused."""


class BusyError(UserError):
    """There are too many requests already."""


class SupersededError(UserError):
    """The same page has asked for something newer."""


class Service:
    """Decodes, holds and matches pictures.

    Args:
        device: that the networks work on.
        threads: of the CPU; None: as many as PyTorch chooses.
        limits: how much one may ask for.
    """

    def __init__(self, device: str = "cpu", threads: int | None = None, limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.pictures = Pictures()
        self.decoder = Worker(Decoder, (limits.pixels,), limits.decode_seconds, limits.decode_megabytes)
        self.matcher = Worker(Matcher, (device, threads, NetworkChoice().weights), limits.network_seconds)
        self._lock = threading.Lock()
        self._waiting = 0
        self._newest: OrderedDict[str, int] = OrderedDict()

    def start(self) -> None:
        """Start both processes.

        Raises:
            UserError: one can't be started, as where weights can't be read.
        """
        self.decoder.start()
        self.matcher.start()

    def stop(self) -> None:
        """End both processes."""
        self.decoder.stop()
        self.matcher.stop()

    def add(self, content: bytes) -> tuple[str, Decoded]:
        """Decode a file and hold the picture; its token, and it.

        Raises:
            UserError: it is no picture that can be decoded within the limits.
        """
        picture = self.decoder.call("decode", content)
        return self.pictures.add(picture), picture

    def jpeg(self, token: str) -> bytes:
        """A picture that is held, as a JPEG without anything else that was in the file.

        Raises:
            ForgottenError: it is not held.
        """
        pixels = self.pictures.get(token).pixels
        _, content = cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]), (cv2.IMWRITE_JPEG_QUALITY, 92))
        return content.tobytes()

    def forget(self, token: str) -> None:
        """Let go of a picture, and of what was found in it."""
        self.pictures.forget(token)
        if self.matcher.pid is not None:
            self.matcher.call("forget", token)

    def match(self, request: MatchRequest, newest: Callable[[], bool]) -> dict[str, Any]:
        """What the page shows of a pair.

        Args:
            request: of the page.
            newest: whether the page has asked for nothing since.

        Raises:
            UserError: a picture is not held, the request can't be meant or took too long, or it is not the newest.
        """
        first, second = (self.pictures.get(token).pixels for token in (request.first, request.second))
        return self.matcher.call("match", request, first, second, wanted=lambda: _require(newest))

    def target(self, request: TargetRequest, newest: Callable[[], bool]) -> dict[str, Any]:
        """What training would paint of a picture; arguments and errors as those of `match`."""
        picture = self.pictures.get(request.second).pixels
        return self.matcher.call("target", request, picture, wanted=lambda: _require(newest))

    def download(self, request: DownloadRequest) -> bytes:
        """The features of a pair as a file; errors as those of `match`."""
        pictures = [self.pictures.get(token) for token in (request.match.first, request.match.second)]
        pixels, sizes = [each.pixels for each in pictures], [each.size for each in pictures]
        return self.matcher.call("download", request, pixels, sizes)

    def turn_of(self, page: str) -> Callable[[], bool]:
        """Count a request of a page; the function tells whether it is still the newest one."""
        with self._lock:
            mine = self._newest.get(page, 0) + 1
            self._newest[page] = mine
            self._newest.move_to_end(page)
            while len(self._newest) > PAGES:
                self._newest.popitem(last=False)
        return lambda: self._newest.get(page, mine) == mine

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request while the block lasts.

        Raises:
            BusyError: there are as many as there may be.
        """
        with self._lock:
            if self._waiting >= self.limits.waiting:
                raise BusyError("too many requests at one time; try again in a moment")
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1


def _require(newest: Callable[[], bool]) -> None:
    if not newest():
        raise SupersededError("the page has asked for something newer")
