"""What can't be measured is named in one line and left out, and the others are measured."""

from __future__ import annotations

from lfnet.errors import UserError


class Unmeasured(UserError):
    """A method has no features of a picture: one line that says which, why, and the remedy."""
