"""What is left out of recordings and reconstructions because it can't be used: counted, named, and bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from lfnet.errors import UserError

T = TypeVar("T")

MOST_LEFT_OUT = 0.2
"""Share of the pictures that may be left out: more point to a fault of the whole, as a wrong folder or unit."""
SHOWN = 3
"""Names in a note."""


@dataclass
class LeftOut:
    """Pictures that are left out for one reason."""

    cause: str
    """In the plural, behind their number: "pictures are missing"."""
    remedy: str
    names: list[str] = field(default_factory=list)
    first: str = ""
    """What was said of the first."""

    def add(self, name: str, error: Exception | None = None) -> None:
        """Leave a picture out."""
        self.names.append(name)
        if error is not None and not self.first:
            self.first = f": {error}"

    def notes(self, total: int, source: str, kind: type[UserError] = UserError) -> list[str]:
        """A line that counts and names them; none where there are none.

        Args:
            total: pictures, with these.
            source: file or folder named in the line.
            kind: of the error.

        Raises:
            UserError: more than `MOST_LEFT_OUT` of them are left out.
        """
        if not self.names:
            return []
        more = f" and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
        said = f"{len(self.names)} of {total} {self.cause} ({', '.join(self.names[:SHOWN])}{more}){self.first}"
        if len(self.names) > MOST_LEFT_OUT * total:
            raise kind(f"{source}: {said}; more than {MOST_LEFT_OUT:.0%} are not left out: {self.remedy}")
        return [f"left out: {said}"]


def made_of_usable(
    makers: Iterable[tuple[str, Callable[[], T]]], source: str, kind: type[UserError]
) -> tuple[list[T], list[str]]:
    """What can be made of frames one by one, and the notes on those left out.

    Args:
        makers: name of each frame, and what makes it or raises a UserError.
        source: named in notes and error.
        kind: of the error.

    Raises:
        UserError: more than `MOST_LEFT_OUT` of them can't be made.
    """
    unusable, made, total = LeftOut("frames can't be used", "check what they have in common"), [], 0
    for name, make in makers:
        total += 1
        try:
            made.append(make())
        except UserError as error:
            unusable.add(name, error)
    return made, unusable.notes(total, source, kind)
