"""Pictures in memory, and nowhere else: few, for a while, each known by a token that can't be guessed."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from lfnet.app.decoder import Decoded
from lfnet.errors import UserError

MOST = 40
"""Pictures that are held, 4 MB each at the most; the one that was not used for longest makes room."""
MINUTES = 30.0
"""That a picture is held after it was last used."""


class ForgottenError(UserError):
    """A picture that is not held any more, or never was; the page sends it again."""


class Pictures:
    """The pictures that the page has sent.

    Args:
        most: that are held at one time.
        minutes: that one is held after it was last used.
        clock: seconds.
    """

    def __init__(self, most: int = MOST, minutes: float = MINUTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, 60 * minutes, clock
        self._held: OrderedDict[str, tuple[float, Decoded]] = OrderedDict()
        self._lock = threading.Lock()  # Requests are answered by several threads.

    def add(self, picture: Decoded) -> str:
        """Hold a picture; its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._held[token] = (self._clock(), picture)
            self._let_go()
        return token

    def get(self, token: str) -> Decoded:
        """The picture of a token.

        Raises:
            ForgottenError: there is none.
        """
        with self._lock:
            self._let_go()
            if token not in self._held:
                raise ForgottenError("this image is not held any more; choose it again")
            picture = self._held[token][1]
            self._held[token] = (self._clock(), picture)
            self._held.move_to_end(token)
        return picture

    def forget(self, token: str) -> None:
        """Let go of a picture, if it is held."""
        with self._lock:
            self._held.pop(token, None)

    def __len__(self) -> int:
        return len(self._held)

    def _let_go(self) -> None:
        last = self._clock() - self._seconds
        while self._held and (len(self._held) > self._most or next(iter(self._held.values()))[0] < last):
            self._held.popitem(last=False)
