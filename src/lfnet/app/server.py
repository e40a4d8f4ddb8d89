"""The page and what it asks for, over HTTP on the loopback address."""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib import resources
from typing import Any

import anyio
import uvicorn
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lfnet.app.decoder import LONGEST
from lfnet.app.guard import Guard
from lfnet.app.pictures import ForgottenError
from lfnet.app.requests import DownloadRequest, MatchRequest, TargetRequest, read_request
from lfnet.app.samples import NAMES, sample_jpeg
from lfnet.app.service import BusyError, Service, SupersededError
from lfnet.app.worker import WorkerError
from lfnet.errors import UserError, one_line
from lfnet.models.weights import list_pretrained

HOST = "127.0.0.1"
REQUEST_BYTES = 16 << 10
"""Largest request that is no picture."""
UPLOADS = 4
"""Pictures that arrive at one time; others wait."""
PAGE = {
    "/": ("page/index.html", "text/html; charset=utf-8"),
    "/page.css": ("page/page.css", "text/css; charset=utf-8"),
    "/page.js": ("page/page.js", "text/javascript; charset=utf-8"),
    "/drawing.js": ("page/drawing.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("page/icon.svg", "image/svg+xml"),
}
"""Every file that is served: its address, its place in the package, and its type."""


class TooLargeError(UserError):
    """A body with more bytes than it may have."""


class TooSlowError(UserError):
    """A body that did not arrive in time."""


STATUS = {
    TooSlowError: 408,
    SupersededError: 409,
    ForgottenError: 410,
    TooLargeError: 413,
    BusyError: 503,
    WorkerError: 503,
}
"""Of HTTP, by what went wrong; 400 for every other `UserError`."""


def make_application(service: Service, port: int) -> Callable[..., Any]:
    """The ASGI application.

    Args:
        service: does the work.
        port: that the server listens at, which requests must name.
    """

    handlers: dict[Any, Any] = {UserError: _refused, ClientDisconnect: _gone}
    return Guard(Starlette(routes=Routes(service).all(), exception_handlers=handlers), port)


class Routes:
    """Every address that is answered.

    Args:
        service: does the work.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._uploads = anyio.Semaphore(UPLOADS)

    def all(self) -> list[Route]:
        """The routes, files of the page among them."""
        return [
            *(Route(address, _file(*file)) for address, file in PAGE.items()),
            *(Route(f"/samples/{name}.jpg", _sample(name)) for name in NAMES),
            Route("/about", self.about),
            Route("/pictures", self.upload, methods=["POST"]),
            Route("/pictures/{token}", self.picture, methods=["GET"]),
            Route("/pictures/{token}", self.forget, methods=["DELETE"]),
            Route("/match", self.match, methods=["POST"]),
            Route("/target", self.target, methods=["POST"]),
            Route("/features", self.features, methods=["POST"]),
        ]

    async def about(self, _: Request) -> Response:
        """What the page needs to know of the server."""
        limits = self._service.limits
        return JSONResponse(
            {"weights": list_pretrained(), "bytes": limits.upload_bytes, "pixels": limits.pixels, "longest": LONGEST}
        )

    async def upload(self, request: Request) -> Response:
        """A file of a picture in, its token and size out."""
        service = self._service
        with service.counted():
            async with self._uploads:
                content = await body_of(request, service.limits.upload_bytes, service.limits.upload_seconds)
                token, picture = await run_sync(service.add, content)
        height, width = picture.pixels.shape[:2]
        return JSONResponse({"token": token, "width": width, "height": height, "size": picture.size}, 201)

    async def picture(self, request: Request) -> Response:
        """A picture that is held, as JPEG."""
        return Response(await run_sync(self._service.jpeg, request.path_params["token"]), media_type="image/jpeg")

    async def forget(self, request: Request) -> Response:
        """Let go of a picture."""
        await run_sync(self._service.forget, request.path_params["token"])
        return Response(status_code=204)

    async def match(self, request: Request) -> Response:
        """Matches of two pictures that are held."""
        return await self._newest(request, MatchRequest, self._service.match)

    async def target(self, request: Request) -> Response:
        """What training would paint."""
        return await self._newest(request, TargetRequest, self._service.target)

    async def features(self, request: Request) -> Response:
        """Features of two pictures as a file."""
        service = self._service
        wanted = read_request(DownloadRequest, await body_of(request, REQUEST_BYTES, service.limits.upload_seconds))
        with service.counted():
            content = await run_sync(service.download, wanted)
        headers = {"content-disposition": f'attachment; filename="features.{wanted.format}"'}
        return Response(content, headers=headers, media_type="application/octet-stream")

    async def _newest(self, request: Request, kind: type, work: Callable[..., dict[str, Any]]) -> Response:
        service = self._service
        page = request.headers.get("x-page", "")[:64]
        newest = service.turn_of(f"{kind.__name__} {page}")
        wanted = read_request(kind, await body_of(request, REQUEST_BYTES, service.limits.upload_seconds))
        with service.counted():
            return JSONResponse(await run_sync(work, wanted, newest))


async def body_of(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request.

    Args:
        request: whose.
        most: bytes that it may have.
        seconds: that it may take to arrive.

    Raises:
        TooLargeError: it has more.
        TooSlowError: it takes longer.
    """
    content = bytearray()
    try:
        with anyio.fail_after(seconds):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise TooLargeError(f"more than {most / (1 << 20):g} MB; send a smaller file")
    except TimeoutError as error:
        raise TooSlowError(f"did not arrive within {seconds:g} seconds; send it again") from error
    return bytes(content)


def listen(port: int) -> socket.socket:
    """A socket that listens on the loopback address.

    Args:
        port: to listen at; 0: any that is free.

    Raises:
        UserError: the port is taken, or only for others.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # From here on, whoever asks waits and is not refused.
    except OSError as error:
        listener.close()
        raise UserError(f"--port {port}: {error.strerror}; give another one, or 0 for any that is free") from error
    return listener


def make_server(service: Service, listener: socket.socket) -> uvicorn.Server:
    """The server, which answers once its `run` is called with the listener.

    Args:
        service: does the work.
        listener: a socket by `listen`.
    """
    application = make_application(service, listener.getsockname()[1])
    config = uvicorn.Config(
        application,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=128,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def _file(place: str, media_type: str) -> Callable[[Request], Any]:
    content = resources.files("lfnet.app").joinpath(place).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, headers={"content-type": media_type})

    return answer


def _sample(name: str) -> Callable[[Request], Any]:
    async def answer(_: Request) -> Response:
        return Response(await run_sync(sample_jpeg, name), media_type="image/jpeg")

    return answer


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": one_line(error)}, STATUS.get(type(error), 400))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)
