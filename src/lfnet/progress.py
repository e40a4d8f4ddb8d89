"""How work that takes long tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Protocol

Say = Callable[[str], None]
"""Called with each line of news."""
Counter = Callable[[int, int], object]
"""Called with how many are done, and how many there are."""


class Progress(Protocol):
    """Told how far each step of several is."""

    def __call__(self, step: str, done: int, total: int) -> object:
        """`done` of `total` in a step."""
        ...


@contextmanager
def repeated(look: Callable[[], None], seconds: float = 1.0) -> Iterator[None]:
    """Look again and again while the block lasts, from a thread, and once more when it has ended well.

    Args:
        look: called each time; what it raises in between ends the looking; at the end it is raised.
        seconds: between two looks.
    """
    over = Event()

    def watch() -> None:
        while not over.wait(seconds):
            look()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    look()
