"""`lfnet serve`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from lfnet.cli.options import Device
from lfnet.settings import require_within


@dataclass(frozen=True)
class Command(Device):
    """Show matches live in your browser, on a page that this machine alone can open.

    Choose two images, turn and zoom the second, and see what changes. Images stay in memory and are never stored.
    """

    port: int = 8765
    """Port on the loopback address (127.0.0.1); 0 takes any that is free."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within(self, "", {"port": (0, 65535)})


def run(command: Command) -> int:
    """Serve until interrupted.

    Raises:
        ModuleNotFoundError: starlette or uvicorn is not installed.
        UserError: the port is taken, or there is no such device.
    """
    from lfnet.app.server import listen, make_server
    from lfnet.app.service import Service

    with listen(command.port) as listener:
        service = Service(str(command.pick()), command.threads)
        try:
            service.start()
            host, port = listener.getsockname()
            print(f"The page is at http://{host}:{port}/ (Ctrl+C ends it)", flush=True)
            with suppress(KeyboardInterrupt):
                make_server(service, listener).run(sockets=[listener])
        finally:
            service.stop()
    return 0
