"""What a reader says of a file that it refuses."""

from __future__ import annotations

from collections.abc import Callable


def complaint(kind: type[Exception], read: Callable[..., object], *arguments: object) -> str | None:
    """The message of an error of this kind, None where there is none; any other error comes through."""
    try:
        read(*arguments)
    except kind as error:
        return str(error)
    return None
